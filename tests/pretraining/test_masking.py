"""Masking and corruption (original: pretrain/pretrain_helpers.py, run_pretraining.py)."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.options import ModelOptions
from electra_keras.pretraining.masking import (
    MaskedTokens,
    MaskingNoise,
    corrupt_tokens,
    mask_tokens,
)

PAD, CLS, SEP, MASK = 0, 2, 3, 4
CONFIG = ModelOptions(model_size="tiny").resolve(vocab_size=100, max_seq_length=64)


def batch(rows=200, length=64, real=64, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, 100, (rows, length))
    ids[:, 0], ids[:, real // 2], ids[:, real - 1] = CLS, SEP, SEP
    ids[:, 3] = MASK  # typed in the text
    ids[:, real:] = PAD
    mask = np.zeros_like(ids)
    mask[:, :real] = 1
    return tf.constant(ids, tf.int32), tf.constant(mask, tf.int32)


def noise(rows, length, config, seed=0):
    rng = np.random.default_rng(seed)
    slots = config.max_predictions_per_seq
    return MaskingNoise(
        tf.constant(rng.random((rows, length)), tf.float32),
        tf.constant(rng.random((rows, slots)), tf.float32),
    )


def mask(ids, input_mask, config=CONFIG, seed=0):
    return mask_tokens(
        ids, input_mask, noise(*ids.shape, config, seed), config, (CLS, SEP, MASK), MASK
    )


@pytest.mark.parametrize("masking", ["unique", "original"])
@pytest.mark.parametrize(("real", "expected"), [(64, 9), (40, 6), (50, 8), (30, 4)])
def test_what_is_masked(masking, real, expected):
    """round(tokens x 0.15), half to even, at most int((0.15 + 0.005) x 64) = 9."""
    config = dataclasses.replace(CONFIG, masking=masking)
    ids, input_mask = batch(real=real)
    masked = mask(ids, input_mask, config)
    positions, weights = masked.positions.numpy(), masked.weights.numpy()
    assert weights.shape[1] == 9
    assert set(weights.sum(1)) == {expected}
    for row in range(len(positions)):
        used = positions[row][weights[row] > 0]
        assert not set(used) & {0, 3, real // 2, real - 1}
        assert used.max() < real
        if masking == "unique":
            assert len(set(used)) == len(used)
    gathered = np.take_along_axis(ids.numpy(), positions, 1)
    np.testing.assert_array_equal(masked.labels.numpy(), np.where(weights > 0, gathered, 0))
    assert not positions[weights == 0].any()
    changed = masked.input_ids.numpy() != ids.numpy()
    assert (masked.input_ids.numpy()[changed] == MASK).all()


def test_share_of_mask_tokens_and_uniform_positions():
    ids, input_mask = batch(rows=4000)
    masked = mask(ids, input_mask)
    used = masked.weights.numpy() > 0
    shown = np.take_along_axis(masked.input_ids.numpy(), masked.positions.numpy(), 1)
    # 36,000 positions: standard deviation 0.19%.
    assert (shown[used] == MASK).mean() == pytest.approx(0.85, abs=0.01)
    counts = np.bincount(masked.positions.numpy()[used], minlength=64)
    candidates = np.delete(counts, [0, 3, 32, 63])
    assert not counts[[0, 3, 32, 63]].any()
    # 600 expected at each candidate, standard deviation about 23.
    assert candidates.min() > 490
    assert candidates.max() < 710


def test_original_masking_draws_with_replacement():
    """Facts D1.3: of 9 draws out of 60, about 7% hit a position that was drawn already."""
    ids, input_mask = batch(rows=4000)
    masked = mask(ids, input_mask, dataclasses.replace(CONFIG, masking="original"))
    distinct = np.mean([len(set(row)) for row in masked.positions.numpy()])
    assert distinct == pytest.approx(60 * (1 - (59 / 60) ** 9), abs=0.05)


@pytest.mark.parametrize("masking", ["unique", "original"])
def test_example_without_candidates(masking):
    ids = tf.constant([[CLS, SEP, PAD, PAD], [PAD] * 4, [CLS, 9, SEP, PAD]])
    input_mask = tf.constant([[1, 1, 0, 0], [0] * 4, [1, 1, 1, 0]])
    config = dataclasses.replace(CONFIG, masking=masking, max_seq_length=4, mask_prob=0.5)
    masked = mask(ids, input_mask, config)
    assert masked.weights.numpy()[:2].sum() == 0
    assert masked.weights.numpy()[2].sum() >= 1
    np.testing.assert_array_equal(masked.input_ids[:2], ids[:2])


def test_corruption_restores_kept_tokens_and_averages_duplicates():
    ids = tf.constant([[CLS, 10, 11, 12, SEP]])
    masked = MaskedTokens(
        tf.constant([[CLS, MASK, 11, MASK, SEP]]),
        positions=tf.constant([[1, 3, 3, 2, 0]]),
        labels=tf.constant([[10, 12, 12, 11, 0]]),
        weights=tf.constant([[1.0, 1, 1, 1, 0]]),
    )
    corrupted, replaced = corrupt_tokens(ids, masked, tf.constant([[10, 20, 25, 30, 99]]))
    # Sample = original is "real"; 20 and 25 at one position: floor of the mean (facts D2.11).
    np.testing.assert_array_equal(corrupted, [[CLS, 10, 30, 22, SEP]])
    np.testing.assert_array_equal(replaced, [[False, False, True, True, False]])


@pytest.mark.parametrize("masking", ["unique", "original"])
def test_compiled_functions_choose_the_same(masking):
    """Bit for bit; of the rows one is padding alone, and one has no candidates."""
    config = dataclasses.replace(CONFIG, masking=masking)
    ids, input_mask = (values.numpy() for values in batch(real=50))
    ids[0], input_mask[0] = PAD, 0
    ids[1, 1:49] = MASK
    sampled = np.random.default_rng(1).integers(5, 100, (200, config.max_predictions_per_seq))

    def choose(ids, input_mask, sampled):
        masked = mask(ids, input_mask, config)
        return *masked, *corrupt_tokens(ids, masked, sampled)

    arguments = [tf.constant(values, tf.int32) for values in (ids, input_mask, sampled)]
    compiled = tf.function(choose, jit_compile=True)(*arguments)
    for ours, expected in zip(compiled, choose(*arguments), strict=True):
        np.testing.assert_array_equal(ours, expected)
