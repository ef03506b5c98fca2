"""Small fine-tuned models, ours and Hugging Face's, with random weights."""

import dataclasses
import json

import numpy as np
from safetensors.numpy import load_file, save_file

from electra_keras.interop import huggingface
from electra_keras.tasks.adaptation import Adaptation
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.training.arrays import write_arrays
from tests.interop.models import ENCODER, VOCABULARY, random_model

TAGS = ("B-LOC", "O", "I-LOC", "B-ört", "I-ört")


def classification(kind, labels=("no", "yes", "maybe")):
    labels = () if kind == "regression" else labels
    return ClassificationTask(
        "classification", kind, labels, (-1.7, 3.1), False, 16, "head_tail", ("accuracy",)
    )


TASKS = {
    "tagging": TaggingTask("tagging", TAGS, "BIO", 16, 5),
    "answers": QuestionAnsweringTask("question_answering", True, "plain", 16, 4, 5, 6, 7, 0.3),
    "single_label": classification("single_label"),
    "multi_label": classification("multi_label"),
    "regression": classification("regression"),
}
ELECTRA_ANSWERS = dataclasses.replace(TASKS["answers"], answer_head="electra")


def small_weights(seed=3):
    """A discriminator's encoder whose outputs differ from token to token."""
    model = random_model(generator=False)
    rng = np.random.default_rng(seed)
    model.weights = {
        path: (rng.normal(path.endswith("gamma"), 0.2, array.shape)).astype(np.float32)
        for path, array in model.weights.items()
        if not path.startswith("discriminator_head/")
    }
    return model


def write_ours(directory, task, adaptation=None, text=None):
    """Writes what electra_keras.finetune would; returns the checkpoint's arrays by path.

    Args:
        task: the task.
        adaptation: of LoRA, or None.
        text: in place of the task's own task.json.
    """
    config = dataclasses.replace(small_weights().config, embedding_sharing="all")
    model = FineTuner(
        config, task.make_head, task.max_seq_length, adaptation=adaptation or Adaptation()
    )
    rng, weights = np.random.default_rng(4), small_weights().weights
    arrays = {
        v.path: weights.get(v.path, rng.normal(0, 0.3, v.shape).astype(np.float32))
        for v in model.weights
    }
    checkpoint = directory / "checkpoints" / "step-00000003"
    checkpoint.mkdir(parents=True)
    write_arrays(checkpoint, "weights", arrays)
    (checkpoint / "state.json").write_text(json.dumps({"step": 3, "best": None, "converted": True}))
    (directory / "config.json").write_text(config.to_json())
    (directory / "task.json").write_text(text or task.to_json())
    if adaptation is not None:
        (directory / "adaptation.json").write_text(adaptation.to_json())
    VOCABULARY.save(str(directory / "vocab.txt"))
    return arrays


def write_theirs(directory, architecture, head, **settings):
    """Writes a Hugging Face directory by hand: our encoder's tensors, and a head's beside them."""
    directory.mkdir()
    made = directory.parent / f"{directory.name}-encoder"
    made.mkdir()
    huggingface.write(small_weights(), made)
    made /= "discriminator"
    tensors = {f"electra.{n}": a for n, a in load_file(made / "model.safetensors").items()}
    save_file(tensors | head, directory / "model.safetensors")
    config = json.loads((made / "config.json").read_text())
    del config["electra_keras_network"]
    config |= {"architectures": [architecture], **settings}
    (directory / "config.json").write_text(json.dumps(config))
    for name in ("vocab.txt", "tokenizer_config.json"):
        (directory / name).write_bytes((made / name).read_bytes())
    return directory


def linear(name, outputs, seed=5):
    """The tensors of a linear layer."""
    rng = np.random.default_rng(seed)
    return {
        f"{name}.weight": rng.normal(0, 0.5, (outputs, ENCODER.hidden_size)).astype(np.float32),
        f"{name}.bias": rng.normal(0, 0.5, outputs).astype(np.float32),
    }


def id2label(labels):
    return {str(i): label for i, label in enumerate(labels)}


def inputs():
    """Ids, mask and segments [3, 14]: rows of different length, with two segments."""
    rng = np.random.default_rng(6)
    mask = (np.arange(14) < np.array([[14], [6], [11]])).astype(np.int32)
    ids = rng.integers(5, 40, mask.shape).astype(np.int32) * mask
    ids[:, 0] = 2
    segments = (np.arange(14) >= 4).astype(np.int32) * mask
    return ids, mask, segments
