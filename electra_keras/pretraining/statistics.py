"""What a step reports: sums over tokens that add up exactly over micro-batches, replicas and steps."""

import keras
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
# Logits are counted in bins of 0.04 between -10 and 10 for the area under the ROC curve.
AUC_BINS, _AUC_RANGE = 500, 10.0
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
    scaled = (discriminator_logits + _AUC_RANGE) * (AUC_BINS / (2 * _AUC_RANGE))
    bins = tf.cast(tf.clip_by_value(scaled, 0, AUC_BINS - 1), tf.int32)
    bins = tf.reshape(tf.where(replaced, bins, bins + AUC_BINS), [-1])
    histograms = tf.math.unsorted_segment_sum(tf.reshape(mask, [-1]), bins, 2 * AUC_BINS)
    return tf.concat([sums, histograms], axis=0)


def summarize(
    totals: np.ndarray, generator_weight: float, discriminator_weight: float
) -> dict[str, float]:
    """Turns sums [SIZE] into the metrics of the run: means per token, in nats, and ratios.

    A ratio whose denominator is 0 is NaN: the precision of a discriminator that flags nothing.
    """
    totals = np.asarray(totals, np.float64)
    sums = dict(zip(SUMS, totals[: len(SUMS)].tolist(), strict=True))

    def ratio(numerator: float, denominator: float) -> float:
        return numerator / denominator if denominator else float("nan")

    generator_loss = ratio(sums["generator_nll"], sums["masked"])
    discriminator_loss = ratio(sums["discriminator_nll"], sums["tokens"])
    wrong = sums["replaced"] + sums["flagged"] - 2 * sums["flagged_replaced"]
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
        "discriminator_auc": area_under_curve(totals[len(SUMS) :]),
        "replaced_share": ratio(sums["replaced"], sums["tokens"]),
    }


def area_under_curve(histograms: np.ndarray) -> float:
    """Returns the area under the ROC curve from the two histograms [2 * AUC_BINS], or NaN.

    That is the chance that a replaced token has a higher logit than an original one; tokens in the same
    bin count half.
    """
    positives, negatives = histograms[:AUC_BINS], histograms[AUC_BINS:]
    pairs = positives.sum() * negatives.sum()
    if not pairs:
        return float("nan")
    negatives_below = np.cumsum(negatives) - negatives
    return float((positives * (negatives_below + 0.5 * negatives)).sum() / pairs)


class PretrainingMetrics(keras.metrics.Metric):
    """Holds the sums as a Keras metric; its result is the dictionary of `summarize`."""

    def __init__(self, generator_weight: float, discriminator_weight: float) -> None:
        super().__init__(name="pretraining")
        self.loss_weights = (generator_weight, discriminator_weight)
        self.totals = self.add_weight(shape=(SIZE,), initializer="zeros", name="totals")
        self.batches = self.add_weight(shape=(), initializer="zeros", name="batches")

    def update_state(self, statistics: tf.Tensor) -> None:
        """Adds one batch's sums, float32 [SIZE]."""
        self.totals.assign_add(statistics)
        self.batches.assign_add(1.0)

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the metrics so far as scalars."""
        names = list(summarize(np.zeros(SIZE), 1, 1))
        values = tf.numpy_function(
            lambda totals: np.float32(list(summarize(totals, *self.loss_weights).values())),
            [tf.convert_to_tensor(self.totals)],
            tf.float32,
        )
        return dict(zip(names, tf.unstack(tf.ensure_shape(values, [len(names)])), strict=True))
