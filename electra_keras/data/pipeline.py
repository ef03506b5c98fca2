"""tf.data pipelines over TFRecords whose order is a pure function of (seed, epoch)."""

import dataclasses
import struct

import tensorflow as tf
from absl import logging

from electra_keras.console import ProgressLine, UsageError, UserError
from electra_keras.data.records import FileScan, RecordsError, RecordSet, parse_batch, scan_file

_FILES_AT_ONCE = 16


@dataclasses.dataclass(frozen=True)
class ReadableRecords:
    """A record set in which every file's number of usable examples is known.

    Attributes:
        records: the files.
        examples_per_file: as `records.files`, bad records left out.
        scans: with `skip_bad_records`, what each file's scan found; else None.
    """

    records: RecordSet
    examples_per_file: tuple[int, ...]
    scans: tuple[FileScan, ...] | None

    @property
    def num_examples(self) -> int:
        """Usable examples in all files."""
        return sum(self.examples_per_file)


def open_records(records: RecordSet, skip_bad_records: bool = False) -> ReadableRecords:
    """Counts the examples where metadata does not, and finds the bad ones when they are to be skipped.

    Raises:
        RecordsError: a truncated file (named), unless bad records are skipped; no usable example.
    """
    if skip_bad_records:
        scans = _scan_all(records)
        counts = tuple(scan.examples for scan in scans)
    else:
        scans = None
        counts = records.examples_per_file or _count_all(records)
    if not sum(counts):
        raise RecordsError(f"no usable records in {records.files[0]} and its like")
    return ReadableRecords(records, counts, scans)


def _scan_all(records: RecordSet) -> tuple[FileScan, ...]:
    scans = []
    progress = ProgressLine(len(records.files), "files scanned for bad records")
    for path in records.files:
        scan = scan_file(path, records.compression, records.max_seq_length)
        scans.append(scan)
        progress.update(len(scans))
        if scan.bad_records:
            logging.warning(
                "%s: skipping %d unreadable records, the first of them record %d",
                path, len(scan.bad_records), scan.bad_records[0],
            )  # fmt: skip
        if scan.damaged_at is not None:
            logging.warning(
                "%s: damaged at record %d; skipping it and the rest of the file",
                path, scan.damaged_at,
            )  # fmt: skip
    progress.clear()
    if records.num_examples is not None:
        lost = records.num_examples - sum(scan.examples for scan in scans)
        if lost:
            logging.warning("skipped %d of %d records", lost, records.num_examples)
    return tuple(scans)


def _count_all(records: RecordSet) -> tuple[int, ...]:
    counts = []
    progress = ProgressLine(len(records.files), "files counted (no metadata.json)")
    for path in records.files:
        counts.append(_count_records(path, records))
        progress.update(len(counts))
    progress.clear()
    return tuple(counts)


def _count_records(path: str, records: RecordSet) -> int:
    """Counts the records of a file by their length fields, without reading their contents."""
    if records.compression:
        scan = scan_file(path, records.compression, records.max_seq_length)
        if scan.damaged_at is not None:
            raise _damaged(path, scan.damaged_at)
        return scan.examples
    size, count, offset = tf.io.gfile.stat(path).length, 0, 0
    with tf.io.gfile.GFile(path, "rb") as file:
        while offset < size:
            file.seek(offset)
            header = file.read(8)
            # Length, its checksum (4 bytes), the record, its checksum (4 bytes).
            offset += struct.unpack("<Q", header)[0] + 16 if len(header) == 8 else size + 1
            if offset > size:
                raise _damaged(path, count)
            count += 1
    return count


def _damaged(path: str, record: int) -> RecordsError:
    return RecordsError(
        f"{path} is truncated or corrupt at record {record}: build or copy it again, or train with "
        "--skip_bad_records"
    )


def explain_error(error: tf.errors.OpError, source: ReadableRecords) -> UserError:
    """Returns what a TensorFlow error in a loop over records means, for a person."""
    records = source.records
    message = (error.message or repr(error)).strip()
    if "not below the vocabulary" in message:
        return RecordsError(
            f"a token id in {records.files[0]} or its like is not below the vocabulary size: the "
            "records were built with another vocabulary"
        )
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return UserError(
            "out of memory: give --recompute, raise --gradient_accumulation_steps, or lower the batch "
            f"size ({message.splitlines()[0]})"
        )
    if isinstance(error, tf.errors.DataLossError) or "arse" in message:
        return explain_read_error(records)
    return UserError(f"TensorFlow stopped: {message.splitlines()[0]}")


