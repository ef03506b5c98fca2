"""What errors of TensorFlow's mean in a loop over records, for a person."""

import re

from electra_keras.console import UserError, is_of_other_worker, lost_worker, reason
from electra_keras.data.metadata import METADATA_FILE
from electra_keras.data.opening import (
    FINDINGS_FILE,
    ReadableRecords,
    count_frames,
    damaged_file,
    in_parallel,
)
from electra_keras.data.records import (
    FEATURES,
    NOT_PARSED,
    FileScan,
    RecordsError,
    RecordSet,
    scan_file,
)

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf
from absl import logging

# What reading may raise; for the second see NOT_PARSED.
READ_ERRORS = (tf.errors.OpError, *NOT_PARSED)

# In the messages of the pipeline's own assertions.
UNKNOWN_TOKEN = "a token id is not below the vocabulary"
WRONG_COUNT = "another number of records than expected in file"

# It may say what is no longer so of a file whose size and time are as before.
_START_AGAIN = f"start again, without a {FINDINGS_FILE} in the run directory"
# tf.io.parse_example says which of an example's features is missing, or of another type or length.
_NOT_PARSED = re.compile(rf"Could not parse example|\b(Key|Feature): ({'|'.join(FEATURES)})\b")


def explain_error(
    error: tf.errors.OpError | UnicodeDecodeError, source: ReadableRecords
) -> UserError:
    """Returns what one of `READ_ERRORS` in a loop over records means."""
    records = source.records
    if isinstance(error, UnicodeDecodeError):
        return explain_read_error(records, source.scans)
    message = str(error.message or "")
    if UNKNOWN_TOKEN in message:
        return RecordsError(
            f"a token id in {records.files[0]} or its like is not below the vocabulary size: the "
            "records were built with another vocabulary"
        )
    wrong_count = re.search(rf"{WRONG_COUNT}\] \[(\d+)\]", message)
    if wrong_count:
        return _explain_wrong_count(source, int(wrong_count[1]))
    if isinstance(error, tf.errors.DataLossError) or _NOT_PARSED.search(message):
        return explain_read_error(records, source.scans)
    if isinstance(error, tf.errors.ResourceExhaustedError) and "open files" not in message:
        return UserError(
            "out of memory: give --recompute, raise --gradient_accumulation_steps, or lower the batch "
            f"size ({reason(error)})"
        )
    unreadable = next((path for path in records.files if f"{path};" in message), None)
    if unreadable is not None:
        return RecordsError(f"cannot read a record file: {reason(error)}")
    if is_of_other_worker(error):
        return lost_worker(error)
    return UserError(f"TensorFlow stopped: {reason(error)}")


def explain_read_error(
    records: RecordSet, scans: tuple[FileScan, ...] | None = None
) -> RecordsError:
    """Returns an error that names the file and record at which reading failed.

    The files are read again, to find it. `scans` are what they were when bad records were to be
    skipped: those are not news.
    """
    logging.info("looking for the record that cannot be read")
    known = {scan.path: scan for scan in scans or ()}

    def scan(path: str) -> FileScan:
        return scan_file(path, records.compression, records.max_seq_length)

    for found in in_parallel(scan, records.files, "files scanned"):
        before = known.get(found.path, FileScan(found.path, 0, (), None))
        bad = sorted(set(found.bad_records) - set(before.bad_records))
        damaged = found.damaged_at is not None and found.damaged_at != before.damaged_at
        if (bad or damaged) and scans is not None:
            return RecordsError(
                f"{found.path}: record {bad[0] if bad else found.damaged_at} was good when the file "
                f"was scanned, and is not now: the file was changed or damaged; {_START_AGAIN}"
            )
        if bad:
            return RecordsError(
                f"{found.path}: record {bad[0]} does not hold the expected features of length "
                f"{records.max_seq_length}: build it again, or train with --skip_bad_records"
            )
        if damaged:
            return damaged_file(found.path, found.damaged_at)
    return RecordsError(f"a record file beside {records.files[0]} changed while it was read")


def _explain_wrong_count(source: ReadableRecords, file: int) -> RecordsError:
    records, path, expected = (
        source.records,
        source.records.files[file],
        source.examples_per_file[file],
    )
    if records.examples_per_file is None or source.scans is not None:
        return RecordsError(
            f"{path} does not hold the {expected} records that were counted in it: it was changed "
            f"since then; {_START_AGAIN}"
        )
    found = "" if records.compression else f", but {count_frames(path)[0]}"
    return RecordsError(
        f"{path} does not hold the {expected} records that {METADATA_FILE} says{found}: copy or build "
        "the data again"
    )
