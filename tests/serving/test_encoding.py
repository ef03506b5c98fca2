"""Text to encoder inputs in the graph: layout, truncation, buckets, typed masks."""

import random

import numpy as np
import pytest

from electra_keras.serving.encoding import TextEncoder
from electra_keras.text.offsets import row_ids
from electra_keras.text.tokenizer import ReferenceTokenizer, Tokenizer
from electra_keras.text.vocabulary import Vocabulary
from tests.runs import SPECIAL

# isort: split
import tensorflow as tf

VOCABULARY = Vocabulary((*SPECIAL, "a", "b", "[", "]", "mask", "ma", "##sk", "##b", "x", "y", "中"))
BUCKETS = (6, 10, 16)


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(Tokenizer(VOCABULARY), BUCKETS)


def original_truncation(first, second, capacity):
    """google-research/bert run_classifier.py `_truncate_seq_pair`, retold."""
    first, second = list(first), list(second)
    while len(first) + len(second) > capacity:
        (first if len(first) > len(second) else second).pop()
    return first, second


def by_hand(text, pair, longest=BUCKETS[-1]):
    """(input_ids, segment_ids, positions, text_index, truncated) without padding."""
    ids = VOCABULARY.ids
    tokenizer = ReferenceTokenizer(VOCABULARY)
    first, second = tokenizer.tokenize(text), tokenizer.tokenize(pair)
    wanted = len(first) + len(second)
    first, second = original_truncation(first, second, longest - (3 if second else 2))
    tokens = ["[CLS]", *first, "[SEP]", *second, *(["[SEP]"] if second else [])]
    segments = [0] * (len(first) + 2) + [1] * (len(second) + 1 if second else 0)
    positions = [i + 1 for i in range(len(first))]
    positions += [len(first) + 2 + i for i in range(len(second))]
    of_pair = [0] * len(first) + [1] * len(second)
    return (
        [ids[t] for t in tokens], segments, positions, of_pair, len(first) + len(second) < wanted
    )  # fmt: skip


@pytest.mark.parametrize("with_pairs", [False, True])
def test_equals_the_original_layout_for_all_lengths(encoder, with_pairs):
    lengths = [(i, j) for i in range(22) for j in (range(22) if with_pairs else [0])]
    texts = ["a " * i for i, _ in lengths]
    pairs = ["b " * j for _, j in lengths]
    encoded = encoder.encode(tf.constant(texts), tf.constant(pairs) if with_pairs else None)
    assert encoded.input_ids.shape == (len(texts), BUCKETS[-1])
    for row, (text, pair) in enumerate(zip(texts, pairs, strict=True)):
        ids, segments, positions, of_pair, truncated = by_hand(text, pair)
        for name, values in (
            ("input_ids", ids),
            ("segment_ids", segments),
            ("input_mask", [1] * len(ids)),
            ("positions", positions),
            ("text_index", of_pair),
        ):
            padded = values + [0] * (BUCKETS[-1] - len(values))
            assert getattr(encoded, name)[row].numpy().tolist() == padded, (name, text, pair)
        assert encoded.length[row] == len(positions)
        assert encoded.truncated[row] == truncated


@pytest.mark.parametrize("tokens, bucket", [(0, 6), (4, 6), (5, 10), (8, 10), (9, 16), (99, 16)])
def test_padded_to_the_smallest_bucket(encoder, tokens, bucket):
    encoded = encoder.encode(tf.constant(["a " * tokens, ""]))
    for values in (encoded.input_ids, encoded.starts, encoded.positions, encoded.text_index):
        assert values.shape == (2, bucket)


def test_offsets_are_those_of_each_text(encoder):
    encoded = encoder.encode(tf.constant(["  a xb"]), tf.constant(["é b"]))
    spans = list(zip(encoded.starts[0].numpy(), encoded.ends[0].numpy(), strict=True))
    assert spans[:5] == [(2, 3), (4, 5), (5, 6), (0, 1), (2, 3)]


