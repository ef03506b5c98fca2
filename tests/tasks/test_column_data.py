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


@pytest.mark.parametrize(
    "blank",
    ["", "\t", " ", "\ufeff", "\ufeff\t", "\r", "\u00a0", "\u3000 ", "\u2028", "\ufeff\u00a0"],
)
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
    "content",
    [
        "1\t-DOCSTART-\tO\n\n1\ta\tO\n1\t-DOCSTART-\tO\n1\tb\tO\n",
        "\ufeff-DOCSTART- -X- O\n\nx a O\n\n\ufeff-DOCSTART- -X- O\nx b O\n",
    ],
)
def test_document_starts_in_any_column(tmp_path, content):
    path = write(tmp_path, content)
    assert words(read_columns(path, word_column=1)) == [("a",), ("b",)]


GERMEVAL = """#\thttp://de.example.org/Ada [2009-10-17]
1\tAda\tB-PER\tO
2\t#\tO\tO

#\thttp://x y [2010]
#\tanother
1\tBonn\tB-LOC\tO
"""
CONLLU = """# newdoc id = d
# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_
1\tVamos\tir\tVERB
2\tnos\tnosotros\tPRON
3-4\tal\t_\t_
3\ta\ta\tADP
4\tel\tel\tDET
4.1\tel\tel\t_
5\tmar\tmar\tNOUN

# sent_id = 2
1\t#\t#\tSYM
"""


def test_comments_and_lines_that_are_no_words(tmp_path):
    path = write(tmp_path, GERMEVAL)
    found = read_columns(path, word_column=1, tag_column=2)
    assert [(s.words, s.tags) for s in found] == [
        (("Ada", "#"), ("B-PER", "O")),
        (("Bonn",), ("B-LOC",)),
    ]
    path = write(tmp_path, CONLLU)
    found = read_columns(path, word_column=1, tag_column=3, plain=True)
    assert words(found) == [("Vamos", "nos", "a", "el", "mar"), ("#",)]
    assert found[0].tags == ("VERB", "PRON", "ADP", "DET", "NOUN")
    assert found[0].scheme == "plain" and tag_labels(found)[:2] == ["ADP", "DET"]
    # Of four columns, as the lines of words are, but without tabs.
    path = write(tmp_path, "# a b c\n1\tAda\tx\tO\n")
    assert words(read_columns(path, word_column=1)) == [("Ada",)]


def test_words_that_look_like_comments_and_numbers_stay(tmp_path):
    path = write(tmp_path, "# O\n1 O\n\n#tag\tO\n1-2\tO\n\n1\tO\n1.5\tO\n")
    assert words(read_columns(path)) == [("#", "1"), ("#tag", "1-2"), ("1", "1.5")]
    path = write(tmp_path, "#tag\n#\n\n1-2\n")
    assert words(read_columns(path, tag_column=None)) == [("#tag", "#"), ("1-2",)]
    path = write(tmp_path, "7 1 O\n8-9 2 O\n")  # the first column counts no words
    assert words(read_columns(path, word_column=1)) == [("1", "2")]


@pytest.mark.parametrize(
    ("content", "scheme", "tags"),
    [
        ("Ada U-PER\nlebt O\nNew B-LOC\nYork L-LOC\n", "BILOU", "B-PER O B-LOC I-LOC"),
        ("Ada PER-B\nLee PER-I\nlebt O\n", "BIO", "B-PER I-PER O"),
        ("a b_per\nb i_per\nc o\n", "BIO", "B-per I-per O"),
        ("a B\nb M\nc E\nd S\n", "BMES", "B I I B"),
        ("a I-P\nb B-P\nc O\n", "IOB1", "B-P B-P O"),
    ],
)
def test_schemes_from_elsewhere(tmp_path, content, scheme, tags):
    (sentence,) = read_columns(write(tmp_path, content))
    assert (sentence.scheme, " ".join(sentence.tags)) == (scheme, tags)


def test_plain_labels(tmp_path):
    path = write(tmp_path, "Ada B-PER\nlebt VERB\n")
    (sentence,) = read_columns(path, plain=True)
    assert sentence.tags == ("B-PER", "VERB")
    with pytest.raises(
        UserError, match="no tag is one of the model's, as 'B-PER'; the tags are BERB"
    ):
        read_columns(path, plain=True, labels=["BERB"])


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


def test_labels_given(tmp_path, caplog):
    labels = tag_labels(read_columns(write(tmp_path, "a B-LOC\n\nb O\n")))
    sentences = read_columns(write(tmp_path, "a O\n\nb S-LOC\nc B-LOC\nd E-LOC\n"), labels=labels)
    assert sentences[1].tags == ("B-LOC", "B-LOC", "I-LOC")
    assert not caplog.text
    path = write(tmp_path, "a O\n\nb B-LOC\nc I-PER\nd I-ORG\ne I-PER\n")
    assert read_columns(path, labels=labels)[1].tags == ("B-LOC", "B-PER", "B-ORG", "B-PER")
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "3 of 5 words have a tag that the model does not know, which counts as its error: 'I-ORG' (1), "
        "'I-PER' (2)"
    )


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
        ("a O\nb NN\n", {}, r"line 2: .*plain"),
        (" \tO\nb\tO\n", {}, r"line 1: the word is empty"),
        ("\tO\nb\tO\n", {}, r"line 1: the word is empty"),
        ("a\tO\n#b\n", {}, r"line 2: 1 columns"),  # inside a sentence a line is no comment
        (b"a O\ncaf\xe9 O\n", {}, r"line 2: not UTF-8"),
        ("", {}, r"holds no sentences"),
        ("\n\n-DOCSTART- O\n", {}, r"holds no sentences"),
    ],
)
def test_bad_files(tmp_path, content, options, message):
    with pytest.raises(UserError, match=rf"train\.txt.*{message}"):
        read_columns(write(tmp_path, content), **options)
