"""The builder's pieces in one process; test_mains.py runs the whole."""

import contextlib
import json
import os
import random
import resource
from pathlib import Path

import numpy as np
import pytest

from data_tools import shards
from data_tools.output_directory import OutputDirectory
from data_tools.part_builder import CharacterCounts, Options, PartBuilder, spool_paths
from data_tools.shards import choose_num_shards, write_shards
from data_tools.text_files import Part, TextError, split_files
from electra_keras.console import UserError
from electra_keras.data.records import TEMPORARY_MARK, parse_batch, read_serialized, scan_file
from electra_keras.text.tokenizer import ReferenceTokenizer
from electra_keras.text.vocabulary import Vocabulary

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/tokenizer.json").read_text())
VOCABULARY = Vocabulary(tuple(GOLDEN["vocabulary"]))


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("vocab") / "vocab.txt")
    VOCABULARY.save(path)
    return path


def builder(vocab_file, directory, **changes):
    values = dict(
        vocab_file=vocab_file,
        max_seq_length=32,
        lower_case=True,
        strip_accents=None,
        blank_lines_separate_documents=True,
        drop_overflow=False,
        validation_fraction=0.0,
        seed=0,
        strict=False,
    )
    return PartBuilder(Options(**{**values, **changes}), str(directory))


def documents(count, seed=0):
    texts = [case[0].replace("\n", " ") for case in GOLDEN["cases"] if case[3].strip()]
    rng = random.Random(seed)
    return [[rng.choice(texts) for _ in range(rng.randint(1, 8))] for _ in range(count)]


def write_text(path, docs):
    path.write_text("\n\n".join("\n".join(d) for d in docs), encoding="utf-8", newline="")
    return Part(str(path))


def test_examples_are_the_text(tmp_path, vocab_file):
    docs = documents(60)
    part = write_text(tmp_path / "a.txt", docs)
    result = builder(vocab_file, tmp_path).build(0, part)
    train = result.splits["train"]
    assert write_shards(str(tmp_path), "train", 1, 1, "", 0)[0].examples == train.examples
    path = str(tmp_path / "train-00000-of-00001.tfrecord")
    batch = {k: v.numpy() for k, v in parse_batch(list(read_serialized(path, "")), 32).items()}
    found = []
    for ids, mask, segments in zip(*batch.values(), strict=True):
        length = mask.sum()
        assert mask.tolist() == [1] * length + [0] * (32 - length)
        assert ids[0] == VOCABULARY.cls_id and ids[length - 1] == VOCABULARY.sep_id
        assert not ids[length:].any() and not segments[length:].any()
        first = int(length - segments.sum())
        assert ids[first - 1] == VOCABULARY.sep_id
        found += [i for k, i in enumerate(ids[1 : length - 1], start=1) if k != first - 1]
    reference = ReferenceTokenizer(VOCABULARY)
    expected = [t for d in docs for line in d for t in reference.tokenize(line)]
    counts = np.bincount([VOCABULARY.ids[t] for t in expected], minlength=len(VOCABULARY))
    assert np.bincount(found, minlength=len(VOCABULARY)).tolist() == counts.tolist()
    assert result.text_tokens == len(expected)
    # What metadata.json will say of it.
    assert train.documents == 60 and train.examples == len(batch["input_ids"])
    assert train.token_counts.sum() == batch["input_mask"].sum()


def test_documents_go_whole_to_either_split(tmp_path, vocab_file):
    docs = [[f"{'a b c ' * 40}"] for _ in range(400)]
    part = write_text(tmp_path / "a.txt", docs)
    result = builder(vocab_file, tmp_path, validation_fraction=0.25).build(0, part)
    train, validation = (result.splits[s] for s in ("train", "validation"))
    assert train.documents + validation.documents == 400
    assert 60 < validation.documents < 140
    other = builder(vocab_file, tmp_path, validation_fraction=0.25, seed=1).build(1, part)
    assert other.splits["validation"].documents != validation.documents


def test_files_of_one_name_have_choices_of_their_own(tmp_path, vocab_file):
    paths = [tmp_path / f"{k:02d}" / "text.txt" for k in range(40)]
    for path in paths:
        path.parent.mkdir()
        write_text(path, [["a b c"]])
    one = builder(vocab_file, tmp_path, validation_fraction=0.5)
    parts = split_files([str(path) for path in paths], 10**6, at_blank_lines=True)
    results = [one.build(k, part) for k, part in enumerate(parts)]
    held_out = sum(result.splits["validation"].documents for result in results)
    assert 8 < held_out < 32


