"""The run directory: made for a new run, checked for one that continues."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging

from electra_keras import flagfiles
from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError, UserError, reason
from electra_keras.files import write_whole
from electra_keras.options import RunOptions
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints

TASK_FILE, ADAPTATION_FILE, OUTCOME_FILE = "task.json", "adaptation.json", "outcome.json"
FLAGS_FILE = "flags.cfg"
# Fields of ElectraConfig that a converted model may have by default only.
_NOT_RECORDED = ("max_seq_length", "mask_prob", "lower_case", "strip_accents")
# What a run cannot change without repeating or skipping examples, or misreading its moments.
_FIXED = ("seed", "train_batch_size", "shuffle_buffer", "optimizer", "adam_beta_1", "adam_beta_2")


def prepare(
    model_dir: Path,
    config: ElectraConfig,
    vocabulary: Vocabulary,
    options: RunOptions,
    flagfile: str,
    fingerprint: str,
    task: str | None = None,
    adaptation: str | None = None,
) -> None:
    """Fills the run directory, or checks that the one there is this run's.

    Args:
        model_dir: the run directory, which is there and locked.
        config, vocabulary: the model's.
        options: whether to start anew.
        flagfile: the text of flags.cfg. One there that says something else is kept, with the step of the
            checkpoint that the run goes on from behind its name.
        fingerprint: of the training data.
        task: the text of task.json, of a fine-tuning run.
        adaptation: the text of adaptation.json, of one that does not train everything.

    Raises:
        UserError: it belongs to another configuration, or --fresh would overwrite it.
    """
    checkpoints.give_back_replaced(model_dir)
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
            for path in model_dir.glob(f"{FLAGS_FILE}.*"):
                path.unlink()
        except OSError as error:
            raise UserError(f"cannot delete the run in {model_dir}: {error.strerror}") from error
        steps = {}
    if steps:
        theirs = dataclasses.asdict(checkpoints.read_config(model_dir))
        state = _newest_state(steps)
        converted = state.get("converted")
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
        _check_flags(model_dir, state, flagfile, fingerprint, options.force_resume)
    write_whole(model_dir / FLAGS_FILE, flagfile)
    write_whole(model_dir / "config.json", config.to_json())
    vocabulary.save(str(model_dir / "vocab.txt"))
    for name, text in ((TASK_FILE, task), (ADAPTATION_FILE, adaptation)):
        if text is not None:
            write_whole(model_dir / name, text)
        else:  # of an earlier run that ended before its first checkpoint
            (model_dir / name).unlink(missing_ok=True)


def _newest_state(steps: Mapping[int, Path]) -> dict[str, Any]:
    """Returns the state of the newest checkpoint whose state can be read; empty where none can."""
    for path in reversed(steps.values()):
        try:
            return checkpoints.read_state(path)
        except UserError:  # the trainer names it, and takes the one before
            continue
    return {}


def _check_flags(
    model_dir: Path, state: Mapping[str, Any], flagfile: str, fingerprint: str, force: bool
) -> None:
    """Compares the flags of a run that goes on with those it had; logs what changes.

    Raises:
        UsageError: what may not change does, and is not forced.
    """
    path = model_dir / FLAGS_FILE
    if not path.exists():
        return
    old_text = read_text(model_dir, FLAGS_FILE)
    before, now = read_flags(old_text), read_flags(flagfile)
    changes = {
        f"--{name}": (value, now.get(name, "unset"))
        for name, value in before.items()
        if now.get(name, "unset") != value and name != "max_runtime"
    }
    refused = [f"--{name}" for name in _FIXED if f"--{name}" in changes]
    records = state.get("records")
    if records is not None and records != fingerprint:
        changes["the training data"] = (f"fingerprint {records}", f"fingerprint {fingerprint}")
        refused.append("the training data")
    if refused and not force:
        name = refused[0]
        raise UsageError(
            f"{model_dir} holds a run at step {state.get('step')} with other settings: {name} was "
            f"{changes[name][0]} and is {changes[name][1]} here; it cannot go on exactly. Choose "
            "another --model_dir, or --fresh --overwrite, or --force_resume to go on all the same"
        )
    for name, (old, new) in changes.items():
        logging.info("this run goes on with another setting: %s was %s and is %s", name, old, new)
    kept = model_dir / f"{FLAGS_FILE}.{state.get('step', 0)}"
    if changes and not kept.exists():
        write_whole(kept, old_text)


def read_flags(flagfile: str) -> dict[str, str]:
    """Returns the values, as texts by name, of the flags of a flags.cfg's text."""
    return flagfiles.values(flagfiles.parse(flagfile, as_written=True))


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
