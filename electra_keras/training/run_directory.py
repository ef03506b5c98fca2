"""The run directory: made for a new run, checked for one that continues."""

import dataclasses
import shutil
from pathlib import Path

from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError, UserError, reason
from electra_keras.options import RunOptions
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints

TASK_FILE, ADAPTATION_FILE, OUTCOME_FILE = "task.json", "adaptation.json", "outcome.json"
# Fields of ElectraConfig that a converted model may have by default only.
_NOT_RECORDED = ("max_seq_length", "mask_prob", "lower_case", "strip_accents")


def prepare(
    model_dir: Path,
    config: ElectraConfig,
    vocabulary: Vocabulary,
    options: RunOptions,
    task: str | None = None,
    adaptation: str | None = None,
) -> None:
    """Makes the run directory, or checks that the one there is this run's.

    Args:
        model_dir: the run directory.
        config, vocabulary: the model's.
        options: whether to start anew.
        task: the text of task.json, of a fine-tuning run.
        adaptation: the text of adaptation.json, of one that does not train everything.

    Raises:
        UserError: it belongs to another configuration, or --fresh would overwrite it.
    """
    steps = checkpoints.checkpoint_steps(model_dir)
    if options.fresh:
        if steps and not options.overwrite:
            raise UsageError(
                f"--fresh: {model_dir} holds a run at step {max(steps)}; add --overwrite to delete it, "
                "or choose another --model_dir"
            )
        try:
            for name in ("checkpoints", "logs"):
                if (model_dir / name).exists():
                    shutil.rmtree(model_dir / name)
            files = ("metrics.jsonl", "config.json", "vocab.txt")
            for name in (*files, TASK_FILE, ADAPTATION_FILE, OUTCOME_FILE):
                (model_dir / name).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"cannot delete the run in {model_dir}: {error.strerror}") from error
        steps = {}
    if steps:
        theirs = dataclasses.asdict(checkpoints.read_config(model_dir))
        converted = checkpoints.read_state(steps[max(steps)]).get("converted")
        for name, ours in dataclasses.asdict(config).items():
            if theirs[name] != ours and converted and name in _NOT_RECORDED:
                logging.info("%s is %s here; the converted model had %s", name, ours, theirs[name])
            elif theirs[name] != ours:
                raise UsageError(
                    f"{model_dir} holds a run of another configuration: {name} is {theirs[name]} there "
                    f"and {ours} here; choose another --model_dir, or --fresh --overwrite"
                )
        if Vocabulary.load(str(model_dir / "vocab.txt")).sha256 != vocabulary.sha256:
            raise UsageError(f"{model_dir} holds a run with another vocabulary")
        for name, ours, what in (
            (TASK_FILE, task, "of another task or of other settings of it"),
            (ADAPTATION_FILE, adaptation, "that freezes something else, or has another LoRA"),
        ):
            if read_text(model_dir, name) != ours:
                raise UsageError(
                    f"{model_dir} holds a run {what} ({name}); choose another --model_dir, or --fresh "
                    "--overwrite"
                )
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create --model_dir={model_dir}: {error.strerror}") from error
    checkpoints.write_file(model_dir / "config.json", config.to_json())
    vocabulary.save(str(model_dir / "vocab.txt"))
    for name, text in ((TASK_FILE, task), (ADAPTATION_FILE, adaptation)):
        if text is not None:
            checkpoints.write_file(model_dir / name, text)
        else:  # of an earlier run that ended before its first checkpoint
            (model_dir / name).unlink(missing_ok=True)


def read_task(model_dir: Path) -> str | None:
    """Returns the text of task.json, or None in a directory that is not of fine-tuning.

    Raises:
        UserError: it cannot be read.
    """
    return read_text(model_dir, TASK_FILE)


def read_text(model_dir: Path, name: str) -> str | None:
    """Returns the text of a file of a model directory, or None where there is no such file.

    Raises:
        UserError: it cannot be read.
    """
    path = model_dir / name
    if not path.exists():
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
