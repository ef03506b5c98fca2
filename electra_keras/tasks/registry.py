"""The families of tasks by name, and tasks of one's own."""

import importlib
import json
from collections.abc import Mapping

from electra_keras.console import UsageError
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.data.glue import GLUE_TASKS
from electra_keras.tasks.interface import Task
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.tasks.tagging import TaggingTask

FAMILIES: dict[str, type[Task]] = {
    "classification": ClassificationTask,
    "question_answering": QuestionAnsweringTask,
    "tagging": TaggingTask,
}
# Options of `TaskOptions` that only some families read.
FAMILY_OPTIONS = {
    ClassificationTask: {
        "text_columns",
        "label_column",
        "header",
        "separator",
        "quoted",
        "no_label",
        "max_text_length",
        "input_format",
        "multi_label",
        "label_separator",
        "regression",
        "truncation",
        "double_unordered",
        "class_weights",
    },
    QuestionAnsweringTask: {
        "input_format",
        "stride",
        "answer_head",
        "max_query_length",
        "max_answer_length",
        "beam_size",
        "null_threshold",
    },
    TaggingTask: {"stride", "word_column", "tag_column", "tag_scheme"},
}
# Those that say where examples are and how they are read; what else there is, a trained model has.
READING_OPTIONS = {
    "task",
    "data_dir",
    "dev_file",
    "text_columns",
    "label_column",
    "header",
    "separator",
    "quoted",
    "no_label",
    "max_text_length",
    "input_format",
    "label_separator",
    "word_column",
    "tag_column",
}
# Options of `InputOptions` that only some families read.
INPUT_OPTIONS = {
    ClassificationTask: {
        "input_format",
        "text_columns",
        "id_column",
        "header",
        "separator",
        "quoted",
        "max_text_length",
        "glue_dir",
        "split",
    },
    QuestionAnsweringTask: {"input_format"},
    TaggingTask: {"word_column", "tag_column", "max_text_length"},
}
# A task of one's own has the other methods of `Task`; this one is for --submission_dir alone.
_OPTIONAL = "write_submission"


def find_family(task: str) -> type[Task]:
    """Returns the class of a task.

    Args:
        task: a value of --task.

    Raises:
        UsageError: there is none of that name, it cannot be imported, or lacks a method.
    """
    if task in GLUE_TASKS:
        return ClassificationTask
    if task in FAMILIES:
        return FAMILIES[task]
    module, colon, name = task.partition(":")
    if not colon:
        raise UsageError(
            f"unknown --task={task}: choose {', '.join(FAMILIES)}, one of GLUE's "
            f"({', '.join(GLUE_TASKS)}), or module:Class"
        )
    try:
        family = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--task={task} cannot be imported: {error}") from error
    for method in vars(Task):
        needed = not method.startswith("_") and method != _OPTIONAL
        if needed and not hasattr(family, method):
            raise UsageError(
                f"--task={task} is no task: it has no {method}, see tasks/interface.py"
            )
    return family


def unused_options(
    family: type[Task], options: Mapping[type[Task], set[str]] = FAMILY_OPTIONS
) -> set[str]:
    """Returns the options that a family does not read; a task of one's own may read any.

    Args:
        family: the class of a task.
        options: `FAMILY_OPTIONS` or `INPUT_OPTIONS`.
    """
    if family not in options:
        return set()
    return set().union(*options.values()) - options[family]


def family_of_settings(text: str, where: str, task: str | None = None) -> type[Task]:
    """Returns the class of the settings in a task.json.

    What a directory holds is data: it names one of the families here. Code that it asks for must be
    named by who runs it.

    Args:
        text: of task.json.
        where: its path.
        task: the value of --task, where there is one.

    Raises:
        UsageError: it belongs to a task of one's own that --task does not name.
    """
    if task is not None and ":" in task:
        return find_family(task)
    try:
        family = json.loads(text)["family"]
        return FAMILIES[family]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise UsageError(
            f"{where} is of no task of this library; if it is one of your own, name it: "
            "--task=module:Class"
        ) from error


def check_submission(task: Task) -> None:
    """Checks that predictions of a task can be written as an official scorer takes them.

    Raises:
        UsageError: there is no such file for the task.
    """
    if not hasattr(task, _OPTIONAL):
        raise UsageError(f"--submission_dir: {task.name} has no {_OPTIONAL}")
    if isinstance(task, ClassificationTask) and task.name not in GLUE_TASKS:
        raise UsageError(
            f"--submission_dir: {task.name} is none of GLUE's tasks, and has no official scorer; "
            "predictions are the JSON lines on standard output"
        )
