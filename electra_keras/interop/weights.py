"""A model as plain arrays: what every format is read into and written from."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UsageError, UserError
from electra_keras.text.vocabulary import Vocabulary

if TYPE_CHECKING:  # tasks/running.py imports this module
    from electra_keras.tasks.interface import Task

Shapes = dict[str, tuple[int, ...]]
# What of the discriminator's encoder each embedding_sharing gives to the generator.
_SHARED = {
    "all": "embeddings/",
    "token": "embeddings/token_embedding/",
    "none": None,
    "encoder": "",
}
HEADS = {"discriminator": "discriminator_head", "generator": "generator_head"}


@dataclasses.dataclass(frozen=True)
class TaskHead:
    """What fine-tuning put on the discriminator.

    Attributes:
        task: its settings.
        weights: float32 arrays by the path of their variable in `FineTuner`, "output_dense/...".
    """

    task: "Task"
    weights: dict[str, np.ndarray]


@dataclasses.dataclass
class ModelWeights:
    """Both networks of a model, or one of them.

    Attributes:
        config: sizes; a network that is not there is None.
        vocabulary: the tokens of its table.
        weights: float32 arrays by the path of their variable in `ElectraPretrainer`.
        moments: Adam's first and second moment of every weight, by the same paths, or None.
        step: optimizer steps it was trained for, where that is known, otherwise 0.
        notes: lines for the user about what was not used, or not found.
        source: the checkpoint it was read from, where a directory may hold several.
        head: of a fine-tuned model; it has no generator.
    """

    config: ElectraConfig
    vocabulary: Vocabulary
    weights: dict[str, np.ndarray]
    moments: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None = None
    step: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)
    source: str = ""
    head: TaskHead | None = None

    def require_no_head(self, name: str) -> None:
        """Checks that a format without a place for a task's head loses none.

        Raises:
            UsageError: there is one; begins with `name`, the format's.
        """
        if self.head is not None:
            raise UsageError(
                f"{name} has no place for a fine-tuned head ({', '.join(self.head.weights)}): "
                "--encoder_only leaves it behind and converts the encoder"
            )

    def network(self, name: str) -> dict[str, np.ndarray]:
        """Returns all weights of one network, shared ones included.

        Args:
            name: "discriminator" or "generator".

        Returns:
            arrays by path below the network ("embeddings/layer_norm/gamma"), those of its head below
            "head/".
        """
        shared = _SHARED[self.config.embedding_sharing]
        found = {}
        if name == "generator" and shared is not None and self.config.discriminator is not None:
            found = self._below("discriminator/", shared)
        found |= self._below(f"{name}/")
        head = self._below(f"{HEADS[name]}/")
        return found | {f"head/{path}": array for path, array in head.items()}

    def _below(self, prefix: str, begin: str = "") -> dict[str, np.ndarray]:
        return {
            path.removeprefix(prefix): array
            for path, array in self.weights.items()
            if path.startswith(prefix + begin)
        }


def check_finite(arrays: Mapping[str, np.ndarray], where: str) -> None:
    """Checks that weights are numbers.

    Raises:
        UserError: one holds NaN or infinity; the message begins with `where`.
    """
    for path, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{where}: {path} holds NaN or infinity: its training has diverged")


def embedding_shapes(config: EncoderConfig) -> Shapes:
    """Returns the shapes of the embedding block, by path below the encoder."""
    width = config.embedding_size
    return {
        "embeddings/token_embedding/embeddings": (config.vocab_size, width),
        "embeddings/position_embedding/embeddings": (config.max_position_embeddings, width),
        "embeddings/type_embedding/embeddings": (config.type_vocab_size, width),
        "embeddings/layer_norm/gamma": (width,),
        "embeddings/layer_norm/beta": (width,),
    }


def block_shapes(config: EncoderConfig) -> Shapes:
    """Returns the shapes of projection and transformer blocks, by path below the encoder."""
    hidden, inner = config.hidden_size, config.intermediate_size

    def dense(path: str, inputs: int, outputs: int) -> Shapes:
        return {f"{path}/kernel": (inputs, outputs), f"{path}/bias": (outputs,)}

    shapes = {}
    if config.embedding_size != hidden:
        shapes |= dense("embeddings_project", config.embedding_size, hidden)
    for i in range(config.num_hidden_layers):
        layer = f"layer_{i}"
        shapes |= dense(f"{layer}/attention/query_key_value", hidden, 3 * hidden)
        shapes |= dense(f"{layer}/attention/output_dense", hidden, hidden)
        shapes |= dense(f"{layer}/intermediate_dense", hidden, inner)
        shapes |= dense(f"{layer}/output_dense", inner, hidden)
        for norm in ("attention_layer_norm", "output_layer_norm"):
            shapes |= {f"{layer}/{norm}/gamma": (hidden,), f"{layer}/{norm}/beta": (hidden,)}
    return shapes


def head_shapes(config: EncoderConfig, network: str) -> Shapes:
    """Returns the shapes of a network's pre-training head, by path below the head."""
    hidden, width = config.hidden_size, config.embedding_size
    if network == "discriminator":
        return {
            "dense/kernel": (hidden, hidden),
            "dense/bias": (hidden,),
            "output_dense/kernel": (hidden, 1),
            "output_dense/bias": (1,),
        }
    return {
        "dense/kernel": (hidden, width),
        "dense/bias": (width,),
        "layer_norm/gamma": (width,),
        "layer_norm/beta": (width,),
        "output_bias": (config.vocab_size,),
    }


