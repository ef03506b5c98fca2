import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from electra_keras.data import records
from electra_keras.data.examples import record_sizes
from electra_keras.data.records import (
    FEATURES,
    Metadata,
    RecordsError,
    Shard,
    Split,
    find_records,
    parse_batch,
    read_metadata,
    scan_file,
    serialize_example,
    serialize_examples,
    write_metadata,
)

# isort: split
import tensorflow as tf

SHARED = Path(__file__).parents[3] / "shared"
LENGTH = 8


def tf_example(**features):
    """An example as TensorFlow itself makes it."""
    lists = {
        name: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        for name, values in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


def examples(count, length=LENGTH, seed=0):
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 30522, (count, length))
    mask = np.ones_like(ids)
    return serialize_examples(ids, mask, np.zeros_like(ids))


def write(path, serialized, compression=""):
    with tf.io.TFRecordWriter(str(path), options=compression) as writer:
        for record in serialized:
            writer.write(record)
    return path.stat().st_size


def metadata_of(tmp_path, splits, **changes):
    values = dict(
        schema_version=1,
        tool="test",
        max_seq_length=LENGTH,
        vocab_size=30522,
        vocab_sha256="0" * 64,
        lower_case=True,
        strip_accents=True,
        compression="",
        seed=0,
        drop_overflow=False,
        blank_lines_separate_documents=True,
        validation_fraction=0.0,
        source_files=1,
        source_bytes=10,
        splits={
            name: Split(tuple(shards), 1, sum(s.examples for s in shards), 100, 1)
            for name, shards in splits.items()
        },
        unigram_entropy=6.5,
        validation_unigram_cross_entropy=None,
    )
    return Metadata(**{**values, **changes})


# --- Wire format ---


@pytest.mark.parametrize("length", [1, 8, 127, 128, 512])
def test_tensorflow_parses_what_is_encoded_by_hand(length):
    rng = np.random.default_rng(length)
    edges = [0, 1, 127, 128, 16383, 16384, 30521, 99999, 2**21 - 1, 2**21, 2**28 - 1]
    ids = rng.choice(edges, (50, length))
    mask = rng.integers(0, 2, (50, length))
    segments = rng.integers(0, 2, (50, length))
    serialized = serialize_examples(ids, mask, segments)
    for row, record in enumerate(serialized):
        feature = tf.train.Example.FromString(record).features.feature
        assert sorted(feature) == sorted(FEATURES)
        expected = zip(FEATURES, (ids[row], mask[row], segments[row]), strict=True)
        assert all(list(feature[name].int64_list.value) == v.tolist() for name, v in expected)
        assert record == serialize_example(ids[row], mask[row], segments[row])


def test_parse_batch_gives_int32():
    serialized = [tf_example(input_ids=[5, 6], input_mask=[1, 1], segment_ids=[0, 1])] * 3
    parsed = parse_batch(tf.constant(serialized), 2)
    assert {name: (t.dtype, t.shape.as_list()) for name, t in parsed.items()} == {
        name: (tf.int32, [3, 2]) for name in FEATURES
    }
    assert parsed["segment_ids"].numpy()[2].tolist() == [0, 1]


def test_ids_that_cannot_be_encoded_are_refused():
    with pytest.raises(ValueError, match="token ids"):
        serialize_example([-1, 3], [1, 1], [0, 0])


# --- Metadata ---


def test_metadata_comes_back_as_written(tmp_path):
    metadata = metadata_of(tmp_path, {"train": [Shard("a", 3, 10), Shard("b", 2, 8)]})
    write_metadata(str(tmp_path), metadata)
    assert read_metadata(str(tmp_path)) == metadata
    assert [p.name for p in tmp_path.iterdir()] == ["metadata.json"]


def test_no_metadata_is_none(tmp_path):
    assert read_metadata(str(tmp_path)) is None


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.update(schema_version=99), "schema version 99"),
        (lambda v: v.pop("vocab_sha256"), "lacks vocab_sha256"),
        (lambda v: v["splits"]["train"].pop("shards"), "split 'train' lacks shards"),
        (lambda v: v["splits"]["train"]["shards"][0].pop("bytes"), "lacks bytes"),
        (lambda v: v.update(splits=[]), "splits"),
    ],
)
def test_wrong_metadata_is_one_clear_error(tmp_path, change, message):
    metadata = metadata_of(tmp_path, {"train": [Shard("a", 3, 10)]})
    values = dataclasses.asdict(metadata)
    change(values)
    (tmp_path / "metadata.json").write_text(json.dumps(values))
    with pytest.raises(RecordsError, match=message):
        read_metadata(str(tmp_path))


