import itertools
import json
import random
from pathlib import Path

import pytest

from electra_keras.text.tokenizer import (
    ReferenceTokenizer,
    Tokenizer,
    basic_tokenize,
    is_dropped,
    is_whitespace,
)
from electra_keras.text.vocabulary import Vocabulary

# isort: split
import tensorflow as tf

GOLDEN = json.loads((Path(__file__).parents[2] / "tests/golden/tokenizer.json").read_text())
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CASINGS = [(True, True), (True, False), (False, False)]
UNCASED, ACCENTED, CASED = CASINGS
# Everything that stands in the way of offsets, and letters around it.
DIFFICULT = list("aAbBcC.,'-ΣσςÉéÄİıßﬁ中한가≠½ \n\t\r\u3000\x00\x85\ufffd\u00ad\u200d\u200b❤👩𝒜ጸ")
DIFFICULT += list(
    "\u0301\u0307\u0308\u0344\u3099\ufe0f\u302e\U0001d165\U0001d15e\u1112\u1161\u11ab"
)


def vocabulary_of(pieces):
    """A vocabulary with these pieces, at the start of words and within them."""
    pieces = dict.fromkeys(pieces)
    return Vocabulary((*SPECIAL, *pieces, *(f"##{piece}" for piece in pieces)))


def small_vocabulary():
    # Without "'", "-", "½" and others, so that there are unknown words.
    pieces = list("aAbBcC.éÉeEäσςiıßﬁ中한가=❤👩𝒜\u0301\u0307\u0308\ufe0f\u302e\U0001d165")
    pieces += list("\u1112\u1161\u11ab")
    return vocabulary_of([*pieces, "ab", "bc", "ca", "abc", "éa", "ce", "AB", "\u1112\u1161"])


