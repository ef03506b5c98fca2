import random
import re
from itertools import accumulate

import pytest

from electra_keras.tasks.metrics.squad import (
    evaluate_mrqa,
    evaluate_v1,
    evaluate_v2,
    normalize_answer,
)

WORDS = ["the", "The", "a", "an", "fox", "Fox!", "lazy", "dog", "dog's", "--", "é", "1,000", "sun"]


def dataset(golds):
    """The `data` part of a SQuAD file, two questions a paragraph, one paragraph an article."""
    questions = [
        {"id": question, "answers": [{"text": text, "answer_start": 0} for text in texts]}
        for question, texts in golds.items()
    ]
    pairs = [questions[i : i + 2] for i in range(0, len(questions), 2)]
    return [{"title": "", "paragraphs": [{"context": "", "qas": pair}]} for pair in pairs]


def random_case(seed, size=300, unanswerable=0.4):
    """Gold answers, predictions that often overlap with them, and no-answer scores with ties."""
    rng = random.Random(seed)

    def text(low):
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(low, 7)))

    golds = {
        f"q{i}": [] if rng.random() < unanswerable else [text(1) for _ in range(rng.randint(1, 4))]
        for i in range(size)
    }
    predictions = {
        question: rng.choice([text(0), *texts, "".join(texts[:1]) + " sun"])
        for question, texts in golds.items()
    }
    order = rng.sample(sorted(golds), size)
    na_probs = {
        question: rng.choice([round(rng.random(), 1), rng.gauss(-1.5 * bool(golds[question]), 1)])
        for question in order
    }
    return golds, predictions, na_probs


# The definition, written down a second time and without regard to speed.


def words(text):
    kept = "".join(c for c in text.lower() if not (c.isascii() and re.match(r"[^\w\s]|_", c)))
    return [word for word in re.split(r"\s+", kept) if word not in ("", "a", "an", "the")]


def overlap(gold, prediction):
    left, same = words(gold), 0
    for word in words(prediction):
        if word in left:
            left.remove(word)
            same += 1
    if not same:
        return 0
    precision, recall = same / len(words(prediction)), same / len(words(gold))
    return 2 * precision * recall / (precision + recall)


def exact_v1(gold, prediction):
    return int(words(gold) == words(prediction))


def f1_v2(gold, prediction):
    return overlap(gold, prediction) or int(not words(gold) and not words(prediction))


def naive_v1(golds, predictions):
    figures = {}
    for name, score in (("exact_match", exact_v1), ("f1", overlap)):
        total = 0
        for question, texts in golds.items():
            total += max(score(text, predictions[question]) for text in texts)
        figures[name] = 100.0 * total / len(golds)
    return figures


def naive_v2(golds, predictions, na_probs, threshold):
    figures = {}
    groups = {
        "": list(golds),
        "HasAns_": [question for question in golds if golds[question]],
        "NoAns_": [question for question in golds if not golds[question]],
    }
    for name, score in (("exact", exact_v1), ("f1", f1_v2)):
        raw = {}
        for question, texts in golds.items():
            texts = [text for text in texts if words(text)] or [""]
            raw[question] = max(score(text, predictions[question]) for text in texts)
        kept = {
            question: float(not golds[question])
            if na_probs[question] > threshold
            else raw[question]
            for question in golds
        }
        for prefix, questions in groups.items():
            figures[f"{prefix}total"] = len(questions)
            total = sum(kept[question] for question in questions)
            figures[f"{prefix}{name}"] = 100.0 * total / len(questions)
        order = sorted(na_probs, key=na_probs.get)
        gains = [raw[q] if golds[q] else -bool(predictions[q]) for q in order]
        totals = list(accumulate(gains, initial=len(groups["NoAns_"])))
        best = totals.index(max(totals))
        figures[f"best_{name}"] = 100.0 * totals[best] / len(golds)
        figures[f"best_{name}_thresh"] = na_probs[order[best - 1]] if best else 0.0
    return figures


@pytest.mark.parametrize("seed", range(5))
def test_v1_equals_the_definition_to_the_last_digit(seed):
    golds, predictions, _ = random_case(seed, unanswerable=0)
    result = evaluate_v1(dataset(golds), predictions)
    assert result == naive_v1(golds, predictions) | {"total": 300, "missing": 0}
    assert 0 < result["exact_match"] < result["f1"] < 100
    assert evaluate_mrqa(golds, predictions) == result


@pytest.mark.parametrize("threshold", [-2.75, -0.7, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_v2_equals_the_definition_to_the_last_digit(seed, threshold):
    golds, predictions, na_probs = random_case(seed)
    result = evaluate_v2(dataset(golds), predictions, na_probs, threshold)
    assert result == naive_v2(golds, predictions, na_probs, threshold) | {"missing": 0}
    assert result["best_f1"] > result["NoAns_total"] / 3  # that is, better than no answer to any
    assert result["best_exact_thresh"] != 0.0


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("  The Cat's\tan APPLE-tree! ", "cats appletree"),
        ("a.b and the_end", "ab and theend"),  # punctuation goes first, without leaving a space
        ("another theatre", "another theatre"),
        ("«the» “a”", "« » “ ”"),  # only ASCII punctuation goes, and an article leaves a space
        ("aé thé", "aé thé"),  # é is a letter, so these are no articles
        ("10\u00a0000\u2003km", "10 000 km"),
        ("The a an", ""),
    ],
)
def test_normalize_answer(text, normalized):
    assert normalize_answer(text) == normalized


