"""Several steps of the model under the strategy, in one call from Python."""

from typing import Any

import numpy as np
import tensorflow as tf

from electra_keras.training.distribution import with_static_shape
from electra_keras.training.interfaces import TrainableModel

# What a step reports behind its statistics; the same on every replica, so their mean is taken.
EXTRAS = ("gradient_norm", "learning_rate", "loss_scale", "stop_votes")


def make_step_function(
    strategy: tf.distribute.Strategy, model: TrainableModel, global_batch_size: int
) -> Any:
    """Returns a function of (iterator, number of steps, vote to stop, longest).

    It makes so many steps and returns what each reports, [count, report_size + extras]. `longest` is
    what `Feed.longest` says of the steps, int32 [count or more, parts], or None.
    """
    rows = global_batch_size // strategy.num_replicas_in_sync

    # Converting the model's code would only take time: it has no Python control flow to convert.
    @tf.autograph.experimental.do_not_convert
    def update(batch: dict[str, tf.Tensor], stop_vote: tf.Tensor, *longest: tf.Tensor) -> tf.Tensor:
        learning_rate = model.optimizer.current_rate()
        batch = with_static_shape(batch, rows)
        step_statistics = model.training_update(batch, *longest)
        extras = tf.stack(
            [
                tf.convert_to_tensor(model.optimizer.gradient_norm),
                learning_rate,
                tf.convert_to_tensor(model.optimizer.loss_scale),
                stop_vote,
            ]
        )
        return tf.concat([step_statistics, extras / strategy.num_replicas_in_sync], axis=0)

    @tf.function
    def run_steps(
        iterator: Any, count: tf.Tensor, stop_vote: tf.Tensor, longest: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Makes `count` steps; returns what each reports, [count, report_size + extras]."""
        width = model.report_size + len(EXTRAS)
        reports = tf.TensorArray(tf.float32, size=count, element_shape=[width])
        for i in tf.range(count):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            args = (next(iterator), stop_vote)
            if longest is not None:
                args += (longest[i],)
            per_replica = strategy.run(update, args=args)
            report = strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)
            reports = reports.write(i, report)
        return reports.stack()

    return run_steps


def describe_not_finite(
    model: TrainableModel, step: int, last_step: int, row: np.ndarray
) -> dict[str, Any]:
    """Returns what is written of a step that is not finite.

    Args:
        model: which made it.
        step: its number.
        last_step: the last one of the same call, after which the weights are what they are.
        row: its report, [report_size + extras].
    """
    return {
        "step": step,
        "statistics": dict(zip(model.report_names, row.tolist(), strict=False)),
        "extras": dict(zip(EXTRAS, row[-len(EXTRAS) :].tolist(), strict=True)),
        "weights_of_step": last_step,
        "largest_weights": {
            variable.path: float(tf.reduce_max(tf.abs(variable.value)))
            for variable in model.trainable_variables
        },
    }
