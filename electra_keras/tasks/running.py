"""A fine-tuned model at work: loading it, its outputs on examples, and its score."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.console import UserError
from electra_keras.interop.weights import known_casing
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.data.examples import TextExample
from electra_keras.tasks.data.files import find_split
from electra_keras.tasks.data.glue import GLUE_TASKS, read_glue
from electra_keras.tasks.data.tables import EXTENSIONS, TableFormat, read_table
from electra_keras.tasks.features import Features, evaluation_batches
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.options import TaskOptions
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, run_directory
from electra_keras.training.summaries import SummaryWriter


def table_format(options: TaskOptions) -> TableFormat:
    """Returns how a table of one's own is read."""
    return TableFormat(
        text_columns=tuple(name.strip() for name in options.text_columns.split(",")),
        label_column=options.label_column,
        header=options.header,
        multi_label=options.multi_label,
        label_separator=options.label_separator,
        regression=options.regression,
    )


def read_split(
    options: TaskOptions, split: str, task: ClassificationTask | None = None
) -> list[TextExample]:
    """Reads the examples of "train" or "dev", or of another split of a GLUE task.

    Args:
        options: where they are.
        split: which.
        task: whose labels are the allowed ones; None: whatever is there.

    Raises:
        UserError: no such file, or one that cannot be read.
    """
    given = {"train": options.train_file, "dev": options.dev_file}.get(split)
    if options.task in GLUE_TASKS and not given:
        if not options.data_dir:
            raise UserError(f"--data_dir is missing: where the files of {options.task} are")
        if options.task == "MNLI" and split == "dev":
            split = "dev_matched"
        return read_glue(options.task, options.data_dir, split)
    path = given or (find_split(options.data_dir, split, EXTENSIONS) if options.data_dir else None)
    if path is None:
        where = f" in --data_dir={options.data_dir}" if options.data_dir else ""
        raise UserError(
            f"no {split} file{where}: give --{split}_file, or a directory with "
            f"{split}.tsv, .csv or .jsonl"
        )
    return read_table(path, table_format(options), task.labels if task and task.labels else None)


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
    """

    def __init__(
        self, strategy: tf.distribute.Strategy, model: FineTuner, batch_size: int = 64
    ) -> None:
        self.batch_size = batch_size

        @tf.function(reduce_retracing=True, autograph=False)
        def run(batch: dict[str, tf.Tensor]) -> Any:
            return strategy.run(model, args=(batch,))

        self._run = lambda batch: strategy.experimental_local_results(run(batch))[0].numpy()

    def outputs(
        self, features: Features, on_batch: Callable[[int], None] | None = None
    ) -> np.ndarray:
        """Returns the head's outputs in the order of the features.

        `on_batch` is called with the number of examples done.
        """
        inputs = {name: features[name] for name in ("input_ids", "segment_ids", "lengths")}
        outputs, done = None, 0
        for rows, batch in evaluation_batches(inputs, self.batch_size):
            values = self._run({name: tf.constant(value) for name, value in batch.items()})
            if outputs is None:
                outputs = np.zeros((len(features["lengths"]), *values.shape[1:]), np.float32)
            outputs[rows] = values
            done += len(rows)
            if on_batch is not None:
                on_batch(done)
        return outputs


@dataclasses.dataclass
class TaskValidation:
    """The dev set, for `Trainer`."""

    task: ClassificationTask
    predictor: Predictor
    features: Features

    def metrics(self) -> dict[str, float]:
        """Returns the task's metrics of the model as it is."""
        return self.task.evaluate(self.predictor.outputs(self.features), self.features["labels"])

    def is_better(self, metrics: dict[str, float], best: dict[str, float] | None) -> bool:
        """Whether the first metric is above that of `best`."""
        name = self.task.metrics[0]
        value, before = metrics[name], (best or {}).get(name, math.nan)
        return not math.isnan(value) if math.isnan(before) else value > before

    def describe(self, metrics: dict[str, float]) -> str:
        """Returns the metrics of a log line."""
        return "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())

    def show(self, summaries: SummaryWriter | None, step: int) -> None:
        """Writes nothing: the curves say what there is to say."""


def load_finetuned(
    model_dir: Path, which: str = "best"
) -> tuple[FineTuner, ClassificationTask, Tokenizer]:
    """Returns a fine-tuned model with its task and tokenizer.

    Args:
        model_dir: a run directory of electra_keras.finetune.
        which: its checkpoint, as in `checkpoints.find_checkpoint`.

    Raises:
        UserError: not such a directory, or a damaged one.
    """
    config = checkpoints.read_config(model_dir)
    text = run_directory.read_task(model_dir)
    if text is None:
        raise UserError(
            f"{model_dir} is not fine-tuned (it has no {run_directory.TASK_FILE}): "
            "python -m electra_keras.finetune makes such a directory"
        )
    task = ClassificationTask.from_json(text, str(model_dir / run_directory.TASK_FILE))
    vocabulary = Vocabulary.load(str(model_dir / "vocab.txt"))
    model = FineTuner(config, task.make_head, task.max_seq_length)
    checkpoints.assign_arrays(model.weights, checkpoints.find_checkpoint(model_dir, which))
    return model, task, make_tokenizer(config, vocabulary)


def both_orders(examples: Sequence[TextExample]) -> list[TextExample]:
    """Returns pairs, and the same with their texts exchanged.

    Raises:
        UserError: these are no pairs.
    """
    if any(example.text_b is None for example in examples):
        raise UserError("--double_unordered is for pairs of texts")
    exchanged = [
        dataclasses.replace(example, text_a=example.text_b, text_b=example.text_a)
        for example in examples
    ]
    return [*examples, *exchanged]


def count_parameters(variables: Sequence[keras.Variable]) -> int:
    """Returns how many numbers variables hold."""
    return sum(math.prod(variable.shape) for variable in variables)
