"""The order of examples: a function of (seed, epoch), whatever the hosts and wherever it starts."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UsageError
from electra_keras.data import pipeline
from electra_keras.data.pipeline import (
    evaluated_examples,
    evaluation_dataset,
    num_evaluation_batches,
    open_records,
    training_dataset,
)
from electra_keras.data.records import RecordsError, find_records, serialize_example
from tests import runs

VOCAB = 60


@pytest.fixture
def source(tmp_path):
    return open_records(find_records(str(runs.write_records(tmp_path, examples=44, shards=4))))


def take(dataset, count):
    return [batch["input_ids"].numpy() for batch in itertools.islice(dataset, count)]


def training(source, seed=1, **kwargs):
    return training_dataset(source, VOCAB, 8, seed, shuffle_buffer=15, **kwargs)


def as_rows(batches):
    return sorted(map(tuple, np.concatenate(batches).tolist()))


def test_an_epoch_has_each_example_once(source):
    everything = as_rows(take(evaluation_dataset(source, VOCAB, 4), 11))
    epoch = as_rows(take(training(source), 5))  # 44 examples: 5 batches, 4 examples dropped
    assert len(epoch) == 40
    assert not set(epoch) - set(everything)
    counts = {row: everything.count(row) for row in epoch}
    assert all(epoch.count(row) <= count for row, count in counts.items())


def test_order_depends_on_seed_and_epoch_alone(source):
    first = take(training(source), 15)
    tf.random.set_seed(99)  # must not matter
    np.testing.assert_array_equal(first, take(training(source), 15))
    assert not np.array_equal(first[0], first[5])
    assert not np.array_equal(first[:5], take(training(source, seed=2), 5))


@pytest.mark.parametrize("step", [1, 4, 5, 7, 12])
def test_starting_at_a_step_continues_there(source, step):
    whole = take(training(source), step + 6)
    np.testing.assert_array_equal(whole[step:], take(training(source, start_step=step), 6))


def test_hosts_and_replicas_share_the_global_batch(source):
    whole = take(training(source), 3)
    hosts = [
        take(training(source, num_hosts=2, host=host, replicas_per_host=2), 6) for host in (0, 1)
    ]
    for step in range(3):
        parts = [part for host in hosts for part in host[2 * step : 2 * step + 2]]
        np.testing.assert_array_equal(np.concatenate(parts), whole[step])


def test_evaluation_reads_everything_once_and_fills_up(source):
    assert num_evaluation_batches(source, 8, None) == 6
    batches = list(evaluation_dataset(source, VOCAB, 8, replicas_per_host=2))
    assert len(batches) == 12
    assert {batch["input_ids"].shape for batch in batches} == {tf.TensorShape([4, 16])}
    real = sum(int(tf.reduce_sum(tf.reduce_max(b["input_mask"], 1))) for b in batches)
    assert real == 44
    assert len(list(evaluation_dataset(source, VOCAB, 8, max_batches=2))) == 2


def test_gzip_records(tmp_path, source):
    path = str(tmp_path / "zip" / "train.tfrecord-0-of-1")
    (tmp_path / "zip").mkdir()
    with tf.io.TFRecordWriter(path, tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for name in source.records.files:
            for record in tf.data.TFRecordDataset(name):
                writer.write(record.numpy())
    zipped = open_records(find_records(str(tmp_path / "zip")))
    assert zipped.num_examples == 44
    np.testing.assert_array_equal(
        take(evaluation_dataset(zipped, VOCAB, 4), 11),
        take(evaluation_dataset(source, VOCAB, 4), 11),
    )


def defined_order(source, seed, shuffle_buffer, epoch):
    """An epoch as the definition of the order says it, by TensorFlow's own sequential interleave."""
    key = tf.random.experimental.stateless_fold_in(
        tf.constant([seed, 0]), tf.constant(epoch, tf.int64)
    )

    def shuffle(block, values):
        block_key = tf.random.experimental.stateless_fold_in(key, block)
        return tf.random.experimental.stateless_shuffle(values, block_key)

    order = shuffle(-1, tf.range(len(source.records.files)))
    files = tf.data.Dataset.from_tensor_slices(tf.gather(source.records.files, order))
    examples = files.interleave(tf.data.TFRecordDataset, cycle_length=16)
    return examples.batch(shuffle_buffer).enumerate().map(shuffle).unbatch()


