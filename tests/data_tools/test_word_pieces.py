"""Counting words and learning pieces of them, without a process of its own."""

import random
from collections import Counter

import pytest

from data_tools import word_pieces
from data_tools.word_counts import WordCounter
from data_tools.word_pieces import count_divisor, learn_vocabulary
from electra_keras.text.tokenizer import ReferenceTokenizer, Tokenizer
from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary


def some_counts(words=300, scale=1, seed=0):
    rng = random.Random(seed)
    found = {"".join(rng.choices("abcdefgh", k=rng.randint(1, 9))) for _ in range(words)}
    return Counter({word: scale * rng.randint(1, 50) for word in found})


def test_no_pair_can_overflow_int32():
    """A hundred gigabytes of text have ten times as many pairs of letters as int32 holds."""
    counts = Counter({"ab" * k: 10**9 for k in range(1, 101)})
    words = sorted(counts)
    divisor = count_divisor(words, counts)
    characters = sum(len(word) * counts[word] for word in words)
    assert characters > 2**42
    assert characters / divisor <= 2**30 < characters / (divisor - 1)
    assert count_divisor(words, Counter(words)) == 1


def test_divided_counts_teach_the_same(monkeypatch):
    counts = some_counts()
    expected = learn_vocabulary(counts, 120)
    monkeypatch.setattr(word_pieces, "_MAX_CHARACTERS", sum(map(len, counts.elements())))
    assert learn_vocabulary(counts, 120) == expected
    thousandfold = Counter({word: 1000 * count for word, count in counts.items()})
    assert count_divisor(sorted(thousandfold), thousandfold) == 1000
    assert learn_vocabulary(thousandfold, 120, min_frequency=2000) == expected


def test_beginnings_of_many_rare_words_keep_their_weight(monkeypatch):
    """Each occurs once and would vanish when its count was divided; together they are many."""
    rng = random.Random(0)
    rare = {"un" + "".join(rng.choices("cdfghj", k=8)) for _ in range(500)}
    counts = Counter(rare) + Counter({"kl": 100})
    monkeypatch.setattr(word_pieces, "_MAX_CHARACTERS", 1000)
    assert count_divisor(sorted(counts), counts) > 5
    learnt = learn_vocabulary(counts, 40).tokens
    assert learnt.index("un") < learnt.index("kl")


@pytest.mark.parametrize(
    "letters", ["abcdefghijklmnopqrstuvwxyz", "กขคฆงจฉชซฌญฎฏฐฑฒณดตถท", "𐤀𐤁𐤂𐤃𐤄𐤅𐤆"]
)
def test_pieces_are_short_enough_for_the_tokenizer(letters):
    rng = random.Random(1)
    footer = "".join(rng.choices(letters, k=190))
    counts = Counter({footer: 500, footer[:40]: 90, footer[100:]: 50})
    vocabulary = learn_vocabulary(counts, 2000)
    longest = max(len(token.removeprefix("##")) for token in vocabulary.tokens[5:])
    assert 16 <= longest <= 32
    ids = Tokenizer(vocabulary, strip_accents=False).tokenize([footer]).to_list()[0]
    expected = ReferenceTokenizer(vocabulary, strip_accents=False).tokenize(footer)
    assert [vocabulary.tokens[i] for i in ids] == expected
    assert vocabulary.unk_id not in ids


def test_words_that_are_too_long_take_no_memory():
    counter = WordCounter()
    counter.add_words([b"ab", b"ab", "é".encode() * 201, b"x" * 200])
    assert counter.words == {"ab": 2, "x" * 200: 1}
    assert counter.long_letters == {"é": 201}
    assert (counter.total, counter.characters) == (4, 405)
    assert counter.long_share == 201 / 405
    learnt = learn_vocabulary(counter.words, 100, other_letters=counter.long_letters)
    assert {"é", "##é"} <= set(learnt.tokens)


def test_rare_words_are_dropped_where_there_are_too_many(caplog):
    counter = WordCounter(max_different=1000)
    for first in range(0, 20_000, 100):
        rare = [b"r%d" % n for n in range(first, first + 100)]
        counter.add_words([*rare, *[b"often%d" % (n % 50) for n in range(500)]])
        assert len(counter.words) <= 1000
    assert counter.total == 20_000 + 200 * 500
    assert {counter.words[f"often{n}"] for n in range(50)} == {2000}
    assert "different words" in caplog.text


def count(tmp_path, text, **options):
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    counter = WordCounter()
    counter.count_files([str(path)], Tokenizer(Vocabulary(SPECIAL_TOKENS), **options))
    return counter


@pytest.mark.parametrize(
    "text, script",
    [
        ("मैं हिन्दी में लिखता हूँ।", "Devanagari"),
        ("ภาษาไทยนี้ดีที่สุด", "Thai"),
        ("がぎぐげご を読む", "Katakana"),
        ("Čeština, français, Tiếng Việt, ελληνικά, Й ё ї", ""),
        ("plain", ""),
    ],
)
def test_marks_that_are_no_accents(tmp_path, text, script):
    share, found = count(tmp_path, text).foreign_marks()
    assert found == script
    assert (share > 0.05) == bool(script)


def test_bad_bytes_are_counted_as_the_builder_does(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nb\xffad\n")
    counter = WordCounter()
    counter.count_files([str(path)], Tokenizer(Vocabulary(SPECIAL_TOKENS)))
    assert counter.text.bad_lines == 1 and counter.text.first_bad_lines == [(str(path), 2)]
    assert counter.words == {"good": 1, "bad": 1}
