"""Seeds without state: every random number of a step is a function of (seed, purpose, step, ...)."""

import enum

import tensorflow as tf


class Purpose(enum.IntEnum):
    """What a seed is for; each purpose has its own stream."""

    MASK_POSITIONS = 0
    MASK_TOKENS = 1
    SAMPLES = 2
    GENERATOR_DROPOUT = 3
    DISCRIMINATOR_DROPOUT = 4


def make_key(seed: int, purpose: Purpose, *counters: tf.Tensor | int) -> tf.Tensor:
    """Returns an int32 [2] seed for tf.random.stateless_* ops.

    Args:
        seed: the run's seed.
        purpose: which stream.
        *counters: integers that number the draw: the step, and the slice of the batch where each
            slice draws its own.
    """
    key = tf.constant([seed & 0x7FFFFFFF, int(purpose)], tf.int32)
    for counter in counters:
        key = tf.random.experimental.stateless_fold_in(key, counter)
    return key


def batch_uniforms(
    key: tf.Tensor, shape: tuple[int, ...], replica: tf.Tensor | int, num_replicas: int
) -> tf.Tensor:
    """Returns this replica's rows of uniform numbers that are drawn for the whole global batch.

    So an example's numbers depend on its place in the global batch alone, whatever the number of
    replicas. `shape` is the replica's, rows first; the numbers are float32 in [0, 1).
    """
    rows = tf.random.stateless_uniform((shape[0] * num_replicas, *shape[1:]), seed=key)
    return tf.slice(rows, [replica * shape[0]] + [0] * (len(shape) - 1), shape)
