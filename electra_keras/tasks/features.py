"""Tokenized examples in memory, and the batches that are made of them."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from electra_keras.console import UserError, reason

Features = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class FeatureFeed:
    """What `Trainer` reads in fine-tuning; the order is a function of (seed, epoch).

    The examples of an epoch that do not fill a batch are left out of it; each epoch leaves out others.

    Attributes:
        features: arrays whose first axis are the examples.
        global_batch_size: examples per step, over all replicas.
        seed: of the order.
        train_steps: of the whole run.
    """

    features: Features
    global_batch_size: int
    seed: int
    train_steps: int

    @property
    def num_examples(self) -> int:
        """Examples in the features."""
        return len(next(iter(self.features.values())))

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch; `FineTuningOptions.resolve` sees to it that there is one."""
        return self.num_examples // self.global_batch_size

    def order(self, step: int) -> np.ndarray:
        """Returns which examples each batch from `step` to the end holds, [steps, batch]."""
        batches, per_epoch = [], self.steps_per_epoch
        for epoch in range(step // per_epoch, -(-self.train_steps // per_epoch)):
            order = np.random.default_rng([self.seed, epoch]).permutation(self.num_examples)
            order = order[: per_epoch * self.global_batch_size]
            batches.append(order.reshape(per_epoch, self.global_batch_size))
        skipped = step // per_epoch * per_epoch
        return np.concatenate(batches)[step - skipped : self.train_steps - skipped]

    @functools.cached_property
    def _lengths(self) -> np.ndarray:
        """Those of the examples of all steps, [train_steps, batch]."""
        return self.features["lengths"][self.order(0)]

    def longest(self, step: int, count: int, parts: int) -> np.ndarray:
        """Returns how long the longest example of each part of the batches is.

        So the model knows its bucket without a look at what is on a GPU already.

        Args:
            step: the first batch.
            count: batches.
            parts: micro-batches of all replicas; each is computed at a length of its own.

        Returns:
            int32 [count, parts]; 0 behind the last step of the run.
        """
        lengths = self._lengths[step : step + count]
        longest = np.zeros((count, parts), np.int32)
        longest[: len(lengths)] = lengths.reshape(len(lengths), parts, -1).max(axis=-1)
        return longest

    def dataset(
        self, step: int, num_hosts: int = 1, host: int = 0, replicas_per_host: int = 1
    ) -> tf.data.Dataset:
        """Returns per-replica batches from `step` on."""
        order = self.order(step)
        rows = self.global_batch_size // num_hosts
        order = order[:, host * rows : (host + 1) * rows]
        order = order.reshape(-1, rows // replicas_per_host)
        arrays = {name: tf.constant(values) for name, values in self.features.items()}
        dataset = tf.data.Dataset.from_tensor_slices(order.astype(np.int32))
        return dataset.map(
            lambda rows: {name: tf.gather(values, rows) for name, values in arrays.items()}
        ).prefetch(2 * replicas_per_host)

    def explain(self, error: tf.errors.OpError) -> UserError:
        """Returns what an error of TensorFlow's in the loop means."""
        if isinstance(error, tf.errors.ResourceExhaustedError):
            return UserError(
                "out of memory: give --recompute, raise --gradient_accumulation_steps, or lower "
                "--train_batch_size or --max_seq_length"
            )
        return UserError(f"TensorFlow stopped: {reason(error)}")


def evaluation_batches(
    features: Features, batch_size: int, lengths: Sequence[int] = ()
) -> Iterator[tuple[np.ndarray, Features]]:
    """Yields the indexes and the arrays of batches of examples of like length, no longer than they.

    The padding beyond the longest example of a batch is cut off, to a multiple of 8.

    Args:
        features: `input_ids`, `segment_ids` [n, length], `lengths` [n].
        batch_size: examples.
        lengths: if given, in ascending order, the arrays have one of these lengths, and `batch_size`
            rows, the last ones of them copies where there are fewer indexes.
    """
    order = np.argsort(features["lengths"], kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        filled = np.pad(rows, (0, batch_size - len(rows) if lengths else 0), "edge")
        batch = {name: values[filled] for name, values in features.items()}
        longest = int(batch["lengths"].max())
        length = next((length for length in lengths if length >= longest), -(-longest // 8) * 8)
        for name in ("input_ids", "segment_ids"):
            batch[name] = batch[name][:, :length]
        yield rows, batch
