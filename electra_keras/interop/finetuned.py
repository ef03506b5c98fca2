"""Run directories of electra_keras.finetune, read into plain arrays."""

import dataclasses
from pathlib import Path

from electra_keras.console import UserError
from electra_keras.interop.weights import ModelWeights, TaskHead, check_finite
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.lora import is_lora
from electra_keras.tasks.adaptation import load_merged
from electra_keras.tasks.interface import Task
from electra_keras.tasks.registry import family_of_settings
from electra_keras.training import checkpoints, run_directory
from electra_keras.training.arrays import by_path, list_arrays


def is_finetuned(model_dir: Path) -> bool:
    """Whether a model directory is one of fine-tuning."""
    return run_directory.read_task(model_dir) is not None


def read(model_dir: Path, which: str = "best", encoder_only: bool = False) -> ModelWeights:
    """Reads a fine-tuned model; LoRA's updates are merged.

    The encoder of a task of one's own can be read too, its head cannot.

    Args:
        model_dir: one of which `is_finetuned` is true.
        which: "best", "latest" or a step, as in `checkpoints.find_checkpoint`.
        encoder_only: leave the task's head behind.

    Raises:
        UserError: a damaged directory, or a head of a task that is not of this library.
    """
    config = checkpoints.read_config(model_dir)
    if config.discriminator is None:
        raise UserError(f"{model_dir / 'config.json'} has no discriminator, which is what is tuned")
    config = dataclasses.replace(config, generator=None, embedding_sharing="none")
    checkpoint = checkpoints.find_checkpoint(model_dir, which)
    encoder = Encoder(config.discriminator, name="discriminator")
    encoder.build()
    variables, task = list(encoder.weights), None
    if not encoder_only:
        task = _read_task(model_dir)
        variables += task.make_head(config.discriminator).weights
    load_merged(variables, model_dir, checkpoint)
    arrays = {path: variable.numpy() for path, variable in by_path(variables).items()}
    check_finite(arrays, str(checkpoint))
    stored = list_arrays(checkpoint, "weights")
    left = sorted(path for path in stored if path not in arrays and not is_lora(path))
    notes = [f"left behind: {', '.join(left)}"] if left else []
    if any(map(is_lora, stored)):
        notes.append("low-rank updates (LoRA) are merged into the encoder's matrices")
    own = {path: array for path, array in arrays.items() if path.startswith("discriminator/")}
    return ModelWeights(
        config,
        checkpoints.read_vocabulary(model_dir, config),
        own,
        step=checkpoints.read_state(checkpoint)["step"],
        notes=notes,
        source=str(checkpoint),
        head=task and TaskHead(task, {p: array for p, array in arrays.items() if p not in own}),
    )


def _read_task(model_dir: Path) -> Task:
    text, where = run_directory.read_task(model_dir), str(model_dir / run_directory.TASK_FILE)
    try:
        return family_of_settings(text, where).from_json(text, where)
    except UserError as error:
        raise UserError(
            f"{where} is damaged, or of a task of your own, whose head convert does not know; "
            f"--encoder_only leaves it behind and converts the encoder ({error})"
        ) from error
