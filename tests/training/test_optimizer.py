"""The optimizer's update against numpy, and what it does to gradients that are not finite."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.options import ModelOptions
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.training.optimizer import ElectraOptimizer
from electra_keras.training.schedules import WarmupPolynomialDecay


def variables():
    rng = np.random.default_rng(0)
    return [
        keras.Variable(rng.normal(size=(4, 3)).astype("float32"), name="kernel"),
        keras.Variable(rng.normal(size=3).astype("float32"), name="bias"),
    ]


def reference(values, gradients, algorithm, steps, rate=0.01, decay=0.1, clip=1.0):
    """Adam, AdamW and LAMB in float64."""
    values = [np.array(v, np.float64) for v in values]
    m = [np.zeros_like(v) for v in values]
    v2 = [np.zeros_like(v) for v in values]
    for step in range(1, steps + 1):
        g = [x * step for x in gradients]
        norm = np.sqrt(sum((x**2).sum() for x in g))
        g = [x * min(1, clip / norm) for x in g]
        for i, weight_decay in enumerate((decay, 0.0)):
            m[i] = 0.9 * m[i] + 0.1 * g[i]
            v2[i] = 0.999 * v2[i] + 0.001 * g[i] ** 2
            if algorithm == "adam":
                update = m[i] / (np.sqrt(v2[i]) + 1e-6)
            else:
                # TensorFlow's form: epsilon beside the uncorrected root in "adamw".
                c1, c2 = 1 - 0.9**step, 1 - 0.999**step
                epsilon = 1e-6 / np.sqrt(c2) if algorithm == "adamw" else 1e-6
                update = (m[i] / c1) / (np.sqrt(v2[i] / c2) + epsilon)
            update = update + weight_decay * values[i]
            if algorithm == "lamb" and weight_decay:  # the kernel, not the bias
                update = update * np.linalg.norm(values[i]) / np.linalg.norm(update)
            values[i] = values[i] - rate * update
    return values


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("algorithm", ["adam", "adamw", "lamb"])
def test_update(algorithm, jit_compile):
    ours = variables()
    gradients = [np.random.default_rng(1).normal(size=v.shape) for v in ours]
    expected = reference([v.numpy() for v in ours], gradients, algorithm, steps=3)
    optimizer = ElectraOptimizer(0.01, algorithm, weight_decay=0.1, jit_compile=jit_compile)
    optimizer.build(ours)
    for step in range(1, 4):
        optimizer.apply([tf.constant(g * step, tf.float32) for g in gradients], ours)
    for value, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(value.numpy(), wanted, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("algorithm", ["adam", "adamw", "lamb"])
@pytest.mark.parametrize("path", ["dense/bias", "layer_norm/beta", "output_dense/lora_up"])
def test_what_starts_at_zero_is_trained(algorithm, path):
    """A linear regression whose answer is a vector of 0.1; warm-up makes the first steps tiny."""
    layer, name = path.split("/")
    with keras.name_scope(layer):
        variable = keras.Variable(np.zeros([4, 3], "float32"), name=name)
    assert variable.path == path
    schedule = WarmupPolynomialDecay(2e-3, train_steps=800, warmup_steps=200)
    optimizer = ElectraOptimizer(schedule, algorithm)
    optimizer.build([variable])
    step = tf.function(lambda: optimizer.apply([variable.value - 0.1], [variable]))
    for _ in range(800):
        step()
    np.testing.assert_allclose(variable.numpy(), 0.1, rtol=0.02)


def test_what_is_decayed():
    """Facts D5.25: kernels and embedding tables, neither biases nor LayerNorm."""
    config = ModelOptions(model_size="tiny", hidden_size=32, num_attention_heads=2).resolve(
        vocab_size=30, max_seq_length=8
    )
    model = ElectraPretrainer(config)
    optimizer = ElectraOptimizer()
    decayed = {v.path for v in model.trainable_variables if optimizer.is_decayed(v)}
    excluded = {v.path for v in model.trainable_variables} - decayed
    assert {path.rsplit("/", 1)[1] for path in decayed} == {"kernel", "embeddings"}
    assert {path.rsplit("/", 1)[1] for path in excluded} == {"gamma", "beta", "bias", "output_bias"}


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_step_that_is_not_finite_changes_nothing(bad, jit_compile):
    ours = variables()
    optimizer = ElectraOptimizer(0.01, jit_compile=jit_compile)
    optimizer.build(ours)
    good = [tf.ones([4, 3]), tf.ones([3])]
    optimizer.apply(good, ours)
    state = [v.numpy() for v in (*ours, *optimizer.first_moments, *optimizer.second_moments)]
    optimizer.apply([tf.ones([4, 3]), tf.constant([1.0, bad, 1.0])], ours)
    after = [v.numpy() for v in (*ours, *optimizer.first_moments, *optimizer.second_moments)]
    for before, now in zip(state, after, strict=True):
        np.testing.assert_array_equal(before, now)
    assert not np.isfinite(optimizer.gradient_norm.numpy())


def test_loss_scale():
    scaled, plain = variables(), variables()
    optimizer = ElectraOptimizer(0.01, dynamic_loss_scale=True)
    reference_optimizer = ElectraOptimizer(0.01)
    optimizer.build(scaled)
    reference_optimizer.build(plain)
    assert float(optimizer.loss_scale.numpy()) == 2.0**15
    gradients = [tf.ones([4, 3]), tf.ones([3])]
    optimizer.apply([g * optimizer.scale_loss(1.0) for g in gradients], scaled)
    reference_optimizer.apply(gradients, plain)
    for ours, theirs in zip(scaled, plain, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
    optimizer.apply([tf.fill([4, 3], np.inf), tf.ones([3])], scaled)
    assert float(optimizer.loss_scale.numpy()) == 2.0**14
    optimizer.good_steps.assign(1999.0)
    optimizer.apply([g * optimizer.scale_loss(1.0) for g in gradients], scaled)
    assert float(optimizer.loss_scale.numpy()) == 2.0**15


def test_schedule():
    """Facts D5.27: the warm-up multiplies the decay."""
    schedule = WarmupPolynomialDecay(1e-3, train_steps=100, warmup_steps=10)
    rates = [float(schedule(step)) for step in (0, 5, 10, 50, 100, 120)]
    np.testing.assert_allclose(rates, [0, 0.5 * 0.95e-3, 0.9e-3, 0.5e-3, 0, 0], atol=1e-9)
    kept = WarmupPolynomialDecay(1e-3, train_steps=100, warmup_steps=0, power=2.0, end=1e-4)
    np.testing.assert_allclose(float(kept(50)), 0.9e-3 * 0.25 + 1e-4, rtol=1e-6)
