"""Command-line flags made from the option dataclasses, and flagfiles made from flags."""

import dataclasses
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from electra_keras.console import UserError, reason

Options = TypeVar("Options")


# What was meant for one start only, and would delete the run that the flagfile reproduces.
_ONCE = ("fresh", "overwrite", "force_resume")


def _value_type(annotation: Any) -> tuple[type, bool]:
    """Returns the plain type of an annotation such as `int | None`, and whether None is allowed."""
    if isinstance(annotation, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return members[0], True
    return annotation, False


def define(cls: type) -> None:
    """Defines a flag for every field of an options dataclass."""
    annotations = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kind, _ = _value_type(annotations[field.name])
        help_text = field.metadata["help"]
        if field.metadata["choices"]:
            flags.DEFINE_enum(field.name, field.default, field.metadata["choices"], help_text)
        elif kind is bool:
            flags.DEFINE_bool(field.name, field.default, help_text)
        elif kind is int:
            flags.DEFINE_integer(field.name, field.default, help_text)
        elif kind is float:
            flags.DEFINE_float(field.name, field.default, help_text)
        else:
            flags.DEFINE_string(field.name, field.default, help_text)


def read(cls: type[Options]) -> Options:
    """Returns the options that the parsed flags give.

    Raises:
        UsageError: an impossible value or combination, from the dataclass's own checks.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: getattr(flags.FLAGS, name) for name in names})


def given(cls: type) -> set[str]:
    """Returns the names of those options of a dataclass that are on the command line."""
    names = [field.name for field in dataclasses.fields(cls)]
    return {name for name in names if flags.FLAGS[name].present}


def read_flagfile(cls: type, path: Path) -> None:
    """Sets the options of a dataclass that are not on the command line as a flagfile has them.

    Lines of other options are passed over.

    Raises:
        UserError: it cannot be read, or has an impossible value.
    """
    missing = {field.name for field in dataclasses.fields(cls)} - given(cls)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    for line in lines:
        name, _, value = line.removeprefix("--").partition("=")
        if line.startswith("--") and name in missing:
            try:
                flags.FLAGS[name].parse(value)
            except flags.Error as error:
                raise UserError(f"{path}: {error}") from error


def flagfile_values(path: Path) -> dict[str, str]:
    """Returns the values that a flagfile of `to_flagfile` has, as texts by name; none without a file.

    Raises:
        UserError: it cannot be read.
    """
    if not path.exists():
        return {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    flags_of_file = (line[2:].partition("=") for line in lines if line.startswith("--"))
    return {name: value for name, _, value in flags_of_file}


def to_flagfile(*options: Any, leave_out: Collection[str] = ()) -> str:
    """Returns a flagfile with every option that is set, its help text above it."""
    lines = []
    for group in options:
        for field in dataclasses.fields(group):
            value = getattr(group, field.name)
            if value is None or field.name in _ONCE or field.name in leave_out:
                continue
            if isinstance(value, bool):
                value = str(value).lower()
            lines += [f"# {field.metadata['help']}", f"--{field.name}={value}"]
    return "\n".join(lines) + "\n"
