"""TFRecord files of pre-training examples: finding, checking and reading them.

A record is a `tf.train.Example` with the three features of google-research/electra
(pretrain/pretrain_data.py), so that files built by it, or by NVIDIA's code, are read unchanged.
Beside its files our builder writes `metadata.json` (see metadata.py); foreign files have none, and
what it would say is then read from the files themselves.
"""

import dataclasses
import gzip
import os
import zlib
from collections.abc import Iterator

from electra_keras.console import reason
from electra_keras.data import paths
from electra_keras.data.examples import (
    FEATURES,
    record_sizes,
    serialize_example,
    serialize_examples,
)
from electra_keras.data.metadata import (
    METADATA_FILE,
    SCHEMA_VERSION,
    Metadata,
    RecordsError,
    Shard,
    Split,
    read_metadata,
    write_metadata,
)
from electra_keras.files import TEMPORARY_MARK

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf
from absl import logging

__all__ = [
    "FEATURES",
    "METADATA_FILE",
    "NOT_PARSED",
    "SCHEMA_VERSION",
    "TEMPORARY_MARK",
    "FileScan",
    "Metadata",
    "RecordSet",
    "RecordsError",
    "Shard",
    "Split",
    "find_records",
    "has_validation",
    "parse_batch",
    "read_metadata",
    "read_serialized",
    "scan_file",
    "serialize_example",
    "serialize_examples",
    "write_metadata",
]

# Without metadata the first record of at most this many files is compared, to find mixed lengths.
_FIRST_RECORDS = 64

# What `parse_batch` raises. TensorFlow quotes a record that is no tf.train.Example in its message, and
# Python then fails to decode that.
NOT_PARSED = (tf.errors.InvalidArgumentError, UnicodeDecodeError)


