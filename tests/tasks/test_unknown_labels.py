"""Labels and tags that only one part of the data has: known to the task, or errors of the model."""

import numpy as np
import pytest
import seqeval.metrics
import sklearn.metrics

from electra_keras.console import UserError
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.data.examples import TaggedSentence, TextExample
from electra_keras.tasks.options import TaskOptions
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary


def make_tokenizer():
    return Tokenizer(Vocabulary(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]))


OPTIONS = TaskOptions(task="classification")
MULTI = TaskOptions(task="classification", multi_label=True)


def examples_of(*labels):
    return [TextExample(str(i), f"text {i}", None, label) for i, label in enumerate(labels)]


def scores(options, train, gold, outputs):
    """The metrics of outputs [n, labels of the training examples]."""
    task = ClassificationTask.of_data(options, examples_of(*train))
    examples = examples_of(*gold)
    features = {"labels": task._targets(examples)}
    return task, task.evaluate(np.asarray(outputs, np.float32), features, examples)


@pytest.mark.parametrize("seed", range(10))
def test_one_label_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    gold = rng.choice(["a", "b", "c", "rare", "other"], 60).tolist()
    outputs = rng.normal(size=(60, 3))
    task, found = scores(OPTIONS, ["a", "b", "c"], gold, outputs)
    predicted = [task.labels[i] for i in outputs.argmax(axis=1)]
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(gold, predicted))
    assert found["matthews"] == pytest.approx(sklearn.metrics.matthews_corrcoef(gold, predicted))
    # The loss is that of the labels that there is an output for.
    known = [i for i, label in enumerate(gold) if label in task.labels]
    logs = outputs - np.log(np.exp(outputs).sum(axis=1, keepdims=True))
    losses = [-logs[i, task.labels.index(gold[i])] for i in known]
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("seed", range(10))
def test_any_number_of_labels_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    names = np.array(["a", "b", "c", "other", "rare"])
    is_gold = rng.random((40, 5)) < 0.4
    outputs = rng.normal(size=(40, 3))
    gold = [tuple(names[row].tolist()) for row in is_gold]
    _, found = scores(MULTI, [("a",), ("b", "c")], gold, outputs)
    predicted = np.concatenate([outputs > 0, np.zeros((40, 2), bool)], axis=1)
    for average in ("micro", "macro"):
        expected = sklearn.metrics.f1_score(is_gold, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert np.isfinite(found["loss"])


def test_dev_examples_without_any_known_label_have_no_loss():
    _, found = scores(OPTIONS, ["a", "b"], ["x", "y"], np.zeros((2, 2)))
    assert found["accuracy"] == 0 and np.isnan(found["loss"])


def write_table(tmp_path, *labels):
    path = tmp_path / "train.csv"
    rows = [f"text {i},{label}\n" for i, label in enumerate(labels)]
    path.write_text("".join(["text,label\n", *rows]))
    return str(path)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("rare", [0, 7, 19, 39])
def test_the_labels_of_a_file_do_not_depend_on_what_is_held_out(tmp_path, caplog, share, rare):
    labels = ["good", "bad"] * 20
    labels[rare] = "rare"
    path = write_table(tmp_path, *labels)
    options = TaskOptions(task="classification", train_file=path, dev_share=share)
    train, dev = (ClassificationTask.read(options, split) for split in ("train", "dev"))
    task = ClassificationTask.of_data(options, train, dev)
    assert task.labels == ("bad", "good", "rare") and len(train) + len(dev) == 40
    is_held_out = any(example.label == "rare" for example in dev)
    assert ("'rare' (1)" in caplog.text) == is_held_out
    caplog.clear()
    with caplog.at_level("WARNING"):
        assert ClassificationTask.read(options, "dev", task) == dev
    assert not caplog.text


def test_weights_of_classes_are_those_of_the_training_part():
    options = TaskOptions(task="classification", class_weights="balanced")
    train, held_out = examples_of("a", "a", "a", "b"), examples_of("c", "b")
    task = ClassificationTask.of_data(options, train, held_out)
    assert dict(zip(task.labels, task.class_weights, strict=True)) == {"a": 4 / 6, "b": 2, "c": 1}
    options = TaskOptions(task="classification", class_weights="c=3")
    assert ClassificationTask.of_data(options, train, held_out).class_weights == (1, 1, 3)


def test_labels_of_ones_own_are_none_of_glues(tmp_path):
    options = TaskOptions(task="SST-2", train_file=write_table(tmp_path, "0", "1", "good"))
    with pytest.raises(UserError, match=r"SST-2 has no label 'good', only 0, 1; .*classification"):
        ClassificationTask.of_data(options, ClassificationTask.read(options, "train"))


def test_held_out_tags_belong_to_the_task():
    options = TaskOptions(task="tagging", tag_scheme="BIO")
    train = [TaggedSentence("0", ("a",), ("B-X",))]
    held_out = [TaggedSentence("1", ("a",), ("B-Y",))]
    labels = ("O", "B-X", "I-X", "B-Y", "I-Y")
    assert TaggingTask.of_data(options, train, held_out).labels == labels


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("scheme", ["BIO", "BIOES", "plain"])
@pytest.mark.parametrize("seed", range(5))
def test_unknown_tags_equal_seqeval_and_scikit_learn(tmp_path, seed, scheme):
    """Through the file and the arrays, as evaluate has them."""
    rng = np.random.default_rng(seed)
    options = TaskOptions(task="tagging", tag_scheme=scheme, max_seq_length=16)
    kinds = ["O", "B-X", "I-X", "B-NEW", "I-NEW", "B-Z"]
    train = [TaggedSentence("0", ("a",) * 3, ("B-X", "I-X", "O"), scheme)]
    task = TaggingTask.of_data(options, train)
    sentences = [[str(tag) for tag in rng.choice(kinds, 8)] for _ in range(12)]
    sentences[0][:2] = "B-X", "B-NEW"
    path = tmp_path / "dev.conll"
    path.write_text("\n".join("".join(f"a {t}\n" for t in tags) for tags in sentences))
    dev = TaskOptions(task="tagging", dev_file=str(path), tag_scheme=scheme)
    examples = TaggingTask.read(dev, "dev", task)
    features = task.features(examples, make_tokenizer())
    assert (features["labels"] >= 0).sum() < features["is_word"].sum() == 12 * 8
    outputs = rng.normal(size=(*features["is_word"].shape, len(task.labels))).astype(np.float32)
    found = task.evaluate(outputs, features, examples)
    predicted = [tags for tags, _ in task.predicted_tags(outputs, features, len(examples))]
    flat = [[tag for tags in side for tag in tags] for side in (sentences, predicted)]
    if scheme == "plain":
        expected = sklearn.metrics.f1_score(*flat, average="macro", zero_division=0)
        assert found["macro_f1"] == pytest.approx(100 * expected)
        assert found["accuracy"] == pytest.approx(100 * sklearn.metrics.accuracy_score(*flat))
    else:
        gold = [task._learned(example.tags) for example in examples]
        for name in ("f1", "recall", "precision"):
            expected = getattr(seqeval.metrics, f"{name}_score")(gold, predicted)
            assert found[name] == pytest.approx(100 * expected)
