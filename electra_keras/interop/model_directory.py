"""Our own model directories, read into plain arrays and written from them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from electra_keras.config import ElectraConfig
from electra_keras.console import UserError
from electra_keras.interop.weights import ModelWeights, check_finite, variable_shapes
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.interface import Task
from electra_keras.training import checkpoints
from electra_keras.training.arrays import read_arrays, write_arrays
from electra_keras.training.manifest import STATE_VERSION, seal
from electra_keras.training.optimizer import MOMENTS, moment_path
from electra_keras.training.run_directory import TASK_FILE


def read(model_dir: Path, which: str = "best") -> ModelWeights:
    """Reads a model directory, trained or converted.

    Args:
        model_dir: the run directory.
        which: "best", "latest" or a step, as in `checkpoints.find_checkpoint`.

    Raises:
        UserError: not a model directory, or a damaged one.
    """
    config = checkpoints.read_config(model_dir)
    vocabulary = checkpoints.read_vocabulary(model_dir, config)
    checkpoint = checkpoints.find_checkpoint(model_dir, which)
    weights = read_arrays(checkpoint, "weights")
    check(config, weights, str(checkpoint))
    moments = None
    if (checkpoint / "optimizer.index").exists():
        arrays = read_arrays(checkpoint, "optimizer")
        moments = tuple(
            {path: arrays.get(moment_path(path, moment)) for path in weights} for moment in MOMENTS
        )
        for path, array in weights.items():
            if any(m[path] is None or m[path].shape != array.shape for m in moments):
                raise UserError(f"{checkpoint}: the optimizer has no moments of {path}")
        for values, moment in zip(moments, MOMENTS, strict=True):
            check_finite(values, f"{checkpoint}: the optimizer's {moment}")
    step = checkpoints.read_state(checkpoint)["step"]
    return ModelWeights(config, vocabulary, weights, moments, step, source=str(checkpoint))


def check(config: ElectraConfig, weights: Mapping[str, np.ndarray], where: str) -> None:
    """Checks that arrays are those of a model; a head may be missing as a whole.

    Raises:
        UserError: one is missing, too many, of another shape, or holds NaN or infinity.
    """
    expected = variable_shapes(config)
    for path, array in weights.items():
        if expected.get(path) != array.shape:
            raise UserError(
                f"{where}: {path} has shape {list(array.shape)}, expected {expected.get(path)}"
            )
    check_finite(weights, where)
    lacking = config.missing_heads(weights)
    for path in expected:
        if path not in weights and path.split("/")[0] not in lacking:
            raise UserError(f"{where} has no {path}")


def write(model: ModelWeights, directory: Path) -> list[str]:
    """Writes a model directory with one checkpoint.

    With moments it can be resumed; without, it is something to start from (--init_from). A fine-tuned
    model is one to predict with, its checkpoint and files those of electra_keras.finetune.

    Returns:
        notes for the user.
    """
    check(model.config, model.weights, "the model")
    (directory / "config.json").write_text(model.config.to_json(), encoding="utf-8")
    model.vocabulary.save(str(directory / "vocab.txt"))
    checkpoint = directory / "checkpoints" / f"step-{model.step:08d}"
    checkpoint.mkdir(parents=True)
    arrays = dict(model.weights)
    if model.head is not None:
        arrays |= model.head.weights
        task = model.head.task
        (directory / TASK_FILE).write_text(task.to_json(), encoding="utf-8")
        (directory / "flags.cfg").write_text(_flagfile(task), encoding="utf-8")
    write_arrays(checkpoint, "weights", arrays)
    if model.moments is not None:
        arrays = {
            moment_path(path, moment): array
            for moment, values in zip(MOMENTS, model.moments, strict=True)
            for path, array in values.items()
        }
        # Nothing else of the optimizer: its loss scale is of our precision, and starts anew.
        arrays["electra_optimizer/iteration"] = np.int64(model.step)
        write_arrays(checkpoint, "optimizer", arrays)
    state = {"version": STATE_VERSION, "step": model.step, "best": None, "converted": True}
    (checkpoint / "state.json").write_text(json.dumps(state), encoding="utf-8")
    seal(checkpoint)
    return []


def _flagfile(task: Task) -> str:
    """Returns what electra_keras.evaluate must know to read data of a task."""
    flags = {"task": task.name}
    if isinstance(task, ClassificationTask) and task.kind != "single_label":
        flags[task.kind] = "true"
    return "".join(f"--{name}={value}\n" for name, value in flags.items())
