"""Tables as spreadsheets, pandas and benchmarks write them: separators, headers, forms of labels."""

import dataclasses
import gzip
import json

import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.data.examples import TextExample
from electra_keras.tasks.data.rows import TableFormat
from electra_keras.tasks.data.tables import read_table
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.tasks.reading import as_trained, read_texts, read_texts_to_classify

LABELLED = TableFormat(("text",), "label")
NUMBERED = TableFormat(("0",), "1", header=None)
MULTI = dataclasses.replace(LABELLED, multi_label=True)


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return str(path)


def rows(examples):
    return [(example.text_a, example.label) for example in examples]


# --- Separators ----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("x.csv", ";"),
        ("x.csv", "\t"),
        ("x.csv", "|"),
        ("x.tsv", ";"),
        ("x.csv", ","),
        ("x.tab", "\t"),
    ],
)
def test_what_parts_the_fields_is_seen_in_the_header(tmp_path, name, separator, start, end):
    lines = [f"n{separator}text{separator}label", f"1{separator}Good{separator}x"]
    path = write(tmp_path, name, start + end.join([*lines, f"2{separator}Bad{separator}y"]) + end)
    assert rows(read_table(path, LABELLED)) == [("Good", "x"), ("Bad", "y")]


def test_blank_lines_in_front_hide_no_header(tmp_path):
    path = write(tmp_path, "x.csv", "\n\r\ntext;label\n\nGood;x\nBad\n")
    with pytest.raises(UserError, match=r"x\.csv, line 6: 1 fields, but the first row has 2"):
        read_table(path, LABELLED)


def test_the_usual_separator_goes_first(tmp_path):
    path = write(tmp_path, "x.csv", "a;text,label\nb,x\n")
    with pytest.raises(UserError, match="no column 'text', only 'a;text', 'label'"):
        read_table(path, LABELLED)
    path = write(tmp_path, "x.csv", "text,label,a;b\nGood; yes,x,1\n")
    assert rows(read_table(path, LABELLED)) == [("Good; yes", "x")]


def test_quotes_and_line_ends_within_other_separators(tmp_path):
    path = write(tmp_path, "x.csv", 'text;label\r\n"a; ""b""\r\nc";x\r\nd, e;y\r\n')
    assert rows(read_table(path, LABELLED)) == [('a; "b"\nc', "x"), ("d, e", "y")]


