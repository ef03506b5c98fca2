"""Evaluates a pre-trained model: python -m electra_keras.evaluate --model_dir=... --data_dir=..."""

import dataclasses
import json
import math
import sys
from pathlib import Path

from absl import flags

from electra_keras.console import ProgressLine, UsageError, UserError, run_main

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
from absl import logging

from electra_keras.data.pipeline import open_records
from electra_keras.data.records import find_records
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, distribution, report, run_directory
from electra_keras.training.evaluation import Evaluator

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Model directory to evaluate.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory, or globs, of TFRecords.")
_SPLIT = flags.DEFINE_enum(
    "split", "validation", ["train", "validation"], "Split, where the directory has metadata."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
_BATCH_SIZE = flags.DEFINE_integer("eval_batch_size", 64, "Examples per batch.", lower_bound=1)
_BATCHES = flags.DEFINE_integer("eval_batches", None, "At most so many batches.", lower_bound=1)
_SKIP = flags.DEFINE_bool("skip_bad_records", False, "Count and skip damaged records.")
_JSON = flags.DEFINE_bool("json", False, "Print the metrics as one JSON object.")


def main() -> int:
    """Prints the metrics of a model on records; returns the exit code."""
    if not _MODEL_DIR.value or not _DATA_DIR.value:
        raise UsageError("--model_dir and --data_dir are needed: what to evaluate, and on what")
    model_dir = Path(_MODEL_DIR.value)
    config = checkpoints.read_config(model_dir)
    if run_directory.read_task(model_dir) is not None:
        raise UsageError(
            f"{model_dir} is fine-tuned: its dev metrics stand in metrics.jsonl, and "
            "electra_keras.predict says what it makes of other texts"
        )
    config.require_both(str(model_dir))
    vocabulary = Vocabulary.load(str(model_dir / "vocab.txt"))
    records = find_records(_DATA_DIR.value, _SPLIT.value)
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
    evaluator = Evaluator(strategy, model, source, _BATCH_SIZE.value, _BATCHES.value)
    progress = ProgressLine(evaluator.num_batches, "batches")
    metrics = evaluator.metrics(progress.update)
    progress.clear()
    if _JSON.value:
        finite = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        print(json.dumps(finite))
    else:
        report.print_metrics(metrics, records.metadata, sys.stdout)
    return 0


if __name__ == "__main__":
    run_main(main)
