"""Presets of keras-hub (package keras-nlp): ElectraBackbone with its tokenizer.

A backbone is an encoder without heads. It differs from the original in two ways, whatever its weights:
the GELU is the tanh approximation, and there is a pooler (a dense layer on [CLS]) that ELECTRA has not.
"""

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UserError
from electra_keras.interop.json_files import check_regular, field, read_json
from electra_keras.interop.weights import (
    ModelWeights,
    blamed_on,
    block_shapes,
    check_casing,
    check_finite,
    embedding_shapes,
    fit_vocabulary,
    known_casing,
)
from electra_keras.modeling.encoder import Encoder
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    import keras
    import keras_nlp

_SAMPLE = (
    "The ship left the harbour before dawn, and nobody on the quay saw it go.",
    "In 1879 the committee asked for a second report; it was printed three years later in London.",
)


def read(directory: Path) -> ModelWeights:
    """Reads a preset directory of an ElectraBackbone, as a discriminator without head.

    Raises:
        UserError: not such a preset, or a damaged one.
    """
    import keras_nlp

    path = directory / "config.json"
    try:
        settings = read_json(path)
        kind = field(settings, "registered_name", str, path, "no class")
        sizes = field(settings, "config", dict, path, {})
    except UserError as error:
        raise UserError(f"{directory} is not a keras-nlp preset: {error}") from error
    if not kind.endswith("ElectraBackbone"):
        raise UserError(f"{directory} is not a preset of an ElectraBackbone but of {kind}")
    for name in ("model.weights.h5", "config.json"):
        check_regular(directory / name)
    _check_layers(directory / "model.weights.h5", sizes.get("num_layers"))
    preset = str(directory.resolve())  # a relative name may be that of a preset to download
    try:
        with _quiet():
            backbone = keras_nlp.models.ElectraBackbone.from_preset(preset)
            tokenizer = keras_nlp.models.ElectraTokenizer.from_preset(preset)
    except Exception as error:  # from h5py, Keras and keras-hub, of many types
        raise UserError(f"{directory} cannot be read: {_keras_reason(error)}") from error
    with blamed_on(directory):
        # keras-hub strips white space off the tokens that it reads; some are nothing else.
        vocabulary = Vocabulary.load(str(directory / "assets/tokenizer/vocabulary.txt"))
        encoder = EncoderConfig(
            vocab_size=backbone.vocab_size,
            embedding_size=backbone.embedding_dim,
            hidden_size=backbone.hidden_dim,
            num_hidden_layers=backbone.num_layers,
            num_attention_heads=backbone.num_heads,
            intermediate_size=backbone.intermediate_dim,
            max_position_embeddings=backbone.max_sequence_length,
            type_vocab_size=backbone.num_segments,
            hidden_dropout_prob=backbone.dropout,
            attention_probs_dropout_prob=backbone.dropout,
        )
        config = ElectraConfig(
            encoder,
            None,
            embedding_sharing="none",
            max_seq_length=encoder.max_position_embeddings,
            **vocabulary.special_ids(),
            lower_case=tokenizer.lowercase,
            strip_accents=tokenizer.strip_accents,
        )
    check_casing(tokenizer.lowercase, tokenizer.strip_accents, str(directory))
    weights = {}
    variables = _variables(backbone)
    for path, shape in (embedding_shapes(encoder) | block_shapes(encoder)).items():
        parts = variables.pop(path)
        shape = (*shape[:-1], shape[-1] // len(parts))  # there [hidden, heads, head width]
        arrays = [variable.numpy().reshape(shape) for variable in parts]
        weights[f"discriminator/{path}"] = np.concatenate(arrays, axis=-1).astype(np.float32)
    if variables:
        raise UserError(f"{directory} has {min(variables)}, which is not of an ELECTRA")
    check_finite(weights, str(directory))
    notes = ["unused: pooled_dense, which ELECTRA does not have"]
    model = ModelWeights(config, vocabulary, weights, notes=notes)
    model.notes.append(difference(model, backbone))
    return fit_vocabulary(model, str(directory))


def _check_layers(path: Path, expected: object) -> None:
    """Checks that the file has as many layers as config.json says: Keras leaves out what is too much.

    Raises:
        UserError: another number of layers.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            names = [name for name in file["layers"] if name.startswith("transformer_encoder")]
    except (OSError, KeyError):
        return  # damaged, or in several files: for Keras to say
    if len(names) != expected:
        raise UserError(
            f"{path} holds {len(names)} layers, but num_layers of config.json is {expected}"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences what Keras warns of while it loads, before it fails with the same words."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _keras_reason(error: Exception) -> str:
    """Returns the part of a message of Keras's that tells the cause, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    # "A total of 8 objects could not be loaded. Example error message for object <...>: cause"
    text = re.sub(r"^A total of .*? for object <(\w+) name=([\w/]+).*?>:", r"\1 \2:", text)
    return text.split(" List of objects that could not be loaded")[0][:300]


def check_writable(config: ElectraConfig) -> None:
    """Checks that a backbone can hold a model's discriminator.

    Raises:
        UserError: there is none, or it differs where a backbone has no choice.
    """
    if config.discriminator is None:
        raise UserError("a backbone is a discriminator's encoder: there is none here")
    if config.discriminator.layer_norm_eps != 1e-12:
        raise UserError(
            f"layer_norm_eps is {config.discriminator.layer_norm_eps}; a backbone has 1e-12"
        )


def write(model: ModelWeights, directory: Path) -> list[str]:
    """Writes the discriminator's encoder as a preset; ElectraBackbone.from_preset loads it.

    Raises:
        UserError: a backbone cannot hold the model.
    """
    import keras_nlp

    model.require_no_head("keras_nlp")
    check_writable(model.config)
    casing, guesses = known_casing(model.config, model.vocabulary)
    config = model.config.discriminator
    rates = (config.hidden_dropout_prob, config.attention_probs_dropout_prob)
    backbone = keras_nlp.models.ElectraBackbone(
        vocab_size=config.vocab_size,
        num_layers=config.num_hidden_layers,
        num_heads=config.num_attention_heads,
        hidden_dim=config.hidden_size,
        embedding_dim=config.embedding_size,
        intermediate_dim=config.intermediate_size,
        dropout=rates[0],
        max_sequence_length=config.max_position_embeddings,
        num_segments=config.type_vocab_size,
    )
    weights = model.network("discriminator")
    for path, variables in _variables(backbone).items():
        parts = np.split(weights[path], len(variables), axis=-1)
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))
    tokenizer = keras_nlp.models.ElectraTokenizer(
        vocabulary=list(model.vocabulary.tokens),
        lowercase=casing.lower_case,
        strip_accents=casing.strip_accents,
    )
    with _hdf5_in_memory(directory / "model.weights.h5"):
        backbone.save_to_preset(str(directory))
    tokenizer.save_to_preset(str(directory))
    headless = model.config.missing_heads(model.weights)
    lost = [] if "discriminator_head" in headless else ["the discriminator's head"]
    lost += ["the generator"] if model.config.generator else []
    notes = [
        *guesses,
        *([f"not in a backbone: {' and '.join(lost)}"] if lost else []),
        "fresh: pooled_dense, which ELECTRA does not have; train it before using pooled_output",
        difference(model, backbone),
    ]
    if rates[0] != rates[1]:
        notes.append(f"one dropout rate there: {rates[0]}; attention had {rates[1]}")
    return notes


