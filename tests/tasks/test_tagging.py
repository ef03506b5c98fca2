"""Tagging tasks: what is written, in the scheme of the data, and their settings."""

import json

import numpy as np
import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.tasks import running
from electra_keras.tasks.data.columns import read_columns
from electra_keras.tasks.data.examples import TaggedSentence, TextExample
from electra_keras.tasks.interface import scores_of
from electra_keras.tasks.options import InputOptions, TaskOptions
from electra_keras.tasks.reading import read_texts_to_tag
from electra_keras.tasks.schemes import write_tags
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.text.tokenizer import Tokenizer
from electra_keras.text.vocabulary import Vocabulary
from tests.tasks.my_task import LongTexts

VOCABULARY = Vocabulary(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"))
TOKENIZER = Tokenizer(VOCABULARY)


def write_file(path, scheme, sentences=60):
    """Random sentences of the words a to h, a column between word and tag."""
    rng = np.random.default_rng(1)
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(sentences):
            tags = rng.choice(["O", "B-P", "I-P", "B-L", "I-L"], rng.integers(1, 12))
            if scheme != "plain":
                tags = write_tags(list(map(str, tags)), scheme)
            for tag in tags:
                file.write(f"{rng.choice(list('abcdefgh'))} _ {tag}\n")
            file.write("\n")
    return str(path)


def guesses(task, features, seed=2):
    """Outputs of a head that is right about six words in ten."""
    rng = np.random.default_rng(seed)
    outputs = rng.random((*features["is_word"].shape, len(task.labels)), np.float32)
    right = np.eye(len(task.labels), dtype=np.float32)[np.maximum(features["labels"], 0)]
    return outputs + right * (rng.random((*outputs.shape[:2], 1)) < 0.6)


ENDS = {"BB", "BO", "IB", "IO", "EE", "EI", "EO"}
BEGINS = {"BB", "IB", "OB", "OI", "EE", "EI", "OE"}


def conlleval(lines):
    """F1 of conlleval.pl by its description: the last two columns; a blank line is a token outside.

    A chunk ends where the letters of two tags are one of ENDS, or the type changes; one begins at one
    of BEGINS, or where the type changes.
    """
    last, both_open = ("O", "O"), False
    counts = [0, 0, 0]  # gold, predicted, right
    for line in [*lines, ""]:
        now = tuple(line.split("\t")[-2:]) if line else ("O", "O")
        ends, begins = [], []
        for before, after in zip(last, now, strict=True):
            (a, _, old), (b, _, new) = before.partition("-"), after.partition("-")
            ends.append(a + b in ENDS or (a != "O" and old != new))
            begins.append(a + b in BEGINS or (b != "O" and old != new))
        counts[2] += both_open and all(ends)
        both_open = both_open and not any(ends)
        if all(begins) and now[0].partition("-")[2] == now[1].partition("-")[2]:
            both_open = True
        counts[0] += begins[0]
        counts[1] += begins[1]
        last = now
    gold, predicted, right = counts
    return 200 * right / (gold + predicted)


def predict(task, path, directory, **options):
    """Returns the lines of predictions.conll, and what `evaluate` says of the same outputs."""
    examples = task.read(TaskOptions(task="tagging", dev_file=path), "dev", task)
    features = task.features(examples, TOKENIZER)
    outputs = guesses(task, features)
    inputs = task.read_inputs(InputOptions(input=path, word_column=0, **options))
    rows = task.predictions(outputs, features, inputs)
    written = task.write_submission(str(directory), "test", inputs, rows)
    with open(written, encoding="utf-8") as file:
        return file.read().splitlines(), task.evaluate(outputs, features, examples), rows


@pytest.mark.parametrize("learned", ["BIO", "BIOES"])
@pytest.mark.parametrize("scheme", ["IOB1", "BIO"])
def test_conlleval_finds_in_the_file_what_evaluate_finds(tmp_path, scheme, learned):
    path = write_file(tmp_path / "data.txt", scheme)
    options = TaskOptions(task="tagging", tag_scheme=learned, max_seq_length=16)
    task = TaggingTask.of_data(options, read_columns(path))
    assert (task.scheme, task.data_scheme) == (learned, scheme)
    lines, metrics, rows = predict(task, path, tmp_path, tag_column=-1)
    gold = [line.split(" ") for line in (tmp_path / "data.txt").read_text().splitlines()]
    assert [line.split("\t")[:2] for line in lines] == [[*f[:1], *f[2:]] or [""] for f in gold]
    assert 10 < metrics["f1"] < 90
    assert conlleval(lines) == pytest.approx(metrics["f1"])
    tags = {line.split("\t")[-1] for line in lines if line}
    assert {tag[0] for tag in tags} == set("OBI")
    assert [w["tag"] for row in rows for w in row["words"]] == [
        line.split("\t")[-1] for line in lines if line
    ]


@pytest.mark.parametrize("scheme", ["BIOES", "BILOU", "BMES"])
def test_tags_come_in_the_letters_of_the_data(tmp_path, scheme):
    path = write_file(tmp_path / "data.txt", scheme)
    task = TaggingTask.of_data(TaskOptions(task="tagging", tag_scheme="BIO"), read_columns(path))
    lines, _, _ = predict(task, path, tmp_path)
    assert {len(line.split("\t")) for line in lines if line} == {2}  # no column of tags was named
    letters = {line.split("\t")[1][0] for line in lines if line}
    assert letters == {"BILOU": set("BILOU"), "BMES": set("BMESO")}.get(scheme, set("BIOES"))


def test_plain_labels(tmp_path):
    path = write_file(tmp_path / "data.txt", "plain")
    options = TaskOptions(task="tagging", tag_scheme="plain", dev_file=path)
    examples = TaggingTask.read(options, "dev")
    task = TaggingTask.of_data(options, examples)
    assert task.labels == ("B-L", "B-P", "I-L", "I-P", "O") and task.metrics[0] == "accuracy"
    assert TaggingTask.from_json(task.to_json(), "task.json") == task
    assert task.describe() == "tagging in plain labels, 5: B-L, B-P, I-L, I-P, O"
    lines, metrics, rows = predict(task, path, tmp_path, tag_column=-1)
    pairs = [line.split("\t")[1:] for line in lines if line]
    right = sum(gold == predicted for gold, predicted in pairs)
    assert metrics["accuracy"] == pytest.approx(100 * right / len(pairs))
    assert set(metrics) == {"accuracy", "macro_f1"} and "entities" not in rows[0]
    features = task.features(examples, TOKENIZER)
    outputs = guesses(task, features)
    assert not task.failed(outputs, features, examples)
    assert task.failed(np.ones_like(outputs), features, examples)


def test_the_unit_of_scores_is_shown():
    assert scores_of(TaggingTask) == ", scores in percent"
    assert scores_of(LongTexts) == ""  # of a task of one's own nothing is known


def test_one_plain_label_is_too_few(tmp_path):
    (tmp_path / "data.txt").write_text("a N\nb N\n")
    examples = read_columns(str(tmp_path / "data.txt"), plain=True)
    with pytest.raises(UsageError, match="no tag but N"):
        TaggingTask.of_data(TaskOptions(task="tagging", tag_scheme="plain"), examples)


def test_predictions_are_made_of_few_long_texts_at_a_time():
    def sizes(*examples):
        parts = list(running.chunks(examples))
        assert [example for part in parts for example in part] == list(examples)
        return [len(part) for part in parts]

    short, long = TextExample("0", "a b"), TextExample("1", "a " * 150_000, "b " * 150_000)
    words = TaggedSentence("2", ("a" * 600_000,))
    assert sizes(*[short] * 2500) == [1024, 1024, 452]
    assert sizes(long, short, long, words, short, {"of": "a task of one's own"}) == [2, 1, 3]
    assert sizes(TextExample("3", "a" * 3_000_000), short) == [1, 1]
    assert sizes() == []


def test_texts_to_tag_that_are_too_long_are_refused(tmp_path):
    (tmp_path / "a.txt").write_text("a b\n" + "a " * 50 + "\n")
    with pytest.raises(UserError, match=r"a\.txt, line 2: more than 40 bytes.*--max_text_length"):
        read_texts_to_tag(InputOptions(input=str(tmp_path / "a.txt"), max_text_length=10), False)


def test_gold_tags_need_the_words_column():
    with pytest.raises(UsageError, match="--tag_column needs --word_column"):
        InputOptions(tag_column=-1)


SETTINGS = {
    "family": "tagging", "name": "tagging", "labels": ["O", "B-P", "I-P"], "scheme": "BIO",
    "max_seq_length": 16, "stride": 8, "data_scheme": "IOB1",
}  # fmt: skip


def test_settings_of_before_the_scheme_of_the_data():
    old = {key: value for key, value in SETTINGS.items() if key != "data_scheme"}
    task = TaggingTask.from_json(json.dumps(old | {"scheme": "BIOES"}), "task.json")
    assert (task.scheme, task.data_scheme) == ("BIOES", "BIO")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": "OB"}, {"labels": ["O"]}, {"labels": ["O", 1]}, {"labels": ["O", None]},
        {"labels": ["O", "B-P", "B-P"]}, {"labels": ["O", "B-\ud800"]}, {"labels": ["O", "NN"]},
        {"labels": {"O": 0, "B-P": 1}}, {"labels": None}, {"labels": [["O"], ["B-P"]]},
        {"scheme": "IOB1"}, {"scheme": None}, {"scheme": ["BIO"]}, {"scheme": "plain"},
        {"data_scheme": "plain"}, {"data_scheme": "X"}, {"data_scheme": ["BIO"]},
        {"max_seq_length": -1}, {"max_seq_length": 2}, {"max_seq_length": 16.0},
        {"max_seq_length": True}, {"max_seq_length": 2**31}, {"max_seq_length": "16"},
        {"stride": 0}, {"stride": -8}, {"stride": 10**12}, {"stride": None}, {"stride": 1e12},
        {"name": 5}, {"name": "CoLA"}, {"name": None},
    ],
)  # fmt: skip
def test_impossible_settings(change):
    assert TaggingTask.from_json(json.dumps(SETTINGS), "task.json").data_scheme == "IOB1"
    with pytest.raises(UserError, match=r"^task\.json holds "):
        TaggingTask.from_json(json.dumps(SETTINGS | change), "task.json")
