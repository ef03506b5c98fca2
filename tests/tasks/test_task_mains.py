"""finetune, evaluate and predict as commands for questions, tags, and a task of one's own."""

import json

import numpy as np
import pytest

from tests import runs


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pretrained")
    records = runs.write_records(directory / "records", examples=16)
    runs.train(
        f"--data_dir={records}", f"--model_dir={directory / 'run'}", "--train_steps=1",
        "--train_batch_size=8", "--warmup_steps=1", "--initializer_range=0.2",
        "--max_position_embeddings=32",
    )  # fmt: skip
    return directory / "run"


def finetune(pretrained, model_dir, *flags):
    code, stdout, stderr = runs.run(
        "electra_keras.finetune", f"--init_from={pretrained}", f"--model_dir={model_dir}",
        "--learning_rate=3e-3", "--layerwise_lr_decay=1", "--jit_compile=off", "--log_steps=20",
        *flags,
    )  # fmt: skip
    assert code == 0, stderr
    return stdout


def predict(model_dir, *flags):
    code, stdout, stderr = runs.run("electra_keras.predict", f"--model_dir={model_dir}", *flags)
    assert code == 0, stderr
    return [json.loads(line) for line in stdout.splitlines()]


def evaluate(model_dir, *flags):
    code, stdout, stderr = runs.run(
        "electra_keras.evaluate", f"--model_dir={model_dir}", "--json", *flags
    )
    assert code == 0, stderr
    return json.loads(stdout)


def last_validation(model_dir):
    return [r for r in runs.metrics_of(model_dir) if r["split"] == "validation"][-1]


# --- Questions: the answer is word6 or word7, whichever is there ---------------------------------


def squad_file(path, articles, seed):
    rng = np.random.default_rng(seed)
    data = []
    for article in range(articles):
        words = [f"word{i}" for i in rng.integers(10, 50, 12)]
        at = int(rng.integers(0, 12))
        words[at] = f"word{rng.integers(6, 8)}"
        context = " ".join(words)
        answer = {"text": words[at], "answer_start": len(" ".join([*words[:at], ""]))}
        qas = [{"id": f"{seed}-{article}", "question": "word8 word9?", "answers": [answer]}]
        data.append({"title": str(article), "paragraphs": [{"context": context, "qas": qas}]})
    path.write_text(json.dumps({"version": "1.1", "data": data}))


@pytest.fixture(scope="module")
def answering(pretrained, tmp_path_factory):
    directory = tmp_path_factory.mktemp("answering")
    squad_file(directory / "train-v1.1.json", 360, seed=0)
    finetune(
        pretrained, directory / "run", "--task=question_answering", f"--data_dir={directory}",
        "--dev_share=0.1", "--max_seq_length=32", "--max_query_length=8", "--stride=12",
        "--train_steps=100", "--eval_steps=100",
    )  # fmt: skip
    return directory