# --- Finding -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """The record files of one split.

    Attributes:
        files: paths, sorted.
        compression: "" or "GZIP".
        max_seq_length: length of every feature.
        examples_per_file: as `files`; None where no metadata tells it (see `scan_file`).
        metadata: what `metadata.json` says, or None.
    """

    files: tuple[str, ...]
    compression: str
    max_seq_length: int
    examples_per_file: tuple[int, ...] | None
    metadata: Metadata | None

    @property
    def num_examples(self) -> int | None:
        """Examples in all files, or None where it is not known."""
        return None if self.examples_per_file is None else sum(self.examples_per_file)


def find_records(source: str, split: str = "train") -> RecordSet:
    """Finds the record files of a split and checks what can be checked without reading them.

    Args:
        source: a directory; or file patterns (or directories) separated by commas.
        split: "train" or "validation". With `metadata.json` it picks the files listed there;
            in a directory without, "validation" are the files so named and "train" the others;
            with patterns it is not looked at.

    Raises:
        RecordsError: nothing found; a file missing, empty, or of another size than metadata
            says; a first record that is not of the schema.
    """
    try:
        return _find_records(source, split)
    except tf.errors.OpError as error:  # no right to read, a file system that does not answer
        raise RecordsError(f"cannot read {source}: {reason(error)}") from error


def has_validation(source: str) -> bool:
    """Whether a directory without metadata holds files of a validation split."""
    return tf.io.gfile.isdir(source) and bool(paths.record_files(source, "validation"))


def _find_records(source: str, split: str) -> RecordSet:
    if tf.io.gfile.isdir(source):
        metadata = read_metadata(source)
        if metadata is not None:
            return _listed_records(source, split, metadata)
        files = _whole_directory(source, split)
        if not files:
            raise RecordsError(
                f"no {split} records in {source}: it holds neither {METADATA_FILE} nor such "
                "*tfrecord* files"
            )
    else:
        files = []
        for pattern, found in paths.split_list(source):
            if found == [pattern] and tf.io.gfile.isdir(pattern):
                found = _whole_directory(pattern, None)
            found = paths.only_files(found)
            if not found:
                raise RecordsError(f"no record files match {pattern!r}")
            files += found
        if not files:
            raise RecordsError("no record files were named")
        missing = paths.missing_files(sorted(set(files)))
        if missing is not None:
            logging.warning("%s: going on without them, as the files were named", missing[0])
    files = sorted(set(files))
    for path in files:
        if tf.io.gfile.stat(path).length == 0:
            raise RecordsError(f"{path} is empty (0 bytes): delete it, or copy or build it again")
    compression = _detect_compression(files[0])
    # Evenly spaced, the first and the last among them.
    count = min(len(files), _FIRST_RECORDS)
    picked = sorted({round(k * (len(files) - 1) / max(1, count - 1)) for k in range(count)})
    lengths = {files[k]: _first_length(files[k], compression) for k in picked}
    if len(set(lengths.values())) > 1:
        other = next(
            path for path in files if lengths.get(path, lengths[files[0]]) != lengths[files[0]]
        )
        raise RecordsError(
            f"records of different lengths: {lengths[files[0]]} in {files[0]}, "
            f"{lengths[other]} in {other}; train on one of them"
        )
    return RecordSet(tuple(files), compression, lengths[files[0]], None, None)


def _whole_directory(directory: str, split: str | None) -> list[str]:
    """Returns the record files of a directory without metadata, of one split or of all."""
    splits = ("train", "validation") if split is None else (split,)
    files = [path for name in splits for path in paths.record_files(directory, name)]
    missing = paths.missing_files(files)
    if missing is not None:
        phrase, is_sample = missing
        if not is_sample:
            raise RecordsError(
                f"{phrase}: copy or build them again, or name the files to read, separated by commas"
            )
        logging.warning("%s: going on with the sample that is there", phrase)
    return files


def _listed_records(directory: str, split: str, metadata: Metadata) -> RecordSet:
    where = os.path.join(directory, METADATA_FILE)
    if split not in metadata.splits:
        hints = {
            "validation": "build with --validation_fraction, or evaluate on --split=train",
            "train": "it was built for evaluation alone",
        }
        raise RecordsError(f"{where} lists no {split} split: {hints.get(split, 'choose another')}")
    shards = sorted(metadata.splits[split].shards, key=lambda shard: shard.name)
    if not shards:
        raise RecordsError(f"{where} lists no files in its {split} split")
    for shard in shards:
        path = os.path.join(directory, shard.name)
        if not tf.io.gfile.exists(path):
            raise RecordsError(f"{path} is missing, but {where} lists it: copy or build it again")
        size = tf.io.gfile.stat(path).length
        if size != shard.bytes:
            raise RecordsError(
                f"{path} has {size} bytes where {where} says {shard.bytes}: truncated or changed; "
                "copy or build it again"
            )
        if not shard.examples:
            raise RecordsError(f"{path} holds no examples: build the data again")
        smallest, largest = record_sizes(metadata.max_seq_length)
        if not metadata.compression and not (
            smallest * shard.examples <= shard.bytes <= largest * shard.examples
        ):
            raise RecordsError(
                f"{path} cannot hold the {shard.examples} examples of length "
                f"{metadata.max_seq_length} that {where} lists in its {shard.bytes} bytes: copy or "
                "build the data again"
            )
    return RecordSet(
        files=tuple(os.path.join(directory, shard.name) for shard in shards),
        compression=metadata.compression,
        max_seq_length=metadata.max_seq_length,
        examples_per_file=tuple(shard.examples for shard in shards),
        metadata=metadata,
    )


def _detect_compression(path: str) -> str:
    """Tells gzip by its magic number: as a record's length it would mean more than 500 kB."""
    with tf.io.gfile.GFile(path, "rb") as file:
        return "GZIP" if file.read(3) == b"\x1f\x8b\x08" else ""


def _first_length(path: str, compression: str) -> int:
    try:
        first = next(read_serialized(path, compression), None)
    except tf.errors.DataLossError as error:
        raise RecordsError(f"{path} cannot be read: it is damaged or no TFRecord file") from error
    if first is None:
        raise RecordsError(f"{path} holds no records: delete it or build it again")
    return _record_length(first, f"record 0 of {path}")


