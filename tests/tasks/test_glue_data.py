import dataclasses
import math
import os

import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.data.examples import TextExample, count_labels
from electra_keras.tasks.data.glue import (
    GLUE_TASKS,
    find_glue_file,
    read_glue,
    write_submission,
)
from electra_keras.tasks.metrics.classification import GLUE_METRICS
from electra_keras.tasks.options import TaskOptions
from electra_keras.tasks.reading import read_texts

MNLI_COLUMNS = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t"
    "sentence1_parse\tsentence2_parse\tsentence1\tsentence2"
)
STS_COLUMNS = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2"
A_TO_H = "\t".join("abcdefg")

# The first lines of the files as they are published, and what is to be read from them.
FILES = [
    ("CoLA", "train", "gj04\t0\t*\tThe horse ran fell.\n", (0, "The horse ran fell.", None, "0")),
    ("CoLA", "dev", "gj04\t1\t\tThe horse fell.", (0, "The horse fell.", None, "1")),
    ("CoLA", "test", "index\tsentence\n7\tBill left.\n", (7, "Bill left.", None, None)),
    ("SST-2", "train", "sentence\tlabel\nso good \t1\n", (0, "so good ", None, "1")),
    ("SST-2", "test", "index\tsentence\n0\tso good\n", (0, "so good", None, None)),
    (
        "MRPC",
        "train",
        '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t70\t71\t"Yes, he said.\tHe said "yes".\n',
        (0, '"Yes, he said.', 'He said "yes".', "1"),
    ),
    (
        "MRPC",
        "test",
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n3\t70\t71\tOne.\tTwo.\n",
        (3, "One.", "Two.", None),
    ),
    (
        "STS-B",
        "dev",
        f"{STS_COLUMNS}\tscore\n4\t{A_TO_H[2:]}\tOne.\tTwo.\t3.800\n",
        (4, "One.", "Two.", 3.8),
    ),
    ("STS-B", "test", f"{STS_COLUMNS}\n4\t{A_TO_H[2:]}\tOne.\tTwo.\n", (4, "One.", "Two.", None)),
    (
        "QQP",
        "train",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n55\t1\t2\tWhy?\tHow?\t0\n",
        (55, "Why?", "How?", "0"),
    ),
    ("QQP", "test", "id\tquestion1\tquestion2\n0\tWhy?\tHow?\n", (0, "Why?", "How?", None)),
    (
        "MNLI",
        "train",
        f"{MNLI_COLUMNS}\tlabel1\tgold_label\n9\t{A_TO_H}\tOne.\tTwo.\tneutral\tentailment\n",
        (9, "One.", "Two.", "entailment"),
    ),
    (
        "MNLI",
        "dev_mismatched",
        f"{MNLI_COLUMNS}\tlabel1\tlabel2\tgold_label\n9\t{A_TO_H}\tOne.\tTwo.\tx\ty\tcontradiction\n",
        (9, "One.", "Two.", "contradiction"),
    ),
    (
        "MNLI",
        "test_matched",
        f"{MNLI_COLUMNS}\n9\t{A_TO_H}\tOne.\tTwo.\n",
        (9, "One.", "Two.", None),
    ),
    (
        "QNLI",
        "dev",
        "index\tquestion\tsentence\tlabel\n0\tWho?\tHe.\tentailment\n",
        (0, "Who?", "He.", "entailment"),
    ),
    (
        "RTE",
        "dev",
        "index\tsentence1\tsentence2\tlabel\r\n0\tOne.\tTwo.\tnot_entailment\r\n",
        (0, "One.", "Two.", "not_entailment"),
    ),
    ("WNLI", "dev", "index\tsentence1\tsentence2\tlabel\n0\tA.\tB.\t1\n", (0, "A.", "B.", "1")),
    ("AX", "test", "index\tsentence1\tsentence2\n0\tA.\tB.\n", (0, "A.", "B.", None)),
]


def glue_dir(tmp_path, split, content):
    name = "diagnostic" if "index\tsentence1\tsentence2\n0\tA." in content else split
    (tmp_path / f"{name}.tsv").write_bytes(content.encode("utf-8"))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("task", "split", "content", "expected"), FILES, ids=lambda value: str(value)[:20]
)
def test_layouts(tmp_path, task, split, content, expected):
    examples = read_glue(task, glue_dir(tmp_path, split, content), split)
    assert examples == [TextExample(str(expected[0]), *expected[1:])]
    assert type(examples[0].label) is type(expected[3])


