"""Exports of fine-tuned models: run by TensorFlow's C++ loader, equal to Python's and to predict's."""

import json

import numpy as np
import pytest

from electra_keras.console import UsageError
from electra_keras.serving import finetuned, quantization
from tests.runs import error_of, run
from tests.serving import finetuned_models
from tests.serving.finetuned_models import READABLE, TASKS, requests
from tests.serving.native import NativeModel
from tests.serving.test_export import warmup_logs
from tests.serving.test_native import assert_same, expected, run_python, to_json
from tests.serving.texts import BUCKETS

# isort: split
import tensorflow as tf

ASKED = [(name, signature) for name in TASKS for signature in requests(name)]


@pytest.fixture(scope="module")
def native_answers(finetuned_exports):
    """Every answer of every export, from a process that never imports Python's TensorFlow."""
    lines = []
    for name, signature in ASKED:
        inputs = {key: to_json(value) for key, value in requests(name)[signature].items()}
        export = list(TASKS).index(name)
        lines.append(json.dumps({"export": export, "signature": signature, "inputs": inputs}))
    paths = [str(finetuned_exports[name].path) for name in TASKS]
    answers = run_python(["-m", "tests.serving.native", *paths], "\n".join(lines))
    *answers, imported = map(json.loads, answers)
    assert imported == {"imported": []}
    return dict(zip(ASKED, answers, strict=True))


@pytest.mark.parametrize("name, signature", ASKED)
def test_the_cpp_loader_gives_what_python_gives(finetuned_exports, native_answers, name, signature):
    reference = expected(finetuned_exports[name], signature, requests(name)[signature])
    assert_same(native_answers[name, signature], reference)
    assert len(reference["truncated"]) == len(next(iter(requests(name)[signature].values())))


# Runs the command's main once for each model, in one process.
_PREDICT = """
import sys
from absl import flags
from electra_keras import predict
for arguments in map(str.split, sys.argv[1:]):
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
        path = directory / f"{name}.jsonl"
        rows = zip(READABLE, READABLE[::-1], strict=True)
        with path.open("w") as file:
            file.writelines(json.dumps({"text": a, "text_pair": b}) + "\n" for a, b in rows)
        columns = "text,text_pair" if task.pairs else "text"
        arguments.append(
            f"--model_dir={finetuned_exports[name].model_dir} --input={path} --text_columns={columns}"
        )
    lines = run_python(["-c", _PREDICT, *arguments])
    begins = [i for i, line in enumerate(lines) if line == "--"] + [len(lines)]
    return {
        name: [json.loads(line) for line in lines[begin + 1 : end]]
        for name, begin, end in zip(TASKS, begins[:-1], begins[1:], strict=True)
    }


@pytest.mark.parametrize("name", TASKS)
def test_an_export_answers_as_predict_does(native_answers, predictions, name):
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


def test_answers_differ_from_text_to_text(native_answers):
    """Or the tests above would say little."""
    for name in TASKS:
        answer = native_answers[name, "serving_default"]
        key = "score" if name == "regress" else "probabilities"
        assert np.ptp(np.array(answer[key]), axis=0).max() > 0.1
        assert answer["truncated"].count(True) in (1, 2)
    assert 0 < sum(native_answers["multi_label", "classify"]["length"]) < 4 * len(READABLE)


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


@pytest.mark.parametrize("name", TASKS)
def test_warmup_has_every_signature_and_bucket(finetuned_exports, name):
    export = finetuned_exports[name]
    native, seen = NativeModel(export.path), set()
    for log in warmup_logs(export.path):
        request = log.predict_log.request
        signature = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        assert not native.run(signature, inputs)["truncated"].any()
        if "input_ids" in inputs:
            length = inputs["input_ids"].shape[1]
        else:  # each word is one token
            words = sum(len(value[0].split()) for value in inputs.values())
            length = min(b for b in BUCKETS if b >= 1 + words + len(inputs))
        seen.add((signature, length))
    assert seen == {(s.name, bucket) for s in export.servable.signatures for bucket in BUCKETS}


# --- Smaller weights, and bad use ----------------------------------------------------------------


@pytest.mark.parametrize("smaller", [{"quantize": "int8"}, {"precision": "mixed_bfloat16"}])
def test_smaller_weights_give_nearly_the_same(finetuned_exports, smaller):
    export = finetuned_exports["classify_pair"]
    other = finetuned.make_servable(export.model_dir, buckets=["32"], **smaller)
    texts = [text for text in READABLE if text.strip()]
    exact, answers = (quantization.answers(s, texts) for s in (export.servable, other))
    difference = exact["classify"]["probabilities"] - answers["classify"]["probabilities"]
    assert 1e-6 < np.abs(difference).max() < 0.1


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
    assert described["labels"] == list(finetuned_models.ANIMALS)
    assert described["source"].endswith("step-00000003") and described["step"] == 3


def test_bad_use_is_one_line(finetuned_exports, tmp_path):
    export = finetuned_exports["classify"]
    with pytest.raises(UsageError, match=r"=8,16 must end with 32"):
        finetuned.make_servable(export.model_dir, buckets=["8", "16"])
    code, line = error_of(
        "electra_keras.export", f"--model_dir={export.model_dir}", f"--export_dir={tmp_path / 'x'}",
        "--top_k=3",
    )  # fmt: skip
    assert code == 2 and "--top_k is for pre-trained models" in line
    assert not (tmp_path / "x").exists()
