"""Reading raw text: patterns, gzip, byte order marks, line ends, bad bytes, and files in parts."""

import codecs
import dataclasses
import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from electra_keras.console import UserError

# Longer lines come in pieces, so that a file without line ends does not fill the memory.
MAX_LINE_BYTES = 1 << 16
# First bytes of characters that str.strip() removes and bytes.strip() does not, and of the byte order
# mark, which files that were joined have in the middle.
_MAYBE_BLANK = frozenset(b"\x1c\x1d\x1e\x1f\xc2\xe1\xe2\xe3\xef")


class TextError(UserError):
    """Input text that is missing or cannot be read."""


def find_files(patterns: str) -> list[str]:
    """Returns the files that match comma-separated glob patterns, sorted.

    Raises:
        TextError: a pattern matches nothing, or only directories.
    """
    files = set()
    for pattern in filter(None, (part.strip() for part in patterns.split(","))):
        matches = glob.glob(os.path.expanduser(pattern), recursive=True)
        found = [path for path in matches if not os.path.isdir(path)]
        if matches and not found:
            raise TextError(f"{pattern!r} is a directory: name the files, as in '{pattern}/*.txt'")
        if not found:
            raise TextError(f"no files match {pattern!r}")
        files.update(found)
    if not files:
        raise TextError("no input files were named")
    return sorted(files)


def is_gzip(path: str) -> bool:
    """Tells by the first bytes, not by the name, whether a file is compressed with gzip."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}") from error


def is_blank(line: bytes) -> bool:
    """Tells whether nothing but white space, Unicode's included, or byte order marks is in a line."""
    line = line.strip()
    if not line:
        return True
    if line[0] not in _MAYBE_BLANK:
        return False
    return not line.decode("utf-8", "replace").replace("\ufeff", "").strip()


@dataclasses.dataclass(frozen=True)
class Part:
    """A piece of a file that begins and ends between two documents, or a whole file.

    It goes from the first blank line at or after byte `start` (or the file's beginning) to the
    first blank line at or after byte `end` (or the file's end): whoever reads the parts of a file
    reads every document once, wherever the bounds fall.

    Attributes:
        path: the file.
        start, end: bounds in bytes; `end` is None for the rest of the file.
    """

    path: str
    start: int = 0
    end: int | None = None


def split_files(files: list[str], part_bytes: int, at_blank_lines: bool) -> list[Part]:
    """Splits files into parts of about `part_bytes`; gzip files stay whole, as one cannot seek.

    Args:
        files: paths.
        part_bytes: the aim; a part is longer by what its last document reaches beyond it.
        at_blank_lines: whether blank lines separate documents; if not, files stay whole.
    """
    parts = []
    for path in files:
        size = os.path.getsize(path)
        count = 1 if not at_blank_lines or is_gzip(path) else max(1, round(size / part_bytes))
        bounds = [size * k // count for k in range(count)]
        ends = [*bounds[1:], None]
        parts += [Part(path, start, end) for start, end in zip(bounds, ends, strict=True)]
    return parts


def read_lines(part: Part) -> Iterator[bytes]:
    """Yields the lines of a part as bytes, without a byte order mark.

    Raises:
        TextError: the file cannot be read, or its gzip data are damaged.
    """
    try:
        compressed = is_gzip(part.path)
        with gzip.open(part.path) if compressed else open(part.path, "rb") as file:
            yield from _part_lines(file, part)
    except OSError as error:  # gzip.BadGzipFile is one
        raise TextError(f"cannot read {part.path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise TextError(f"{part.path} is a damaged gzip file: {error}") from error


def _part_lines(file: BinaryIO, part: Part) -> Iterator[bytes]:
    position = part.start
    if part.start:
        file.seek(part.start - 1)
        position += len(file.readline()) - 1
        while True:
            if part.end is not None and position >= part.end:
                return  # both bounds fall before the same blank line: no document begins between
            line = file.readline()
            position += len(line)
            if not line or is_blank(line):
                break
    first, rest = part.start == 0, b""
    while line := file.readline(MAX_LINE_BYTES):
        starts_at, position = position, position + len(line)
        if first:
            line, first = line.removeprefix(codecs.BOM_UTF8), False
        line, rest = rest + line, b""
        if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
            # Cut between words, or else between characters.
            cut = line.rfind(b" ") + 1 or _character_start(line)
            line, rest = line[:cut], line[cut:]
        yield line
        if part.end is not None and starts_at >= part.end and is_blank(line):
            return
    if rest:
        yield rest


def _character_start(line: bytes) -> int:
    """Returns where the last UTF-8 character begins."""
    for back in range(1, 4):
        if line[-back] & 0xC0 != 0x80:
            return len(line) - back
    return len(line)


def line_number(part: Part, line: int) -> int:
    """Returns the number in its file, from 1, of line `line` (from 0) of a part.

    It reads the file up to the part: for messages only.
    """
    if not part.start:
        return line + 1
    with open(part.path, "rb") as file:
        file.seek(part.start - 1)
        file.readline()
        for skipped in iter(file.readline, b""):
            if is_blank(skipped):
                break
        end = file.tell()
        file.seek(0)
        before = 0
        while file.tell() < end:
            before += file.read(min(1 << 20, end - file.tell())).count(b"\n")
    return before + line + 1