def variable_shapes(config: ElectraConfig) -> Shapes:
    """Returns the shape of every variable of a model, heads included, by its path."""
    sharing, both = config.embedding_sharing, len(config.encoders) == 2
    shapes: Shapes = {}
    for network, encoder in config.encoders.items():
        own: Shapes = {}
        if network == "discriminator" or not both or sharing != "encoder":
            own = embedding_shapes(encoder) | block_shapes(encoder)
        if network == "generator" and both and _SHARED[sharing]:
            own = {p: shape for p, shape in own.items() if not p.startswith(_SHARED[sharing])}
        shapes |= {f"{network}/{path}": shape for path, shape in own.items()}
        head = head_shapes(encoder, network)
        shapes |= {f"{HEADS[network]}/{path}": shape for path, shape in head.items()}
    return shapes


def find_sharing(
    discriminator: Mapping[str, np.ndarray] | None, generator: Mapping[str, np.ndarray] | None
) -> str:
    """Returns the embedding_sharing under which no weight of two whole networks changes.

    What is equal to the last bit is taken for shared, so that a format that stores each network whole
    loses nothing.

    Args:
        discriminator, generator: as `ModelWeights.network` returns them, or None.
    """

    def same(begin: str) -> bool:
        def paths(network: Mapping[str, np.ndarray]) -> set[str]:
            return {p for p in network if p.startswith(begin) and not p.startswith("head/")}

        return paths(discriminator) == paths(generator) and all(
            np.array_equal(discriminator[path], generator[path]) for path in paths(discriminator)
        )

    if discriminator is None or generator is None:
        return "none"
    return next((name for name in ("encoder", "all", "token") if same(_SHARED[name])), "none")


def join_networks(
    discriminator: Mapping[str, np.ndarray] | None,
    generator: Mapping[str, np.ndarray] | None,
    sharing: str,
) -> dict[str, np.ndarray]:
    """Returns the weights of two networks by their path in the model.

    Args:
        discriminator, generator: by path below the network, or None.
        sharing: embedding_sharing; what the generator shares may be missing from it.
    """
    weights = {}
    for network, arrays in (("discriminator", discriminator), ("generator", generator)):
        for path, array in (arrays or {}).items():
            if path.startswith("head/"):
                weights[HEADS[network] + path.removeprefix("head")] = array
            elif (
                network == "discriminator"
                or _SHARED[sharing] is None
                or not path.startswith(_SHARED[sharing])
            ):
                weights[f"{network}/{path}"] = array
    return weights


