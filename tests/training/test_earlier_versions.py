"""Run directories of commit e4f5f08 (tests/golden/runs_e4f5f08) load, go on and say the same.

They are a pre-training run of 20 steps on `runs.write_records`, with what its `evaluate` said, and a
classifier made of it, with texts and what its `predict` said of them.
"""

import json
import shutil

import pytest

from tests import runs

GOLDEN = runs.REPOSITORY / "tests" / "golden" / "runs_e4f5f08"


@pytest.fixture
def data(tmp_path):
    runs.write_records(tmp_path / "data", examples=64)
    return runs.write_records(tmp_path / "data", examples=16, shards=1, seed=1, name="validation")


def test_a_pre_trained_model_is_evaluated_alike(data):
    code, stdout, stderr = runs.run(
        "electra_keras.evaluate",
        f"--model_dir={GOLDEN / 'pretrained'}",
        f"--data_dir={data}",
        "--json",
    )
    assert code == 0, stderr
    found, expected = (
        json.loads(stdout),
        json.loads((GOLDEN / "pretrained/evaluation.json").read_text()),
    )
    # The area under the curve was counted in coarser bins.
    assert found.pop("discriminator_auc") == pytest.approx(
        expected.pop("discriminator_auc"), abs=0.01
    )
    assert found.pop("discriminator_precision") is expected.pop("discriminator_precision") is None
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_pre_training_run_goes_on(data, tmp_path):
    model_dir = shutil.copytree(GOLDEN / "pretrained", tmp_path / "run")
    stderr = runs.train(
        f"--data_dir={data}", f"--validation_files={data}/validation*", f"--model_dir={model_dir}",
        "--train_batch_size=8", "--warmup_steps=1", "--log_steps=1", "--learning_rate=1e-3",
        "--train_steps=22", "--eval_steps=10",
    )  # fmt: skip
    assert "resuming at step 20" in stderr
    assert "--train_steps was 20 and is 22" in stderr
    assert "saved by another version: the next log record begins at this step" in stderr
    assert [r["step"] for r in runs.metrics_of(model_dir) if r["split"] == "train"] == [21, 22]


def test_a_fine_tuned_model_predicts_alike():
    directory = GOLDEN / "classifier"
    code, stdout, stderr = runs.run(
        "electra_keras.predict", f"--model_dir={directory}", f"--input={directory / 'texts.txt'}"
    )
    assert code == 0, stderr
    expected = (directory / "predictions.jsonl").read_text().splitlines()
    for found, line in zip(map(json.loads, stdout.splitlines()), expected, strict=True):
        wanted = json.loads(line)
        assert found["label"] == wanted["label"] and found["id"] == wanted["id"]
        assert found["probabilities"] == pytest.approx(wanted["probabilities"], abs=1e-5)
