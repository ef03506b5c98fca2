"""Opens record files for reading: how many examples each one has, and which of them are bad.

Where no metadata says so, the files are walked through, several at a time. What was found can be kept
in a file, by which an unchanged record file is known the next time.
"""

import dataclasses
import functools
import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from electra_keras.config import matches
from electra_keras.console import ProgressLine, reason
from electra_keras.data.records import FileScan, RecordsError, RecordSet, scan_file
from electra_keras.files import write_whole

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf
from absl import logging

FINDINGS_FILE = "record-counts.json"
_THREADS = 16
_CHUNK = 1 << 23


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


def open_records(
    records: RecordSet, skip_bad_records: bool = False, findings: str | None = None
) -> ReadableRecords:
    """Counts the examples where metadata does not, and finds the bad ones when they are to be skipped.

    Args:
        records: the files.
        skip_bad_records: read every file to its end now, and leave out later what is bad in it.
        findings: path of a file to keep what was found in, read first; its directory is made.

    Raises:
        RecordsError: a truncated file (named), unless bad records are skipped; no usable example.
    """
    if skip_bad_records:
        scan = functools.partial(
            scan_file, compression=records.compression, max_seq_length=records.max_seq_length
        )
        scans = _for_each_file(records, scan, "files scanned for bad records", findings)
        for found in scans:
            _warn(found)
        if records.num_examples is not None:
            lost = records.num_examples - sum(scan.examples for scan in scans)
            if lost:
                logging.warning("skipped %d of %d records", lost, records.num_examples)
        counts = tuple(scan.examples for scan in scans)
    else:
        scans, counts = None, records.examples_per_file
        if counts is None:
            count = functools.partial(_count_file, records=records)
            found = _for_each_file(records, count, "files counted (no metadata.json)", findings)
            counts = tuple(scan.examples for scan in found)
    if not sum(counts):
        raise RecordsError(f"no usable records in {records.files[0]} and its like")
    return ReadableRecords(records, counts, scans)


def needs_findings(records: RecordSet, skip_bad_records: bool) -> bool:
    """Whether `open_records` has to look into the files."""
    return skip_bad_records or records.examples_per_file is None


def _warn(scan: FileScan) -> None:
    if scan.bad_records:
        logging.warning(
            "%s: skipping %d unreadable records, the first of them record %d",
            scan.path, len(scan.bad_records), scan.bad_records[0],
        )  # fmt: skip
    if scan.damaged_at is not None:
        logging.warning(
            "%s: damaged at record %d; skipping it and the rest of the file",
            scan.path, scan.damaged_at,
        )  # fmt: skip


def _for_each_file(
    records: RecordSet, look: Callable[[str], FileScan], what: str, findings: str | None
) -> tuple[FileScan, ...]:
    """Returns what `look` finds in each file, or has found when the file was as it is now."""
    kept = _read_findings(findings)

    def find(path: str) -> tuple[list[Any], FileScan]:
        stat = tf.io.gfile.stat(path)
        seen = [what, stat.length, stat.mtime_nsec, records.compression, records.max_seq_length]
        if path in kept and kept[path][0] == seen:
            return kept[path]
        return seen, look(path)

    found = {}
    try:
        for path, finding in zip(
            records.files, in_parallel(find, records.files, what), strict=True
        ):
            found[path] = finding
    finally:  # what was found before an error is worth keeping
        if findings is not None and any(kept.get(path) != found[path] for path in found):
            _write_findings(findings, kept | found)
    return tuple(scan for _, scan in found.values())


def in_parallel(function: Callable[[str], Any], files: Sequence[str], what: str) -> Iterator[Any]:
    """Yields what a function returns for each file, in their order, with a progress line."""
    progress = ProgressLine(len(files), what)
    pool = ThreadPoolExecutor(_THREADS)
    try:
        for done, result in enumerate(pool.map(function, files), start=1):
            progress.update(done)
            yield result
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        progress.clear()


def _read_findings(path: str | None) -> dict[str, tuple[list[Any], FileScan]]:
    """Returns what was kept, by the record file; nothing where it cannot be used."""
    if path is None or not os.path.exists(path):
        return {}
    try:
        with open(path, encoding="utf-8") as file:
            kept = {}
            for name, (seen, (where, examples, bad, damaged_at)) in json.load(file).items():
                numbers = [examples, *bad, *([] if damaged_at is None else [damaged_at])]
                if where != name or not all(matches(n, int) and n >= 0 for n in numbers):
                    raise ValueError(f"impossible values of {name}")
                kept[name] = (seen, FileScan(where, examples, tuple(bad), damaged_at))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        logging.warning(
            "%s cannot be used, the record files are read again: %s", path, reason(error)
        )
        return {}
    return kept


def _write_findings(path: str, kept: dict[str, tuple[list[Any], FileScan]]) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    values = {name: [seen, dataclasses.astuple(scan)] for name, (seen, scan) in kept.items()}
    write_whole(path, json.dumps(values) + "\n")


def _count_file(path: str, records: RecordSet) -> FileScan:
    """Counts the records of a file by their length fields, without looking into them."""
    if records.compression:
        scan = scan_file(path, records.compression, records.max_seq_length)
        count, damaged = scan.examples + len(scan.bad_records), scan.damaged_at is not None
    else:
        count, damaged = count_frames(path)
    if damaged:
        raise damaged_file(path, count)
    return FileScan(path, count, (), None)


def count_frames(path: str) -> tuple[int, bool]:
    """Walks through a file without compression from length field to length field.

    Returns:
        how many whole records there are, and whether the file ends, or is damaged, in the next one.
    """
    size, count, offset = tf.io.gfile.stat(path).length, 0, 0
    chunk, start, last = b"", 0, -8
    read_length = struct.Struct("<Q").unpack_from
    with tf.io.gfile.GFile(path, "rb") as file:
        while offset < size:
            if offset - start > last:
                # Whole chunks: reading on is faster than a seek for each record.
                file.seek(offset)
                chunk, start = file.read(_CHUNK), offset
                last = len(chunk) - 8
                if last < 0:
                    return count, True
            # Length, its checksum (4 bytes), the record, its checksum (4 bytes).
            offset += read_length(chunk, offset - start)[0] + 16
            if offset > size:
                return count, True
            count += 1
    return count, False


def damaged_file(path: str, record: int) -> RecordsError:
    """Returns the error that names a damaged file and the record at which reading ends."""
    return RecordsError(
        f"{path} is truncated or corrupt at record {record}: build or copy it again, or train with "
        "--skip_bad_records"
    )
