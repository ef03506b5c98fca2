"""The GLUE tasks (Wang et al., 2019) in their original TSV layout, and the files to submit.

The sets of labels and their order, and what is read, are those of google-research/electra
(finetune/classification/classification_tasks.py); columns are found by their names in the header,
not by number, so that another layout is an error and not another text. Data sets of one's own are
read by tables.py.
"""

import dataclasses
import math
import os
from collections.abc import Sequence

from absl import logging

from electra_keras.console import UsageError, UserError
from electra_keras.files import write_whole
from electra_keras.tasks.data.examples import TextExample
from electra_keras.tasks.data.files import read_lines

STS_RANGE = (0.0, 5.0)

_FILES = {"train": ("train.tsv",), "dev": ("dev.tsv",), "test": ("test.tsv",)}
_MNLI_SPLITS = ("train", "dev_matched", "dev_mismatched", "test_matched", "test_mismatched")


@dataclasses.dataclass(frozen=True)
class GlueTask:
    """How the files of a task look.

    Attributes:
        text_columns: one or two.
        labels: in the order of their ids; none in regression.
        header: the columns of the train and dev files where these have no header.
        files: split -> the names its file goes by. The first dev split is the one that counts.
        skip_broken_rows: rows with too few or too many fields are counted and left out.
    """

    text_columns: tuple[str, ...]
    labels: tuple[str, ...] = ("0", "1")
    label_column: str = "label"
    header: tuple[str, ...] = ()
    files: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=lambda: _FILES)
    skip_broken_rows: bool = False


_NLI = ("contradiction", "entailment", "neutral")
_ENTAILMENT = ("entailment", "not_entailment")
_SENTENCES = ("sentence1", "sentence2")

GLUE_TASKS = {
    "CoLA": GlueTask(("sentence",), header=("source", "label", "mark", "sentence")),
    "SST-2": GlueTask(("sentence",)),
    "MRPC": GlueTask(("#1 String", "#2 String"), label_column="Quality"),
    "STS-B": GlueTask(_SENTENCES, (), "score"),
    "QQP": GlueTask(("question1", "question2"), label_column="is_duplicate", skip_broken_rows=True),
    "MNLI": GlueTask(
        _SENTENCES, _NLI, "gold_label", files={split: (f"{split}.tsv",) for split in _MNLI_SPLITS}
    ),
    "QNLI": GlueTask(("question", "sentence"), _ENTAILMENT),
    "RTE": GlueTask(_SENTENCES, _ENTAILMENT),
    "WNLI": GlueTask(_SENTENCES),
    # For a model trained on MNLI. The labels were published later, as diagnostic-full.tsv (columns
    # Premise, Hypothesis, Label): a table like one's own.
    "AX": GlueTask(_SENTENCES, _NLI, files={"test": ("diagnostic.tsv", "AX.tsv")}),
}


def find_glue_file(task: str, data_dir: str, split: str) -> str | None:
    """Returns the path of a split's file in the task's own directory, or None if it is not there.

    Raises:
        UsageError: no such task, or the task has no such split.
    """
    if task not in GLUE_TASKS:
        raise UsageError(f"unknown GLUE task {task!r}: choose from {', '.join(GLUE_TASKS)}")
    files = GLUE_TASKS[task].files
    if split not in files:
        raise UsageError(f"{task} has no split {split!r}, only {', '.join(files)}")
    paths = [os.path.join(data_dir, name) for name in files[split]]
    return next(filter(os.path.isfile, paths), None)


