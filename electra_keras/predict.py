"""Predictions of a fine-tuned model: python -m electra_keras.predict --model_dir=... < texts.txt"""

import json
import sys
from pathlib import Path

from absl import flags

from electra_keras.console import ProgressLine, UsageError, UserError, run_main

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
from electra_keras.tasks import running
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.data.examples import TextExample
from electra_keras.tasks.data.files import read_lines
from electra_keras.tasks.data.glue import GLUE_TASKS, read_glue, write_submission
from electra_keras.tasks.data.tables import EXTENSIONS, TableFormat, read_table
from electra_keras.training import distribution

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Directory that electra_keras.finetune made.")
_INPUT = flags.DEFINE_string(
    "input",
    "-",
    "File of texts: .tsv, .csv or .jsonl with --text_columns; any other holds a text a line (a pair: "
    "two, parted by a tab). -: standard input.",
)
_COLUMNS = flags.DEFINE_list("text_columns", ["text"], "One or two columns of a table.")
_ID_COLUMN = flags.DEFINE_string("id_column", None, "Column of the ids; default: counted from 0.")
_HEADER = flags.DEFINE_bool("header", True, "TSV and CSV files begin with the columns' names.")
_GLUE_DIR = flags.DEFINE_string("glue_dir", None, "A GLUE task's directory, in place of --input.")
_SPLIT = flags.DEFINE_string("split", "test", "With --glue_dir: which of its files.")
_SUBMISSION = flags.DEFINE_string(
    "submission_dir", None, "With --glue_dir: also write the file to submit to this directory."
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples per batch.", lower_bound=1)


def main() -> int:
    """Writes a JSON line for every example to stdout; returns the exit code."""
    if not _MODEL_DIR.value:
        raise UsageError("--model_dir is missing: the fine-tuned model")
    if _SUBMISSION.value and not _GLUE_DIR.value:
        raise UsageError("--submission_dir needs --glue_dir")
    strategy = distribution.make_strategy("one_device")
    with strategy.scope():
        model, task, tokenizer = running.load_finetuned(Path(_MODEL_DIR.value), _CHECKPOINT.value)
    examples = read_examples(task)
    if not examples:
        return 0
    features = task.features(examples, tokenizer)
    progress = ProgressLine(len(examples), "examples")
    outputs = running.Predictor(strategy, model, _BATCH_SIZE.value).outputs(
        features, progress.update
    )
    progress.clear()
    predictions = task.predictions(outputs)
    for example, prediction, truncated in zip(
        examples, predictions, features["truncated"], strict=True
    ):
        row = {"id": example.id, **prediction} | ({"truncated": True} if truncated else {})
        print(json.dumps(row, ensure_ascii=False))
    if _SUBMISSION.value:
        values = [p["score"] if task.kind == "regression" else p["label"] for p in predictions]
        directory = Path(_SUBMISSION.value)
        directory.mkdir(parents=True, exist_ok=True)
        path = write_submission(str(directory), task.name, _SPLIT.value, examples, values)
        print(f"wrote {path}", file=sys.stderr)
    return 0


def read_examples(task: ClassificationTask) -> list[TextExample]:
    """Reads what the flags say."""
    if _GLUE_DIR.value:
        if task.name not in GLUE_TASKS:
            raise UsageError(f"--glue_dir: the model is of the task {task.name}, none of GLUE's")
        return read_glue(task.name, _GLUE_DIR.value, _SPLIT.value)
    path = _INPUT.value
    if path.removesuffix(".gz").endswith(EXTENSIONS):
        columns = tuple(_COLUMNS.value)
        return read_table(
            path, TableFormat(columns, id_column=_ID_COLUMN.value, header=_HEADER.value)
        )
    name = "standard input" if path == "-" else path
    examples = []
    for number, line in read_lines("/dev/stdin" if path == "-" else path):
        texts = line.split("\t") if task.pairs else [line]
        if len(texts) != 1 + task.pairs:
            raise UserError(
                f"{name}, line {number}: {len(texts)} texts; a pair is two, parted by a tab"
            )
        examples.append(TextExample(str(number - 1), *texts))
    return examples


if __name__ == "__main__":
    run_main(main)
