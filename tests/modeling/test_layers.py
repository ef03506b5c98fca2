"""Encoder, heads and dropout by themselves: shapes, masks, padding, configurations."""

import json

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.heads import MaskedLanguageModelHead, ReplacedTokenHead
from electra_keras.modeling.layers import (
    DropoutNoise,
    SinusoidalInitializer,
    dropout,
    gelu,
    random_bits,
)
from electra_keras.modeling.lora import Lora, LoraDense, merge_lora

CONFIG = EncoderConfig(
    vocab_size=50, embedding_size=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
    intermediate_size=32, max_position_embeddings=20, initializer_range=0.2,
)  # fmt: skip


def make_encoder(**options):
    encoder = Encoder(CONFIG, name="encoder", **options)
    encoder.build()
    return encoder


def make_inputs(lengths=(12, 7, 1), length=12):
    rng = np.random.default_rng(0)
    mask = (np.arange(length) < np.array(lengths)[:, np.newaxis]).astype(np.int32)
    ids = rng.integers(5, 50, mask.shape).astype(np.int32)
    segments = np.tile(np.arange(length) >= 5, (len(lengths), 1)).astype(np.int32)
    return ids, mask, segments


def test_the_encoder_has_one_vector_for_each_token():
    hidden = make_encoder()(*make_inputs())
    assert hidden.shape == (3, 12, 16) and hidden.dtype == tf.float32
    # Each block ends with a LayerNorm.
    np.testing.assert_allclose(tf.reduce_mean(hidden, -1), np.zeros((3, 12)), atol=1e-5)
    np.testing.assert_allclose(tf.math.reduce_std(hidden, -1), np.ones((3, 12)), rtol=1e-3)


def test_padding_changes_no_real_token():
    encoder, (ids, mask, segments) = make_encoder(), make_inputs()
    hidden = encoder(ids, mask, segments).numpy()
    other = np.where(mask == 1, ids, 49)
    np.testing.assert_allclose(
        encoder(other, mask, segments).numpy()[mask == 1], hidden[mask == 1], atol=1e-6
    )
    wider = [np.pad(values, [(0, 0), (0, 5)]) for values in (ids, mask, segments)]
    np.testing.assert_allclose(
        encoder(*wider).numpy()[:, :12][mask == 1], hidden[mask == 1], atol=2e-6
    )
    # A text in a batch is what it is alone.
    np.testing.assert_allclose(
        encoder(ids[1:2, :7], mask[1:2, :7], segments[1:2, :7])[0], hidden[1, :7], atol=2e-6
    )


def test_every_real_token_counts():
    encoder, (ids, mask, segments) = make_encoder(), make_inputs()
    first = encoder(ids, mask, segments).numpy()[:2, 0]
    ids[0, 11] = ids[0, 11] % 45 + 5  # another token, the last
    changed = encoder(ids, mask, segments).numpy()[:2, 0]
    assert np.abs(changed[0] - first[0]).max() > 1e-3
    np.testing.assert_allclose(changed[1], first[1], atol=1e-6)
    # Positions and segments do too.
    swapped = encoder(ids[:, ::-1], mask[:, ::-1], segments).numpy()[:2, 0]
    assert np.abs(swapped - changed).max() > 1e-3
    plain = encoder(ids, mask).numpy()
    np.testing.assert_array_equal(plain, encoder(ids, mask, np.zeros_like(ids)).numpy())
    assert np.abs(plain[:2, 0] - changed).max() > 1e-3