@contextlib.contextmanager
def _hdf5_in_memory(path: Path) -> Iterator[None]:
    """Lets Keras write an HDF5 file to memory, and then copies it to `path`.

    The HDF5 library does not survive a full disk: the process ends without a word. Keras takes no
    file object for a preset.
    """
    import h5py

    memory, open_file = io.BytesIO(), h5py.File
    h5py.File = lambda _, mode: open_file(memory, mode)
    try:
        yield
    finally:
        h5py.File = open_file
    with open(path, "xb") as file:
        file.write(memory.getbuffer())


def difference(model: ModelWeights, backbone: "keras_nlp.models.ElectraBackbone") -> str:
    """Returns a line on how far the backbone's output is from the original's, on a real input."""
    config = model.config.discriminator
    encoder = Encoder(config)
    casing, _ = known_casing(model.config, model.vocabulary)
    tokenizer = Tokenizer(model.vocabulary, casing.lower_case, casing.strip_accents)
    length = min(64, config.max_position_embeddings)
    ids = [
        [model.vocabulary.cls_id, *pieces[: length - 2], model.vocabulary.sep_id]
        for pieces in tokenizer.tokenize(tf.constant(_SAMPLE)).to_list()
    ]
    mask = np.array([[1] * len(row) + [0] * (length - len(row)) for row in ids], np.int32)
    padded = [row + [model.vocabulary.pad_id] * (length - len(row)) for row in ids]
    ids, segments = np.array(padded, np.int32), np.zeros_like(mask)
    encoder(ids, mask, segments)
    weights = model.network("discriminator")
    for variable in encoder.trainable_variables:
        variable.assign(weights[variable.path.split("/", 1)[1]])
    ours = encoder(ids, mask, segments).numpy()[mask == 1]
    theirs = backbone({"token_ids": ids, "segment_ids": segments, "padding_mask": mask})
    distance = np.abs(ours - theirs["sequence_output"].numpy()[mask == 1])
    return (
        "a backbone computes GELU by its tanh approximation: on two English sentences its output "
        f"differs from the original's by at most {distance.max():.2g}, on average {distance.mean():.2g} "
        f"(values are of size {np.abs(ours).mean():.2g})"
    )


