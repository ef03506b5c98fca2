"""Rows of TSV, CSV and JSONL files: what parts the fields, which columns there are, quotes, headers."""

import csv
import dataclasses
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from absl import logging

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.files import parse_json, read_lines, warn_once

EXTENSIONS = (".tsv", ".csv", ".jsonl")
# Other names of the same.
_ALIASES = {".tab": ".tsv", ".json": ".jsonl", ".ndjson": ".jsonl"}
_SEPARATORS = ("\t", ";", ",", "|")
_EXCEL_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """Where in a table the texts and labels are.

    Columns of TSV and CSV files go by their name in the header or, if no column has that name, by
    their number from 0; those of JSONL files by their key.

    Attributes:
        text_columns: one, or two for pairs of texts.
        label_column: None for data without labels.
        label_columns: in its place, columns of 0 and 1, one for each label and named as it.
        id_column: None to number the rows from 0.
        header: the first row of TSV and CSV files holds the columns' names; None: it does, but where
            all columns go by number somebody has to say so.
        quoted: fields of TSV and CSV files may stand in double quotes; None: those of CSV do.
        separator: between the fields of TSV and CSV files; None: tab or comma, or what else parts the
            header into the columns that are read, or what a line `sep=;` says.
        multi_label: an example has any number of labels, separated by `label_separator`, or written
            as a list of JSON or Python.
        no_label: rows with this label have none, and are left out; None: no row is.
        regression: labels are numbers.
        extension: .tsv, .csv or .jsonl; None: that of the file's name.
        max_text_length: characters of a text or of a line, at most; more take memory for each.

    Raises:
        UsageError: the options do not go together.
    """

    text_columns: tuple[str, ...]
    label_column: str | None = None
    id_column: str | None = None
    header: bool | None = True
    quoted: bool | None = None
    multi_label: bool = False
    label_separator: str = ","
    regression: bool = False
    extension: str | None = None
    label_columns: tuple[str, ...] = ()
    separator: str | None = None
    no_label: str | None = None
    max_text_length: int = 10_000_000

    def __post_init__(self) -> None:
        if len(self.text_columns) not in (1, 2):
            raise UsageError(f"one or two text columns are needed, not {len(self.text_columns)}")
        if self.multi_label and self.regression:
            raise UsageError("multi-label and regression exclude each other")
        if self.multi_label and not self.label_separator:
            raise UsageError("the label separator must not be empty")
        if self.label_columns and not self.multi_label:
            raise UsageError(
                f"{len(self.label_columns)} label columns, of 0 and 1, are for --multi_label"
            )
        if self.separator is not None and (len(self.separator) != 1 or self.separator in '"\r\n'):
            raise UsageError(f"--separator must be one character, or tab: {self.separator!r}")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        others = (self.label_column, self.id_column)
        found = tuple(column for column in others if column is not None)
        return self.text_columns + self.label_columns + found

    @property
    def max_line(self) -> int:
        """The longest line, in bytes: one text of characters of four bytes."""
        return 4 * self.max_text_length

    def check_length(self, text: str, where: str) -> None:
        """Raises UserError where a text is longer than `max_text_length`."""
        if len(text) > self.max_text_length:
            raise UserError(
                f"{where}: {len(text):,} characters, more than --max_text_length="
                f"{self.max_text_length}; is it one text?"
            )


def extension_of(path: str) -> str | None:
    """Returns how a table is read by its name, one of `EXTENSIONS`; None where that does not say it."""
    name = path.lower().removesuffix(".gz")
    for extension in (*EXTENSIONS, *_ALIASES):
        if name.endswith(extension):
            return _ALIASES.get(extension, extension)
    return None