def test_heads():
    encoder, inputs = make_encoder(), make_inputs()
    hidden = encoder(*inputs)
    table = encoder.embeddings.token_embedding
    head = MaskedLanguageModelHead(CONFIG, table, name="head")
    head.build()
    head.output_bias.assign(np.arange(50.0))
    positions = np.array([[3, 0], [6, 6], [0, 1]], np.int32)
    logits = head(hidden, positions)
    assert logits.shape == (3, 2, 50) and logits.dtype == tf.float32
    rows = gelu(head.dense(tf.gather(hidden, positions, batch_dims=1)))
    expected = tf.matmul(head.layer_norm(rows), table.embeddings, transpose_b=True)
    np.testing.assert_allclose(logits, expected + np.arange(50.0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(logits[1, 0], logits[1, 1])
    judge = ReplacedTokenHead(CONFIG, name="head")
    judge.build()
    judged = judge(hidden)
    assert judged.shape == (3, 12) and judged.dtype == tf.float32


def test_gelu_and_its_gradient():
    values = tf.constant(np.linspace(-6, 6, 41))
    with tf.GradientTape() as tape:
        tape.watch(values)
        outputs = gelu(values)
    phi = scipy.stats.norm.cdf(values)
    np.testing.assert_allclose(outputs, values * phi, rtol=1e-6)
    slope = phi + values * scipy.stats.norm.pdf(values)
    np.testing.assert_allclose(tape.gradient(outputs, values), slope, rtol=1e-6, atol=1e-12)


def test_sinusoidal_positions_differ_by_their_distance():
    table = SinusoidalInitializer(0.1)((40, 16)).numpy().astype(np.float64)
    products = table @ table.T
    for distance in (0, 1, 7):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4)
    assert table.std() == pytest.approx(0.1, rel=0.5)
    assert products[0, 0] == pytest.approx(16 * 0.1**2, rel=1e-5)


def lowbias32(position, key):
    """The hash of `random_bits` in Python's integers."""
    bits = position
    for half in key:
        bits = (bits + half) % 2**32
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
            bits = ((bits ^ bits >> shift) * factor) % 2**32
    return bits


def test_dropout_follows_from_key_and_position():
    """Other bits would be other runs: a resumed one would not be the uninterrupted one."""
    drawn = random_bits(tf.constant([7, -1]), [3, 5]).numpy()
    halves = (7, lowbias32(7, (0, 2**32 - 1)))  # the second one is mixed with the first
    expected = [lowbias32(position, halves) for position in range(15)]
    np.testing.assert_array_equal(drawn.ravel(), np.array(expected, np.uint32))
    ones = tf.ones([3, 5])
    noise = DropoutNoise(tf.constant([7, -1]))
    key = DropoutNoise(tf.constant([7, -1])).next_key()
    kept = random_bits(key, [3, 5]).numpy() >= 0.25 * 2**32
    np.testing.assert_allclose(dropout(ones, 0.25, noise), kept / 0.75, rtol=1e-6)


def test_dropout_is_off_without_noise_and_repeats_with_it():
    encoder, inputs = make_encoder(), make_inputs()

    def encode(*key):
        return encoder(*inputs, noise=DropoutNoise(tf.constant(key))).numpy()

    np.testing.assert_array_equal(encoder(*inputs), encoder(*inputs))
    np.testing.assert_array_equal(encode(1, 2), encode(1, 2))
    assert np.abs(encode(1, 2) - encode(1, 3)).max() > 1e-3
    assert np.abs(encode(1, 2) - encoder(*inputs)).max() > 1e-3


@pytest.mark.parametrize("parts", [1, 3])
def test_merged_low_rank_updates_compute_the_same(parts):
    layer = LoraDense(12, Lora(rank=2, alpha=3.0), parts, name="layer")
    layer.build((None, 8))
    inputs = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    frozen = inputs @ layer.kernel.numpy()
    np.testing.assert_allclose(layer(inputs), frozen, rtol=1e-5, atol=1e-6)  # it begins there
    layer.lora_up.assign(np.random.default_rng(1).normal(size=layer.lora_up.shape))
    merged = merge_lora({v.path: v.numpy() for v in layer.weights}, layer.lora)
    assert merged.keys() == {"layer/kernel", "layer/bias"}
    assert np.abs(layer(inputs) - frozen).max() > 0.1
    np.testing.assert_allclose(layer(inputs), inputs @ merged["layer/kernel"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lora", [None, Lora(2, 4.0)])
def test_a_layer_from_its_configuration(lora):
    encoder = make_encoder(lora=lora, dtype="mixed_bfloat16")
    config = encoder.get_config()
    again = Encoder.from_config(json.loads(json.dumps(config)))
    assert again.get_config() == config
    again.build()
    shapes = [{v.path: (v.shape, v.dtype) for v in each.weights} for each in (encoder, again)]
    assert shapes[0] == shapes[1]
    for layer in (encoder, encoder.blocks[1].attention.output_dense, encoder.embeddings.layer_norm):
        assert layer.compute_dtype == "bfloat16"


def test_layers_in_a_functional_model_are_saved(tmp_path):
    """Two encoders with one embedding block, and a head with its token table."""
    names = ("input_ids", "input_mask", "segment_ids")
    inputs = {name: keras.Input((12,), dtype="int32", name=name) for name in names}
    positions = keras.Input((2,), dtype="int32", name="positions")
    first = Encoder(CONFIG, name="first")
    second = Encoder(CONFIG, first.embeddings, name="second")
    head = MaskedLanguageModelHead(CONFIG, first.embeddings.token_embedding, name="logits")
    judge = ReplacedTokenHead(CONFIG, name="judge")
    outputs = {
        "judged": judge(first(*inputs.values())),
        "logits": head(second(*inputs.values()), positions),
    }
    model = keras.Model({**inputs, "positions": positions}, outputs)
    batch = dict(zip(names, make_inputs(), strict=True)) | {
        "positions": np.array([[1, 2], [0, 3], [0, 0]], np.int32)
    }
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert len(loaded.weights) == len(model.weights)
    first, second = loaded.get_layer("first"), loaded.get_layer("second")
    assert loaded.get_layer("logits").token_embedding is first.embeddings.token_embedding
    assert second.embeddings is first.embeddings
    for name, value in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[name], value, err_msg=name)
