"""Texts with labels from TSV, CSV and JSONL files of any origin.

A TSV file is read as it stands, quotes are part of the text (as GLUE's files need it); in a CSV file
a field may be quoted and may span lines. `TableFormat.quoted` overrides both. A JSONL file holds an
object a line, or is a JSON list of such. Each may be packed, with `.gz` behind its name.
"""

import ast
import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from electra_keras.console import UserError
from electra_keras.tasks.data.examples import TextExample, count_labels, warn_of_unknown_labels
from electra_keras.tasks.data.files import parse_json, warn_once
from electra_keras.tasks.data.rows import TableFormat, extension_of, read_rows

# An element of a list as Python prints it, and what parts it from the next one: numpy's have no comma.
_PYTHON_ITEM = re.compile(r"""\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?\d+)\s*(,|(?=['"\d-])|$)""")
_ID = re.compile(r"-1|[0-9]+")  # of a label, as `datasets` has it
_DOUBLED = re.compile(r'"[^"]*(?:""[^"]*)+"')
_MARKS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


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
    examples, empty, quoted = [], [], []
    unknown: Counter[str] = Counter()
    strangers = left_out = 0
    for number, (place, row) in enumerate(read_rows(path, table)):
        where = f"{path}, {place}"
        texts = [_text(row[column], column, where) for column in table.text_columns]
        for text in texts:
            table.check_length(text, where)
        if not all(text.strip() for text in texts):
            empty.append(place)
        label, identity = None, str(number)
        if table.label_columns:
            if table.no_label in [str(row[name]).strip() for name in table.label_columns]:
                left_out += 1
                continue
            label = tuple(name for name in table.label_columns if _mark(row[name], name, where))
        elif table.label_column is not None:
            label = _label(row[table.label_column], table, where)
            if table.no_label and label == table.no_label:
                left_out += 1
                continue
        quoted += [field for field in (*texts, label) if _is_quoted(field, field is label)]
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
    if left_out:
        warn_once(
            f"{path}: {left_out} of {left_out + len(examples)} rows are left out: their label is "
            f"{table.no_label!r}, which says that there is none; --no_label= makes it a label, too"
        )
    labels_found = count_labels(examples)
    if (
        len(table.text_columns) == 2
        and "-1" in labels_found
        and all(map(_ID.fullmatch, labels_found))
    ):
        warn_once(
            f"{path}: {labels_found['-1']} rows have the label -1, as `datasets` writes it where there "
            "is none; if it says that here, --no_label=-1 leaves them out"
        )
    if quoted and (table.extension or extension_of(path)) == ".tsv":
        warn_once(
            f"{path}: {len(quoted)} texts and labels stand in quotes, which are read as part of them; "
            f"--quoted if a spreadsheet wrote them. The first is {quoted[0]:.60}"
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
        warn_once(
            f"{path}: {len(empty)} of {len(examples)} rows have an empty text, the first on {empty[0]}"
        )
    return examples


# --- Values --------------------------------------------------------------------------------------


def _is_quoted(field: Any, is_label: bool) -> bool:
    """Whether a field looks as a spreadsheet writes it: a label in quotes, a text that doubles its."""
    if not isinstance(field, str) or field[:1] != '"':
        return False
    return bool(_DOUBLED.fullmatch(field)) or (is_label and len(field) > 1 and field[-1] == '"')


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


def _label(value: Any, table: TableFormat, where: str) -> str | float | tuple[str, ...]:
    if table.regression:
        return _number(value, where)
    if not table.multi_label:
        return _name(value, f"{where}: the label")
    if isinstance(value, str):
        value = _split_labels(value.strip(), table.label_separator, where)
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(_name(value, f"{where}: a label") for value in values))


def _split_labels(text: str, separator: str, where: str) -> list[Any]:
    """Returns the labels of a field: parted by the separator, or a list of JSON or of Python."""
    kind = text[:1] + text[-1:]
    if kind in ("[]", "()", "{}"):
        items = _python_items(text[1:-1])
        # What else stands in such brackets is a name like others.
        if items is not None and (kind == "[]" or "'" in text or '"' in text):
            return items
    if text[:1] != "[":
        return [name for name in text.split(separator) if name.strip()]
    try:
        found = parse_json(text, where)
    except UserError as error:
        raise UserError(f"{where}: the labels are no list of JSON or Python: {text:.60}") from error
    return found if isinstance(found, list) else [found]


def _python_items(text: str) -> list[Any] | None:
    """Returns the texts and integers that Python or numpy has printed; None: it is something else."""
    values, position = [], 0
    while text[position:].strip():
        found = _PYTHON_ITEM.match(text, position)
        if found is None:
            return None
        values.append(ast.literal_eval(found[1]))
        position = found.end()
    return values


def _mark(value: Any, column: str, where: str) -> bool:
    """Returns whether a label's own column says that the example has it."""
    found = _MARKS.get(str(value).strip().lower())
    if found is None:
        raise UserError(
            f"{where}: column {column!r} of a label should be 0 or 1, not {value!r:.60}"
        )
    return found


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        hint = "; decimals have a point" if "," in str(value) else ""
        raise UserError(f"{where}: the label should be a number, not {json.dumps(value):.60}{hint}")
    return number
