"""Question answering: exact match and F1 as the official evaluation scripts compute them.

The sources are SQuAD's evaluate-v1.1.py (Rajpurkar et al., 2016) and evaluate-v2.0.py (Rajpurkar et
al., 2018), and the MRQA 2019 shared task's, which follows the first. All figures are percentages, and
equal the scripts' to the last digit; for that the order and the kind of the sums below matter: the
built-in sum() of Python 3.12 rounds less than `+=`, and treats int and float differently.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only


def normalize_answer(text: str) -> str:
    """Returns `text` in lower case, without punctuation and articles, with single spaces."""
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def evaluate_v1(data: Sequence[dict[str, Any]], predictions: Mapping[str, str]) -> dict[str, float]:
    """Scores answers to SQuAD 1.1 questions.

    Args:
        data: the list of articles, `json.load(file)["data"]`.
        predictions: question id -> answer. Ids that are not in `data` are ignored.

    Returns:
        `exact_match`, `f1`, and beyond the script's: `total`, the number of questions, and `missing`,
        how many of them have no prediction; those score 0.

    Raises:
        ValueError: there is no question, a question has no gold answer, or a prediction is no text.
    """
    return _evaluate_answerable(_questions(data), predictions)


def evaluate_mrqa(
    answers: Mapping[str, Sequence[str]], predictions: Mapping[str, str]
) -> dict[str, float]:
    """Scores answers by the rules of SQuAD 1.1; as `evaluate_v1`, with question id -> gold answers."""
    return _evaluate_answerable(answers.items(), predictions)


def evaluate_v2(
    data: Sequence[dict[str, Any]],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None = None,
    threshold: float = 1.0,
) -> dict[str, float]:
    """Scores answers to SQuAD 2.0 questions, some of which have none.

    Args:
        data: the list of articles, `json.load(file)["data"]`.
        predictions: question id -> answer, "" for none. Ids that are not in `data` are ignored.
        na_probs: question id -> how sure the model is that there is no answer: a probability, or any
            other number that grows with it, such as ELECTRA's null odds. Without it, 0 for all.
        threshold: an `na_probs` above it makes the prediction "no answer".

    Returns:
        With that threshold: `exact`, `f1`, `total`, and the same for the questions that have an answer,
        `HasAns_exact` ..., and those that have none, `NoAns_exact` ... With `na_probs` also
        `best_exact`, `best_f1`, the scores with the best of all thresholds, which saw the gold answers,
        and those thresholds, `best_exact_thresh`, `best_f1_thresh`. As in the script the latter are 0
        where answering nothing is best, and equal `na_probs` are swept in the order they come in, as if
        a threshold could part them. Last `missing`: the number of questions without a prediction. They
        are left out of all the other figures; the script, too, skips them at first but then fails.

    Raises:
        ValueError: no question has a prediction, one of those has no `na_probs`, or is no text.
    """
    has_answer: dict[str, bool] = {}
    exact: dict[str, float] = {}
    f1: dict[str, float] = {}
    missing = 0
    for question, golds in _questions(data):
        if question not in predictions:
            missing += 1
            continue
        if na_probs is not None and question not in na_probs:
            raise ValueError(f"question {question} has a prediction but no no-answer probability")
        prediction = _normalized_prediction(predictions, question)
        has_answer[question] = bool(golds)
        # A gold answer that is only punctuation or an article counts as none.
        golds = [gold for gold in map(normalize_answer, golds) if gold] or [""]
        exact[question] = max(int(gold == prediction) for gold in golds)
        f1[question] = max(_f1_or_both_empty(gold, prediction) for gold in golds)
    if not exact:
        raise ValueError("no question has a prediction")

    probs = dict.fromkeys(exact, 0.0) if na_probs is None else na_probs
    scores = [_at_threshold(raw, probs, has_answer, threshold) for raw in (exact, f1)]
    result = _averages(*scores, list(has_answer))
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        questions = [question for question, has in has_answer.items() if has == wanted]
        if questions:
            part = _averages(*scores, questions)
            result |= {f"{prefix}_{name}": value for name, value in part.items()}
    if na_probs is not None:
        for name, raw in (("exact", exact), ("f1", f1)):
            best, best_threshold = _best_threshold(raw, predictions, na_probs, has_answer)
            result |= {f"best_{name}": best, f"best_{name}_thresh": best_threshold}
    return result | {"missing": missing}


def _evaluate_answerable(
    questions: Iterable[tuple[str, Sequence[str]]], predictions: Mapping[str, str]
) -> dict[str, float]:
    exact = f1 = total = missing = 0
    for question, golds in questions:
        total += 1
        if question not in predictions:
            missing += 1
            continue
        if not golds:
            raise ValueError(f"question {question} has no gold answer")
        prediction = _normalized_prediction(predictions, question)
        golds = [normalize_answer(gold) for gold in golds]
        exact += max(gold == prediction for gold in golds)
        f1 += max(_f1(gold, prediction) for gold in golds)
    if not total:
        raise ValueError("there is no question to score")
    return {
        "exact_match": 100.0 * exact / total,
        "f1": 100.0 * f1 / total,
        "total": total,
        "missing": missing,
    }


def _questions(data: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yields the id and the gold answers of every question, in the order of the file."""
    for article in data:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield question["id"], [answer["text"] for answer in question["answers"]]


def _normalized_prediction(predictions: Mapping[str, str], question: str) -> str:
    prediction = predictions[question]
    if not isinstance(prediction, str):
        raise ValueError(f"the prediction for question {question} is no text but {prediction!r}")
    return normalize_answer(prediction)


def _f1(gold: str, prediction: str) -> float:
    """F1 of two normalized answers as bags of words; 0 without a common one, also if both are empty."""
    gold_words, predicted_words = gold.split(), prediction.split()
    common = sum((Counter(gold_words) & Counter(predicted_words)).values())
    if not common:
        return 0
    precision = common / len(predicted_words)
    recall = common / len(gold_words)
    return (2 * precision * recall) / (precision + recall)


def _f1_or_both_empty(gold: str, prediction: str) -> float:
    """As `_f1`, but 1 if both are empty: then they agree that there is no answer."""
    return _f1(gold, prediction) if gold and prediction else int(gold == prediction)


def _at_threshold(
    scores: Mapping[str, float],
    na_probs: Mapping[str, float],
    has_answer: Mapping[str, bool],
    threshold: float,
) -> dict[str, float]:
    """The scores if questions whose `na_probs` is above the threshold are not answered."""
    return {
        question: float(not has_answer[question]) if na_probs[question] > threshold else score
        for question, score in scores.items()
    }


def _averages(
    exact: Mapping[str, float], f1: Mapping[str, float], questions: Sequence[str]
) -> dict[str, float]:
    return {
        "exact": 100.0 * sum(exact[question] for question in questions) / len(questions),
        "f1": 100.0 * sum(f1[question] for question in questions) / len(questions),
        "total": len(questions),
    }


def _best_threshold(
    scores: Mapping[str, float],
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float],
    has_answer: Mapping[str, bool],
) -> tuple[float, float]:
    """The best average score, in percent, over all thresholds, and the first threshold that gives it.

    Begins with no question answered, and answers one more at a time, the surest first.
    """
    score = best = sum(not has for has in has_answer.values())
    best_threshold = 0.0
    for question in sorted(na_probs, key=lambda question: na_probs[question]):
        if question not in scores:
            continue
        if has_answer[question]:
            score += scores[question]
        elif predictions[question]:
            score -= 1
        if score > best:
            best, best_threshold = score, na_probs[question]
    return 100.0 * best / len(scores), best_threshold
