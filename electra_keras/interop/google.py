"""Checkpoints of google-research/electra: TF1 variables by name (facts D8)."""

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from electra_keras.config import ElectraConfig
from electra_keras.console import UserError, reason
from electra_keras.interop.google_settings import (
    Settings,
    check_writable,
    losses,
    settings_files,
)
from electra_keras.interop.json_files import write_json
from electra_keras.interop.names import original_names_of
from electra_keras.interop.tensors import Tensors
from electra_keras.interop.weights import (
    ModelWeights,
    blamed_on,
    fit_vocabulary,
    join_networks,
    known_casing,
)
from electra_keras.tensor_bundle import glob_safe
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
        lower_case, strip_accents: default: what hparams.json says, or else seen from the tokens.

    Raises:
        UserError: no checkpoint, a damaged one, or not an ELECTRA.
    """
    notes: list[str] = []
    prefix = _find_prefix(path, notes)
    with glob_safe(prefix) as readable:
        casing = (lower_case, strip_accents)
        return _read(prefix, readable, vocab_file, attention_heads or {}, casing, notes)


def _read(
    prefix: Path,
    readable: str,
    vocab_file: Path | None,
    attention_heads: Mapping[str, int | None],
    casing: tuple[bool | None, bool | None],
    notes: list[str],
) -> ModelWeights:
    """Reads the checkpoint `prefix`, which TensorFlow finds under `readable`; see `read`."""
    lower_case, strip_accents = casing
    try:
        reader = tf.train.load_checkpoint(readable)
        shapes = {name: tuple(s) for name, s in reader.get_variable_to_shape_map().items()}
    except Exception as error:  # TensorFlow turns bad files into many types
        raise UserError(f"{prefix} cannot be read: {reason(error)}") from error
    tensors = Tensors(str(prefix), shapes, reader.get_tensor)
    _check_electra(tensors)
    vocabulary = Vocabulary.load(str(vocab_file or prefix.parent / "vocab.txt"))
    settings = Settings(prefix.parent, attention_heads)
    if lower_case is None:
        lower_case = settings.hparam("do_lower_case", bool)
    if strip_accents is None:
        strip_accents = settings.hparam("strip_accents", bool)

    discriminator = generator = settings.encoder(tensors, "discriminator", notes)
    sharing, generator_scopes = _find_sharing(tensors, settings, notes)
    if not generator_scopes:
        generator = None
    elif "blocks" in generator_scopes:
        generator = settings.encoder(tensors, "generator", notes)

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
    objective = settings.objective(discriminator.max_position_embeddings, notes)
    with blamed_on(settings.path if settings.hparams else prefix):
        config = ElectraConfig(
            discriminator,
            generator,
            embedding_sharing=sharing,
            **objective,
            **vocabulary.special_ids(),
            lower_case=lower_case,
            strip_accents=strip_accents,
        )
    config, guesses = known_casing(config, vocabulary)
    step = tensors.take_count("global_step")
    notes += guesses + tensors.notes(lambda name: name.split("/")[-1] in _SLOTS)
    model = ModelWeights(config, vocabulary, values, moments, step, notes, str(prefix))
    return fit_vocabulary(model, str(prefix))


def _find_sharing(
    tensors: Tensors, settings: Settings, notes: list[str]
) -> tuple[str, tuple[str, ...]]:
    """Returns embedding_sharing, and what of the generator the checkpoint holds: () for no generator.

    Raises:
        UserError: another kind of generator, or one of which a part is missing.
    """
    names = tensors.shapes
    if "generator/embeddings/word_embeddings" in names:
        return "none", ("embeddings", "blocks", "head")
    if any(name.startswith("generator/") for name in names):
        return "all", ("blocks", "head")
    towers = [name for name in names if name.startswith(("generator_ltr/", "generator_rtl/"))]
    if towers:
        raise UserError(
            f"{tensors.where} has a two-tower generator, which is not supported: {min(towers)}"
        )
    if not any(name.startswith("generator_predictions/") for name in names):
        return "none", ()
    if settings.hparam("untied_generator", bool):
        raise UserError(
            f"{tensors.where} is incomplete: it has no generator/encoder/..., and {settings.path} says "
            "untied_generator=true"
        )
    notes.append("no generator/encoder: all weights of the two networks are tied")
    return "encoder", ("head",)


def _find_prefix(path: Path, notes: list[str]) -> Path:
    """Returns the prefix of the checkpoint that `path` is or holds; notes if the newest is not there.

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
            notes.append(f"{path / 'checkpoint'} names {prefix.name}, which is not there")
        found = sorted(file for file in path.iterdir() if file.suffix == ".index")
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
    model.require_no_head("google")
    check_writable(model.config)
    config, notes = known_casing(model.config, model.vocabulary)

    def named(values: Mapping[str, np.ndarray], suffix: str) -> dict[str, tf.Tensor]:
        values = dict(values)
        if (
            config.generator and config.embedding_sharing == "token"
        ):  # to the original, embeddings of its own
            table = "embeddings/token_embedding/embeddings"
            values[f"generator/{table}"] = values[f"discriminator/{table}"]
        return {
            name + suffix: tf.constant(part)
            for path, array in values.items()
            for names in [original_names_of(path)]
            for name, part in zip(names, np.split(array, len(names), axis=-1), strict=True)
        }

    tensors = named(model.weights, "")
    if model.moments is None:
        zeros = functools.cache(tf.zeros)  # one for all of a shape
        tensors |= {
            f"{name}/{slot}": zeros(tensor.shape)
            for name, tensor in tensors.items()
            for slot in _SLOTS
        }
        notes.append("Adam's moments are not known: written as zeros")
    else:
        for slot, moment in zip(_SLOTS, model.moments, strict=True):
            tensors |= named(moment, f"/{slot}")
    tensors["global_step"] = tf.constant(model.step, tf.int64)
    name = f"model.ckpt-{model.step}"
    tf.raw_ops.SaveV2(
        prefix=str(directory / name),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=list(tensors.values()),
    )
    state = f'model_checkpoint_path: "{name}"\nall_model_checkpoint_paths: "{name}"\n'
    (directory / "checkpoint").write_text(state)
    model.vocabulary.save(str(directory / "vocab.txt"))
    for file, values in settings_files(config).items():
        write_json(directory / file, values)
    lacking = config.missing_heads(model.weights)
    if config.generator is None:
        lacking.append("generator")
    if lacking:
        notes.append(f"no {', '.join(lacking)}: the original can fine-tune this, not pre-train it")
    return notes + losses(config)
