import math
import random

import pytest

from electra_keras.tasks.metrics.tagging import (
    SCHEMES,
    chunks,
    convert_tags,
    evaluate_labels,
    evaluate_tags,
    evaluate_tags_by_type,
)


def tags(text):
    return text.split()


# The same chunks in every scheme; neighbours of one type (0 to 3) and of two (4 to 6).
SAME = {
    "IOB1": tags("I-P I-P B-P O I-L I-P O I-L I-L I-L"),
    "BIO": tags("B-P I-P B-P O B-L B-P O B-L I-L I-L"),
    "BIOES": tags("B-P E-P S-P O S-L S-P O B-L I-L E-L"),
}
SAME_CHUNKS = [("P", 0, 2), ("P", 2, 3), ("L", 4, 5), ("P", 5, 6), ("L", 7, 10)]


def random_tag(rng, prefixes, types):
    return "O" if rng.random() < 0.3 else f"{rng.choice(prefixes)}-{rng.choice(types)}"


def random_sentences(rng, prefixes, types=("A", "B-C")):
    return [[random_tag(rng, prefixes, types) for _ in range(rng.randint(0, 9))] for _ in range(30)]


def naive_counts(gold, predicted):
    """conlleval.pl as its author describes it: one pass over both columns, at most one chunk open.

    Whether a chunk ends or starts between two tokens is a table of the prefixes of their tags, and
    follows from a change of the type. A blank line counts as a token outside.
    """
    ends, starts = set(tags("BB BO IB IO EE EI EO")), set(tags("BB IB OB OI EE EI OE"))

    def boundary(last, now):
        (a, _, last_type), (b, _, now_type) = last.partition("-"), now.partition("-")
        change = last_type != now_type
        return (a + b in ends or (a != "O" and change), a + b in starts or (b != "O" and change))

    counts = {"gold": 0, "predicted": 0, "correct": 0}
    last_gold, last_predicted, both_open = "O", "O", False
    for gold_tags, predicted_tags in zip(gold, predicted, strict=True):
        for g, p in zip([*gold_tags, "O"], [*predicted_tags, "O"], strict=True):
            (gold_ends, gold_starts) = boundary(last_gold, g)
            (predicted_ends, predicted_starts) = boundary(last_predicted, p)
            counts["correct"] += both_open and gold_ends and predicted_ends
            both_open = both_open and not gold_ends and not predicted_ends
            if gold_starts and predicted_starts and g.partition("-")[2] == p.partition("-")[2]:
                both_open = True
            counts["gold"] += gold_starts
            counts["predicted"] += predicted_starts
            last_gold, last_predicted = g, p
    return counts


@pytest.mark.parametrize("types", [("A",), ("A", "B-C")])
@pytest.mark.parametrize("prefixes", ["I", "BI", "IE"])  # the tags that conlleval.pl knows
def test_counts_are_those_of_conlleval(prefixes, types):
    rng = random.Random(5)
    for _ in range(30):
        gold = random_sentences(rng, prefixes, types)
        predicted = [
            [tag if rng.random() < 0.6 else random_tag(rng, prefixes, types) for tag in sentence]
            for sentence in gold
        ]
        scores = evaluate_tags(gold, predicted)
        counts = naive_counts(gold, predicted)
        assert {name: scores[name] for name in counts} == counts
        assert 0 < counts["correct"] < counts["predicted"]


def test_scores_by_hand():
    gold = [tags("B-P I-P O B-L"), tags("B-P O O B-M")]
    predicted = [tags("B-P I-P O B-P"), tags("B-P I-P O O")]
    # Found 3 of 4; right only the first: the second has the wrong type, the third the wrong end.
    assert evaluate_tags(gold, predicted) == {
        **{"accuracy": 100 * 5 / 8, "precision": pytest.approx(100 / 3), "recall": 25.0},
        **{"f1": pytest.approx(200 / (3 + 4)), "gold": 4, "predicted": 3, "correct": 1},
    }
    nothing = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "gold": 1, "predicted": 0, "correct": 0}
    by_type = evaluate_tags_by_type(gold, predicted)
    assert list(by_type) == ["L", "M", "P"]
    assert by_type["L"] == by_type["M"] == nothing
    assert by_type["P"] == {
        **{"precision": pytest.approx(100 / 3), "recall": 50.0, "f1": pytest.approx(40.0)},
        **{"gold": 2, "predicted": 3, "correct": 1},
    }


