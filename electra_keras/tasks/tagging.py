"""Tagging: a label for every word, such as named entities and chunks."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from electra_keras.config import EncoderConfig, matches
from electra_keras.console import UsageError, UserError
from electra_keras.modeling.layers import DropoutNoise, dropout
from electra_keras.tasks import words
from electra_keras.tasks.data.columns import EXTENSIONS, read_columns, tag_labels
from electra_keras.tasks.data.examples import TaggedSentence, TextExample
from electra_keras.tasks.features import Features
from electra_keras.tasks.interface import settings_from_json, settings_to_json
from electra_keras.tasks.metrics.tagging import chunks, convert_tags, evaluate_tags
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.tasks.reading import read_split, read_texts_to_tag
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.training.checkpoints import write_file

FAMILY = "tagging"
# Sentences that are tokenized at a time.
_CHUNK = 1000
_SCHEMES = ("BIO", "BIOES")


@dataclasses.dataclass(frozen=True)
class TaggingTask:
    """What a tagger is, beyond its encoder; task.json of a model directory.

    Attributes:
        name: "tagging".
        labels: the tags in the order of their ids, "O" first.
        scheme: "BIO" or "BIOES", of the labels.
        max_seq_length: tokens per window, special ones included.
        stride: tokens from a window of a long sentence to the next.
    """

    name: str
    labels: tuple[str, ...]
    scheme: str
    max_seq_length: int
    stride: int

    targets: ClassVar = ("labels",)
    metrics: ClassVar = ("f1", "precision", "recall", "accuracy")
    default_epochs: ClassVar = 3

    @classmethod
    def read(
        cls, options: TaskOptions, split: str, task: Self | None = None
    ) -> list[TaggedSentence]:
        """Reads a CoNLL file; with a task, only its types of tags are allowed."""
        labels = task.labels if task else None

        def read(path: str) -> list[TaggedSentence]:
            return read_columns(path, options.word_column, options.tag_column, labels)

        return read_split(options, split, EXTENSIONS, read, lambda sentence: sentence.id)

    @classmethod
    def of_data(
        cls,
        options: TaskOptions,
        examples: Sequence[TaggedSentence],
        held_out: Sequence[TaggedSentence] = (),
    ) -> Self:
        """Returns the task that training sentences make: their tags are found in them, and in those
        that are held out of their file.

        Raises:
            UsageError: they have no other tag than O.
        """
        labels = tag_labels([*examples, *held_out])
        if len(labels) < 2:
            raise UsageError("the training sentences have no tag but O; see --tag_column")
        if options.tag_scheme == "BIOES":
            kinds = [label[1:] for label in labels if label.startswith("B")]
            labels = ["O", *(prefix + kind for kind in kinds for prefix in "BIES")]
        length = options.max_seq_length or 128
        stride = options.stride or length // 2
        return cls(FAMILY, tuple(labels), options.tag_scheme, length, stride)

    def to_json(self) -> str:
        """Returns the settings as indented JSON."""
        return settings_to_json(FAMILY, self)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parses what `to_json` wrote.

        Raises:
            UserError: it is something else; names `where`.
        """
        task = settings_from_json(cls, FAMILY, text, where)
        fine = (
            task.scheme in _SCHEMES
            and matches(task.max_seq_length, int)
            and matches(task.stride, int)
            and task.stride > 0
            and len(task.labels) > 1
            and all(matches(label, str) for label in task.labels)
        )
        if not fine:
            raise UserError(f"{where} holds an impossible value")
        return task

    def describe(self) -> str:
        """Returns the types of tags, for the log."""
        kinds = sorted({label.partition("-")[2] for label in self.labels} - {""})
        return f"{self.name} in {self.scheme}, {len(kinds)} types: {', '.join(kinds[:12])}"

    def training_examples(
        self, options: TaskOptions, examples: Sequence[TaggedSentence]
    ) -> list[TaggedSentence]:
        """Returns the sentences as they are."""
        return list(examples)

    # --- inputs ---------------------------------------------------------------------------------

    def windows(self, tokenizer: Tokenizer, texts: tf.Tensor) -> words.WordWindows:
        """Returns windows of raw texts, UTF-8 strings [n]; prediction and serving call it."""
        return words.windows_of_texts(tokenizer, texts, self.max_seq_length, self.stride)

    def features(
        self, examples: Sequence[TaggedSentence | TextExample], tokenizer: Tokenizer
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of windows.

        Beside the inputs and `labels` (-1 where there is none): `is_word` [windows, length], the first
        token of each word in one of its windows, `starts`, `ends` there, the word's span in its text
        (of a sentence: its words joined by spaces), and `example` [windows], the number of the example.
        """
        parts = []
        for first in range(0, len(examples), _CHUNK):
            chunk = examples[first : first + _CHUNK]
            if isinstance(chunk[0], TextExample):
                made = self.windows(tokenizer, tf.constant([e.text_a for e in chunk]))
            else:
                sentences = tf.ragged.constant([sentence.words for sentence in chunk], tf.string)
                made = words.windows_of_words(
                    tokenizer, sentences, self.max_seq_length, self.stride
                )
            arrays = {
                name: getattr(made.windows, name).numpy()
                for name in ("input_ids", "segment_ids", "lengths")
            }
            arrays |= {name: getattr(made, name).numpy() for name in ("is_word", "starts", "ends")}
            arrays["truncated"] = np.zeros(len(arrays["lengths"]), bool)
            arrays["example"] = first + made.windows.text.numpy()
            if all(getattr(example, "tags", None) is not None for example in chunk):
                tags = [convert_tags(sentence.tags, self.scheme) for sentence in chunk]
                arrays["labels"] = np.full(arrays["is_word"].shape, -1, np.int32)
                arrays["labels"][arrays["is_word"]] = [
                    self._label_id(tag, sentence.id)
                    for sentence, of_sentence in zip(chunk, tags, strict=True)
                    for tag in of_sentence
                ]
            parts.append(arrays)
        names = set.intersection(*(set(arrays) for arrays in parts))
        return {name: np.concatenate([arrays[name] for arrays in parts]) for name in names}

    def _label_id(self, tag: str, sentence: str) -> int:
        if tag not in self.labels:  # a model from elsewhere may know a type by half
            raise UserError(f"sentence {sentence}: the model has no tag {tag!r}")
        return self.labels.index(tag)

    # --- outputs --------------------------------------------------------------------------------

    def make_head(self, encoder: EncoderConfig) -> "TaggingHead":
        """Returns the head for an encoder."""
        return TaggingHead(encoder, len(self.labels))

    def predicted_tags(
        self, outputs: np.ndarray, features: Features, number: int
    ) -> list[tuple[list[str], np.ndarray]]:
        """Returns the tags and their probabilities of each of a number of examples."""
        width = features["is_word"].shape[1]
        outputs = np.pad(outputs, [(0, 0), (0, width - outputs.shape[1]), (0, 0)])
        chosen = words.choose(tf.constant(outputs), tf.constant(features["is_word"]))
        tags = np.array(self.labels, object)[chosen.labels.numpy()]
        counts = np.bincount(features["example"], features["is_word"].sum(axis=1), number).astype(
            int
        )
        bounds = np.cumsum(counts)[:-1]
        return [
            (list(of_example), probabilities)
            for of_example, probabilities in zip(
                np.split(tags, bounds),
                np.split(chosen.probabilities.numpy(), bounds),
                strict=True,
            )
        ]

    def predictions(
        self,
        outputs: np.ndarray,
        features: Features,
        examples: Sequence[TaggedSentence | TextExample],
    ) -> list[dict[str, Any]]:
        """Returns for each example `words` with span, tag and probability, and `entities`.

        Sentences of words also have `text`, what the spans are of.
        """
        is_word = features["is_word"]
        spans = np.stack([features["starts"][is_word], features["ends"][is_word]], axis=1)
        rows, first = [], 0
        predicted = self.predicted_tags(outputs, features, len(examples))
        for example, (tags, probabilities) in zip(examples, predicted, strict=True):
            of_example = spans[first : first + len(tags)].tolist()
            first += len(tags)
            row: dict[str, Any] = {}
            if isinstance(example, TextExample):
                text = example.text_a
            else:
                text = row["text"] = " ".join(example.words)
            row["words"] = [
                {"text": text[start:end], "start": start, "end": end, "tag": tag,
                 "probability": float(probability)}
                for (start, end), tag, probability in zip(
                    of_example, tags, probabilities, strict=True
                )
            ]  # fmt: skip
            row["entities"] = [
                {"type": kind.removeprefix("-"), "start": of_example[begin][0],
                 "end": of_example[end - 1][1],
                 "text": text[of_example[begin][0] : of_example[end - 1][1]]}
                for kind, begin, end in chunks(tags)
            ]  # fmt: skip
            rows.append(row)
        return rows

    def evaluate(
        self, outputs: np.ndarray, features: Features, examples: Sequence[TaggedSentence]
    ) -> dict[str, float]:
        """Returns the figures of conlleval, in percent; see metrics/tagging.py."""
        gold = [convert_tags(sentence.tags, self.scheme) for sentence in examples]
        predicted = self.predicted_tags(outputs, features, len(examples))
        metrics = evaluate_tags(gold, [tags for tags, _ in predicted])
        return {name: float(metrics[name]) for name in self.metrics}

    def failed(
        self, outputs: np.ndarray, features: Features, examples: Sequence[TaggedSentence]
    ) -> bool:
        """Whether nothing is found, as where all words are tagged O, although there is something."""
        found = self.evaluate(outputs, features, examples)["f1"]
        return found == 0 and any(chunks(sentence.tags) for sentence in examples)

    # --- prediction's files ---------------------------------------------------------------------

    def read_inputs(self, options: InputOptions) -> list[TaggedSentence] | list[TextExample]:
        """Reads lines of text, or with --word_column a CoNLL file."""
        return read_texts_to_tag(options)

    def write_submission(
        self,
        directory: str,
        split: str,
        examples: Sequence[TaggedSentence | TextExample],
        rows: Sequence[dict[str, Any]],
    ) -> str:
        """Writes predictions.conll: word, predicted tag; a blank line behind each sentence."""
        path = Path(directory) / "predictions.conll"
        sentences = [
            "".join(f"{word['text']}\t{word['tag']}\n" for word in row["words"]) for row in rows
        ]
        write_file(path, "\n".join(sentences) + "\n")
        return str(path)


class TaggingHead(keras.layers.Layer):
    """Dropout and one linear layer on every token (D7.36); words are read at their first token."""

    def __init__(self, encoder: EncoderConfig, outputs: int) -> None:
        super().__init__(name="task_head")
        self.rate = encoder.hidden_dropout_prob
        self.output_dense = keras.layers.Dense(outputs, name="output_dense")
        self.output_dense.build((None, encoder.hidden_size))
        self.built = True

    def call(
        self, hidden: tf.Tensor, batch: Mapping[str, tf.Tensor], noise: DropoutNoise | None = None
    ) -> tf.Tensor:
        """Maps [batch, length, hidden_size] to float32 [batch, length, labels]."""
        return tf.cast(self.output_dense(dropout(hidden, self.rate, noise)), tf.float32)

    def loss(
        self, hidden: tf.Tensor, batch: Mapping[str, tf.Tensor], noise: DropoutNoise | None
    ) -> tf.Tensor:
        """Returns the sum over the words of each window, [batch], as the original."""
        outputs = self(hidden, batch, noise=noise)
        labels = batch["labels"][:, : hidden.shape[1]]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=tf.maximum(labels, 0), logits=outputs
        )
        return tf.reduce_sum(losses * tf.cast(labels >= 0, tf.float32), axis=1)
