"""--class_weights: what they are, what they do to the loss, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.class_weights import class_weights
from electra_keras.tasks.classification import ClassificationTask, element_loss
from electra_keras.tasks.data.examples import TextExample
from electra_keras.tasks.options import TaskOptions
from tests.tasks.test_finetuner import make_batch, make_model

GOLD = [("a",)] * 6 + [("b",)] * 2  # and c never


def test_balanced_weights():
    weights = class_weights("balanced", ("a", "b", "c"), GOLD, False)
    assert weights == (8 / (2 * 6), 8 / (2 * 2), 1.0)
    of_examples = [weights["abc".index(label)] for (label,) in GOLD]
    assert np.mean(of_examples) == pytest.approx(1)
    gold = [("a", "c"), ("a", "b", "c"), ("c",), ("a", "c")]
    assert class_weights("balanced", ("a", "b", "c", "d"), gold, True) == (1 / 3, 3.0, 1.0, 1.0)


def test_given_weights():
    assert class_weights("b=2.5, c = 3", ("a", "b", "c"), GOLD, False) == (1.0, 2.5, 3.0)
    assert class_weights("x=y=2", ("a", "x=y"), GOLD, False) == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("schlecht, öde=2", (1, 2, 1, 1)),
        ("schlecht, öde=2, gut=3,öde = 0.5", (3, 2, 1, 0.5)),
        ("schlecht=4,schlecht, öde=2", (1, 2, 4, 1)),
        ("gut=5", (5, 1, 1, 1)),
    ],
)
def test_labels_with_commas(text, expected):
    labels = ("gut", "schlecht, öde", "schlecht", "öde")
    assert class_weights(text, labels, [], False) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("d=2", "no label 'd' in the training data, which has a, b"),
        ("a", "must be balanced, or label=weight pairs by comma: 'a'"),
        ("a=1,,b=2", "pairs by comma: ''"),
        ("a=much", "the weight of 'a' must be above 0: 'much'"),
        ("a=0", "above 0: '0'"),
        ("a=-1", "above 0: '-1'"),
        ("a=nan", "above 0: 'nan'"),
        ("a=inf", "above 0: 'inf'"),
    ],
)
def test_bad_weights_are_refused(text, message):
    with pytest.raises(UsageError, match=f"--class_weights.*{message}"):
        class_weights(text, ("a", "b"), GOLD, False)


def test_the_loss_of_one_label():
    outputs = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    labels = np.array([0, 2, 1, 2])
    p = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    expected = -np.log(p[np.arange(4), labels]) * np.array([0.5, 3, 2, 3])
    found = element_loss("single_label", tf.constant(outputs), labels, (0.5, 2.0, 3.0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_the_loss_of_any_number_of_labels():
    outputs = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.float32)
    p = 1 / (1 + np.exp(-outputs))
    terms = -labels * np.log(p) * np.array([4, 0.25]) - (1 - labels) * np.log(1 - p)
    found = element_loss("multi_label", tf.constant(outputs), labels, (4.0, 0.25))
    np.testing.assert_allclose(found, terms.sum(axis=1), rtol=1e-5)
    plain = -labels * np.log(p) - (1 - labels) * np.log(1 - p)
    found = element_loss("multi_label", tf.constant(outputs), labels)
    np.testing.assert_allclose(found, plain.sum(axis=1), rtol=1e-5)


def make_task(**options):
    labels = ["a", "a", "a", "b"]
    if options.get("regression"):
        labels = [1.0, 2.0, 3.0, 4.0]
    examples = [TextExample(str(i), "text", None, label) for i, label in enumerate(labels)]
    return ClassificationTask.of_data(TaskOptions(task="classification", **options), examples)


def test_the_task_knows_them_and_its_head_too():
    task = make_task(class_weights="balanced")
    assert task.class_weights == (4 / 6, 2.0)
    assert task.describe().endswith("of 2: a, b; weights 0.667, 2")
    assert ClassificationTask.from_json(task.to_json(), "task.json") == task
    with pytest.raises(UserError, match="impossible value"):
        ClassificationTask.from_json(task.to_json().replace("2.0", '"2"'), "task.json")
    assert make_task().class_weights == ()
    with pytest.raises(UsageError, match="--class_weights is for classes"):
        make_task(class_weights="balanced", regression=True)

    model = make_model()  # its encoder is any
    head = task.make_head(model.config.discriminator)
    hidden, batch = tf.random.stateless_normal([8, 4, 32], [1, 2]), make_batch()
    batch["labels"] = tf.constant([0, 1, 1, 0, 0, 1, 0, 0])
    weighted = head.loss(hidden, batch, None).numpy()
    head.class_weights = ()
    ratio = weighted / head.loss(hidden, batch, None).numpy()
    np.testing.assert_allclose(ratio, np.where(batch["labels"], 2.0, 4 / 6), rtol=1e-5)
