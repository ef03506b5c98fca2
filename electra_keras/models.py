"""Models from model directories, for Python and notebooks: one call, and the weights are in.

    from electra_keras import models

    encoder = models.load_encoder("runs/small")
    hidden = encoder(input_ids, input_mask)  # [batch, length, hidden_size]

Whoever imports this module has registered all layers, so that `keras.models.load_model` finds them.
A model directory is what the commands write, `convert` among them.
"""

import os
from pathlib import Path
from typing import Any

from electra_keras.console import UserError
from electra_keras.interop.weights import ModelWeights
from electra_keras.modeling.encoder import Encoder
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.tasks import running
from electra_keras.tasks.adaptation import load_merged
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.interface import Task
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.training import checkpoints
from electra_keras.training.arrays import assign_arrays, read_arrays
from electra_keras.training.optimizer import ElectraOptimizer
from electra_keras.training.schedules import WarmupPolynomialDecay

__all__ = [
    "ElectraOptimizer",
    "ElectraPretrainer",
    "Encoder",
    "FineTuner",
    "WarmupPolynomialDecay",
    "load_encoder",
    "load_finetuned",
    "load_pretrainer",
    "load_tokenizer",
]


def load_pretrainer(
    model_dir: str | os.PathLike, checkpoint: str = "best", **options: Any
) -> ElectraPretrainer:
    """Returns generator and discriminator with their weights; compile it to train on.

    Args:
        model_dir: of a pre-trained or converted model that holds both networks.
        checkpoint: "best", "latest" or a step; without a best one, it is the latest.
        options: of `ElectraPretrainer`, besides the configuration.

    Raises:
        UserError: not such a directory, or a damaged one.
    """
    model_dir = Path(model_dir)
    config = checkpoints.read_config(model_dir)
    config.require_both(str(model_dir))
    model = ElectraPretrainer(config, **options)
    checkpoints.load_weights(model, model_dir, checkpoint)
    return model


def load_encoder(
    model_dir: str | os.PathLike,
    network: str = "discriminator",
    checkpoint: str = "best",
    **options: Any,
) -> Encoder:
    """Returns one network's encoder with its weights, a built layer.

    Args:
        model_dir: of a pre-trained, converted or fine-tuned model; LoRA's updates are merged.
        network: "discriminator", or "generator".
        checkpoint: "best", "latest" or a step; without a best one, it is the latest.
        options: of `Encoder`, besides its sizes, embeddings and name; `dtype` for one.

    Raises:
        UserError: not such a directory, a damaged one, or one without this network.
    """
    model_dir = Path(model_dir)
    config = checkpoints.read_config(model_dir)
    if network not in config.encoders:
        raise UserError(f"{model_dir} holds no {network!r}, only {', '.join(config.encoders)}")
    path = checkpoints.find_checkpoint(model_dir, checkpoint)
    encoder = Encoder(config.encoders[network], name=network, **options)
    encoder.build()
    if network == "discriminator":
        load_merged(encoder.weights, model_dir, path)
        return encoder
    vocabulary = checkpoints.read_vocabulary(model_dir, config)
    model = ModelWeights(config, vocabulary, read_arrays(path, "weights"))
    # What it shares with the discriminator is stored with that.
    arrays = {f"{network}/{name}": array for name, array in model.network(network).items()}
    assign_arrays(encoder.weights, arrays, path)
    return encoder


def load_finetuned(
    model_dir: str | os.PathLike, checkpoint: str = "best", task: str | None = None
) -> tuple[FineTuner, Task, Tokenizer]:
    """Returns a fine-tuned model with its weights, its task and its tokenizer.

    `task.features(examples, tokenizer)` makes what the model reads of examples.

    Args:
        model_dir: a run directory of electra_keras.finetune; LoRA's updates are merged.
        checkpoint: "best", "latest" or a step; without a best one, it is the latest.
        task: "module:Class" of a task of one's own.

    Raises:
        UserError: not such a directory, a damaged one, or one of another task.
    """
    return running.load_finetuned(Path(model_dir), checkpoint, task)


def load_tokenizer(model_dir: str | os.PathLike) -> Tokenizer:
    """Returns the tokenizer of a model directory.

    Raises:
        UserError: not such a directory, or one whose vocabulary is another model's.
    """
    model_dir = Path(model_dir)
    config = checkpoints.read_config(model_dir)
    return running.make_tokenizer(config, checkpoints.read_vocabulary(model_dir, config))
