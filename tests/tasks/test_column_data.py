import gzip

import pytest

from electra_keras.console import UserError
from electra_keras.tasks.data.columns import read_columns, tag_labels
from electra_keras.tasks.data.examples import TaggedSentence


def write(tmp_path, content, name="train.txt"):
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(tmp_path / name)


def words(sentences):
    return [sentence.words for sentence in sentences]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("separator", [" ", "\t", "   "])
@pytest.mark.parametrize("name", ["train.txt", "train.conll.gz"])
def test_sentences(tmp_path, name, separator, end):
    lines = ["He PRP B-NP", "Reckons VBZ B-VP", "", "the DT B-NP", "Café NN I-NP"]
    content = end.join(line.replace(" ", separator) for line in lines)
    expected = [
        TaggedSentence("0", ("He", "Reckons"), ("B-NP", "B-VP")),
        TaggedSentence("1", ("the", "Café"), ("B-NP", "I-NP")),
    ]
    assert read_columns(write(tmp_path, content, name)) == expected
    assert read_columns(write(tmp_path, content + end * 3, name)) == expected


def test_any_columns(tmp_path):
    path = write(tmp_path, "1\tB-LOC\tParis\tx\n2\tO\tis\tx\n")
    (sentence,) = read_columns(path, word_column=2, tag_column=1)
    assert (sentence.words, sentence.tags) == (("Paris", "is"), ("B-LOC", "O"))
    assert read_columns(path, word_column=-2, tag_column=-3) == [sentence]
    assert read_columns(path, word_column=2, tag_column=None)[0].tags is None


def test_words_alone(tmp_path):
    path = write(tmp_path, "&\ngt\n\nParis\n")
    assert words(read_columns(path, tag_column=None)) == [("&", "gt"), ("Paris",)]


@pytest.mark.parametrize("blank", ["", "\t", " ", "\ufeff", "\ufeff\t", "\r"])
def test_blank_lines(tmp_path, blank):
    path = write(tmp_path, f"a\tO\n{blank}\nb\tO\n{blank}\n{blank}\nc\tO\n{blank}")
    assert words(read_columns(path)) == [("a",), ("b",), ("c",)]


def test_words_keep_marks_and_spaces_that_part_no_columns(tmp_path):
    path = write(tmp_path, "Dubbz\ufeff\tB-person\nNew York\tB-location\n10\u00a0000\tO\n")
    assert words(read_columns(path)) == [("Dubbz\ufeff", "New York", "10\u00a0000")]
    path = write(tmp_path, "10\u00a0000 O\n\u3000 O\n")
    assert words(read_columns(path)) == [("10\u00a0000", "\u3000")]


def test_byte_order_mark_of_the_file(tmp_path):
    assert words(read_columns(write(tmp_path, "\ufeffa O\n"))) == [("a",)]


def test_document_starts_are_left_out(tmp_path):
    path = write(tmp_path, "-DOCSTART- -X- O\n\na NN O\n-DOCSTART-\nb NN O\n")
    assert words(read_columns(path)) == [("a",), ("b",)]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("IOB1", "I-NP I-NP B-NP I-VP O I-NP"),
        ("BIO", "B-NP I-NP B-NP B-VP O B-NP"),
        ("BIOES", "B-NP E-NP S-NP S-VP O S-NP"),
    ],
)
def test_tags_become_bio(tmp_path, scheme, tags):
    path = write(tmp_path, "".join(f"w {tag}\n" for tag in tags.split()))
    assert " ".join(read_columns(path)[0].tags) == "B-NP I-NP B-NP B-VP O B-NP"


def test_a_chunk_ends_with_its_sentence(tmp_path):
    path = write(tmp_path, "a B-NP\n\nb I-NP\n")
    assert [sentence.tags for sentence in read_columns(path)] == [("B-NP",), ("B-NP",)]


def test_labels_found(tmp_path):
    sentences = read_columns(write(tmp_path, "a B-work-of-art\nb O\nc B-LOC\nd I-LOC\n"))
    assert tag_labels(sentences) == ["O", "B-LOC", "I-LOC", "B-work-of-art", "I-work-of-art"]
    assert tag_labels(read_columns(write(tmp_path, "a O\nb B\nc I\n"))) == ["O", "B", "I"]


def test_labels_given(tmp_path):
    labels = tag_labels(read_columns(write(tmp_path, "a B-LOC\n\nb O\n")))
    sentences = read_columns(write(tmp_path, "a O\n\nb S-LOC\nc B-LOC\nd E-LOC\n"), labels=labels)
    assert sentences[1].tags == ("B-LOC", "B-LOC", "I-LOC")
    path = write(tmp_path, "a O\n\nb B-LOC\nc I-PER\n")
    with pytest.raises(
        UserError, match=r"line 4: unknown tag 'I-PER'; the tags are O, B-LOC, I-LOC"
    ):
        read_columns(path, labels=labels)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a NN O\n\nb O\n", {}, r"line 3: 2 columns, but the first line has 3"),
        ("a\tO\nb\n", {}, r"line 2: 1 columns, but the first line has 2"),
        ("a\tO\nb c O\n", {}, r"line 2: 3 columns, but the first line has 2"),
        ("a O\nb X-LOC\n", {}, r"line 2: unknown tag 'X-LOC': expected O, or B-"),
        ("a O\nb NN\n", {}, r"line 2: unknown tag 'NN'"),
        ("\na O\n", {"word_column": 2}, r"line 2: no column 2, there are 2, counted from 0"),
        ("a O\n", {"tag_column": -3}, r"line 1: no column -3, there are 2"),
        ("a\tb\tO\na\t\tO\n", {"word_column": 1}, r"line 2: the word is empty"),
        (b"a O\ncaf\xe9 O\n", {}, r"line 2: not UTF-8"),
        ("", {}, r"holds no sentences"),
        ("\n\n-DOCSTART- O\n", {}, r"holds no sentences"),
    ],
)
def test_bad_files(tmp_path, content, options, message):
    with pytest.raises(UserError, match=rf"train\.txt.*{message}"):
        read_columns(write(tmp_path, content), **options)
