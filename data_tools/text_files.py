"""Reading raw text: patterns, gzip, byte order marks, line ends, bad bytes, and files in parts."""

import codecs
import contextlib
import dataclasses
import glob
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from absl import logging

from electra_keras.console import UserError

# Longer lines come in pieces, so that a file without line ends does not fill the memory.
MAX_LINE_BYTES = 1 << 16
# A batch of lines: large enough that the cost of a call for it vanishes, small in memory.
_BATCH_BYTES = 1 << 20
_BATCH_LINES = 1 << 16
_REPORTED_BAD_LINES = 3
# Text does not shrink to a 500th; what does fills the time and says nothing.
_MAX_GZIP_RATIO = 500
_MIN_BYTES_FOR_RATIO = 100_000_000
# First bytes of characters that str.strip() removes and bytes.strip() does not, and of the byte order
# mark, which files that were joined have in the middle.
_MAYBE_BLANK = frozenset(b"\x1c\x1d\x1e\x1f\xc2\xe1\xe2\xe3\xef")


class TextError(UserError):
    """Input text that is missing or cannot be read."""


def find_files(patterns: str) -> list[str]:
    """Returns the files that match comma-separated glob patterns, sorted, each once.

    A path that exists is taken as it is, also with a comma or one of `[]*?` in it; so are the
    directories at the beginning of a pattern.

    Raises:
        TextError: a pattern matches nothing, or what is no regular file.
    """
    found: dict[str, str] = {}
    rest = patterns.split(",") if not os.path.lexists(patterns) else [patterns]
    while rest:
        # The fewest pieces that match files together: commas may be part of a name.
        for count in range(1, len(rest) + 1):
            pattern = ",".join(rest[:count])
            files = _matching_files(pattern) or _matching_files(pattern.strip())
            if files or not pattern.strip():
                break
        else:
            pattern = rest[0].strip()
            if os.path.isdir(pattern):
                raise TextError(
                    f"{pattern!r} is a directory: name the files, as in '{pattern}/*.txt'"
                )
            raise TextError(f"no files match {pattern!r}")
        del rest[:count]
        for path in files:
            if os.path.exists(path) and not os.path.isfile(path):
                raise TextError(f"{path} is a pipe or a device: write the text to a file first")
            found.setdefault(os.path.abspath(path), path)
    if not found:
        raise TextError("no input files were named")
    return sorted(found.values())


def _matching_files(pattern: str) -> list[str]:
    """Returns the path itself if it exists, or what matches it as a pattern; no directories."""
    if os.path.lexists(pattern):
        return [] if os.path.isdir(pattern) else [pattern]
    # The longest directory that exists.
    literal, parent = pattern, os.path.dirname(pattern)
    while literal != parent and not os.path.lexists(parent):
        literal, parent = parent, os.path.dirname(parent)
    found = glob.glob(glob.escape(parent) + pattern[len(parent) :], recursive=True)
    return [path for path in found if not os.path.isdir(path)]


def is_gzip(path: str) -> bool:
    """Tells by the first bytes, not by the name, whether a file is compressed with gzip."""
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"\x1f\x8b"
    except OSError as error:
        raise TextError(f"cannot read {path}: {error.strerror}") from error


