"""What stands in JSON beside a checkpoint of the original: sizes, and --hparams of its scripts."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UsageError, UserError
from electra_keras.interop.json_files import field, read_json_if_there
from electra_keras.interop.tensors import Tensors
from electra_keras.interop.weights import blamed_on

# Fields of ElectraConfig by their name in hparams (configure_pretraining.py).
_OBJECTIVE = {
    "mask_prob": ("mask_prob", float),
    "temperature": ("temperature", float),
    "disallow_correct": ("disallow_correct", bool),
    "generator_weight": ("gen_weight", float),
    "discriminator_weight": ("disc_weight", float),
}
_HEADS_FLAG = {
    "discriminator": "--num_attention_heads",
    "generator": "--generator_num_attention_heads",
}
# The original gives its generator the discriminator's values of these (get_generator_config).
_INHERITED = ("vocab_size", "max_position_embeddings", "type_vocab_size")
_INHERITED_RATES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")


class Settings:
    """What the JSON files beside a checkpoint say.

    Args:
        directory: of the checkpoint.
        attention_heads: the user's, by network.
    """

    def __init__(self, directory: Path, attention_heads: Mapping[str, int | None]) -> None:
        self.attention_heads = attention_heads
        self.path = directory / "hparams.json"
        self.hparams = read_json_if_there(self.path)
        self.paths = {
            "discriminator": directory / "bert_config.json",
            "generator": directory / "generator_config.json",
        }
        self.files = {name: read_json_if_there(path) for name, path in self.paths.items()}

    def hparam(self, name: str, kind: type) -> Any:
        """Returns a value of hparams.json, None where it is not there."""
        return field(self.hparams, name, kind, self.path)

    def objective(self, max_positions: int, notes: list[str]) -> dict[str, Any]:
        """Returns what is recorded of the objective, as fields of `ElectraConfig`.

        Args:
            max_positions: most tokens of an example, which is the length where none is recorded.
            notes: what is not recorded is added.
        """
        length = self.hparam("max_seq_length", int)
        found = {name: self.hparam(theirs, kind) for name, (theirs, kind) in _OBJECTIVE.items()}
        known = {"max_seq_length": length, "mask_prob": found["mask_prob"]}
        missing = [name for name, value in known.items() if value is None]
        found["max_seq_length"] = min(max_positions if length is None else length, max_positions)
        if missing:
            notes.append(
                f"not recorded, taken as the default: {', '.join(missing)} of its training"
            )
        return {name: value for name, value in found.items() if value is not None}

    def encoder(self, tensors: Tensors, network: str, notes: list[str]) -> EncoderConfig:
        """Returns a network's sizes: from the shapes, the number of heads from the files.

        Raises:
            UserError: a tensor that tells a size is missing, or a file contradicts the shapes.
        """
        shapes, path, file = tensors.shapes, self.paths[network], self.files[network]
        scope = "electra" if network == "discriminator" else "generator"
        tables = scope if f"{scope}/embeddings/word_embeddings" in shapes else "electra"

        def size(name: str, axis: int) -> int:
            if name not in shapes or len(shapes[name]) != 2:
                raise UserError(f"{tensors.where} has no matrix {name}")
            return shapes[name][axis]

        layers = {
            int(match[1])
            for name in shapes
            if (match := re.match(rf"{scope}/encoder/layer_(\d+)/", name))
        }
        hidden = size(f"{scope}/encoder/layer_0/attention/self/query/kernel", 1)
        sizes = {
            "vocab_size": size(f"{tables}/embeddings/word_embeddings", 0),
            "embedding_size": size(f"{tables}/embeddings/word_embeddings", 1),
            "hidden_size": hidden,
            "num_hidden_layers": max(layers) + 1,
            "intermediate_size": size(f"{scope}/encoder/layer_0/intermediate/dense/kernel", 1),
            "max_position_embeddings": size(f"{tables}/embeddings/position_embeddings", 0),
            "type_vocab_size": size(f"{tables}/embeddings/token_type_embeddings", 0),
        }
        for name, value in sizes.items():
            if file.get(name, value) != value:
                raise UserError(
                    f"{tensors.where}: {name} of the {network} is {value}, but {path} says "
                    f"{file[name]!r}"
                )
        heads = self._heads(network, hidden, notes)
        others = {name: file[name] for name in (*_INHERITED_RATES, "hidden_act") if name in file}
        with blamed_on(path if file else tensors.where):
            return EncoderConfig(num_attention_heads=heads, **sizes, **others)

    def _heads(self, network: str, hidden: int, notes: list[str]) -> int:
        flag, path = _HEADS_FLAG[network], self.paths[network]
        heads, error, where = self.attention_heads.get(network), UsageError, flag
        if heads is None:
            heads, error, where = (
                field(self.files[network], "num_attention_heads", int, path),
                UserError,
                str(path),
            )
        if heads is None and network == "discriminator":
            overrides = self.hparam("model_hparam_overrides", dict) or {}
            heads, where = field(overrides, "num_attention_heads", int, self.path), str(self.path)
        if heads is None:
            heads, where = max(1, hidden // 64), "one per 64 of width"
            notes.append(
                f"no configuration tells the {network}'s attention heads: {heads}, {where}"
            )
        if heads < 1 or hidden % heads:
            raise error(
                f"{heads} attention heads ({where}) do not divide the {network}'s width {hidden}: give "
                f"{flag}"
            )
        return heads


def check_writable(config: ElectraConfig) -> None:
    """Checks that the original's code builds the model that `files` describes.

    Raises:
        UserError: it cannot; names the field.
    """
    discriminator, generator = config.discriminator, config.generator
    if discriminator is None:
        raise UserError(
            "the original keeps the embeddings in the discriminator: there is none here"
        )
    for network, encoder in config.encoders.items():
        if encoder.layer_norm_eps != 1e-12:
            raise UserError(
                f"layer_norm_eps of the {network} is {encoder.layer_norm_eps}; the original has 1e-12"
            )
    if generator is None or config.embedding_sharing == "encoder":
        return
    width = generator.hidden_size
    wanted = {name: getattr(discriminator, name) for name in _INHERITED}
    wanted |= {"num_attention_heads": max(1, width // 64), "intermediate_size": 4 * width}
    if config.embedding_sharing in ("token", "none"):
        wanted["embedding_size"] = width  # its untied embeddings are as wide as its layers
    for name, value in wanted.items():
        found = getattr(generator, name)
        if found != value:
            raise UserError(
                f"the original cannot hold this generator: its {name} is {found}, and there {value}"
            )


def settings_files(config: ElectraConfig) -> dict[str, dict[str, Any]]:
    """Returns the files beside a checkpoint by name."""

    def sizes(encoder: EncoderConfig) -> dict[str, Any]:
        names = (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
            "intermediate_size", "max_position_embeddings", "type_vocab_size", *_INHERITED_RATES,
        )  # fmt: skip
        return {name: getattr(encoder, name) for name in names}

    discriminator, generator = config.discriminator, config.generator
    overrides = sizes(discriminator)
    for name in ("vocab_size", "hidden_act"):
        del overrides[name]
    hparams = {
        "model_size": "small",
        "vocab_size": discriminator.vocab_size,
        "vocab_file": "vocab.txt",
        "do_lower_case": config.lower_case,
        "strip_accents": config.strip_accents,  # unknown to the original, read by Settings
        "max_seq_length": config.max_seq_length,
        "embedding_size": discriminator.embedding_size,
        "model_hparam_overrides": overrides,
    }
    files = {"bert_config.json": sizes(discriminator), "hparams.json": hparams}
    if generator is not None:
        hparams |= {
            **{theirs: getattr(config, name) for name, (theirs, _) in _OBJECTIVE.items()},
            "generator_hidden_size": generator.hidden_size / discriminator.hidden_size,
            "generator_layers": generator.num_hidden_layers / discriminator.num_hidden_layers,
            "untied_generator": config.embedding_sharing != "encoder",
            "untied_generator_embeddings": config.embedding_sharing in ("token", "none"),
        }
        files["generator_config.json"] = sizes(generator)
    return files


def losses(config: ElectraConfig) -> list[str]:
    """Returns notes on what the original's --hparams cannot say."""
    notes = []
    if config.strip_accents != config.lower_case:
        notes.append("the original removes accents wherever it lower-cases; this model keeps them")
    generator = config.generator
    for name in _INHERITED_RATES if generator else ():
        if getattr(generator, name) != getattr(config.discriminator, name):
            notes.append(f"the original has one {name} for both networks: the discriminator's")
    return notes