def _variables(
    backbone: "keras_nlp.models.ElectraBackbone",
) -> dict[str, list["keras.Variable"]]:
    """Returns the backbone's variables, the pooler's excepted, by the path of ours that they make up."""

    def norm(path: str, layer: "keras.layers.Layer") -> dict[str, list["keras.Variable"]]:
        return {f"{path}/gamma": [layer.gamma], f"{path}/beta": [layer.beta]}

    def dense(path: str, *layers: "keras.layers.Layer") -> dict[str, list["keras.Variable"]]:
        return {
            f"{path}/kernel": [layer.kernel for layer in layers],
            f"{path}/bias": [layer.bias for layer in layers],
        }

    found = {
        "embeddings/token_embedding/embeddings": [backbone.token_embedding.embeddings],
        "embeddings/position_embedding/embeddings": [
            backbone.position_embedding.position_embeddings
        ],
        "embeddings/type_embedding/embeddings": [backbone.segment_embedding.embeddings],
    } | norm("embeddings/layer_norm", backbone.embeddings_layer_norm)
    if backbone.hidden_dim != backbone.embedding_dim:
        found |= dense("embeddings_project", backbone.embeddings_projection)
    for i, layer in enumerate(backbone.transformer_layers):
        attention = layer._self_attention_layer
        found |= dense(
            f"layer_{i}/attention/query_key_value",
            attention._query_dense,
            attention._key_dense,
            attention._value_dense,
        )
        found |= dense(f"layer_{i}/attention/output_dense", attention._output_dense)
        found |= norm(f"layer_{i}/attention_layer_norm", layer._self_attention_layer_norm)
        found |= dense(f"layer_{i}/intermediate_dense", layer._feedforward_intermediate_dense)
        found |= dense(f"layer_{i}/output_dense", layer._feedforward_output_dense)
        found |= norm(f"layer_{i}/output_layer_norm", layer._feedforward_layer_norm)
    return found