@pytest.fixture(scope="module")
def uneven_source(tmp_path_factory):
    """Forty files, more than are read at once, of 1 to 30 examples, each example different."""
    directory, number = tmp_path_factory.mktemp("uneven"), 0
    for file, count in enumerate(np.random.default_rng(3).integers(1, 31, 40)):
        with tf.io.TFRecordWriter(str(directory / f"part{file:02d}.tfrecord")) as writer:
            for _ in range(count):
                ids = [number // VOCAB, number % VOCAB, 0, 0]
                writer.write(serialize_example(ids, [1] * 4, [0] * 4))
                number += 1
    return open_records(find_records(str(directory)))


def test_reading_ahead_and_passing_over_keep_the_order(uneven_source):
    source, batch, buffer = uneven_source, 8, 50
    steps = source.num_examples // batch
    assert steps > 60
    for epoch in (0, 1):
        first = (0, 1, 7, steps - 1) if epoch else (13, steps // 2)
        records = list(defined_order(source, 5, buffer, epoch).batch(batch, drop_remainder=True))
        expected = [pipeline.parse_batch(r, 4)["input_ids"].numpy() for r in records]
        for step in first:
            dataset = training_dataset(source, VOCAB, batch, 5, buffer, epoch * steps + step)
            got = [b["input_ids"].numpy() for b in dataset.take(steps - step)]
            np.testing.assert_array_equal(got, expected[step:])


@pytest.mark.parametrize("files, cycle", [(3, 4), (9, 4), (17, 5)])
def test_positions_after_examples_are_those_of_an_interleaving(files, cycle):
    rng = np.random.default_rng(files)
    counts = rng.integers(0, 4, files).tolist()
    order = rng.permutation(files).tolist()

    def interleaved(positions):
        parts = tf.data.Dataset.from_tensor_slices(np.array(positions).reshape(-1, 2))
        return parts.interleave(
            lambda part: tf.data.Dataset.range(
                part[1], tf.gather(tf.constant(counts, tf.int64), part[0])
            ).map(lambda example: tf.stack([part[0], example])),
            cycle_length=cycle,
        )

    whole = [tuple(v) for v in interleaved([(file, 0) for file in order]).as_numpy_iterator()]
    assert len(whole) == sum(counts)
    for skipped in range(sum(counts) + 1):
        positions = pipeline.positions_after(order, counts, cycle, skipped)
        rest = [tuple(v) for v in interleaved(positions).as_numpy_iterator()] if positions else []
        assert rest == whole[skipped:], skipped


def test_too_few_examples_and_batches_that_do_not_divide(source):
    with pytest.raises(UsageError, match="more than the 44 training examples"):
        training_dataset(source, VOCAB, 64, 1, 100)
    with pytest.raises(UsageError, match="not a multiple of the 3 replicas"):
        training_dataset(source, VOCAB, 8, 1, 100, replicas_per_host=3)


def test_skipping_bad_records_leaves_the_others_in_order(tmp_path, source):
    """A record of another length in one file, a damaged frame in another."""
    files = source.records.files
    records = [[r.numpy() for r in tf.data.TFRecordDataset(name)] for name in files]
    with tf.io.TFRecordWriter(files[0]) as writer:
        for record in [*records[0][:3], b"\x0a\x00", *records[0][3:]]:
            writer.write(record)
    content = bytearray(Path(files[1]).read_bytes())
    position = sum(len(record) + 16 for record in records[1][:7]) + 20
    content[position] ^= 0xFF
    Path(files[1]).write_bytes(content)
    fresh = find_records(str(tmp_path))
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(evaluation_dataset(open_records(fresh), VOCAB, 4))
    error = str(pipeline.explain_read_error(fresh))
    assert f"{files[0]}: record 3" in error
    skipping = open_records(fresh, skip_bad_records=True)
    assert skipping.examples_per_file == (11, 7, 11, 11)
    got = take(evaluation_dataset(skipping, VOCAB, 4), 10)
    good = records[0] + records[1][:7] + records[2] + records[3]
    expected = [pipeline.parse_batch([r], 16)["input_ids"].numpy()[0] for r in good]
    np.testing.assert_array_equal(np.concatenate(got), expected)
    # Position and order work the same.
    whole = take(training(skipping), 12)
    np.testing.assert_array_equal(whole[7:], take(training(skipping, start_step=7), 5))


def test_a_truncated_file_is_named_when_records_are_counted(source):
    path = source.records.files[2]
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[:-5])
    with pytest.raises(RecordsError, match="corrupt at record 10"):
        open_records(source.records)


def test_an_id_beyond_the_vocabulary_ends_the_reading(source):
    with pytest.raises(tf.errors.InvalidArgumentError, match="not below the vocabulary"):
        list(evaluation_dataset(source, 30, 4))


def test_a_part_of_the_split_is_of_all_files(uneven_source):
    """A bounded evaluation: the first examples of each file, in proportion, always the same."""
    source = uneven_source
    everything = evaluated_examples(source, 8, None)
    assert everything == list(source.examples_per_file)
    assert evaluated_examples(source, 8, 10**6) == everything
    part = evaluated_examples(source, 8, 20)
    assert sum(part) == 160 and num_evaluation_batches(source, 8, 20) == 20
    share = 160 / source.num_examples
    for taken, count in zip(part, source.examples_per_file, strict=True):
        assert abs(taken - share * count) <= 1
    records = [
        record
        for path, taken in zip(source.records.files, part, strict=True)
        for record in tf.data.TFRecordDataset(path).take(taken)
    ]
    expected = pipeline.parse_batch(tf.stack(records), 4)["input_ids"].numpy()
    got = take(evaluation_dataset(source, VOCAB, 8, max_batches=20), 99)
    np.testing.assert_array_equal(np.concatenate(got), expected)