@pytest.mark.parametrize(
    "text, tokens, spans",
    [
        ("a [MASK] b", ["a", "[MASK]", "b"], [(0, 1), (2, 8), (9, 10)]),
        ("a[MASK][MASK]", ["a", "[MASK]", "[MASK]"], [(0, 1), (1, 7), (7, 13)]),
        ("[mask]", ["[", "mask", "]"], [(0, 1), (1, 5), (5, 6)]),
        ("[MASK", ["[", "mask"], [(0, 1), (1, 5)]),
        ("[[MASK]]", ["[", "[MASK]", "]"], [(0, 1), (1, 7), (7, 8)]),
        ("[MA\u200bSK]", ["[", "mask", "]"], [(0, 1), (1, 6), (6, 7)]),
        ("é́[MASK]\u0301x", ["[UNK]", "[MASK]", "x"], [(0, 2), (2, 8), (9, 10)]),
        ("\U0001f600 [MASK]", ["[UNK]", "[MASK]"], [(0, 1), (2, 8)]),
    ],
)
def test_typed_masks(encoder, text, tokens, spans):
    around = ["", text, "SK] a", "[MA", text]  # in a batch, where a mask must not cross texts
    encoded = encoder.encode(tf.constant(around), find_masks=True)
    for row in (1, 4):
        length = encoded.length[row].numpy()
        ids = encoded.input_ids[row].numpy()[1 : length + 1]
        assert [VOCABULARY.tokens[i] for i in ids] == tokens
        got = list(zip(encoded.starts[row].numpy(), encoded.ends[row].numpy(), strict=True))
        assert got[:length] == spans
    assert not np.isin(VOCABULARY.mask_id, encoded.input_ids.numpy()[[0, 2, 3]])
    plain = encoder.encode(tf.constant([text]))
    assert VOCABULARY.mask_id not in plain.input_ids.numpy()


def test_of_long_texts_only_the_beginning_is_read_and_that_changes_nothing():
    """Heads are cut at 64 bytes a token; here texts of all sorts are longer than that."""
    draw = random.Random(1)
    alphabet = "ab xy\n\tΣσé中[]\u0301\u200b\U0001f600.'" + " " * 6
    short = TextEncoder(Tokenizer(VOCABULARY), (8,))
    assert short._head_bytes == 512
    texts = [
        "".join(draw.choices(alphabet, k=n)) for n in (400, 600, 900, 2000, 4000) for _ in range(8)
    ]
    texts += [
        "x" * 5000,
        " " * 5000 + "a b",
        "x" * 500 + " a" * 3000,
        "é" * 255 + " a b c d e f g h",
    ]
    encoded = short.encode(tf.constant(texts))
    tokenizer = ReferenceTokenizer(VOCABULARY)
    for row, text in enumerate(texts):
        tokens = tokenizer.tokenize_with_offsets(text)
        spans = [(start, end) for _, start, end in tokens[:6]]
        got = list(zip(encoded.starts[row].numpy(), encoded.ends[row].numpy(), strict=True))
        assert got[: len(spans)] == spans
        assert encoded.truncated[row] == (len(tokens) > 6)


def test_row_ids_equal_value_rowids_in_linear_memory():
    for lengths in ([], [0], [3], [0, 2, 0, 0, 1, 0], [1] * 5):
        ragged = tf.RaggedTensor.from_row_lengths(tf.zeros([sum(lengths)]), lengths)
        assert row_ids(ragged.row_splits).numpy().tolist() == ragged.value_rowids().numpy().tolist()
    # 20,000 rows of which one has 20,000,000 values: 3 TB in value_rowids.
    splits = tf.concat([[0], tf.fill([20_000], tf.constant(20_000_000, tf.int64))], axis=0)
    assert row_ids(tf.cast(splits, tf.int64))[-1] == 0