def test_questions_are_learnt_and_answered(answering, tmp_path):
    metrics = last_validation(answering / "run")
    assert metrics["f1"] > 60, metrics
    again = evaluate(answering / "run")
    assert again["f1"] == pytest.approx(metrics["f1"])
    assert again["total"] == 36  # the held-out articles, as in the run
    squad_file(answering / "other.json", 20, seed=5)
    other = evaluate(answering / "run", f"--dev_file={answering / 'other.json'}")
    assert other["total"] == 20

    rows = predict(
        answering / "run", f"--input={answering / 'other.json'}",
        f"--submission_dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert len(rows) == 20 and all(row["best"] for row in rows)
    official = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert official == {row["id"]: row["answer"] for row in rows}
    lines = [
        {"question": "word8?", "context": "word20 word7 word21\r\n word22 " * 20},
        {"question": "", "context": ""},
    ]
    asked = tmp_path / "asked.jsonl"
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    first, second = predict(answering / "run", f"--input={asked}")
    assert first["answer"] == lines[0]["context"][first["start"] : first["end"]] != ""
    assert second["answer"] == "" and second["best"] == []


def test_bad_questions_are_one_line(answering, pretrained, tmp_path):
    def error(*flags):
        return runs.error_of(
            "electra_keras.finetune", f"--init_from={pretrained}", "--task=question_answering",
            f"--model_dir={tmp_path / 'run'}", f"--data_dir={answering}", *flags,
        )  # fmt: skip

    code, line = error("--dev_share=0.1", "--max_seq_length=32")
    assert code == 2 and "leaves no room" in line
    code, line = error("--dev_share=0.1", "--multi_label")
    assert code == 2 and "--multi_label says nothing to --task=question_answering" in line
    code, line = error("--max_query_length=8")
    assert code == 1 and "no dev file" in line and "--dev_share" in line
    code, line = error("--dev_share=1.5")
    assert code == 2 and "between 0 and 1" in line
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"question": "a", "context": "b"}\n{"question": "a"}\n')
    code, line = runs.error_of(
        "electra_keras.predict", f"--model_dir={answering / 'run'}", f"--input={broken}"
    )
    assert code == 1 and "line 2" in line and "'context'" in line
    squad = tmp_path / "squad.jsonl"
    squad_file(squad, 2, seed=1)
    question = [f"--model_dir={answering / 'run'}", f"--input={squad}"]
    code, line = runs.error_of("electra_keras.predict", *question)
    assert code == 2 and "named .json, or with --input_format=json" in line
    assert len(predict(answering / "run", question[1], "--input_format=json")) == 2
    code, line = runs.error_of("electra_keras.predict", *question, "--input_format=tsv")
    assert code == 2 and "--input_format=tsv is for texts to classify" in line


@pytest.mark.parametrize(
    ("command", "flag", "message"),
    [
        ("evaluate", "--null_threshold=3", "--null_threshold changes nothing"),
        ("evaluate", "--text_columns=a", "--text_columns changes nothing"),
        ("evaluate", "--dev_share=0.5", "--dev_share changes nothing"),
        ("evaluate", "--task=tagging", "is of the task question_answering"),
        ("predict", "--task=CoLA", "is of the task question_answering"),
        ("predict", "--word_column=0", "--word_column says nothing to a model of"),
        ("predict", "--glue_dir=glue", "--glue_dir says nothing to a model of"),
    ],
)
def test_no_flag_is_passed_over(answering, command, flag, message):
    code, line = runs.error_of(f"electra_keras.{command}", f"--model_dir={answering / 'run'}", flag)
    assert code == 2 and message in line


# --- Tags: "word7 word8" is a chunk ---------------------------------------------------------------


def column_file(path, sentences, seed):
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(sentences):
            words = [f"word{i}" for i in rng.integers(10, 50, rng.integers(4, 9))]
            tags = ["O"] * len(words)
            at = int(rng.integers(0, len(words) - 1))
            words[at : at + 2], tags[at : at + 2] = ["word7", "word8"], ["B-X", "I-X"]
            file.writelines(f"{w} _ {t}\n" for w, t in zip(words, tags, strict=True))
            file.write("\n")


@pytest.fixture(scope="module")
def tagging(pretrained, tmp_path_factory):
    directory = tmp_path_factory.mktemp("tagging")
    column_file(directory / "train.txt", 300, seed=0)
    column_file(directory / "dev.txt", 40, seed=1)
    finetune(
        pretrained, directory / "run", "--task=tagging", f"--data_dir={directory}",
        "--max_seq_length=16", "--train_steps=60", "--eval_steps=60",
    )  # fmt: skip
    return directory


