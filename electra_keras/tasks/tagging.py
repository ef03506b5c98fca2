"""Tagging: a label for every word, such as named entities, chunks and parts of speech."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import keras
import numpy as np
import tensorflow as tf

from electra_keras.config import EncoderConfig, matches
from electra_keras.console import UsageError, UserError
from electra_keras.files import write_whole
from electra_keras.modeling.layers import ConfiguredLayer, DropoutNoise, dropout
from electra_keras.tasks import words
from electra_keras.tasks.data.columns import EXTENSIONS, read_columns, tag_labels
from electra_keras.tasks.data.examples import (
    TaggedSentence,
    TextExample,
    warn_of_unlearnt_labels,
)
from electra_keras.tasks.features import Features
from electra_keras.tasks.interface import is_utf8, settings_from_json, settings_to_json
from electra_keras.tasks.metrics.tagging import (
    chunks,
    convert_tags,
    evaluate_labels,
    evaluate_tags,
)
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.tasks.reading import read_split, read_texts_to_tag
from electra_keras.tasks.schemes import PLAIN, WRITTEN, is_tag, write_tags
from electra_keras.text.tokenizer import Tokenizer

FAMILY = "tagging"
# Sentences that are tokenized at a time.
_CHUNK = 1000
_SCHEMES = ("BIO", "BIOES", PLAIN)
# Of [CLS], a token and [SEP]; the largest int32.
_SHORTEST, _LARGEST = 3, 2**31 - 1


@dataclasses.dataclass(frozen=True)
class TaggingTask:
    """What a tagger is, beyond its encoder; task.json of a model directory.

    Attributes:
        name: "tagging".
        labels: the tags in the order of their ids, "O" first.
        scheme: "BIO" or "BIOES", of the labels; "plain", where they are labels of words.
        max_seq_length: tokens per window, special ones included.
        stride: tokens from a window of a long sentence to the next.
        data_scheme: one of `schemes.WRITTEN`, which the training data is in and predictions are
            written in, or "plain".
    """

    name: str
    labels: tuple[str, ...]
    scheme: str
    max_seq_length: int
    stride: int
    data_scheme: str = "BIO"  # of a task.json of before there was this field, too

    targets: ClassVar = ("labels",)
    unit: ClassVar = "in percent"
    default_epochs: ClassVar = 3

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores; the first one chooses the best checkpoint."""
        if self.scheme == PLAIN:
            return ("accuracy", "macro_f1")
        return ("f1", "precision", "recall", "accuracy")

    @classmethod
    def read(
        cls, options: TaskOptions, split: str, task: Self | None = None
    ) -> list[TaggedSentence]:
        """Reads a CoNLL file; with a task, warns of tags of types that it does not know."""
        labels = task.labels if task else None
        plain = (task.scheme if task else options.tag_scheme) == PLAIN

        def read(path: str) -> list[TaggedSentence]:
            return read_columns(path, options.word_column, options.tag_column, labels, plain)

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
            UsageError: they have no other tag than O, or only one plain label.
        """
        labels = tag_labels([*examples, *held_out])
        of_held_out = Counter(tag for sentence in held_out for tag in sentence.tags or ())
        warn_of_unlearnt_labels(tag_labels(examples), of_held_out)
        if len(labels) < 2:
            raise UsageError(
                f"the training sentences have no tag but {labels[0]}; see --tag_column"
            )
        if options.tag_scheme == "BIOES":
            kinds = [label[1:] for label in labels if label.startswith("B")]
            labels = ["O", *(prefix + kind for kind in kinds for prefix in "BIES")]
        length = options.max_seq_length or 128
        stride = options.stride or length // 2
        scheme = examples[0].scheme
        return cls(FAMILY, tuple(labels), options.tag_scheme, length, stride, scheme)

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
        plain = task.scheme == PLAIN
        fine = (
            task.name == FAMILY
            and task.scheme in _SCHEMES
            and (task.data_scheme == PLAIN if plain else task.data_scheme in WRITTEN)
            and matches(task.max_seq_length, int)
            and _SHORTEST <= task.max_seq_length <= _LARGEST
            and matches(task.stride, int)
            and 1 <= task.stride <= _LARGEST
            and matches(task.labels, tuple)
            and len(task.labels) > 1
            and all(matches(label, str) and (plain or is_tag(label)) for label in task.labels)
            and len(set(task.labels)) == len(task.labels)
            and all(is_utf8(label) for label in task.labels)
        )
        if not fine:
            raise UserError(f"{where} holds an impossible value")
        return task

    def describe(self) -> str:
        """Returns the types of tags, for the log."""
        if self.scheme == PLAIN:
            some = ", ".join(self.labels[:12]) + (", ..." if len(self.labels) > 12 else "")
            return f"{self.name} in plain labels, {len(self.labels)}: {some}"
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

        Beside the inputs and `labels` (-1 where there is none, or none that the model knows): `is_word`
        [windows, length], the first token of each word in one of its windows, `starts`, `ends` there,
        the word's span in its text (of a sentence: its words joined by spaces), and `example`
        [windows], the number of the example.
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
                tags = [self._learned(sentence.tags) for sentence in chunk]
                arrays["labels"] = np.full(arrays["is_word"].shape, -1, np.int32)
                ids = {tag: number for number, tag in enumerate(self.labels)}
                arrays["labels"][arrays["is_word"]] = [
                    ids.get(tag, -1) for of_sentence in tags for tag in of_sentence
                ]
            parts.append(arrays)
        names = set.intersection(*(set(arrays) for arrays in parts))
        return {name: np.concatenate([arrays[name] for arrays in parts]) for name in names}

    def _learned(self, tags: Sequence[str]) -> list[str]:
        """Returns a sentence's tags in the scheme of the labels."""
        return list(tags) if self.scheme == PLAIN else convert_tags(tags, self.scheme)

    def _written(self, tags: Sequence[str]) -> list[str]:
        """Returns a sentence's predicted tags in the scheme of the data."""
        return list(tags) if self.scheme == self.data_scheme else write_tags(tags, self.data_scheme)

    # --- outputs --------------------------------------------------------------------------------

    def make_head(self, encoder: EncoderConfig) -> "TaggingHead":
        """Returns the head for an encoder."""
        return TaggingHead(encoder, len(self.labels))

    def predicted_tags(
        self, outputs: np.ndarray, features: Features, number: int
    ) -> list[tuple[list[str], np.ndarray]]:
        """Returns the tags, in the labels' scheme, and their probabilities of each of the examples."""
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

        Tags are in the scheme of the data. Plain labels have no entities. Sentences of words also have
        `text`, what the spans are of.
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
                    of_example, self._written(tags), probabilities, strict=True
                )
            ]  # fmt: skip
            if self.scheme == PLAIN:
                rows.append(row)
                continue
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
        """Returns the figures of conlleval, or of plain labels; in percent, see metrics/tagging.py."""
        gold = [self._learned(sentence.tags) for sentence in examples]
        predicted = [tags for tags, _ in self.predicted_tags(outputs, features, len(examples))]
        score = evaluate_labels if self.scheme == PLAIN else evaluate_tags
        metrics = score(gold, predicted)
        return {name: float(metrics[name]) for name in self.metrics}

    def failed(
        self, outputs: np.ndarray, features: Features, examples: Sequence[TaggedSentence]
    ) -> bool:
        """Whether nothing is found, as where all words are tagged O, although there is something.

        Of plain labels: whether all words get the same, although theirs differ.
        """
        if self.scheme == PLAIN:
            predicted = self.predicted_tags(outputs, features, len(examples))
            said = {tag for tags, _ in predicted for tag in tags}
            return len(said) == 1 < len({tag for sentence in examples for tag in sentence.tags})
        found = self.evaluate(outputs, features, examples)["f1"]
        return found == 0 and any(chunks(sentence.tags) for sentence in examples)

    # --- prediction's files ---------------------------------------------------------------------

    def read_inputs(self, options: InputOptions) -> list[TaggedSentence] | list[TextExample]:
        """Reads lines of text, or with --word_column a CoNLL file."""
        return read_texts_to_tag(options, self.scheme == PLAIN)

    def write_submission(
        self,
        directory: str,
        split: str,
        examples: Sequence[TaggedSentence | TextExample],
        rows: Sequence[dict[str, Any]],
    ) -> str:
        """Writes predictions.conll, a blank line behind each sentence.

        Its columns, parted by tabs, are word and predicted tag; of sentences with tags word, tag and
        predicted tag, as conlleval.pl reads them with -d '\\t'. Tags are in the scheme of the data.
        """
        path = Path(directory) / "predictions.conll"
        sentences = []
        for example, row in zip(examples, rows, strict=True):
            columns = [[word[key] for word in row["words"]] for key in ("text", "tag")]
            if getattr(example, "tags", None) is not None:
                columns.insert(1, self._gold(example))
            lines = ("\t".join(line) + "\n" for line in zip(*columns, strict=True))
            sentences.append("".join(lines))
        write_whole(path, "\n".join(sentences) + "\n")
        return str(path)

    def _gold(self, sentence: TaggedSentence) -> list[str]:
        """Returns a sentence's own tags in the scheme of the data."""
        return (
            list(sentence.tags)
            if self.scheme == PLAIN
            else write_tags(sentence.tags, self.data_scheme)
        )


@keras.saving.register_keras_serializable("electra_keras")
class TaggingHead(ConfiguredLayer):
    """Dropout and one linear layer on every token (D7.36); words are read at their first token."""

    def __init__(self, config: EncoderConfig, outputs: int, **kwargs: Any) -> None:
        super().__init__(config, **{"name": "task_head"} | kwargs)
        self.rate, self.outputs = config.hidden_dropout_prob, outputs
        self.output_dense = keras.layers.Dense(
            outputs, name="output_dense", dtype=self.dtype_policy
        )
        self.output_dense.build((None, config.hidden_size))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {"outputs": self.outputs}

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
