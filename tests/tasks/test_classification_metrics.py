import math

import numpy as np
import pytest
from scipy import stats

from electra_keras.tasks.metrics.classification import (
    GLUE_METRICS,
    METRICS,
    accuracy,
    f1,
    macro_f1,
    matthews_correlation,
    micro_f1,
    pearson,
    spearman,
)


def random_classes(seed, classes):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, 50)
    return labels, np.where(rng.random(50) < 0.6, labels, rng.integers(0, classes, 50))


def test_accuracy():
    assert accuracy([0, 1, 2, 2], [0, 1, 2, 1]) == 3 / 4
    assert accuracy(["yes", "no"], ["no", "no"]) == 1 / 2


def test_f1_is_that_of_class_1():
    # 2 true positives, 1 false positive, 1 false negative; 0 and 2 are both negative.
    assert f1([1, 1, 1, 0, 0, 2], [1, 1, 0, 1, 2, 0]) == 2 * 2 / (2 * 2 + 1 + 1)


@pytest.mark.parametrize(
    ("labels", "predictions", "expected"),
    [([0, 0], [0, 0], 0.0), ([1, 1], [0, 0], 0.0), ([0, 0], [1, 1], 0.0), ([1, 1], [1, 1], 1.0)],
)
def test_f1_of_one_class(labels, predictions, expected):
    assert f1(labels, predictions) == expected


def test_multilabel_f1():
    labels = [[1, 0, 0], [1, 1, 0], [0, 1, 0]]
    predictions = [[1, 0, 0], [1, 0, 0], [1, 1, 0]]
    # Label 0: 2 right, 1 false positive. Label 1: 1 right, 1 missed. Label 2: never used, counts 0.
    assert macro_f1(labels, predictions) == pytest.approx((4 / 5 + 2 / 3 + 0) / 3, abs=1e-15)
    assert micro_f1(labels, predictions) == 2 * 3 / (2 * 3 + 1 + 1)


def test_matthews_of_two_classes_is_the_phi_coefficient():
    labels, predictions = random_classes(1, 2)
    tp, tn = np.sum(labels & predictions), np.sum((1 - labels) & (1 - predictions))
    fp, fn = np.sum((1 - labels) & predictions), np.sum(labels & (1 - predictions))
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert matthews_correlation(labels, predictions) == pytest.approx(expected, abs=1e-15)
    assert matthews_correlation(labels, 1 - predictions) == pytest.approx(-expected, abs=1e-15)


def test_matthews_of_many_classes_is_the_covariance_of_the_indicators():
    labels, predictions = random_classes(2, 4)

    def covariance(a, b):
        a, b = np.eye(4)[a], np.eye(4)[b]
        return np.sum((a - a.mean(0)) * (b - b.mean(0)))

    expected = covariance(labels, predictions) / math.sqrt(
        covariance(labels, labels) * covariance(predictions, predictions)
    )
    assert matthews_correlation(labels, predictions) == pytest.approx(expected, abs=1e-14)
    names = np.array(["c", "a", "d", "b"])
    assert matthews_correlation(names[labels], names[predictions]) == pytest.approx(expected)


def test_matthews_is_zero_where_there_is_one_class():
    assert matthews_correlation([0, 1, 1], [1, 1, 1]) == 0.0
    assert matthews_correlation([1, 1, 1], [0, 1, 1]) == 0.0
    assert matthews_correlation([1, 1], [1, 1]) == 0.0


def test_matthews_does_not_overflow():
    labels = np.arange(300_000) % 2  # QQP has 360,000 pairs; the squares multiply to 2e21
    assert matthews_correlation(labels, labels) == 1.0


@pytest.mark.parametrize("decimals", [0, 1, 8])  # with 0 and 1 there are ties
@pytest.mark.parametrize("ours, scipys", [(pearson, stats.pearsonr), (spearman, stats.spearmanr)])
def test_correlations_equal_scipys(ours, scipys, decimals):
    rng = np.random.default_rng(3)
    labels = np.round(rng.uniform(0, 5, 60), decimals)
    predictions = np.round(labels + rng.normal(0, 2, 60), decimals)
    assert ours(labels, predictions) == pytest.approx(scipys(labels, predictions)[0], abs=1e-14)
    assert ours(labels, -labels) == pytest.approx(-1.0, abs=1e-14)


def test_spearman_averages_the_ranks_of_ties():
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, squared deviations 4.5 and 5.
    assert spearman([10, 20, 20, 90], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


@pytest.mark.parametrize("correlation", [pearson, spearman])
def test_correlations_are_nan_without_spread(correlation):
    assert math.isnan(correlation([1.0, 2.0, 3.0], [0.1, 0.1, 0.1]))
    assert math.isnan(correlation([4, 4], [1.0, 2.0]))
    assert math.isnan(correlation([1.0], [1.0]))
    assert math.isnan(correlation([1.0, 2.0, 3.0], [1.0, math.nan, 2.0]))


@pytest.mark.parametrize("name", METRICS)
def test_without_examples_every_score_is_nan(name):
    empty = np.zeros((0, 3)) if name in ("macro_f1", "micro_f1") else []
    assert math.isnan(METRICS[name](empty, empty))


@pytest.mark.parametrize("name", METRICS)
def test_shapes_must_fit(name):
    shape = (2, 3) if name in ("macro_f1", "micro_f1") else (6,)
    labels = np.arange(6).reshape(shape) % 2
    METRICS[name](labels, labels)
    with pytest.raises(ValueError, match="one shape"):
        METRICS[name](labels, labels[:1])
    with pytest.raises(ValueError, match="-dimensional"):  # [6, 1] and [6] would broadcast
        METRICS[name](labels[..., None], labels[..., None])


def test_glue_tasks_report_known_metrics():
    assert {name for names in GLUE_METRICS.values() for name in names} <= set(METRICS)
    assert GLUE_METRICS["STS-B"][0] == "spearman"
    assert GLUE_METRICS["CoLA"] == GLUE_METRICS["AX"] == ("matthews",)