def test_every_task_that_has_a_metric_can_be_read():
    assert GLUE_TASKS.keys() == GLUE_METRICS.keys()
    assert {task for task, *_ in FILES} == GLUE_TASKS.keys()


def test_labels_are_in_the_original_order():
    # finetune/classification/classification_tasks.py
    assert GLUE_TASKS["MNLI"].labels == ("contradiction", "entailment", "neutral")
    assert GLUE_TASKS["RTE"].labels == GLUE_TASKS["QNLI"].labels == ("entailment", "not_entailment")
    assert GLUE_TASKS["CoLA"].labels == ("0", "1")
    assert GLUE_TASKS["STS-B"].labels == ()


def test_rows_are_numbered_and_counted(tmp_path):
    directory = glue_dir(tmp_path, "dev", "a\t1\t\tOne.\na\t0\t*\tTwo.\n\nb\t1\t\tThree.\n\n")
    examples = read_glue("CoLA", directory, "dev")
    assert [(example.id, example.text_a) for example in examples] == [
        ("0", "One."),
        ("1", "Two."),
        ("2", "Three."),
    ]
    assert count_labels(examples) == {"0": 1, "1": 2}


def test_unusual_characters_do_not_end_lines(tmp_path):
    text = "a\u2028b\x0cc\x85d\re"
    directory = glue_dir(tmp_path, "dev", f"sentence\tlabel\n{text}\t1\n")
    assert read_glue("SST-2", directory, "dev")[0].text_a == text


QQP_HEADER = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"


def test_broken_rows_of_qqp_are_counted(tmp_path, caplog):
    broken = "8\t1\t2\tHow\nmany?\tx\t0\n9\t1\t2\ta\tb\t0\tc\n10\t3\t4\tWhy?\tWhen?\t1\n"
    directory = glue_dir(tmp_path, "train", QQP_HEADER + "7\t1\t2\tA?\tB?\t0\n" + broken)
    with caplog.at_level("WARNING"):
        examples = read_glue("QQP", directory, "train")
    assert [example.id for example in examples] == ["7", "10"]
    assert "left out 3 rows with a wrong number of fields, the first on line 3" in caplog.text


def test_no_row_of_a_test_file_is_left_out(tmp_path):
    directory = glue_dir(tmp_path, "test", "id\tquestion1\tquestion2\n0\tA?\tB?\n1\tA?\n")
    with pytest.raises(UserError, match=r"test\.tsv, line 3: 2 fields instead of 3"):
        read_glue("QQP", directory, "test")


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        (
            "SST-2",
            "text\tlabel\nx\t1\n",
            r"dev\.tsv, line 1: no column 'sentence', only 'text', 'l",
        ),
        ("SST-2", "sentence\tscore\nx\t1\n", r"line 1: no column 'label'"),
        ("SST-2", "sentence\tlabel\nx\t1\ny\n", r"dev\.tsv, line 3: 1 fields instead of 2"),
        ("SST-2", "sentence\tlabel\nx\ty\t1\n", r"dev\.tsv, line 2: 3 fields instead of 2"),
        ("SST-2", "sentence\tlabel\nx\t2\n", r"dev\.tsv, line 2: label '2' is none of 0, 1"),
        ("SST-2", "sentence\tlabel\n", r"dev\.tsv holds no examples"),
        ("SST-2", "", r"dev\.tsv, line 1: no column 'sentence'"),
        ("CoLA", "source\tlabel\tx\tsentence\n", r"line 1: label 'label' is none of 0, 1"),
        (
            "STS-B",
            f"{STS_COLUMNS}\tscore\n0\t{A_TO_H}\tx\thigh\n",
            r"line 2: the score 'high' is no",
        ),
        (
            "STS-B",
            f"{STS_COLUMNS}\tscore\n0\t{A_TO_H}\tx\t5.1\n",
            r"the score '5.1' is no number from",
        ),
        ("STS-B", f"{STS_COLUMNS}\tscore\n0\t{A_TO_H}\tx\tnan\n", r"line 2: the score 'nan' is no"),
    ],
)
def test_bad_files(tmp_path, task, content, message):
    with pytest.raises(UserError, match=message):
        read_glue(task, glue_dir(tmp_path, "dev", content), "dev")