@pytest.mark.parametrize("separator", [";", ",", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_the_line_of_excel_is_no_row(tmp_path, separator, quote):
    lines = [f"{quote}sep={separator}{quote}", f"text{separator}label", f"Good{separator}x"]
    path = write(tmp_path, "x.csv", "\n".join([*lines, f"a{separator}y{separator}"]))
    with pytest.raises(UserError, match=r"x\.csv, line 4: 3 fields"):
        read_table(path, LABELLED)
    path = write(tmp_path, "x.csv", "\n".join(lines))
    assert rows(read_table(path, LABELLED)) == [("Good", "x")]
    path = write(tmp_path, "x.csv", "\n".join([lines[0], lines[2]]))
    assert rows(read_table(path, dataclasses.replace(NUMBERED, header=False))) == [("Good", "x")]


def test_a_separator_can_be_given(tmp_path):
    table = dataclasses.replace(NUMBERED, header=False)
    path = write(tmp_path, "x.csv", "Good, indeed;x\nBad;y\n")
    with pytest.raises(UserError, match=r"line 1: no column '1', only '0'; .* parted by ';'"):
        read_table(write(tmp_path, "y.csv", "Good;x\n"), table)
    given = dataclasses.replace(table, separator=";")
    assert rows(read_table(path, given)) == [("Good, indeed", "x"), ("Bad", "y")]
    for bad in ("", ";;", '"', "\n"):
        with pytest.raises(UsageError, match="--separator must be one character"):
            dataclasses.replace(table, separator=bad)
    options = TaskOptions(
        task="classification", train_file=write(tmp_path, "z.csv", "a,b\tx\nc\ty\n"),
        text_columns="0", label_column="1", header=False, separator="tab",
    )  # fmt: skip
    assert rows(read_texts(options, "train")) == [("a,b", "x"), ("c", "y")]


def test_a_carriage_return_is_text_where_lines_end_at_lf(tmp_path):
    path = write(tmp_path, "x.tsv", "text\tlabel\na\rb\tx\n")
    assert rows(read_table(path, LABELLED)) == [("a\rb", "x")]
    path = write(tmp_path, "x.csv", "text,label\na\rb,x\n")
    with pytest.raises(UserError, match="line 2: a carriage return in a field without quotes"):
        read_table(path, LABELLED)


def test_quotes_of_a_spreadsheets_tsv(tmp_path, caplog):
    content = 'text\tlabel\n"He said ""yes"", and."\t"good, fast"\nOther.\tbad\n'
    path = write(tmp_path, "x.tsv", content)
    with caplog.at_level("WARNING"):
        assert rows(read_table(path, LABELLED))[0][1] == '"good, fast"'
    assert "2 texts and labels stand in quotes" in caplog.text and "--quoted" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING"):  # a quotation is none
        read_table(
            write(tmp_path, "y.tsv", 'text\tlabel\n"Yes," she said. "No."\tx\n"A"\ty\n'), LABELLED
        )
        read_table(
            write(tmp_path, "y.jsonl", json.dumps({"text": '"a ""b"""', "label": 1})), LABELLED
        )
    assert not caplog.text
    options = TaskOptions(task="classification", train_file=path, quoted=True)
    assert rows(read_texts(options, "train")) == [
        ('He said "yes", and.', "good, fast"),
        ("Other.", "bad"),
    ]


# --- Headers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.tsv", "x.csv"])
def test_whether_a_first_row_is_data_has_to_be_said(tmp_path, caplog, name):
    separator = {"x.tsv": "\t", "x.csv": ","}[name]
    path = write(tmp_path, name, f"Good{separator}1\nBad{separator}0\n")
    with pytest.raises(
        UsageError, match=r"line 1: is this row data, or names .*'Good', '1'.*noheader"
    ):
        read_table(path, NUMBERED)
    assert len(read_table(path, dataclasses.replace(NUMBERED, header=False))) == 2
    assert not caplog.text
    assert len(read_table(path, dataclasses.replace(NUMBERED, header=True))) == 1
    assert (
        "line 1: taken for names of columns, as --header says, and not read: 'Good'" in caplog.text
    )


def test_headers_that_say_so_themselves(tmp_path):
    by_name = dataclasses.replace(LABELLED, header=None)
    path = write(tmp_path, "x.csv", "text,label\nGood,x\n")
    assert rows(read_table(path, by_name)) == [("Good", "x")]
    some = dataclasses.replace(NUMBERED, label_column="label")
    assert rows(read_table(path, some)) == [("Good", "x")]
    path = write(tmp_path, "x.csv", "0,1\nGood,x\n")  # pandas, of columns without names
    assert rows(read_table(path, NUMBERED)) == [("Good", "x")]
    with pytest.raises(UserError, match="no column 'text', only '0', '1'"):
        read_table(path, by_name)
    path = write(tmp_path, "x.jsonl", '{"0": "Good", "1": "x"}\n')
    assert rows(read_table(path, NUMBERED)) == [("Good", "x")]


def test_predictions_read_a_table_as_training_did(tmp_path):
    path = write(tmp_path, "x.csv", "Good;7\nBad;8\n")
    trained = {"text_columns": "0", "header": "false", "separator": ";", "label_column": "1"}
    options = as_trained(InputOptions(input=path), trained)
    assert rows(read_texts_to_classify(options, "classification", False)) == [
        ("Good", None),
        ("Bad", None),
    ]
    # What is given goes before.
    given = as_trained(InputOptions(input=path, text_columns="1", header=True), trained)
    assert rows(read_texts_to_classify(given, "classification", False)) == [("8", None)]
    # It says nothing to lines of text.
    lines = as_trained(InputOptions(input=write(tmp_path, "x.txt", "Good\n")), trained)
    assert rows(read_texts_to_classify(lines, "classification", False)) == [("Good", None)]
    with pytest.raises(UsageError, match="--header is for tables"):
        as_header = InputOptions(input=str(tmp_path / "x.txt"), header=False)
        read_texts_to_classify(as_trained(as_header, trained), "classification", False)


# --- Names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.txt", "train", "train.data.gz", "train.csv", "Train.DAT"])
def test_names_that_do_not_say_how_they_are_read(tmp_path, name):
    content = b"text\tlabel\na, b\tx\nc\ty\n"
    path = write(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
    options = TaskOptions(task="classification", train_file=path, input_format="tsv")
    assert rows(read_texts(options, "train")) == [("a, b", "x"), ("c", "y")]
    if name.count(".") < 2:
        options = dataclasses.replace(options, train_file=None, data_dir=str(tmp_path))
        assert rows(read_texts(options, "train")) == [("a, b", "x"), ("c", "y")]


def test_a_directory_without_the_file_says_what_it_holds(tmp_path):
    options = TaskOptions(task="classification", data_dir=str(tmp_path))
    with pytest.raises(UserError, match=r"no train file in .*; it holds nothing"):
        read_texts(options, "train")
    for name in ("train.txt", "notes.md"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"no train file .* it holds notes\.md, train\.txt"):
        read_texts(options, "train")
    with pytest.raises(UsageError, match="json is for questions"):
        read_texts(dataclasses.replace(options, input_format="json"), "train")


def test_endings_in_capitals(tmp_path):
    write(tmp_path, "TRAIN.CSV", "text,label\na,x\n")
    write(tmp_path, "Dev.TSV.GZ", gzip.compress(b"text\tlabel\nb\ty\n"))
    options = TaskOptions(task="classification", data_dir=str(tmp_path))
    assert rows(read_texts(options, "train")) == [("a", "x")]
    assert rows(read_texts(options, "dev")) == [("b", "y")]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json", "x.ndjson"])
@pytest.mark.parametrize("form", ["lines", "list", "indented", "across"])
def test_json_by_line_or_as_a_list(tmp_path, name, form):
    values = [{"text": "Good", "label": 1}, {"text": "[Bad", "label": 0}]
    content = {
        "lines": lambda: "\n".join(map(json.dumps, values)),
        "list": lambda: json.dumps(values),
        "indented": lambda: "\n\n" + json.dumps(values, indent=1),
        "across": lambda: "[" + ",\n".join(map(json.dumps, values)) + "]\n",
    }[form]()
    path = write(tmp_path, name, content)
    assert rows(read_table(path, LABELLED)) == [("Good", "1"), ("[Bad", "0")]
    if form != "lines":
        path = write(tmp_path, name, content.replace('"label": 0', '"other": 0'))
        with pytest.raises(UserError, match="item 2: no column 'label'"):
            read_table(path, LABELLED)


# --- Labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("['a', 'b']", ("a", "b")),
        ("['a' 'b']", ("a", "b")),  # numpy's
        ("['a'\n 'b']", ("a", "b")),
        ("[\"it's\", 'b']", ("it's", "b")),
        ("['it\\'s, so', \"b c\"]", ("it's, so", "b c")),
        ("[1, 2]", ("1", "2")),
        ("[1 -2]", ("1", "-2")),
        ("['é\U0001f600']", ("é\U0001f600",)),
        ("[]", ()),
        ("[ ]", ()),
        ("('a', 'b')", ("a", "b")),
        ("('a',)", ("a",)),
        ("{'b', 'a'}", ("b", "a")),
        ("(a), {b}", ("(a)", "{b}")),
        ("(a)", ("(a)",)),
        ("(1)", ("(1)",)),
        ("()", ("()",)),
        ('["a", 2]', ("a", "2")),
        ('["a\\u00e9", true]', ("aé", "true")),
    ],
)
def test_lists_of_labels(tmp_path, text, labels):
    quoted = text.replace('"', '""')
    path = write(tmp_path, "x.csv", f'text,label\nHello,"{quoted}"\n')
    assert [example.label for example in read_table(path, MULTI)] == [labels]


@pytest.mark.parametrize(
    "text", ["['a', b]", "['a'b']", "['a', ['b']]", "['a'", "['a'] x", "['a', '']", "[nan]", "[,]"]
)
def test_lists_that_are_none(tmp_path, text):
    path = write(tmp_path, "x.tsv", f"text\tlabel\nHello\t{text}\n")
    with pytest.raises(
        UserError, match=r"x\.tsv, line 2: (the labels are no list|a label is empty)"
    ):
        read_table(path, MULTI)


COLUMNS = TaskOptions(
    task="classification", multi_label=True, text_columns="comment", label_column="toxic,insult,new"
)


@pytest.mark.parametrize("name", ["x.csv", "x.jsonl"])
def test_a_column_of_0_and_1_for_each_label(tmp_path, name):
    values = [("foo", 1, "0"), ("bar", 0, "1.0"), ("baz", False, True), ("new", 0, 0)]
    if name == "x.csv":
        content = "comment,toxic,insult,new\n" + "".join(f"{t},{a},{b},0\n" for t, a, b in values)
    else:
        keys = ("comment", "toxic", "insult", "new")
        content = "".join(
            json.dumps(dict(zip(keys, (*value, 0), strict=True))) + "\n" for value in values
        )
    options = dataclasses.replace(COLUMNS, train_file=write(tmp_path, name, content))
    examples = ClassificationTask.read(options, "train")
    assert [e.label for e in examples] == [("toxic",), ("insult",), ("insult",), ()]
    task = ClassificationTask.of_data(options, examples)
    assert task.labels == ("toxic", "insult", "new")  # as the columns, also one that no row has
    assert ClassificationTask.read(options, "train", task) == examples
    assert task._targets(examples).tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_label_columns_that_hold_something_else(tmp_path):
    path = write(tmp_path, "x.csv", "comment,toxic,insult,new\nfoo,1,2,0\n")
    options = dataclasses.replace(COLUMNS, train_file=path)
    with pytest.raises(
        UserError, match="line 2: column 'insult' of a label should be 0 or 1, not '2'"
    ):
        read_texts(options, "train")
    assert read_texts(
        dataclasses.replace(
            options,
            no_label="2",
            train_file=write(tmp_path, "y.csv", "comment,toxic,insult,new\nfoo,1,2,0\nbar,0,1,0\n"),
        ),
        "train",
    ) == [TextExample("1", "bar", None, ("insult",))]
    with pytest.raises(UserError, match=r"no column 'toxic,insult,new'.* are for --multi_label"):
        read_texts(dataclasses.replace(options, multi_label=False), "train")
    with pytest.raises(UserError, match="line 1: no column 'other'"):
        read_texts(dataclasses.replace(options, label_column="toxic,other"), "train")


def test_pairs_without_a_label_are_left_out(tmp_path, caplog):
    path = write(tmp_path, "x.tsv", "s1\ts2\tgold\na\tb\tneutral\nc\td\t-\ne\tf\tentailment\n")
    options = TaskOptions(
        task="classification", train_file=path, text_columns="s1,s2", label_column="gold"
    )
    with caplog.at_level("WARNING"):
        examples = read_texts(options, "train")
    assert [(e.id, e.label) for e in examples] == [("0", "neutral"), ("2", "entailment")]
    assert "1 of 3 rows are left out: their label is '-'" in caplog.text
    assert len(read_texts(dataclasses.replace(options, no_label=""), "train")) == 3
    other = read_texts(dataclasses.replace(options, no_label="neutral"), "train")
    assert [e.label for e in other] == ["-", "entailment"]
    # Of single texts, it may be the sign of a sentiment.
    single = dataclasses.replace(options, text_columns="s1")
    assert [e.label for e in read_texts(single, "train")] == ["neutral", "-", "entailment"]


def test_pairs_of_datasets_without_a_label_are_noticed(tmp_path, caplog):
    pairs = [{"a": "x", "b": "y", "label": label} for label in (0, 2, -1, 1)]
    path = write(tmp_path, "x.jsonl", "\n".join(map(json.dumps, pairs)))
    table = TableFormat(("a", "b"), "label", no_label="-")
    with caplog.at_level("WARNING"):
        assert len(read_table(path, table)) == 4
    assert "1 rows have the label -1" in caplog.text and "--no_label=-1" in caplog.text
    caplog.clear()
    assert len(read_table(path, dataclasses.replace(table, no_label="-1"))) == 3
    read_table(path, TableFormat(("a",), "label"))  # 1, 0 and -1 are sentiments, too
    assert "the label -1," not in caplog.text


# --- Length --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.jsonl"])
def test_long_fields(tmp_path, name):
    """Python's own limit is 131,072 characters, and only for CSV."""
    text = "A long chapter. " * 10_000
    content = {
        "x.csv": f'text,label\n"{text}",x\n',
        "x.tsv": f"text\tlabel\n{text}\tx\n",
        "x.jsonl": "\n" + json.dumps({"text": text, "label": "x"}) + "\n",
    }[name]
    path = write(tmp_path, name, content)
    assert rows(read_table(path, LABELLED)) == [(text, "x")]
    short = dataclasses.replace(LABELLED, max_text_length=100_000)
    with pytest.raises(UserError, match=r"x\..*, line 2: .*--max_text_length"):
        read_table(path, short)
    # Longer than any text may be: not even kept in memory.
    with pytest.raises(UserError, match=r"line 2: more than 40,000 bytes; .*--max_text_length"):
        read_table(path, dataclasses.replace(LABELLED, max_text_length=10_000))


def test_json_that_is_nested_too_deeply(tmp_path):
    path = write(tmp_path, "x.jsonl", '{"text": ' + "[" * 100_000 + "\n")
    with pytest.raises(UserError, match=r"x\.jsonl, line 1: bad JSON: nested too deeply"):
        read_table(path, LABELLED)
