"""Checkpoints of google-research/electra: TF1 variables by name (facts D8)."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UserError, reason
from electra_keras.interop.names import original_names_of
from electra_keras.interop.tensors import Tensors
from electra_keras.interop.weights import ModelWeights, fit_vocabulary, guess_casing, join_networks
from electra_keras.text.vocabulary import Vocabulary

_SLOTS = ("adam_m", "adam_v")


def read(
    path: Path,
    vocab_file: Path | None = None,
    attention_heads: Mapping[str, int | None] | None = None,
    lower_case: bool | None = None,
    strip_accents: bool | None = None,
) -> ModelWeights:
    """Reads a checkpoint of the original, released or trained.

    Sizes follow from the shapes; the number of attention heads does not: it is taken from
    `attention_heads`, from bert_config.json, generator_config.json or hparams.json beside the
    checkpoint, or else is one per 64 of width, as in all released models.

    Args:
        path: a directory with a checkpoint, or a checkpoint's prefix (".../model.ckpt-40").
        vocab_file: default: vocab.txt beside it.
        attention_heads: by network, where the user gave them.
        lower_case, strip_accents: casing of the vocabulary; by default seen from its tokens.

    Raises:
        UserError: no checkpoint, a damaged one, or not an ELECTRA.
    """
    prefix = _find_prefix(path)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = {name: tuple(s) for name, s in reader.get_variable_to_shape_map().items()}
    except Exception as error:  # TensorFlow turns bad files into many types
        raise UserError(f"{prefix} cannot be read: {reason(error)}") from error
    tensors = Tensors(str(prefix), shapes, reader.get_tensor)
    _check_electra(tensors)
    vocabulary = Vocabulary.load(str(vocab_file or prefix.parent / "vocab.txt"))
    settings = _Settings(prefix.parent, attention_heads or {})
    notes: list[str] = []
    if lower_case is None:
        lower_case, note = guess_casing(vocabulary)
        notes.append(note)

    discriminator = generator = settings.encoder(tensors, "discriminator", notes)
    sharing, generator_scopes = "all", ("blocks", "head")
    if "generator/embeddings/word_embeddings" in shapes:
        sharing, generator_scopes = "none", ("embeddings", "blocks", "head")
    if any(name.startswith("generator/encoder/") for name in shapes):
        generator = settings.encoder(tensors, "generator", notes)
    elif any(name.startswith("generator_predictions/") for name in shapes):
        sharing, generator_scopes = "encoder", ("head",)  # untied_generator=False
    else:
        generator, sharing = None, "none"

    def weights(slot: str = "") -> dict[str, np.ndarray]:
        def rename(name: str) -> tuple[str, bool]:
            return name + slot, False

        theirs = None
        if generator is not None:
            theirs = tensors.network("generator", generator, rename, generator_scopes)
        ours = tensors.network("discriminator", discriminator, rename)
        return join_networks(ours, theirs, sharing)

    values, moments = weights(), None
    slots = [f"{name}/{slot}" for name in tensors.used for slot in _SLOTS]
    if all(slot in shapes for slot in slots):
        moments = tuple(weights(f"/{slot}") for slot in _SLOTS)
    elif any(slot in shapes for slot in slots):
        notes.append(f"{prefix}: some Adam slots are missing; the others are not used")
    length = settings.hparams.get("max_seq_length", discriminator.max_position_embeddings)
    model = ModelWeights(
        ElectraConfig(
            discriminator,
            generator,
            embedding_sharing=sharing,
            max_seq_length=min(length, discriminator.max_position_embeddings),
            mask_prob=settings.hparams.get("mask_prob", 0.15),
            pad_token_id=vocabulary.pad_id,
            cls_token_id=vocabulary.cls_id,
            sep_token_id=vocabulary.sep_id,
            mask_token_id=vocabulary.mask_id,
            lower_case=lower_case,
            strip_accents=lower_case if strip_accents is None else strip_accents,
        ),
        vocabulary,
        values,
        moments,
        int(reader.get_tensor("global_step")) if "global_step" in shapes else 0,
        notes + tensors.notes(lambda name: name == "global_step" or name.split("/")[-1] in _SLOTS),
    )
    return fit_vocabulary(model, str(prefix))


def _find_prefix(path: Path) -> Path:
    """Returns the prefix of the checkpoint that `path` is or holds.

    Raises:
        UserError: there is none.
    """
    if path.is_dir():
        try:
            state = tf.train.get_checkpoint_state(str(path))
        except Exception:  # an unreadable file named "checkpoint": look for the data itself
            state = None
        if state is not None:
            # The file may name the place where the model was trained.
            prefix = path / Path(state.model_checkpoint_path).name
            if prefix.with_name(f"{prefix.name}.index").exists():
                return prefix
        found = sorted(path.glob("*.index"))
        if len(found) == 1:
            return found[0].with_suffix("")
        if found:
            raise UserError(
                f"{path} has {len(found)} checkpoints; name one: {', '.join(p.stem for p in found)}"
            )
        raise UserError(f"{path} holds no TF1 checkpoint (no *.index file)")
    prefix = Path(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", str(path)))
    if not prefix.with_name(f"{prefix.name}.index").exists():
        raise UserError(f"no checkpoint {prefix}: there is no {prefix}.index")
    return prefix


def _check_electra(tensors: Tensors) -> None:
    names = tensors.shapes
    if "electra/embeddings/word_embeddings" in names:
        return
    if any(name.startswith("bert/") for name in names):
        raise UserError(
            f"{tensors.where} is a BERT, not an ELECTRA: it has "
            f"{min(name for name in names if name.startswith('bert/'))}"
        )
    raise UserError(
        f"{tensors.where} is not a checkpoint of ELECTRA: no electra/embeddings/word_embeddings; it has "
        f"{min(names, default='nothing')}"
    )


class _Settings:
    """What the JSON files beside a checkpoint say.

    Args:
        directory: of the checkpoint.
        attention_heads: the user's, by network.
    """

    def __init__(self, directory: Path, attention_heads: Mapping[str, int | None]) -> None:
        self.directory, self.attention_heads = directory, attention_heads
        self.hparams = self._json("hparams.json")
        self.files = {
            "discriminator": self._json("bert_config.json"),
            "generator": self._json("generator_config.json"),
        }

    def _json(self, name: str) -> dict[str, Any]:
        path = self.directory / name
        if not path.exists():
            return {}
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} is not a JSON object")
        return values

    def encoder(self, tensors: Tensors, network: str, notes: list[str]) -> EncoderConfig:
        """Returns a network's sizes: from the shapes, the number of heads from the files.

        Raises:
            UserError: a tensor that tells a size is missing, or a file contradicts the shapes.
        """
        shapes = tensors.shapes
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
        file = self.files[network]
        for name, value in sizes.items():
            if file.get(name, value) != value:
                raise UserError(
                    f"{tensors.where}: {name} of the {network} is {value}, but the configuration beside "
                    f"it says {file[name]}"
                )
        heads = self.attention_heads.get(network) or file.get("num_attention_heads")
        if heads is None and network == "discriminator":
            heads = self.hparams.get("model_hparam_overrides", {}).get("num_attention_heads")
        if heads is None:
            heads = max(1, hidden // 64)
            notes.append(
                f"no configuration tells the {network}'s attention heads: {heads}, one per 64 of width"
            )
        rates = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
        others = {name: file[name] for name in (*rates, "hidden_act") if name in file}
        return EncoderConfig(num_attention_heads=heads, **sizes, **others)


# ----------------------------------------------------------------------------------------------
# Writing


def write(model: ModelWeights, directory: Path) -> list[str]:
    """Writes a checkpoint that the original's run_pretraining.py and run_finetuning.py restore.

    Pre-training there restores Adam's moments with the weights, and fails without (facts A4): where
    the model has none, they are written as zeros.

    Returns:
        notes for the user.

    Raises:
        UserError: the original cannot hold such a model.
    """
    config = model.config
    discriminator, generator = config.discriminator, config.generator
    if discriminator is None:
        raise UserError(
            "the original keeps the embeddings in the discriminator: there is none here"
        )
    sharing = config.embedding_sharing
    if (
        generator is not None
        and sharing in ("token", "none")
        and generator.embedding_size != generator.hidden_size
    ):
        raise UserError(
            f"the original cannot hold a generator with embeddings of its own of another width "
            f"({generator.embedding_size}) than its layers ({generator.hidden_size})"
        )

    def arrays(values: Mapping[str, np.ndarray], suffix: str) -> dict[str, np.ndarray]:
        values = dict(values)
        if sharing == "token" and generator is not None:  # to the original, embeddings of its own
            table = "embeddings/token_embedding/embeddings"
            values[f"generator/{table}"] = values[f"discriminator/{table}"]
        return {
            name + suffix: part
            for path, array in values.items()
            for names in [original_names_of(path)]
            for name, part in zip(names, np.split(array, len(names), axis=-1), strict=True)
        }

    zeros = {path: np.zeros_like(array) for path, array in model.weights.items()}
    tensors = arrays(model.weights, "")
    for slot, moment in zip(_SLOTS, model.moments or (zeros, zeros), strict=True):
        tensors |= arrays(moment, f"/{slot}")
    tensors["global_step"] = np.array(model.step, np.int64)
    name = f"model.ckpt-{model.step}"
    tf.raw_ops.SaveV2(
        prefix=str(directory / name),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(array) for array in tensors.values()],
    )
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    (directory / "checkpoint").write_text(state)
    model.vocabulary.save(str(directory / "vocab.txt"))
    for file, values in _json_files(config).items():
        (directory / file).write_text(json.dumps(values, indent=2) + "\n")
    notes = []
    if model.moments is None:
        notes.append("Adam's moments are not known: written as zeros")
    if generator is None:
        notes.append("no generator: the original can fine-tune this, not pre-train it")
    return notes


def _json_files(config: ElectraConfig) -> dict[str, dict[str, Any]]:
    """Returns the files beside the checkpoint: sizes, and --hparams of the original's scripts."""

    def sizes(encoder: EncoderConfig) -> dict[str, Any]:
        names = (
            "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "hidden_act",
            "intermediate_size", "hidden_dropout_prob", "attention_probs_dropout_prob",
            "max_position_embeddings", "type_vocab_size", "initializer_range",
        )  # fmt: skip
        return {name: getattr(encoder, name) for name in names}

    discriminator, generator = config.discriminator, config.generator
    overrides = sizes(discriminator)
    for name in ("vocab_size", "hidden_act", "type_vocab_size"):
        del overrides[name]
    hparams = {
        "model_size": "small",
        "vocab_size": discriminator.vocab_size,
        "vocab_file": "vocab.txt",
        "do_lower_case": bool(config.lower_case),
        "max_seq_length": config.max_seq_length,
        "embedding_size": discriminator.embedding_size,
        "model_hparam_overrides": overrides,
    }
    files = {"bert_config.json": sizes(discriminator), "hparams.json": hparams}
    if generator is not None:
        hparams |= {
            "mask_prob": config.mask_prob,
            "generator_hidden_size": generator.hidden_size / discriminator.hidden_size,
            "generator_layers": generator.num_hidden_layers / discriminator.num_hidden_layers,
            "untied_generator": config.embedding_sharing != "encoder",
            "untied_generator_embeddings": config.embedding_sharing in ("token", "none"),
        }
        files["generator_config.json"] = sizes(generator)
    return files