def test_a_part_is_built_the_same_alone_and_after_others(tmp_path, vocab_file):
    parts = [write_text(tmp_path / f"{k}.txt", documents(20, seed=k)) for k in range(2)]
    one = builder(vocab_file, tmp_path)
    one.build(0, parts[0])
    one.build(1, parts[1])
    builder(vocab_file, tmp_path).build(2, parts[1])
    first, second = (Path(spool_paths(str(tmp_path), k, "train")[0]) for k in (1, 2))
    assert first.read_bytes() == second.read_bytes()


def test_blank_lines_that_separate_nothing(tmp_path, vocab_file):
    part = write_text(tmp_path / "a.txt", [["a b"], ["c d"], ["e"]])
    result = builder(vocab_file, tmp_path, blank_lines_separate_documents=False).build(0, part)
    assert (result.splits["train"].documents, result.splits["train"].examples) == (1, 1)


def test_bytes_that_are_not_utf8(tmp_path, vocab_file):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nb\xffad\n\n" + "é\n".encode() + b"\xe9\n" * 3)
    result = builder(vocab_file, tmp_path).build(0, Part(str(path)))
    assert result.text.bad_lines == 4
    assert result.text.first_bad_lines == [(str(path), 2), (str(path), 5), (str(path), 6)]
    with pytest.raises(TextError, match=r"a\.txt, line 2: not UTF-8 .*at byte 1"):
        builder(vocab_file, tmp_path, strict=True).build(1, Part(str(path)))


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_shards_are_even_and_mixed(tmp_path, vocab_file, compression):
    one = builder(vocab_file, tmp_path)
    total = 0
    for k in range(5):
        part = write_text(tmp_path / f"{k}.txt", documents(30, seed=k))
        total += one.build(k, part).splits["train"].examples
    shards = write_shards(str(tmp_path), "train", 5, 3, compression, seed=0)
    assert sum(s.examples for s in shards) == total
    assert max(s.examples for s in shards) - min(s.examples for s in shards) <= 1
    for shard in shards:
        path = tmp_path / shard.name
        assert path.stat().st_size == shard.bytes
        assert scan_file(str(path), compression, 32).examples == shard.examples
    assert not list(tmp_path.glob("part-*"))


