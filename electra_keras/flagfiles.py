"""Flagfiles: a flag a line, as on the command line; lines that begin with # or // are comments.

A value that begins and ends with a double quote is a JSON string, for what a line cannot hold as it is:
white space at the edges, line breaks.
"""

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

# A flagfile may name others.
_DEEPEST = 20


class Argument(NamedTuple):
    """An argument and where it stands: 0 is the command line, then each flagfile that is read."""

    text: str
    source: int


def expand(arguments: Sequence[str]) -> list[Argument]:
    """Returns the arguments of a command with those of its flagfiles in place of each --flagfile.

    Raises:
        OSError: a flagfile cannot be read.
        ValueError: it is no text, has no path, or names itself.
    """
    expanded: list[Argument] = []
    files = 0

    def add(arguments: Sequence[str], source: int, path: tuple[str, ...]) -> None:
        nonlocal files
        rest = iter(arguments)
        for argument in rest:
            name, equals, value = argument.partition("=")
            if name not in ("--flagfile", "-flagfile"):
                expanded.append(Argument(argument, source))
                if argument == "--" and source == 0:  # what follows is no flag
                    expanded.extend(Argument(text, source) for text in rest)
                continue
            value = value if equals else next(rest, "")
            if not value:
                raise ValueError("--flagfile is given without a path")
            value = os.path.expanduser(value)
            if os.path.realpath(value) in path:
                raise ValueError(f"the flagfile {value} names itself")
            if len(path) == _DEEPEST:
                raise ValueError(
                    f"{path[0]}: flagfiles that name others, more than {_DEEPEST} deep"
                )
            files += 1
            add(read(value), files, (*path, os.path.realpath(value)))

    add(arguments, 0, ())
    return expanded


def read(path: str | os.PathLike[str], as_written: bool = False) -> list[str]:
    """Returns the flags of a flagfile as arguments; those that name other flagfiles, too.

    Args:
        path: of the flagfile.
        as_written: as of `parse`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not UTF-8.
    """
    with open(path, "rb") as file:
        content = file.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    return parse(text, as_written)


def parse(text: str, as_written: bool = False) -> list[str]:
    """Returns the flags of a flagfile's text as arguments.

    Args:
        text: of the flagfile.
        as_written: white space at the end of a line is the value's. A run's flags.cfg was once written
            so; what people write may have some by accident.
    """
    lines = (line.removesuffix("\r") if as_written else line.strip() for line in text.split("\n"))
    return [_unquoted(line) for line in lines if line and not line.startswith(("#", "//"))]


def values(arguments: Sequence[str]) -> dict[str, str]:
    """Returns the values, as texts by name, of arguments such as --name=value; others are left out."""
    flags = (text[2:].partition("=") for text in arguments if text.startswith("--"))
    return {name: value for name, _, value in flags}


def _unquoted(line: str) -> str:
    name, equals, value = line.partition("=")
    if len(value) > 1 and value[0] == value[-1] == '"':
        try:
            return name + equals + json.loads(value)
        except ValueError:  # the quotes are the value's own
            pass
    return line


def quote(value: str) -> str:
    """Returns a value as it is to stand in a flagfile."""
    if value.isprintable() and value == value.strip() and not value.startswith('"'):
        return value
    return json.dumps(value)
