import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from electra_keras.text.tokenizer import (
    ReferenceTokenizer,
    Tokenizer,
    basic_tokenize,
    detokenize,
    is_punctuation,
    wordpiece_tokenize,
)
from electra_keras.text.vocabulary import Vocabulary

# isort: split
import tensorflow as tf

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests/golden/tokenizer.json").read_text())
SHARED = ROOT.parent / "shared"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def words_of(tokenizer, texts):
    graph = tf.function(
        tokenizer.basic_tokenize, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    words = graph(tf.constant(texts)).to_list()
    return [[word.decode() for word in row] for row in words]


@pytest.fixture(scope="module")
def golden_vocabulary():
    return Vocabulary(tuple(GOLDEN["vocabulary"]))


@pytest.mark.parametrize("lower_case, strip_accents", [(1, 1), (1, 0), (0, 1)])
def test_tokens_equal_the_originals(golden_vocabulary, lower_case, strip_accents):
    cases = [case for case in GOLDEN["cases"] if case[1:3] == [lower_case, strip_accents]]
    texts, expected = [case[0] for case in cases], [case[3].split() for case in cases]
    assert len(texts) == 306
    reference = ReferenceTokenizer(golden_vocabulary, bool(lower_case), bool(strip_accents))
    assert [reference.tokenize(text) for text in texts] == expected
    tokenizer = Tokenizer(golden_vocabulary, bool(lower_case), bool(strip_accents))
    ids = tokenizer.tokenize(tf.constant([text.encode() for text in texts]))
    assert ids.dtype == tf.int32
    tokens = [[golden_vocabulary.tokens[i] for i in row] for row in ids.to_list()]
    assert tokens == expected


def test_ids_equal_the_originals_with_the_full_vocabulary():
    cases_file = SHARED / "golden/tokenizer_cases.json"
    vocab_file = SHARED / "data/bert-vocab/vocab.txt"
    if not (cases_file.exists() and vocab_file.exists()):
        pytest.skip("needs ../shared with the original's cases and the BERT vocabulary")
    vocabulary = Vocabulary.load(str(vocab_file))
    cases = json.loads(cases_file.read_text())["cases"]
    assert len(cases) == 918
    for lower_case, strip_accents in {(c["do_lower_case"], c["strip_accents"]) for c in cases}:
        chosen = [
            c
            for c in cases
            if (c["do_lower_case"], c["strip_accents"]) == (lower_case, strip_accents)
        ]
        tokenizer = Tokenizer(vocabulary, lower_case, strip_accents)
        ids = tokenizer.tokenize(tf.constant([c["text"].encode() for c in chosen])).to_list()
        assert ids == [c["ids"] for c in chosen]


@pytest.mark.parametrize("lower_case, strip_accents", [(True, True), (True, False), (False, False)])
def test_words_equal_the_references_for_every_code_point(lower_case, strip_accents):
    # Between letters, after and before a capital sigma, at the end of a word and alone.
    codes = [code for code in range(0x20000) if not 0xD800 <= code <= 0xDFFF]
    if not strip_accents:  # without the large blocks of letters that are all alike
        codes = [*range(0x3400), *range(0xA000, 0xAC00), *range(0xD7A4, 0xD800)]
        codes += [*range(0xF800, 0x12000), *range(0x16000, 0x17000), *range(0x1D000, 0x20000)]
    texts = ["ab{0}cd AΣ{0} {0}Σ{0}a AΣ{0}a {0}".format(chr(code)) for code in codes]
    tokenizer = Tokenizer(Vocabulary(SPECIAL), lower_case, strip_accents)
    different = []
    for start in range(0, len(texts), 16384):
        chunk = texts[start : start + 16384]
        for text, words in zip(chunk, words_of(tokenizer, chunk), strict=True):
            if words != basic_tokenize(text, lower_case, strip_accents):
                different.append(text)
    assert not different, f"{len(different)}: {different[:10]}"


def test_random_mixtures_equal_the_reference():
    rng = random.Random(5)
    alphabet = [chr(c) for c in range(0x20000) if not 0xD800 <= c <= 0xDFFF]
    common = list("aAbB.,'-Σσς Ää\u0301\u00ad\u200b\u3000中가ﬁIİı\t\n\x00\x85")
    texts = ["".join(rng.choices(common * 5000 + alphabet, k=30)) for _ in range(3000)]
    tokenizer = Tokenizer(Vocabulary(SPECIAL))
    expected = [basic_tokenize(text) for text in texts]
    assert words_of(tokenizer, texts) == expected
    assert sum(map(len, expected)) > 10_000


def test_bytes_that_are_not_utf8_are_left_out():
    rng = random.Random(6)
    pieces = [b"ab", "é".encode(), "中".encode(), "😀".encode(), b"\xc3", b"\x80", b"\xed\xa0\x80"]
    pieces += [b"\xff", b"\xe4\xb8", b"\xf0\x9f\x98", b"\xc0\xaf", b" ", b"."]
    texts = [b"".join(rng.choices(pieces, k=8)) for _ in range(2000)]
    tokenizer = Tokenizer(Vocabulary(SPECIAL))
    assert words_of(tokenizer, texts) == [
        basic_tokenize(t.decode("utf-8", "ignore")) for t in texts
    ]


def test_word_length_is_counted_in_characters():
    vocabulary = Vocabulary((*SPECIAL, "a", "##a", "ж", "##ж", "x", "##x"))
    texts = ["a" * 200, "a" * 201, "ж" * 200, "ж" * 201, "a ж " + "ж" * 500 + " x"]
    expected = [200, 1, 200, 1, 4]
    tokenizer, reference = Tokenizer(vocabulary), ReferenceTokenizer(vocabulary)
    ids = tokenizer.tokenize(tf.constant(texts)).to_list()
    assert [len(row) for row in ids] == expected
    assert ids[1] == ids[3] == [vocabulary.unk_id]
    assert [[vocabulary.ids[t] for t in reference.tokenize(text)] for text in texts] == ids


def test_special_tokens_typed_in_text_are_split(golden_vocabulary):
    assert basic_tokenize("[MASK]") == ["[", "mask", "]"]
    ids = Tokenizer(golden_vocabulary).tokenize(["[MASK] [CLS]"]).to_list()[0]
    assert golden_vocabulary.mask_id not in ids
    assert golden_vocabulary.cls_id not in ids


def test_empty_texts_and_no_texts():
    tokenizer = Tokenizer(Vocabulary(SPECIAL))
    assert tokenizer.tokenize(tf.constant(["", " \n", "\u200b"])).to_list() == [[], [], []]
    assert tokenizer.tokenize(tf.constant([], tf.string)).to_list() == []


def test_accents_stay_without_lower_casing():
    assert (
        Tokenizer(Vocabulary(SPECIAL), lower_case=False, strip_accents=True).strip_accents is False
    )
    assert basic_tokenize("Él", lower_case=False, strip_accents=True) == ["Él"]
    assert basic_tokenize("Él", lower_case=True, strip_accents=False) == ["él"]
    assert basic_tokenize("Él", lower_case=True, strip_accents=True) == ["el"]


def test_ascii_punctuation_is_what_the_original_lists():
    listed = [*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127)]
    assert [code for code in range(128) if is_punctuation(chr(code))] == listed


