"""Gradients of a batch that is computed in parts, where the whole does not fit into memory."""

from collections.abc import Callable, Sequence

import tensorflow as tf

# Cuts a micro-batch's rows out of a tensor of the whole batch.
Part = Callable[[tf.Tensor], tf.Tensor]


def accumulate(
    run: Callable[[tf.Tensor | int, Part], tuple[list[tf.Tensor], tf.Tensor]],
    rows: int,
    micro_batches: int,
    gradient_shapes: Sequence[tuple],
    report_size: int,
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Adds up the gradients and reports of a replica's micro-batches.

    Args:
        run: takes the micro-batch's index and its `Part`; returns gradients and a report.
        rows: of the replica's batch.
        micro_batches: how many parts of it; `rows` must be a multiple.
        gradient_shapes: (shape, dtype) of the gradients.
        report_size: length of the report, a float32 vector.

    Raises:
        ValueError: the batch cannot be divided.
    """
    if rows % micro_batches:
        raise ValueError(f"batch of {rows} is not divisible into {micro_batches} micro-batches")
    if micro_batches == 1:
        return run(0, lambda tensor: tensor)
    part_rows = rows // micro_batches

    def body(index: tf.Tensor, sums: list[tf.Tensor], report: tf.Tensor) -> tuple:
        def part(tensor: tf.Tensor) -> tf.Tensor:
            begin = [index * part_rows] + [0] * (len(tensor.shape) - 1)
            return tf.slice(tensor, begin, [part_rows, *tensor.shape[1:]])

        gradients, micro_report = run(index, part)
        sums = [total + gradient for total, gradient in zip(sums, gradients, strict=True)]
        return index + 1, sums, report + micro_report

    _, gradients, report = tf.while_loop(
        lambda index, *_: index < micro_batches,
        body,
        (
            tf.constant(0),
            [tf.zeros(shape, dtype) for shape, dtype in gradient_shapes],
            tf.zeros([report_size]),
        ),
        # Forward passes do not wait for each other: by default ten run ahead, and keep what they made.
        parallel_iterations=1,
    )
    return gradients, report


def on_tpu() -> bool:
    """Whether the step is made on TPUs, where it is compiled as a whole, at one shape."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)
