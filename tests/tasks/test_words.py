"""Tagging: words of raw text, spans that are the exact text, every word tagged once."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from electra_keras.tasks import words
from electra_keras.tasks.data.examples import TaggedSentence, TextExample
from electra_keras.tasks.options import TaskOptions
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary
from tests.tasks.test_answers import TOKENIZER, VOCABULARY

PER_LOC = ("B-PER", "I-PER", "O", "O", "B-LOC")
SENTENCES = [
    TaggedSentence("0", ("john", "smith", "lives", "in", "paris"), PER_LOC),
    TaggedSentence("1", ("nobody",), ("O",)),
]


def make_task(**values):
    options = TaskOptions(task="tagging", **({"max_seq_length": 12, "stride": 5} | values))
    return TaggingTask.of_data(options, SENTENCES)


def words_of(text, length=64):
    made = words.windows_of_texts(TOKENIZER, tf.constant([text]), length, length // 2)
    chosen = made.is_word.numpy()
    spans = zip(made.starts.numpy()[chosen], made.ends.numpy()[chosen], strict=True)
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ab cd", ["ab", "cd"]),
        ("(ab), u.s. ab-cd's!", ["(", "ab", ")", ",", "u.s", ".", "ab-cd's", "!"]),
        ("...", [".", ".", "."]),
        ("ab東京cd.", ["ab", "東", "京", "cd", "."]),
        ("co\u00adop x", ["co\u00adop", "x"]),
        ("a\r\nb\u00a0c", ["a", "b", "c"]),
        ("e\u0301a é", ["e\u0301a", "é"]),
        ("한 한a", ["한", "한a"]),
        ("a😀 😀", ["a😀", "😀"]),
        ("", []),
        ("\u200d", []),
    ],
)
def test_words_of_raw_text(text, expected):
    assert words_of(text) == expected


CHARACTERS = st.sampled_from(
    [*"abcxyz09 .,!?'-\n\r\t", "é", "e\u0301", "東", "한", "😀", "\u200d", "ß", "İ", "\u00ad"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(CHARACTERS, max_size=60).map("".join))
def test_predicted_words_and_entities_are_the_exact_text(text):
    """Every character that a token comes from is in exactly one word, in the order of the text."""
    task = make_task()
    example = TextExample("0", text)
    features = task.features([example], TOKENIZER)
    rng = np.random.default_rng(len(text))
    outputs = rng.normal(size=(*features["is_word"].shape, len(task.labels))).astype(np.float32)
    (row,) = task.predictions(outputs, features, [example])
    _, starts, ends = TOKENIZER.tokenize_with_offsets([text])
    tokens = list(zip(starts.flat_values.numpy(), ends.flat_values.numpy(), strict=True))
    behind = 0
    for word in row["words"]:
        assert word["text"] == text[word["start"] : word["end"]] != ""
        assert word["start"] >= behind
        behind = word["end"]
        assert not set(word["text"]) & set(" \t\r\n")
        inside = [t for t in tokens if word["start"] <= t[0] and t[1] <= word["end"]]
        tokens = [t for t in tokens if t not in inside]
        assert inside
    assert not tokens
    for entity in row["entities"]:
        assert entity["text"] == text[entity["start"] : entity["end"]]
        assert entity["type"] in ("PER", "LOC")


def test_every_word_of_a_long_sentence_is_tagged_and_trained_on_once():
    rng = np.random.default_rng(0)
    names = [f"{a}{b}{c}" for a, b, c in rng.choice(list("abcdefgh"), (40, 3))]
    tags = [str(tag) for tag in rng.choice(["O", "B-PER", "B-LOC"], 40)]
    sentences = [TaggedSentence("0", tuple(names), tuple(tags)), *SENTENCES]
    task = make_task()
    features = task.features(sentences, TOKENIZER)
    assert (features["example"] == 0).sum() > 5
    one_hot = np.eye(len(task.labels), dtype=np.float32)[np.maximum(features["labels"], 0)]
    metrics = task.evaluate(10 * one_hot, features, sentences)
    assert metrics["f1"] == metrics["accuracy"] == 100
    labelled = (features["labels"] >= 0).sum(axis=1)
    assert np.bincount(features["example"], labelled).tolist() == [40, 5, 1]
    # A right label at a place that is not the word's own does not count.
    assert task.evaluate(-one_hot, features, sentences)["f1"] < 50


def test_a_word_of_which_nothing_stays_is_tagged_too():
    sentence = TaggedSentence("0", ("a", "\u200d", "b"), ("O", "B-LOC", "O"))
    task = make_task()
    features = task.features([sentence], TOKENIZER)
    assert VOCABULARY.unk_id in features["input_ids"]
    one_hot = np.eye(len(task.labels), dtype=np.float32)[np.maximum(features["labels"], 0)]
    (row,) = task.predictions(one_hot, features, [sentence])
    assert [word["text"] for word in row["words"]] == ["a", "\u200d", "b"]
    assert row["text"] == "a \u200d b"


@pytest.mark.parametrize("scheme", ["BIO", "BIOES"])
def test_labels_follow_the_scheme(scheme):
    task = make_task(tag_scheme=scheme)
    assert len(task.labels) == 1 + 2 * (2 if scheme == "BIO" else 4)
    features = task.features(SENTENCES, TOKENIZER)
    of_first = features["labels"][features["example"] == 0]
    found = [task.labels[label] for label in of_first[of_first >= 0]]
    ends = {"BIO": ["I-PER", "B-LOC"], "BIOES": ["E-PER", "S-LOC"]}[scheme]
    assert found == ["B-PER", ends[0], "O", "O", ends[1]]


def test_a_run_that_finds_nothing_has_failed():
    task = make_task()
    features = task.features(SENTENCES, TOKENIZER)
    outputs = np.zeros((*features["is_word"].shape, len(task.labels)), np.float32)
    outputs[..., 0] = 1
    assert task.failed(outputs, features, SENTENCES)
    one_hot = np.eye(len(task.labels), dtype=np.float32)[np.maximum(features["labels"], 0)]
    assert not task.failed(one_hot, features, SENTENCES)
    beside = np.roll(one_hot, 1, axis=2)
    assert task.failed(beside, features, SENTENCES)  # tags, but no chunk that is right
    only_o = [TaggedSentence("0", ("a", "b"), ("O", "O"))]
    assert not task.failed(outputs[:1], task.features(only_o, TOKENIZER), only_o)


def test_a_tag_that_the_model_does_not_know_has_no_label():
    """The loss leaves it out, and no answer can be right there (see test_unknown_labels.py)."""
    task = TaggingTask("tagging", ("O", "B-PER", "B-LOC"), "BIO", 12, 5)
    features = task.features(SENTENCES[:1], TOKENIZER)
    assert features["labels"][features["is_word"] > 0].tolist() == [1, -1, 0, 0, 2]


def test_case_is_kept_where_the_model_keeps_it():
    """In columns and in raw text; a lower-casing tokenizer sees two equal words."""
    vocabulary = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "us", "US"))
    columns = TaggedSentence("0", ("us", "US"), ("O", "O"))
    for lower_case, expected in ((False, [2, 5, 6, 3]), (True, [2, 5, 5, 3])):
        tokenizer = Tokenizer(vocabulary, lower_case=lower_case)
        for example in (columns, TextExample("0", "us US")):
            ids = make_task().features([example], tokenizer)["input_ids"]
            assert ids[0, :4].tolist() == expected
