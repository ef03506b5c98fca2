"""Exports of fine-tuned models: run by TensorFlow's C++ loader, equal to Python's and to predict's."""

import json
import shutil

import numpy as np
import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.serving import finetuned, quantization, windowed
from electra_keras.tasks.schemes import write_tags
from tests.runs import error_of, run
from tests.serving import finetuned_models
from tests.serving.finetuned_models import QUESTIONS, READABLE, TASKS, default_of, requests
from tests.serving.test_export import warmup_logs
from tests.serving.test_native import assert_same, computed, expected, run_python, to_json
from tests.serving.texts import BUCKETS

# isort: split
import tensorflow as tf

CLASSIFIERS = [name for name in TASKS if default_of(name) in ("classify", "regress")]
ASKED = [(name, signature) for name in TASKS for signature in requests(name)]


def warmup_requests(export):
    """The signature and the inputs of every warm-up request of an export."""
    for log in warmup_logs(export.path):
        request = log.predict_log.request
        inputs = {key: tf.make_ndarray(value).tolist() for key, value in request.inputs.items()}
        yield request.model_spec.signature_name, inputs


@pytest.fixture(scope="module")
def native_process(finetuned_exports):
    """Answers of all exports, from a process that never imports Python's TensorFlow.

    Those to `requests`, and those to the warm-up requests, in the order of ASKED and of the exports.
    """
    asked = [(name, signature, requests(name)[signature]) for name, signature in ASKED]
    for name, export in finetuned_exports.items():
        asked += [(name, *request) for request in warmup_requests(export)]
    lines = []
    for name, signature, inputs in asked:
        coded = {key: to_json(value) for key, value in inputs.items()}
        number = list(TASKS).index(name)
        lines.append(json.dumps({"export": number, "signature": signature, "inputs": coded}))
    paths = [str(finetuned_exports[name].path) for name in TASKS]
    answers = run_python(["-m", "tests.serving.native", *paths], "\n".join(lines))
    *answers, imported = map(json.loads, answers)
    assert imported == {"imported": []}
    assert len(answers) == len(asked)
    return answers


@pytest.fixture(scope="module")
def native_answers(native_process):
    return dict(zip(ASKED, native_process, strict=False))


@pytest.mark.parametrize("name, signature", ASKED)
def test_the_cpp_loader_gives_what_python_gives(finetuned_exports, native_answers, name, signature):
    reference = expected(finetuned_exports[name], signature, requests(name)[signature])
    assert_same(native_answers[name, signature], reference)
    rows = len(next(iter(requests(name)[signature].values())))
    assert {len(value) for value in reference.values()} == {rows}


# Runs the command's main once for each model, in one process.
_PREDICT = """
import sys
from absl import flags
from electra_keras import predict
for arguments in map(str.split, sys.argv[1:]):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()  # what the one before was given
    flags.FLAGS(["predict", *arguments])
    print("--")
    assert predict.main() == 0
"""


