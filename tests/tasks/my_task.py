"""A task of one's own: does a text have more than three tokens? Used by test_task_mains.py."""

import dataclasses
import json

import keras
import numpy as np
import tensorflow as tf

from electra_keras.tasks.data.examples import TextExample
from electra_keras.tasks.data.files import read_lines
from electra_keras.tasks.packing import pack
from electra_keras.tasks.reading import input_path


class Head(keras.layers.Layer):
    """Logistic regression on [CLS]."""

    def __init__(self, encoder):
        super().__init__(name="task_head")
        self.output_dense = keras.layers.Dense(1, name="output_dense")
        self.output_dense.build((None, encoder.hidden_size))
        self.built = True

    def call(self, hidden, batch):
        return tf.cast(self.output_dense(hidden[:, 0])[:, 0], tf.float32)

    def loss(self, hidden, batch, noise):
        return tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(batch["is_long"], tf.float32), logits=self(hidden, batch)
        )


@dataclasses.dataclass(frozen=True)
class LongTexts:
    """Settings: the length alone."""

    max_seq_length: int = 16
    name = "long_texts"
    metrics = ("accuracy",)
    targets = ("is_long",)
    default_epochs = 1

    @classmethod
    def read(cls, options, split, task=None):
        path = options.train_file if split == "train" else options.dev_file
        return [TextExample(str(number), line) for number, line in read_lines(path)]

    @classmethod
    def of_data(cls, options, examples):
        return cls(options.max_seq_length or 16)

    @classmethod
    def from_json(cls, text, where):
        return cls(json.loads(text)["max_seq_length"])

    def to_json(self):
        return json.dumps({"max_seq_length": self.max_seq_length})

    def describe(self):
        return "long texts"

    def training_examples(self, options, examples):
        return examples

    def features(self, examples, tokenizer):
        tokens = tokenizer.tokenize([example.text_a for example in examples])
        vocabulary = tokenizer.vocabulary
        packed = pack(
            tokens, None, self.max_seq_length, "head", vocabulary.cls_id, vocabulary.sep_id
        )
        arrays = {name: np.array(value) for name, value in packed._asdict().items()}
        return arrays | {"is_long": (tokens.row_lengths().numpy() > 3).astype(np.int32)}

    def make_head(self, encoder):
        return Head(encoder)

    def evaluate(self, outputs, features, examples):
        return {"accuracy": float(np.mean((outputs > 0) == features["is_long"]))}

    def failed(self, outputs, features, examples):
        return len(set(outputs > 0)) == 1

    def predictions(self, outputs, features, examples):
        return [{"is_long": bool(output > 0)} for output in outputs]

    def read_inputs(self, options):
        return [TextExample(str(number), line) for number, line in read_lines(input_path(options))]