def test_tags_are_learnt_and_given(tagging, tmp_path):
    metrics = last_validation(tagging / "run")
    assert metrics["f1"] > 80, metrics
    assert evaluate(tagging / "run")["f1"] == pytest.approx(metrics["f1"])

    text = "word20 word7 word8, word22 " + "word30 " * 40
    (tmp_path / "text.txt").write_text(text + "\n")
    (row,) = predict(tagging / "run", f"--input={tmp_path / 'text.txt'}")
    assert len(row["words"]) == 45 and "truncated" not in row
    for word in row["words"]:
        assert word["text"] == text[word["start"] : word["end"]]
    found = [entity["text"] for entity in row["entities"]]
    assert "word7 word8" in found, found

    # More than are in memory at a time: the numbers of windows begin anew with each part.
    (tmp_path / "many.txt").write_text(f"{text}\nword20 word21\n" * 600)
    rows = predict(tagging / "run", f"--input={tmp_path / 'many.txt'}")
    assert [row["id"] for row in rows] == [str(number) for number in range(1200)]
    assert [len(row["words"]) for row in rows] == [45, 2] * 600

    rows = predict(
        tagging / "run", f"--input={tagging / 'dev.txt'}", "--word_column=0",
        f"--submission_dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert len(rows) == 40
    written = (tmp_path / "out" / "predictions.conll").read_text()
    gold = (tagging / "dev.txt").read_text()
    assert [line.split("\t")[0] for line in written.splitlines()] == [
        line.split(" ")[0] for line in gold.splitlines()
    ]


def test_bad_tags_are_one_line(tagging, pretrained, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_text("word10 _ O\nword11 _ Y\n")
    code, line = runs.error_of(
        "electra_keras.evaluate", f"--model_dir={tagging / 'run'}", f"--dev_file={bad}"
    )
    assert code == 1 and "line 2" in line and "unknown tag 'Y'" in line
    code, line = runs.error_of(
        "electra_keras.finetune", f"--init_from={pretrained}", f"--data_dir={tagging}",
        "--task=tagging", f"--model_dir={tmp_path / 'run'}", "--tag_column=1",
    )  # fmt: skip
    assert code == 1 and "unknown tag '_'" in line
    code, line = runs.error_of(
        "electra_keras.evaluate", f"--model_dir={tagging / 'run'}", "--eval_batches=2"
    )
    assert code == 2 and "--eval_batches is for pre-trained models" in line
    code, line = runs.error_of(
        "electra_keras.evaluate", f"--model_dir={pretrained}", "--dev_file=x.tsv"
    )
    assert code == 2 and "--dev_file is for fine-tuned models" in line


# --- A task of one's own --------------------------------------------------------------------------


def test_a_task_of_ones_own(pretrained, tmp_path):
    rng = np.random.default_rng(0)
    for name, count in (("train", 256), ("dev", 40)):
        lines = [" ".join(["word10"] * rng.integers(1, 8)) for _ in range(count)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    task = "--task=tests.tasks.my_task:LongTexts"
    finetune(
        pretrained, tmp_path / "run", task, f"--train_file={tmp_path / 'train.txt'}",
        f"--dev_file={tmp_path / 'dev.txt'}", "--train_steps=60", "--eval_steps=60",
    )  # fmt: skip
    metrics = last_validation(tmp_path / "run")
    assert metrics["accuracy"] > 0.8, metrics
    assert evaluate(tmp_path / "run", task)["accuracy"] == pytest.approx(metrics["accuracy"])
    rows = predict(tmp_path / "run", task, f"--input={tmp_path / 'dev.txt'}")
    assert np.mean([row["is_long"] for row in rows]) not in (0, 1)

    # What is on the disk does not decide which code is run.
    code, line = runs.error_of(
        "electra_keras.predict",
        f"--model_dir={tmp_path / 'run'}",
        f"--input={tmp_path / 'dev.txt'}",
    )
    assert code == 2 and "--task=module:Class" in line
    code, line = runs.error_of(
        "electra_keras.finetune", f"--init_from={pretrained}", "--task=tests.nothing:Here",
        f"--model_dir={tmp_path / 'other'}",
    )  # fmt: skip
    assert code == 2 and "cannot be imported" in line
    code, line = runs.error_of(
        "electra_keras.finetune", f"--init_from={pretrained}", "--task=json:JSONDecoder",
        f"--model_dir={tmp_path / 'other'}",
    )  # fmt: skip
    assert code == 2 and "JSONDecoder is no task: it has no read" in line
    code, line = runs.error_of(
        "electra_keras.predict", f"--model_dir={tmp_path / 'run'}", task,
        f"--input={tmp_path / 'dev.txt'}", f"--submission_dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert code == 2 and "long_texts has no write_submission" in line
    (tmp_path / "run" / "flags.cfg").write_text("--max_seq_length=long\n")
    code, line = runs.error_of("electra_keras.evaluate", f"--model_dir={tmp_path / 'run'}", task)
    assert code == 1 and "flags.cfg: flag --max_seq_length=long" in line
