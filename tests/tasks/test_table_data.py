import dataclasses
import gzip
import json

import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.examples import TextExample, count_labels, hold_out
from electra_keras.tasks.data.files import find_split
from electra_keras.tasks.data.rows import EXTENSIONS, TableFormat
from electra_keras.tasks.data.tables import read_table

LABELLED = TableFormat(("text",), "label")
PAIRS = TableFormat(("q", "a"), "label", id_column="n")


def write(tmp_path, name, content):
    path = tmp_path / name
    content = content if isinstance(content, bytes) else content.encode("utf-8")
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return str(path)


def rows(examples):
    return [(example.text_a, example.label) for example in examples]


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("x.tsv", ["n\tq\tlabel\ta", "7\tWho?\tyes\tHé.", "8\t\ud55c\U0001f600?\tno\tNone."]),
        ("x.csv", ["n,q,label,a", "7,Who?,yes,Hé.", "8,\ud55c\U0001f600?,no,None."]),
        (
            "x.jsonl",
            [
                '{"n": 7, "q": "Who?", "label": "yes", "a": "H\\u00e9.", "other": [1]}',
                '{"n": "8", "q": "\ud55c\\ud83d\\ude00?", "label": "no", "a": "None."}',
            ],
        ),
    ],
)
def test_kinds_of_files(tmp_path, name, lines, packed, end, bom):
    path = write(tmp_path, name + packed, bom + end.join(lines) + end)
    assert read_table(path, PAIRS) == [
        TextExample("7", "Who?", "Hé.", "yes"),
        TextExample("8", "\ud55c\U0001f600?", "None.", "no"),
    ]


def test_quotes_of_csv(tmp_path):
    path = write(tmp_path, "x.csv", 'text,label\r\n"a, ""b""\r\nc",x\r\n\r\nd,"y"\r\n')
    assert rows(read_table(path, LABELLED)) == [('a, "b"\nc', "x"), ("d", "y")]


def test_quotes_of_tsv_are_text(tmp_path):
    path = write(tmp_path, "x.tsv", 'text\tlabel\n"a" b\tx\n"c\ty\n')
    assert rows(read_table(path, LABELLED)) == [('"a" b', "x"), ('"c', "y")]


def test_quoting_can_be_chosen(tmp_path):
    path = write(tmp_path, "x.tsv", 'text\tlabel\n"a\tb"\tx\n')
    assert rows(read_table(path, dataclasses.replace(LABELLED, quoted=True))) == [("a\tb", "x")]
    path = write(tmp_path, "x.csv", 'text,label\n"a,x\n')
    assert rows(read_table(path, dataclasses.replace(LABELLED, quoted=False))) == [('"a', "x")]


def test_columns_by_number(tmp_path):
    table = TableFormat(("2", "0"), "1", header=False)
    path = write(tmp_path, "x.tsv", "a\tx\tb\nc\ty\td\n")
    assert read_table(path, table) == [
        TextExample("0", "b", "a", "x"),
        TextExample("1", "d", "c", "y"),
    ]


def test_a_name_in_the_header_goes_before_a_number(tmp_path):
    path = write(tmp_path, "x.tsv", "1\t0\nfirst\tsecond\n")
    assert read_table(path, TableFormat(("0",)))[0].text_a == "second"
    path = write(tmp_path, "x.tsv", "text\tlabel\nfirst\tsecond\n")
    assert read_table(path, TableFormat(("0",)))[0].text_a == "first"


def test_texts_alone(tmp_path):
    path = write(tmp_path, "x.tsv", "text\na\n\nb\n")
    assert rows(read_table(path, TableFormat(("text",)))) == [("a", None), ("", None), ("b", None)]


def test_json_labels_become_names(tmp_path):
    labels = ["x", 3, 0, True, False, " y "]
    lines = [json.dumps({"text": "t", "label": label}) for label in labels]
    path = write(tmp_path, "x.jsonl", "\n".join(lines) + "\n\n")
    found = [example.label for example in read_table(path, LABELLED)]
    assert found == ["x", "3", "0", "true", "false", "y"]


