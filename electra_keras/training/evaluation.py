"""Evaluation of a pre-trained model on held-out records, under any strategy."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from electra_keras.data.pipeline import (
    READ_ERRORS,
    ReadableRecords,
    evaluated_examples,
    evaluation_dataset,
    explain_error,
    num_evaluation_batches,
)
from electra_keras.pretraining import statistics
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.training.distribution import distribute, with_static_shape
from electra_keras.training.summaries import SummaryWriter, token_verdicts


class Evaluator:
    """Evaluates a model on validation records, all or a fixed part, the same way each time.

    Args:
        strategy, model: what to run and where.
        source: the records.
        global_batch_size: examples per batch, over all replicas.
        max_batches: at most so many batches.
        best_metric: the one that `is_better` looks at.
        tokens: the vocabulary, for `show`.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: ElectraPretrainer,
        source: ReadableRecords,
        global_batch_size: int,
        max_batches: int | None = None,
        best_metric: str = "discriminator_auc",
        tokens: Sequence[str] = (),
    ) -> None:
        self.best_metric, self.tokens = best_metric, list(tokens)
        self.strategy, self.model = strategy, model
        rows = global_batch_size // strategy.num_replicas_in_sync
        self.source = source
        self.num_batches = num_evaluation_batches(source, global_batch_size, max_batches)
        self.num_examples = sum(evaluated_examples(source, global_batch_size, max_batches))
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
            return model.evaluation_statistics(with_static_shape(batch, rows), step)

        @tf.function(autograph=False)
        def statistics_of(batch: dict[str, tf.Tensor], step: tf.Tensor) -> tf.Tensor:
            per_replica = strategy.run(evaluate, args=(batch, step))
            return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica, axis=None)

        @tf.function(autograph=False)
        def corrupt(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            def judge(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
                batch = with_static_shape(batch, rows)
                _, outputs = model.corrupt(batch, tf.constant(0))
                names = ("corrupted_ids", "discriminator_logits")
                return {name: outputs[name] for name in names}

            return strategy.run(judge, args=(batch,))

        self._statistics_of, self._corrupt = statistics_of, corrupt

    def coverage(self) -> str:
        """Says how much of the split is evaluated."""
        total = self.source.num_examples
        if self.num_examples == total:
            return f"evaluations are of all {total:,} examples of the split"
        return (
            f"evaluations are of {self.num_examples:,} of the split's {total:,} examples, always the "
            "same, from all files; --eval_batches=0 takes all"
        )

    def metrics(self, on_batch: Callable[[int], None] | None = None) -> dict[str, float]:
        """Returns the metrics over the whole dataset; calls `on_batch` with the batches done.

        What `on_batch` raises ends the evaluation.

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
        except READ_ERRORS as error:
            raise explain_error(error, self.source) from error
        return self.model.summarize(totals)

    def is_better(self, metrics: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether the best metric is better than in `best`; any number is better than none."""
        value, before = metrics[self.best_metric], (best or {}).get(self.best_metric, math.nan)
        if math.isnan(before):
            return not math.isnan(value)
        return value > before if self.best_metric == "discriminator_auc" else value < before

    def describe(self, metrics: dict[str, float]) -> str:
        """Returns the metrics of a log line."""
        return (
            "generator at [MASK] {generator_masked_loss:.3f}  discriminator {discriminator_loss:.4f}  "
            "auc {discriminator_auc:.3f}  recall {discriminator_recall:.3f}"
        ).format(**metrics)

    def show(self, summaries: SummaryWriter | None, step: int) -> None:
        """Writes the verdicts on four examples; judging them takes all workers."""
        verdicts = token_verdicts(self.examples(4), self.tokens)
        if summaries is not None:
            summaries.verdicts(step, verdicts)

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
