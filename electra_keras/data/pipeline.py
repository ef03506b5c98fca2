"""tf.data pipelines over TFRecords whose order is a pure function of (seed, epoch)."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Sequence

from electra_keras.console import UsageError, UserError
from electra_keras.data.errors import (
    READ_ERRORS,
    UNKNOWN_TOKEN,
    WRONG_COUNT,
    explain_error,
    explain_read_error,
)
from electra_keras.data.opening import ReadableRecords, open_records
from electra_keras.data.records import parse_batch

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf

__all__ = [
    "READ_ERRORS",
    "ReadableRecords",
    "TrainingFeed",
    "evaluated_examples",
    "evaluation_dataset",
    "explain_error",
    "explain_read_error",
    "num_evaluation_batches",
    "open_records",
    "positions_after",
    "training_dataset",
]

_FILES_AT_ONCE = 16
# Records of a file that are handed on, and counted, together.
_CHUNK = 256
_CHUNKS_AHEAD = 2


# Where reading stands in a file: its index in `RecordSet.files`, and examples read before.
Position = tuple[int, int]


def positions_after(
    order: Sequence[int], counts: Sequence[int], cycle: int, skipped: int
) -> list[Position]:
    """Returns what is left of `_read` after its first examples, without reading them.

    An interleaving has `cycle` places, which give one example in turn; a place whose file has ended
    passes once, and takes the next file at its next turn.

    Args:
        order: indexes of the files.
        counts: examples of each file, by its index.
        cycle: how many files are read in turns.
        skipped: examples that were read, at most the sum of the counts.

    Returns:
        the files that remain, in the order in which an interleaving of the remainder takes them.
    """
    waiting = deque(order)
    places: deque[list[int] | None] = deque([None] * cycle)  # file, examples read; at turn first
    while skipped:
        reading = [place for place in places if place is not None]
        if reading and (len(reading) == cycle or not waiting):
            # Rounds in which no file ends.
            left = min(counts[file] - done for file, done in reading)
            rounds = min(left, skipped // len(reading))
            for place in reading:
                place[1] += rounds
            skipped -= rounds * len(reading)
            if not skipped:
                break
        if places[0] is None and waiting:
            places[0] = [waiting.popleft(), 0]
        place = places[0]
        if place is not None and place[1] < counts[place[0]]:
            place[1] += 1
            skipped -= 1
        else:
            places[0] = None
        places.rotate(-1)
    remaining = []
    for place in places:
        if place is not None:
            remaining.append((place[0], place[1]))
        elif waiting:
            remaining.append((waiting.popleft(), 0))
    return remaining + [(file, 0) for file in waiting]


def _read(
    source: ReadableRecords,
    files: tf.Tensor,
    starts: tf.Tensor,
    stops: tf.Tensor,
    files_at_once: int,
) -> tf.data.Dataset:
    """Returns the serialized examples of files, one of each in turn.

    Args:
        source: the records.
        files: int [n], indexes of the files in the order in which they are opened.
        starts, stops: int64 [n], the examples of each that are read.
        files_at_once: how many files are read in turns.

    A file that ends early, or has more than its examples, ends the reading with an
    InvalidArgumentError.
    """
    records = source.records
    ends = tf.gather(tf.constant(source.examples_per_file, tf.int64), files)
    parts = [files, starts, stops, ends]
    if source.scans is not None:
        limits = [scan.examples + len(scan.bad_records) for scan in source.scans]
        bad = tf.ragged.constant(
            [scan.bad_records for scan in source.scans], dtype=tf.int64, ragged_rank=1
        )
        parts += [tf.gather(tf.constant(limits, tf.int64), files), tf.gather(bad, files)]

    def read_file(
        number: tf.Tensor, start: tf.Tensor, stop: tf.Tensor, end: tf.Tensor, *scan: tf.Tensor
    ) -> tf.data.Dataset:
        path = tf.gather(tf.constant(records.files), number)
        file = tf.data.TFRecordDataset(path, compression_type=records.compression)
        if scan:
            limit, bad = scan
            file = file.take(limit).enumerate()
            file = file.filter(lambda index, _: tf.reduce_all(index != bad))
            file = file.map(lambda _, record: record)
        # Read to its very end, to find that it is there, but where only a part is wanted.
        file = file.take(tf.where(stop < end, stop, tf.int64.max)).skip(start)

        def check(index: tf.Tensor, chunk: tf.Tensor) -> tf.Tensor:
            expected = tf.clip_by_value(stop - start - index * _CHUNK, 0, _CHUNK)
            right = tf.size(chunk, tf.int64) == expected
            with tf.control_dependencies([tf.debugging.Assert(right, [WRONG_COUNT, number])]):
                return tf.identity(chunk)

        nothing = tf.data.Dataset.from_tensors(tf.zeros([0], tf.string))
        chunks = file.batch(_CHUNK).concatenate(nothing).enumerate().map(check)
        # Each file is read ahead in a thread of its own; an interleaving in parallel has the same order
        # but costs more for each example than all the rest.
        return chunks.prefetch(_CHUNKS_AHEAD).unbatch()

    parts = tf.data.Dataset.from_tensor_slices(tuple(parts))
    return parts.interleave(read_file, cycle_length=files_at_once)


def _parse(serialized: tf.Tensor, source: ReadableRecords, vocab_size: int) -> dict[str, tf.Tensor]:
    batch = parse_batch(serialized, source.records.max_seq_length)
    # XLA would silently clamp such an id.
    message = f"{UNKNOWN_TOKEN} size {vocab_size}"
    with tf.control_dependencies(
        [tf.debugging.assert_less(batch["input_ids"], vocab_size, message)]
    ):
        batch["input_ids"] = tf.identity(batch["input_ids"])
    return batch


def training_dataset(
    source: ReadableRecords,
    vocab_size: int,
    global_batch_size: int,
    seed: int,
    shuffle_buffer: int,
    start_step: int = 0,
    num_hosts: int = 1,
    host: int = 0,
    replicas_per_host: int = 1,
) -> tf.data.Dataset:
    """Returns endless per-replica batches, beginning with those of `start_step`.

    Each epoch permutes the files, interleaves them and shuffles block after block, all seeded by
    (seed, epoch); the last, incomplete batch of an epoch is dropped. Every host reads all files and
    keeps its rows of each global batch, so the order does not depend on the number of hosts.
    What stands before `start_step` is passed over by whole blocks, without reading it.

    Args:
        source: the records.
        vocab_size: an id that is not below it ends the reading with an InvalidArgumentError.
        global_batch_size: examples per optimizer step over all replicas.
        seed: of the order.
        shuffle_buffer: examples of a block, held as serialized strings.
        start_step: optimizer step to continue at.
        num_hosts, host: how many hosts read, and which one this is.
        replicas_per_host: replicas fed from here; they get consecutive elements.

    Returns:
        Elements are dictionaries of int32 [global_batch_size / replicas, max_seq_length].

    Raises:
        UsageError: fewer examples than one batch; a batch that the replicas do not divide.
    """
    replicas = num_hosts * replicas_per_host
    if global_batch_size % replicas:
        raise UsageError(
            f"--train_batch_size={global_batch_size} is not a multiple of the {replicas} replicas"
        )
    batches_per_epoch = source.num_examples // global_batch_size
    if not batches_per_epoch:
        raise UsageError(
            f"--train_batch_size={global_batch_size} is more than the {source.num_examples} "
            "training examples"
        )

    counts = tf.constant(source.examples_per_file, tf.int64)

    def epoch_from(epoch: tf.Tensor, batch: int) -> tf.data.Dataset:
        """Returns an epoch's batches of serialized examples from one on; eager, if not the first."""
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), epoch)

        def shuffle(block: tf.Tensor | int, values: tf.Tensor) -> tf.Tensor:
            block_key = tf.random.experimental.stateless_fold_in(key, block)
            return tf.random.experimental.stateless_shuffle(values, block_key)

        files = shuffle(-1, tf.range(len(source.records.files)))
        starts = tf.zeros_like(files, tf.int64)
        first_block, skipped = divmod(batch * global_batch_size, shuffle_buffer)
        if first_block:
            positions = positions_after(
                files.numpy().tolist(),
                source.examples_per_file,
                _FILES_AT_ONCE,
                first_block * shuffle_buffer,
            )
            files = tf.constant([file for file, _ in positions])
            starts = tf.constant([start for _, start in positions], tf.int64)
        examples = _read(source, files, starts, tf.gather(counts, files), _FILES_AT_ONCE)
        # Blocks, not Dataset.shuffle: that draws from TensorFlow's global seed too.
        examples = examples.batch(shuffle_buffer).enumerate(first_block).map(shuffle).unbatch()
        return examples.skip(skipped).batch(global_batch_size, drop_remainder=True)

    rows = global_batch_size // num_hosts

    def own_rows(serialized: tf.Tensor) -> tf.Tensor:
        own = serialized[host * rows : (host + 1) * rows]
        return tf.reshape(own, [replicas_per_host, rows // replicas_per_host])

    start_epoch, skipped = divmod(start_step, batches_per_epoch)
    dataset = epoch_from(tf.constant(start_epoch, tf.int64), skipped)
    later = tf.data.Dataset.range(start_epoch + 1, 2**31)
    dataset = dataset.concatenate(later.flat_map(lambda epoch: epoch_from(epoch, 0)))
    dataset = dataset.map(own_rows).unbatch()
    dataset = dataset.map(
        lambda serialized: _parse(serialized, source, vocab_size),
        num_parallel_calls=2,
        deterministic=True,
    )
    return dataset.prefetch(4 * replicas_per_host)


@dataclasses.dataclass(frozen=True)
class TrainingFeed:
    """What `Trainer` reads: the training batches from any step on; fields as `training_dataset`."""

    source: ReadableRecords
    vocab_size: int
    global_batch_size: int
    seed: int
    shuffle_buffer: int

    def dataset(self, step: int, **hosts: int) -> tf.data.Dataset:
        """Returns the batches from `step` on; `hosts` as of `training_dataset`."""
        return training_dataset(
            self.source,
            self.vocab_size,
            self.global_batch_size,
            self.seed,
            self.shuffle_buffer,
            step,
            **hosts,
        )

    def longest(self, step: int, count: int, parts: int) -> None:
        """Returns None: all examples are computed at the records' length."""

    def explain(self, error: tf.errors.OpError | UnicodeDecodeError) -> UserError:
        """Returns what an error of TensorFlow's in the loop means."""
        return explain_error(error, self.source)


def evaluation_dataset(
    source: ReadableRecords,
    vocab_size: int,
    global_batch_size: int,
    max_batches: int | None = None,
    num_hosts: int = 1,
    host: int = 0,
    replicas_per_host: int = 1,
) -> tf.data.Dataset:
    """Returns per-replica batches of every example once, in the order of the files.

    The last batch is filled up with empty examples, whose input_mask is 0. Arguments as
    `training_dataset`; `max_batches` limits the number of global batches, which then hold the first
    examples of each file.
    """
    replicas = num_hosts * replicas_per_host
    if global_batch_size % replicas:
        raise UsageError(
            f"--eval_batch_size={global_batch_size} is not a multiple of the {replicas} replicas"
        )
    rows, length = global_batch_size // num_hosts, source.records.max_seq_length
    stops = evaluated_examples(source, global_batch_size, max_batches)
    files = tf.range(len(stops))
    stops = tf.constant(stops, tf.int64)
    dataset = _read(source, files, tf.zeros_like(stops), stops, files_at_once=1)
    dataset = dataset.batch(global_batch_size)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        missing = global_batch_size - tf.shape(serialized)[0]
        batch = {}
        for name, values in _parse(serialized, source, vocab_size).items():
            values = tf.pad(values, [[0, missing], [0, 0]])[host * rows : (host + 1) * rows]
            batch[name] = tf.reshape(values, [replicas_per_host, rows // replicas_per_host, length])
        return batch

    return dataset.map(parse).unbatch().prefetch(2 * replicas_per_host)


def evaluated_examples(
    source: ReadableRecords, global_batch_size: int, max_batches: int | None
) -> list[int]:
    """Returns how many examples of each file `evaluation_dataset` has: the same share of all of them."""
    counts, total = source.examples_per_file, source.num_examples
    wanted = total if max_batches is None else min(total, max_batches * global_batch_size)
    ends = [0, *itertools.accumulate(counts)]
    return [
        end * wanted // total - begin * wanted // total for begin, end in itertools.pairwise(ends)
    ]


def num_evaluation_batches(
    source: ReadableRecords, global_batch_size: int, max_batches: int | None
) -> int:
    """Returns how many global batches `evaluation_dataset` has."""
    examples = sum(evaluated_examples(source, global_batch_size, max_batches))
    return -(-examples // global_batch_size)