def test_wordpieces_are_the_longest_from_the_left():
    ids = dict.fromkeys(("un", "una", "##ff", "##able", "##aff"))
    assert wordpiece_tokenize("unaffable", ids) == ["una", "##ff", "##able"]
    assert wordpiece_tokenize("unaffably", ids) == ["[UNK]"]
    assert detokenize(["una", "##ff", "##able", "a"]) == "unaffable a"


def test_it_can_be_exported_and_served(golden_vocabulary, tmp_path):
    class Served(tf.Module):
        def __init__(self):
            self.tokenizer = Tokenizer(golden_vocabulary)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, texts):
            return {"ids": self.tokenizer.tokenize(texts).to_tensor()}

    served = Served()
    tf.saved_model.save(served, str(tmp_path))
    texts = tf.constant([b"\xffThe quick, caf\xc3\xa9", "Σ " + "ж" * 300])
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"](texts)
    assert loaded["ids"].numpy().tolist() == served(texts)["ids"].numpy().tolist()


@pytest.mark.parametrize("strip_accents", [True, False])
def test_the_locale_of_the_process_that_serves_changes_nothing(tmp_path, strip_accents):
    """tf.strings.lower follows it: in a Turkish one, "I" would become a dotless i."""
    letters = "aijmtıì\u0307ß"
    tokens = (*SPECIAL, *letters, *(f"##{letter}" for letter in letters))
    texts = ["TITLE I AM", "JAM İT", "ÌI Ĩ\u0307 Įa", "plain"]
    module = Tokenizer(Vocabulary(tokens), strip_accents=strip_accents)

    def serve(texts):
        return module.tokenize(texts).to_tensor()

    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None], tf.string)])
    expected = module.serve(tf.constant(texts)).numpy().tolist()
    tf.saved_model.save(module, str(tmp_path))
    code = (
        "import sys, json, tensorflow as tf, tensorflow_text\n"
        "model = tf.saved_model.load(sys.argv[1])\n"
        "print(json.dumps(model.serve(tf.constant(json.loads(sys.argv[2]))).numpy().tolist()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), json.dumps(texts)],
        env=os.environ | {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout) == expected