def explain_read_error(records: RecordSet) -> RecordsError:
    """Returns an error that names the file and record at which reading failed."""
    for path in records.files:
        scan = scan_file(path, records.compression, records.max_seq_length)
        if scan.bad_records:
            return RecordsError(
                f"{path}: record {scan.bad_records[0]} does not hold the expected features of "
                f"length {records.max_seq_length}: build it again, or train with "
                "--skip_bad_records"
            )
        if scan.damaged_at is not None:
            return _damaged(path, scan.damaged_at)
    return RecordsError(f"a record file beside {records.files[0]} changed while it was read")


def _read(source: ReadableRecords, order: tf.Tensor, files_at_once: int) -> tf.data.Dataset:
    """Returns the serialized examples of the files in the given order of their indexes."""
    paths = tf.gather(tf.constant(source.records.files), order)
    if source.scans is None:
        files = tf.data.Dataset.from_tensor_slices(paths)

        def read_file(path: tf.Tensor) -> tf.data.Dataset:
            return tf.data.TFRecordDataset(path, compression_type=source.records.compression)
    else:
        limits = [scan.examples + len(scan.bad_records) for scan in source.scans]
        bad = tf.ragged.constant(
            [scan.bad_records for scan in source.scans], dtype=tf.int64, ragged_rank=1
        )
        files = tf.data.Dataset.from_tensor_slices(
            (paths, tf.gather(tf.constant(limits, tf.int64), order), tf.gather(bad, order))
        )

        def read_file(path: tf.Tensor, limit: tf.Tensor, bad: tf.Tensor) -> tf.data.Dataset:
            file = tf.data.TFRecordDataset(path, compression_type=source.records.compression)
            file = file.take(limit).enumerate()
            file = file.filter(lambda index, _: tf.reduce_all(index != bad))
            return file.map(lambda _, record: record)

    return files.interleave(read_file, cycle_length=files_at_once)


def _parse(serialized: tf.Tensor, source: ReadableRecords, vocab_size: int) -> dict[str, tf.Tensor]:
    batch = parse_batch(serialized, source.records.max_seq_length)
    # XLA would silently clamp such an id.
    message = f"a token id is not below the vocabulary's {vocab_size}"
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
    Skipped examples are read but not parsed.

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

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0]), epoch)

        def shuffle(block: tf.Tensor | int, values: tf.Tensor) -> tf.Tensor:
            block_key = tf.random.experimental.stateless_fold_in(key, block)
            return tf.random.experimental.stateless_shuffle(values, block_key)

        order = shuffle(-1, tf.range(len(source.records.files)))
        examples = _read(source, order, _FILES_AT_ONCE)
        # Blocks, not Dataset.shuffle: that draws from TensorFlow's global seed too.
        examples = examples.batch(shuffle_buffer).enumerate().map(shuffle).unbatch()
        return examples.batch(global_batch_size, drop_remainder=True)

    rows = global_batch_size // num_hosts

    def own_rows(serialized: tf.Tensor) -> tf.Tensor:
        own = serialized[host * rows : (host + 1) * rows]
        return tf.reshape(own, [replicas_per_host, rows // replicas_per_host])

    start_epoch, skipped = divmod(start_step, batches_per_epoch)
    dataset = tf.data.Dataset.range(start_epoch, 2**31).flat_map(one_epoch).skip(skipped)
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

    def explain(self, error: tf.errors.OpError) -> UserError:
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
    `training_dataset`; `max_batches` limits the number of global batches.
    """
    replicas = num_hosts * replicas_per_host
    if global_batch_size % replicas:
        raise UsageError(
            f"--eval_batch_size={global_batch_size} is not a multiple of the {replicas} replicas"
        )
    rows, length = global_batch_size // num_hosts, source.records.max_seq_length
    dataset = _read(source, tf.range(len(source.records.files)), files_at_once=1)
    dataset = dataset.batch(global_batch_size)
    if max_batches is not None:
        dataset = dataset.take(max_batches)

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        missing = global_batch_size - tf.shape(serialized)[0]
        batch = {}
        for name, values in _parse(serialized, source, vocab_size).items():
            values = tf.pad(values, [[0, missing], [0, 0]])[host * rows : (host + 1) * rows]
            batch[name] = tf.reshape(values, [replicas_per_host, rows // replicas_per_host, length])
        return batch

    return dataset.map(parse).unbatch().prefetch(2 * replicas_per_host)


def num_evaluation_batches(
    source: ReadableRecords, global_batch_size: int, max_batches: int | None
) -> int:
    """Returns how many global batches `evaluation_dataset` has."""
    batches = -(-source.num_examples // global_batch_size)
    return batches if max_batches is None else min(batches, max_batches)
