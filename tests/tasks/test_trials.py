"""Several seeds: the figures of the table, and which runs count as finished."""

import dataclasses
import json
import statistics
from pathlib import Path

import pytest

from electra_keras.console import UsageError, UserError
from electra_keras.tasks.options import FineTuningOptions
from electra_keras.tasks.trials import Outcome, best_trial, format_table, summarize

METRICS, FLAGS = ("accuracy", "matthews"), ("--a=1", "--b=x")


def outcomes(accuracies=(0.5, 0.8, 0.9, 0.7)):
    return [
        Outcome(
            "SST-2", METRICS, seed, 30,
            {"step": 20, "accuracy": a, "matthews": None if a is None else a / 2}, a == 0.5, 12.4,
            FLAGS,
        )
        for seed, a in enumerate(accuracies, start=7)
    ]  # fmt: skip


def test_the_figures():
    summary = summarize(outcomes())
    values = [0.5, 0.8, 0.9, 0.7]
    assert summary["figures"]["accuracy"] == pytest.approx(
        {
            "median": 0.75, "best": 0.9, "mean": 0.725,
            "standard_deviation": statistics.stdev(values),
        }
    )  # fmt: skip
    assert summary["figures"]["matthews"]["median"] == pytest.approx(0.375)
    assert summary["failed"] == 1 and summary["best"] == "trial-9"
    assert [row["seed"] for row in summary["trials"]] == [7, 8, 9, 10]
    assert [row["failed"] for row in summary["trials"]] == [True, False, False, False]
    json.dumps(summary, allow_nan=False)

    rows = [line.split() for line in format_table(outcomes(), Path("runs")).splitlines()]
    assert rows[0] == ["seed", "accuracy", "matthews", "best", "step", "seconds"]
    assert rows[1] == ["7", "0.5000", "0.2500", "20", "12", "failed"]
    assert rows[5] == ["median", "0.7500", "0.3750"]
    assert rows[8] == ["std", "0.1708", "0.0854"]
    assert rows[9] == ["failed", "1", "of", "4"]
    assert rows[10] == ["best", "trial", "runs/trial-9"]


def test_a_metric_that_is_no_number_is_left_out():
    """As the Spearman correlation of a model that gives one answer."""
    some = outcomes((None, 0.8, 0.6))
    summary = summarize(some)
    assert summary["figures"]["accuracy"]["mean"] == pytest.approx(0.7)
    assert summary["trials"][0]["best"]["accuracy"] is None
    assert best_trial(some).seed == 8
    none = [dataclasses.replace(some[0], best={})]
    assert summarize(none)["figures"] == {}
    assert "nan" in format_table(none, Path("runs"))
    one = summarize(outcomes((0.8,)))["figures"]["accuracy"]
    assert one["standard_deviation"] is None and one["median"] == 0.8


def test_the_earliest_of_equal_trials_is_the_best():
    assert best_trial(outcomes((0.8, 0.9, 0.9))).seed == 8


def test_what_counts_as_finished(tmp_path):
    assert Outcome.read(tmp_path, FLAGS) is None
    outcome = outcomes()[0]
    outcome.write(tmp_path)
    assert Outcome.read(tmp_path, FLAGS) == outcome
    assert Outcome.read(tmp_path, ("--a=1", "--b=y")) is None
    for text in ("[]", "{", '{"task": "x"}'):
        (tmp_path / "outcome.json").write_text(text)
        with pytest.raises(UserError, match=r"outcome\.json cannot be read"):
            Outcome.read(tmp_path, FLAGS)


def test_trials_need_evaluations():
    with pytest.raises(UsageError, match="--num_trials must be at least 1"):
        FineTuningOptions(num_trials=0)
    with pytest.raises(UsageError, match="--num_trials compares dev metrics"):
        FineTuningOptions(num_trials=2, eval_steps=0)
    with pytest.raises(UsageError, match="--fresh is for a single run"):
        FineTuningOptions(num_trials=2, fresh=True)