def read_rows(path: str, table: TableFormat) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields where a row is, such as "line 3", and the columns that the table reads, as asked for.

    Raises:
        UsageError: nothing says how the file is to be read, or whether it has a header.
        UserError: the file cannot be read, or a row is bad; the message names it.
    """
    extension = table.extension or extension_of(path)
    if extension is None:
        raise UsageError(
            f"{path}: expected a file whose name ends in {', '.join(EXTENSIONS)} (.gz); give "
            "--input_format=tsv, csv or jsonl to say how it is read"
        )
    if extension == ".jsonl":
        return _json_rows(path, table)
    return _text_rows(path, table, is_csv=extension == ".csv")


def _json_rows(path: str, table: TableFormat) -> Iterator[tuple[str, dict[str, Any]]]:
    for place, row in _json_values(path, table):
        where = f"{path}, {place}"
        if not isinstance(row, dict):
            raise UserError(f"{where}: expected a JSON object, such as {{...}}")
        for column in table.columns:
            if column not in row:
                raise _no_column(column, row, where)
        yield place, row


def _json_values(path: str, table: TableFormat) -> Iterator[tuple[str, Any]]:
    """Yields the objects of a file with one a line, or of one that is a list of them."""
    lines = read_lines(path, table.max_line)
    for line, text in lines:
        if text.lstrip().startswith("[{") or text.strip() == "[":
            whole = "\n" * (line - 1) + "\n".join([text, *(text for _, text in lines)])
            for number, value in enumerate(parse_json(whole, path), start=1):
                yield f"item {number}", value
            return
        if text.strip():
            yield f"line {line}", parse_json(text, path, line)


def _text_rows(path: str, table: TableFormat, is_csv: bool) -> Iterator[tuple[str, dict[str, str]]]:
    positions: dict[str, int] = {}
    width = 0
    for line, fields in _fields(path, table, is_csv):
        where = f"{path}, line {line}"
        if not fields:
            if width != 1:
                continue
            fields = [""]
        if not positions:
            width = len(fields)
            has_header = _has_header(fields, table, where)
            names = fields if has_header else []
            positions = {str(number): number for number in range(width)}
            positions |= {name: number for number, name in enumerate(names)}
            for column in table.columns:
                if column not in positions:
                    raise _no_column(column, names or positions, where, fields)
                if names.count(column) > 1:
                    raise UserError(f"{where}: several columns are named {column!r}")
            if has_header:
                continue
        if len(fields) != width:
            raise UserError(f"{where}: {len(fields)} fields, but the first row has {width}")
        yield f"line {line}", {column: fields[positions[column]] for column in table.columns}


def _has_header(fields: list[str], table: TableFormat, where: str) -> bool:
    """Whether the first row holds the columns' names.

    Raises:
        UsageError: columns go by number, and nobody says what the first row is.
    """
    by_number = all(column.isdecimal() for column in table.columns)
    # As pandas writes columns without names.
    is_numbers = fields == [str(number) for number in range(len(fields))]
    if table.header is False or not by_number or is_numbers:
        return table.header is not False
    some = ", ".join(f"{field!r:.40}" for field in fields[:4]) + (", ..." if fields[4:] else "")
    if table.header:
        warn_once(f"{where}: taken for names of columns, as --header says, and not read: {some}")
        return True
    raise UsageError(
        f"{where}: is this row data, or names of columns? {some}. The columns that are read go by "
        "number: give --noheader if it is data, --header if not"
    )


def _fields(path: str, table: TableFormat, is_csv: bool) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line and the fields of every row, no fields for a blank one."""
    lines = read_lines(path, table.max_line)
    first = next((line for line in lines if line[1]), None)
    if first is None:
        return
    is_quoted = is_csv if table.quoted is None else table.quoted
    separator = table.separator
    excel = _EXCEL_SEPARATOR.fullmatch(first[1])
    if excel:  # a line that spreadsheets read, and do not show
        separator = separator or excel[1]
        first = next(lines, (2, ""))
    if separator is None:
        separator = _find_separator(path, first[1], table, "," if is_csv else "\t", is_quoted)
    skipped = first[0] - 1

    lines = itertools.chain([first], lines)
    if not is_quoted:
        for line, text in lines:
            yield line, text.split(separator) if text else []
        return
    reader = csv.reader((text + "\n" for _, text in lines), delimiter=separator, strict=True)
    csv.field_size_limit(table.max_text_length)
    line = skipped + 1
    try:
        for fields in reader:
            yield line, fields
            line = skipped + reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}: {_explain(error, table)}, in the row that begins there; is a quote "
            "missing? One within quotes is written twice"
        ) from error


def _explain(error: csv.Error, table: TableFormat) -> str:
    if "field limit" in str(error):
        return f"a field of more than {table.max_text_length:,} characters (--max_text_length)"
    if "new-line" in str(error):
        return "a carriage return in a field without quotes"
    return str(error)


def _split(line: str, separator: str, is_quoted: bool) -> list[str]:
    """Returns the fields of a header."""
    if is_quoted:
        try:
            return next(csv.reader([line], delimiter=separator), [])
        except csv.Error:
            pass
    return line.split(separator)


def _find_separator(path: str, line: str, table: TableFormat, default: str, is_quoted: bool) -> str:
    """Returns what parts the fields: the usual, or what alone makes the columns of the header."""
    named = [column for column in table.columns if not column.isdecimal()]
    if table.header is False or not named:
        return default
    for separator in (default, *_SEPARATORS):
        if set(named) <= set(_split(line, separator, is_quoted)):
            if separator != default:
                logging.info("%s: the fields are parted by %r", path, separator)
            return separator
    return default


def _no_column(
    column: str, found: Iterable[str], where: str, fields: list[str] | None = None
) -> UserError:
    hint = ""
    if fields is not None and len(fields) == 1:
        others = [separator for separator in _SEPARATORS if separator in fields[0]]
        if others:
            hint = f"; are the fields parted by {others[0]!r}? --separator says so"
    if "," in column:
        hint = "; several columns of labels, of 0 and 1, are for --multi_label"
    return UserError(f"{where}: no column {column!r}, only {', '.join(map(repr, found))}{hint}")
