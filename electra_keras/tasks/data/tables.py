"""Texts with labels from TSV, CSV and JSONL files of any origin.

A TSV file is read as it stands, quotes are part of the text (as GLUE's files need it); in a CSV file
a field may be quoted and may span lines. `TableFormat.quoted` overrides both. A JSONL file holds an
object a line. Each may be packed, with `.gz` behind its name.
"""

import csv
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from absl import logging

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.examples import TextExample, warn_of_unknown_labels
from electra_keras.tasks.data.files import parse_json, read_lines

EXTENSIONS = (".tsv", ".csv", ".jsonl")


@dataclasses.dataclass(frozen=True)
class TableFormat:
    """Where in a table the texts and labels are.

    Columns of TSV and CSV files go by their name in the header or, if no column has that name, by
    their number from 0; those of JSONL files by their key.

    Attributes:
        text_columns: one, or two for pairs of texts.
        label_column: None for data without labels.
        id_column: None to number the examples from 0.
        header: the first row of TSV and CSV files holds the columns' names.
        quoted: fields of TSV and CSV files may stand in double quotes; None: those of CSV do.
        multi_label: an example has any number of labels, separated by `label_separator`, or written
            as a JSON list.
        regression: labels are numbers.
        extension: .tsv, .csv or .jsonl; None: that of the file's name.

    Raises:
        UsageError: the options do not go together.
    """

    text_columns: tuple[str, ...]
    label_column: str | None = None
    id_column: str | None = None
    header: bool = True
    quoted: bool | None = None
    multi_label: bool = False
    label_separator: str = ","
    regression: bool = False
    extension: str | None = None

    def __post_init__(self) -> None:
        if len(self.text_columns) not in (1, 2):
            raise UsageError(f"one or two text columns are needed, not {len(self.text_columns)}")
        if self.multi_label and self.regression:
            raise UsageError("multi-label and regression exclude each other")
        if self.multi_label and not self.label_separator:
            raise UsageError("the label separator must not be empty")

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that are read."""
        others = (self.label_column, self.id_column)
        return self.text_columns + tuple(column for column in others if column is not None)


def read_table(
    path: str, table: TableFormat, labels: Sequence[str] | None = None
) -> list[TextExample]:
    """Reads a file of texts.

    Args:
        path: ends in .tsv, .csv or .jsonl, or one of them and .gz.
        labels: the names that a model knows, of which others are warned of; None: whatever is there
            (see `examples.count_labels`).

    Returns:
        An example for every row. Texts are as they stand in the file, but for line ends within
        quotes, which become LF; white space around labels is removed. Labels in JSONL that are
        integers or booleans become names as JSON writes them. Texts may be empty; a warning counts
        them. Blank lines are passed over, but in a table of one column they are empty texts.

    Raises:
        UsageError: the name of the file ends in something else.
        UserError: the file cannot be read or holds no row; a row is bad; the message names its line.
            None of the labels is known.
    """
    examples, empty = [], []
    unknown: Counter[str] = Counter()
    strangers = 0
    rows = _json_rows if _extension(path, table) == ".jsonl" else _text_rows
    for line, row in rows(path, table):
        where = f"{path}, line {line}"
        texts = [_text(row[column], column, where) for column in table.text_columns]
        if not all(text.strip() for text in texts):
            empty.append(line)
        label, identity = None, str(len(examples))
        if table.label_column is not None:
            label = _label(row[table.label_column], table, path, line)
            if labels is not None:
                names = label if isinstance(label, tuple) else (label,)
                strange = [name for name in names if name not in labels]
                unknown.update(strange)
                strangers += len(strange) == len(names) > 0
        if table.id_column is not None:
            identity = _name(row[table.id_column], f"{where}: the id")
        examples.append(
            TextExample(identity, texts[0], texts[1] if len(texts) == 2 else None, label)
        )
    if not examples:
        raise UserError(f"{path} holds no examples")
    if unknown:
        if strangers == sum(example.label != () for example in examples):
            some = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
            raise UserError(
                f"{path}: no label is one of the model's, as {min(unknown)!r}; the labels are {some}"
            )
        warn_of_unknown_labels(path, unknown, len(examples), "rows have a label")
    if empty:
        logging.warning(
            "%s: %d of %d rows have an empty text, the first on line %d",
            path,
            len(empty),
            len(examples),
            empty[0],
        )
    return examples


# --- Rows ----------------------------------------------------------------------------------------


def _extension(path: str, table: TableFormat) -> str:
    if table.extension:
        return table.extension
    for extension in EXTENSIONS:
        if path.removesuffix(".gz").endswith(extension):
            return extension
    raise UsageError(f"{path}: expected a file whose name ends in {', '.join(EXTENSIONS)} (.gz)")


def _json_rows(path: str, table: TableFormat) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in read_lines(path):
        if not text.strip():
            continue
        row = parse_json(text, path, line)
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {line}: expected a JSON object, such as {{...}}")
        for column in table.columns:
            if column not in row:
                raise _no_column(column, row, f"{path}, line {line}")
        yield line, row


def _text_rows(path: str, table: TableFormat) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the columns that are read, by the names they were asked for by."""
    positions: dict[str, int] = {}
    width = 0
    for line, fields in _fields(path, table):
        if not fields:
            if width != 1:
                continue
            fields = [""]
        if not positions:
            width = len(fields)
            names = fields if table.header else []
            positions = {str(number): number for number in range(width)}
            positions |= {name: number for number, name in enumerate(names)}
            for column in table.columns:
                if column not in positions:
                    raise _no_column(column, names or positions, f"{path}, line {line}")
                if names.count(column) > 1:
                    raise UserError(f"{path}, line {line}: several columns are named {column!r}")
            if table.header:
                continue
        if len(fields) != width:
            raise UserError(
                f"{path}, line {line}: {len(fields)} fields, but the first row has {width}"
            )
        yield line, {column: fields[positions[column]] for column in table.columns}


