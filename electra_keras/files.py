"""Files that appear whole or not at all, and survive a power cut once they are there."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from typing import BinaryIO

from electra_keras.console import UserError, reason

# Names with this in them belong to a process that runs or was killed: never data.
TEMPORARY_MARK = ".incomplete-"


def write_whole(path: str | os.PathLike[str], data: str | bytes) -> None:
    """Writes a file, whole or not at all; text as UTF-8. See `whole_file`."""
    with whole_file(path) as file:
        file.write(data.encode("utf-8") if isinstance(data, str) else data)


@contextlib.contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a file for writing bytes that gets its name when it is complete and on the disk.

    Until then, and after an error, a file that stood there stays as it was. A symbolic link stays,
    and what it points to is replaced. Standard output by any of its names, /dev/stdout for one, is
    written as it is.

    Raises:
        UserError: the path exists and is no regular file (a directory, device, pipe or socket), or
            it cannot be written.
    """
    path = os.fspath(path)
    if is_stdout(path):
        sys.stdout.flush()
        with _named_errors(path), open(1, "wb", closefd=False) as file:
            yield file
        return
    check_writable(path)
    target = os.path.realpath(path)
    temporary = f"{target}{TEMPORARY_MARK}{os.getpid()}"
    try:
        with _named_errors(path, temporary):
            with open(temporary, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_directory(os.path.dirname(target))
    finally:
        with contextlib.suppress(OSError):
            os.remove(temporary)


def is_stdout(path: str | os.PathLike[str]) -> bool:
    """Tells whether a path is this process's standard output."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(1))
    except OSError:
        return False


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises UserError where `whole_file` would: to be called before long work.

    Raises:
        UserError: the path exists and is no regular file nor standard output, or there is no
            directory to put it in.
    """
    path = os.fspath(path)
    if is_stdout(path):
        return
    directory = os.path.dirname(os.path.realpath(path))
    if not os.path.basename(path):
        raise UserError(f"cannot write {path}: it is a directory and no file; choose another name")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        if not os.path.isdir(directory):
            raise UserError(f"cannot write {path}: there is no directory {directory}") from None
        return
    except OSError as error:  # a link to itself, no right to look
        raise UserError(f"cannot write {path}: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a device, a pipe or a socket"
        raise UserError(f"cannot write {path}: it is {kind} and no file; choose another name")


def sync(path: str | os.PathLike[str]) -> None:
    """Returns when the content of a file that is written and closed is on the disk.

    Raises:
        OSError: it is not there, or the disk is full.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Returns when the names in a directory are on the disk, as far as the file system can tell."""
    # Some network file systems refuse it; the content is safe there all the same.
    with contextlib.suppress(OSError):
        sync(path)


def sync_tree(directory: str | os.PathLike[str]) -> None:
    """Returns when all files of a directory, and of those in it, are on the disk with their names.

    Raises:
        OSError: the disk is full.
    """
    for parent, _, names in os.walk(directory):
        for name in names:
            sync(os.path.join(parent, name))
        sync_directory(parent)


@contextlib.contextmanager
def _named_errors(path: str, temporary: str | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Not of this file: the caller reads another one meanwhile, or whoever reads our output has
        # seen enough (see console.run_main).
        foreign = error.errno is None or error.filename not in (None, temporary, path)
        if foreign or isinstance(error, BrokenPipeError):
            raise
        raise UserError(f"cannot write {path}: {reason(error)}") from error
