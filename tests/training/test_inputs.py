"""What training reads, wherever it lies and whatever it is called."""

import os
import time

import pytest
import tensorflow as tf

from electra_keras.data.opening import FINDINGS_FILE
from electra_keras.data.records import find_records
from electra_keras.options import DataOptions, ModelOptions, TrainingOptions
from electra_keras.train import find_splits, find_vocabulary, open_splits
from electra_keras.training.waiting import reminders
from tests import runs


@pytest.fixture
def data(tmp_path):
    directory = runs.write_records(tmp_path / "data,[1] {a}", examples=8)
    return runs.write_records(directory, examples=2, shards=1, name="validation")


@pytest.mark.parametrize("root", ["{}", "file://{}", "ram:/{}"])
def test_records_and_vocabulary_on_any_file_system(data, tmp_path, root):
    directory = root.format(data)
    if root.startswith("ram"):
        tf.io.gfile.makedirs(directory)
        for path in data.iterdir():
            tf.io.gfile.copy(str(path), f"{directory}/{path.name}", overwrite=True)
    for options in (
        DataOptions(data_dir=directory),
        DataOptions(train_files=f"{directory}/train*", validation_files=f"{directory}/validation*"),
        DataOptions(data_dir=directory, vocab_file=f"{directory}/vocab.txt"),
    ):
        train, validation = find_splits(options)
        assert [path.startswith(directory) for path in train.files] == [True, True]
        assert len(validation.files) == 1
        assert len(find_vocabulary(options, train, tmp_path / "run")) == 60


def test_counts_are_kept_in_the_run_directory(data, tmp_path):
    splits = find_splits(DataOptions(data_dir=str(data)))
    strategy = tf.distribute.get_strategy()
    for _ in range(2):
        train, validation = open_splits(strategy, splits, False, tmp_path / "run")
        assert (train.num_examples, validation.num_examples) == (8, 2)
        assert open_splits(strategy, (splits[0], None), False, tmp_path / "run")[1] is None
    assert sorted(os.listdir(tmp_path / "run")) == [FINDINGS_FILE]
    assert find_records(str(data)).examples_per_file is None


@pytest.mark.parametrize(
    "options, batches",
    [
        (dict(), 512),
        (dict(eval_batch_size=100), 163),
        (dict(train_batch_size=40_000), 1),
        (dict(eval_batches=7), 7),
        (dict(eval_batches=0), 0),
    ],
)
def test_evaluations_are_bounded_by_default(options, batches):
    resolved = TrainingOptions(**options).resolve(ModelOptions(model_size="tiny"))
    assert resolved.eval_batches == batches


def test_a_worker_that_waits_says_so(capfd):
    with reminders(["127.0.0.1:1", "nonsense"], interval=0.2):
        deadline, said = time.monotonic() + 20, ""
        while "waiting" not in said and time.monotonic() < deadline:
            time.sleep(0.05)
            said += capfd.readouterr().err
    assert "still waiting for the other workers" in said
    assert "no answer from 127.0.0.1:1, nonsense" in said
    capfd.readouterr()
    time.sleep(0.5)
    assert capfd.readouterr().err == ""
