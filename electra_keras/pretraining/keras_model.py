"""What Keras asks of the models beside their step: compile, fit, evaluate, save and export."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import keras
import tensorflow as tf
from absl import logging

Batch = Mapping[str, tf.Tensor]


def static_shape(batch: Batch) -> tuple[int, int]:
    """Returns the rows and the length of a batch.

    Raises:
        ValueError: they are not known while the step is traced.
    """
    rows, length = batch["input_ids"].shape
    if rows is None or length is None:
        raise ValueError(
            f"the shape of a batch must be known, but input_ids is [{rows}, {length}]: make all batches "
            "of the same size, as dataset.batch(32, drop_remainder=True) does"
        )
    return rows, length


class ReportSums(keras.metrics.Metric):
    """Adds up the reports of the steps of an epoch; its result is what `summarize` makes of the sums.

    They are float64: float32 stops counting at 2^24, which the tokens of an epoch pass. They are no part
    of a saved model, as each epoch starts anew.

    Args:
        size: of a report.
        summarize: turns the sums, float64 [size], into metrics in the graph.

    Attributes:
        totals: float64 [size].
        batches: int64, how many were added.
    """

    def __init__(self, size: int, summarize: Callable[[tf.Tensor], dict[str, tf.Tensor]]) -> None:
        super().__init__(name="report")
        self._summarize = summarize
        self.totals = self.add_weight(
            shape=(size,), initializer="zeros", dtype="float64", name="totals"
        )
        self.batches = self.add_weight(shape=(), initializer="zeros", dtype="int64", name="batches")

    def update_state(self, report: tf.Tensor) -> None:
        """Adds one batch's report, float32 [size]."""
        self.totals.assign_add(tf.cast(report, tf.float64))
        self.batches.assign_add(1)

    def result(self) -> dict[str, tf.Tensor]:
        """Returns the metrics so far as float32 scalars."""
        metrics = self._summarize(tf.convert_to_tensor(self.totals))
        return {name: tf.cast(value, tf.float32) for name, value in metrics.items()}

    def save_own_variables(self, store: dict[str, Any]) -> None:
        """Saves nothing."""

    def load_own_variables(self, store: dict[str, Any]) -> None:
        """Loads nothing."""


class StepModel(keras.Model):
    """A keras.Model whose step reports sums, in `fit` as in the training loop.

    `fit` and `evaluate` run on one device; the commands train on several (`training/loop.py`). Batches
    are dictionaries of tensors. Subclasses have `training_update`, `evaluation_statistics` and
    `summarize_tensor`, and `report_sums`.

    Attributes:
        input_shapes: of what `call` reads of a batch, int32.
        report_size: entries of a step's report.
    """

    input_shapes: Mapping[str, tuple[None, ...]]
    report_size: int

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer,
        jit_compile: bool | str = "auto",
        **kwargs: Any,
    ) -> None:
        """Sets the optimizer and whether XLA compiles blocks and heads ("auto": yes).

        Keras itself must not compile the whole step: XLA's random numbers are slow on CPU, and the
        all-reduce stays outside. Forward and backward pass in one piece would make no faster step,
        but take twice as long to compile.

        In float16 the loss is scaled: by an `ElectraOptimizer` itself, unless it was told otherwise,
        and around any other optimizer by Keras, which looks at the first replica's gradients only.
        """
        scales_itself = hasattr(optimizer, "dynamic_loss_scale")
        if self.compute_dtype == "float16":
            replicas = tf.distribute.get_strategy().num_replicas_in_sync
            if scales_itself:
                optimizer.scale_loss_by_default()
            elif replicas > 1:
                logging.warning(
                    "Keras looks for gradients that are not finite on the first of %d replicas alone: "
                    "use ElectraOptimizer",
                    replicas,
                )
        super().compile(
            optimizer=optimizer, jit_compile=False, auto_scale_loss=not scales_itself, **kwargs
        )
        self.use_xla = jit_compile in ("auto", "on", True)
        # Keras would do so after the first backward pass, but the loss scale is one of its variables.
        self.optimizer.build(self.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Returns what both models have, as JSON values: `frozen`, paths of what is not trained."""
        frozen = [variable.path for variable in self.weights if not variable.trainable]
        return super().get_config() | {"frozen": frozen}

    def freeze(self, paths: Collection[str]) -> None:
        """Marks weights as not trained, by their paths."""
        for variable in self.weights:
            if variable.path in paths:
                variable.trainable = False

    def get_compile_config(self) -> dict[str, Any]:
        """Returns what `compile` was told, for saving."""
        config = super().get_compile_config()
        kept = ("optimizer", "run_eagerly", "steps_per_execution")
        if not config:
            return {}
        return {name: config[name] for name in kept} | {"jit_compile": self.use_xla}

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles a loaded model as the saved one was."""
        self.compile(**keras.saving.deserialize_keras_object(config))

    def export(self, filepath: str, *args: Any, **kwargs: Any) -> None:
        """Exports `call` as `keras.Model.export` does, for batches of any size and length.

        `electra_keras.export` makes of a model directory a SavedModel that reads text.
        """
        signature = {
            name: keras.InputSpec("int32", shape) for name, shape in self.input_shapes.items()
        }
        super().export(filepath, *args, **{"input_signature": [signature]} | kwargs)

    def read_batch(self, data: Any) -> Batch:
        """Returns the batch of what Keras hands to a step; segment ids that are missing are 0.

        Raises:
            ValueError: it is not one dictionary, or something else is missing.
        """
        batch, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        if targets is not None or weights is not None:
            raise ValueError(
                "a batch is one dictionary: give the targets by name in it, as labels, in place of y, "
                "and no sample weights"
            )
        needed = [name for name in self.input_shapes if name != "segment_ids"]
        missing = [name for name in needed if not isinstance(batch, Mapping) or name not in batch]
        if missing:
            have = ", ".join(batch) if isinstance(batch, Mapping) else type(batch).__name__
            raise ValueError(
                f"a batch is a dictionary with {', '.join(needed)}: {missing[0]} is missing from {have}"
            )
        return {"segment_ids": tf.zeros_like(batch["input_ids"])} | dict(batch)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One optimizer step, for `fit`; returns the metrics since the start of the epoch."""
        self.report_sums.update_state(self.training_update(self.read_batch(data)))
        return self.report_sums.result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One evaluation batch, for `evaluate`; noise, where there is any, is the n-th batch's."""
        step = tf.cast(self.report_sums.batches, tf.int32)
        self.report_sums.update_state(self.evaluation_statistics(self.read_batch(data), step))
        return self.report_sums.result()
