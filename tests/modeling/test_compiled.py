"""What XLA compiles has the gradients of what it is made of, and keeps only what it says."""

import math

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.compiled import CompiledFunction
from electra_keras.modeling.encoder import Encoder

BATCH, LENGTH, HIDDEN, INNER, HEADS = 2, 8, 16, 32, 2


@pytest.fixture(scope="module")
def encoder():
    encoder = Encoder(
        EncoderConfig(
            vocab_size=50,
            embedding_size=HIDDEN,
            hidden_size=HIDDEN,
            num_hidden_layers=2,
            num_attention_heads=HEADS,
            intermediate_size=INNER,
            max_position_embeddings=LENGTH,
        )
    )
    encoder.build()
    return encoder


def block_arguments(encoder):
    rng = np.random.default_rng(0)
    hidden = tf.constant(rng.normal(size=(BATCH, LENGTH, HIDDEN)), tf.float32)
    bias = tf.constant([0.0] * (LENGTH - 2) + [-1e4] * 2, shape=(1, 1, 1, LENGTH))
    weights = [tf.convert_to_tensor(v.value) for v in encoder.blocks[1].weights]
    return [hidden, *weights], tf.tile(bias, [BATCH, 1, 1, 1]), tf.constant([3, 4])


def test_a_block_has_the_gradients_of_its_operations(encoder):
    """Those that TensorFlow finds without the tensors that are kept, dropout included."""
    inputs, bias, key = block_arguments(encoder)
    wanted = [True] * len(inputs)
    wanted[3] = False
    found = {}
    for name, run in {
        "compiled": lambda: encoder._compiled_block(inputs, bias, key, wanted=wanted),
        "plain": lambda: encoder._stateless_block(inputs, bias, key, lambda tensor: tensor),
    }.items():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            output = run()
            loss = tf.reduce_sum(tf.sin(output))
        found[name] = tape.gradient(loss, inputs)
        found[name, "output"] = output
    assert found["compiled"][3] is None
    found["plain"][3] = None
    np.testing.assert_allclose(
        found["compiled", "output"], found["plain", "output"], rtol=1e-5, atol=1e-5
    )
    for compiled, plain in zip(found["compiled"], found["plain"], strict=True):
        if plain is not None:
            np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-5)


def test_a_block_keeps_what_is_costly_and_nothing_twice(encoder):
    """Query, key, value; attention's weights and result; two sums; what goes into GELU."""
    inputs, bias, key = block_arguments(encoder)
    _, kept = encoder._compiled_block._forward(inputs, (bias, key))
    tokens = BATCH * LENGTH
    numbers = tokens * (3 * HIDDEN + HEADS * LENGTH + HIDDEN + 2 * HIDDEN + INNER)
    assert sum(math.prod(tensor.shape) for tensor in kept) == numbers


def test_what_was_kept_is_not_computed_again():
    """The backward pass takes the tensors of the forward pass, not its own."""
    function = CompiledFunction(lambda inputs, keep: (tf.square(keep(inputs[0] * 3.0)), inputs[0]))
    x = tf.constant([1.0, 2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        square, same = function([x])
    np.testing.assert_array_equal(square, [9.0, 36.0])
    np.testing.assert_array_equal(same, x)
    np.testing.assert_array_equal(tape.gradient(square, x), [18.0, 36.0])
    (other,) = function._backward([x], (), [tf.constant([5.0, 5.0])], tf.ones([2]), (True,))
    np.testing.assert_array_equal(other, [30.0, 30.0])  # 2 * 5 * 3
