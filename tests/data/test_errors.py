"""What is told when reading fails: the file, the record or the other worker."""

import dataclasses
import os

import pytest
import tensorflow as tf

from electra_keras.data import errors, opening
from electra_keras.data.pipeline import evaluation_dataset, open_records, training_dataset
from electra_keras.data.records import (
    Metadata,
    RecordsError,
    Shard,
    Split,
    find_records,
    serialize_example,
    write_metadata,
)
from tests import runs

VOCAB = 60


@pytest.fixture
def directory(tmp_path):
    return runs.write_records(tmp_path / 'dürr\'s "[1]"', examples=44, shards=4)


def opened(directory, **kwargs):
    return open_records(find_records(str(directory)), **kwargs)


def error_of(source, make=evaluation_dataset, **kwargs):
    """Reads everything; returns how the error that ends it is explained."""
    dataset = make(source, VOCAB, 4, **kwargs)
    with pytest.raises(errors.READ_ERRORS) as raised:
        list(dataset.take(200))
    return str(errors.explain_error(raised.value, source))


def rewrite(path, change):
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in change(records):
            writer.write(record)


def feature(kind, values):
    lists = {"int64_list": tf.train.Int64List, "float_list": tf.train.FloatList}
    return tf.train.Feature(**{kind: lists[kind](value=values)})


def example(**features):
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


NUMBERS = feature("int64_list", [1] * 16)
DAMAGED = {
    "no message": b"\xff\xff\xff\xff",
    "cut off": serialize_example([50_000] * 16, [1] * 16, [0] * 16)[:-3],
    "feature missing": example(input_ids=NUMBERS, input_mask=NUMBERS),
    "other length": example(
        input_ids=feature("int64_list", [1]), input_mask=NUMBERS, segment_ids=NUMBERS
    ),
    "other type": example(
        input_ids=NUMBERS, input_mask=feature("float_list", [1.0] * 16), segment_ids=NUMBERS
    ),
}


@pytest.mark.parametrize("record", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_record_that_does_not_parse(directory, record):
    path = directory / "train.tfrecord-2-of-4"
    rewrite(path, lambda records: [*records[:5], record, *records[5:]])
    assert f"{path}: record 5 does not hold" in error_of(opened(directory))
    assert opened(directory, skip_bad_records=True).scans[2].bad_records == (5,)


def test_a_file_that_changes_behind_the_reader(directory):
    source = opened(directory)
    path = directory / "train.tfrecord-1-of-4"
    rewrite(path, lambda records: records[:-1])
    for make, kwargs in (
        (evaluation_dataset, {}),
        (training_dataset, dict(seed=1, shuffle_buffer=9)),
    ):
        message = error_of(source, make, **kwargs)
        assert f"{path} does not hold the 11 records that were counted" in message
    path.unlink()
    message = error_of(source)
    assert "cannot read a record file" in message and str(path) in message
    assert "Graph execution error" not in message


@pytest.mark.parametrize("claimed", [9, 10])
def test_a_count_in_the_metadata_that_is_wrong(directory, claimed):
    """Named when the file ends; what its bytes cannot hold is refused before."""
    shards = [
        Shard(path.name, 11, path.stat().st_size) for path in sorted(directory.glob("train*"))
    ]
    shards[1] = dataclasses.replace(shards[1], examples=claimed)
    total = sum(shard.examples for shard in shards)
    metadata = Metadata(
        1, "test", 16, VOCAB, "0" * 64, True, True, "", 0, False, True, 0.0, 1, 1,
        {"train": Split(tuple(shards), 1, total, 1, 0)}, 1.0, None,
    )  # fmt: skip
    write_metadata(str(directory), metadata)
    source = opened(directory)
    message = error_of(source)
    assert f"{directory / shards[1].name} does not hold the {claimed} records" in message
    assert "metadata.json says, but 11" in message
    assert "does not hold" in error_of(source, training_dataset, seed=1, shuffle_buffer=20)


def test_ids_of_another_vocabulary(directory):
    record = serialize_example([VOCAB] * 16, [1] * 16, [0] * 16)
    rewrite(directory / "train.tfrecord-2-of-4", lambda records: [*records, record])
    assert "built with another vocabulary" in error_of(opened(directory))


def test_more_records_by_whole_chunks(tmp_path):
    record = serialize_example([1] * 4, [1] * 4, [0] * 4)
    path = str(tmp_path / "a.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for _ in range(512):
            writer.write(record)
    source = opened(tmp_path)
    assert source.examples_per_file == (512,)
    for wrong in (256, 768):
        claimed = dataclasses.replace(source, examples_per_file=(wrong,))
        assert f"{path} does not hold the {wrong} records" in error_of(claimed)


@pytest.mark.parametrize(
    "error, message",
    [
        (
            tf.errors.InvalidArgumentError(None, None, "could not parse endpoint"),
            "stopped: could not",
        ),
        (tf.errors.InvalidArgumentError(None, None, "sparse tensors differ"), "stopped: sparse"),
        (tf.errors.UnavailableError(None, None, "Socket closed"), "another worker has stopped"),
        (
            tf.errors.InternalError(None, None, "Collective ops is aborted by: peer is gone"),
            "another worker has stopped",
        ),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), "out of memory"),
        (
            tf.errors.ResourceExhaustedError(None, None, "/x; Too many open files"),
            "stopped: /x; Too",
        ),
    ],
)
def test_the_records_are_read_again_for_read_errors_only(directory, monkeypatch, error, message):
    source = opened(directory)
    monkeypatch.setattr(errors, "scan_file", None)
    assert message in str(errors.explain_error(error, source))


