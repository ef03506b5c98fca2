"""JSON files that others wrote: objects, and fields of the type that is expected."""

import json
from pathlib import Path
from typing import Any

from electra_keras.config import matches
from electra_keras.console import UserError, reason


def check_regular(path: Path) -> None:
    """Checks that a path, if it is there, is a file: to open a pipe may take for ever.

    Raises:
        UserError: it is something else.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is not a regular file")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object that a file holds.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    check_regular(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON: {reason(error)}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object")
    return values


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Returns the object that a file holds, or an empty one where there is no file."""
    return read_json(path) if path.exists() else {}


def field(values: dict[str, Any], name: str, kind: type, where: Path, default: Any = None) -> Any:
    """Returns a field of an object, or the default where it is null or not there.

    Args:
        values: what `read_json` returned.
        name: of the field.
        kind: its type.
        where: the file, for the message.
        default: what a missing field means.

    Raises:
        UserError: it is of another type.
    """
    value = values.get(name)
    if value is None:
        return default
    if not matches(value, kind):
        raise UserError(f"{where}: {name} must be of type {kind.__name__}: {value!r}")
    return value


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes an object, indented."""
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
