"""Small fine-tuned models with random weights, of every kind of task, and requests to their exports."""

import json

import numpy as np

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training.arrays import write_arrays
from tests.interop.models import GOOGLE
from tests.serving.texts import BUCKETS, TEXTS

LENGTH = BUCKETS[-1]
VOCABULARY = Vocabulary.load(str(GOOGLE / "vocab.txt"))
ENCODER = EncoderConfig(len(VOCABULARY), 32, 64, 2, 2, 96, max_position_embeddings=40)
CONFIG = ElectraConfig(ENCODER, None, max_seq_length=LENGTH, lower_case=True, strip_accents=True)
ANIMALS = ("cat", "dog", "élan", "牛")


def classification(kind, pairs, truncation):
    labels = () if kind == "regression" else ANIMALS
    return ClassificationTask(
        "classification", kind, labels, (-2.0, 3.0), pairs, LENGTH, truncation, ("accuracy",)
    )


TASKS = {
    "classify": classification("single_label", False, "head"),
    "classify_pair": classification("single_label", True, "head_tail"),
    "multi_label": classification("multi_label", False, "tail"),
    "regress": classification("regression", True, "head"),
    "answer": QuestionAnsweringTask(
        "question_answering", True, "electra", LENGTH, 8, 6, 7, 20, -7.0
    ),
    "answer_plain": QuestionAnsweringTask(
        "question_answering", False, "plain", LENGTH, 8, 6, 7, 4, 0.0
    ),
    # Trained on data in another scheme than the labels', which answers are given in.
    "tag": TaggingTask("tagging", ("O", "B-PER", "I-PER", "B-ört"), "BIO", LENGTH, 16, "BIOES"),
}
# What a reader of UTF-8 files would have in place of TEXTS.
READABLE = [t if isinstance(t, str) else t.decode("utf-8", "replace") for t in TEXTS]

# One for each of TEXTS; the last one is cut.
QUESTIONS = [
    "the one?",
    "",
    "¿Où 中?",
    "is\x00 it",
    "where",
    "one two three four five six seven",
]


def write(task, directory):
    """Writes what electra_keras.finetune would: a run directory with one checkpoint."""
    model = FineTuner(CONFIG, task.make_head, task.max_seq_length)
    rng = np.random.default_rng(1)
    # Vectors of large weights and small biases differ from token to token; the larger, the more does
    # rounding: these are as large as it takes for answers to differ.
    large = {TASKS["regress"]: 0.2, TASKS["tag"]: 0.25}.get(task, 0.3)
    arrays = {
        v.path: rng.normal(v.path.endswith("gamma"), large if len(v.shape) > 1 else 0.02, v.shape)
        for v in model.weights
    }
    arrays = {path: array.astype(np.float32) for path, array in arrays.items()}
    checkpoint = directory / "checkpoints" / "step-00000003"
    checkpoint.mkdir(parents=True)
    write_arrays(checkpoint, "weights", arrays)
    (checkpoint / "state.json").write_text(json.dumps({"step": 3, "best": None, "converted": True}))
    (directory / "config.json").write_text(CONFIG.to_json())
    (directory / "task.json").write_text(task.to_json())
    VOCABULARY.save(str(directory / "vocab.txt"))


def default_of(name):
    """The signature that an export answers by default."""
    return {"classify_pair": "classify", "multi_label": "classify", "answer_plain": "answer"}.get(
        name, name
    )


def requests(name):
    """A request for each signature of a task's export."""
    texts = [text.encode() if isinstance(text, str) else text for text in TEXTS]
    ids = {
        "input_ids": [[2, 10, 4, 300, 3, 0], [2, 4, 3, 4, 3, 0]],
        "input_mask": [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 0]],
        "segment_ids": [[0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0]],
    }
    signature = default_of(name)
    if signature == "answer":
        text = {"question": QUESTIONS, "context": texts}
    elif getattr(TASKS[name], "pairs", False):
        text = {"text": texts, "text_pair": texts[::-1]}
    else:
        text = {"text": texts}
    return {"serving_default": text, signature: text, f"{signature}_ids": ids}
