"""Checkpoints that appear whole or not at all, and the run directory around them.

MODEL_DIR/config.json, vocab.txt, flags.cfg, metrics.jsonl, logs/
MODEL_DIR/checkpoints/step-00001000/   weights and optimizer (tf.train.Checkpoint), state.json
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
import numpy as np
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig, matches
from electra_keras.console import UserError, reason
from electra_keras.files import write_whole
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.text.vocabulary import Vocabulary

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


def write_file(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    write_whole(path, text)


def _by_path(variables: Sequence[keras.Variable]) -> tf.train.Checkpoint:
    """Returns a checkpoint in which each variable is stored under its own path.

    Not of the model as an object: its metric variables are per replica, and reading them would need
    every worker; and the optimizer's tracks the weights a second time.
    """
    return tf.train.Checkpoint(variables={variable.path: variable.value for variable in variables})


def checkpoint_steps(model_dir: Path) -> dict[int, Path]:
    """Returns the complete checkpoints of a run by step, in ascending order."""
    found = {}
    directory = model_dir / "checkpoints"
    for path in directory.iterdir() if directory.is_dir() else ():
        match = _STEP.match(path.name)
        if match and (path / "state.json").exists():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


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

    def save(self, state: dict[str, Any]) -> Path:
        """Writes a checkpoint of step `state["step"]` and deletes those that are too many.

        Raises:
            UserError: it cannot be written; the earlier checkpoints are untouched.
        """
        final = self.directory / f"step-{state['step']:08d}"
        if final.exists():
            return final
        self._remove_leftovers()
        temporary = self.directory / f"{final.name}{_TEMPORARY}{os.getpid()}"
        try:
            temporary.mkdir(parents=True)
            for name, part in self.parts.items():
                part.write(str(temporary / name))
            (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
            os.replace(temporary, final)
        except (OSError, tf.errors.OpError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(
                f"cannot write checkpoint {final}: {reason(error)}; the earlier checkpoints "
                "are intact"
            ) from error
        for path in list(checkpoint_steps(self.model_dir).values())[: -self.keep]:
            shutil.rmtree(path)
        return final

    def save_best(self, checkpoint: Path) -> None:
        """Makes `checkpoints/best` a copy of a checkpoint."""
        best = self.directory / "best"
        temporary = self.directory / f"best{_TEMPORARY}{os.getpid()}"
        old = self.directory / f"best-old{_TEMPORARY}{os.getpid()}"
        try:
            # Hard links: no second copy while the other stands.
            shutil.copytree(checkpoint, temporary, copy_function=_link)
            if best.exists():
                os.replace(best, old)
            os.replace(temporary, best)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise UserError(f"cannot write {best}: {error.strerror or error}") from error

    def restore_latest(self) -> dict[str, Any] | None:
        """Restores the newest checkpoint; returns its state, or None where there is none.

        Raises:
            UserError: it cannot be read, or is of another model or optimizer.
        """
        steps = checkpoint_steps(self.model_dir)
        if not steps:
            return None
        path = next(reversed(steps.values()))
        if not (path / "optimizer.index").exists():
            raise UserError(
                f"{self.model_dir} holds converted weights and no optimizer to go on with: start from "
                f"it with --init_from={self.model_dir} and another --model_dir"
            )
        state, parts = read_state(path), dict(self.parts)
        if state.get("converted"):
            parts["optimizer"] = self._converted_optimizer
        for name, part in parts.items():
            _restore(part, path, name)
        best = self.directory / "best"
        best_step = (state["best"] or {}).get("step")
        if (
            self.chief
            and best_step in steps
            and not (best.is_dir() and read_state(best)["step"] == best_step)
        ):
            self.save_best(steps[best_step])  # the run was killed between the two
        return state

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
        checkpoint.read(str(path / name)).assert_consumed()
    except Exception as error:  # TensorFlow turns bad files into many types, IndexError among them
        raise UserError(
            f"checkpoint {path} cannot be read ({reason(error)}): if it is damaged, delete that "
            "directory and the run continues from the one before"
        ) from error


def read_state(path: Path) -> dict[str, Any]:
    """Returns the state that was saved with a checkpoint.

    Raises:
        UserError: it cannot be read.
    """
    try:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path / 'state.json'} cannot be read: {reason(error)}") from error
    if (
        not isinstance(state, dict)
        or not matches(state.get("step"), int)
        or not matches(state.get("best", ""), dict | None)
    ):
        raise UserError(f"{path / 'state.json'} is not the state of a run: step or best is missing")
    return state


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


def write_arrays(checkpoint: Path, part: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes one part of a checkpoint, "weights" or "optimizer", from arrays by variable path."""
    variables = {path: tf.Variable(array) for path, array in arrays.items()}
    tf.train.Checkpoint(variables=variables).write(str(checkpoint / part))


def list_arrays(checkpoint: Path, part: str) -> dict[str, str]:
    """Returns the key in its file of every array of one part of a checkpoint, by variable path.

    Raises:
        UserError: it cannot be read.
    """
    try:
        keys = [name for name, _ in tf.train.list_variables(str(checkpoint / part))]
    except Exception as error:  # as in _restore
        raise UserError(f"checkpoint {checkpoint} cannot be read ({reason(error)})") from error
    # TensorFlow writes "/" in a name as ".S".
    return {
        key.split("/")[1].replace(".S", "/"): key for key in keys if key.startswith("variables/")
    }


def read_arrays(checkpoint: Path, part: str) -> dict[str, np.ndarray]:
    """Returns all arrays of one part of a checkpoint by the path of their variable.

    Raises:
        UserError: it cannot be read.
    """
    keys = list_arrays(checkpoint, part)
    try:
        reader = tf.train.load_checkpoint(str(checkpoint / part))
        return {path: reader.get_tensor(key) for path, key in keys.items()}
    except Exception as error:  # as in _restore
        raise UserError(f"checkpoint {checkpoint} cannot be read ({reason(error)})") from error


def find_checkpoint(model_dir: Path, which: str = "best") -> Path:
    """Returns the checkpoint "best", "latest" or of a step; "best" falls back on the latest.

    Raises:
        UserError: there is no such checkpoint.
    """
    steps = checkpoint_steps(model_dir)
    best = model_dir / "checkpoints" / "best"
    if which == "best" and best.is_dir():
        return best
    if which in ("best", "latest"):
        if not steps:
            raise UserError(f"{model_dir} has no checkpoints")
        return next(reversed(steps.values()))
    if not which.isdigit() or int(which) not in steps:
        raise UserError(
            f"{model_dir} has no checkpoint {which!r}: it has {', '.join(map(str, steps)) or 'none'}"
        )
    return steps[int(which)]


def assign_arrays(
    variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], checkpoint: Path
) -> None:
    """Fills variables, by their paths, from a checkpoint's weights; what else it holds is left.

    Args:
        variables: to fill.
        arrays: the weights by path.
        checkpoint: where they were read, for errors.

    Raises:
        UserError: one is missing, or has another shape.
    """
    for variable in variables:
        array = arrays.get(variable.path)
        if array is None:
            raise UserError(f"{checkpoint} holds no {variable.path}")
        if array.shape != tuple(variable.shape):
            raise UserError(
                f"{checkpoint}: {variable.path} has shape {list(array.shape)}, expected "
                f"{list(variable.shape)}"
            )
        variable.assign(array)


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