@pytest.fixture(scope="module")
def predictions(finetuned_exports, tmp_path_factory):
    """What electra_keras.predict says of the texts, by export."""
    directory = tmp_path_factory.mktemp("inputs")
    arguments = []
    for name, task in TASKS.items():
        path = directory / f"{name}.{'txt' if name == 'tag' else 'jsonl'}"
        if name == "tag":
            # White space is no word, be it the end of a line or not.
            lines = [text.replace("\n", " ") for text in READABLE]
        else:
            columns = {"question": QUESTIONS, "context": READABLE}
            if default_of(name) != "answer":
                columns = {"text": READABLE, "text_pair": READABLE[::-1]}
            rows = zip(*columns.values(), strict=True)
            lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        path.write_text("".join(f"{line}\n" for line in lines))
        pairs = " --text_columns=text,text_pair" if getattr(task, "pairs", False) else ""
        model_dir = finetuned_exports[name].model_dir
        arguments.append(f"--model_dir={model_dir} --input={path}{pairs}")
    lines = run_python(["-c", _PREDICT, *arguments])
    begins = [i for i, line in enumerate(lines) if line == "--"] + [len(lines)]
    return {
        name: [json.loads(line) for line in lines[begin + 1 : end]]
        for name, begin, end in zip(TASKS, begins[:-1], begins[1:], strict=True)
    }


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes_are_those_of_predict(native_answers, predictions, name):
    answer, rows = native_answers[name, "serving_default"], predictions[name]
    assert len(rows) == len(answer["truncated"]) == len(READABLE)
    for i, row in enumerate(rows):
        assert row.get("truncated", False) == answer["truncated"][i]
        if name == "regress":
            assert row["score"] == pytest.approx(answer["score"][i], abs=1e-5)
            continue
        assert list(row["probabilities"]) == answer["labels"][i]
        np.testing.assert_allclose(
            answer["probabilities"][i], list(row["probabilities"].values()), atol=1e-5
        )
        if name == "multi_label":
            assert answer["chosen"][i][: answer["length"][i]] == row["labels"]
            assert set(answer["chosen"][i][answer["length"][i] :]) <= {""}
        else:
            assert answer["label"][i] == row["label"]
            assert answer["probability"][i] == max(answer["probabilities"][i])


@pytest.mark.parametrize("name", ["answer", "answer_plain"])
def test_answers_are_those_of_predict(native_answers, predictions, name):
    answer, rows = native_answers[name, "answer"], predictions[name]
    assert len(rows) == len(READABLE)
    for i, row in enumerate(rows):
        assert row.get("truncated", False) == answer["truncated"][i]
        assert answer["answer"][i] == row["answer"]
        span = answer["start"][i], answer["end"][i]
        assert span == (row.get("start", 0), row.get("end", 0))
        assert READABLE[i][slice(*span)] == row["answer"]
        assert answer["null_odds"][i] == pytest.approx(row["null_odds"], abs=1e-5)
        best = row["best"][0] if row["best"] else {"text": "", "start": 0, "end": 0, "score": -1e9}
        assert answer["best_answer"][i] == best["text"]
        assert (answer["best_start"][i], answer["best_end"][i]) == (best["start"], best["end"])
        assert answer["score"][i] == pytest.approx(best["score"], abs=1e-5)
    # Of those with a context all have a best span; not all have an answer if there are null odds.
    found = [bool(text) for text in answer["answer"]]
    assert [bool(text) for text in answer["best_answer"]] == [True, False, True, True, True, False]
    assert 0 < sum(found) < 4 if name == "answer" else sum(found) == 4
    assert answer["truncated"] == [False] * 5 + [True]


def test_tags_are_those_of_predict(native_answers, predictions):
    answer, rows = native_answers["tag", "tag"], predictions["tag"]
    assert answer["length"] == [len(row["words"]) for row in rows]
    for i, row in enumerate(rows):
        length = answer["length"][i]
        for key, name in (("words", "text"), ("tags", "tag"), ("starts", "start"), ("ends", "end")):
            assert answer[key][i][:length] == [word[name] for word in row["words"]]
            assert not any(answer[key][i][length:])
        probabilities = [word["probability"] for word in row["words"]]
        np.testing.assert_allclose(answer["probabilities"][i][:length], probabilities, atol=1e-5)
    assert answer["words"][0][:7] == ["The", "cat", "sat", "on", "the", "mat", "."]
    assert answer["length"][4] == 120  # in several windows
    tags = {tag for tags in answer["tags"] for tag in tags}
    assert len(tags) > 2 and {"E", "S"} & {tag[:1] for tag in tags}  # in the scheme of the data


def test_classes_differ_from_text_to_text(native_answers):
    """Or the tests above would say little."""
    for name in CLASSIFIERS:
        answer = native_answers[name, "serving_default"]
        key = "score" if name == "regress" else "probabilities"
        assert np.ptp(np.array(answer[key]), axis=0).max() > 0.1
        assert answer["truncated"].count(True) in (1, 2)
    assert 0 < sum(native_answers["multi_label", "classify"]["length"]) < 4 * len(READABLE)


