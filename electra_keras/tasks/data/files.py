"""Finding and reading text files: plain or `.gz`, UTF-8 with or without BOM, LF or CRLF."""

import codecs
import functools
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from absl import logging

from electra_keras.console import UsageError, UserError

SPLITS = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


def find_split(directory: str, split: str, extensions: Sequence[str] | None) -> str | None:
    """Finds the file of a split in a directory.

    Args:
        split: "train", "dev" or "test". A dev file may be named dev, validation, valid or val.
        extensions: such as ".csv", in any case, each with or without ".gz" behind it. SQuAD's version
            between name and extension, as in `train-v1.1.json`, is passed over. None: any, or none.

    Returns:
        Its path, or None where there is no such file.

    Raises:
        UserError: the directory cannot be read, or there are several files for the split.
        UsageError: there is no split of that name.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
    names = "|".join(SPLITS[split])
    endings = r"(\.\w+)?" if extensions is None else "|".join(map(re.escape, extensions))
    pattern = re.compile(rf"({names})(-v\d\.\d)?({endings})(\.gz)?", re.IGNORECASE)
    found = sorted(filter(pattern.fullmatch, list_directory(directory)))
    if len(found) > 1:
        raise UserError(f"{directory} holds several {split} files: {', '.join(found)}; name one")
    return os.path.join(directory, found[0]) if found else None


def list_directory(directory: str) -> list[str]:
    """Returns the names in a directory, sorted.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return sorted(os.listdir(directory))
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from error


@functools.cache
def warn_once(message: str) -> None:
    """Logs what is odd about a file: once, though a run may read it several times."""
    logging.warning("%s", message)


def read_lines(path: str, longest: int | None = None) -> Iterator[tuple[int, str]]:
    """Yields the number, from 1, and the text of every line, without its LF or CRLF.

    Lines end at LF and nowhere else: not at a form feed or U+2028, and at a lone CR only in a file
    without any LF, as old spreadsheets write it.

    Args:
        path: of the file.
        longest: bytes that a line may have; None: any number, which all have to be in memory.

    Raises:
        UserError: the file cannot be read or unpacked, or a line is not UTF-8, or is too long.
    """
    number = 0
    try:
        with gzip.open(path) if path.lower().endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(_lines_of(file, longest), start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    except OverflowError as error:
        raise UserError(
            f"{path}, line {error}: more than {longest:,} bytes; is it one text? "
            "--max_text_length reads longer ones"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error


def _lines_of(file: BinaryIO, longest: int | None) -> Iterator[bytes]:
    """Yields the lines of a file, their ends included; see `read_lines`."""
    size = -1 if longest is None else longest + 1
    for number, line in enumerate(iter(lambda: file.readline(size), b""), start=1):
        if longest is not None and len(line) > longest:
            raise OverflowError(number)
        if number == 1 and not line.endswith(b"\n") and b"\r" in line[:-1]:
            yield from line.removesuffix(b"\r").split(b"\r")
        else:
            yield line


def parse_json(text: str, path: str, line: int | None = None) -> Any:
    """Returns the value of a JSON text.

    Args:
        text: the content of the file, or of one of its lines.
        path, line: named in errors; without `line`, the text's own lines are counted.

    Raises:
        UserError: it is not JSON, or an escape in it is half a character (a lone surrogate), which
            could not be written as UTF-8.
    """
    try:
        value = json.loads(text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        where = f"{path}, line {line or error.lineno}, column {error.colno}"
        raise UserError(f"{where}: bad JSON: {error.msg}") from error
    except RecursionError as error:
        raise UserError(f"{_at(path, line)}: bad JSON: nested too deeply") from error
    except ValueError as error:
        raise UserError(f"{_at(path, line)}: bad JSON: {error}") from error
    return value


def _at(path: str, line: int | None) -> str:
    return f"{path}, line {line}" if line else path
