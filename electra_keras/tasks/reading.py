"""Where the examples of the splits are: a file that is named, one of a directory, or a part held out."""

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.columns import read_columns
from electra_keras.tasks.data.examples import (
    QuestionExample,
    TaggedSentence,
    TextExample,
    hold_out,
)
from electra_keras.tasks.data.files import find_split, read_lines
from electra_keras.tasks.data.glue import GLUE_TASKS, read_glue
from electra_keras.tasks.data.question_answering import read_questions
from electra_keras.tasks.data.tables import EXTENSIONS, TableFormat, read_table
from electra_keras.tasks.options import InputOptions, TaskOptions

Example = TypeVar("Example")
# Held-out examples are the same in every run, whatever its --seed.
_HOLD_OUT_SEED = 0


def read_split(
    options: TaskOptions,
    split: str,
    extensions: Sequence[str],
    read: Callable[[str], list[Example]],
    group: Callable[[Example], str],
) -> list[Example]:
    """Reads the examples of a split.

    With --dev_share, "train" is what that leaves of the training file and "dev" what it takes.

    Args:
        options: where they are.
        split: "train" or "dev".
        extensions: of the file in --data_dir.
        read: reads a file.
        group: the name of what an example must not be parted from, where some are held out.

    Raises:
        UserError: no such file, or one that cannot be read.
    """
    if options.dev_share is None:
        return read(_path(options, split, extensions))
    return _held_out(read(_path(options, "train", extensions)), options, split, group)


def _held_out(
    examples: list[Example], options: TaskOptions, split: str, group: Callable[[Example], str]
) -> list[Example]:
    parts = hold_out(examples, options.dev_share, _HOLD_OUT_SEED, group)
    return parts[split == "dev"]


def _path(options: TaskOptions, split: str, extensions: Sequence[str]) -> str:
    given = {"train": options.train_file, "dev": options.dev_file}[split]
    path = given or (find_split(options.data_dir, split, extensions) if options.data_dir else None)
    if path is None:
        where = f" in --data_dir={options.data_dir}" if options.data_dir else ""
        instead = ", or --dev_share" if split == "dev" else ""
        raise UserError(
            f"no {split} file{where}: give --{split}_file{instead}, or a directory with "
            f"{split} and one of the endings {', '.join(extensions)}"
        )
    return path


# --- Texts to classify ----------------------------------------------------------------------------


def read_texts(
    options: TaskOptions, split: str, labels: Sequence[str] | None = None
) -> list[TextExample]:
    """Reads a split of a GLUE task or of a table.

    Args:
        options: where they are.
        split: "train" or "dev"; of a GLUE task also another one.
        labels: those that are allowed; None: whatever is there.
    """
    if options.task in GLUE_TASKS and not (options.train_file or options.dev_file):
        for name in ("text_columns", "label_column", "header"):
            if getattr(options, name) != getattr(TaskOptions, name):
                raise UsageError(
                    f"--{name} says nothing to {options.task}'s own files; give --train_file and "
                    "--dev_file to read others"
                )
        if options.task == "AX" and split == "train":
            raise UsageError(
                "AX has no training data: fine-tune on MNLI, and give that model --task=AX to predict"
            )
        if not options.data_dir:
            raise UserError(f"--data_dir is missing: where the files of {options.task} are")
        if options.dev_share is not None:
            train = read_glue(options.task, options.data_dir, "train")
            return _held_out(train, options, split, lambda example: example.text_a)
        if options.task == "MNLI" and split == "dev":
            split = "dev_matched"
        return read_glue(options.task, options.data_dir, split)
    table = TableFormat(
        text_columns=_names(options.text_columns),
        label_column=options.label_column,
        header=options.header,
        multi_label=options.multi_label,
        label_separator=options.label_separator,
        regression=options.regression or options.task == "STS-B",
    )
    return read_split(
        options, split, EXTENSIONS, lambda path: read_table(path, table, labels), lambda e: e.text_a
    )


def read_texts_to_classify(options: InputOptions, task: str, pairs: bool) -> list[TextExample]:
    """Reads what predictions are to be made for.

    Args:
        options: where it is.
        task: name of the model's task.
        pairs: whether it is of pairs.
    """
    if options.glue_dir:
        if task not in GLUE_TASKS:
            raise UsageError(f"--glue_dir: the model is of the task {task}, none of GLUE's")
        return read_glue(task, options.glue_dir, options.split)
    ending = _ending(options)
    if ending in EXTENSIONS:
        table = TableFormat(
            _names(options.text_columns),
            id_column=options.id_column,
            header=options.header,
            extension=ending,
        )
        return read_table(input_path(options), table)
    if options.input_format:
        raise UsageError(f"--input_format={options.input_format} is for questions")
    for name in ("text_columns", "id_column", "header"):
        if getattr(options, name) != getattr(InputOptions, name):
            raise UsageError(
                f"--{name} is for tables, but {input_name(options)} is read as lines of text: give "
                "--input_format"
            )
    examples = []
    for number, line in read_lines(input_path(options)):
        texts = line.split("\t") if pairs else [line]
        if len(texts) != 1 + pairs:
            where = f"{input_name(options)}, line {number}"
            raise UserError(f"{where}: {len(texts)} texts; a pair is two, parted by a tab")
        examples.append(TextExample(str(number - 1), *texts))
    return examples


def _ending(options: InputOptions) -> str:
    """Returns what says how --input is read, such as ".tsv"."""
    if options.input_format:
        return f".{options.input_format}"
    return os.path.splitext(options.input.removesuffix(".gz"))[1]


def input_path(options: InputOptions) -> str:
    """Returns the path that --input means."""
    return "/dev/stdin" if options.input == "-" else options.input


def input_name(options: InputOptions) -> str:
    """Returns what errors call it."""
    return "standard input" if options.input == "-" else options.input


def _names(columns: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in columns.split(","))


# --- Questions ------------------------------------------------------------------------------------


def read_questions_to_answer(options: InputOptions) -> list[QuestionExample]:
    """Reads SQuAD (.json), or lines: MRQA's (with `qas`), or of `question` and `context`."""
    if options.input_format in ("tsv", "csv"):
        raise UsageError(f"--input_format={options.input_format} is for texts to classify")
    by_line = _ending(options) != ".json"
    return read_questions(input_path(options), by_line, input_name(options), to_answer=True)


# --- Texts to tag ---------------------------------------------------------------------------------


def read_texts_to_tag(
    options: InputOptions, plain: bool
) -> list[TaggedSentence] | list[TextExample]:
    """Reads a text a line, or with --word_column a CoNLL file.

    Args:
        options: where they are.
        plain: the tags are plain labels, as of `read_columns`.
    """
    path = input_path(options)
    if options.word_column is not None:
        return read_columns(path, options.word_column, options.tag_column, plain=plain)
    if _ending(options) in (".conll", ".tsv"):
        raise UsageError(
            f"--input={path}: give --word_column, which column holds the words, or name a file of "
            "one text a line .txt"
        )
    return [TextExample(str(number - 1), line) for number, line in read_lines(path)]