def test_labels_found_are_sorted_and_counted(tmp_path):
    path = write(tmp_path, "x.tsv", "text\tlabel\na\tno\nb\tyes\nc\tno\nd\tmaybe \n")
    counts = count_labels(read_table(path, LABELLED))
    assert list(counts.items()) == [("maybe", 1), ("no", 2), ("yes", 1)]


def test_integer_labels_are_in_the_order_of_numbers(tmp_path):
    lines = [json.dumps({"text": "t", "label": label}) for label in [10, 2, 0, 11, -1, 1, "01"]]
    path = write(tmp_path, "x.jsonl", "\n".join(lines))
    examples = read_table(path, LABELLED)
    assert list(count_labels(examples)) == ["-1", "0", "01", "1", "2", "10", "11"]
    stars = [TextExample("x", "t", None, f"{number / 2}") for number in (20, 3, 4)]
    assert list(count_labels(stars)) == ["1.5", "2.0", "10.0"]
    others = [*examples, TextExample("x", "t", None, "good")]
    assert list(count_labels(others)) == ["-1", "0", "01", "1", "10", "11", "2", "good"]


def test_multi_label(tmp_path):
    table = TableFormat(("text",), "label", multi_label=True, label_separator="|")
    path = write(tmp_path, "x.tsv", 'text\tlabel\na\tx|y\nb\t\nc\t["z", "x"]\nd\t y |y|\n')
    examples = read_table(path, table)
    assert [example.label for example in examples] == [("x", "y"), (), ("z", "x"), ("y",)]
    assert count_labels(examples) == {"x": 2, "y": 2, "z": 1}
    path = write(
        tmp_path,
        "x.jsonl",
        '{"text": "a", "label": ["x", 2]}\n{"text": "b", "label": []}\n{"text": "c", "label": "x|y"}\n'
        '{"text": "d", "label": 5}\n',
    )
    found = [example.label for example in read_table(path, table)]
    assert found == [("x", "2"), (), ("x", "y"), ("5",)]


def test_regression(tmp_path):
    table = TableFormat(("text",), "label", regression=True)
    path = write(tmp_path, "x.tsv", "text\tlabel\na\t1.5\nb\t-2\nc\t1e3\n")
    assert [example.label for example in read_table(path, table)] == [1.5, -2.0, 1000.0]
    path = write(tmp_path, "x.jsonl", '{"text": "a", "label": 2}\n{"text": "b", "label": "0.5"}\n')
    assert [example.label for example in read_table(path, table)] == [2.0, 0.5]


def test_empty_texts_are_counted(tmp_path, caplog):
    path = write(tmp_path, "x.csv", "q,a,n,label\na,b,0,x\n,b,1,x\na, ,2,x\n")
    with caplog.at_level("WARNING"):
        examples = read_table(path, PAIRS)
    assert [(example.text_a, example.text_b) for example in examples[1:]] == [("", "b"), ("a", " ")]
    assert "x.csv: 2 of 3 rows have an empty text, the first on line 3" in caplog.text


MULTI = TableFormat(("text",), "label", multi_label=True)
NUMBERS = TableFormat(("text",), "label", regression=True)


