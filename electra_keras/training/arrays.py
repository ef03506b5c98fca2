"""The arrays of a checkpoint by the path of their variable, without a model."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from electra_keras.console import UserError, reason
from electra_keras.tensor_bundle import glob_safe


def by_path(variables: Sequence[keras.Variable]) -> dict[str, keras.Variable]:
    """Returns variables by their paths, under which they are stored.

    Raises:
        UserError: two have one path, so that one of them would be lost.
    """
    found = {}
    for variable in variables:
        if found.setdefault(variable.path, variable) is not variable:
            raise UserError(
                f"two variables have the path {variable.path!r}, and only one could be saved: name the "
                "layers of the model, and the weights of each, so that all paths differ"
            )
    return found


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
        with glob_safe(checkpoint / part) as prefix:
            keys = [name for name, _ in tf.train.list_variables(prefix)]
    except Exception as error:  # TensorFlow turns bad files into many types
        raise UserError(f"checkpoint {checkpoint} cannot be read ({reason(error)})") from error
    # TensorFlow writes "/" in a name as ".S", and "." as "..".
    return {
        re.sub(r"\.(.)", lambda escaped: "/" if escaped[1] == "S" else ".", key.split("/")[1]): key
        for key in keys
        if key.startswith("variables/")
    }


def read_arrays(checkpoint: Path, part: str) -> dict[str, np.ndarray]:
    """Returns all arrays of one part of a checkpoint by the path of their variable.

    Raises:
        UserError: it cannot be read.
    """
    keys = list_arrays(checkpoint, part)
    try:
        with glob_safe(checkpoint / part) as prefix:
            reader = tf.train.load_checkpoint(prefix)
            return {path: reader.get_tensor(key) for path, key in keys.items()}
    except Exception as error:  # TensorFlow turns bad files into many types
        raise UserError(f"checkpoint {checkpoint} cannot be read ({reason(error)})") from error


def assign_arrays(
    variables: Sequence[keras.Variable], arrays: Mapping[str, np.ndarray], checkpoint: Path
) -> None:
    """Fills variables, by their paths, from a checkpoint's weights; what else it holds is left.

    Args:
        variables: to fill.
        arrays: the weights by path.
        checkpoint: where they were read, for errors.

    Raises:
        UserError: one is missing, or has another shape, or two have one path.
    """
    for variable in by_path(variables).values():
        array = arrays.get(variable.path)
        if array is None:
            raise UserError(f"{checkpoint} holds no {variable.path}")
        if array.shape != tuple(variable.shape):
            raise UserError(
                f"{checkpoint}: {variable.path} has shape {list(array.shape)}, expected "
                f"{list(variable.shape)}"
            )
        variable.assign(array)
