"""Directories of Hugging Face transformers: config.json, model.safetensors, vocab.txt.

A directory holds one network: the discriminator (ElectraForPreTraining, ElectraModel, or fine-tuned) or
the generator (ElectraForMaskedLM). Names and layout follow transformers 5.23, models/electra.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UsageError, UserError
from electra_keras.interop.huggingface_files import open_tensors
from electra_keras.interop.huggingface_heads import head_tensors, read_head, write_head
from electra_keras.interop.huggingface_tokenizer import (
    Tokenization,
    read_tokenization,
    tokenizer_settings,
    write_tokenizer,
)
from electra_keras.interop.json_files import field, read_json, write_json
from electra_keras.interop.names import huggingface_name, original_names
from electra_keras.interop.tensors import Tensors
from electra_keras.interop.weights import (
    HEADS,
    ModelWeights,
    TaskHead,
    blamed_on,
    check_rows,
    find_sharing,
    join_networks,
    known_casing,
    without_spare_rows,
)

# A key of ours in config.json: a network without head is an ElectraModel, whichever it is.
_NETWORK = "electra_keras_network"
# Of ElectraConfig in transformers 5.23, for files that leave them out.
_DEFAULTS = {
    "vocab_size": 30522,
    "embedding_size": 128,
    "hidden_size": 256,
    "num_hidden_layers": 12,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
}


def read(
    directories: Sequence[Path],
    vocab_file: Path | None = None,
    lower_case: bool | None = None,
    strip_accents: bool | None = None,
    encoder_only: bool = False,
) -> ModelWeights:
    """Reads one directory, or the discriminator's and the generator's.

    Tables that are equal in both to the last bit become shared embeddings. Of a fine-tuned
    discriminator, the head of its task is read and that of its pre-training is not.

    Args:
        directories: one or two; or one that has `discriminator` and `generator` in it, as `write` makes.
        vocab_file: default: vocab.txt, or else the vocabulary in tokenizer.json.
        lower_case, strip_accents: default: what tokenizer_config.json or tokenizer.json says, or else
            seen from the tokens.
        encoder_only: leave the head of a task behind.

    Raises:
        UserError: not an ELECTRA, damaged, one with a head that has no counterpart here, or two
            directories that do not belong together.
    """
    if len(directories) == 1 and not (directories[0] / "config.json").exists():
        parts = [directories[0] / network for network in HEADS]
        directories = [part for part in parts if part.is_dir()] or directories
    networks: dict[str, dict[str, np.ndarray]] = {}
    encoders: dict[str, EncoderConfig | None] = dict.fromkeys(HEADS)
    tokenizations: dict[Path, Tokenization] = {}
    head: TaskHead | None = None
    has_task = False
    notes: list[str] = []
    for directory in directories:
        settings = _read_settings(directory)
        tensors = open_tensors(directory)
        network = _which_network(settings, tensors, directory)
        if network in networks:
            raise UserError(
                f"{directory} is a second {network}: give one discriminator, one generator"
            )
        encoder = _encoder_config(settings, directory)
        is_tuned = bool(head_tensors(tensors.shapes))
        has_task = has_task or is_tuned
        if is_tuned and not encoder_only:
            if network == "generator" or len(directories) > 1:
                raise UserError(
                    f"{tensors.where} is fine-tuned ({', '.join(head_tensors(tensors.shapes))}): give a "
                    "discriminator, and nothing beside it, or --encoder_only"
                )
            head = read_head(settings, tensors, encoder, directory / "config.json", notes)
        weights = _read_network(tensors, network, encoder, without_head=head is not None)
        notes += tensors.notes()
        found = read_tokenization(directory, vocab_file, lower_case, strip_accents, notes)
        tokens = len(found.vocabulary)
        notes += check_rows(encoder.vocab_size, tokens, str(directory))
        encoders[network] = dataclasses.replace(encoder, vocab_size=tokens)
        networks[network] = without_spare_rows(weights, tokens)
        tokenizations[directory] = found
    if encoder_only and not has_task:
        raise UsageError(
            f"--encoder_only is for fine-tuned models: {' and '.join(map(str, directories))} has no "
            "head of a task"
        )
    tokenization = _agreed(tokenizations)
    sharing = find_sharing(networks.get("discriminator"), networks.get("generator"))
    if len(networks) == 2 and encoders["discriminator"] != encoders["generator"]:
        sharing = "all" if sharing == "encoder" else sharing
    if len(networks) == 2:
        notes.append(
            "not recorded, taken as the default: max_seq_length, mask_prob of its training"
        )
    with blamed_on(" and ".join(map(str, directories))):
        config = ElectraConfig(
            **encoders,
            embedding_sharing=sharing,
            max_seq_length=min(e.max_position_embeddings for e in encoders.values() if e),
            **tokenization.vocabulary.special_ids(),
            lower_case=tokenization.lower_case,
            strip_accents=tokenization.strip_accents,
        )
    config, guesses = known_casing(config, tokenization.vocabulary)
    return ModelWeights(
        config,
        tokenization.vocabulary,
        join_networks(networks.get("discriminator"), networks.get("generator"), sharing),
        notes=notes + guesses,
        head=head,
    )


def _agreed(found: dict[Path, Tokenization]) -> Tokenization:
    """Returns the one tokenization of all directories.

    Raises:
        UserError: two contradict each other.
    """
    first, *others = found
    agreed = found[first]
    for other in others:
        theirs = found[other]
        if theirs.vocabulary.sha256 != agreed.vocabulary.sha256:
            raise UserError(f"{first} and {other} have different vocabularies")
        for name in ("lower_case", "strip_accents"):
            ours, value = getattr(agreed, name), getattr(theirs, name)
            if None not in (ours, value) and ours != value:
                raise UserError(
                    f"{first} and {other} have different casing: {name} is {ours} and {value}; give "
                    f"--{name}"
                )
        if agreed.lower_case is None:
            agreed = theirs
    return agreed


def _read_settings(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.exists():
        raise UserError(f"{directory} is not a Hugging Face model: there is no {path.name}")
    settings = read_json(path)
    if settings.get("model_type") != "electra":
        kind = settings.get("model_type") or "no model_type"
        raise UserError(f"{path} is of another kind of model ({kind}), not of an ELECTRA")
    for name, wanted in (("position_embedding_type", "absolute"), ("is_decoder", False)):
        if settings.get(name, wanted) != wanted:
            raise UserError(f"{path}: {name} is {settings[name]!r}; only {wanted!r} is supported")
    return settings


def _encoder_config(settings: dict[str, Any], directory: Path) -> EncoderConfig:
    values = {name: settings.get(name, default) for name, default in _DEFAULTS.items()}
    with blamed_on(directory / "config.json"):
        return EncoderConfig(**values)


def _which_network(settings: dict[str, Any], tensors: Tensors, directory: Path) -> str:
    """Returns "discriminator" or "generator": as we wrote it, or as its head or architecture says."""
    path = directory / "config.json"
    ours = field(settings, _NETWORK, str, path)
    if ours is not None:
        if ours not in HEADS:
            raise UserError(f"{path}: {_NETWORK} must be one of {', '.join(HEADS)}: {ours!r}")
        return ours
    if any(name.startswith("generator_") for name in tensors.shapes):
        return "generator"
    architectures = field(settings, "architectures", list, path)
    return "generator" if architectures == ["ElectraForMaskedLM"] else "discriminator"


def _read_network(
    tensors: Tensors, network: str, encoder: EncoderConfig, without_head: bool
) -> dict[str, np.ndarray]:
    shapes = tensors.shapes
    # ElectraModel alone has no prefix, and files of before 2020 call LayerNorm's weights as TF1 does.
    prefix = "" if "embeddings.word_embeddings.weight" in shapes else "electra."

    def rename(name: str) -> tuple[str, bool]:
        name, transposed = huggingface_name(name)
        if name.startswith("electra."):
            name = prefix + name.removeprefix("electra.")
        old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old = old.replace("LayerNorm.bias", "LayerNorm.beta")
        return (old if old in shapes and name not in shapes else name), transposed

    if f"{prefix}embeddings.word_embeddings.weight" not in shapes:
        raise UserError(
            f"{tensors.where} is not an ELECTRA: it has no electra.embeddings.word_embeddings.weight, "
            f"but {min(shapes, default='nothing')}"
        )
    layers = {m[1] for n in shapes if (m := re.match(rf"{prefix}encoder\.layer\.(\d+)\.", n))}
    if len(layers) != encoder.num_hidden_layers:
        raise UserError(
            f"{tensors.where} holds {len(layers)} layers, but num_hidden_layers of config.json is "
            f"{encoder.num_hidden_layers}"
        )
    scopes = ("embeddings", "blocks") if without_head else ("embeddings", "blocks", "head")
    weights = tensors.network(network, encoder, rename, scopes)
    table = weights["embeddings/token_embedding/embeddings"]
    output = "generator_lm_head.weight"
    if output in shapes and not np.array_equal(tensors.take(output, table.shape), table):
        raise UserError(
            f"{tensors.where}: {output} differs from the token embeddings; only tied ones are supported"
        )
    return weights


# ----------------------------------------------------------------------------------------------
# Writing


def write(model: ModelWeights, directory: Path) -> list[str]:
    """Writes `discriminator` and `generator`, each a directory that from_pretrained loads.

    With its head a discriminator is an ElectraForPreTraining and a generator an ElectraForMaskedLM;
    without, either is an ElectraModel. A fine-tuned model is one such directory, with nothing above.

    Returns:
        notes for the user.

    Raises:
        UserError: its task's head has no counterpart there.
    """
    config, notes = known_casing(model.config, model.vocabulary)
    if model.head is not None:
        head = write_head(model.head, config.discriminator)
        tensors = _named(model, "discriminator", "electra.") | head.tensors
        _write_directory(directory, model, config, "discriminator", tensors, head.settings)
        return notes + head.notes
    headless = config.missing_heads(model.weights)
    architectures = {"discriminator": "ElectraForPreTraining", "generator": "ElectraForMaskedLM"}
    for network in config.encoders:
        has_head = HEADS[network] not in headless
        architecture = architectures[network] if has_head else "ElectraModel"
        tensors = _named(model, network, "electra." if has_head else "")
        (directory / network).mkdir()
        _write_directory(
            directory / network, model, config, network, tensors, {"architectures": [architecture]}
        )
    return notes


def _named(model: ModelWeights, network: str, prefix: str) -> dict[str, np.ndarray]:
    """Returns a network's tensors, those of its encoder with a prefix, by Hugging Face's names."""
    tensors = {}
    for path, array in model.network(network).items():
        names = original_names(network, path)
        for original, part in zip(names, np.split(array, len(names), axis=-1), strict=True):
            name, transposed = huggingface_name(original)
            if name.startswith("electra."):
                name = prefix + name.removeprefix("electra.")
            tensors[name] = np.ascontiguousarray(part.T if transposed else part)
    return tensors


def _write_directory(
    directory: Path,
    model: ModelWeights,
    config: ElectraConfig,
    network: str,
    tensors: dict[str, np.ndarray],
    head_settings: dict[str, Any],
) -> None:
    """Writes the files of one network; `config` is the model's with its casing."""
    from safetensors.numpy import save_file

    encoder = config.encoders[network]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    model.vocabulary.save(str(directory / "vocab.txt"))
    settings = {
        **head_settings,
        "model_type": "electra",
        _NETWORK: network,
        **{name: getattr(encoder, name) for name in _DEFAULTS},
        "pad_token_id": config.pad_token_id,
        "position_embedding_type": "absolute",
        "tie_word_embeddings": True,
        "dtype": "float32",
    }
    write_json(directory / "config.json", settings)
    write_tokenizer(directory, model.vocabulary, config)
    write_json(
        directory / "tokenizer_config.json",
        tokenizer_settings(config, encoder.max_position_embeddings),
    )