# --- What was found is kept ---


@pytest.fixture
def counted(monkeypatch):
    """Which files were looked into."""
    calls = []
    for name in ("count_frames", "scan_file"):
        function = getattr(opening, name)

        def look(path, *args, function=function, **kwargs):
            calls.append(os.path.basename(path)[15:16])
            return function(path, *args, **kwargs)

        monkeypatch.setattr(opening, name, look)
    return calls


@pytest.mark.parametrize("skip", [False, True])
def test_counts_are_kept_and_changed_files_counted_again(directory, tmp_path, counted, skip):
    findings = str(tmp_path / "run" / opening.FINDINGS_FILE)
    first = opened(directory, skip_bad_records=skip, findings=findings)
    assert sorted(counted) == ["0", "1", "2", "3"] and first.num_examples == 44
    assert opened(directory, skip_bad_records=skip, findings=findings) == first
    assert len(counted) == 4
    rewrite(directory / "train.tfrecord-1-of-4", lambda records: records[:7])
    again = opened(directory, skip_bad_records=skip, findings=findings)
    assert again.examples_per_file == (11, 7, 11, 11) and counted[4:] == ["1"]
    # The one is not taken for the other.
    opened(directory, skip_bad_records=not skip, findings=findings)
    assert len(counted) == 9


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", '{"a": 5}', '{"a": [[], ["a", -1, [], null]]}']
)
def test_kept_counts_that_are_damaged_are_not_used(directory, tmp_path, content):
    findings = tmp_path / opening.FINDINGS_FILE
    findings.write_text(content)
    assert opened(directory, findings=str(findings)).num_examples == 44
    assert opened(directory, findings=str(findings)).num_examples == 44


def test_what_was_counted_before_a_damaged_file_is_kept(directory, tmp_path, counted):
    findings = str(tmp_path / opening.FINDINGS_FILE)
    path = directory / "train.tfrecord-3-of-4"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(RecordsError, match=r"-3-of-4 is truncated or corrupt at record 10"):
        opened(directory, findings=findings)
    path.write_bytes(whole)
    counted.clear()
    assert opened(directory, findings=findings).num_examples == 44
    assert counted == ["3"]


def test_records_longer_than_a_chunk_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_CHUNK", 64)
    path = str(tmp_path / "a")
    with tf.io.TFRecordWriter(path) as writer:
        for size in (1, 500, 3, 40, 41, 42, 200, 0):
            writer.write(b"x" * size)
    assert opening.count_frames(path) == (8, False)
    content = (tmp_path / "a").read_bytes()
    for cut in (1, 15, 16 + 5, len(content) - 20):
        (tmp_path / "a").write_bytes(content[:-cut])
        count, damaged = opening.count_frames(path)
        assert damaged == (cut != 16) and count < 8


def test_a_compressed_file_without_its_end(tmp_path):
    """TensorFlow reads what there is of it, and where that ends after a record sees nothing wrong."""
    record = serialize_example([1] * 4, [1] * 4, [0] * 4)
    path = tmp_path / "a.tfrecord"
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for _ in range(20):
            writer.write(record)
    content = path.read_bytes()
    path.write_bytes(content[:-8])  # the checksum and the size
    assert len(list(tf.data.TFRecordDataset(str(path), "GZIP"))) == 20
    with pytest.raises(RecordsError, match=r"a\.tfrecord is truncated or corrupt"):
        opened(tmp_path)
    path.write_bytes(content)
    assert opened(tmp_path).num_examples == 20


def test_damage_behind_a_kept_scan_is_named(directory, tmp_path):
    """A bit that falls over on the disk changes neither size nor time."""
    findings = str(tmp_path / opening.FINDINGS_FILE)
    opened(directory, skip_bad_records=True, findings=findings)
    path = directory / "train.tfrecord-2-of-4"
    stat, content = path.stat(), bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    message = error_of(opened(directory, skip_bad_records=True, findings=findings))
    assert f"{path}: record 5 was good when the file was scanned" in message
    assert opening.FINDINGS_FILE in message
    os.remove(findings)
    again = opened(directory, skip_bad_records=True, findings=findings)
    assert again.examples_per_file == (11, 11, 5, 11)
