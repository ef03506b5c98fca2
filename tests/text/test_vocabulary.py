import hashlib
import os

import pytest

from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary, VocabularyError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write(tmp_path, content):
    path = tmp_path / "vocab.txt"
    path.write_bytes(content if isinstance(content, bytes) else "\n".join(content).encode())
    return str(path)


def test_ids_are_line_numbers(tmp_path):
    path = write(tmp_path, ["the", *SPECIAL, "##é", ""])
    vocabulary = Vocabulary.load(path)
    assert len(vocabulary) == 7
    assert vocabulary.tokens[6] == "##é" and vocabulary.ids["##é"] == 6
    ids = [getattr(vocabulary, f"{name}_id") for name in ("pad", "unk", "cls", "sep", "mask")]
    assert ids == [1, 2, 3, 4, 5]


def test_line_ends_and_bom_make_no_other_vocabulary(tmp_path):
    tokens = [*SPECIAL, "ab"]
    plain = Vocabulary.load(write(tmp_path, "\n".join(tokens).encode()))
    final = Vocabulary.load(write(tmp_path, ("\n".join(tokens) + "\n").encode()))
    crlf = Vocabulary.load(write(tmp_path, b"\xef\xbb\xbf" + "\r\n".join([*tokens, ""]).encode()))
    assert plain == final == crlf
    assert plain.sha256 == hashlib.sha256("\n".join(tokens).encode()).hexdigest() == crlf.sha256
    assert Vocabulary((*tokens, "c")).sha256 != plain.sha256


def test_save_and_load(tmp_path):
    vocabulary = Vocabulary((*SPECIAL, "ж", "##x"))
    path = str(tmp_path / "saved.txt")
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary
    assert [p.name for p in tmp_path.iterdir()] == ["saved.txt"]


@pytest.mark.parametrize(
    "content, message",
    [
        ([*SPECIAL, "a", "b", "a"], "line 8: 'a' stands on line 6"),
        ([*SPECIAL, "", "b"], "line 6: blank"),
        (["[PAD]", "[UNK]", "a"], r"no \[CLS\], \[SEP\], \[MASK\]"),
        ("\n".join(SPECIAL).encode() + b"\nab\n\xff\xfe\n", "line 7: not UTF-8"),
        (b"", "no \\[PAD\\]"),
    ],
)
def test_errors_name_file_and_line(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(VocabularyError, match=message) as error:
        Vocabulary.load(path)
    assert path in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(VocabularyError, match=r"cannot read.*none\.txt"):
        Vocabulary.load(str(tmp_path / "none.txt"))


@pytest.mark.parametrize("blank", ["\u2028", "\x85", "\u00a0", "\u3000", " ", "\t", "\x0b", "\x1c"])
def test_white_space_is_a_token(tmp_path, blank):
    tokens = [*SPECIAL, "a", blank, "b", f"##{blank}"]
    vocabulary = Vocabulary.load(write(tmp_path, "\r\n".join([*tokens, ""]).encode()))
    assert vocabulary.tokens == tuple(tokens)
    tokenizer = Tokenizer(vocabulary)
    assert tokenizer.tokenize([f"a {blank} b"]).to_list() == [[5, 7]]
    vocabulary.save(str(tmp_path / "again.txt"))
    assert (tmp_path / "again.txt").read_bytes() == ("\n".join(tokens) + "\n").encode()
    assert Vocabulary.load(str(tmp_path / "again.txt")) == vocabulary


@pytest.mark.parametrize("prefix", ["", "##"])
def test_the_longest_token(tmp_path, prefix):
    fits = f"{prefix}{'ก' * 85}x"
    assert Tokenizer(Vocabulary.load(write(tmp_path, [*SPECIAL, fits]))).vocabulary.ids[fits] == 5
    path = write(tmp_path, [*SPECIAL, "a", f"{fits}x"])
    with pytest.raises(VocabularyError, match=r"line 7: .* has 257 bytes") as error:
        Vocabulary.load(path)
    assert path in str(error.value)
    with pytest.raises(VocabularyError, match=r"line 6: .* has 257 bytes"):
        Vocabulary((*SPECIAL, f"{fits}x"))


def test_a_file_of_another_size_is_refused_early(tmp_path):
    path = tmp_path / "vocab.txt"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(VocabularyError, match=r"vocab\.txt has 100 MB"):
        Vocabulary.load(str(path))
    path.write_bytes(b"\n" * 5_000_000)
    with pytest.raises(VocabularyError, match="has 5,000,000 tokens: at most 4,194,304"):
        Vocabulary.load(str(path))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(VocabularyError, match="is no file"):
            Vocabulary.load(str(path))
