"""What a run says: collapse warnings, summaries, the report, the time limit."""

import io
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator,
)

from electra_keras.training import report
from electra_keras.training.collapse import CollapseWatch
from electra_keras.training.summaries import (
    SummaryWriter,
    curve_name,
    token_verdicts,
    verdicts_markdown,
)
from tests import runs

HEALTHY = {
    "discriminator_recall": 0.3,
    "discriminator_auc": 0.8,
    "sampled_accuracy": 0.4,
    "replaced_share": 0.08,
}


@pytest.mark.parametrize(
    ("sign", "advice", "start"),
    [
        # A low recall counts from first_step on: every run starts with one.
        ({"discriminator_recall": 0.0}, "calls every token original", 100),
        ({"sampled_accuracy": 0.95}, "--generator_hidden_size", 0),
    ],
)
def test_collapse_is_reported_once(sign, advice, start):
    watch = CollapseWatch(first_step=100)
    for step in range(0, start + 90, 10):
        assert watch.update(step, HEALTHY | sign) is None
    assert advice in watch.update(start + 90, HEALTHY | sign)
    resumed = CollapseWatch(first_step=100)
    resumed.restore(json.loads(json.dumps(watch.state())))
    assert [resumed.update(step, HEALTHY | sign) for step in range(200, 600, 10)] == [None] * 40


def test_one_healthy_window_starts_the_count_anew():
    watch = CollapseWatch(first_step=0)
    for step in range(50):
        bad = HEALTHY | {"discriminator_recall": 0.0 if step % 9 else 0.2}
        assert watch.update(step, bad) is None


def test_records_after_the_resumed_step_are_dropped(tmp_path):
    writer = SummaryWriter(tmp_path, 0)
    for step in (10, 20, 30):
        writer.scalars("train", step, {"loss": step / 10, "auc": math.nan})
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('5\n[1]\n{"step": "15"}\n{"step": null}\n' + "[" * 10_000 + "\n")  # damaged
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 15, "split": "\xff"}\n')
        file.write(b'{"step": 40, "split": "tr')  # killed while writing
    for earlier in (tmp_path / "logs" / "train").iterdir():
        earlier.rename(earlier.with_name(earlier.name.replace("tfevents.1", "tfevents.0")))
    SummaryWriter(tmp_path, 20).close()
    assert runs.metrics_of(tmp_path) == [
        {"step": 10, "split": "train", "loss": 1.0, "auc": None},
        {"step": 20, "split": "train", "loss": 2.0, "auc": None},
    ]
    events = sorted((tmp_path / "logs" / "train").iterdir())
    values = [
        (event.step, value.tag)
        for path in events
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    # NaN makes no point.
    assert values == [(10, "run/loss"), (20, "run/loss"), (30, "run/loss")]
    # What the curves show is what metrics.jsonl says.
    curves = EventAccumulator(str(tmp_path / "logs" / "train"))
    curves.Reload()
    assert [event.step for event in curves.Tensors("run/loss")] == [10, 20]


def verdicts():
    examples = {
        "input_ids": np.array([[0, 1, 2, 3]]),
        "corrupted_ids": np.array([[0, 2, 2, 1]]),
        "input_mask": np.array([[1, 1, 1, 0]]),
        "discriminator_logits": np.array([[-3.0, 2.0, 1.0, 5.0]]),
    }
    return token_verdicts(examples, ["[CLS]", "one", "two", "three"])


def test_curves_are_grouped_by_network():
    names = [curve_name(name) for name in ("discriminator_auc", "generator_masked_loss", "loss")]
    assert names == ["discriminator/auc", "generator/masked_loss", "run/loss"]


def test_verdicts_in_markdown_and_plain_text():
    examples = verdicts()
    assert [token["text"] for token in examples[0]] == ["[CLS]", "two", "two"]  # no padding
    assert [token["replaced"] for token in examples[0]] == [False, True, False]
    assert [token["marked"] for token in examples[0]] == [False, True, False]
    assert "**two** 88% *(was one)* two — 1 of 1 found" in verdicts_markdown(examples)
    out = io.StringIO()
    report.print_verdicts(examples, out)
    assert "[CLS] [!two<one] two" in out.getvalue()
    assert "(1 of 1 found)" in out.getvalue()
    examples[0][0]["text"] = "a_b<*"
    assert "a\\_b&lt;\\* **two**" in verdicts_markdown(examples)


def test_report_shows_what_no_learning_gives():
    metrics = dict.fromkeys(
        (
            "generator_masked_loss", "generator_accuracy", "discriminator_auc",
            "discriminator_accuracy", "discriminator_recall", "discriminator_precision",
        ), 0.5,
    ) | {"replaced_share": 0.125}  # fmt: skip
    out = io.StringIO()
    report.print_metrics(metrics, None, out)
    assert "0.500 (guessing)" in out.getvalue()
    assert "87.5% (calling every token original)" in out.getvalue()


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    data = runs.write_records(tmp_path_factory.mktemp("data"), examples=32)
    return [f"--data_dir={data}", "--train_batch_size=8", "--jit_compile=off"]


@pytest.mark.slow
def test_histograms_and_profile(small_run, tmp_path):
    args = [
        *small_run,
        f"--model_dir={tmp_path / 'run'}",
        "--train_steps=10",
        "--log_steps=5",
        "--histogram_steps=5",
        "--profile_steps=2,3",
        "--peak_teraflops=0.1",
    ]
    runs.train(*args)  # exit code 0
    assert list((tmp_path / "run" / "logs" / "train").glob("plugins/profile/*/*.xplane.pb"))
    record = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[1])
    assert 0 < record["model_flops_utilisation"] < 1
    assert record["examples_per_second"] > 0


@pytest.mark.slow
def test_time_limit(small_run, tmp_path):
    """Here it is over when the first step is done."""
    args = [*small_run, f"--model_dir={tmp_path / 'run'}", "--train_steps=100000"]
    stderr = runs.train(*args, "--max_runtime=0.001")  # exit code 0
    assert "stopped by --max_runtime at step" in stderr


def test_short_runs_are_warned_of_a_long_warmup(caplog):
    from electra_keras.options import ModelOptions, TrainingOptions
    from electra_keras.training.optimizer import ElectraOptimizer

    options = TrainingOptions(train_steps=2000).resolve(ModelOptions())
    with caplog.at_level("WARNING"):
        ElectraOptimizer.of_run(options)
    assert "warm-up of 10000 steps is most of the 2000 steps" in caplog.text
    # The largest of lr (1 - s/T) min(1, s/W) is at s = T/2.
    assert "will not pass 2.5e-05" in caplog.text
