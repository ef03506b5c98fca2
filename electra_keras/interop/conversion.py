"""What a conversion does around the formats: its input's paths, the space, a whole directory."""

import os
import shutil
from pathlib import Path

from electra_keras.console import UserError, reason
from electra_keras.directories import whole_directory

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf
from safetensors import SafetensorError

from electra_keras.interop import google, huggingface, keras_hub, model_directory
from electra_keras.interop.weights import ModelWeights


def split_input(value: str) -> list[Path]:
    """Returns the paths of --input: one that is there as a whole, two with a comma between, or parts."""
    parts = value.split(",")
    pairs = [(",".join(parts[:i]), ",".join(parts[i:])) for i in range(1, len(parts))]
    there = [pair for pair in pairs if all(map(os.path.lexists, pair))]
    if len(parts) == 1 or os.path.lexists(value) or os.path.lexists(f"{value}.index"):
        return [Path(value)]
    return [Path(part) for part in (there[0] if there else parts)]


def write(model: ModelWeights, target: str, output: Path) -> list[str]:
    """Writes the directory `output`, whole or not at all; returns notes."""
    writers = {
        "electra_keras": model_directory.write,
        "google": google.write,
        "huggingface": huggingface.write,
        "keras_nlp": keras_hub.write,
    }
    temporary = output.with_name(f"{output.name}.incomplete-{os.getpid()}")
    try:
        with whole_directory(output, temporary):
            notes = writers[target](model, temporary)
    except (OSError, RuntimeError, tf.errors.OpError, SafetensorError) as error:
        raise UserError(f"cannot write {output}: {reason(error)}") from error
    return notes


def check_space(model: ModelWeights, target: str, output: Path) -> None:
    """Refuses what would not fit."""
    copies = 3 if target == "google" or (target == "electra_keras" and model.moments) else 1
    needed = copies * sum(array.nbytes for array in model.weights.values())
    parent = next(path for path in output.absolute().parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < needed:
        raise UserError(
            f"cannot write {output}: it takes {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB are free"
        )