def set_shard(name, value):
    return lambda v: v["splits"]["train"]["shards"][0].update({name: value})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda v: v.update(compression="ZIPX"), "compression should be '' or 'GZIP'"),
        (lambda v: v.update(unigram_entropy=None), "unigram_entropy should be of type float"),
        (lambda v: v.update(unigram_entropy=float("nan")), "unigram_entropy"),
        (lambda v: v.update(max_seq_length="8"), "max_seq_length should be of type int"),
        (lambda v: v.update(max_seq_length=0), "max_seq_length"),
        (lambda v: v.update(max_seq_length=10**12), "max_seq_length"),
        (lambda v: v.update(vocab_size=-5), "vocab_size should not be negative"),
        (lambda v: v.update(lower_case=1), "lower_case should be of type bool"),
        (lambda v: v.update(schema_version=True), "schema_version"),
        (lambda v: v.update(splits={"train": 5}), "split 'train' should be a JSON object"),
        (lambda v: v["splits"]["train"].update(shards={}), "shards should be of type list"),
        (lambda v: v["splits"]["train"].update(shards=[None]), "should be a JSON object"),
        (lambda v: v["splits"]["train"].update(examples=30), "its shards have 3 together"),
        (lambda v: v["splits"]["train"].update(tokens=-1), "tokens should not be negative"),
        (
            lambda v: v["splits"]["train"]["shards"].append(v["splits"]["train"]["shards"][0]),
            "twice",
        ),
        (set_shard("examples", -5), "examples should not be negative"),
        (set_shard("examples", 3.0), "examples should be of type int"),
        (set_shard("examples", True), "examples should be of type int"),
        (set_shard("bytes", "10"), "bytes should be of type int"),
        (set_shard("name", "../a"), "name of a shard should be that of a file"),
        (set_shard("name", "/etc/passwd"), "name of a shard"),
        (set_shard("name", ".."), "name of a shard"),
        (set_shard("name", "a\0"), "name of a shard"),
        (set_shard("name", "\ud800"), "name of a shard"),
        (set_shard("name", ["a"]), "name should be of type str"),
    ],
)
def test_impossible_metadata_is_named(tmp_path, change, message):
    values = dataclasses.asdict(metadata_of(tmp_path, {"train": [Shard("a", 3, 10)]}))
    values = json.loads(json.dumps(values))
    change(values)
    (tmp_path / "metadata.json").write_text(json.dumps(values))
    with pytest.raises(RecordsError, match=f"metadata.json.*{message}"):
        read_metadata(str(tmp_path))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_metadata_is_named(tmp_path, content):
    (tmp_path / "metadata.json").write_text(content)
    with pytest.raises(RecordsError, match=r"metadata\.json"):
        read_metadata(str(tmp_path))


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"schema_version": 1', "\xff"])
def test_broken_json_names_the_file(tmp_path, content):
    (tmp_path / "metadata.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(RecordsError, match=r"metadata\.json"):
        read_metadata(str(tmp_path))


# --- Finding ---


@pytest.fixture
def data_set(tmp_path):
    shards = {"train": [], "validation": []}
    for split, k, count in (("train", 0, 5), ("train", 1, 4), ("validation", 0, 3)):
        name = f"{split}-{k:05d}-of-00002.tfrecord"
        size = write(tmp_path / name, examples(count, seed=k))
        shards[split].append(Shard(name, count, size))
    write_metadata(str(tmp_path), metadata_of(tmp_path, shards))
    return tmp_path


def test_metadata_picks_the_split(data_set):
    train = find_records(str(data_set), "train")
    assert [Path(f).name[:11] for f in train.files] == ["train-00000", "train-00001"]
    assert train.examples_per_file == (5, 4) and train.num_examples == 9
    assert (train.max_seq_length, train.compression) == (LENGTH, "")
    assert find_records(str(data_set), "validation").num_examples == 3


def test_truncated_and_missing_shards_are_named(data_set):
    shard = data_set / "train-00001-of-00002.tfrecord"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    with pytest.raises(RecordsError, match=r"train-00001.*truncated or changed"):
        find_records(str(data_set))
    shard.unlink()
    with pytest.raises(RecordsError, match=r"train-00001.* is missing"):
        find_records(str(data_set))


def test_a_count_that_the_bytes_cannot_hold(data_set):
    values = json.loads((data_set / "metadata.json").read_text())
    for factor in (10, 0.2):
        split = json.loads(json.dumps(values))
        train = split["splits"]["train"]
        for shard in train["shards"]:
            shard["examples"] = round(shard["examples"] * factor)
        train["examples"] = sum(shard["examples"] for shard in train["shards"])
        (data_set / "metadata.json").write_text(json.dumps(split))
        with pytest.raises(RecordsError, match=r"train-00000.* cannot hold the (50|1) examples"):
            find_records(str(data_set))


@pytest.mark.parametrize("length, vocab_size", [(1, 100), (128, 30522), (512, 250_000)])
def test_sizes_of_real_records_are_within_the_bounds(length, vocab_size):
    smallest, largest = record_sizes(length)
    for ids in (np.zeros((1, length), int), np.full((1, length), vocab_size - 1)):
        (record,) = serialize_examples(ids, np.ones_like(ids), np.zeros_like(ids))
        assert smallest <= len(record) + 16 <= largest


def test_split_that_was_not_built(tmp_path):
    size = write(tmp_path / "a.tfrecord", examples(1))
    write_metadata(str(tmp_path), metadata_of(tmp_path, {"train": [Shard("a.tfrecord", 1, size)]}))
    with pytest.raises(RecordsError, match="no validation split: build with --validation_fraction"):
        find_records(str(tmp_path), "validation")


def test_foreign_files_are_read_from_their_first_record(tmp_path):
    for k in (2, 10, 1):
        write(tmp_path / f"pretrain_data.tfrecord-{k}-of-1000", examples(k, 32))
    write(tmp_path / "pretrain_data.tfrecord-3-of-1000.incomplete-77", examples(1, 16))
    (tmp_path / "out.tfrecord.incomplete-5").mkdir()
    for source in (str(tmp_path), f"{tmp_path}/*-1-of-*,{tmp_path}/*-[12]*"):
        found = find_records(source)
        assert [Path(f).name for f in found.files] == [
            f"pretrain_data.tfrecord-{k}-of-1000" for k in (1, 10, 2)
        ]
        assert (found.max_seq_length, found.num_examples, found.metadata) == (32, None, None)


def test_gzip_is_recognised(tmp_path):
    write(tmp_path / "a.tfrecord", examples(3), "GZIP")
    found = find_records(f"{tmp_path}/a*")
    assert (found.compression, found.max_seq_length) == ("GZIP", LENGTH)
    assert scan_file(found.files[0], "GZIP", LENGTH).examples == 3


def test_records_of_the_original():
    folder = SHARED / "golden/tf1/pretrain_tfrecords"
    if not folder.exists():
        pytest.skip("needs ../shared with TFRecords of the original")
    found = find_records(str(folder))
    assert len(found.files) == 20 and found.max_seq_length == 32
    scans = [scan_file(f, found.compression, 32) for f in found.files]
    assert sum(s.examples for s in scans) == 40
    assert not any(s.bad_records or s.damaged_at is not None for s in scans)


def test_what_cannot_be_used_is_one_clear_error(tmp_path):
    def error(source, message):
        with pytest.raises(RecordsError, match=message):
            find_records(f"{tmp_path}/{source}")

    error("none*", "no record files match")
    error("", "no train records in")
    with pytest.raises(RecordsError, match="no record files were named"):
        find_records(" , ")
    (tmp_path / "empty").write_bytes(b"")
    error("empty", "is empty")
    (tmp_path / "text").write_text("This is no TFRecord file at all.")
    error("text", "no TFRecord file")
    with gzip.open(tmp_path / "none.gz", "wb"):
        pass
    error("none.gz", "holds no records")
    write(tmp_path / "junk", [b"\xff\xff\xff"])
    error("junk", r"record 0 of .*junk is no tf\.train\.Example")
    write(tmp_path / "other", [tf_example(input_ids=[1], label=[2])])
    error("other", "holds input_ids, label")
    write(tmp_path / "uneven", [tf_example(input_ids=[1, 2], input_mask=[1], segment_ids=[0, 0])])
    error("uneven", "one length")
    write(tmp_path / "l1", examples(1, 8))
    write(tmp_path / "l2", examples(1, 16))
    error("l[12]", "different lengths: 8 in .*l1, 16 in .*l2")


# --- Scanning ---


def test_scan_finds_records_that_do_not_parse(tmp_path):
    good = examples(700)
    wrong_length = tf_example(input_ids=[1], input_mask=[1], segment_ids=[0])
    missing = tf_example(input_ids=[1] * LENGTH, input_mask=[1] * LENGTH)
    cut = serialize_example([200] * LENGTH, [1] * LENGTH, [0] * LENGTH)[:-3]
    bad = [wrong_length, missing, cut]
    write(tmp_path / "a", [*good[:3], b"junk", *good[3:600], *bad, *good[600:]])
    scan = scan_file(str(tmp_path / "a"), "", LENGTH)
    assert (scan.examples, scan.bad_records, scan.damaged_at) == (700, (3, 601, 602, 603), None)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_scan_says_where_damage_ends_the_file(tmp_path, damage):
    path = tmp_path / "a"
    write(path, examples(300))
    content = bytearray(path.read_bytes())
    frame = [len(r) + 16 for r in examples(300)]
    position = sum(frame[:270]) + 20
    if damage == "cut":
        content = content[:position]
    else:
        content[position] ^= 1
    path.write_bytes(content)
    scan = scan_file(str(path), "", LENGTH)
    assert (scan.examples, scan.bad_records, scan.damaged_at) == (270, (), 270)


def test_everything_is_importable_from_records():
    assert all(hasattr(records, name) for name in records.__all__)
