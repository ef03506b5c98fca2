"""Evaluation of a pre-trained model on held-out records, under any strategy."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from electra_keras.data.pipeline import (
    ReadableRecords,
    evaluation_dataset,
    explain_error,
    num_evaluation_batches,
)
from electra_keras.pretraining import statistics
from electra_keras.pretraining.pretrainer import ElectraPretrainer


def distribute(
    strategy: tf.distribute.Strategy, make_dataset: Callable[..., tf.data.Dataset]
) -> tf.distribute.DistributedDataset:
    """Returns a dataset of per-replica batches.

    Args:
        strategy: decides how many replicas each host feeds.
        make_dataset: takes num_hosts, host and replicas_per_host by keyword.
    """

    def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_dataset(
            num_hosts=context.num_input_pipelines,
            host=context.input_pipeline_id,
            replicas_per_host=context.num_replicas_in_sync // context.num_input_pipelines,
        )

    return strategy.distribute_datasets_from_function(make)


def with_static_shape(batch: dict[str, tf.Tensor], rows: int, length: int) -> dict[str, tf.Tensor]:
    """Returns the batch with the shape that MultiWorkerMirroredStrategy has forgotten."""
    return {name: tf.ensure_shape(values, [rows, length]) for name, values in batch.items()}


class Evaluator:
    """Evaluates a model on all validation records (or a number of batches), the same way each time.

    Args:
        strategy, model: what to run and where.
        source: the records.
        global_batch_size: examples per batch, over all replicas.
        max_batches: at most so many batches.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: ElectraPretrainer,
        source: ReadableRecords,
        global_batch_size: int,
        max_batches: int | None = None,
    ) -> None:
        self.strategy, self.model = strategy, model
        rows = global_batch_size // strategy.num_replicas_in_sync
        length = source.records.max_seq_length
        self.source = source
        self.num_batches = num_evaluation_batches(source, global_batch_size, max_batches)
        self.dataset = distribute(
            strategy,
            lambda **hosts: evaluation_dataset(
                source,
                model.config.discriminator.vocab_size,
                global_batch_size,
                max_batches,
                **hosts,
            ),
        )

        def evaluate(batch: dict[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
            return model.evaluation_statistics(with_static_shape(batch, rows, length), step)

        @tf.function(autograph=False)
        def statistics_of(batch: dict[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
            per_replica = strategy.run(evaluate, args=(batch, step))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

        @tf.function(autograph=False)
        def corrupt(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            def judge(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                batch = with_static_shape(batch, rows, length)
                _, outputs = model.corrupt(batch, tf.constant(0))
                names = ("corrupted_ids", "discriminator_logits")
                return {name: outputs[name] for name in names}

            return strategy.run(judge, args=(batch,))

        self._statistics_of, self._corrupt = statistics_of, corrupt

    def metrics(self, on_batch: Callable[[int], None] | None = None) -> dict[str, float]:
        """Returns the metrics over the whole dataset; calls `on_batch` with the batches done.

        Raises:
            UserError: records that cannot be read, or do not fit the vocabulary.
        """
        totals = np.zeros(statistics.SIZE)
        try:
            iterator = iter(self.dataset)
            for step in range(self.num_batches):
                totals += self._statistics_of(next(iterator), tf.constant(step)).numpy()
                if on_batch is not None:
                    on_batch(step + 1)
        except tf.errors.OpError as error:
            raise explain_error(error, self.source) from error
        config = self.model.config
        return statistics.summarize(totals, config.generator_weight, config.discriminator_weight)

    def examples(self, count: int) -> dict[str, np.ndarray]:
        """Returns the first validation examples as the discriminator sees and judges them.

        Returns:
            `input_ids`, `input_mask`, `corrupted_ids`, `discriminator_logits`: [<= count, length].
        """
        batch = next(iter(self.dataset))
        outputs = self._corrupt(batch)
        values = {name: batch[name] for name in ("input_ids", "input_mask")} | outputs
        return {
            name: self.strategy.experimental_local_results(value)[0].numpy()[:count]
            for name, value in values.items()
        }