def test_ids_answer_as_text_does(finetuned_exports):
    """The inputs that the graph makes of a text, sent as ids, give the text's own answer."""
    vocabulary = finetuned_models.VOCABULARY
    words = ["one", "is", "the", "two", "on", "a", "three"]
    tokens = ["[CLS]", *words[:2], "[SEP]", *words[2:], "[SEP]"]
    ids = {
        "input_ids": [[vocabulary.ids[token] for token in tokens]],
        "input_mask": [[1] * len(tokens)],
        "segment_ids": [[0] * 4 + [1] * 6],
    }
    for name in ("answer", "answer_plain"):
        text = {"question": [" ".join(words[:2])], "context": [" ".join(words[2:])]}
        by_text, by_ids = (
            expected(finetuned_exports[name], signature, inputs)
            for signature, inputs in (("answer", text), ("answer_ids", ids))
        )
        for key in ("score", "null_odds"):
            np.testing.assert_allclose(by_ids[key], by_text[key], atol=1e-5)
        first, last = by_ids["best_start"][0], by_ids["best_end"][0]
        assert by_text["best_answer"][0].decode() == " ".join(tokens[first : last + 1])
    one = {key: [value[0][:3] + value[0][-1:]] for key, value in ids.items()}
    one["segment_ids"] = [[0] * 4]
    by_text = expected(finetuned_exports["tag"], "tag", {"text": ["one is"]})
    by_ids = expected(finetuned_exports["tag"], "tag_ids", one)
    labels = [tag.decode() for tag in by_ids["tags"][0, 1:3]]
    assert [tag.decode() for tag in by_text["tags"][0]] == write_tags(labels, "BIOES")
    np.testing.assert_allclose(
        by_ids["probabilities"][0, 1:3], by_text["probabilities"][0], atol=1e-5
    )


def test_a_pair_without_second_text_keeps_its_sep(finetuned_exports):
    """[CLS] A [SEP] [SEP], as in training; the pre-trained export makes a single text of it."""
    export = finetuned_exports["classify_pair"]
    pair = expected(export, "classify", {"text": ["the"], "text_pair": [""]})
    vocabulary = finetuned_models.VOCABULARY
    ids = [vocabulary.cls_id, vocabulary.ids["the"], vocabulary.sep_id, vocabulary.sep_id]
    by_hand = {"input_ids": [ids], "input_mask": [[1] * 4], "segment_ids": [[0, 0, 0, 1]]}
    by_ids = expected(export, "classify_ids", by_hand)
    np.testing.assert_allclose(by_ids["probabilities"], pair["probabilities"], atol=1e-6)
    by_hand["segment_ids"], by_hand["input_mask"] = [[0] * 4], [[1, 1, 1, 0]]
    single = expected(export, "classify_ids", by_hand)
    assert np.abs(single["probabilities"] - pair["probabilities"]).max() > 1e-4


@pytest.mark.parametrize("name", TASKS)
def test_no_texts_at_all(finetuned_exports, name):
    inputs = {key: [] for key in requests(name)["serving_default"]}
    answer = expected(finetuned_exports[name], "serving_default", inputs)
    assert {len(value) for value in answer.values()} == {0}


def test_warmup_has_every_signature_and_bucket(finetuned_exports, native_process):
    answers = iter(native_process[len(ASKED) :])
    for export in finetuned_exports.values():
        seen = set()
        for signature, inputs in warmup_requests(export):
            outputs = next(answers)
            assert signature == "tag" or not any(outputs["truncated"])
            if "input_ids" in inputs:
                length = len(inputs["input_ids"][0])
            else:  # each word is one token
                words = sum(len(value[0].split()) for value in inputs.values())
                length = min(b for b in BUCKETS if b >= 1 + words + len(inputs))
            seen.add((signature, length))
        assert seen == {(s.name, bucket) for s in export.servable.signatures for bucket in BUCKETS}
    assert next(answers, None) is None


