"""Directories of Hugging Face transformers: config.json, model.safetensors, vocab.txt.

A directory holds one network: the discriminator (ElectraForPreTraining, ElectraModel, or fine-tuned) or
the generator (ElectraForMaskedLM). Names and layout follow transformers 5.23, models/electra.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UserError, reason
from electra_keras.interop.names import huggingface_name, original_names
from electra_keras.interop.tensors import Tensors
from electra_keras.interop.weights import (
    HEADS,
    ModelWeights,
    find_sharing,
    fit_vocabulary,
    guess_casing,
    join_networks,
)
from electra_keras.text.vocabulary import Vocabulary

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
_TASK_HEADS = {
    "classifier.dense.": "a classification head of two layers, where the original has one (facts A28)",
    "classifier.": "a head for tagging or another task",
    "qa_outputs.": "a question answering head of two plain logits",
    "summary.": "a multiple-choice head",
    "sequence_summary.": "a multiple-choice head",
}


def read(
    directories: Sequence[Path],
    vocab_file: Path | None = None,
    lower_case: bool | None = None,
    strip_accents: bool | None = None,
) -> ModelWeights:
    """Reads one directory, or the discriminator's and the generator's.

    Tables that are equal in both to the last bit become shared embeddings.

    Args:
        directories: one or two; or one that has `discriminator` and `generator` in it, as `write` makes.
        vocab_file: default: vocab.txt, or else the vocabulary in tokenizer.json.
        lower_case, strip_accents: default: what tokenizer_config.json says.

    Raises:
        UserError: not an ELECTRA, damaged, or two directories that do not belong together.
    """
    if len(directories) == 1:
        parts = [directories[0] / network for network in HEADS]
        directories = [part for part in parts if part.is_dir()] or directories
    networks: dict[str, dict[str, np.ndarray]] = {}
    encoders: dict[str, EncoderConfig | None] = dict.fromkeys(HEADS)
    notes: list[str] = []
    for directory in directories:
        settings = _read_settings(directory)
        tensors = _open_tensors(directory)
        network = _which_network(settings, tensors)
        if network in networks:
            raise UserError(
                f"{directory} is a second {network}: give one discriminator, one generator"
            )
        encoders[network] = encoder = _encoder_config(settings, directory)
        networks[network] = _read_network(tensors, network, encoder, notes)
    vocabularies = [_read_vocabulary(d, vocab_file) for d in directories]
    if len({v.sha256 for v in vocabularies}) > 1:
        raise UserError(f"{directories[0]} and {directories[1]} have different vocabularies")
    vocabulary = vocabularies[0]
    casing = _casing(directories[0], vocabulary, notes)
    if lower_case is None:
        lower_case = casing[0]
    if strip_accents is None:
        strip_accents = lower_case if casing[1] is None else casing[1]
    sharing = find_sharing(networks.get("discriminator"), networks.get("generator"))
    if len(networks) == 2 and encoders["discriminator"] != encoders["generator"]:
        sharing = "all" if sharing == "encoder" else sharing
    model = ModelWeights(
        ElectraConfig(
            **encoders,
            embedding_sharing=sharing,
            max_seq_length=min(e.max_position_embeddings for e in encoders.values() if e),
            pad_token_id=vocabulary.pad_id,
            cls_token_id=vocabulary.cls_id,
            sep_token_id=vocabulary.sep_id,
            mask_token_id=vocabulary.mask_id,
            lower_case=lower_case,
            strip_accents=strip_accents,
        ),
        vocabulary,
        join_networks(networks.get("discriminator"), networks.get("generator"), sharing),
        notes=notes,
    )
    return fit_vocabulary(model, str(directories[0]))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {reason(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object")
    return values


def _read_settings(directory: Path) -> dict[str, Any]:
    path = directory / "config.json"
    if not path.exists():
        raise UserError(f"{directory} is not a Hugging Face model: there is no {path.name}")
    settings = _read_json(path)
    if settings.get("model_type") != "electra":
        kind = settings.get("model_type") or "no model_type"
        raise UserError(f"{path} is of another kind of model ({kind}), not of an ELECTRA")
    for name, wanted in (("position_embedding_type", "absolute"), ("is_decoder", False)):
        if settings.get(name, wanted) != wanted:
            raise UserError(f"{path}: {name} is {settings[name]!r}; only {wanted!r} is supported")
    return settings


def _encoder_config(settings: dict[str, Any], directory: Path) -> EncoderConfig:
    values = {name: settings.get(name, default) for name, default in _DEFAULTS.items()}
    try:
        return EncoderConfig(**values)
    except UserError as error:
        raise UserError(f"{directory / 'config.json'}: {error}") from error


def _open_tensors(directory: Path) -> Tensors:
    """Opens the weights: safetensors, in one file or several, or else an old pytorch_model.bin."""
    index = directory / "model.safetensors.index.json"
    files = [directory / "model.safetensors"]
    if index.exists() and not files[0].exists():
        files = [directory / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    if files[0].exists():
        return _open_safetensors(files)
    if (directory / "pytorch_model.bin").exists():
        return _open_pytorch(directory / "pytorch_model.bin")
    others = sorted(p.name for p in directory.glob("*.h5")) + sorted(
        p.name for p in directory.glob("*.msgpack")
    )
    raise UserError(
        f"{directory} has neither model.safetensors nor pytorch_model.bin"
        + (f"; {', '.join(others)} cannot be read" if others else "")
    )


def _open_safetensors(files: Sequence[Path]) -> Tensors:
    from safetensors import safe_open

    readers: dict[str, Callable[[], np.ndarray]] = {}
    shapes = {}
    for path in files:
        try:
            opened = safe_open(path, framework="numpy")
            for name in opened.keys():  # noqa: SIM118 - not a dict
                shapes[name] = tuple(opened.get_slice(name).get_shape())
                readers[name] = lambda opened=opened, name=name: opened.get_tensor(name)
        except Exception as error:  # SafetensorError, OSError
            raise UserError(f"{path} cannot be read: {reason(error)}") from error
    return Tensors(", ".join(map(str, files)), shapes, lambda name: readers[name]())


def _open_pytorch(path: Path) -> Tensors:
    """Reads pytorch_model.bin with PyTorch's loader for tensors alone, which runs no code."""
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} needs PyTorch to be read: pip install -r requirements-convert.txt"
        ) from error
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # UnpicklingError, RuntimeError, EOFError
        raise UserError(
            f"{path} is damaged, or holds more than tensors, which is refused: {reason(error)}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise UserError(f"{path} does not hold tensors by name")
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}

    def get(name: str) -> np.ndarray:
        tensor = state[name]
        if tensor.dtype == torch.bfloat16:
            tensor = tensor.float()
        return tensor.numpy()

    return Tensors(str(path), shapes, get)


