"""A fine-tuned model at work: loading it, its outputs on examples, and its score."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError, UserError
from electra_keras.interop.weights import known_casing
from electra_keras.tasks.adaptation import load_merged
from electra_keras.tasks.features import Features, evaluation_batches
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.interface import Outputs, Task
from electra_keras.tasks.metrics.classification import GLUE_METRICS
from electra_keras.tasks.registry import family_of_settings
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, run_directory
from electra_keras.training.summaries import SummaryWriter

# Examples that `chunks` gives at a time: so many, with so many characters unless one alone has more.
_CHUNK, _CHUNK_CHARACTERS = 1024, 1_000_000


def make_tokenizer(config: ElectraConfig, vocabulary: Vocabulary) -> Tokenizer:
    """Returns the tokenizer of a model; where its casing is not recorded, it is seen from the tokens,
    as in an export.
    """
    config, notes = known_casing(config, vocabulary)
    for note in notes:
        logging.info("%s", note)
    return Tokenizer(vocabulary, config.lower_case, config.strip_accents)


class Predictor:
    """Runs a fine-tuned model on features, without dropout.

    Args:
        strategy: in whose scope the model was made; every replica computes the same.
        model: the fine-tuned one.
        batch_size: examples per batch.
        fixed_shapes: compute all batches at `batch_size` rows and one of the model's buckets, as what
            is compiled as a whole must; None: on TPU.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: FineTuner,
        batch_size: int = 64,
        fixed_shapes: bool | None = None,
    ) -> None:
        self.batch_size = batch_size
        if fixed_shapes is None:
            fixed_shapes = isinstance(strategy, tf.distribute.TPUStrategy)
        self.lengths = model.buckets if fixed_shapes else ()

        @tf.function(reduce_retracing=not fixed_shapes, autograph=False)
        def run(batch: dict[str, tf.Tensor]) -> Any:
            return strategy.run(model, args=(batch,))

        def local(value: Any) -> np.ndarray:
            return strategy.experimental_local_results(value)[0].numpy()

        self._run = lambda batch: tf.nest.map_structure(local, run(batch))

    def outputs(self, features: Features, on_batch: Callable[[int], None] | None = None) -> Outputs:
        """Returns the head's outputs in the order of the features.

        Batches have the length of their longest row; what is shorter than in others is padded with 0.
        `on_batch` is called with the number of rows done.
        """
        inputs = {name: features[name] for name in ("input_ids", "segment_ids", "lengths")}
        parts, done = [], 0
        for rows, batch in evaluation_batches(inputs, self.batch_size, self.lengths):
            outputs = self._run({k: tf.constant(v) for k, v in batch.items()})
            count = len(rows)
            parts.append((rows, tf.nest.map_structure(lambda v, n=count: v[:n], outputs)))
            done += len(rows)
            if on_batch is not None:
                on_batch(done)
        if not isinstance(parts[0][1], dict):
            return _assemble(parts, done)
        return {
            name: _assemble([(rows, values[name]) for rows, values in parts], done)
            for name in parts[0][1]
        }


def chunks(examples: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yields the examples some at a time: fewer where texts are long, as their windows are many."""
    first, characters = 0, 0
    for number, example in enumerate(examples):
        size = _characters(example)
        full = number - first == _CHUNK or characters + size > _CHUNK_CHARACTERS
        if number > first and full:
            yield examples[first:number]
            first, characters = number, 0
        characters += size
    if examples:
        yield examples[first:]


def _characters(example: Any) -> int:
    """Returns how many characters the texts of an example have."""
    values = getattr(example, "__dict__", {}).values()
    lists = [value if isinstance(value, tuple) else (value,) for value in values]
    return sum(len(text) for texts in lists for text in texts if isinstance(text, str))


def _assemble(parts: Sequence[tuple[np.ndarray, np.ndarray]], number: int) -> np.ndarray:
    """Returns one array [number, ...] of the parts' rows."""
    shapes = np.array([values.shape[1:] for _, values in parts], int)
    whole = np.zeros((number, *shapes.max(axis=0)), parts[0][1].dtype)
    for rows, values in parts:
        whole[(rows, *(slice(size) for size in values.shape[1:]))] = values
    return whole


@dataclasses.dataclass
class TaskValidation:
    """The dev set, for `Trainer`."""

    task: Task
    predictor: Predictor
    features: Features
    examples: Sequence[Any]

    def metrics(self, on_batch: Callable[[int], None] | None = None) -> dict[str, float]:
        """Returns the task's metrics of the model as it is; `on_batch` as of `Predictor.outputs`."""
        outputs = self.predictor.outputs(self.features, on_batch)
        return self.task.evaluate(outputs, self.features, self.examples)

    def failed(self) -> bool:
        """Whether the model as it is says the same of all examples."""
        outputs = self.predictor.outputs(self.features)
        return self.task.failed(outputs, self.features, self.examples)

    def is_better(self, metrics: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether the first metric is above that of `best`."""
        name = self.task.metrics[0]
        value, before = metrics[name], (best or {}).get(name, math.nan)
        return not math.isnan(value) if math.isnan(before) else value > before

    def describe(self, metrics: dict[str, float]) -> str:
        """Returns the metrics of a log line."""
        return "  ".join(
            f"{name} {metrics[name]:.4f}"
            for name in (*self.task.metrics, "loss")
            if name in metrics
        )

    def show(self, summaries: SummaryWriter | None, step: int) -> None:
        """Writes nothing: the curves say what there is to say."""


def load_finetuned(
    model_dir: Path, which: str = "best", task_name: str | None = None
) -> tuple[FineTuner, Task, Tokenizer]:
    """Returns a fine-tuned model with its task and tokenizer.

    Args:
        model_dir: a run directory of electra_keras.finetune.
        which: its checkpoint, as in `checkpoints.find_checkpoint`.
        task_name: the value of --task, needed for a task of one's own, and for AX.

    Raises:
        UserError: not such a directory, a damaged one, or one of another task.
    """
    config = checkpoints.read_config(model_dir)
    text = run_directory.read_task(model_dir)
    if text is None:
        raise UserError(
            f"{model_dir} is not fine-tuned (it has no {run_directory.TASK_FILE}): "
            "python -m electra_keras.finetune makes such a directory"
        )
    where = str(model_dir / run_directory.TASK_FILE)
    task = family_of_settings(text, where, task_name).from_json(text, where)
    if task_name == "AX" and task.name == "MNLI":  # GLUE's diagnostic set is for models of MNLI
        task = dataclasses.replace(task, name="AX", metrics=GLUE_METRICS["AX"])
    if task_name is not None and ":" not in task_name and task_name != task.name:
        raise UsageError(f"--task={task_name}: {model_dir} is of the task {task.name}")
    vocabulary = checkpoints.read_vocabulary(model_dir, config)
    model = FineTuner(config, task.make_head, task.max_seq_length)
    load_merged(model.weights, model_dir, checkpoints.find_checkpoint(model_dir, which))
    return model, task, make_tokenizer(config, vocabulary)
