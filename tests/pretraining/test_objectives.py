"""Sampling and statistics against arithmetic."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from electra_keras.pretraining import statistics
from electra_keras.pretraining.objectives import masked_language_model_loss, sample_tokens


def draw(logits, count, seed=0, **kwargs):
    rows = np.tile(np.float32(logits), (count, 1))[:, None, :]
    uniforms = np.random.default_rng(seed).random((count, 1, 2), np.float32)
    if "disallowed" in kwargs:
        kwargs["disallowed_ids"] = tf.fill([count, 1], kwargs.pop("disallowed"))
    return sample_tokens(tf.constant(rows), tf.constant(uniforms), **kwargs).numpy().ravel()


@pytest.mark.parametrize("vocab_size", [7, 128, 300])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_samples_follow_the_softmax(vocab_size, temperature):
    logits = np.random.default_rng(1).normal(size=vocab_size)
    samples = draw(logits, 40_000, temperature=temperature)
    expected = np.exp(logits / temperature) / np.exp(logits / temperature).sum()
    counts = np.bincount(samples, minlength=vocab_size)
    frequent = expected * 40_000 >= 5
    observed = np.append(counts[frequent], counts[~frequent].sum())
    wanted = np.append(expected[frequent], expected[~frequent].sum()) * 40_000
    keep = wanted > 0
    assert scipy.stats.chisquare(observed[keep], wanted[keep]).pvalue > 1e-4


def test_samples_agree_with_the_originals_gumbel_max():
    """Two samples of 30,000: ours and argmax(logits + Gumbel noise)."""
    rng = np.random.default_rng(2)
    logits = rng.normal(size=40)
    gumbel = -np.log(-np.log(rng.random((30_000, 40)) + 1e-9) + 1e-9)
    theirs = np.bincount((logits + gumbel).argmax(1), minlength=40)
    ours = np.bincount(draw(logits, 30_000), minlength=40)
    assert scipy.stats.chi2_contingency([ours, theirs]).pvalue > 1e-4


def test_impossible_tokens_are_never_drawn():
    logits = np.full(300, -np.inf, np.float32)
    logits[[5, 290]] = 0.0
    assert set(draw(logits, 2000)) == {5, 290}
    assert set(draw(logits, 2000, disallowed=5)) == {290}
    edge = tf.constant([[[0.0, 0.0], [1 - 2**-24, 1 - 2**-24]]])
    rows = tf.constant(np.tile(logits, (1, 2, 1)))
    np.testing.assert_array_equal(sample_tokens(rows, edge), [[5, 290]])


def test_rare_tokens_are_drawn_as_often_as_they_should():
    """A tail of 30,000 tokens that has 1% together."""
    logits = np.zeros(30_001, np.float32)
    logits[0] = np.log(99 * 30_000)
    samples = draw(logits, 3_000)
    assert (samples > 0).mean() == pytest.approx(0.01, abs=0.008)


@pytest.mark.parametrize("vocab_size", [7, 128, 300])
@pytest.mark.parametrize("compiled", [False, True])
def test_loss_and_gradient_equal_tensorflows(vocab_size, compiled):
    """In float64, against sparse_softmax_cross_entropy_with_logits; logits large and impossible too."""
    rng = np.random.default_rng(3)
    logits = 100 * rng.normal(size=(2, 3, vocab_size))
    logits[0, 0, 1:] = -np.inf
    labels = rng.integers(0, vocab_size, (2, 3))
    labels[0, 0] = 0
    logits, labels = tf.constant(logits), tf.constant(labels, tf.int32)
    weights = tf.constant(rng.normal(size=(2, 3)))
    outcomes = []
    for loss in (
        tf.function(masked_language_model_loss, jit_compile=compiled),
        lambda logits, labels: tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits),
    ):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = loss(logits, labels)
            total = tf.reduce_sum(losses * weights)
        outcomes.append((losses, tape.gradient(total, logits)))
    for ours, theirs in zip(*outcomes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


def test_area_under_curve_equals_the_rank_statistic():
    rng = np.random.default_rng(0)
    replaced = rng.random((8, 50)) < 0.2
    logits = rng.normal(size=(8, 50)) + replaced
    mask = np.ones((8, 50), np.int32)
    mask[:, 40:] = 0
    logits[:, 40:] = -9.0  # padding would be easy negatives
    zeros = np.zeros((8, 4), np.float32)
    totals = statistics.collect(
        zeros, zeros, zeros, zeros, zeros, mask, zeros[:, :1] + np.zeros_like(logits, np.float32),
        tf.constant(logits, tf.float32), tf.constant(replaced),
    ).numpy()  # fmt: skip
    metrics = statistics.summarize(totals, 1, 50)
    positives, negatives = logits[:, :40][replaced[:, :40]], logits[:, :40][~replaced[:, :40]]
    exact = scipy.stats.mannwhitneyu(positives, negatives).statistic
    exact /= len(positives) * len(negatives)
    assert metrics["discriminator_auc"] == pytest.approx(exact, abs=2e-3)
    flagged = logits[:, :40] > 0
    truth = replaced[:, :40]
    assert metrics["discriminator_accuracy"] == pytest.approx((flagged == truth).mean())
    assert metrics["discriminator_recall"] == pytest.approx(flagged[truth].mean())
    assert metrics["discriminator_precision"] == pytest.approx(truth[flagged].mean())
    assert metrics["replaced_share"] == pytest.approx(truth.mean())


@pytest.mark.parametrize(
    ("replaced_logits", "original_logits"),
    [
        ([(-10.5, 2.5)], [(-13.0, 2.0)]),  # sure that every token is original
        ([(40.0, 1.0), (-38.0, 0.8)], [(-39.0, 0.8)]),
        ([(30.0, 0.3)], [(30.2, 0.3)]),
        ([(0.0, 0.05)], [(0.03, 0.05)]),
        ([(150.0, 10.0)], [(140.0, 10.0), (-1000.0, 1.0)]),
    ],
)
def test_area_under_curve_of_confident_models(replaced_logits, original_logits):
    rng = np.random.default_rng(0)

    def draw(parts):
        return np.concatenate([rng.normal(*part, 20_000) for part in parts])

    positives, negatives = draw(replaced_logits), draw(original_logits)
    logits = tf.constant([np.concatenate([positives, negatives])], tf.float32)
    replaced = tf.range(logits.shape[1])[tf.newaxis] < len(positives)
    zeros, ones = tf.zeros_like(logits), tf.ones(logits.shape, tf.int32)
    totals = statistics.collect(*[zeros] * 5, ones, zeros, logits, replaced).numpy()
    exact = scipy.stats.mannwhitneyu(positives, negatives).statistic
    exact /= len(positives) * len(negatives)
    metrics = statistics.summarize(totals, 1, 50)
    assert metrics["discriminator_auc"] == pytest.approx(exact, abs=5e-3)