def in_graph(tokenizer, texts):
    """[(token, start, end), ...] of each text, from a graph that knows no batch size."""
    graph = tf.function(
        tokenizer.tokenize_with_offsets, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    texts = tf.constant(texts, tf.string)
    results = graph(texts)
    assert [result.dtype for result in results] == [tf.int32] * 3
    ids, expected_ids = results[0], tokenizer.tokenize(texts)
    splits = ids.row_splits.numpy().tolist()
    assert splits == expected_ids.row_splits.numpy().tolist()
    assert (ids.flat_values.numpy() == expected_ids.flat_values.numpy()).all()
    flat = zip(*(result.flat_values.numpy().tolist() for result in results), strict=True)
    tokens = [(tokenizer.vocabulary.tokens[i], start, end) for i, start, end in flat]
    return [tokens[first:last] for first, last in itertools.pairwise(splits)]


def reference_of(tokenizer):
    return ReferenceTokenizer(tokenizer.vocabulary, tokenizer.lower_case, tokenizer.strip_accents)


def in_python(tokenizer, texts):
    """The same from the reference."""
    return [reference_of(tokenizer).tokenize_with_offsets(text) for text in texts]


def assert_graph_equals_reference(tokenizer, texts):
    actual, expected = in_graph(tokenizer, texts), in_python(tokenizer, texts)
    different = [x for x in zip(texts, actual, expected, strict=True) if x[1] != x[2]]
    assert not different, f"{len(different)}: {different[:5]}"
    return expected


BY_HAND = [
    (UNCASED, "", []),
    (UNCASED, " \r\n\u3000", []),
    (UNCASED, "\u0301 \x00", []),
    (UNCASED, "Abc\r\na.", [("abc", 0, 3), ("a", 5, 6), (".", 6, 7)]),
    (UNCASED, "aba", [("ab", 0, 2), ("##a", 2, 3)]),
    # An accent lengthens the span of the character before it, however it is written.
    (UNCASED, "bÉb", [("b", 0, 1), ("##e", 1, 2), ("##b", 2, 3)]),
    (UNCASED, "bE\u0301b", [("b", 0, 1), ("##e", 1, 3), ("##b", 3, 4)]),
    (UNCASED, "e\u0301\u0308 a", [("e", 0, 3), ("a", 4, 5)]),
    (ACCENTED, "bÉb", [("b", 0, 1), ("##é", 1, 2), ("##b", 2, 3)]),
    (ACCENTED, "E\u0301b", [("e", 0, 1), ("##\u0301", 1, 2), ("##b", 2, 3)]),
    (CASED, "bÉb", [("b", 0, 1), ("##É", 1, 2), ("##b", 2, 3)]),
    (UNCASED, ".\u0301a中\u0301", [(".", 0, 2), ("a", 2, 3), ("中", 3, 5)]),
    (UNCASED, "❤\ufe0fa", [("❤", 0, 2), ("##a", 2, 3)]),
    (CASED, "❤\ufe0fa", [("❤", 0, 1), ("##\ufe0f", 1, 2), ("##a", 2, 3)]),
    # At the start of the text and after white space there is no such character.
    (UNCASED, "\u0301a \u0301b", [("a", 1, 2), ("b", 4, 5)]),
    # What is dropped lies inside a span, or in none; an accent is looked for beyond it.
    (UNCASED, "\x00a\u00adb\u00ad\ufffdc\x00", [("abc", 1, 7)]),
    (UNCASED, "\u200ba\u00ad\u00ada\u200d b\x00", [("a", 1, 2), ("##a", 4, 5), ("b", 7, 8)]),
    (UNCASED, "a\u200d\u0301\u200d a", [("a", 0, 3), ("a", 5, 6)]),
    (UNCASED, "👩\u200d👩", [("👩", 0, 1), ("##👩", 2, 3)]),
    # One character may give several, which all come from it.
    (UNCASED, "한", [("\u1112\u1161", 0, 1), ("##\u11ab", 0, 1)]),
    (UNCASED, "bc한a", [("bc", 0, 2), ("##\u1112\u1161", 2, 3), ("##\u11ab", 2, 3), ("##a", 3, 4)]),
    (ACCENTED, "한a", [("한", 0, 1), ("##a", 1, 2)]),
    (UNCASED, "İb", [("i", 0, 1), ("##b", 1, 2)]),
    (ACCENTED, "İb", [("i", 0, 1), ("##\u0307", 0, 1), ("##b", 1, 2)]),
    (CASED, "İb", [("[UNK]", 0, 2)]),
    (UNCASED, "a≠b", [("a", 0, 1), ("=", 1, 2), ("b", 2, 3)]),
    (CASED, "a≠b", [("[UNK]", 0, 3)]),
    (UNCASED, "aßﬁ", [("a", 0, 1), ("##ß", 1, 2), ("##ﬁ", 2, 3)]),
    (UNCASED, "AΣ Σ", [("a", 0, 1), ("##ς", 1, 2), ("σ", 3, 4)]),
    (CASED, "𝒜b", [("𝒜", 0, 1), ("##b", 1, 2)]),
    # NFD sorts marks that stay: the tokens change places, the spans do not.
    (UNCASED, "a\u302e\U0001d165", [("a", 0, 1), ("##\U0001d165", 1, 2), ("##\u302e", 2, 3)]),
    (ACCENTED, "a\u302e\U0001d165", [("a", 0, 1), ("##\u302e", 1, 2), ("##\U0001d165", 2, 3)]),
    # [UNK] is its whole word, too long ones included.
    (UNCASED, "\u0301½\u00adÉ\u0301 a", [("[UNK]", 1, 5), ("a", 6, 7)]),
    (UNCASED, "a" * 201 + " b", [("[UNK]", 0, 201), ("b", 202, 203)]),
    (UNCASED, " " + "e\u0301" * 201, [("[UNK]", 1, 403)]),
    (UNCASED, "e\u0301" * 200, [("##e"[2 * (i == 0) :], 2 * i, 2 * i + 2) for i in range(200)]),
    (UNCASED, "[UNK]", [("[UNK]", 0, 1), ("[UNK]", 1, 4), ("[UNK]", 4, 5)]),
    # Bytes that are not UTF-8 count as U+FFFD: one for each that cannot begin a character, and
    # one for a character that is cut short.
    (UNCASED, b"\xffa\xe4\xb8b\xed\xa0\x80c d", [("abc", 1, 8), ("[UNK]", 9, 10)]),
]


@pytest.mark.parametrize("casing", CASINGS)
def test_offsets_written_by_hand(casing):
    cases = [case[1:] for case in BY_HAND if case[0] == casing]
    texts, expected = [text for text, _ in cases], [tokens for _, tokens in cases]
    tokenizer = Tokenizer(small_vocabulary(), *casing)
    assert in_python(tokenizer, texts) == expected
    assert in_graph(tokenizer, texts) == expected


@pytest.mark.parametrize("casing", CASINGS)
def test_graph_equals_the_reference_on_the_golden_texts(casing):
    tokenizer = Tokenizer(Vocabulary(tuple(GOLDEN["vocabulary"])), *casing)
    texts = list(dict.fromkeys(case[0] for case in GOLDEN["cases"]))
    assert len(texts) > 300
    assert_graph_equals_reference(tokenizer, texts)


@pytest.mark.parametrize("casing", CASINGS)
def test_graph_equals_the_reference_for_every_code_point(casing):
    codes = [code for code in range(0x20000) if not 0xD800 <= code <= 0xDFFF]
    if casing != UNCASED:  # without the large blocks of letters that are all alike
        codes = [*range(0x3000), *range(0xA000, 0xAC00), *range(0xF900, 0x12000)]
        codes += range(0x1D000, 0x20000)
    # Every character is a piece, so that no word hides in an [UNK] what is inside.
    known = sorted(
        {c for code in codes for word in basic_tokenize(chr(code), *casing) for c in word}
    )
    tokenizer = Tokenizer(vocabulary_of(["a", "b", "x", *known]), *casing)
    texts = ["a{0}b {0} xx{0}".format(chr(code)) for code in codes]
    rows = assert_graph_equals_reference(tokenizer, texts)
    assert not any(token == "[UNK]" for row in rows for token, _, _ in row)


def random_texts(seed, count, alphabet=DIFFICULT):
    rng = random.Random(seed)
    return ["".join(rng.choices(alphabet, k=rng.randint(0, 25))) for _ in range(count)]


@pytest.mark.parametrize("casing", CASINGS)
def test_graph_equals_the_reference_on_random_texts(casing):
    tokenizer, texts = Tokenizer(small_vocabulary(), *casing), random_texts(7, 4000)
    rows = assert_graph_equals_reference(tokenizer, texts)
    tokens = [token for row in rows for token, _, _ in row]
    assert tokens == [token for text in texts for token in reference_of(tokenizer).tokenize(text)]
    assert 5000 < tokens.count("[UNK]") < len(tokens) / 2


def test_graph_equals_the_reference_on_bytes():
    rng = random.Random(8)
    pieces = [
        b"ab",
        "é".encode(),
        "e\u0301".encode(),
        "中".encode(),
        "👩".encode(),
        b" ",
        b".",
        b"\0",
    ]
    pieces += [
        b"\xc3",
        b"\x80",
        b"\xed\xa0\x80",
        b"\xff",
        b"\xe4\xb8",
        b"\xf0\x9f\x98",
        b"\xc0\xaf",
    ]
    pieces += [b"\xef\xbb\xbf", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"]
    texts = [b"".join(rng.choices(pieces, k=rng.randint(0, 10))) for _ in range(3000)]
    assert_graph_equals_reference(Tokenizer(small_vocabulary()), texts)


@pytest.mark.parametrize("casing", CASINGS)
def test_the_text_of_a_span_gives_its_token_again(casing):
    # Not from the counting that both implementations do. Marks that NFD sorts are left out.
    alphabet = [char for char in DIFFICULT if char not in "\u302e\U0001d165\U0001d15e"]
    texts = random_texts(9, 4000, alphabet)
    reference = ReferenceTokenizer(small_vocabulary(), *casing)
    for text in texts:
        start_before = end_before = 0
        for token, start, end in reference.tokenize_with_offsets(text):
            span = text[start:end]
            given = "".join(basic_tokenize(span, *casing)).replace("ς", "σ")
            piece = token.removeprefix("##").replace("ς", "σ")
            shares = casing == UNCASED and any("가" <= char <= "힣" for char in span)
            shares = shares or (casing == ACCENTED and "İ" in span)
            if token != "[UNK]" and shares:
                assert piece in given
            elif token != "[UNK]":
                assert piece == given
            assert start >= (start_before if shares else end_before)
            assert basic_tokenize(span[0], *casing)
            assert not is_dropped(span[-1])
            assert not any(is_whitespace(char) and not is_dropped(char) for char in span)
            start_before, end_before = start, end


def test_cased_spans_are_the_pieces():
    texts = random_texts(10, 2000)
    found = 0
    for text, row in zip(texts, in_graph(Tokenizer(small_vocabulary(), False), texts), strict=True):
        for token, start, end in row:
            if token != "[UNK]":
                kept = "".join(char for char in text[start:end] if not is_dropped(char))
                assert kept == token.removeprefix("##")
                found += 1
    assert found > 3000


def test_every_character_of_words_is_in_a_span():
    texts = random_texts(11, 2000)
    for text, row in zip(texts, in_python(Tokenizer(small_vocabulary()), texts), strict=True):
        covered = {index for _, start, end in row for index in range(start, end)}
        left = [char for index, char in enumerate(text) if index not in covered]
        assert not basic_tokenize("".join(left))


def test_no_texts_and_texts_of_nothing():
    tokenizer = Tokenizer(small_vocabulary())
    assert in_graph(tokenizer, []) == []
    assert in_graph(tokenizer, [""]) == [[]]
    assert in_graph(tokenizer, ["", "a", "\u0301", "\u0301b"]) == [
        [],
        [("a", 0, 1)],
        [],
        [("b", 1, 2)],
    ]


def test_it_can_be_called_first_in_a_dataset_and_exported(tmp_path):
    tokenizer = Tokenizer(small_vocabulary())
    texts = random_texts(12, 64)
    data = tf.data.Dataset.from_tensor_slices(texts).batch(10).map(tokenizer.tokenize_with_offsets)
    ends = [row for _, _, batch in data for row in batch.to_list()]
    assert ends == [[end for _, _, end in row] for row in in_python(tokenizer, texts)]

    class Served(tf.Module):
        def __init__(self):
            self.tokenizer = tokenizer

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts):
            return {"ends": self.tokenizer.tokenize_with_offsets(texts)[2].to_tensor(-1)}

    tf.saved_model.save(Served(), str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](tf.constant(texts))
    assert [[e for e in row if e >= 0] for row in loaded["ends"].numpy().tolist()] == ends
