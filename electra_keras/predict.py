"""Predictions of a fine-tuned model: python -m electra_keras.predict --model_dir=... < texts.txt"""

import json
import sys
from pathlib import Path

from absl import flags

from electra_keras import flags as option_flags
from electra_keras.console import ProgressLine, UsageError, run_main
from electra_keras.tasks.options import InputOptions

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
from electra_keras.tasks import registry, running
from electra_keras.tasks.reading import as_trained
from electra_keras.training import distribution

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory that electra_keras.finetune made.")
_TASK = flags.DEFINE_string(
    "task",
    None,
    "module:Class, if the model is of a task of your own; AX, for GLUE's diagnostic set and a model of "
    "MNLI.",
)
_SUBMISSION = flags.DEFINE_string(
    "submission_dir",
    None,
    "Also write what the task's official scorer takes to this directory: GLUE's file to submit, "
    "SQuAD's predictions.json and null_odds.json, or a CoNLL file.",
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Rows per batch.", lower_bound=1)
option_flags.define(InputOptions)


def main() -> int:
    """Writes a JSON line for every example to stdout; returns the exit code."""
    if not _MODEL_DIR.value:
        raise UsageError("--model_dir is missing: the fine-tuned model")
    options = option_flags.read(InputOptions)
    strategy = distribution.make_strategy("one_device")
    with strategy.scope():
        model, task, tokenizer = running.load_finetuned(
            Path(_MODEL_DIR.value), _CHECKPOINT.value, _TASK.value
        )
    strangers = option_flags.given(InputOptions) & registry.unused_options(
        type(task), registry.INPUT_OPTIONS
    )
    if strangers:
        raise UsageError(f"--{min(strangers)} says nothing to a model of the task {task.name}")
    if _SUBMISSION.value:
        registry.check_submission(task)
        Path(_SUBMISSION.value).mkdir(parents=True, exist_ok=True)
    trained = option_flags.flagfile_values(Path(_MODEL_DIR.value) / "flags.cfg")
    examples = task.read_inputs(as_trained(options, trained))
    predictor = running.Predictor(strategy, model, _BATCH_SIZE.value)
    progress = ProgressLine(len(examples), "examples")
    all_rows, done = [], 0
    for chunk in running.chunks(examples):
        features = task.features(chunk, tokenizer)
        rows = task.predictions(predictor.outputs(features), features, chunk)
        # Of an example that is several rows, the first speaks for all.
        number = features.get("example", range(len(chunk)))
        truncated = dict(zip(reversed(number), reversed(features["truncated"]), strict=True))
        progress.clear()
        for index, (example, row) in enumerate(zip(chunk, rows, strict=True)):
            more = {"truncated": True} if truncated[index] else {}
            print(json.dumps({"id": example.id, **row, **more}, ensure_ascii=False))
        done += len(chunk)
        progress.update(done)
        if _SUBMISSION.value:
            all_rows += rows
    progress.clear()
    if _SUBMISSION.value and examples:
        path = task.write_submission(_SUBMISSION.value, options.split, examples, all_rows)
        print(f"wrote {path}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    run_main(main)
