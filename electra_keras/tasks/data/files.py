"""Finding and reading text files: plain or `.gz`, UTF-8 with or without BOM, LF or CRLF."""

import codecs
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from electra_keras.console import UsageError, UserError

SPLITS = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}


def find_split(directory: str, split: str, extensions: Sequence[str]) -> str | None:
    """Finds the file of a split in a directory.

    Args:
        split: "train", "dev" or "test". A dev file may be named dev, validation, valid or val.
        extensions: such as ".csv", each with or without ".gz" behind it. SQuAD's version between
            name and extension, as in `train-v1.1.json`, is passed over.

    Returns:
        Its path, or None where there is no such file.

    Raises:
        UserError: the directory cannot be read, or there are several files for the split.
        UsageError: there is no split of that name.
    """
    if split not in SPLITS:
        raise UsageError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
    names, endings = "|".join(SPLITS[split]), "|".join(map(re.escape, extensions))
    pattern = re.compile(rf"({names})(-v\d\.\d)?({endings})(\.gz)?")
    try:
        found = sorted(filter(pattern.fullmatch, os.listdir(directory)))
    except OSError as error:
        raise UserError(f"cannot read the directory {directory}: {error.strerror}") from error
    if len(found) > 1:
        raise UserError(f"{directory} holds several {split} files: {', '.join(found)}; name one")
    return os.path.join(directory, found[0]) if found else None


def read_lines(path: str) -> Iterator[tuple[int, str]]:
    """Yields the number, from 1, and the text of every line, without its LF or CRLF.

    Lines end at LF and nowhere else: not at a lone CR, a form feed or U+2028.

    Raises:
        UserError: the file cannot be read or unpacked, or a line is not UTF-8.
    """
    number = 0
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield number, line.removesuffix(b"\n").removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}, line {number}: not UTF-8 ({error.reason}); save the file as UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot read {path}: {reason}") from error


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
    except ValueError as error:
        raise UserError(f"{path}{f', line {line}' if line else ''}: bad JSON: {error}") from error
    return value
