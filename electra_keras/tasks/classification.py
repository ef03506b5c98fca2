"""Classification and regression of texts and pairs of texts: settings, head, predictions, scores."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.console import UsageError, UserError
from electra_keras.tasks.class_weights import class_weights
from electra_keras.tasks.classification_head import ClassificationHead, element_loss
from electra_keras.tasks.data.examples import (
    TextExample,
    count_labels,
    warn_of_unlearnt_labels,
)
from electra_keras.tasks.data.glue import GLUE_TASKS, STS_RANGE, write_submission
from electra_keras.tasks.features import Features
from electra_keras.tasks.interface import settings_from_json, settings_to_json
from electra_keras.tasks.metrics.classification import GLUE_METRICS, METRICS
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.tasks.packing import TRUNCATIONS, pack
from electra_keras.tasks.reading import label_names, read_texts, read_texts_to_classify
from electra_keras.text.tokenizer import Tokenizer

# Texts that are tokenized at a time, and their characters: each takes some 30 bytes meanwhile.
_CHUNK, _CHUNK_CHARACTERS = 2000, 2_000_000
# [CLS], a token and [SEP].
_SHORTEST = 3
# Metrics that read a column for each label; the others read one value for each example.
_OF_MULTI_LABEL = ("macro_f1", "micro_f1")
KINDS = ("single_label", "multi_label", "regression")


@dataclasses.dataclass(frozen=True)
class ClassificationTask:
    """What a classifier or regressor is, beyond its encoder; task.json of a model directory.

    Attributes:
        name: a GLUE task, or "classification" for data of one's own.
        kind: one class, any number of classes, or a number.
        labels: the class names in the order of their ids; none in regression.
        label_range: smallest and largest number of the training data, in regression.
        pairs: whether an example is a pair of texts.
        max_seq_length: tokens per input, special ones included.
        truncation: what stays of a long text, as in `packing.pack`.
        metrics: keys of `METRICS`; the first one chooses the best checkpoint.
        class_weights: of each label in the training loss, as in `class_weights.class_weights`; none:
            all weigh the same.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    label_range: tuple[float, float]
    pairs: bool
    max_seq_length: int
    truncation: str
    metrics: tuple[str, ...]
    class_weights: tuple[float, ...] = ()

    targets: ClassVar = ("labels",)
    unit: ClassVar = "as fractions: 1 is best"

    @property
    def default_epochs(self) -> int:
        """The original's (configure_finetuning.py)."""
        return 10 if self.name in ("RTE", "STS-B") else 3

    @classmethod
    def read(cls, options: TaskOptions, split: str, task: Self | None = None) -> list[TextExample]:
        """Reads the examples of a split; with a task, warns of labels that it does not know."""
        if options.task in GLUE_TASKS and (options.multi_label or options.regression):
            raise UsageError(
                "--multi_label and --regression are for --task=classification: "
                f"{options.task} has its kind"
            )
        return read_texts(options, split, task.labels if task and task.labels else None)

    @classmethod
    def of_data(
        cls,
        options: TaskOptions,
        examples: Sequence[TextExample],
        held_out: Sequence[TextExample] = (),
    ) -> Self:
        """Returns the task that training examples make: their labels are found in them, and in those
        that are held out of their file.

        Raises:
            UsageError: fewer than two classes.
            UserError: a label that the GLUE task does not have.
        """
        name = options.task
        kind = "multi_label" if options.multi_label else "single_label"
        if options.regression or name == "STS-B":
            kind = "regression"
        labels: tuple[str, ...] = ()
        label_range = (0.0, 1.0)
        if kind == "regression":
            numbers = [example.label for example in examples]
            label_range = STS_RANGE if name == "STS-B" else (min(numbers), max(numbers))
            if label_range[0] == label_range[1]:
                raise UsageError(f"all training examples have the same number, {label_range[0]}")
        elif name in GLUE_TASKS:
            labels = GLUE_TASKS[name].labels
            strange = set(count_labels([*examples, *held_out])) - set(labels)
            if strange:
                raise UserError(
                    f"{name} has no label {min(strange)!r}, only {', '.join(labels)}; for labels of "
                    "your own give --task=classification"
                )
        else:
            labels = label_names(options) or tuple(count_labels([*examples, *held_out]))
            if len(labels) < (1 if kind == "multi_label" else 2):
                found = f"only the label {labels[0]!r}" if labels else "no label at all"
                raise UsageError(f"the training examples have {found}: there is nothing to learn")
        warn_of_unlearnt_labels(count_labels(examples), count_labels(held_out))
        metrics = (
            GLUE_METRICS.get(name)
            or {
                "single_label": ("accuracy", "matthews"),
                "multi_label": ("micro_f1", "macro_f1"),
                "regression": ("spearman", "pearson"),
            }[kind]
        )
        pairs = examples[0].text_b is not None
        length = options.max_seq_length or 128
        weights: tuple[float, ...] = ()
        if options.class_weights is not None:
            if kind == "regression":
                raise UsageError("--class_weights is for classes: this is a regression")
            gold = [e.label if isinstance(e.label, tuple) else (e.label,) for e in examples]
            weights = class_weights(options.class_weights, labels, gold, kind == "multi_label")
        return cls(
            name,
            kind,
            labels,
            label_range,
            pairs,
            length,
            options.truncation,
            tuple(metrics),
            weights,
        )

    def in_order_of(self, earlier: str) -> Self:
        """Returns the task with its labels in the order of an earlier task.json, if it has the same.

        Integers were once in the order of texts; what was trained so keeps its ids.
        """
        try:
            labels = self.from_json(earlier, "").labels
        except UserError:  # of something else, which `run_directory.prepare` refuses
            return self
        if sorted(labels) != sorted(self.labels):
            return self
        weights = dict(zip(self.labels, self.class_weights, strict=False))
        ordered = tuple(weights[label] for label in labels if label in weights)
        return dataclasses.replace(self, labels=labels, class_weights=ordered)

    def describe(self) -> str:
        """Returns the kind and the labels, for the log."""
        some = ", ".join(self.labels[:8]) + (", ..." if len(self.labels) > 8 else "")
        text = f"{self.name}, {self.kind.replace('_', ' ')}" + (
            f" of {len(self.labels)}: {some}" if self.labels else ""
        )
        if not self.class_weights:
            return text
        few = ", ".join(f"{weight:.3g}" for weight in self.class_weights[:8])
        return f"{text}; weights {few}" + (", ..." if len(self.class_weights) > 8 else "")

    def training_examples(
        self, options: TaskOptions, examples: Sequence[TextExample]
    ) -> list[TextExample]:
        """Returns the examples, with --double_unordered also with their texts exchanged."""
        if not options.double_unordered:
            return list(examples)
        if not self.pairs:
            raise UsageError("--double_unordered is for pairs of texts")
        exchanged = [
            dataclasses.replace(example, text_a=example.text_b, text_b=example.text_a)
            for example in examples
        ]
        return [*examples, *exchanged]

    def to_json(self) -> str:
        """Returns the settings as indented JSON."""
        return settings_to_json("classification", self)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Parses what `to_json` wrote.

        Raises:
            UserError: it is something else; names `where`.
        """
        task = settings_from_json(cls, "classification", text, where)
        classes = task.kind != "regression"
        fine = (
            task.kind in KINDS
            and task.truncation in TRUNCATIONS
            and task.max_seq_length >= _SHORTEST
            and bool(task.metrics)
            and set(task.metrics) <= set(METRICS)
            and bool(task.labels) == classes
            and len(set(task.labels)) == len(task.labels)
            and all(label.strip() for label in task.labels)
            and (classes or task.label_range[0] < task.label_range[1])
            and len(task.class_weights) in (0, len(task.labels))
            and all(weight > 0 for weight in task.class_weights)
        )
        if not fine:
            raise UserError(f"{where} holds an impossible value")
        return task

    # --- inputs ---------------------------------------------------------------------------------

    def encode(self, tokenizer: Tokenizer, texts: tf.Tensor, pairs: tf.Tensor | None) -> Any:
        """Returns `packing.Packed` of UTF-8 texts, strings [n]; training and serving call it."""
        vocabulary = tokenizer.vocabulary
        return pack(
            tokenizer.tokenize(texts),
            None if pairs is None else tokenizer.tokenize(pairs),
            self.max_seq_length,
            self.truncation,
            vocabulary.cls_id,
            vocabulary.sep_id,
        )

    def features(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer
    ) -> dict[str, np.ndarray]:
        """Returns the arrays of examples: inputs, and `labels` where all examples have one.

        Labels that the task does not know have the ids, or columns, behind those of the task's.

        Raises:
            UserError: single texts where the task is of pairs, or the reverse.
        """
        for example in examples:
            if (example.text_b is not None) != self.pairs:
                wanted = "pairs of texts" if self.pairs else "single texts"
                raise UserError(f"example {example.id}: the task is one of {wanted}")
        chunks = []
        for chunk in chunks_of(examples):
            texts = tf.constant([example.text_a for example in chunk])
            pairs = tf.constant([e.text_b for e in chunk]) if self.pairs else None
            chunks.append([value.numpy() for value in self.encode(tokenizer, texts, pairs)])
        names = ("input_ids", "segment_ids", "lengths", "truncated")
        features = {
            name: np.concatenate(parts)
            for name, parts in zip(names, zip(*chunks, strict=True), strict=True)
        }
        if all(example.label is not None for example in examples):
            features["labels"] = self._targets(examples)
        return features

    def _targets(self, examples: Sequence[TextExample]) -> np.ndarray:
        if self.kind == "regression":
            low, high = self.label_range
            return np.float32([(example.label - low) / (high - low) for example in examples])
        unknown = [name for name in count_labels(examples) if name not in self.labels]
        ids = {name: number for number, name in enumerate((*self.labels, *unknown))}
        if self.kind == "single_label":
            return np.array([ids[example.label] for example in examples], np.int32)
        targets = np.zeros((len(examples), len(ids)), np.float32)
        for row, example in zip(targets, examples, strict=True):
            row[[ids[name] for name in example.label]] = 1
        return targets

    # --- outputs --------------------------------------------------------------------------------

    def make_head(self, encoder: EncoderConfig) -> ClassificationHead:
        """Returns the head for an encoder."""
        return ClassificationHead(encoder, self.kind, max(1, len(self.labels)), self.class_weights)

    def scores(self, outputs: np.ndarray) -> np.ndarray:
        """Turns the head's outputs [n, classes] into probabilities, or the task's numbers [n]."""
        if self.kind == "regression":
            low, high = self.label_range
            return outputs[:, 0] * (high - low) + low
        if self.kind == "multi_label":
            return 0.5 * (1 + np.tanh(0.5 * outputs))
        exponentials = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        return exponentials / exponentials.sum(axis=1, keepdims=True)

    def predictions(
        self, outputs: np.ndarray, features: Features, examples: Sequence[TextExample]
    ) -> list[dict[str, Any]]:
        """Returns what is said of each example: `label` and `probabilities`, `labels`, or `score`."""
        scores = self.scores(outputs.astype(np.float64))
        if self.kind == "regression":
            return [{"score": float(score)} for score in scores]
        rows = []
        for row in scores:
            named = {"probabilities": dict(zip(self.labels, map(float, row), strict=True))}
            if self.kind == "multi_label":
                chosen = [label for label, p in zip(self.labels, row, strict=True) if p > 0.5]
                rows.append({"labels": chosen, **named})
            else:
                rows.append({"label": self.labels[int(row.argmax())], **named})
        return rows

    def evaluate(
        self, outputs: np.ndarray, features: Features, examples: Sequence[TextExample]
    ) -> dict[str, float]:
        """Returns the task's metrics, and the loss, from outputs [n, classes].

        A label that the task does not know is an error of the model, as in scikit-learn's figures; the
        loss is that of the known ones.
        """
        for name in self.metrics:  # as task.json has them
            if (name in _OF_MULTI_LABEL) != (self.kind == "multi_label"):
                raise UserError(f"the metric {name} is none of a {self.kind} task, see task.json")
        labels = features["labels"]
        predicted, gold = self.scores(outputs.astype(np.float64)), labels
        if self.kind == "single_label":
            predicted = predicted.argmax(axis=1)
            known = labels < len(self.labels)
            labels, outputs = labels[known], outputs[known]
        elif self.kind == "multi_label":
            labels = labels[:, : len(self.labels)]
            unknown = gold.shape[1] - labels.shape[1]
            predicted, gold = np.pad(predicted > 0.5, [(0, 0), (0, unknown)]), gold > 0.5
        metrics = {name: METRICS[name](gold, predicted) for name in self.metrics}
        losses = element_loss(self.kind, tf.constant(outputs), tf.constant(labels))
        return metrics | {"loss": float(np.mean(losses)) if len(labels) else float("nan")}

    def failed(
        self, outputs: np.ndarray, features: Features, examples: Sequence[TextExample]
    ) -> bool:
        """Whether all examples get the same answer although their labels differ.

        Such a run ended at the majority class (facts A24).
        """
        labels = features["labels"]
        answers = {
            "single_label": lambda: outputs.argmax(axis=1),
            "multi_label": lambda: outputs > 0,
            "regression": lambda: outputs,
        }[self.kind]()
        return len(np.unique(answers, axis=0)) == 1 < len(np.unique(labels, axis=0))

    # --- prediction's files ---------------------------------------------------------------------

    def read_inputs(self, options: InputOptions) -> list[TextExample]:
        """Reads a table, lines of text, or a GLUE task's file."""
        return read_texts_to_classify(options, self.name, self.pairs)

    def write_submission(
        self,
        directory: str,
        split: str,
        examples: Sequence[TextExample],
        rows: Sequence[dict[str, Any]],
    ) -> str:
        """Writes the file that gluebenchmark.com takes."""
        if self.name not in GLUE_TASKS:
            raise UsageError(f"--submission_dir: {self.name} is none of GLUE's tasks")
        values = [row["score" if self.kind == "regression" else "label"] for row in rows]
        return write_submission(directory, self.name, split, examples, values)


def chunks_of(examples: Sequence[TextExample]) -> Iterator[Sequence[TextExample]]:
    """Yields the examples in parts that can be tokenized at once; a long text is one alone."""
    start = size = 0
    for position, example in enumerate(examples):
        length = len(example.text_a) + len(example.text_b or "")
        full = position - start == _CHUNK or size + length > _CHUNK_CHARACTERS
        if full and position > start:
            yield examples[start:position]
            start, size = position, 0
        size += length
    yield examples[start:]