def check_rows(rows: int, tokens: int, where: str) -> list[str]:
    """Returns a note where a token table has rows that no token of the vocabulary stands for.

    Ports pad the table, to a multiple of 8 or more (facts D8: NVIDIA's 30,528 rows for 30,522 tokens).

    Raises:
        UserError: the difference is no padding, but another vocabulary; begins with `where`.
    """
    if tokens == rows:
        return []
    if not any(rows == -(-tokens // multiple) * multiple for multiple in (8, 64, 128, 256)):
        raise UserError(
            f"{where}: the token table has {rows} rows, but the vocabulary {tokens} tokens: it belongs "
            "to another model; give the right one with --vocab_file"
        )
    return [
        f"{where}: the token table has {rows} rows for {tokens} tokens; the last {rows - tokens}, "
        "which no text reaches, are left out"
    ]


def without_spare_rows(arrays: Mapping[str, np.ndarray], tokens: int) -> dict[str, np.ndarray]:
    """Returns weights of a model or a network without the rows for which there is no token.

    The generator must not sample them.
    """
    by_token = ("token_embedding/embeddings", "head/output_bias")
    return {path: a[:tokens] if path.endswith(by_token) else a for path, a in arrays.items()}


def fit_vocabulary(model: ModelWeights, where: str) -> ModelWeights:
    """Leaves out the rows of the token table for which the vocabulary has no token.

    Raises:
        UserError: the vocabulary is another model's; the message begins with `where`.
    """
    tokens = len(model.vocabulary)
    rows = next(iter(model.config.encoders.values())).vocab_size
    notes = check_rows(rows, tokens, where)
    if not notes:
        return model
    encoders = {
        name: dataclasses.replace(encoder, vocab_size=tokens)
        for name, encoder in model.config.encoders.items()
    }
    moments = model.moments and tuple(without_spare_rows(m, tokens) for m in model.moments)
    return dataclasses.replace(
        model,
        config=dataclasses.replace(model.config, **encoders),
        weights=without_spare_rows(model.weights, tokens),
        moments=moments,
        notes=[*model.notes, *notes],
    )


def known_casing(config: ElectraConfig, vocabulary: Vocabulary) -> tuple[ElectraConfig, list[str]]:
    """Returns the configuration with its casing, and a note where that had to be guessed.

    Accents are removed only where text is lower-cased, as in the original.
    """
    lower_case, notes = config.lower_case, []
    if lower_case is None:
        lower_case, note = guess_casing(vocabulary)
        notes.append(note)
    strip_accents = lower_case and config.strip_accents is not False
    return dataclasses.replace(config, lower_case=lower_case, strip_accents=strip_accents), notes


def check_casing(lower_case: bool | None, strip_accents: bool | None, where: str) -> None:
    """Checks that our tokenizer can do what another one does.

    Raises:
        UserError: it removes accents and keeps capitals; begins with `where`.
    """
    if lower_case is False and strip_accents:
        raise UserError(
            f"{where}: the tokenizer removes accents and does not lower-case; here, as in the original, "
            "accents go only with lower-casing"
        )


@contextlib.contextmanager
def blamed_on(where: str | Path) -> Iterator[None]:
    """Turns errors over what a file holds into failures whose message begins with `where`."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def guess_casing(vocabulary: Vocabulary) -> tuple[bool, str]:
    """Returns whether a vocabulary is uncased, and a note that says so.

    It is where no token but those in brackets has a capital letter.
    """
    uncased = all(token == token.lower() for token in vocabulary.tokens if token[0] != "[")
    return uncased, (
        f"casing is not recorded; the vocabulary has {'no' if uncased else 'tokens with'} capitals: "
        f"taken as {'un' if uncased else ''}cased (--lower_case, --strip_accents)"
    )
