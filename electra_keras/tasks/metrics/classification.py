"""Scores for classification and regression, and which of them each GLUE task reports.

All are fractions, not percentages. Without any example a score is nan.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the share of equal entries.

    Args:
        labels, predictions: [examples], class ids or names.

    Raises:
        ValueError: the two are not one-dimensional or differ in length; so do all functions below.
    """
    labels, predictions = _paired(labels, predictions, dimensions=1)
    return float(np.mean(labels == predictions)) if len(labels) else float("nan")


def f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the F1 of class 1; 0 where there is no true positive.

    Args:
        labels, predictions: [examples], class ids; whatever is not 1 counts as negative.
    """
    labels, predictions = _paired(labels, predictions, dimensions=1)
    return float(_f1(labels == 1, predictions == 1)) if len(labels) else float("nan")


def macro_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the mean over the labels of a multi-label task of each one's F1.

    Args:
        labels, predictions: [examples, labels] of 0 and 1. A label that is never right counts 0,
            also where it appears in neither.
    """
    labels, predictions = _paired(labels, predictions, dimensions=2)
    return float(np.mean(_f1(labels == 1, predictions == 1))) if labels.size else float("nan")


def micro_f1(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the F1 of all decisions of a multi-label task taken together.

    Args:
        labels, predictions: [examples, labels] of 0 and 1.
    """
    labels, predictions = _paired(labels, predictions, dimensions=2)
    return f1(labels.ravel(), predictions.ravel())


def matthews_correlation(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns Matthews' correlation, for any number of classes (R_K of Gorodkin, 2004).

    It is 0, as in scikit-learn and the GLUE evaluation, where labels or predictions have only one
    class.

    Args:
        labels, predictions: [examples], class ids or names.
    """
    labels, predictions = _paired(labels, predictions, dimensions=1)
    if not len(labels):
        return float("nan")
    classes = np.union1d(labels, predictions)
    gold = labels[:, None] == classes
    predicted = predictions[:, None] == classes
    gold_counts, predicted_counts = gold.sum(0), predicted.sum(0)
    total = float(len(labels))  # the product of the spreads would overflow as int64
    right = np.sum(gold & predicted)
    gold_spread = total**2 - gold_counts @ gold_counts
    predicted_spread = total**2 - predicted_counts @ predicted_counts
    if gold_spread == 0 or predicted_spread == 0:
        return 0.0
    covariance = right * total - gold_counts @ predicted_counts
    return float(covariance / np.sqrt(gold_spread * predicted_spread))


def pearson(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the linear correlation; nan where either is constant or holds a nan.

    Args:
        labels, predictions: [examples], numbers.
    """
    labels, predictions = _paired(labels, predictions, dimensions=1)
    labels, predictions = labels.astype(float), predictions.astype(float)
    if not len(labels) or np.all(labels == labels[0]) or np.all(predictions == predictions[0]):
        return float("nan")
    labels = labels - labels.mean()
    predictions = predictions - predictions.mean()
    cosine = (labels / np.linalg.norm(labels)) @ (predictions / np.linalg.norm(predictions))
    return float(np.clip(cosine, -1.0, 1.0))  # rounding may carry it a little beyond


def spearman(labels: ArrayLike, predictions: ArrayLike) -> float:
    """Returns the correlation of the ranks, equal values sharing their average rank.

    nan where either is constant or holds a nan.

    Args:
        labels, predictions: [examples], numbers.
    """
    labels, predictions = _paired(labels, predictions, dimensions=1)
    if np.isnan(labels).any() or np.isnan(predictions).any():
        return float("nan")
    return pearson(_ranks(labels), _ranks(predictions))


METRICS: dict[str, Callable[[ArrayLike, ArrayLike], float]] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "micro_f1": micro_f1,
    "matthews": matthews_correlation,
    "pearson": pearson,
    "spearman": spearman,
}

# What each task reports (Wang et al., 2019, "GLUE", table 1). The first is the one in the ELECTRA
# paper's tables and averages.
GLUE_METRICS: dict[str, tuple[str, ...]] = {
    "CoLA": ("matthews",),
    "SST-2": ("accuracy",),
    "MRPC": ("accuracy", "f1"),
    "STS-B": ("spearman", "pearson"),
    "QQP": ("accuracy", "f1"),
    "MNLI": ("accuracy",),
    "QNLI": ("accuracy",),
    "RTE": ("accuracy",),
    "WNLI": ("accuracy",),
    "AX": ("matthews",),
}


def _f1(gold: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """F1 over the first axis of two boolean arrays: 2 TP / (2 TP + FP + FN), and 0 for 0 / 0."""
    both = np.sum(gold & predicted, axis=0)
    either = np.sum(gold, axis=0) + np.sum(predicted, axis=0)
    return 2 * both / np.maximum(either, 1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """The ranks, from 1, of [examples] numbers; equal ones share their average rank."""
    _, group, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[group]


def _paired(
    labels: ArrayLike, predictions: ArrayLike, dimensions: int
) -> tuple[np.ndarray, np.ndarray]:
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if labels.shape != predictions.shape or labels.ndim != dimensions:
        raise ValueError(
            f"labels and predictions must both be {dimensions}-dimensional and of one shape, "
            f"got {labels.shape} and {predictions.shape}"
        )
    return labels, predictions