@contextlib.contextmanager
def open_files(number):
    """Lets this process open so many files more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = len(os.listdir("/dev/fd")) + number
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_more_shards_than_files_may_be_open(tmp_path, vocab_file, compression):
    folders = [tmp_path / "many", tmp_path / "few"]
    for folder in folders:
        folder.mkdir()
        for k in range(3):
            part = write_text(tmp_path / f"{k}.txt", documents(30, seed=k))
            builder(vocab_file, folder).build(k, part)
    arguments = ("train", 3, 40, compression, 0)
    expected = write_shards(str(folders[0]), *arguments)
    with open_files(33):
        assert write_shards(str(folders[1]), *arguments) == expected
    names = [sorted(os.listdir(folder)) for folder in folders]
    assert names[0] == names[1] == [shard.name for shard in expected]
    for name in names[0]:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_limit_of_open_files_is_raised_or_named(monkeypatch):
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with open_files(20):
        shards.check_open_files(workers=0)
        raised, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raised == hard or raised > len(os.listdir("/dev/fd")) + 1000
    monkeypatch.setattr(resource, "getrlimit", lambda _: (60, 60))
    with pytest.raises(UserError, match="allows 60 open files, and 64 workers need"):
        shards.check_open_files(workers=64)


@pytest.mark.parametrize(
    "examples, num_bytes, expected",
    [(1, 600, 1), (300, 2e5, 1), (1100, 6e5, 4), (50_000, 3e7, 12), (10**8, 6e10, 600)],
)
def test_number_of_shards_fits_the_data(examples, num_bytes, expected):
    assert choose_num_shards(examples, int(num_bytes)) == expected


def test_unknown_words_are_counted_in_characters(tmp_path, vocab_file):
    one = builder(vocab_file, tmp_path)
    ids, counts = one.tokenize([b"the", b"the " + "ก".encode() * 50, b"x" * 201, b"", b"the"])
    assert counts == CharacterCounts(words=3 * 3 + 50 + 201, unknown=251, too_long=201)
    unknown = [sum(i == VOCABULARY.unk_id for i in row) for row in ids]
    assert unknown == [0, 1, 1, 0, 0]


# --- The output directory ---


def test_it_appears_when_complete(tmp_path):
    target = tmp_path / "new" / "out"
    with OutputDirectory(str(target), False) as output:
        Path(output.temporary, "train.tfrecord").write_text("x")
        assert not target.exists()
        output.publish()
    assert [p.name for p in target.iterdir()] == ["train.tfrecord"]
    assert [p.name for p in target.parent.iterdir()] == ["out"]


def test_a_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(ValueError), OutputDirectory(str(tmp_path / "out"), False) as output:
        Path(output.temporary, "train.tfrecord").write_text("x")
        raise ValueError
    assert not list(tmp_path.iterdir())


def test_an_existing_data_set_is_replaced_only_on_request(tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "metadata.json").write_text("old")
    with pytest.raises(UserError, match="--overwrite"), OutputDirectory(str(target), False):
        pass
    with OutputDirectory(str(target), True) as output:
        Path(output.temporary, "metadata.json").write_text("new")
        assert (target / "metadata.json").read_text() == "old"
        output.publish()
    assert (target / "metadata.json").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_directory_with_other_files_is_never_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"thesis\.tex"), OutputDirectory(str(tmp_path), True):
        pass
    assert (tmp_path / "thesis.tex").exists()


def test_two_runs_at_once_and_what_a_killed_run_left(tmp_path):
    target = str(tmp_path / "out")
    left = tmp_path / f"out{TEMPORARY_MARK}99999"
    left.mkdir()
    (left / ".lock").write_text("")
    (left / "part-000000-train.examples").write_text("x")
    with OutputDirectory(target, False) as output:
        assert not left.exists()
        os_name = Path(output.temporary)
        other = OutputDirectory(target, False)
        with pytest.raises(UserError, match="another run is building"):
            other.__enter__()
        assert os_name.exists()


def test_a_replacement_that_was_killed_gives_the_old_data_back(tmp_path):
    old = tmp_path / f"out{TEMPORARY_MARK}old-7"
    old.mkdir()
    (old / "metadata.json").write_text("old")
    with OutputDirectory(str(tmp_path / "out"), True):
        assert (tmp_path / "out" / "metadata.json").read_text() == "old"


def test_what_was_finished_is_kept_when_its_name_is_taken(tmp_path):
    target = tmp_path / "out"
    with (
        pytest.raises(UserError, match=r"exists already.* data set is (.*)") as error,
        OutputDirectory(str(target), False) as output,
    ):
        Path(output.temporary, "train.tfrecord").write_text("x")
        target.mkdir()
        (target / "train.tfrecord").write_text("of another run")
        output.publish()
    finished = Path(str(error.value).rpartition(" ")[2])
    assert finished.parent == tmp_path and TEMPORARY_MARK not in finished.name
    assert [p.name for p in finished.iterdir()] == ["train.tfrecord"]
    assert (target / "train.tfrecord").read_text() == "of another run"


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "metadata.json").write_text("old")
    (tmp_path / "out").symlink_to("disk")
    with OutputDirectory(str(tmp_path / "out"), True) as output:
        Path(output.temporary, "metadata.json").write_text("new")
        output.publish()
    assert (tmp_path / "out").is_symlink() and not (tmp_path / "disk").is_symlink()
    assert (tmp_path / "disk" / "metadata.json").read_text() == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["disk", "out"]


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo, lambda p: p.symlink_to("/dev/null")])
def test_what_is_no_directory_is_refused_and_stays(tmp_path, make):
    make(tmp_path / "out")
    before = os.lstat(tmp_path / "out")
    with (
        pytest.raises(UserError, match="is no directory"),
        OutputDirectory(str(tmp_path / "out"), True),
    ):
        pass
    assert os.path.samestat(before, os.lstat(tmp_path / "out"))


def test_a_mount_point_is_refused_before_the_work():
    with pytest.raises(UserError, match="mount point"), OutputDirectory("/proc", True):
        pass


def test_the_data_are_on_the_disk_before_they_have_their_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    name = lambda d: os.path.basename(os.readlink(f"/proc/self/fd/{d}"))  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda d: events.append(name(d)) or fsync(d))
    monkeypatch.setattr(os, "replace", lambda *p: events.append("rename") or replace(*p))
    with OutputDirectory(str(tmp_path / "out"), False) as output:
        Path(output.temporary, "train.tfrecord").write_text("x")
        output.publish()
    assert events.index("train.tfrecord") < events.index("rename") < events.index(tmp_path.name)
