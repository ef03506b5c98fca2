import hashlib

import pytest

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
