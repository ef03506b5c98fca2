"""What the training loop asks of a model, of its data and of its validation."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import tensorflow as tf

from electra_keras.console import UserError
from electra_keras.training.summaries import SummaryWriter


class TrainableModel(Protocol):
    """What the loop asks of a model; `ElectraPretrainer` and `FineTuner` are such.

    Attributes:
        report_names: of the first entries of a step's report; "tokens" among them.
        report_size: entries of a report; reports add up over replicas and steps.
        flops_per_example: operations of one example's training step.
    """

    report_names: tuple[str, ...]
    report_size: int
    flops_per_example: int

    def training_update(self, batch: dict[str, tf.Tensor], *longest: tf.Tensor) -> tf.Tensor:
        """Makes one optimizer step in the current replica; returns its report [report_size].

        Args:
            batch: this replica's.
            *longest: what `Feed.longest` says of the batch, [parts], where it is not None.
        """

    def summarize(self, totals: np.ndarray) -> dict[str, float]:
        """Turns the sum of reports into metrics, `loss` among them."""

    def describe(self, metrics: dict[str, float]) -> str:
        """Returns the metrics of a log line."""


class Feed(Protocol):
    """Where the training batches come from."""

    def dataset(self, step: int, **hosts: int) -> tf.data.Dataset:
        """Returns per-replica batches from `step` on; `hosts` as in `distribution.distribute`."""

    def longest(self, step: int, count: int, parts: int) -> np.ndarray | None:
        """Returns the tokens of the longest example in each of `parts` equal parts of the batches.

        They are int32 [count, parts], of the batches from `step` on, for a model whose step takes them;
        None: for one whose step does not.
        """

    def explain(self, error: tf.errors.OpError) -> UserError:
        """Returns what an error of TensorFlow's in the loop means."""


class Validation(Protocol):
    """Scores the model on held-out data; all workers call it alike."""

    def metrics(self, on_batch: Callable[[int], None]) -> dict[str, float]:
        """Returns the metrics of the model as it is.

        Calls `on_batch` after each batch, on all workers alike; what that raises ends the evaluation.
        """

    def is_better(self, metrics: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether metrics are better than the best so far."""

    def describe(self, metrics: dict[str, float]) -> str:
        """Returns the metrics of a log line."""

    def show(self, summaries: SummaryWriter | None, step: int) -> None:
        """Writes examples for people, where there are summaries (on the chief)."""
