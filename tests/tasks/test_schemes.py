"""Notations of tags: all are read, and what is written is in the data's."""

import random

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.tasks import words
from electra_keras.tasks.metrics.tagging import chunks
from electra_keras.tasks.schemes import WRITTEN, find_scheme, read_tags, write_tags

# Two chunks of two types, one that follows its like, and one of a single word.
SAME = {
    "IOB1": "I-P I-P B-P O I-L I-L I-L O I-P",
    "BIO": "B-P I-P B-P O B-L I-L I-L O B-P",
    "BIOES": "B-P E-P S-P O B-L I-L E-L O S-P",
    "BILOU": "B-P L-P U-P O B-L I-L L-L O U-P",
    "BMES": "B-P E-P S-P O B-L M-L E-L O S-P",
}


def canonical(tags):
    meanings = read_tags(tags)
    return [meanings[tag] for tag in tags]


@pytest.mark.parametrize("scheme", SAME)
def test_each_scheme_is_known_read_and_written(scheme):
    tags = SAME[scheme].split()
    assert find_scheme([tags]) == scheme
    assert chunks(canonical(tags)) == chunks(SAME["BIO"].split())
    assert write_tags(SAME["BIO"].split(), scheme) == tags
    assert write_tags(SAME["BIOES"].split(), scheme) == tags


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("PER-B PER-I O a-b-E", "B-PER I-PER O E-a-b"),
        ("B_PER I_PER O", "B-PER I-PER O"),
        ("b-per i-per o", "B-per I-per O"),
        ("per_b o l-per", None),  # of one file, on both sides
        ("PER:S O", "S-PER O"),
        ("B-a_b I-a_b", "B-a_b I-a_b"),
        ("B I O", "B I O"),
        ("b m e s", "B I E S"),
        ("B-X W-X", "B-X S-X"),
        ("B-E E-B", "B-E E-B"),  # in front where that can be
        ("B- O", "B O"),
        ("B-x- O", "B-x- O"),
    ],
)
def test_notations(tags, expected):
    read = canonical(tags.split())
    if expected is None:
        assert None in read
    else:
        assert read == expected.split()


@pytest.mark.parametrize("tag", ["NN", "X-P", "P", "BI-P", "O-P", "_", "B.P", ""])
def test_no_tags(tag):
    assert read_tags(["B-PER", "O", tag]) == {"B-PER": "B-PER", "O": "O", tag: None}


def test_schemes_that_are_not_what_they_seem():
    assert find_scheme([["O", "O"]]) == "BIO"
    assert find_scheme([["B-P", "O", "I-P"], ["B-P", "I-P"]]) == "BIO"  # a slip
    assert find_scheme([["I-P", "E-P"], ["E-P", "O"]]) == "BIO"  # IOE2
    assert find_scheme([["PER-B", "PER-L", "O"]]) == "BILOU"
    assert find_scheme([["B", "M", "E", "S"]]) == "BMES"


@pytest.mark.parametrize("scheme", WRITTEN)
def test_the_graph_writes_as_python_does(scheme):
    """Any sequence of labels, as a model may give them."""
    tags = ("O", *(f"{p}-{kind}" for kind in ("A", "B-ö") for p in "BIES"), "B", "I", "E", "S")
    rng = random.Random(3)
    sentences = [[rng.choice(tags) for _ in range(rng.randint(0, 9))] for _ in range(400)]
    labels = [tags.index(tag) for sentence in sentences for tag in sentence]
    written = words.written_tags(
        tf.constant(labels, tf.int32), tf.constant([len(s) for s in sentences]), tags, scheme
    )
    expected = [tag for sentence in sentences for tag in write_tags(sentence, scheme)]
    assert [tag.decode() for tag in written.numpy()] == expected
    assert len(set(expected)) > 5
    nothing = words.written_tags(tf.constant([], tf.int32), tf.constant([0, 0]), tags, scheme)
    assert nothing.numpy().tolist() == np.array([]).tolist()
