"""Checkpoints that appear whole or not at all, and the run directory around them.

MODEL_DIR/config.json, vocab.txt, flags.cfg, metrics.jsonl, logs/
MODEL_DIR/checkpoints/step-00001000/   weights and optimizer (tf.train.Checkpoint), state.json,
                                       manifest.json
MODEL_DIR/checkpoints/best/            the same, of the best validation metric
"""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.console import UserError, reason
from electra_keras.files import sync_directory
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.tensor_bundle import glob_safe
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training.arrays import by_path, list_arrays
from electra_keras.training.manifest import MANIFEST, STATE_VERSION, damage, read_state, seal

_STEP = re.compile(r"step-(\d{8,})$")
_TEMPORARY = ".incomplete-"
_CONVERT_FIRST = "a released ELECTRA is converted first: python -m electra_keras.convert --from=..."
# Encoder fields that may differ between a model and the weights it starts from.
_NOT_IN_THE_WEIGHTS = (
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "initializer_range",
    "position_initializer",
)


def _by_path(variables: Sequence[keras.Variable]) -> tf.train.Checkpoint:
    """Returns a checkpoint in which each variable is stored under its own path.

    Not of the model as an object: its metric variables are per replica, and reading them would need
    every worker; and the optimizer's tracks the weights a second time.

    Raises:
        UserError: two have one path.
    """
    stored = {path: variable.value for path, variable in by_path(variables).items()}
    return tf.train.Checkpoint(variables=stored)


def checkpoint_steps(model_dir: Path) -> dict[int, Path]:
    """Returns the checkpoints of a run by step, in ascending order; a damaged one may be among them."""
    found = {}
    directory = model_dir / "checkpoints"
    for path in directory.iterdir() if directory.is_dir() else ():
        match = _STEP.match(path.name)
        if match and path.is_dir():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def give_back_replaced(model_dir: Path) -> None:
    """Gives checkpoints their names back that a run was replacing when it was killed."""
    for path in (model_dir / "checkpoints").glob(f"*-old{_TEMPORARY}*"):
        final = path.with_name(path.name.split(f"-old{_TEMPORARY}")[0])
        if not final.exists():
            os.replace(path, final)


def newest_whole(model_dir: Path) -> Path | None:
    """Returns the newest checkpoint that is whole, or None; newer ones are named in a warning."""
    passed_over = {}
    for path in reversed(checkpoint_steps(model_dir).values()):
        fault = damage(path)
        if fault is None:
            warn_of_damaged(passed_over, path)
            return path
        passed_over[path] = fault
    return None


def warn_of_damaged(passed_over: Mapping[Path, str], used: Path) -> None:
    """Logs which damaged checkpoints are not used, with what is wrong with each."""
    if passed_over:
        faults = "; ".join(f"{path} is damaged ({fault})" for path, fault in passed_over.items())
        logging.warning("%s: %s is used in place of it", faults, used.name)


