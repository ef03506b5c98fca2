"""Exported networks are the model's: all ways of sharing, one network alone, heads that are missing."""

import dataclasses
import re

import numpy as np
import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.serving import networks, pretrained, quantization
from tests.interop.models import random_model

# isort: split
import tensorflow as tf

IDS = tf.constant([[2, 7, 4, 39, 3, 0], [2, 9, 3, 11, 3, 0]])
MASK = tf.constant([[1, 1, 1, 1, 1, 0]] * 2)
SEGMENTS = tf.constant([[0] * 6, [0, 0, 0, 1, 1, 0]])


def pretrainer(model):
    reference = ElectraPretrainer(model.config)
    for variable in reference.trainable_variables:
        # Keras numbers the embeddings that only share their token table.
        path = re.sub(r"embeddings_\d+/", "embeddings/", variable.path)
        variable.assign(model.weights[path])
    return reference


@pytest.mark.parametrize("sharing", ["all", "token", "none", "encoder"])
@pytest.mark.parametrize(
    "names", [["discriminator", "generator"], ["generator"], ["discriminator"]]
)
def test_networks_equal_the_pretrainers(sharing, names):
    model = random_model(sharing)
    reference, parts = pretrainer(model), networks.build(model, names)
    positions = tf.constant([[2, 3], [1, 1]])
    if "discriminator" in names:
        hidden = reference.discriminator(IDS, MASK, SEGMENTS)
        np.testing.assert_array_equal(parts.discriminator(IDS, MASK, SEGMENTS), hidden)
        np.testing.assert_array_equal(
            parts.discriminator_head(hidden), reference.discriminator_head(hidden)
        )
    if "generator" in names:
        hidden = reference.generator(IDS, MASK, SEGMENTS)
        np.testing.assert_array_equal(parts.generator(IDS, MASK, SEGMENTS), hidden)
        np.testing.assert_array_equal(
            parts.generator_head(hidden, positions), reference.generator_head(hidden, positions)
        )
    shared = {v.path: v for layer in parts.layers for v in layer.variables}
    if len(names) == 2:
        assert len(shared) == len(reference.trainable_variables)  # each is stored once


@pytest.mark.parametrize(
    "changes, expected, default",
    [
        ({}, {"replaced_tokens", "embed", "embed_tokens", "fill_mask"}, "replaced_tokens"),
        ({"generator": False}, {"replaced_tokens", "embed", "embed_tokens"}, "replaced_tokens"),
        ({"discriminator": False}, {"fill_mask"}, "fill_mask"),
    ],
)
def test_signatures_follow_from_what_there_is(changes, expected, default):
    model = random_model("none", **changes)
    names = networks.choose(model, None, "model")
    servable = pretrained.make_servable(model, names, [8])
    names = {s.name for s in servable.signatures}
    assert names == expected | {f"{n}_ids" for n in expected} | (
        {"replaced_tokens_pair"} if "replaced_tokens" in expected else set()
    )
    assert servable.default == default


def without_head(model, network):
    weights = {p: a for p, a in model.weights.items() if not p.startswith(f"{network}_head/")}
    return dataclasses.replace(model, weights=weights)


def test_a_discriminator_without_head_embeds():
    model = without_head(random_model(), "discriminator")
    servable = pretrained.make_servable(model, ["discriminator"], [8])
    assert servable.default == "embed"
    embed = next(s for s in servable.signatures if s.name == "embed")
    answer = embed.function(text=tf.constant(["word1 word2"]))
    hidden = pretrainer(random_model()).discriminator(
        tf.constant([[2, 6, 7, 3]]), tf.ones([1, 4], tf.int32), tf.zeros([1, 4], tf.int32)
    )
    np.testing.assert_allclose(answer["cls"][0], hidden[0, 0], atol=1e-5)
    np.testing.assert_allclose(answer["mean"][0], np.mean(hidden[0], axis=0), atol=1e-5)


def test_a_generator_without_head_is_left_out_or_refused():
    model = without_head(random_model(), "generator")
    assert networks.choose(model, None, "here") == ["discriminator"]
    with pytest.raises(UserError, match="here holds no generator head"):
        networks.choose(model, ["generator"], "here")
    alone = without_head(random_model("none", discriminator=False), "generator")
    with pytest.raises(UserError, match="nothing to serve"):
        networks.choose(alone, None, "here")
    with pytest.raises(UsageError, match="holds no 'generator', only discriminator"):
        networks.choose(random_model("none", generator=False), ["generator"], "here")


# --- Smaller weights -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def float32(export):
    return quantization.answers(export.servable, SAMPLES)


SAMPLES = [f"the one two three cat sat {word} on a mat" for word in ("in", "of", "and", "to", "he")]


def largest_difference(float32, other, signature, key):
    return np.abs(float32[signature][key] - other[signature][key]).max()


def of(export, **options):
    from electra_keras.interop import model_directory

    model = model_directory.read(export.model_dir)
    return pretrained.make_servable(model, ["discriminator", "generator"], [8, 32], **options)


@pytest.fixture(scope="module")
def int8(export):
    return of(export, quantize="int8")


def test_int8_weights_are_int8_and_close(int8, float32):
    variables = {v.path: v for layer in int8.layers for v in layer.variables}
    small = [p for p, v in variables.items() if v.dtype == "int8"]
    # 3 blocks of 4 kernels and the head's of the discriminator; the generator's are small; one table.
    assert len(small) == 3 * 4 + 1 + 1
    assert "discriminator/embeddings/token_embedding/embeddings" in small
    answers = quantization.answers(int8, SAMPLES)
    assert 1e-6 < largest_difference(float32, answers, "replaced_tokens", "probabilities") < 0.02
    assert 1e-6 < largest_difference(float32, answers, "embed", "cls") < 0.1
    # Through the table, which the generator's head multiplies with.
    probabilities = float32["fill_mask"]["probabilities"]
    assert probabilities.max() > 0.005
    assert largest_difference(float32, answers, "fill_mask", "probabilities") < 3e-4
    lines = "\n".join(quantization.compare(float32, answers))
    assert "replaced_tokens.probabilities: mean difference" in lines
    assert "fill_mask.tokens: the same for" in lines


def test_int8_is_the_nearest_value_per_output_channel(export, int8):
    exact = export.servable
    (kernel,) = (
        v
        for layer in exact.layers
        for v in layer.variables
        if v.path == "discriminator/layer_1/intermediate_dense/kernel"
    )
    found = {v.path: v.numpy() for layer in int8.layers for v in layer.variables}
    stored = found["discriminator/layer_1/intermediate_dense/kernel"].astype(np.float32)
    scale = found["discriminator/layer_1/intermediate_dense/kernel_scale"]
    step = np.abs(kernel.numpy()).max(axis=0) / 127
    np.testing.assert_allclose(1 / scale, step, rtol=1e-3)
    assert (np.abs(stored / scale - kernel.numpy()) <= 0.51 * step).all()


def test_bfloat16_is_close_and_answers_in_float32(export, float32):
    answers = quantization.answers(of(export, precision="mixed_bfloat16"), SAMPLES)
    assert answers["embed"]["cls"].dtype == np.float32
    assert 1e-6 < largest_difference(float32, answers, "replaced_tokens", "probabilities") < 0.03
    assert 1e-6 < largest_difference(float32, answers, "embed", "cls") < 0.1


def test_comparison_of_equal_answers_finds_none(float32):
    for line in quantization.compare(float32, float32):
        assert "largest 0 " in line or "same for 100.0%" in line