def _record_length(serialized: bytes, where: str) -> int:
    expected = ", ".join(FEATURES)
    try:
        features = tf.train.Example.FromString(serialized).features.feature
    except Exception as error:  # protobuf's DecodeError, whose module is not part of its API
        raise RecordsError(f"{where} is no tf.train.Example") from error
    if any(name not in features for name in FEATURES):
        holds = ", ".join(sorted(features)) or "nothing"
        raise RecordsError(f"{where} should hold {expected}, but it holds {holds}")
    lengths = {name: len(features[name].int64_list.value) for name in FEATURES}
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise RecordsError(
            f"{where}: {expected} should be integer lists of one length, but have {lengths}"
        )
    return lengths[FEATURES[0]]


# --- Reading -------------------------------------------------------------------------------------


def read_serialized(path: str, compression: str) -> Iterator[bytes]:
    """Yields the records of one file as they stand there.

    Raises:
        tf.errors.DataLossError: after the last good record, where the next is cut off or corrupt.
    """
    for batch in _read_batches(path, compression):
        yield from batch.numpy()


def _read_batches(path: str, compression: str) -> Iterator[tf.Tensor]:
    """Yields the same, as string tensors of several records."""
    # `ignore_errors`-like tricks would hide the damage, so the batch that fails is read again one by
    # one.
    count = 0
    dataset = tf.data.TFRecordDataset(path, compression_type=compression)
    try:
        for batch in dataset.batch(512):
            yield batch
            count += len(batch)
    except tf.errors.DataLossError:
        yield from dataset.skip(count).batch(1)


def parse_batch(serialized: tf.Tensor, max_seq_length: int) -> dict[str, tf.Tensor]:
    """Parses serialized examples.

    Args:
        serialized: strings [batch].
        max_seq_length: the length of every feature.

    Returns:
        `FEATURES`, each int32 [batch, max_seq_length].

    Raises:
        NOT_PARSED: in eager mode, a record that does not hold them.
    """
    schema = {name: tf.io.FixedLenFeature([max_seq_length], tf.int64) for name in FEATURES}
    parsed = tf.io.parse_example(serialized, schema)
    return {name: tf.cast(parsed[name], tf.int32) for name in FEATURES}


@dataclasses.dataclass(frozen=True)
class FileScan:
    """What `scan_file` found.

    Attributes:
        path: the file.
        examples: how many records are good.
        bad_records: indexes of records that do not parse: another message, a missing feature,
            another length.
        damaged_at: index of the record whose frame is cut off or fails its checksum, where
            reading ended; None if the file was read to its end.
    """

    path: str
    examples: int
    bad_records: tuple[int, ...]
    damaged_at: int | None


def scan_file(path: str, compression: str, max_seq_length: int) -> FileScan:
    """Reads one file to its end, or to where it is damaged, and counts the records that parse."""
    total, bad, damaged_at = 0, [], None
    try:
        for batch in _read_batches(path, compression):
            try:
                parse_batch(batch, max_seq_length)
            except NOT_PARSED:
                for number, record in enumerate(batch.numpy(), start=total):
                    try:
                        parse_batch([record], max_seq_length)
                    except NOT_PARSED:
                        bad.append(number)
            total += len(batch)
    except tf.errors.DataLossError:
        damaged_at = total
    if damaged_at is None and compression and not _is_whole_gzip(path):
        damaged_at = total
    return FileScan(path, total - len(bad), tuple(bad), damaged_at)


def _is_whole_gzip(path: str) -> bool:
    """Whether a compressed file has its end: TensorFlow takes one cut off after a record for whole."""
    try:
        with tf.io.gfile.GFile(path, "rb") as raw, gzip.GzipFile(fileobj=raw) as file:
            while file.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error):
        return False
    return True
