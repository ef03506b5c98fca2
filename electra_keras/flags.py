"""Command-line flags made from the option dataclasses, and flagfiles made from flags."""

import dataclasses
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from absl import flags

from electra_keras import flagfiles
from electra_keras.console import OVERRIDES, UserError, reason

Options = TypeVar("Options")

# The flags belong to the command that defines them here, and are shown by its --help.
flags.disclaim_key_flags()

# What was meant for one start only, and would delete the run that the flagfile reproduces.
_ONCE = ("fresh", "overwrite", "force_resume")


def _value_type(annotation: Any) -> tuple[type, bool]:
    """Returns the plain type of an annotation such as `int | None`, and whether None is allowed."""
    if isinstance(annotation, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        return members[0], True
    return annotation, False


class _Optional(flags.ArgumentParser):
    """Parses as another parser does; an empty value unsets the flag."""

    def __init__(self, parser: flags.ArgumentParser) -> None:
        self.parser = parser
        self.syntactic_help = parser.syntactic_help

    def parse(self, argument: Any) -> Any:
        return None if argument == "" else self.parser.parse(argument)

    def flag_type(self) -> str:
        return self.parser.flag_type()


_PARSERS = {int: flags.IntegerParser, float: flags.FloatParser, str: flags.ArgumentParser}


def define(cls: type) -> None:
    """Defines a flag for every field of an options dataclass, as a group that its docstring names.

    A field whose default is None is unset by an empty value, see `options.option`. `OVERRIDES` of the
    class says which flags a flag takes the place of that come from a flagfile in front of it.
    """
    annotations = typing.get_type_hints(cls)
    group = cls.__doc__.strip().split("\n")[0].removesuffix(".")
    for field in dataclasses.fields(cls):
        kind, optional = _value_type(annotations[field.name])
        arguments = (field.name, field.default, field.metadata["help"])
        if kind is bool:
            flags.DEFINE_bool(*arguments, module_name=group)
        else:
            choices = field.metadata["choices"]
            if choices:
                arguments = (*arguments[:2], f"<{'|'.join(choices)}>: {arguments[2]}")
            parser = flags.EnumParser(choices) if choices else _PARSERS[kind]()
            if optional and not field.metadata["may_be_empty"]:
                parser = _Optional(parser)
            serializer = flags.ArgumentSerializer()
            flags.DEFINE(parser, *arguments, serializer=serializer, module_name=group)
        flags.declare_key_flag(field.name)
    for name, others in getattr(cls, "OVERRIDES", {}).items():
        OVERRIDES.setdefault(name, set()).update(others)


def read(cls: type[Options]) -> Options:
    """Returns the options that the parsed flags give.

    Raises:
        UsageError: an impossible value or combination, from the dataclass's own checks.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    return cls(**{name: getattr(flags.FLAGS, name) for name in names})


def given(cls: type) -> set[str]:
    """Returns the names of those options of a dataclass that are given, and not to be unset."""
    names = _present(cls)
    return {name for name in names if flags.FLAGS[name].value is not None}


def _present(cls: type) -> set[str]:
    return {field.name for field in dataclasses.fields(cls) if flags.FLAGS[field.name].present}


def read_flagfile(cls: type, path: Path) -> None:
    """Sets the options of a dataclass that are not on the command line as a flagfile has them.

    Lines of other options are passed over, and so are options that those on the command line replace.

    Raises:
        UserError: it cannot be read, or has an impossible value.
    """
    present = _present(cls)
    replaced = set().union(*(OVERRIDES.get(name, ()) for name in given(cls)))
    missing = {field.name for field in dataclasses.fields(cls)} - present - replaced
    for name, value in _values(path).items():
        if name in missing:
            try:
                flags.FLAGS[name].parse(value)
            except flags.Error as error:
                raise UserError(f"{path}: {error}") from error


def flagfile_values(path: Path) -> dict[str, str]:
    """Returns the values that a flagfile of `to_flagfile` has, as texts by name; none without a file.

    Raises:
        UserError: it cannot be read.
    """
    return _values(path) if path.exists() else {}


def _values(path: Path) -> dict[str, str]:
    try:
        return flagfiles.values(flagfiles.read(path, as_written=True))
    except OSError as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    except ValueError as error:
        raise UserError(str(error)) from error


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
            elif isinstance(value, str):
                value = flagfiles.quote(value)
            lines += [f"# {field.metadata['help']}", f"--{field.name}={value}"]
    return "\n".join(lines) + "\n"