class CheckpointStore:
    """Writes, keeps and restores the checkpoints of one run.

    Args:
        model_dir: the run directory.
        model, optimizer: what is saved; built.
        keep: how many checkpoints stay, besides the best one.
        chief: whether this process writes; others only read.
    """

    def __init__(
        self,
        model_dir: Path,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        keep: int,
        chief: bool = True,
    ) -> None:
        self.directory = model_dir / "checkpoints"
        self.model_dir, self.keep, self.chief = model_dir, keep, chief
        self.parts = {
            "weights": _by_path(model.weights),
            "optimizer": _by_path(optimizer.variables),
        }
        # A converted checkpoint knows of the optimizer what the original does.
        own = ("gradient_norm", "loss_scale", "good_steps")
        theirs = [v for v in optimizer.variables if not v.path.endswith(own)]
        self._converted_optimizer = _by_path(theirs)
        self.damaged: set[int] = set()  # steps of checkpoints that were passed over
        self._best_to_write: Path | None = None

    def save(self, state: dict[str, Any], replace: bool = False) -> Path:
        """Writes a checkpoint of step `state["step"]` and deletes those that are too many.

        One of that step that is damaged is replaced, with `replace` a whole one too. What was written is
        on the disk when this returns.

        Raises:
            UserError: it cannot be written; the earlier checkpoints are untouched.
        """
        final = self.directory / f"step-{state['step']:08d}"
        if not replace and final.exists() and damage(final) is None:
            return final
        self._remove_leftovers()
        temporary = self.directory / f"{final.name}{_TEMPORARY}{os.getpid()}"
        old = self.directory / f"{final.name}-old{_TEMPORARY}{os.getpid()}"
        try:
            temporary.mkdir(parents=True)
            for name, part in self.parts.items():
                part.write(str(temporary / name))
            text = json.dumps({"version": STATE_VERSION, **state})
            (temporary / "state.json").write_text(text, encoding="utf-8")
            seal(temporary)
            if final.exists():
                os.replace(final, old)
            os.replace(temporary, final)
            sync_directory(self.directory)
        except (OSError, tf.errors.OpError) as error:
            give_back_replaced(self.model_dir)
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"cannot write checkpoint {final}: {reason(error)}; the earlier checkpoints "
                "are intact"
            ) from error
        shutil.rmtree(old, ignore_errors=True)
        self._delete_surplus(state["step"])
        return final

    def _delete_surplus(self, step: int) -> None:
        """Deletes what is too much once this step's stands: the oldest, and damaged ones before it."""
        steps = checkpoint_steps(self.model_dir)
        self.damaged -= {step}
        whole = [number for number in steps if number not in self.damaged]
        for number in [*whole[: -self.keep], *(n for n in self.damaged if n < step)]:
            shutil.rmtree(steps[number], ignore_errors=True)
        self.damaged = {number for number in self.damaged if number > step}

    def save_best(self, checkpoint: Path) -> None:
        """Makes `checkpoints/best` a copy of a checkpoint.

        Raises:
            UserError: that one is damaged, or the copy cannot be written; `best` stays as it was.
        """
        best = self.directory / "best"
        temporary = self.directory / f"best{_TEMPORARY}{os.getpid()}"
        old = self.directory / f"best-old{_TEMPORARY}{os.getpid()}"
        try:
            # Hard links: no second copy while the other stands.
            shutil.copytree(checkpoint, temporary, copy_function=_link)
            fault = damage(temporary)
            if fault is not None:
                raise OSError(f"{checkpoint} is damaged: {fault}")
            sync_directory(temporary)
            if best.exists():
                os.replace(best, old)
            os.replace(temporary, best)
            sync_directory(self.directory)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            give_back_replaced(self.model_dir)
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(f"cannot write {best}: {error.strerror or error}") from error

    def restore_latest(self) -> dict[str, Any] | None:
        """Restores the newest whole checkpoint; returns its state, or None where there is none.

        Newer ones that are damaged are named in a warning, and written anew when the run is there. Only
        reads: all workers call it, and then the chief `repair_best`.

        Raises:
            UserError: none can be read, or the newest is of another model or optimizer.
        """
        steps = checkpoint_steps(self.model_dir)
        passed_over: dict[Path, str] = {}
        for step, path in reversed(steps.items()):
            fault = damage(path)
            if fault is None:
                state = read_state(path)
                self._check_optimizer(path, state)
                try:
                    self._restore(path, state)
                except UserError as error:
                    if (path / MANIFEST).exists():
                        raise  # it is whole, so it is of another model
                    fault = str(error)
                else:
                    warn_of_damaged(passed_over, path)
                    self._check_best(state, steps)
                    return state
            passed_over[path] = fault
            self.damaged.add(step)
        if not steps:
            return None
        newest, fault = next(iter(passed_over.items()))
        raise UserError(
            f"no checkpoint of {self.model_dir} can be used; {newest.name}: {fault}. Start anew with "
            "--fresh --overwrite, or in another --model_dir"
        )

    def _check_optimizer(self, path: Path, state: Mapping[str, Any]) -> None:
        if state.get("converted") and not (path / "optimizer.index").exists():
            raise UserError(
                f"{self.model_dir} holds converted weights and no optimizer to go on with: start from "
                f"it with --init_from={self.model_dir} and another --model_dir"
            )

    def _restore(self, path: Path, state: Mapping[str, Any]) -> None:
        parts = dict(self.parts)
        if state.get("converted"):
            parts["optimizer"] = self._converted_optimizer
        for name, part in parts.items():
            _restore(part, path, name)

    def _check_best(self, state: dict[str, Any], steps: Mapping[int, Path]) -> None:
        """Looks whether `checkpoints/best` is what a state says; where it is lost, forgets it."""
        if state["best"] is None:
            return
        best, step = self.directory / "best", state["best"]["step"]
        fault = damage(best) if best.is_dir() else "it is missing"
        if fault is None and read_state(best)["step"] != step:
            fault = "it is of another step"  # the run was killed between the two
        if fault is None:
            return
        if step in steps and damage(steps[step]) is None:
            self._best_to_write = steps[step]
            return
        logging.warning(
            "%s, of step %d, cannot be used (%s): the next evaluation makes a new one",
            best,
            step,
            fault,
        )
        state["best"] = None

    def repair_best(self) -> None:
        """Writes `checkpoints/best` again where `restore_latest` found that it must be."""
        if self.chief and self._best_to_write is not None:
            self.save_best(self._best_to_write)
        self._best_to_write = None

    def _remove_leftovers(self) -> None:
        """Deletes what a killed run left half-written."""
        if self.directory.is_dir():
            for path in self.directory.glob(f"*{_TEMPORARY}*"):
                shutil.rmtree(path, ignore_errors=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def _restore(checkpoint: tf.train.Checkpoint, path: Path, name: str) -> None:
    try:
        with glob_safe(path / name) as prefix:
            checkpoint.read(prefix).assert_consumed()
    except Exception as error:  # TensorFlow turns bad files into many types, IndexError among them
        raise UserError(f"checkpoint {path} cannot be read: {reason(error)}") from error


def read_config(model_dir: Path) -> ElectraConfig:
    """Returns the configuration of a model directory.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    path = model_dir / "config.json"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{model_dir} is not a model directory: cannot read {path}; {_CONVERT_FIRST}"
        ) from error
    if '"model_type"' in text or '"registered_name"' in text:  # of Hugging Face, of keras-nlp
        raise UserError(f"{model_dir} is not a model directory of ours; {_CONVERT_FIRST}")
    return ElectraConfig.from_json(text, str(path))


def read_vocabulary(model_dir: Path, config: ElectraConfig) -> Vocabulary:
    """Returns the vocabulary of a model directory, whose configuration is given.

    Raises:
        UserError: it cannot be read, or is not as large as the model's token table.
    """
    path = model_dir / "vocab.txt"
    vocabulary = Vocabulary.load(str(path))
    rows = next(iter(config.encoders.values())).vocab_size
    if len(vocabulary) != rows:
        raise UserError(f"{path} has {len(vocabulary)} tokens, but the model has {rows}")
    return vocabulary


def find_checkpoint(model_dir: Path, which: str = "best") -> Path:
    """Returns the checkpoint "best", "latest" or of a step; "best" falls back on the latest.

    Of damaged ones the latest is passed over, with a warning, for the newest that is whole.

    Raises:
        UserError: there is no such checkpoint, or it is damaged.
    """
    steps = checkpoint_steps(model_dir)
    best = model_dir / "checkpoints" / "best"
    if which == "latest" or (which == "best" and not best.is_dir()):
        if not steps:
            raise UserError(f"{model_dir} has no checkpoints")
        newest = newest_whole(model_dir)
        if newest is None:
            raise UserError(
                f"{model_dir} has no checkpoint that is whole: {damage(steps[max(steps)])}"
            )
        return newest
    if which != "best" and (not which.isdigit() or int(which) not in steps):
        raise UserError(
            f"{model_dir} has no checkpoint {which!r}: it has {', '.join(map(str, steps)) or 'none'}"
        )
    path = best if which == "best" else steps[int(which)]
    fault = damage(path)
    if fault is not None:
        raise UserError(f"{path} is damaged ({fault}): choose another --checkpoint, latest for one")
    return path


def load_weights(
    model: ElectraPretrainer, model_dir: Path, which: str = "best", fresh_heads: bool = False
) -> Path:
    """Fills a model with a checkpoint's weights, without optimizer; returns the checkpoint's path.

    Args:
        model: to fill.
        model_dir: whose checkpoint.
        which: as in `find_checkpoint`.
        fresh_heads: leave a head that the checkpoint does not hold as it is, with a warning.

    Raises:
        UserError: no such checkpoint, one of another configuration, or one without a head.
    """
    theirs, ours = read_config(model_dir), model.config
    theirs.require_both(str(model_dir))
    if theirs.embedding_sharing != ours.embedding_sharing:
        raise UserError(
            f"{model_dir} has another model: embedding_sharing is {theirs.embedding_sharing}, here "
            f"{ours.embedding_sharing}"
        )
    for network in ("discriminator", "generator"):
        for name, value in dataclasses.asdict(getattr(theirs, network)).items():
            wanted = getattr(getattr(ours, network), name)
            if value != wanted and name not in _NOT_IN_THE_WEIGHTS:
                raise UserError(
                    f"{model_dir} has another model: {name} of the {network} is {value}, here {wanted}"
                )
    path = find_checkpoint(model_dir, which)
    variables = model.trainable_variables
    for head in theirs.missing_heads(list_arrays(path, "weights")):
        if not fresh_heads:
            raise UserError(f"{model_dir} holds no {head.replace('_', ' ')}")
        logging.warning("%s holds no %s: it starts fresh", model_dir, head.replace("_", " "))
        variables = [v for v in variables if not v.path.startswith(f"{head}/")]
    _restore(_by_path(variables), path, "weights")
    return path
