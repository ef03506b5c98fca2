"""Several seeds: the figures of the table, and which runs count as finished."""

import json
import math
import statistics

import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.options import RunOptions
from electra_keras.tasks.options import FineTuningOptions
from electra_keras.tasks.trials import Trial, best_trial, format_table, summarize

METRICS = ("accuracy", "matthews")


def trials(tmp_path, accuracies=(0.5, 0.8, 0.9, 0.7)):
    return [
        Trial(
            seed, tmp_path / f"trial-{seed}", 30,
            {"step": 20, "accuracy": accuracy, "matthews": accuracy / 2}, accuracy == 0.5, 12.4,
        )
        for seed, accuracy in enumerate(accuracies, start=7)
    ]  # fmt: skip


def test_the_figures(tmp_path):
    summary = summarize(trials(tmp_path), METRICS)
    values = [0.5, 0.8, 0.9, 0.7]
    assert summary["summary"]["accuracy"] == pytest.approx(
        {
            "median": 0.75, "best": 0.9, "mean": 0.725,
            "standard_deviation": statistics.stdev(values),
        }
    )  # fmt: skip
    assert summary["summary"]["matthews"]["median"] == pytest.approx(0.375)
    assert summary["failed"] == 1 and summary["best"] == "trial-9"
    assert [row["seed"] for row in summary["trials"]] == [7, 8, 9, 10]
    assert [row["failed"] for row in summary["trials"]] == [True, False, False, False]
    json.dumps(summary, allow_nan=False)

    rows = [line.split() for line in format_table(trials(tmp_path), METRICS).splitlines()]
    assert rows[0] == ["seed", "accuracy", "matthews", "best", "step", "seconds"]
    assert rows[1] == ["7", "0.5000", "0.2500", "20", "12", "failed"]
    assert rows[5] == ["median", "0.7500", "0.3750"]
    assert rows[8] == ["std", "0.1708", "0.0854"]
    assert rows[9] == ["failed", "1", "of", "4"]
    assert rows[10] == ["best", "trial", str(tmp_path / "trial-9")]


def test_a_metric_that_is_no_number_is_left_out(tmp_path):
    """As the Spearman correlation of a model that gives one answer."""
    some = trials(tmp_path, (math.nan, 0.8, 0.6))
    summary = summarize(some, METRICS)
    assert summary["summary"]["accuracy"]["mean"] == pytest.approx(0.7)
    assert summary["trials"][0]["best"]["accuracy"] is None
    assert best_trial(some, "accuracy").seed == 8
    none = [Trial(1, tmp_path, 3, {}, True, 1.0)]
    assert summarize(none, METRICS)["summary"] == {}
    assert "nan" in format_table(none, METRICS)
    one = summarize(trials(tmp_path, (0.8,)), METRICS)["summary"]["accuracy"]
    assert one["standard_deviation"] is None and one["median"] == 0.8


def test_the_earliest_of_equal_trials_is_the_best(tmp_path):
    assert best_trial(trials(tmp_path, (0.8, 0.9, 0.9)), "accuracy").seed == 8


def write(directory, step, stale=0):
    path = directory / "checkpoints" / f"step-{step:08d}"
    path.mkdir(parents=True)
    state = {
        "step": step, "best": {"step": 5, "accuracy": 0.5}, "stale_evaluations": stale,
        "seconds": 3.0,
    }  # fmt: skip
    (path / "state.json").write_text(json.dumps(state))


def test_what_is_finished(tmp_path):
    options = RunOptions(train_steps=10, early_stopping_patience=2)
    assert Trial.read(tmp_path, 1, options) is None
    write(tmp_path, 6, stale=2)
    assert Trial.read(tmp_path, 1, options) is None  # ended, but its outcome was not written
    Trial.write(tmp_path, 6, failed=True)
    trial = Trial.read(tmp_path, 1, options)
    assert trial == Trial(1, tmp_path, 6, {"step": 5, "accuracy": 0.5}, True, 3.0)
    # With more patience it is to go on.
    assert Trial.read(tmp_path, 1, RunOptions(train_steps=10, early_stopping_patience=3)) is None
    write(tmp_path, 10)
    assert Trial.read(tmp_path, 1, options) is None  # it went on, its outcome is of step 6
    Trial.write(tmp_path, 10, failed=False)
    assert Trial.read(tmp_path, 1, options).step == 10
    assert Trial.read(tmp_path, 1, RunOptions(train_steps=11)) is None
    (tmp_path / "trial.json").write_text("[]")
    with pytest.raises(UserError, match=r"trial\.json"):
        Trial.read(tmp_path, 1, options)


def test_trials_need_evaluations():
    with pytest.raises(UsageError, match="--num_trials must be at least 1"):
        FineTuningOptions(num_trials=0)
    with pytest.raises(UsageError, match="--num_trials compares dev metrics"):
        FineTuningOptions(num_trials=2, eval_steps=0)
