"""Heads of fine-tuned models, ours and those of Hugging Face transformers 5.23, models/electra.

ElectraForTokenClassification and ElectraForQuestionAnswering are one linear layer, as our heads of
tagging and of plain answers. ElectraForSequenceClassification has a hidden layer with GELU where ours,
as the original, has none (facts A28): ours can be written as such a head, another one cannot be read.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from electra_keras.config import EncoderConfig, matches
from electra_keras.console import UserError
from electra_keras.interop.json_files import field
from electra_keras.interop.tensors import Tensors
from electra_keras.interop.weights import TaskHead
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.interface import Task
from electra_keras.tasks.options import TaskOptions
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.tasks.registry import FAMILIES
from electra_keras.tasks.schemes import PLAIN, is_tag
from electra_keras.tasks.tagging import TaggingTask

# A key of ours in config.json: what a task is beyond its labels, for which transformers has no place.
_TASK = "electra_keras_task"
_KERNEL, _BIAS = "output_dense/kernel", "output_dense/bias"
_PREFIXES = ("classifier.", "qa_outputs.", "sequence_summary.")
_ENCODER_ONLY = "--encoder_only leaves it behind and converts the encoder"
# For files that do not say them: transformers' own example for questions (run_qa.py) has windows of
# this length. A stride there is the overlap of two windows, here the step from one to the next.
_QUESTION_LENGTH, _TAGGING_LENGTH = 384, 128


class WrittenHead(NamedTuple):
    """A head in Hugging Face's terms: tensors by name, entries of config.json, lines for the user."""

    tensors: dict[str, np.ndarray]
    settings: dict[str, Any]
    notes: list[str]


def head_tensors(names: Collection[str]) -> list[str]:
    """Returns which of a file's tensors are a fine-tuned head's, sorted."""
    return sorted(name for name in names if name.startswith(_PREFIXES))


# ----------------------------------------------------------------------------------------------
# Reading


def read_head(
    settings: dict[str, Any],
    tensors: Tensors,
    encoder: EncoderConfig,
    path: Path,
    notes: list[str],
) -> TaskHead:
    """Reads the head of a fine-tuned file.

    Args:
        settings: what config.json holds.
        tensors: the file, with `head_tensors` in it.
        encoder: the encoder's sizes.
        path: of config.json.
        notes: lines for the user are added: what was not recorded and how it was taken.

    Raises:
        UserError: there is no such head here, or the file is damaged.
    """
    names = head_tensors(tensors.shapes)
    readers = {
        ("classifier.bias", "classifier.weight"): _read_tagging,
        ("qa_outputs.bias", "qa_outputs.weight"): _read_answers,
        tuple(f"classifier.{n}.{k}" for n in ("dense", "out_proj") for k in ("bias", "weight")): (
            _read_classification
        ),
    }
    # Files of which a tensor is missing are for the readers to refuse.
    for wanted, reader in readers.items():
        if names and set(names) <= set(wanted):
            return reader(settings, tensors, encoder, path, notes)
    raise UserError(
        f"{tensors.where} holds a head that has no counterpart here ({', '.join(names)}): "
        f"{_ENCODER_ONLY}"
    )