@contextlib.contextmanager
def open_text(path: str) -> Iterator[BinaryIO]:
    """Opens a plain or gzip file.

    Raises:
        TextError: the file cannot be read, or its gzip data are damaged.
    """
    try:
        with gzip.open(path) if is_gzip(path) else open(path, "rb") as file:
            yield file
    except OSError as error:  # gzip.BadGzipFile is one
        raise TextError(f"cannot read {path}: {error.strerror or error}") from error
    except (EOFError, zlib.error) as error:
        raise TextError(f"{path} is a damaged gzip file: {error}") from error


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
        name: of the file within the corpus: its path from the directory that all files share.
    """

    path: str
    start: int = 0
    end: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            object.__setattr__(self, "name", os.path.basename(self.path))


def split_files(files: list[str], part_bytes: int, at_blank_lines: bool) -> list[Part]:
    """Splits files into parts of about `part_bytes`; gzip files stay whole, as one cannot seek.

    Args:
        files: paths.
        part_bytes: the aim; a part is longer by what its last document reaches beyond it.
        at_blank_lines: whether blank lines separate documents; if not, files stay whole.
    """
    parts = []
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in files])
    for path in files:
        name = os.path.relpath(os.path.abspath(path), shared)
        size = os.path.getsize(path)
        count = 1 if not at_blank_lines or is_gzip(path) else max(1, round(size / part_bytes))
        bounds = [size * k // count for k in range(count)]
        ends = [*bounds[1:], None]
        parts += [Part(path, start, end, name) for start, end in zip(bounds, ends, strict=True)]
    return parts


def read_lines(part: Part) -> Iterator[bytes]:
    """Yields the lines of a part as bytes, without a byte order mark.

    Raises:
        TextError: as in `open_text`.
    """
    with open_text(part.path) as file:
        yield from _part_lines(file, part)


@dataclasses.dataclass
class TextCounts:
    """What was read.

    Attributes:
        lines, bytes: of the text, after decompression.
        bad_lines, bad_bytes: of these, how many lines were not UTF-8, and their bytes.
        first_bad_lines: file and line number, from 1, of the first of them.
    """

    lines: int = 0
    bytes: int = 0
    bad_lines: int = 0
    bad_bytes: int = 0
    first_bad_lines: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    def add(self, other: "TextCounts") -> None:
        """Adds what was read elsewhere."""
        self.lines += other.lines
        self.bytes += other.bytes
        self.bad_lines += other.bad_lines
        self.bad_bytes += other.bad_bytes
        first = sorted(self.first_bad_lines + other.first_bad_lines)
        self.first_bad_lines = first[:_REPORTED_BAD_LINES]

    def check(self, max_bad_share: float) -> None:
        """Raises TextError if more than this share of the bytes is in lines that are not UTF-8."""
        if self.bad_bytes > max_bad_share * self.bytes:
            path, line = self.first_bad_lines[0]
            raise TextError(
                f"{path}, line {line}: not UTF-8, and so are {self.bad_lines:,} of {self.lines:,} "
                f"lines, {self.bad_bytes / self.bytes:.0%} of the text: convert it, as with iconv "
                "-f ENCODING -t UTF-8, or allow it with --max_bad_share=1"
            )

    def warn(self) -> None:
        """Logs how much was not UTF-8, if any was."""
        for path, line in self.first_bad_lines:
            logging.warning("%s, line %d: not UTF-8; bad bytes were replaced", path, line)
        if self.bad_lines:
            logging.warning("%d lines were not UTF-8; --strict stops at the first", self.bad_lines)


def read_batches(part: Part, counts: TextCounts, strict: bool) -> Iterator[list[bytes]]:
    """Yields the lines of a part in batches of about 1 MB, all of them UTF-8.

    Args:
        part: what to read.
        counts: is told of every batch before it is yielded. Bytes that are not UTF-8 become U+FFFD.
        strict: whether a line that is not UTF-8 is an error.

    Raises:
        TextError: as in `open_text`; a line is not UTF-8, with `strict`; or a gzip file unpacks to
            a multiple that no text has.
    """
    limit = None
    if is_gzip(part.path):
        limit = max(_MIN_BYTES_FOR_RATIO, _MAX_GZIP_RATIO * os.path.getsize(part.path))
    batch: list[bytes] = []
    size = 0
    for line in read_lines(part):
        batch.append(line)
        size += len(line)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_LINES:
            yield _valid(batch, part, counts, strict)
            if limit and counts.bytes > limit:
                raise TextError(
                    f"{part.path} unpacks to more than {_MAX_GZIP_RATIO} times its size: that is "
                    "no text; unpack it and look into it"
                )
            batch, size = [], 0
    if batch:
        yield _valid(batch, part, counts, strict)


def _valid(lines: list[bytes], part: Part, counts: TextCounts, strict: bool) -> list[bytes]:
    joined = b"".join(lines)
    first = counts.lines
    counts.lines += len(lines)
    counts.bytes += len(joined)
    try:
        joined.decode("utf-8")
        return lines
    except UnicodeDecodeError:
        pass
    valid = []
    for number, line in enumerate(lines, start=first):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            if strict:
                raise TextError(
                    f"{part.path}, line {line_number(part, number)}: not UTF-8 "
                    f"({error.reason} at byte {error.start} of the line)"
                ) from error
            if counts.bad_lines < _REPORTED_BAD_LINES:
                counts.first_bad_lines.append((part.path, line_number(part, number)))
            counts.bad_lines += 1
            counts.bad_bytes += len(line)
            line = line.decode("utf-8", "replace").encode("utf-8")
        valid.append(line)
    return valid


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
            cut = line.rfind(b" ") + 1 or character_start(line)
            line, rest = line[:cut], line[cut:]
        yield line
        if part.end is not None and starts_at >= part.end and is_blank(line):
            return
    if rest:
        yield rest


def character_start(line: bytes) -> int:
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