def test_a_chunk_does_not_reach_into_the_next_sentence():
    gold = [["B-P"], ["I-P"]]
    assert evaluate_tags(gold, gold)["gold"] == 2
    assert evaluate_tags(gold, [["O"], ["I-P"]])["correct"] == 1


def test_nothing_to_find():
    scores = evaluate_tags([["O", "O"], []], [["O", "O"], []])
    assert scores["accuracy"] == 100.0
    assert scores["precision"] == scores["recall"] == scores["f1"] == 0.0
    assert math.isnan(evaluate_tags([], [])["accuracy"])
    assert evaluate_tags_by_type([["O"]], [["O"]]) == {}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_chunks_of_every_scheme(scheme):
    assert chunks(SAME[scheme]) == SAME_CHUNKS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("O I-P I-L", [("P", 1, 2), ("L", 2, 3)]),  # no B: still a start, and another type one too
        ("B-P I-L", [("P", 0, 1), ("L", 1, 2)]),
        ("I-P E-P I-P E-P", [("P", 0, 2), ("P", 2, 4)]),  # IOE2
        ("B-P E-P B-P E-P", [("P", 0, 2), ("P", 2, 4)]),
        ("S-P S-P I-P", [("P", 0, 1), ("P", 1, 2), ("P", 2, 3)]),
        ("B-P S-P E-P", [("P", 0, 1), ("P", 1, 2), ("P", 2, 3)]),
        ("B-P O E-P", [("P", 0, 1), ("P", 2, 3)]),
        ("B I O I", [("", 0, 2), ("", 3, 4)]),  # without types
        ("B-a-b I-a-b I-a-c", [("a-b", 0, 2), ("a-c", 2, 3)]),  # the first hyphen parts them
        ("", []),
    ],
)
def test_chunks(text, expected):
    assert chunks(tags(text)) == expected


@pytest.mark.parametrize("target", SCHEMES)
@pytest.mark.parametrize("source", SCHEMES)
def test_convert_tags(source, target):
    assert convert_tags(SAME[source], target) == SAME[target]
    assert convert_tags([], target) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_conversion_keeps_the_chunks_of_any_sequence(scheme):
    rng = random.Random(4)
    for sentence in random_sentences(rng, "BIES") + random_sentences(rng, "BIES", types=("A",)):
        converted = convert_tags(sentence, scheme)
        assert chunks(converted) == chunks(sentence)
        assert [tag == "O" for tag in converted] == [tag == "O" for tag in sentence]


def test_conversion_without_types():
    assert convert_tags(tags("I I B O"), "BIOES") == tags("B E S O")


@pytest.mark.parametrize("tag", ["X-P", "P", "o", "O-P", "", "BI-P", "U-P"])
def test_unknown_tags(tag):
    with pytest.raises(ValueError, match=f"unknown tag '{tag}'"):
        chunks(["B-P", tag])


def test_errors():
    with pytest.raises(ValueError, match="unknown tagging scheme 'IOB2': choose from IOB1, BIO"):
        convert_tags(["O"], "IOB2")
    with pytest.raises(ValueError, match="2 sentences with gold tags, but 1 predicted"):
        evaluate_tags([["O"], ["O"]], [["O"]])
    with pytest.raises(ValueError, match="sentence 2 has 1 gold tags, but 2 predicted"):
        evaluate_tags_by_type([["O"], ["O"]], [["O"], ["O", "O"]])


def test_scores_of_plain_labels():
    gold = [["N", "V", "N"], ["D"]]
    scores = evaluate_labels(gold, [["N", "N", "N"], ["X"]])
    # N: 2 * 2 / (2 + 3); V, D and X, which only the prediction has, are never right.
    assert scores == {"accuracy": 50.0, "macro_f1": pytest.approx(100 * 0.8 / 4)}
    assert evaluate_labels(gold, gold) == {"accuracy": 100.0, "macro_f1": 100.0}
    assert math.isnan(evaluate_labels([[]], [[]])["macro_f1"])
    with pytest.raises(ValueError, match="sentence 2 has 1 gold tags, but 0 predicted"):
        evaluate_labels(gold, [["N", "N", "N"], []])
