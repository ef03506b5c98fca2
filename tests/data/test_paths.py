"""Names of files: what exists is meant as it is, on any file system of TensorFlow's."""

import os

import pytest
import tensorflow as tf

from electra_keras.data import paths
from electra_keras.data.records import RecordsError, find_records, has_validation
from tests import runs

NAMES = [
    "run[1]", "a*b", "why?", "{x}", "one,two", " space ", "line\nbreak", "[!a]", "back\\slash",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_directories_of_any_name(tmp_path, name):
    directory = runs.write_records(tmp_path / name, examples=4, shards=2)
    runs.write_records(directory, examples=1, shards=1, name="validation")
    (tmp_path / "run1").mkdir()  # what "run[1]" would match
    assert len(find_records(str(directory)).files) == 2
    assert has_validation(str(directory))
    train = [f"{directory}/train.tfrecord-{k}-of-2" for k in range(2)]
    for source in (f"{directory}/train*", f"{directory}/train*-[01]-of-?", ",".join(train)):
        assert find_records(source).files == tuple(train), source
    both = find_records(f"{train[0]}, {directory}/val*")
    assert [os.path.basename(path)[:5] for path in both.files] == ["train", "valid"]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name(tmp_path, name):
    runs.write_records(tmp_path, examples=2, shards=1)
    (tmp_path / "train.tfrecord-0-of-1").rename(tmp_path / name)
    assert find_records(str(tmp_path / name)).files == (str(tmp_path / name),)


def test_wildcards_in_directories(tmp_path):
    for name in ("a1", "a2", "b[1]"):
        runs.write_records(tmp_path / name, examples=1, shards=1)
    assert len(paths.glob(f"{tmp_path}/a*/train*")) == 2
    assert len(paths.glob(f"{tmp_path}/*/train.tfrecord-0-of-1")) == 3
    assert paths.glob(f"{tmp_path}/c*/train*") == []
    assert paths.glob("nowhere-*") == []


@pytest.mark.parametrize("root", ["file://{}", "ram:/{}"])
def test_other_file_systems(tmp_path, root):
    local = runs.write_records(tmp_path / "data", examples=4, shards=2)
    directory = root.format(local)
    if root.startswith("ram"):
        tf.io.gfile.makedirs(directory)
        for path in local.iterdir():
            tf.io.gfile.copy(str(path), f"{directory}/{path.name}")
    train = tuple(f"{directory}/train.tfrecord-{k}-of-2" for k in range(2))
    for source in (directory, f"{directory}/train*", ",".join(train)):
        assert find_records(source).files == train


def test_a_missing_file_is_seen_by_the_others_names(tmp_path, caplog):
    runs.write_records(tmp_path, examples=8, shards=4)
    (tmp_path / "train.tfrecord-1-of-4").unlink()
    with pytest.raises(RecordsError, match=r"1 of the 4 files .*missing.* number 1"):
        find_records(str(tmp_path))
    # Named one by one, or by a pattern, it is what was asked for.
    assert len(find_records(f"{tmp_path}/train*").files) == 3
    assert "number 1: going on without them" in caplog.text
    (tmp_path / "train.tfrecord-2-of-4").unlink()
    (tmp_path / "train.tfrecord-3-of-4").unlink()
    assert len(find_records(str(tmp_path)).files) == 1  # a sample


def test_numbers_from_one_and_several_groups():
    assert paths.missing_files(["d/a-1-of-2", "d/a-2-of-2", "d/b-00000-of-00001.tfrecord"]) is None
    assert paths.missing_files(["d/a", "d/of-3"]) is None
    found, is_sample = paths.missing_files(["d/a-0-of-1", "d/b-00001-of-00002.tfrecord"])
    assert "d/b-*-of-00002.tfrecord" in found and "number 0" in found and not is_sample