def test_windows_are_read_some_at_a_time(finetuned_exports, monkeypatch):
    """The answers do not depend on how many; more than one window at a time is what a text needs."""
    for name in ("answer", "tag"):
        export, inputs = finetuned_exports[name], requests(name)["serving_default"]
        at_once = computed(export, "serving_default", inputs)
        for tokens in (1, 100, 333):
            monkeypatch.setattr(windowed, "_TOKENS_AT_A_TIME", tokens)
            for key, value in computed(export, "serving_default", inputs).items():
                if value.dtype.kind == "f":
                    np.testing.assert_allclose(value, at_once[key], atol=1e-5)
                else:
                    np.testing.assert_array_equal(value, at_once[key])
        monkeypatch.undo()


# --- Smaller weights, and bad use ----------------------------------------------------------------


@pytest.mark.parametrize(
    "smaller, name, output, most",
    [
        ({"precision": "mixed_bfloat16"}, "classify_pair", "probabilities", 0.1),
        ({"precision": "mixed_bfloat16"}, "answer", "null_odds", 1),
        ({"precision": "mixed_bfloat16"}, "tag", "probabilities", 0.1),
        ({"quantize": "int8"}, "answer", "null_odds", 1),
    ],
)
def test_smaller_weights_give_nearly_the_same(finetuned_exports, smaller, name, output, most):
    export = finetuned_exports[name]
    other = finetuned.make_servable(export.model_dir, buckets=["32"], **smaller)
    texts = [text for text in READABLE if text.strip()]
    signature = default_of(name)
    exact, answers = (
        quantization.answers(servable, texts)[signature][output]
        for servable in (export.servable, other)
    )
    assert answers.dtype == np.float32
    assert 1e-6 < np.abs(exact - answers).max() < most


def test_the_command_says_what_int8_costs_and_what_it_wrote(finetuned_exports, tmp_path):
    export = finetuned_exports["classify_pair"]
    code, stdout, stderr = run(
        "electra_keras.export", f"--model_dir={export.model_dir}", f"--export_dir={tmp_path}",
        "--quantize=int8",
    )  # fmt: skip
    assert code == 0, stderr
    assert "difference from float32 on 64 texts" in stdout
    assert "classify.probabilities: mean difference" in stdout
    assert "classify.label: the same for" in stdout and "classify.labels" not in stdout
    assert "sequence buckets 16, 32; serving_default is classify" in stdout
    assert "  classify(text, text_pair)" in stdout
    described = json.loads((tmp_path / "1" / "assets.extra" / "export.json").read_text())
    assert described["task"]["labels"] == list(finetuned_models.ANIMALS)
    assert described["source"].endswith("step-00000003") and described["step"] == 3


def test_bad_use_is_one_line(finetuned_exports, tmp_path):
    export = finetuned_exports["classify"]
    with pytest.raises(UsageError, match=r"=8,16 must end with 32"):
        finetuned.make_servable(export.model_dir, buckets=["8", "16"])
    for text in ('{"family": "mine:Task"}', '{"family"'):
        (tmp_path / "task.json").write_text(text)
        with pytest.raises(UserError, match=r"task\.json is of no task of this library: .*damaged"):
            finetuned.make_servable(tmp_path)
    shutil.copytree(export.model_dir, tmp_path / "edited")
    with (tmp_path / "edited" / "vocab.txt").open("a") as file:
        file.write("zebra\n")
    with pytest.raises(UserError, match=r"vocab\.txt has \d+ tokens, but the model has \d+"):
        finetuned.make_servable(tmp_path / "edited")
    code, line = error_of(
        "electra_keras.export", f"--model_dir={export.model_dir}", f"--export_dir={tmp_path / 'x'}",
        "--top_k=3",
    )  # fmt: skip
    assert code == 2 and "--top_k is for pre-trained models" in line
    assert not (tmp_path / "x").exists()