def _read_tagging(
    settings: dict[str, Any],
    tensors: Tensors,
    encoder: EncoderConfig,
    path: Path,
    notes: list[str],
) -> TaskHead:
    _check_architecture(settings, "ElectraForTokenClassification", tensors, path)
    labels = _labels(settings, "classifier.weight", tensors, path)
    recorded = _recorded_task(settings, TaggingTask, path, notes)
    plain = recorded is not None and recorded.scheme == PLAIN
    strange = [label for label in labels if not is_tag(label)]
    if (strange and not plain) or len(labels) < 2:
        raise UserError(
            f"{path}: id2label has {', '.join(strange[:3] or labels)}; tagging here is in O, B-TYPE, "
            "I-TYPE, E-TYPE and S-TYPE: name the labels so if that is what they mean; else "
            f"{_ENCODER_ONLY}"
        )
    weights = _read_linear(tensors, "classifier", encoder, len(labels))
    if plain:  # here, too, where the labels were renamed there
        return TaskHead(dataclasses.replace(recorded, labels=labels), weights)
    if recorded is None or recorded.labels != labels:
        length = min(_TAGGING_LENGTH, encoder.max_position_embeddings)
        scheme = "BIOES" if any(label[0] in "ES" for label in labels) else "BIO"
        recorded = TaggingTask("tagging", labels, scheme, length, length // 2, scheme)
        notes.append(_taken(recorded, ("scheme", "max_seq_length", "stride")))
    prefixes = recorded.scheme.replace("O", "")
    wanted = {prefix + label[1:] for label in labels if label != "O" for prefix in prefixes}
    missing = sorted(wanted - set(labels))
    if missing:
        notes.append(
            f"{path}: no label {', '.join(missing)}: data in which they occur cannot be evaluated on"
        )
    return TaskHead(recorded, weights)


def _read_answers(
    settings: dict[str, Any],
    tensors: Tensors,
    encoder: EncoderConfig,
    path: Path,
    notes: list[str],
) -> TaskHead:
    _check_architecture(settings, "ElectraForQuestionAnswering", tensors, path)
    weights = _read_linear(tensors, "qa_outputs", encoder, 2)
    if encoder.type_vocab_size < 2:
        raise UserError(
            f"{path}: type_vocab_size is {encoder.type_vocab_size}, but question and context are told "
            f"apart by two; {_ENCODER_ONLY}"
        )
    task = _recorded_task(settings, QuestionAnsweringTask, path, notes)
    if task is None or task.answer_head != "plain":
        length = min(_QUESTION_LENGTH, encoder.max_position_embeddings)
        defaults = TaskOptions(
            task="question_answering", answer_head="plain", max_seq_length=length
        )
        question = min(defaults.max_query_length, length // 3)
        task = QuestionAnsweringTask.of_data(
            dataclasses.replace(defaults, max_query_length=question), []
        )
        names = ("max_seq_length", "stride", "max_query_length", "max_answer_length")
        notes.append(_taken(task, (*names, "has_impossible", "null_threshold")))
        notes.append(
            "a question always gets an answer: for a model of SQuAD 2.0 set has_impossible to true there"
        )
    return TaskHead(task, weights)


def _read_classification(
    settings: dict[str, Any],
    tensors: Tensors,
    encoder: EncoderConfig,
    path: Path,
    notes: list[str],
) -> TaskHead:
    _check_architecture(settings, "ElectraForSequenceClassification", tensors, path)
    width = encoder.hidden_size
    labels = _labels(settings, "classifier.out_proj.weight", tensors, path)
    shapes = {
        "classifier.dense.weight": (width, width),
        "classifier.dense.bias": (width,),
        "classifier.out_proj.weight": (len(labels), width),
        "classifier.out_proj.bias": (len(labels),),
    }
    found = {name: tensors.take(name, shape) for name, shape in shapes.items()}
    task = _recorded_task(settings, ClassificationTask, path, notes)
    if task is not None and len(labels) == max(1, len(task.labels)):
        kernel = np.ascontiguousarray(found["classifier.dense.weight"][: len(labels)].T)
        bias = found["classifier.dense.bias"][: len(labels)].copy()
        ours = _hidden_layer(task, kernel, bias) if 2 * len(labels) <= width else {}
        if all(np.array_equal(found[name], array) for name, array in ours.items()) and ours:
            if task.kind != "regression" and task.labels != labels:
                notes.append(f"the labels are those of id2label: {', '.join(labels)}")
                task = dataclasses.replace(task, labels=labels)
            return TaskHead(task, {_KERNEL: kernel, _BIAS: bias})
    raise UserError(
        f"{tensors.where}: {', '.join(found)} are a hidden layer with GELU and an output layer; the "
        "head here, the original's, is one linear layer, which cannot hold them: fine-tune again "
        f"from the encoder; {_ENCODER_ONLY}"
    )


def _check_architecture(
    settings: dict[str, Any], expected: str, tensors: Tensors, path: Path
) -> None:
    """Checks that a head is what its tensors are called after.

    Raises:
        UserError: config.json says that they are something else.
    """
    found = field(settings, "architectures", list, path, [expected])
    if found != [expected]:
        raise UserError(
            f"{path}: architectures is {', '.join(map(str, found))}, but {tensors.where} holds the head "
            f"of {expected} ({', '.join(head_tensors(tensors.shapes))}); {_ENCODER_ONLY}"
        )


def _read_linear(
    tensors: Tensors, name: str, encoder: EncoderConfig, outputs: int
) -> dict[str, np.ndarray]:
    kernel = tensors.take(f"{name}.weight", (outputs, encoder.hidden_size))
    bias = tensors.take(f"{name}.bias", (outputs,))
    return {_KERNEL: np.ascontiguousarray(kernel.T), _BIAS: bias}


def _labels(settings: dict[str, Any], weight: str, tensors: Tensors, path: Path) -> tuple[str, ...]:
    """Returns the labels in the order of their ids; LABEL_0, ... where config.json has none.

    Raises:
        UserError: they are not those of the rows of `weight`.
    """
    if not tensors.shapes.get(weight):
        raise UserError(f"{tensors.where} has no tensor {weight}")
    rows = tensors.shapes[weight][0]
    names = field(settings, "id2label", dict, path, {str(i): f"LABEL_{i}" for i in range(rows)})
    if set(names) != {str(i) for i in range(rows)}:
        raise UserError(
            f"{path}: id2label has the ids {', '.join(names)}, but {weight} has {rows} rows"
        )
    labels = tuple(names[str(i)] for i in range(rows))
    if not all(matches(label, str) for label in labels) or len(set(labels)) != rows:
        raise UserError(f"{path}: the labels of id2label are not different texts")
    return labels


def _recorded_task(
    settings: dict[str, Any], family: type[Task], path: Path, notes: list[str]
) -> Any:
    """Returns the task that `write_head` recorded; None where there is none, or one of another family.

    Raises:
        UserError: it is damaged.
    """
    values = field(settings, _TASK, dict, path)
    if values is None:
        return None
    if FAMILIES.get(str(values.get("family"))) is not family:
        notes.append(f"{path}: {_TASK} is of another task: not used")
        return None
    return family.from_json(json.dumps(values), f"{path}: {_TASK}")


def _taken(task: Task, names: Sequence[str]) -> str:
    values = ", ".join(f"{name} {getattr(task, name)}" for name in names)
    return f"not in config.json, taken as: {values} (task.json, to change them)"


# ----------------------------------------------------------------------------------------------
# Writing


def write_head(head: TaskHead, encoder: EncoderConfig) -> WrittenHead:
    """Returns a head as transformers has it.

    Raises:
        UserError: it has none like it.
    """
    task, weights = head.task, head.weights
    recorded = {_TASK: json.loads(task.to_json())}
    if isinstance(task, TaggingTask):
        notes = [
            "a word's tag is that of its first token: aggregation_strategy=first in a pipeline"
        ]
        if task.scheme == "BIOES":
            notes.append("pipelines of transformers join B- and I- only; the labels here are BIOES")
        return WrittenHead(
            _linear_tensors("classifier", weights),
            _architecture("ElectraForTokenClassification", task.labels) | recorded,
            [*notes, _kept(task, ("max_seq_length", "stride"))],
        )
    if isinstance(task, QuestionAnsweringTask) and task.answer_head == "plain":
        names = (
            "max_seq_length",
            "stride",
            "max_answer_length",
            "has_impossible",
            "null_threshold",
        )
        return WrittenHead(
            _linear_tensors("qa_outputs", weights),
            {"architectures": ["ElectraForQuestionAnswering"]} | recorded,
            [_kept(task, names)],
        )
    if isinstance(task, ClassificationTask) and 2 * len(weights[_BIAS]) <= encoder.hidden_size:
        return _write_classification(task, weights, recorded)
    if isinstance(task, QuestionAnsweringTask):
        why = (
            "the end of an answer depends on its start and there is a classifier for questions without "
            "answer; ElectraForQuestionAnswering has two logits for a token. Fine-tune with "
            "--answer_head=plain to take a model there, or serve this one by electra_keras.export"
        )
    elif isinstance(task, ClassificationTask):
        why = (
            f"{len(weights[_BIAS])} labels do not fit into the hidden layer of "
            f"ElectraForSequenceClassification, which has {encoder.hidden_size} units, two for a label"
        )
    else:
        why = f"the task {task.name} has no counterpart there"
    raise UserError(
        f"huggingface cannot hold this head ({', '.join(weights)}): {why}; {_ENCODER_ONLY}"
    )


def _write_classification(
    task: ClassificationTask, weights: Mapping[str, np.ndarray], recorded: dict[str, Any]
) -> WrittenHead:
    labels = task.labels or ("LABEL_0",)
    kinds = {
        "single_label": "single_label_classification",
        "multi_label": "multi_label_classification",
        "regression": "regression",
    }
    settings = {"problem_type": kinds[task.kind]}
    return WrittenHead(
        _hidden_layer(task, weights[_KERNEL], weights[_BIAS]),
        _architecture("ElectraForSequenceClassification", labels) | settings | recorded,
        [
            "the linear head is written as the hidden layer that transformers has, by GELU(z) - "
            "GELU(-z) = z: the same outputs to float32 rounding, two units a label, the others zero; "
            "good to predict with, not to train on",
            _kept(task, ("max_seq_length", "truncation", "pairs")),
        ],
    )


def _hidden_layer(
    task: ClassificationTask, kernel: np.ndarray, bias: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns dense layer, GELU and output layer that compute what one linear layer does.

    GELU(z) is z P(z) with P(z) + P(-z) = 1, so GELU(z) - GELU(-z) is z, whatever z. Numbers of a
    regression leave the head between 0 and 1 here, and in their own range there.

    Args:
        task: whose numbers or classes.
        kernel: float32 [hidden_size, outputs], with at most hidden_size / 2 outputs.
        bias: float32 [outputs].
    """
    width, outputs = kernel.shape
    low, high = task.label_range if task.kind == "regression" else (0.0, 1.0)
    dense, dense_bias = np.zeros([width, width], np.float32), np.zeros(width, np.float32)
    dense[:outputs], dense[outputs : 2 * outputs] = kernel.T, -kernel.T
    dense_bias[:outputs], dense_bias[outputs : 2 * outputs] = bias, -bias
    output = np.zeros([outputs, width], np.float32)
    output[:, :outputs] = (high - low) * np.eye(outputs)
    output[:, outputs : 2 * outputs] = (low - high) * np.eye(outputs)
    return {
        "classifier.dense.weight": dense,
        "classifier.dense.bias": dense_bias,
        "classifier.out_proj.weight": output,
        "classifier.out_proj.bias": np.full(outputs, low, np.float32),
    }


def _linear_tensors(name: str, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        f"{name}.weight": np.ascontiguousarray(weights[_KERNEL].T),
        f"{name}.bias": weights[_BIAS],
    }


def _architecture(name: str, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "architectures": [name],
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def _kept(task: Task, names: Sequence[str]) -> str:
    values = ", ".join(f"{name} {getattr(task, name)}" for name in names)
    return f"transformers has no place for: {values}; kept in config.json as {_TASK}"
