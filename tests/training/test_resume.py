"""A run that is killed and continued equals one that was not, bit for bit."""

import json
import os
import random
import signal
import time

import numpy as np
import pytest

from tests import runs

STEPS = 400


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    runs.write_records(directory, examples=96, shards=3)
    runs.write_records(directory, examples=16, shards=1, seed=1, name="validation")
    return directory


def arguments(data, model_dir):
    # Intervals that do not divide each other: a checkpoint falls in the middle of a log window.
    return [
        *runs.SMALL_MODEL,
        f"--data_dir={data}",
        f"--validation_files={data}/validation*",
        f"--model_dir={model_dir}",
        f"--train_steps={STEPS}",
        "--train_batch_size=8",
        "--learning_rate=1e-3",
        "--warmup_ratio=0.1",
        "--log_steps=15",
        "--eval_steps=70",
        "--save_steps=22",
        "--keep_checkpoints=2",
    ]


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("uninterrupted")
    code, stdout, stderr = runs.run("electra_keras.train", *arguments(data, model_dir))
    assert code == 0, stderr
    assert "discriminator AUC" in stdout
    return model_dir


def wait_for_checkpoint(process, model_dir, after):
    """Waits until the run has a checkpoint beyond a step; returns whether it still runs."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        steps = [int(p.name[5:13]) for p in (model_dir / "checkpoints").glob("step-????????")]
        if max(steps, default=0) > after:
            return True
        time.sleep(0.02)
    return process.poll() is None


@pytest.mark.slow
def test_killed_and_stopped_run_equals_uninterrupted_run(data, uninterrupted, tmp_path):
    rng = random.Random(0)
    reached = 0
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        process = runs.start("electra_keras.train", *arguments(data, tmp_path))
        assert wait_for_checkpoint(process, tmp_path, reached)
        time.sleep(rng.random() * 0.3)
        os.kill(process.pid, number)
        _, stderr = process.communicate(timeout=120)
        steps = sorted(int(p.name[5:]) for p in (tmp_path / "checkpoints").glob("step-????????"))
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
        else:
            assert process.returncode == 128 + number, stderr
            assert f"at step {steps[-1]}; the same command continues" in stderr
        assert reached < steps[-1] < STEPS
        reached = steps[-1]
    code, _, stderr = runs.run("electra_keras.train", *arguments(data, tmp_path))
    assert code == 0, stderr
    assert f"resuming at step {reached}" in stderr

    expected = runs.checkpoint_arrays(uninterrupted, STEPS)
    for name, value in runs.checkpoint_arrays(tmp_path, STEPS).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    assert runs.metrics_of(tmp_path) == runs.metrics_of(uninterrupted)


@pytest.mark.slow
def test_what_a_run_leaves(data, uninterrupted):
    checkpoints = sorted(path.name for path in (uninterrupted / "checkpoints").iterdir())
    assert checkpoints[0] == "best"
    assert checkpoints[1:] == ["step-00000396", "step-00000400"]
    records = runs.metrics_of(uninterrupted)
    steps = [record["step"] for record in records if record["split"] == "train"]
    assert steps == [*range(15, STEPS, 15), STEPS]
    evaluations = [r for r in records if r["split"] == "validation"]
    assert [r["step"] for r in evaluations] == [70, 140, 210, 280, 350, 400]
    # Each word tells the next one, so something can be learned in 400 steps. The 16 validation examples
    # are too few to show it: their loss differs by more from one evaluation to the next.
    losses = [r["generator_masked_loss"] for r in records if r["split"] == "train"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.03

    best = max(evaluations, key=lambda record: record["discriminator_auc"])
    code, stdout, stderr = runs.run(
        "electra_keras.evaluate",
        f"--model_dir={uninterrupted}",
        f"--data_dir={data}/validation*",
        "--eval_batch_size=8",
        "--json",
    )
    assert code == 0, stderr
    metrics = json.loads(stdout)
    for name, value in metrics.items():
        wanted = best[name]
        assert value == (wanted if wanted is None else pytest.approx(wanted, rel=1e-6)), name

    # The flagfile that the run left behind reproduces it; there is nothing left to train.
    code, stdout, stderr = runs.run("electra_keras.train", f"--flagfile={uninterrupted}/flags.cfg")
    assert code == 0, stderr
    assert "nothing to train" in stderr
    assert "discriminator AUC" in stdout
