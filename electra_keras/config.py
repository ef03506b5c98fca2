"""What a model is: encoder sizes and the pre-training objective, checked at once, to and from JSON.

Field names of `EncoderConfig` are those of the original and of Hugging Face.
"""

import contextlib
import dataclasses
import json
import math
import types
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Self

from electra_keras.console import UsageError, UserError

_SPECIAL_IDS = ("pad_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
# Larger than any model; products of two such sizes stay within an int64.
_MAX_SIZE = 1 << 30
EMBEDDING_SHARING = ("all", "token", "none", "encoder")


def require(condition: bool, message: str) -> None:
    """Raises UsageError with `message` unless the condition holds."""
    if not condition:
        raise UsageError(message)


def matches(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type; an int is a float too, a bool no int, NaN nothing."""
    if isinstance(kind, types.UnionType):
        return any(matches(value, choice) for choice in kind.__args__)
    if kind is float and type(value) is float:
        return math.isfinite(value)
    return type(value) is kind or (kind is float and type(value) is int)


@contextlib.contextmanager
def named(network: str) -> Iterator[None]:
    """Puts a network's name before what is wrong with its sizes."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{network}: {error}") from error


def _check_types(config: Any) -> None:
    """Checks each field of a dataclass against its annotation."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind = getattr(field.type, "__name__", str(field.type))
        require(matches(value, field.type), f"{field.name} must be of type {kind}: {value!r}")


def _from_mapping(cls: type, values: Mapping[str, Any], where: str) -> Any:
    """Builds dataclass `cls` from parsed JSON; unknown or missing keys are named."""
    names = {field.name for field in dataclasses.fields(cls)}
    required = {
        field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING
    }
    unknown, missing = set(values) - names, required - set(values)
    require(not unknown, f"{where}: unknown key {min(unknown, default='')!r}")
    require(not missing, f"{where}: missing key {min(missing, default='')!r}")
    with named(where):
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes of one transformer encoder (post-LN BERT blocks; original model/modeling.py)."""

    vocab_size: int
    embedding_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    initializer_range: float = 0.02
    position_initializer: str = "truncated_normal"
    layer_norm_eps: float = 1e-12
    hidden_act: str = "gelu"

    def __post_init__(self) -> None:
        _check_types(self)
        for name in (
            "vocab_size", "embedding_size", "hidden_size", "num_hidden_layers",
            "num_attention_heads", "intermediate_size", "max_position_embeddings", "type_vocab_size",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value >= 1, f"{name} must be at least 1: {value!r}")
            require(value <= _MAX_SIZE, f"{name} must be at most {_MAX_SIZE}: {value!r}")
        require(
            self.hidden_size % self.num_attention_heads == 0,
            f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads "
            f"{self.num_attention_heads}",
        )
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            require(0 <= getattr(self, name) < 1, f"{name} must be in [0, 1)")
        require(self.initializer_range > 0, "initializer_range must be above 0")
        require(
            0 < self.layer_norm_eps < 1,
            f"layer_norm_eps must be between 0 and 1: {self.layer_norm_eps!r}",
        )
        require(
            self.position_initializer in ("truncated_normal", "sinusoidal"),
            f"position_initializer must be truncated_normal or sinusoidal: "
            f"{self.position_initializer!r}",
        )
        require(self.hidden_act == "gelu", f"hidden_act {self.hidden_act!r}: only 'gelu' (erf)")


@dataclasses.dataclass(frozen=True)
class ElectraConfig:
    """Generator, discriminator and the objective that joins them; `config.json` of a model directory.

    Attributes:
        discriminator, generator: the two encoders; None where a converted model holds only the other.
        embedding_sharing: "all" shares token, position and type embeddings and their LayerNorm
            (the original's code), "token" the token table alone, "none" nothing; "encoder" makes
            one encoder of the two (the paper's "all weights tied", section 3.2).
        max_seq_length: length of the training examples, in tokens.
        mask_prob: share of an example's tokens that the generator predicts.
        masking: "unique" draws the positions without replacement; "original" with, as the original.
        mask_token_prob: share of the chosen positions that become [MASK]; the others are kept.
        temperature: of the generator's sampling distribution.
        disallow_correct: never sample the original token.
        generator_weight, discriminator_weight: factors of the two losses.
        pad_token_id, cls_token_id, sep_token_id, mask_token_id: ids of the special tokens.
        lower_case, strip_accents: casing of the tokenizer that made the training data, or None
            where it is not known (records without metadata).
    """

    discriminator: EncoderConfig | None
    generator: EncoderConfig | None
    embedding_sharing: str = "all"
    max_seq_length: int = 128
    mask_prob: float = 0.15
    masking: str = "unique"
    mask_token_prob: float = 0.85
    temperature: float = 1.0
    disallow_correct: bool = False
    generator_weight: float = 1.0
    discriminator_weight: float = 50.0
    pad_token_id: int = 0
    cls_token_id: int = 2
    sep_token_id: int = 3
    mask_token_id: int = 4
    lower_case: bool | None = None
    strip_accents: bool | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        choices = {"embedding_sharing": EMBEDDING_SHARING, "masking": ("unique", "original")}
        for name, allowed in choices.items():
            value = getattr(self, name)
            require(value in allowed, f"{name} must be one of {', '.join(allowed)}: {value!r}")
        require(0 < self.mask_prob < 1, f"mask_prob must be between 0 and 1: {self.mask_prob}")
        require(0 <= self.mask_token_prob <= 1, "mask_token_prob must be in [0, 1]")
        for name in ("generator_weight", "discriminator_weight"):
            require(getattr(self, name) >= 0, f"{name} must not be negative")
        require(self.temperature > 0, f"temperature must be above 0: {self.temperature}")
        require(bool(self.encoders), "a model needs a discriminator or a generator")
        if len(self.encoders) == 2:
            self._check_pair(self.discriminator, self.generator)
        special = {name: getattr(self, name) for name in _SPECIAL_IDS}
        require(
            len(set(special.values())) == len(special),
            f"{', '.join(special)} must differ: {', '.join(map(str, special.values()))}",
        )
        for encoder in self.encoders.values():
            for name, value in special.items():
                require(
                    0 <= value < encoder.vocab_size,
                    f"{name} must be an id below vocab_size {encoder.vocab_size}: {value}",
                )
            require(
                4 <= self.max_seq_length <= encoder.max_position_embeddings,
                f"max_seq_length {self.max_seq_length} must be between 4 and "
                f"max_position_embeddings {encoder.max_position_embeddings}",
            )

    def _check_pair(self, discriminator: EncoderConfig, generator: EncoderConfig) -> None:
        sharing = self.embedding_sharing
        require(
            generator.vocab_size == discriminator.vocab_size,
            "generator and discriminator must have the same vocab_size",
        )
        require(
            sharing == "none" or generator.embedding_size == discriminator.embedding_size,
            f"embedding_sharing={sharing} needs one embedding_size for both",
        )
        require(
            sharing != "encoder" or generator == discriminator,
            "embedding_sharing=encoder needs a generator of the discriminator's size, "
            "--generator_hidden_size=1",
        )

    @property
    def encoders(self) -> dict[str, EncoderConfig]:
        """The encoders there are, by name: "discriminator" and "generator"."""
        both = {"discriminator": self.discriminator, "generator": self.generator}
        return {name: encoder for name, encoder in both.items() if encoder is not None}

    def require_both(self, where: str) -> None:
        """Checks that there is a model to pre-train.

        Raises:
            UsageError: a network is missing; the message begins with `where`.
        """
        for name in ("discriminator", "generator"):
            require(
                name in self.encoders,
                f"{where} holds no {name}, and pre-training needs both networks; convert both with "
                "--input=DISCRIMINATOR,GENERATOR",
            )

    def missing_heads(self, present: Collection[str]) -> list[str]:
        """Returns the heads of the networks there are of which no variable path is `present`."""
        heads = [f"{network}_head" for network in self.encoders]
        return [head for head in heads if not any(p.startswith(f"{head}/") for p in present)]

    @property
    def max_predictions_per_seq(self) -> int:
        """How many positions of an example are predicted at most (19 of 128, 79 of 512)."""
        return max(1, int((self.mask_prob + 0.005) * self.max_seq_length))

    def to_json(self) -> str:
        """Returns the configuration as indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = "config.json") -> Self:
        """Parses what `to_json` wrote.

        Raises:
            UserError: not JSON, or an unknown, missing or impossible value; names `where`.
        """
        try:
            values = json.loads(text)
            for name in ("discriminator", "generator"):
                if values[name] is not None:
                    values[name] = _from_mapping(EncoderConfig, values[name], name)
            return _from_mapping(cls, values, "the model")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{where} is not an ElectraConfig: {error!r}") from error
        except UsageError as error:
            raise UserError(f"{where}: {error}") from error
