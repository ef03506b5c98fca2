"""Evaluates a model, pre-trained or fine-tuned: python -m electra_keras.evaluate --model_dir=...

A pre-trained one on TFRecords (--data_dir=..., --split); a fine-tuned one on the dev set of its run, or
on another (--dev_file=..., or --data_dir=... with a dev file), read as that run's flags.cfg says.
"""

import dataclasses
import json
import math
import sys
from pathlib import Path

from absl import flags

from electra_keras import flags as option_flags
from electra_keras.console import ProgressLine, UsageError, UserError, run_main
from electra_keras.tasks.options import TaskOptions

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
from absl import logging

from electra_keras.data.pipeline import open_records
from electra_keras.data.records import find_records
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.tasks import registry, running
from electra_keras.tasks.data.rows import extension_of
from electra_keras.tasks.interface import scores_of
from electra_keras.training import checkpoints, distribution, report, run_directory
from electra_keras.training.evaluation import Evaluator

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Model directory to evaluate.")
_SPLIT = flags.DEFINE_enum(
    "split", "validation", ["train", "validation"], "Split, where the directory has metadata."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
_BATCH_SIZE = flags.DEFINE_integer("eval_batch_size", 64, "Examples per batch.", lower_bound=1)
_BATCHES = flags.DEFINE_integer(
    "eval_batches", 0, "At most so many batches, from all files alike; 0: the whole split.", 0
)
_SKIP = flags.DEFINE_bool("skip_bad_records", False, "Count and skip damaged records.")
_JSON = flags.DEFINE_bool("json", False, "Print the metrics as one JSON object.")


# A fine-tuned model is evaluated on what these say; of pre-training only --data_dir means something.
option_flags.define(TaskOptions)
_OF_RECORDS = ("split", "eval_batches", "skip_bad_records")


def main() -> int:
    """Prints the metrics of a model; returns the exit code."""
    if not _MODEL_DIR.value:
        raise UsageError("--model_dir is needed: what to evaluate")
    model_dir = Path(_MODEL_DIR.value)
    if run_directory.read_task(model_dir) is not None:
        return evaluate_finetuned(model_dir)
    others = option_flags.given(TaskOptions) - {"data_dir"}
    if others:
        raise UsageError(f"--{min(others)} is for fine-tuned models; {model_dir} is pre-trained")
    return evaluate_pretrained(model_dir, flags.FLAGS.data_dir)


def evaluate_finetuned(model_dir: Path) -> int:
    """Prints the task's metrics."""
    for name in _OF_RECORDS:
        if flags.FLAGS[name].present:
            raise UsageError(f"--{name} is for pre-trained models; {model_dir} is fine-tuned")
    # Code is named on the command line only, not by what lies in a directory.
    task_name = flags.FLAGS.task
    given = option_flags.given(TaskOptions)
    elsewhere = given & {"data_dir", "dev_file"}
    option_flags.read_flagfile(TaskOptions, model_dir / "flags.cfg")
    if elsewhere and "dev_share" not in given:
        flags.FLAGS.dev_share = None
    own_format = "dev_file" in elsewhere and "input_format" not in given
    if own_format and extension_of(flags.FLAGS.dev_file):
        flags.FLAGS.input_format = None  # was for the run's own files
    options = option_flags.read(TaskOptions)
    strategy = distribution.make_strategy("one_device")
    with strategy.scope():
        model, task, tokenizer = running.load_finetuned(model_dir, _CHECKPOINT.value, task_name)
    if type(task) in registry.FAMILY_OPTIONS:
        useless = (given - registry.READING_OPTIONS) | (given & registry.unused_options(type(task)))
        if useless:
            raise UsageError(f"--{min(useless)} changes nothing: {model_dir} is trained without it")
    examples = type(task).read(options, "dev", task)
    if not examples:
        raise UserError(f"the task {task.name} found no dev examples")
    features = task.features(examples, tokenizer)
    progress = ProgressLine(len(features["lengths"]), "rows")
    outputs = running.Predictor(strategy, model, _BATCH_SIZE.value).outputs(
        features, progress.update
    )
    progress.clear()
    metrics = task.evaluate(outputs, features, examples)
    if _JSON.value:
        print_json(metrics)
    else:
        print(f"{task.name}: {len(examples)} examples{scores_of(task)}")
        for name, value in metrics.items():
            print(f"  {name:<20}{value if isinstance(value, int) else f'{value:.4f}'}")
    return 0


def evaluate_pretrained(model_dir: Path, data_dir: str | None) -> int:
    """Prints the metrics of both networks on records."""
    config = checkpoints.read_config(model_dir)
    if not data_dir:
        raise UsageError("--data_dir is needed: a directory, or globs, of TFRecords")
    config.require_both(str(model_dir))
    vocabulary = checkpoints.read_vocabulary(model_dir, config)
    records = find_records(data_dir, _SPLIT.value)
    if records.max_seq_length > config.discriminator.max_position_embeddings:
        raise UserError(
            f"the records have length {records.max_seq_length}, but the model has only "
            f"{config.discriminator.max_position_embeddings} positions"
        )
    if records.metadata is not None and records.metadata.vocab_sha256 != vocabulary.sha256:
        raise UserError(
            f"the records were built with another vocabulary than {model_dir / 'vocab.txt'}"
        )
    config = dataclasses.replace(config, max_seq_length=records.max_seq_length)
    strategy = distribution.make_strategy("one_device")
    with strategy.scope():
        model = ElectraPretrainer(config)
    path = checkpoints.load_weights(model, model_dir, _CHECKPOINT.value)
    logging.info("weights from %s", path)
    source = open_records(records, _SKIP.value)
    evaluator = Evaluator(strategy, model, source, _BATCH_SIZE.value, _BATCHES.value or None)
    logging.info("%s", evaluator.coverage())
    progress = ProgressLine(evaluator.num_batches, "batches")
    metrics = evaluator.metrics(progress.update)
    progress.clear()
    if _JSON.value:
        print_json(metrics)
    else:
        report.print_metrics(metrics, records.metadata, sys.stdout)
    return 0


def print_json(metrics: dict[str, float]) -> None:
    """Prints one object; what is not finite is null."""
    print(json.dumps({k: v if math.isfinite(v) else None for k, v in metrics.items()}))


if __name__ == "__main__":
    run_main(main)