@pytest.mark.parametrize(
    ("name", "content", "table", "message"),
    [
        ("x.tsv", "a\tb\nc\td\n", LABELLED, r"x\.tsv, line 1: no column 'text', only 'a', 'b'"),
        (
            "x.tsv",
            "text\tb\nc\td\n",
            LABELLED,
            r"x\.tsv, line 1: no column 'label', only 'text', 'b'",
        ),
        (
            "x.tsv",
            "a\tb\n",
            TableFormat(("2",), header=False),
            r"x\.tsv, line 1: no column '2', only '0', '1'",
        ),
        (
            "x.csv",
            "text,label,text\na,b,c\n",
            LABELLED,
            r"line 1: several columns are named 'text'",
        ),
        (
            "x.tsv",
            "text\tlabel\na\tb\nc\n",
            LABELLED,
            r"x\.tsv, line 3: 1 fields, but the first row has 2",
        ),
        ("x.csv", 'text,label\n"a\nb",x\nc,d,e\n', LABELLED, r"x\.csv, line 4: 3 fields, but the"),
        (
            "x.csv",
            'text,label\na,x\n"b,x\nc,x\n',
            LABELLED,
            r"x\.csv, line 3: .*is a quote missing\?",
        ),
        ("x.csv", 'text,label\n"a"b,x\n', LABELLED, r"x\.csv, line 2: .*is a quote missing\?"),
        ("x.tsv", "text\tlabel\na\t \n", LABELLED, r"x\.tsv, line 2: the label is empty"),
        ("x.tsv", "text\tlabel\n", LABELLED, r"x\.tsv holds no examples"),
        ("x.tsv", "", LABELLED, r"x\.tsv holds no examples"),
        ("x.tsv", "text\tlabel\na\tx\n", NUMBERS, r'line 2: the label should be a number, not "x"'),
        ("x.tsv", "text\tlabel\na\t2,5\n", NUMBERS, r'not "2,5"; decimals have a point'),
        ("x.tsv", "text\tlabel\na\tinf\n", NUMBERS, r"line 2: the label should be a number"),
        (
            "x.tsv",
            "text\tlabel\na\t['x', y]\n",
            MULTI,
            r"x\.tsv, line 2: the labels are no list of JSON or Python: \['x', y\]",
        ),
        ("x.tsv", b"text\tlabel\na\tx\ncaf\xe9\tx\n", LABELLED, r"x\.tsv, line 3: not UTF-8"),
        ("x.csv", b"text,label\na,x\ncaf\xe9,x\n", LABELLED, r"x\.csv, line 3: not UTF-8"),
        (
            "x.jsonl",
            '{"text": "a", "label": "x"}\n\n{"text": "a"\n',
            LABELLED,
            r"x\.jsonl, line 3, column 13: bad JSON: Expecting ',' delimiter",
        ),
        (
            "x.jsonl",
            '{"text": "\\ud83d", "label": "x"}\n',
            LABELLED,
            r"line 1: bad JSON: .*surrogates",
        ),
        ("x.jsonl", "[1]\n", LABELLED, r"x\.jsonl, line 1: expected a JSON object"),
        ("x.jsonl", '{"text": "a"}\n', LABELLED, r"line 1: no column 'label', only 'text'"),
        ("x.jsonl", '{"text": 1, "label": 1}\n', LABELLED, r"'text' should be a text, not 1"),
        ("x.jsonl", '{"text": null, "label": 1}\n', LABELLED, r"'text' should be a text, not null"),
        (
            "x.jsonl",
            '{"text": "a", "label": 1.5}\n',
            LABELLED,
            r"the label should be a text or an int",
        ),
        ("x.jsonl", '{"text": "a", "label": ["x"]}\n', LABELLED, r'an integer, not \["x"\]'),
        (
            "x.jsonl",
            '{"text": "a", "label": ["x", null]}\n',
            MULTI,
            r"line 1: a label should be a text",
        ),
        ("x.jsonl", '{"text": "a", "label": true}\n', NUMBERS, r"should be a number, not true"),
        ("x.jsonl", '{"text": "a", "label": null}\n', NUMBERS, r"should be a number, not null"),
    ],
)
def test_bad_files(tmp_path, name, content, table, message):
    with pytest.raises(UserError, match=message):
        read_table(write(tmp_path, name, content), table)


@pytest.mark.parametrize("table", [LABELLED, MULTI])
def test_unknown_labels_are_named_and_counted_once(tmp_path, caplog, table):
    path = write(tmp_path, "x.tsv", "text\tlabel\na\tx\nb\tz\nc\ty\nd\tz\n")
    with caplog.at_level("WARNING"):
        read_table(path, table, labels=["x", "y", "z"])
    assert not caplog.text
    with caplog.at_level("WARNING"):
        assert len(read_table(path, table, labels=["x", "y"])) == 4
    (record,) = caplog.records
    assert record.getMessage().endswith(
        "x.tsv: 2 of 4 rows have a label that the model does not know, which counts as its error: "
        "'z' (2)"
    )


