"""Where the examples of the splits are: a file that is named, one of a directory, or a part held out."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.columns import read_columns
from electra_keras.tasks.data.examples import (
    QuestionExample,
    TaggedSentence,
    TextExample,
    hold_out,
)
from electra_keras.tasks.data.files import find_split, list_directory, read_lines
from electra_keras.tasks.data.glue import GLUE_TASKS, read_glue
from electra_keras.tasks.data.question_answering import read_questions
from electra_keras.tasks.data.rows import EXTENSIONS, TableFormat, extension_of
from electra_keras.tasks.data.tables import read_table
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
    if options.input_format:
        extensions = None
    if options.dev_share is None:
        return read(_path(options, split, extensions))
    return _held_out(read(_path(options, "train", extensions)), options, split, group)


def _held_out(
    examples: list[Example], options: TaskOptions, split: str, group: Callable[[Example], str]
) -> list[Example]:
    parts = hold_out(examples, options.dev_share, _HOLD_OUT_SEED, group)
    return parts[split == "dev"]


def _path(options: TaskOptions, split: str, extensions: Sequence[str] | None) -> str:
    given = {"train": options.train_file, "dev": options.dev_file}[split]
    path = given or (find_split(options.data_dir, split, extensions) if options.data_dir else None)
    if path is None:
        where = there = ""
        if options.data_dir:
            names = list_directory(options.data_dir)
            some = ", ".join(names[:8]) + (", ..." if names[8:] else "")
            where, there = f" in --data_dir={options.data_dir}", f"; it holds {some or 'nothing'}"
        instead = ", or --dev_share" if split == "dev" else ""
        endings = "any ending" if extensions is None else f"the ending {', '.join(extensions)}"
        raise UserError(
            f"no {split} file{where}: give --{split}_file{instead}, or a directory with a file "
            f"{split} of {endings}{there}"
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
        for name in (
            "text_columns", "label_column", "header", "separator", "quoted", "no_label", "input_format"
        ):  # fmt: skip
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
    table = _table(options)
    return read_split(
        options, split, EXTENSIONS, lambda path: read_table(path, table, labels), lambda e: e.text_a
    )


def _table(options: TaskOptions) -> TableFormat:
    if options.input_format == "json":
        raise UsageError("--input_format=json is for questions; jsonl also reads a list of objects")
    text_columns = _names(options.text_columns)
    regression = options.regression or options.task == "STS-B"
    no_label = options.no_label
    if no_label is None and len(text_columns) == 2 and not (options.multi_label or regression):
        no_label = "-"  # SNLI: the annotators did not agree
    label_columns = label_names(options)
    return TableFormat(
        text_columns=text_columns,
        label_column=None if label_columns else options.label_column,
        label_columns=label_columns,
        no_label=no_label,
        header=options.header,
        separator=_character(options.separator),
        quoted=options.quoted,
        multi_label=options.multi_label,
        label_separator=options.label_separator,
        regression=regression,
        extension=_extension(options.input_format),
        max_text_length=options.max_text_length,
    )


def label_names(options: TaskOptions) -> tuple[str, ...]:
    """Returns the labels that have a column of 0 and 1 each; none where one column has them all."""
    names = _names(options.label_column)
    return names if options.multi_label and len(names) > 1 else ()


def _character(separator: str | None) -> str | None:
    return {"tab": "\t", "\\t": "\t"}.get(separator, separator)


def _extension(input_format: str | None) -> str | None:
    """Returns the ending of files that are read so, of tables' one of `EXTENSIONS`."""
    return input_format and extension_of(f".{input_format}")


def as_trained(options: InputOptions, trained: Mapping[str, str]) -> InputOptions:
    """Returns the options, those of a table that are not given as they were in training.

    Args:
        options: of an input.
        trained: the lines of the run's flags.cfg, name -> value.
    """
    if options.glue_dir or extension_of(_ending(options)) is None:
        return options
    values = {
        name: {"true": True, "false": False}.get(trained[name], trained[name])
        for name in ("text_columns", "header", "separator", "quoted")
        if getattr(options, name) is None and name in trained
    }
    return dataclasses.replace(options, **values)


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
    if options.input_format == "json":
        raise UsageError("--input_format=json is for questions")
    extension = extension_of(_ending(options))
    if extension is not None:
        table = TableFormat(
            _names(options.text_columns or "text"),
            id_column=options.id_column,
            header=options.header,
            separator=_character(options.separator),
            quoted=options.quoted,
            extension=extension,
            max_text_length=options.max_text_length,
        )
        return read_table(input_path(options), table)
    for name in ("text_columns", "id_column", "header", "separator", "quoted"):
        if getattr(options, name) != getattr(InputOptions, name):
            raise UsageError(
                f"--{name} is for tables, but {input_name(options)} is read as lines of text: give "
                "--input_format"
            )
    examples = []
    for number, line in read_lines(input_path(options), 4 * options.max_text_length):
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
    return os.path.splitext(options.input.lower().removesuffix(".gz"))[1]


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
    lines = read_lines(path, 4 * options.max_text_length)
    return [TextExample(str(number - 1), line) for number, line in lines]