def test_invalid_utf8(tmp_path):
    (tmp_path / "dev.tsv").write_bytes(b"sentence\tlabel\nok\t1\ncaf\xe9\t1\n")
    with pytest.raises(UserError, match=r"dev\.tsv, line 3: not UTF-8"):
        read_glue("SST-2", str(tmp_path), "dev")


def test_missing_files_tasks_and_splits(tmp_path):
    assert find_glue_file("RTE", str(tmp_path), "train") is None
    with pytest.raises(
        UserError, match=r"no train\.tsv in .*: the data directory of RTE is the one"
    ):
        read_glue("RTE", str(tmp_path), "train")
    with pytest.raises(UserError, match=r"no diagnostic\.tsv or AX\.tsv in"):
        read_glue("AX", str(tmp_path), "test")
    (tmp_path / "AX.tsv").write_text("index\tsentence1\tsentence2\n")
    assert find_glue_file("AX", str(tmp_path), "test") == str(tmp_path / "AX.tsv")
    with pytest.raises(UsageError, match=r"unknown GLUE task 'SST': choose from CoLA, SST-2"):
        read_glue("SST", str(tmp_path), "train")
    with pytest.raises(UsageError, match=r"MNLI has no split 'dev', only train, dev_matched"):
        read_glue("MNLI", str(tmp_path), "dev")


@pytest.mark.parametrize(
    ("task", "split", "predictions", "name", "lines"),
    [
        ("CoLA", "test", ["1", "0"], "CoLA.tsv", ["4\t1", "5\t0"]),
        ("STS-B", "test", [5.2, -0.1], "STS-B.tsv", ["4\t5.000", "5\t0.000"]),
        ("STS-B", "test", [3.14159, 2], "STS-B.tsv", ["4\t3.142", "5\t2.000"]),
        ("MNLI", "test_matched", ["neutral"] * 2, "MNLI-m.tsv", ["4\tneutral", "5\tneutral"]),
        ("MNLI", "test_mismatched", ["neutral"] * 2, "MNLI-mm.tsv", ["4\tneutral", "5\tneutral"]),
        ("AX", "test", ["neutral"] * 2, "AX.tsv", ["4\tneutral", "5\tneutral"]),
    ],
)
def test_submission_files(tmp_path, task, split, predictions, name, lines):
    examples = [TextExample("4", "x"), TextExample("5", "y")]
    path = write_submission(str(tmp_path), task, split, examples, predictions)
    assert path == str(tmp_path / name)
    assert (tmp_path / name).read_text() == "index\tprediction\n" + "".join(f"{x}\n" for x in lines)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize(
    ("task", "predictions"),
    [
        ("RTE", ["1", "0"]),
        ("RTE", ["entailment"]),
        ("RTE", ["entailment"] * 3),
        ("STS-B", [1.0, math.nan]),
    ],
)
def test_a_bad_prediction_leaves_the_old_submission(tmp_path, task, predictions):
    (tmp_path / f"{task}.tsv").write_text("old")
    examples = [TextExample("4", "x"), TextExample("5", "y")]
    with pytest.raises(ValueError):
        write_submission(str(tmp_path), task, "test", examples, predictions)
    assert (tmp_path / f"{task}.tsv").read_text() == "old"


def test_a_submission_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "RTE.tsv").write_text("old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("electra_keras.tasks.data.glue.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_submission(str(tmp_path), "RTE", "test", [TextExample("0", "x")], ["entailment"])
    assert (tmp_path / "RTE.tsv").read_text() == "old"


def test_dev_share_and_columns_of_a_glue_task(tmp_path):
    rows = "".join(f"text number {i}\t{i % 2}\n" for i in range(40))
    (tmp_path / "train.tsv").write_text("sentence\tlabel\n" + rows)
    options = TaskOptions(task="SST-2", data_dir=str(tmp_path), dev_share=0.25)
    train, dev = (read_texts(options, split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == (30, 10)
    assert {e.text_a for e in train} | {e.text_a for e in dev} == {
        f"text number {i}" for i in range(40)
    }
    with pytest.raises(UsageError, match="between 0 and 1"):
        read_texts(dataclasses.replace(options, dev_share=0.0), "train")
    with pytest.raises(UsageError, match="--label_column says nothing to SST-2"):
        read_texts(dataclasses.replace(options, label_column="x"), "train")