@pytest.mark.parametrize("table", [LABELLED, MULTI])
def test_labels_that_are_all_unknown_are_another_columns(tmp_path, table):
    path = write(tmp_path, "x.tsv", "text\tlabel\na\tx\nb\tz\n")
    with pytest.raises(
        UserError, match=r"x\.tsv: no label is one of the model's, as 'x'; the labels"
    ):
        read_table(path, table, labels=["a", "b"])


def test_unreadable_files(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*missing\.tsv: No such file"):
        read_table(str(tmp_path / "missing.tsv"), LABELLED)
    (tmp_path / "plain.csv.gz").write_text("text,label\n")
    with pytest.raises(UserError, match=r"cannot read .*plain\.csv\.gz: Not a gzipped file"):
        read_table(str(tmp_path / "plain.csv.gz"), LABELLED)
    whole = gzip.compress(b"text,label\n" + bytes(range(32, 127)) * 50)
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) - 20])
    with pytest.raises(UserError, match=r"cannot read .*cut\.csv\.gz: Compressed file ended"):
        read_table(str(tmp_path / "cut.csv.gz"), LABELLED)
    for name in ("x.txt", "train", "x.dat.gz"):
        with pytest.raises(
            UsageError, match=r": expected a file .* ends in \.tsv.*--input_format=tsv,"
        ):
            read_table(name, LABELLED)


@pytest.mark.parametrize(
    "options",
    [
        {"text_columns": ()},
        {"text_columns": ("a", "b", "c")},
        {"text_columns": ("a",), "multi_label": True, "regression": True},
        {"text_columns": ("a",), "multi_label": True, "label_separator": ""},
    ],
)
def test_options_that_do_not_go_together(options):
    with pytest.raises(UsageError):
        TableFormat(**options)


def test_finding_the_files_of_a_directory(tmp_path):
    for name in ("train.jsonl.gz", "validation.csv", "training.csv", "test.txt", "dev.md"):
        (tmp_path / name).touch()
    assert find_split(str(tmp_path), "train", EXTENSIONS) == str(tmp_path / "train.jsonl.gz")
    assert find_split(str(tmp_path), "dev", EXTENSIONS) == str(tmp_path / "validation.csv")
    assert find_split(str(tmp_path), "test", EXTENSIONS) is None
    (tmp_path / "dev.tsv").touch()
    with pytest.raises(UserError, match=r"several dev files: dev\.tsv, validation\.csv; name one"):
        find_split(str(tmp_path), "dev", EXTENSIONS)
    with pytest.raises(UserError, match="cannot read the directory"):
        find_split(str(tmp_path / "missing"), "dev", EXTENSIONS)
    with pytest.raises(UsageError, match="unknown split 'eval'"):
        find_split(str(tmp_path), "eval", EXTENSIONS)


def test_holding_out():
    examples = [TextExample(str(number), "text") for number in range(100)]
    rest, held_out = hold_out(examples, 0.2, 1, lambda example: example.id)
    assert len(held_out) == 20
    assert sorted(rest + held_out, key=lambda example: int(example.id)) == examples
    assert rest == sorted(rest, key=lambda example: int(example.id))
    # It depends on the seed and the names, and neither on the order nor on other runs.
    backwards = hold_out(examples[::-1], 0.2, 1, lambda example: example.id)
    assert backwards == (rest[::-1], held_out[::-1])
    assert hold_out(examples, 0.2, 2, lambda example: example.id)[1] != held_out
    groups = hold_out(examples, 0.2, 1, lambda example: example.id[-1])
    assert len(groups[1]) == 20 and len({example.id[-1] for example in groups[1]}) == 2


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_shares_that_cannot_be_held_out(share):
    examples = [TextExample(str(number), "text") for number in range(4)]
    with pytest.raises(UsageError, match="must lie between 0 and 1"):
        hold_out(examples, share, 1, lambda example: example.id)


def test_something_must_be_left_to_train_on():
    examples = [TextExample(str(number), "text") for number in range(4)]
    with pytest.raises(UsageError, match="leaves none to train on"):
        hold_out(examples, 0.5, 1, lambda example: "the same")
