"""Losses of generator and discriminator and the generator's samples, as pure functions."""

from collections.abc import Callable

import tensorflow as tf

from electra_keras.modeling.compiled import Keep, keep_nothing

_SAMPLING_BLOCK = 128


def masked_language_model_loss(
    logits: tf.Tensor, labels: tf.Tensor, keep: Keep = keep_nothing
) -> tf.Tensor:
    """Returns the negative log-likelihood of each label, in nats.

    It sums what `sample_tokens` sums, so that a compiled function that calls both reads the logits
    twice, and its gradient keeps the logits only: TensorFlow's op computes the gradient along with
    the loss, and keeps that too.

    Args:
        logits: float [batch, predictions, vocab_size].
        labels: int32 [batch, predictions].
        keep: takes what the backward pass uses again, where that is compiled.
    """

    @tf.custom_gradient
    def loss(logits: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        largest, sums = _exponential_sums(logits)
        log_total = keep(tf.math.log(tf.reduce_sum(sums, axis=-1, keepdims=True)) + largest)

        def gradient(loss_gradient: tf.Tensor) -> tf.Tensor:
            is_label = tf.range(logits.shape[-1]) == labels[..., tf.newaxis]
            difference = tf.exp(logits - log_total) - tf.cast(is_label, logits.dtype)
            return difference * loss_gradient[..., tf.newaxis]

        return log_total[..., 0] - tf.gather(logits, labels, batch_dims=2), gradient

    return loss(logits)


def replaced_token_loss(logits: tf.Tensor, replaced: tf.Tensor) -> tf.Tensor:
    """Returns the binary cross-entropy of each token, in nats; arguments [batch, length]."""
    return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(replaced, tf.float32), logits)


def sample_tokens(
    logits: tf.Tensor,
    uniforms: tf.Tensor,
    temperature: float = 1.0,
    disallowed_ids: tf.Tensor | None = None,
) -> tf.Tensor:
    """Draws one token per position from softmax(logits / temperature); no gradient flows.

    The distribution is that of the original's Gumbel-max, argmax(logits / temperature + Gumbel noise),
    but it takes two uniform numbers per position in place of one Gumbel number (two logarithms) per
    position and vocabulary entry: the distribution function is inverted first over blocks of the
    vocabulary, then inside the block.

    Args:
        logits: float32 [batch, predictions, vocab_size].
        uniforms: float32 [batch, predictions, 2] in [0, 1).
        temperature: below 1 sharpens the distribution.
        disallowed_ids: int32 [batch, predictions], a token that must not be drawn at the position
            (the original's disallow_correct), or None.

    Returns:
        int32 [batch, predictions].
    """
    logits = tf.stop_gradient(tf.cast(logits, tf.float32))
    vocab_size = logits.shape[-1]
    if temperature != 1.0:
        logits /= temperature
    if disallowed_ids is not None:
        is_disallowed = tf.range(vocab_size) == disallowed_ids[..., tf.newaxis]
        logits = tf.where(is_disallowed, -float("inf"), logits)
    largest, sums = _exponential_sums(logits)
    block = _invert_cumulative(sums, uniforms[..., 0])
    ids = block[..., tf.newaxis] * _SAMPLING_BLOCK + tf.range(_SAMPLING_BLOCK)
    of_block = tf.gather(logits, tf.minimum(ids, vocab_size - 1), batch_dims=2)
    weights = tf.where(ids < vocab_size, tf.exp(of_block - largest), tf.zeros([], logits.dtype))
    return block * _SAMPLING_BLOCK + _invert_cumulative(weights, uniforms[..., 1])


def _exponential_sums(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the largest logit [..., 1] and sums of exp(logits - largest) [..., blocks]."""
    largest = tf.reduce_max(logits, axis=-1, keepdims=True)
    before = [[0, 0]] * (len(logits.shape) - 1)
    padding = [*before, [0, -logits.shape[-1] % _SAMPLING_BLOCK]]
    padded = tf.pad(logits, padding, constant_values=-float("inf"))
    blocks = [*logits.shape[:-1], padded.shape[-1] // _SAMPLING_BLOCK, _SAMPLING_BLOCK]
    return largest, tf.reduce_sum(tf.reshape(tf.exp(padded - largest), blocks), axis=-1)


def _invert_cumulative(weights: tf.Tensor, uniforms: tf.Tensor) -> tf.Tensor:
    """Returns the first index whose cumulative weight exceeds `uniforms` x the total.

    An index of zero weight is never returned; the factor keeps the threshold below the total after
    rounding, so that there is always one.
    """
    # A product with a triangle of ones: XLA computes tf.cumsum in time that grows with the square.
    size = weights.shape[-1]
    triangle = tf.linalg.band_part(tf.ones([size, size], weights.dtype), 0, -1)
    cumulative = tf.tensordot(weights, triangle, 1)
    threshold = (uniforms * (1 - 1e-6))[..., tf.newaxis] * cumulative[..., -1:]
    exceeds = (cumulative > threshold) & (weights > 0)
    return tf.argmax(exceeds, axis=-1, output_type=tf.int32)
