"""What a step reports: sums over tokens that add up exactly over micro-batches, replicas and steps."""

import math
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

SUMS = (
    "masked",  # predicted positions
    "generator_nll",  # sum of negative log-likelihoods, nats
    "generator_correct",  # label has the highest logit
    "sampled_correct",  # the sample is the label
    "hidden",  # predicted positions that show [MASK], not the kept token
    "hidden_nll",  # their sum of negative log-likelihoods, nats
    "tokens",  # real tokens
    "discriminator_nll",  # sum of binary cross-entropies, nats
    "replaced",  # tokens that were replaced
    "flagged",  # tokens with a logit above 0
    "flagged_replaced",  # both
)
# Logits are counted in bins for the area under the ROC curve. A bin is 0.0046 (4 + |logit|) wide, 0.02
# at a logit of 0 and 0.2 at 40, up to 400 on each side: the logits of a confident model lie far out, and
# there may be told apart more coarsely.
AUC_BINS, _AUC_RANGE, _AUC_SCALE = 2000, 400.0, 4.0
SIZE = len(SUMS) + 2 * AUC_BINS


def collect(
    weights: tf.Tensor,
    generator_nll: tf.Tensor,
    generator_correct: tf.Tensor,
    sampled_correct: tf.Tensor,
    hidden: tf.Tensor,
    input_mask: tf.Tensor,
    discriminator_nll: tf.Tensor,
    discriminator_logits: tf.Tensor,
    replaced: tf.Tensor,
) -> tf.Tensor:
    """Returns the sums of one micro-batch, float32 [SIZE]: `SUMS`, then the two histograms of
    logits, of replaced tokens and of original ones. Padding counts nowhere (D3.17).

    The first five arguments are [batch, predictions], the others [batch, length].
    """
    mask = tf.cast(input_mask, tf.float32)
    positive = mask * tf.cast(replaced, tf.float32)
    flagged = tf.cast(discriminator_logits > 0, tf.float32)
    sums = tf.stack(
        [
            tf.reduce_sum(weights),
            tf.reduce_sum(weights * generator_nll),
            tf.reduce_sum(weights * tf.cast(generator_correct, tf.float32)),
            tf.reduce_sum(weights * tf.cast(sampled_correct, tf.float32)),
            tf.reduce_sum(weights * tf.cast(hidden, tf.float32)),
            tf.reduce_sum(weights * tf.cast(hidden, tf.float32) * generator_nll),
            tf.reduce_sum(mask),
            tf.reduce_sum(mask * discriminator_nll),
            tf.reduce_sum(positive),
            tf.reduce_sum(mask * flagged),
            tf.reduce_sum(positive * flagged),
        ]
    )
    squeezed = tf.sign(discriminator_logits) * tf.math.log1p(
        tf.abs(discriminator_logits) / _AUC_SCALE
    )
    widest = math.log1p(_AUC_RANGE / _AUC_SCALE)
    scaled = (squeezed + widest) * (AUC_BINS / (2 * widest))
    bins = tf.floor(tf.clip_by_value(scaled, 0, AUC_BINS - 1))
    bins = tf.cast(tf.reshape(tf.where(replaced, bins, bins + AUC_BINS), [-1]), tf.int32)
    histograms = tf.math.unsorted_segment_sum(tf.reshape(mask, [-1]), bins, 2 * AUC_BINS)
    return tf.concat([sums, histograms], axis=0)


def summarize(
    totals: np.ndarray, generator_weight: float, discriminator_weight: float
) -> dict[str, float]:
    """Turns sums [SIZE] into the metrics of the run: means per token, in nats, and ratios.

    A ratio whose denominator is 0 is NaN: the precision of a discriminator that flags nothing.
    """
    totals = np.asarray(totals, np.float64)
    metrics = _summarize(totals, generator_weight, discriminator_weight, np)
    return {name: float(value) for name, value in metrics.items()}


def summarize_tensor(
    totals: tf.Tensor, generator_weight: float, discriminator_weight: float
) -> dict[str, tf.Tensor]:
    """Returns what `summarize` does, of a float64 tensor, as float64 scalars in the graph."""
    return _summarize(totals, generator_weight, discriminator_weight, tf.experimental.numpy)


def _summarize(
    totals: Any, generator_weight: float, discriminator_weight: float, xp: ModuleType
) -> dict[str, Any]:
    """Returns what `summarize` does as float64 scalars.

    Args:
        totals: float64 [SIZE], of numpy or TensorFlow.
        generator_weight, discriminator_weight: of the losses.
        xp: the functions for it, `numpy` or `tf.experimental.numpy`.
    """
    sums = {name: totals[i] for i, name in enumerate(SUMS)}

    def ratio(numerator: Any, denominator: Any) -> Any:
        return numerator / xp.where(denominator == 0, math.nan, denominator)

    generator_loss = ratio(sums["generator_nll"], sums["masked"])
    discriminator_loss = ratio(sums["discriminator_nll"], sums["tokens"])
    wrong = sums["replaced"] + sums["flagged"] - 2 * sums["flagged_replaced"]
    # The chance that a replaced token has a higher logit than an original one; in one bin it is half.
    positives, negatives = totals[len(SUMS) : -AUC_BINS], totals[-AUC_BINS:]
    negatives_below = xp.cumsum(negatives) - negatives
    ordered = xp.sum(positives * (negatives_below + 0.5 * negatives))
    return {
        "loss": generator_weight * generator_loss + discriminator_weight * discriminator_loss,
        "generator_loss": generator_loss,
        # Where the original token was kept, copying it is enough: only this loss shows what has
        # been learned, and compares with the entropy of the corpus.
        "generator_masked_loss": ratio(sums["hidden_nll"], sums["hidden"]),
        "generator_accuracy": ratio(sums["generator_correct"], sums["masked"]),
        "sampled_accuracy": ratio(sums["sampled_correct"], sums["masked"]),
        "discriminator_loss": discriminator_loss,
        "discriminator_accuracy": 1 - ratio(wrong, sums["tokens"]),
        "discriminator_precision": ratio(sums["flagged_replaced"], sums["flagged"]),
        "discriminator_recall": ratio(sums["flagged_replaced"], sums["replaced"]),
        "discriminator_auc": ratio(ordered, xp.sum(positives) * xp.sum(negatives)),
        "replaced_share": ratio(sums["replaced"], sums["tokens"]),
    }