def read_glue(task: str, data_dir: str, split: str) -> list[TextExample]:
    """Reads a split of a GLUE task.

    Args:
        task: a key of `GLUE_TASKS`.
        data_dir: the task's own directory.
        split: a key of the task's `files`.

    Returns:
        The examples in the order of the file. Their ids are the file's column `index` or `id`, or
        else the row's number from 0; labels are names, in STS-B numbers, and in test files None.

    Raises:
        UsageError: no such task or split.
        UserError: the file is missing or cannot be read; a column is missing; a row has another
            number of fields than the header (but see `GlueTask.skip_broken_rows`) or another label
            than the task's.
    """
    path, spec = find_glue_file(task, data_dir, split), GLUE_TASKS[task]
    if path is None:
        raise UserError(
            f"no {' or '.join(spec.files[split])} in {data_dir}: the data directory of {task} is "
            "the one that holds its own TSV files"
        )
    is_test = split.startswith("test")
    lines = ((number, line) for number, line in read_lines(path) if line)
    header = spec.header
    if is_test or not header:
        header = tuple(next(lines, (1, ""))[1].split("\t"))
    wanted = spec.text_columns if is_test else (*spec.text_columns, spec.label_column)
    for column in wanted:
        if column not in header:
            raise UserError(
                f"{path}, line 1: no column {column!r}, only {', '.join(map(repr, header))}; is "
                f"this the {split} file of {task}?"
            )

    examples, broken = [], []
    for index, (number, line) in enumerate(lines):
        fields = line.split("\t")
        where = f"{path}, line {number}"
        if len(fields) != len(header):
            # A test file must be whole: GLUE wants a prediction for every row.
            if spec.skip_broken_rows and not is_test:
                broken.append(number)
                continue
            raise UserError(f"{where}: {len(fields)} fields instead of {len(header)}")
        row = dict(zip(header, fields, strict=True))
        texts = [row[column] for column in spec.text_columns]
        label = row.get(spec.label_column)
        examples.append(
            TextExample(
                id=row.get("index", row.get("id", str(index))),
                text_a=texts[0],
                text_b=texts[1] if len(texts) > 1 else None,
                label=None if label is None else _label(label, spec, where),
            )
        )
    if broken:
        logging.warning(
            "%s: left out %d rows with a wrong number of fields, the first on line %d",
            path,
            len(broken),
            broken[0],
        )
    if not examples:
        raise UserError(f"{path} holds no examples")
    return examples


def write_submission(
    directory: str,
    task: str,
    split: str,
    examples: Sequence[TextExample],
    predictions: Sequence[str] | Sequence[float],
) -> str:
    """Writes predictions as gluebenchmark.com wants them, the whole file or nothing.

    Args:
        directory: where to write; it must exist.
        task, split: as for `read_glue`; the split is one to test on.
        examples: of that split, as read.
        predictions: for each example the name of its class; in STS-B a number, which is clipped to
            between 0 and 5 and rounded to three digits.

    Returns:
        The path: the task's name, for MNLI with -m or -mm, and `.tsv`.

    Raises:
        ValueError: the predictions are not as many as the examples, or one is not a label of the
            task, or not a number.
    """
    rows = ["index\tprediction\n"]
    for example, prediction in zip(examples, predictions, strict=True):
        if not GLUE_TASKS[task].labels:
            if math.isnan(prediction):
                raise ValueError(f"the prediction for example {example.id} is not a number")
            prediction = f"{min(max(prediction, STS_RANGE[0]), STS_RANGE[1]):.3f}"
        elif prediction not in GLUE_TASKS[task].labels:
            raise ValueError(f"{prediction!r}, predicted for {example.id}, is no label of {task}")
        rows.append(f"{example.id}\t{prediction}\n")
    suffix = {"test_matched": "-m", "test_mismatched": "-mm"}.get(split, "")
    path = os.path.join(directory, f"{task}{suffix}.tsv")
    write_whole(path, "".join(rows))
    return path


def _label(value: str, spec: GlueTask, where: str) -> str | float:
    if spec.labels:
        if value not in spec.labels:
            raise UserError(f"{where}: label {value!r} is none of {', '.join(spec.labels)}")
        return value
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not STS_RANGE[0] <= number <= STS_RANGE[1]:
        raise UserError(f"{where}: the score {value!r} is no number from 0 to 5")
    return number
