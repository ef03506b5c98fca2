"""Which tokens the generator must predict, and the corrupted text that follows from its samples."""

from typing import NamedTuple

import tensorflow as tf

from electra_keras.config import ElectraConfig


class MaskedTokens(NamedTuple):
    """A batch whose chosen positions are masked.

    Attributes:
        input_ids: int32 [batch, length], what the generator reads.
        positions: int32 [batch, predictions]; 0 in unused slots.
        labels: int32 [batch, predictions], the original tokens; 0 in unused slots.
        weights: float32 [batch, predictions], 1 in used slots and 0 in others.
    """

    input_ids: tf.Tensor
    positions: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor


class MaskingNoise(NamedTuple):
    """Uniform numbers in [0, 1) that decide a batch's masks.

    Attributes:
        scores: float32 [batch, length]; the highest-scored candidates are chosen. With
            masking="original" its first `predictions` columns choose one candidate each.
        keep: float32 [batch, predictions]; below mask_token_prob the token becomes [MASK].
    """

    scores: tf.Tensor
    keep: tf.Tensor


def _batch_indices(positions: tf.Tensor) -> tf.Tensor:
    """Returns [batch, predictions, 2] indices of `positions` in a [batch, length] tensor."""
    rows = tf.range(tf.shape(positions)[0])[:, tf.newaxis]
    return tf.stack([tf.broadcast_to(rows, tf.shape(positions)), positions], axis=-1)


def mask_tokens(
    input_ids: tf.Tensor,
    input_mask: tf.Tensor,
    noise: MaskingNoise,
    config: ElectraConfig,
    special_ids: tuple[int, ...],
    mask_id: int,
) -> MaskedTokens:
    """Chooses the positions to predict and puts [MASK] at 85% of them (D1; paper section 3.1).

    Of an example's real tokens, the special ones included, `mask_prob` are chosen, at least one and
    at most `max_predictions_per_seq`; never [CLS], [SEP], [MASK] or padding. masking="unique" draws
    without replacement; "original" with replacement, so that some positions come twice. An example
    without candidates gets no predictions.

    Args:
        input_ids, input_mask: int32 [batch, length].
        noise: uniform numbers.
        config: objective.
        special_ids: ids of tokens that are never chosen.
        mask_id: id of [MASK].
    """
    slots = config.max_predictions_per_seq
    candidates = tf.cast(input_mask, tf.bool)
    for special_id in special_ids:
        candidates &= input_ids != special_id
    num_candidates = tf.reduce_sum(tf.cast(candidates, tf.int32), axis=1)
    num_tokens = tf.cast(tf.reduce_sum(input_mask, axis=1), tf.float32)
    num_to_predict = tf.cast(tf.round(num_tokens * config.mask_prob), tf.int32)  # half to even
    num_to_predict = tf.clip_by_value(num_to_predict, 1, slots)

    if config.masking == "unique":
        num_to_predict = tf.minimum(num_to_predict, num_candidates)
        _, positions = tf.math.top_k(tf.where(candidates, noise.scores, -1.0), k=slots)
    else:
        num_to_predict = tf.where(num_candidates > 0, num_to_predict, 0)
        by_candidate = tf.argsort(
            tf.cast(candidates, tf.int32), direction="DESCENDING", stable=True
        )
        draw = noise.scores[:, :slots] * tf.cast(num_candidates, tf.float32)[:, tf.newaxis]
        draw = tf.minimum(tf.cast(draw, tf.int32), num_candidates[:, tf.newaxis] - 1)
        positions = tf.gather(by_candidate, tf.maximum(draw, 0), batch_dims=1)

    used = tf.range(slots) < num_to_predict[:, tf.newaxis]
    positions = tf.where(used, positions, 0)
    labels = tf.where(used, tf.gather(input_ids, positions, batch_dims=1), 0)
    masked = tf.cast(used & (noise.keep < config.mask_token_prob), tf.int32)
    is_masked = tf.tensor_scatter_nd_max(
        tf.zeros_like(input_ids), _batch_indices(positions), masked
    )
    return MaskedTokens(
        input_ids=tf.where(is_masked > 0, mask_id, input_ids),
        positions=positions,
        labels=labels,
        weights=tf.cast(used, tf.float32),
    )


def corrupt_tokens(
    input_ids: tf.Tensor, masked: MaskedTokens, sampled_ids: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts the generator's samples into the original text (D2.11, D2.12).

    A position that was drawn twice (masking="original") gets the floor of the mean of its sampled
    ids, as in the original.

    Args:
        input_ids: int32 [batch, length], the original tokens.
        masked: the positions.
        sampled_ids: int32 [batch, predictions].

    Returns:
        corrupted_ids: int32 [batch, length].
        replaced: bool [batch, length], where the corrupted token differs from the original.
    """
    indices = _batch_indices(masked.positions)
    used = tf.cast(masked.weights, tf.int32)
    zeros = tf.zeros_like(input_ids)
    counts = tf.tensor_scatter_nd_add(zeros, indices, used)
    sums = tf.tensor_scatter_nd_add(zeros, indices, used * sampled_ids)
    corrupted_ids = tf.where(counts > 0, sums // tf.maximum(counts, 1), input_ids)
    return corrupted_ids, corrupted_ids != input_ids
