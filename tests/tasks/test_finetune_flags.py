"""Freezing, LoRA, early stopping, class weights and trials as flags of the command."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from tests import runs
from tests.tasks.test_finetune_mains import arguments, data, pretrained  # noqa: F401

FINETUNE = "electra_keras.finetune"


def finetune(pretrained, data, model_dir, *flags, steps=40):  # noqa: F811
    code, stdout, stderr = runs.run(
        FINETUNE, *arguments(pretrained, data, model_dir), f"--train_steps={steps}",
        "--eval_steps=20", "--save_steps=20", *flags,
    )  # fmt: skip
    assert code == 0, stderr
    return stdout, stderr


def arrays_at(model_dir, step):
    return runs.checkpoint_arrays(model_dir, step)


def assert_resumes(pretrained, data, whole, copy, *flags):  # noqa: F811
    """A run that is continued from step 20 ends as it did."""
    shutil.copytree(whole, copy)
    shutil.rmtree(copy / "checkpoints" / "step-00000040")
    shutil.rmtree(copy / "checkpoints" / "best")
    _, stderr = finetune(pretrained, data, copy, *flags)
    assert "resuming at step 20" in stderr
    expected = arrays_at(whole, 40)
    for name, array in arrays_at(copy, 40).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)
    assert runs.metrics_of(copy) == runs.metrics_of(whole)


def test_lora(pretrained, data, tmp_path):  # noqa: F811
    flags = ["--lora_rank=4", "--lora_alpha=8", "--learning_rate=2e-2"]
    run = tmp_path / "run"
    _, stderr = finetune(pretrained, data, run, *flags)
    assert "M parameters are trained" in stderr
    # Of both layers: query, key and value 3 x (32 + 32) x 4, output (32 + 32) x 4; and the head.
    assert f"{(2 * 4 * 64 * 4 + 33 * 2) / 1e6:.3f} of " in stderr
    arrays = arrays_at(run, 40)
    moments = [name for name in arrays if "first_moment" in name]
    assert len(moments) == 2 * 2 * 2 + 2
    assert_resumes(pretrained, data, run, tmp_path / "resumed", *flags)

    # What is loaded elsewhere is the model that was evaluated, with the updates merged.
    last = runs.metrics_of(run)[-1]
    code, stdout, stderr = runs.run(
        "electra_keras.evaluate", f"--model_dir={run}", "--checkpoint=latest", "--json"
    )
    assert code == 0, stderr
    assert json.loads(stdout)["loss"] == pytest.approx(last["loss"], rel=1e-5)
    _, line = runs.error_of(
        FINETUNE, *arguments(pretrained, data, run), "--lora_rank=8", "--train_steps=40"
    )
    assert "holds a run that freezes something else, or has another LoRA (adaptation.json)" in line


def test_gradual_unfreezing(pretrained, data, tmp_path):  # noqa: F811
    """The layers at step 10, 20 and 30; the run is resumed between two of them."""
    flags = ["--freeze=encoder", "--unfreeze_steps=15"]
    run = tmp_path / "run"
    _, stderr = finetune(pretrained, data, run, *flags)
    assert "one layer more every 15 steps" in stderr
    assert_resumes(pretrained, data, run, tmp_path / "resumed", *flags)
    start, middle, end = (
        {k: v for k, v in arrays.items() if k.startswith("weights/")}
        for arrays in (
            runs.checkpoint_arrays(pretrained, 1),
            arrays_at(run, 20),
            arrays_at(run, 40),
        )
    )

    def moved(before, after, part):
        return {
            bool(np.any(array != after[name]))
            for name, array in before.items()
            if f"discriminator.S{part}" in name and name in after
        }

    assert moved(start, middle, "layer_1") == {True}
    assert moved(start, middle, "layer_0") == {False}
    assert moved(middle, end, "layer_0") == {True}
    assert moved(start, end, "embeddings") == {False}  # at step 45 it would be


def test_trials_are_runs_of_their_own_and_go_on_after_ctrl_c(pretrained, data, tmp_path):  # noqa: F811
    flags = [
        "--train_steps=300", "--eval_steps=50", "--seed=5", "--num_trials=3",
        "--early_stopping_patience=4", "--class_weights=balanced",
    ]  # fmt: skip
    run = tmp_path / "run"
    command = [*arguments(pretrained, data, run), *flags]
    process = runs.start(FINETUNE, *command)
    deadline = time.monotonic() + 200
    second = run / "trial-6" / "checkpoints"
    while not list(second.glob("step-????????")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130 and not stdout, stderr
    assert not (run / "trials.json").exists()
    first = (run / "trial-5" / "outcome.json").stat().st_mtime_ns

    code, stdout, stderr = runs.run(FINETUNE, *command)
    assert code == 0, stderr
    assert (run / "trial-5" / "outcome.json").stat().st_mtime_ns == first
    assert "seed 5" not in stderr and "trial 2 of 3, seed 6" in stderr
    assert stderr.count("resuming at step") == 1
    assert stdout.count("\n") == 11, stdout  # the table, once
    summary = json.loads((run / "trials.json").read_text())
    assert [t["directory"] for t in summary["trials"]] == ["trial-5", "trial-6", "trial-7"]
    for trial in summary["trials"]:
        records = runs.metrics_of(run / trial["directory"])
        assert trial["best"]["accuracy"] == max(
            r["accuracy"] for r in records if r["split"] == "validation"
        )
        assert trial["seconds"] > 0
    assert f"best trial  {run / summary['best']}" in stdout
    assert runs.run(FINETUNE, *command)[1] == stdout  # there is nothing left to do

    # A trial is what a command with its seed alone makes, bit for bit.
    alone = tmp_path / "alone"
    code, _, stderr = runs.run(
        FINETUNE, *arguments(pretrained, data, alone), *flags[:2], "--seed=7", *flags[4:]
    )
    assert code == 0, stderr
    last = summary["trials"][2]["step"]
    expected = arrays_at(alone, last)
    for name, array in arrays_at(run / "trial-7", last).items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)

    _, line = runs.error_of(FINETUNE, *arguments(pretrained, data, run), "--seed=5")
    assert "holds trials: give --num_trials" in line
    _, line = runs.error_of(FINETUNE, *arguments(pretrained, data, alone), "--num_trials=2")
    assert "--num_trials:" in line and "holds a single run" in line


def test_flags_without_sense_are_one_line(pretrained, data, tmp_path):  # noqa: F811
    for flags, message in (
        (["--class_weights=ugly=2"], "no label 'ugly' in the training data, which has bad, good"),
        (["--freeze=3"], "--freeze=3: the model has only 2 layers"),
        (["--lora_rank=2", "--freeze=encoder"], "--lora_rank freezes the whole encoder itself"),
    ):
        code, line = runs.error_of(FINETUNE, *arguments(pretrained, data, tmp_path / "run"), *flags)
        assert code == 2 and message in line
    assert not (tmp_path / "run").exists()


def test_a_trial_whose_loss_is_not_finite_counts_as_failed(pretrained, data, tmp_path):  # noqa: F811
    flags = ["--train_steps=30", "--eval_steps=30", "--learning_rate=1e30"]
    run = tmp_path / "run"
    code, stdout, stderr = runs.run(
        FINETUNE, *arguments(pretrained, data, run), *flags, "--num_trials=2"
    )
    assert code == 0, stderr
    assert stderr.count("this trial failed: loss or gradient is not finite") == 2
    assert "failed      2 of 2" in stdout
    assert [t["failed"] for t in json.loads((run / "trials.json").read_text())["trials"]] == [
        True
    ] * 2
    # A run of its own is an error.
    code, line = runs.error_of(FINETUNE, *arguments(pretrained, data, tmp_path / "alone"), *flags)
    assert code == 1 and "not finite at step" in line
