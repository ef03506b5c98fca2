"""What a task is to the library: data, a head, metrics. Adding one means writing such a class.

`--task=module:Class` takes one from anywhere on Python's path; README, "A task of your own".
"""

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from electra_keras.config import EncoderConfig, matches
from electra_keras.console import UserError
from electra_keras.tasks.features import Features
from electra_keras.tasks.finetuner import Head
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.text.tokenizer import Tokenizer

# The head's outputs for all rows of features: an array, or several by name, rows first.
Outputs = np.ndarray | Mapping[str, np.ndarray]
Settings = TypeVar("Settings")


class Task(Protocol):
    """A kind of fine-tuning, with all settings that a trained model needs beyond its encoder.

    Examples are whatever `read` returns; the rows of features are what the encoder reads, one for
    each example or several.

    Attributes:
        name: for people.
        max_seq_length: tokens per row, special ones included.
        metrics: keys of what `evaluate` returns; the first chooses the best checkpoint.
        targets: the features, beside the inputs, that the head's loss reads.
        default_epochs: passes over the training examples where none are asked for.

    A class may also have `unit`, how its scores are to be read, such as "in percent".
    """

    name: str
    max_seq_length: int
    metrics: tuple[str, ...]
    targets: tuple[str, ...]
    default_epochs: int

    @classmethod
    def read(cls, options: TaskOptions, split: str, task: Self | None = None) -> list[Any]:
        """Reads the examples of "train" or "dev"; with a task, warns of labels that it lacks."""

    @classmethod
    def of_data(cls, options: TaskOptions, examples: Sequence[Any]) -> Self:
        """Returns the task that training examples make.

        Those of this library also take `held_out`, examples of the same file that --dev_share takes
        out of it: the task knows their labels, too.
        """

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parses what `to_json` wrote; `where` names the file in errors."""

    def to_json(self) -> str:
        """Returns the settings as JSON, for task.json of a run directory."""

    def training_examples(self, options: TaskOptions, examples: Sequence[Any]) -> list[Any]:
        """Returns what is trained on: some examples may be left out, or be added in other forms."""

    def features(self, examples: Sequence[Any], tokenizer: Tokenizer) -> dict[str, np.ndarray]:
        """Returns arrays, rows first.

        `input_ids`, `segment_ids` int32 [rows, max_seq_length], `lengths` int32 [rows], `truncated`
        bool [rows], the `targets` where all examples are labelled, and whatever else the methods below
        read.
        """

    def make_head(self, encoder: EncoderConfig) -> Head:
        """Returns the head for an encoder, built; the paths of its weights must differ (see `Head`)."""

    def evaluate(
        self, outputs: Outputs, features: Features, examples: Sequence[Any]
    ) -> dict[str, float]:
        """Returns metrics."""

    def failed(self, outputs: Outputs, features: Features, examples: Sequence[Any]) -> bool:
        """Whether the model says the same of all examples although their labels differ (A24)."""

    def predictions(
        self, outputs: Outputs, features: Features, examples: Sequence[Any]
    ) -> list[dict[str, Any]]:
        """Returns what is said of each example, as JSON values."""

    def read_inputs(self, options: InputOptions) -> list[Any]:
        """Reads examples to predict for; they have an `id`."""

    def write_submission(
        self, directory: str, split: str, examples: Sequence[Any], rows: Sequence[dict[str, Any]]
    ) -> str:
        """Writes predictions as the task's official scorer takes them; returns the path.

        Only predict's --submission_dir needs it.
        """

    def describe(self) -> str:
        """Returns a line for the log."""


def scores_of(task: Task | type[Task]) -> str:
    """Returns ", scores in percent" or the like, for what is printed above a task's scores."""
    unit = getattr(task, "unit", None)
    return f", scores {unit}" if unit else ""


def settings_to_json(family: str, settings: Any) -> str:
    """Returns a dataclass as indented JSON, the name of its family first."""
    return json.dumps({"family": family} | dataclasses.asdict(settings), indent=2) + "\n"


def settings_from_json(cls: type[Settings], family: str, text: str, where: str) -> Settings:
    """Parses what `settings_to_json` wrote; lists become tuples.

    Raises:
        UserError: it is something else, or a field is of another type; names `where`.
    """
    try:
        values = json.loads(text)
        if values.pop("family") != family:
            raise ValueError("another family of tasks")
        settings = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = family.replace("_", " ")
        raise UserError(f"{where} holds no settings of a {words} task: {error}") from error
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if not _is_setting(value, field.type):
            raise UserError(f"{where} holds an impossible value: {field.name} is {value!r:.60}")
    return settings


def _is_setting(value: Any, kind: Any) -> bool:
    """Whether a value is of a field's type, and fits TensorFlow's int32, or UTF-8."""
    if typing.get_origin(kind) is tuple:
        kinds = typing.get_args(kind)
        if not isinstance(value, tuple):
            return False
        if kinds[-1] is Ellipsis:
            return all(_is_setting(item, kinds[0]) for item in value)
        return len(value) == len(kinds) and all(map(_is_setting, value, kinds))
    if not matches(value, kind):
        return False
    if kind is int:
        return abs(value) < 2**31
    return is_utf8(value) if kind is str else True


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8: it holds no half of a character (a lone surrogate)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
