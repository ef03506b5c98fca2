"""finetune and predict as commands: learning, resuming, predictions, bad input."""

import json
import shutil

import numpy as np
import pytest

from tests import runs


def write_jsonl(path, count, seed):
    """Sentiment by a single word: word7 is good, word8 is bad."""
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(count):
            good = bool(rng.integers(2))
            words = [f"word{i}" for i in rng.integers(10, 50, rng.integers(2, 9))]
            words.insert(int(rng.integers(len(words))), "word7" if good else "word8")
            row = {"text": " ".join(words), "label": "good" if good else "bad"}
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    write_jsonl(directory / "train.jsonl", 1024, seed=0)
    write_jsonl(directory / "dev.jsonl", 64, seed=1)
    return directory


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pretrained")
    records = runs.write_records(directory / "records", examples=16)
    runs.train(
        f"--data_dir={records}", f"--model_dir={directory / 'run'}", "--train_steps=1",
        "--train_batch_size=8", "--warmup_steps=1", "--initializer_range=0.2",
    )  # fmt: skip
    return directory / "run"


def arguments(pretrained, data, model_dir, *more):
    return [
        f"--init_from={pretrained}", "--task=classification", f"--data_dir={data}",
        f"--model_dir={model_dir}", "--max_seq_length=16", "--learning_rate=2e-3",
        "--layerwise_lr_decay=1", "--train_steps=300", "--eval_steps=100", "--save_steps=100",
        "--log_steps=30", "--keep_checkpoints=4", "--jit_compile=off", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def finetuned(pretrained, data, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("finetuned") / "run"
    code, stdout, stderr = runs.run(
        "electra_keras.finetune", *arguments(pretrained, data, model_dir)
    )
    assert code == 0, stderr
    assert "accuracy" in stdout and "scores as fractions: 1 is best" in stdout
    return model_dir


def test_it_learns(finetuned):
    last = runs.metrics_of(finetuned)[-1]
    assert last["split"] == "validation" and last["step"] == 300
    assert last["accuracy"] > 0.9, last


def test_a_resumed_run_equals_an_uninterrupted_one(finetuned, pretrained, data, tmp_path):
    resumed = tmp_path / "run"
    shutil.copytree(finetuned, resumed)
    for path in (resumed / "checkpoints").glob("step-*"):
        if path.name > "step-00000100":  # as if the run had been killed there
            shutil.rmtree(path)
    assert [p.name for p in (resumed / "checkpoints").glob("step-*")] == ["step-00000100"]
    shutil.rmtree(resumed / "checkpoints" / "best")
    code, _, stderr = runs.run("electra_keras.finetune", *arguments(pretrained, data, resumed))
    assert code == 0 and "resuming at step 100" in stderr, stderr
    ours, theirs = runs.checkpoint_arrays(resumed, 300), runs.checkpoint_arrays(finetuned, 300)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert runs.metrics_of(resumed) == runs.metrics_of(finetuned)


def test_predictions_of_lines_and_tables(finetuned, data, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("word7 word20\nword8 word21 word22\n\n" + "word30 " * 40 + "\n")
    code, stdout, stderr = runs.run(
        "electra_keras.predict", f"--model_dir={finetuned}", f"--input={texts}"
    )
    assert code == 0, stderr
    rows = [json.loads(line) for line in stdout.splitlines()]
    assert [row["id"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["label"] for row in rows[:2]] == ["good", "bad"]
    for row in rows:
        assert row["probabilities"].keys() == {"good", "bad"}
        assert abs(sum(row["probabilities"].values()) - 1) < 1e-6
    assert [row.get("truncated", False) for row in rows] == [False, False, False, True]

    code, stdout, stderr = runs.run(
        "electra_keras.predict", f"--model_dir={finetuned}", f"--input={data / 'dev.jsonl'}"
    )
    assert code == 0, stderr
    piped = tmp_path / "piped"  # a name that does not say what it is, as standard input's
    shutil.copy(data / "dev.jsonl", piped)
    again = runs.run(
        "electra_keras.predict", f"--model_dir={finetuned}", f"--input={piped}",
        "--input_format=jsonl", "--id_column=text",
    )[1]  # fmt: skip
    for row, by_text in zip(stdout.splitlines(), again.splitlines(), strict=True):
        row, by_text = json.loads(row), json.loads(by_text)
        assert "word" in by_text.pop("id") and row.pop("id")
        assert row == by_text
    gold = [json.loads(line)["label"] for line in (data / "dev.jsonl").open()]
    found = [json.loads(line)["label"] for line in stdout.splitlines()]
    best = max(r["accuracy"] for r in runs.metrics_of(finetuned) if r["split"] == "validation")
    assert np.mean([a == b for a, b in zip(gold, found, strict=True)]) == pytest.approx(best)


def test_a_label_that_only_the_dev_file_has_is_an_error_of_the_model(finetuned, tmp_path):
    labels = ["good", "ugly", "good", "bad"]
    dev = tmp_path / "dev.jsonl"
    dev.write_text(
        "".join(json.dumps({"text": "word7", "label": label}) + "\n" for label in labels)
    )
    code, stdout, stderr = runs.run(
        "electra_keras.evaluate", f"--model_dir={finetuned}", f"--dev_file={dev}", "--json"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["accuracy"] == 0.5
    assert stderr.count("'ugly' (1)") == 1


def test_bad_input_is_one_line(finetuned, pretrained, data, tmp_path):
    def error(*flags):
        args = dict(
            flag.split("=", 1) for flag in [*arguments(pretrained, data, tmp_path / "run"), *flags]
        )
        return runs.error_of("electra_keras.finetune", *(f"{k}={v}" for k, v in args.items()))

    code, line = error("--task=SST-3")
    assert code == 2 and "unknown --task=SST-3" in line
    code, line = error("--task=RTE", "--multi_label=true")
    assert code == 2 and "RTE has its kind" in line
    code, line = error("--text_columns=sentence")
    assert code == 1 and "no column 'sentence'" in line and "train.jsonl, line 1" in line
    code, line = error("--max_seq_length=17")
    assert code == 2 and "--max_seq_length=17 is more than the model's 16 positions" in line
    dev = tmp_path / "dev.jsonl"
    dev.write_text('{"text": "word1", "label": "ugly"}\n')
    code, line = error(f"--dev_file={dev}")
    assert code == 1 and "no label is one of the model's, as 'ugly'" in line
    code, line = runs.error_of("electra_keras.predict", f"--model_dir={pretrained}")
    assert code == 1 and "is not fine-tuned" in line
    assert not (tmp_path / "run").exists()
    code, line = runs.error_of("electra_keras.evaluate", f"--model_dir={tmp_path / 'no'}")
    assert code == 1 and "/no is not a model directory" in line
    for flags, message in (
        (["--text_columns=review"], "--text_columns is for tables, but standard input is read as"),
        (["--input_format=json"], "--input_format=json is for questions"),
        (["--input_format=tsv", "--glue_dir=glue"], "--glue_dir contradicts"),
        (
            [f"--submission_dir={tmp_path / 'sub'}"],
            "none of GLUE's tasks, and has no official scorer",
        ),
    ):
        code, line = runs.error_of("electra_keras.predict", f"--model_dir={finetuned}", *flags)
        assert code == 2 and message in line
    assert not (tmp_path / "sub").exists()
    code, line = error(f"--model_dir={finetuned}", "--truncation=tail")
    assert code == 2 and "holds a run of another task" in line


def test_a_model_of_mnli_and_the_diagnostic_set(pretrained, tmp_path):
    """With dropout of its own, in the run that these need anyway."""
    header, texts = "index\tsentence1\tsentence2", ["0\tword6\tword7", "1\tword9 word8\tword7"]
    labels = ["neutral", "entailment"]
    rows = [f"{text}\t{label}" for text, label in zip(texts, labels, strict=True)]
    for name, first, lines in (
        ("train", f"{header}\tgold_label", rows * 8),
        ("dev_matched", f"{header}\tgold_label", rows),
        ("AX", header, texts),
        ("full", "lizard\tPremise\tHypothesis\tLabel", rows),
    ):
        (tmp_path / f"{name}.tsv").write_text("\n".join([first, *lines]) + "\n")
    command = [
        f"--init_from={pretrained}", f"--data_dir={tmp_path}", "--train_steps=2",
        "--train_batch_size=8", "--max_seq_length=16", "--jit_compile=off", "--eval_steps=2",
        "--hidden_dropout_prob=0.3", "--attention_probs_dropout_prob=0",
    ]  # fmt: skip
    run = tmp_path / "run"
    code, line = runs.error_of(
        "electra_keras.finetune", *command, f"--model_dir={run}", "--task=AX"
    )
    assert code == 2 and "AX has no training data: fine-tune on MNLI" in line
    code, _, stderr = runs.run(
        "electra_keras.finetune", *command, f"--model_dir={run}", "--task=MNLI"
    )
    assert code == 0, stderr
    theirs, ours = (
        json.loads((directory / "config.json").read_text())["discriminator"]
        for directory in (pretrained, run)
    )
    assert ours == theirs | {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.0}

    code, stdout, stderr = runs.run(
        "electra_keras.predict", f"--model_dir={run}", "--task=AX", f"--glue_dir={tmp_path}",
        f"--submission_dir={tmp_path / 'out'}",
    )  # fmt: skip
    assert code == 0, stderr
    predicted = [json.loads(line)["label"] for line in stdout.splitlines()]
    expected = "".join(f"{number}\t{label}\n" for number, label in enumerate(predicted))
    assert (tmp_path / "out" / "AX.tsv").read_text() == "index\tprediction\n" + expected
    code, stdout, stderr = runs.run(
        "electra_keras.evaluate", f"--model_dir={run}", "--task=AX", "--json",
        f"--dev_file={tmp_path / 'full.tsv'}", "--text_columns=Premise,Hypothesis",
        "--label_column=Label",
    )  # fmt: skip
    assert code == 0, stderr
    assert json.loads(stdout).keys() == {"matthews", "loss"}
