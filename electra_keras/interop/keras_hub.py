"""Presets of keras-hub (package keras-nlp): ElectraBackbone with its tokenizer.

A backbone is an encoder without heads. It differs from the original in two ways, whatever its weights:
the GELU is the tanh approximation, and there is a pooler (a dense layer on [CLS]) that ELECTRA has not.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UserError, reason
from electra_keras.interop.weights import ModelWeights, fit_vocabulary
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

    settings = directory / "config.json"
    try:
        kind = json.loads(settings.read_text(encoding="utf-8")).get("registered_name", "")
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f"{directory} is not a keras-nlp preset: cannot read {settings}") from error
    if not kind.endswith("ElectraBackbone"):
        raise UserError(
            f"{directory} is not a preset of an ElectraBackbone but of {kind or 'no class'}"
        )
    try:
        backbone = keras_nlp.models.ElectraBackbone.from_preset(str(directory))
        tokenizer = keras_nlp.models.ElectraTokenizer.from_preset(str(directory))
    except Exception as error:  # from h5py, Keras and keras-hub, of many types
        raise UserError(f"{directory} cannot be read: {reason(error)}") from error
    vocabulary = Vocabulary(tuple(tokenizer.get_vocabulary()))
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
    weights = {}
    for path, variables in _variables(backbone).items():
        shape = (
            (encoder.hidden_size, -1)
            if path.endswith("attention/query_key_value/kernel")
            else (-1,)
        )
        arrays = [variable.numpy() for variable in variables]
        if len(arrays) == 3:  # [hidden, heads, head width], or without the first
            arrays = [array.reshape(shape) for array in arrays]
        elif arrays[0].ndim == 3:
            arrays = [arrays[0].reshape(-1, encoder.hidden_size)]
        weights[f"discriminator/{path}"] = np.concatenate(arrays, axis=-1).astype(np.float32)
    model = ModelWeights(
        ElectraConfig(
            encoder,
            None,
            embedding_sharing="none",
            max_seq_length=encoder.max_position_embeddings,
            pad_token_id=vocabulary.pad_id,
            cls_token_id=vocabulary.cls_id,
            sep_token_id=vocabulary.sep_id,
            mask_token_id=vocabulary.mask_id,
            lower_case=tokenizer.lowercase,
            strip_accents=tokenizer.strip_accents,
        ),
        vocabulary,
        weights,
        notes=["unused: pooled_dense, which ELECTRA does not have"],
    )
    model.notes.append(difference(model, backbone))
    return fit_vocabulary(model, str(directory))


def write(model: ModelWeights, directory: Path) -> list[str]:
    """Writes the discriminator's encoder as a preset; ElectraBackbone.from_preset loads it.

    Raises:
        UserError: there is no discriminator.
    """
    import keras_nlp

    config = model.config.discriminator
    if config is None:
        raise UserError("a backbone is a discriminator's encoder: there is none here")
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
        lowercase=model.config.lower_case is not False,
        strip_accents=bool(model.config.strip_accents),
    )
    backbone.save_to_preset(str(directory))
    tokenizer.save_to_preset(str(directory))
    notes = [
        "not in a backbone: the discriminator's head, and the generator",
        "fresh: pooled_dense, which ELECTRA does not have; train it before using pooled_output",
        difference(model, backbone),
    ]
    if rates[0] != rates[1]:
        notes.append(f"one dropout rate there: {rates[0]}; attention had {rates[1]}")
    return notes


def difference(model: ModelWeights, backbone: "keras_nlp.models.ElectraBackbone") -> str:
    """Returns a line on how far the backbone's output is from the original's, on a real input."""
    config = model.config.discriminator
    encoder = Encoder(config)
    tokenizer = Tokenizer(
        model.vocabulary, model.config.lower_case is not False, model.config.strip_accents
    )
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