def _fields(path: str, table: TableFormat) -> Iterator[tuple[int, list[str]]]:
    """Yields the first line and the fields of every row, no fields for a blank one."""
    is_csv = _extension(path, table) == ".csv"
    separator = "," if is_csv else "\t"
    if not (is_csv if table.quoted is None else table.quoted):
        for line, text in read_lines(path):
            yield line, text.split(separator) if text else []
        return
    lines = (text + "\n" for _, text in read_lines(path))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    line = 1
    try:
        for fields in reader:
            yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(
            f"{path}, line {line}: {error}, in the row that begins there; is a quote missing?"
        ) from error


def _no_column(column: str, found: Iterable[str], where: str) -> UserError:
    return UserError(f"{where}: no column {column!r}, only {', '.join(map(repr, found))}")


# --- Values --------------------------------------------------------------------------------------


def _text(value: Any, column: str, where: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"{where}: {column!r} should be a text, not {json.dumps(value):.60}")
    return value


def _name(value: Any, what: str) -> str:
    """Returns a label or id as text; `what` begins the message of an error."""
    if isinstance(value, int):  # a bool is one, too
        value = json.dumps(value)
    if not isinstance(value, str):
        raise UserError(f"{what} should be a text or an integer, not {json.dumps(value):.60}")
    if not value.strip():
        raise UserError(f"{what} is empty")
    return value.strip()


def _label(value: Any, table: TableFormat, path: str, line: int) -> str | float | tuple[str, ...]:
    where = f"{path}, line {line}"
    if table.regression:
        return _number(value, where)
    if not table.multi_label:
        names = [_name(value, f"{where}: the label")]
    else:
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = parse_json(value, path, line)
        elif isinstance(value, str):
            value = [name for name in value.split(table.label_separator) if name.strip()]
        values = value if isinstance(value, list) else [value]
        names = [_name(value, f"{where}: a label") for value in values]
    return tuple(dict.fromkeys(names)) if table.multi_label else names[0]


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{where}: the label should be a number, not {json.dumps(value):.60}")
    return number
