"""Files that appear whole, and paths at which there is something that is no file."""

import os
import resource
import stat
import sys

import pytest

from electra_keras import files
from electra_keras.console import UserError
from electra_keras.directories import whole_directory
from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.training.test_damaged_checkpoints import STATE, make_store


def test_it_is_whole_or_as_before(tmp_path):
    path = tmp_path / "a.txt"
    files.write_whole(path, "first é\n")
    assert path.read_bytes() == "first é\n".encode()
    with pytest.raises(ValueError), files.whole_file(path) as file:
        file.write(b"half")
        raise ValueError
    with files.whole_file(str(path)) as file:
        file.write(b"second")
        assert path.read_bytes() == "first é\n".encode()
    assert path.read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_content_and_name_are_on_the_disk(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def kind(descriptor):
        return "directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"

    monkeypatch.setattr(os, "fsync", lambda d: events.append(kind(d)) or fsync(d))
    monkeypatch.setattr(os, "replace", lambda *p: events.append("rename") or replace(*p))
    files.write_whole(tmp_path / "a", b"x")
    assert events == ["file", "rename", "directory"]


def directory(path):
    path.mkdir()
    return "it is a directory"


def pipe(path):
    os.mkfifo(path)
    return "it is a device, a pipe or a socket"


def link_to_pipe(path):
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to("pipe")
    return "it is a device, a pipe or a socket"


def link_to_device(path):
    path.symlink_to("/dev/null")
    return "it is a device, a pipe or a socket"


def link_to_itself(path):
    path.symlink_to(path.name)
    return "symbolic links"


def link_to_a_missing_directory(path):
    path.symlink_to("none/file")
    return "there is no directory"


WRITERS = {
    "vocabulary": lambda path: Vocabulary(SPECIAL_TOKENS).save(str(path)),
    "text": lambda path: files.write_whole(path, "x"),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    "make",
    [
        directory,
        pipe,
        link_to_pipe,
        link_to_device,
        link_to_itself,
        link_to_a_missing_directory,
    ],
)
def test_what_is_no_file_is_refused_and_stays(tmp_path, make, write):
    path = tmp_path / "output"
    message = make(path)
    before = os.lstat(path)
    names = sorted(os.listdir(tmp_path))
    with pytest.raises(UserError, match=message) as error:
        write(path)
    assert str(path) in str(error.value)
    assert os.path.samestat(before, os.lstat(path))
    assert sorted(os.listdir(tmp_path)) == names


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_is_written_through(tmp_path, exists):
    target = tmp_path / "there" / "target"
    target.parent.mkdir()
    if exists:
        target.write_text("old")
    (tmp_path / "link").symlink_to("there/target")
    files.write_whole(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert not target.is_symlink() and target.read_text() == "new"
    assert os.listdir(target.parent) == ["target"]


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_standard_output_is_written_as_it_is(capfd, name):
    with open(1, "w", closefd=False) as stdout, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)  # buffered, as a command's is
        print("before")
        files.write_whole(name, "x\n")
        print("after")
    assert capfd.readouterr().out == "before\nx\nafter\n"
    assert files.is_stdout(name) and not files.is_stdout("/dev/null")


def test_a_pipe_that_is_standard_output(capfd):
    reader, writer = os.pipe()
    os.dup2(writer, 1)
    os.close(writer)
    files.write_whole("/dev/stdout", b"x")
    assert os.read(reader, 10) == b"x"
    os.close(reader)


def test_a_full_disk_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*vocab\.txt: File too large"):
            Vocabulary((*SPECIAL_TOKENS, *map(str, range(1000)))).save(str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["vocab.txt"] and path.read_text() == "old"


def test_errors_of_other_files_keep_their_name(tmp_path):
    with pytest.raises(FileNotFoundError) as error, files.whole_file(tmp_path / "a"):
        open(tmp_path / "none")  # noqa: SIM115
    assert error.value.filename == str(tmp_path / "none")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["none/a", "file/a", "new/"])
def test_no_directory_to_put_it_in(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"cannot write .*{name}"):
        files.check_writable(f"{tmp_path}/{name}")


@pytest.fixture
def calls(monkeypatch):
    """Records what is synced and renamed, in order."""
    calls = []

    def record(name, path_of):
        real = getattr(os, name)

        def call(*args):
            calls.append((name, os.path.basename(path_of(args[0]))))
            return real(*args)

        monkeypatch.setattr(os, name, call)

    record("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    record("rename", os.fspath)
    record("replace", os.fspath)
    return calls


def test_a_directory_is_on_the_disk_before_it_has_its_name(tmp_path, calls):
    with whole_directory(tmp_path / "final", tmp_path / "temporary"):
        (tmp_path / "temporary" / "inner").mkdir()
        (tmp_path / "temporary" / "inner" / "file").write_text("x")
    names = [name for _, name in calls]
    assert calls[-2:] == [("rename", "temporary"), ("fsync", tmp_path.name)]
    assert sorted(names[:-2]) == ["file", "inner", "temporary"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, calls):
    store, _ = make_store(tmp_path)
    path = store.save({"step": 3, **STATE})
    last = next(i for i, call in enumerate(calls) if call[0] == "replace")
    synced = {name for _, name in calls[:last]}
    assert {p.name for p in path.iterdir()} <= synced
    assert calls[last + 1] == ("fsync", "checkpoints")
