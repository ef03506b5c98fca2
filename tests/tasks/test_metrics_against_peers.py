"""Scores against seqeval and scikit-learn on random predictions."""

import warnings

import numpy as np
import pytest
import seqeval.metrics
import seqeval.scheme
import sklearn.metrics as peers

from electra_keras.tasks.metrics import classification as ours
from electra_keras.tasks.metrics.tagging import (
    convert_tags,
    evaluate_labels,
    evaluate_tags,
    evaluate_tags_by_type,
)

# They warn of 0 / 0, which they and we call 0.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def random_tags(rng, tags):
    return [list(rng.choice(tags, rng.integers(1, 12))) for _ in range(rng.integers(1, 20))]


@pytest.mark.parametrize("seed", range(30))
def test_chunks_equal_seqevals_on_any_sequence(seed):
    """Its default mode is conlleval's: sequences that no scheme allows are chunks, too."""
    rng = np.random.default_rng(seed)
    tags = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    gold = random_tags(rng, tags)
    predicted = [
        [str(rng.choice(tags)) if rng.random() < 0.4 else str(tag) for tag in sentence]
        for sentence in gold
    ]
    gold = [[str(tag) for tag in sentence] for sentence in gold]
    found = evaluate_tags(gold, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, peer in (
            ("precision", seqeval.metrics.precision_score),
            ("recall", seqeval.metrics.recall_score),
            ("f1", seqeval.metrics.f1_score),
            ("accuracy", seqeval.metrics.accuracy_score),
        ):
            assert found[name] == pytest.approx(100 * peer(gold, predicted)), name
        report = seqeval.metrics.classification_report(gold, predicted, output_dict=True)
    for kind, scores in evaluate_tags_by_type(gold, predicted).items():
        if kind in report:  # seqeval leaves out types that are predicted only
            assert scores["f1"] == pytest.approx(100 * report[kind]["f1-score"])
            assert scores["gold"] == report[kind]["support"]


@pytest.mark.parametrize("seed", range(20))
def test_chunks_equal_seqevals_under_each_scheme(seed):
    """Strict mode on well-formed tags."""
    rng = np.random.default_rng(seed)
    sentences = random_tags(rng, ["O", "B-X", "B-Y"])
    gold = [convert_tags([str(t) for t in sentence], "BIO") for sentence in sentences]
    predicted = [[str(rng.choice([tag, "O"])) for tag in sentence] for sentence in gold]
    for scheme, peer in (("BIO", seqeval.scheme.IOB2), ("BIOES", seqeval.scheme.IOBES)):
        converted = [[convert_tags(s, scheme) for s in side] for side in (gold, predicted)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = seqeval.metrics.f1_score(*converted, mode="strict", scheme=peer)
        assert evaluate_tags(*converted)["f1"] == pytest.approx(100 * expected)


@pytest.mark.parametrize("seed", range(10))
def test_plain_labels_equal_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    gold, predicted = (rng.choice(["N", "V", "ADJ", "X"][: 2 + seed % 3], 50) for _ in range(2))
    found = evaluate_labels([gold[:20], gold[20:]], [predicted[:20], predicted[20:]])
    assert found["accuracy"] == pytest.approx(100 * peers.accuracy_score(gold, predicted))
    macro = peers.f1_score(gold, predicted, average="macro")
    assert found["macro_f1"] == pytest.approx(100 * macro)


@pytest.mark.parametrize("seed", range(10))
def test_classification_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 6))
    gold, predicted = rng.integers(0, classes, (2, 60))
    assert ours.accuracy(gold, predicted) == pytest.approx(peers.accuracy_score(gold, predicted))
    assert ours.matthews_correlation(gold, predicted) == pytest.approx(
        peers.matthews_corrcoef(gold, predicted)
    )
    gold, predicted = rng.integers(0, 2, (2, 40))
    assert ours.f1(gold, predicted) == pytest.approx(peers.f1_score(gold, predicted))
    gold, predicted = rng.integers(0, 2, (2, 40, 5))
    for name in ("micro", "macro"):
        expected = peers.f1_score(gold, predicted, average=name, zero_division=0)
        assert getattr(ours, f"{name}_f1")(gold, predicted) == pytest.approx(expected)


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_predictions_equal_scikit_learn(constant):
    gold = np.array([0, 1, 1, 0, 1])
    predicted = np.full(5, constant)
    assert ours.f1(gold, predicted) == pytest.approx(
        peers.f1_score(gold, predicted, zero_division=0)
    )
    assert (
        ours.matthews_correlation(gold, predicted) == peers.matthews_corrcoef(gold, predicted) == 0
    )