def test_f1_by_hand():
    # Two words in common, of four predicted and of three in the gold answer.
    scores = evaluate_mrqa({"q": ["the quick brown fox"]}, {"q": "quick fox, jumped high"})
    assert scores["f1"] == pytest.approx(100 * 2 * 2 / (4 + 3), abs=1e-12)
    # A word counts as often as it appears in both: once of two and of three times.
    scores = evaluate_mrqa({"q": ["bye bye love"]}, {"q": "bye bye bye"})
    assert scores["f1"] == pytest.approx(100 * 2 * 2 / (3 + 3), abs=1e-12)


def test_the_best_gold_answer_counts_for_each_figure():
    scores = evaluate_mrqa({"q": ["x", "one two three", "one"]}, {"q": "one two"})
    assert scores == {"exact_match": 0.0, "f1": pytest.approx(80.0), "total": 1, "missing": 0}


def test_empty_normalized_answers():
    # v1.1 finds no common word; v2.0 drops such a gold answer, and then both say "no answer".
    assert evaluate_mrqa({"q": ["The"]}, {"q": "a"})["f1"] == 0.0
    assert evaluate_mrqa({"q": ["The"]}, {"q": "a"})["exact_match"] == 100.0
    scores = evaluate_v2(dataset({"q": ["The"]}), {"q": "a"})
    assert (scores["HasAns_exact"], scores["HasAns_f1"]) == (100.0, 100.0)
    scores = evaluate_v2(dataset({"q": ["The", "fox"]}), {"q": "a"})
    assert (scores["exact"], scores["f1"]) == (0.0, 0.0)


def test_v2_by_hand():
    golds = {"right": ["x"], "wrong": ["y"], "none": [], "answered": []}
    predictions = {"right": "x", "wrong": "z", "none": "", "answered": "z"}
    na_probs = {"right": 0.1, "wrong": 0.5, "none": 0.9, "answered": 0.7}
    scores = evaluate_v2(dataset(golds), predictions, na_probs, threshold=0.5)
    # Above 0.5, so unanswered: the last two, both rightly. The best threshold is 0.1: a higher one
    # gains nothing more.
    assert scores == {
        **{"exact": 75.0, "f1": 75.0, "total": 4},
        **{"HasAns_exact": 50.0, "HasAns_f1": 50.0, "HasAns_total": 2},
        **{"NoAns_exact": 100.0, "NoAns_f1": 100.0, "NoAns_total": 2},
        **{"best_exact": 75.0, "best_exact_thresh": 0.1},
        **{"best_f1": 75.0, "best_f1_thresh": 0.1},
        "missing": 0,
    }
    assert evaluate_v2(dataset(golds), predictions, na_probs)["exact"] == 50.0


@pytest.mark.parametrize("na_prob", [-3.0, 3.0])
def test_the_best_threshold_is_zero_where_no_answer_at_all_is_best(na_prob):
    golds, predictions = {"q": ["x"], "r": []}, {"q": "y", "r": "y"}
    scores = evaluate_v2(dataset(golds), predictions, dict.fromkeys(golds, na_prob))
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (50.0, 0.0)


def test_without_na_probs_there_is_no_best_threshold():
    scores = evaluate_v2(dataset({"q": ["x"], "r": []}), {"q": "x", "r": ""})
    assert scores["exact"] == 100.0
    assert not [name for name in scores if name.startswith("best")]
    # As in the script, all are then 0, and a threshold below that leaves all unanswered.
    assert evaluate_v2(dataset({"q": ["x"]}), {"q": "x"}, threshold=-0.1)["exact"] == 0.0


def test_groups_without_a_question_are_left_out():
    scores = evaluate_v2(dataset({"q": ["x"]}), {"q": "x"})
    assert "HasAns_total" in scores and "NoAns_total" not in scores


def test_missing_predictions():
    golds, predictions, na_probs = random_case(9, unanswerable=0.4)
    kept = {question: predictions[question] for question in list(golds)[::3]}
    # v2.0: as if the data did not hold them. Ids that it does not hold are ignored.
    result = evaluate_v2(dataset(golds), kept | {"other": "x"}, na_probs | {"more": -9.0})
    part = {question: golds[question] for question in kept}
    expected = evaluate_v2(dataset(part), kept, {q: p for q, p in na_probs.items() if q in kept})
    assert result == expected | {"missing": 200}
    # v1.1: they score 0.
    golds = {question: texts for question, texts in golds.items() if texts}
    result = evaluate_v1(dataset(golds), kept)
    expected = naive_v1(golds, dict.fromkeys(golds, "zebra") | kept)
    assert result == expected | {"total": len(golds), "missing": len(golds.keys() - kept.keys())}


@pytest.mark.parametrize(
    ("golds", "predictions", "na_probs", "message"),
    [
        ({"q": ["x"]}, {"q": None}, None, "prediction for question q is no text but None"),
        ({"q": ["x"]}, {"r": "x"}, None, "no question has a prediction"),
        ({"q": ["x"]}, {"q": "x"}, {"r": 0.0}, "question q has a prediction but no no-answer"),
        ({}, {}, None, "no question has a prediction"),
    ],
)
def test_v2_errors(golds, predictions, na_probs, message):
    with pytest.raises(ValueError, match=message):
        evaluate_v2(dataset(golds), predictions, na_probs)


def test_v1_errors():
    with pytest.raises(ValueError, match="question q has no gold answer"):
        evaluate_v1(dataset({"q": []}), {"q": "x"})
    with pytest.raises(ValueError, match="prediction for question q is no text but 7"):
        evaluate_v1(dataset({"q": ["x"]}), {"q": 7})
    with pytest.raises(ValueError, match="no question to score"):
        evaluate_v1([], {})