def _which_network(settings: dict[str, Any], tensors: Tensors) -> str:
    """Returns "discriminator" or "generator": what its head says, or else its architecture."""
    if any(name.startswith("generator_") for name in tensors.shapes):
        return "generator"
    architectures = settings.get("architectures") or []
    return "generator" if architectures == ["ElectraForMaskedLM"] else "discriminator"


def _read_network(
    tensors: Tensors, network: str, encoder: EncoderConfig, notes: list[str]
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
    weights = tensors.network(network, encoder, rename)
    table = weights["embeddings/token_embedding/embeddings"]
    output = "generator_lm_head.weight"
    if output in shapes and not np.array_equal(tensors.take(output, table.shape), table):
        raise UserError(
            f"{tensors.where}: {output} differs from the token embeddings; only tied ones are supported"
        )
    for begin, what in _TASK_HEADS.items():
        names = [n for n in shapes if n.startswith(begin)]
        if names:
            notes.append(f"{tensors.where} holds {what}; it is not converted")
            break
    notes += tensors.notes()
    return weights


def _read_vocabulary(directory: Path, vocab_file: Path | None) -> Vocabulary:
    path = vocab_file or directory / "vocab.txt"
    if path.exists() or vocab_file:
        return Vocabulary.load(str(path))
    fast = directory / "tokenizer.json"
    if not fast.exists():
        raise UserError(f"{directory} has neither vocab.txt nor tokenizer.json: give --vocab_file")
    model = _read_json(fast).get("model", {})
    if model.get("type") != "WordPiece":
        raise UserError(f"{fast} is a {model.get('type')} tokenizer; only WordPiece is supported")
    ids: dict[str, int] = model["vocab"]
    tokens = sorted(ids, key=ids.__getitem__)
    if sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{fast}: the ids of its vocabulary have gaps")
    return Vocabulary(tuple(tokens))


def _casing(directory: Path, vocabulary: Vocabulary, notes: list[str]) -> tuple[bool, bool | None]:
    """Returns (lower_case, strip_accents) of a directory's tokenizer."""
    path = directory / "tokenizer_config.json"
    settings = _read_json(path) if path.exists() else {}
    lower_case = settings.get("do_lower_case")
    if lower_case is None:
        lower_case, note = guess_casing(vocabulary)
        notes.append(note)
    if settings.get("tokenize_chinese_chars") is False:
        notes.append(
            f"{path}: tokenize_chinese_chars=false is not supported; CJK characters are split"
        )
    return bool(lower_case), settings.get("strip_accents")


# ----------------------------------------------------------------------------------------------
# Writing


def write(model: ModelWeights, directory: Path) -> list[str]:
    """Writes `discriminator` and `generator`, each a directory that from_pretrained loads.

    With its head a discriminator is an ElectraForPreTraining and a generator an ElectraForMaskedLM;
    without, either is an ElectraModel.
    """
    from safetensors.numpy import save_file

    for network, encoder in model.config.encoders.items():
        target = directory / network
        target.mkdir()
        weights = model.network(network)
        has_head = any(path.startswith("head/") for path in weights)
        tensors = {}
        for path, array in weights.items():
            names = original_names(network, path)
            for original, part in zip(names, np.split(array, len(names), axis=-1), strict=True):
                name, transposed = huggingface_name(original)
                if not has_head:
                    name = name.removeprefix("electra.")
                tensors[name] = np.ascontiguousarray(part.T if transposed else part)
        save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
        model.vocabulary.save(str(target / "vocab.txt"))
        architecture = {"discriminator": "ElectraForPreTraining", "generator": "ElectraForMaskedLM"}
        settings = {
            "architectures": [architecture[network] if has_head else "ElectraModel"],
            "model_type": "electra",
            **{name: getattr(encoder, name) for name in _DEFAULTS},
            "pad_token_id": model.config.pad_token_id,
            "position_embedding_type": "absolute",
            "tie_word_embeddings": True,
            "dtype": "float32",
        }
        tokenizer = {
            "tokenizer_class": "ElectraTokenizer",
            "do_lower_case": model.config.lower_case is not False,
            "strip_accents": model.config.strip_accents,
            "tokenize_chinese_chars": True,
            "model_max_length": encoder.max_position_embeddings,
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
        }
        for name, values in (("config.json", settings), ("tokenizer_config.json", tokenizer)):
            (target / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return []
