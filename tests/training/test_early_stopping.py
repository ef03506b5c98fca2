"""--early_stopping_patience: when a run ends, what it says, and that it stays ended."""

import logging

import pytest
import tensorflow as tf

from electra_keras.console import UsageError
from electra_keras.options import RunOptions
from electra_keras.tasks.features import FeatureFeed
from electra_keras.training.loop import Trainer
from tests import runs
from tests.tasks.test_finetuner import make_batch, make_model


class Scripted:
    """A validation whose scores are given, by the number of the evaluation."""

    def __init__(self, scores, done=0):
        self.scores, self.done = scores, done

    def metrics(self, on_batch):
        on_batch(1)
        self.done += 1
        return {"accuracy": self.scores[self.done - 1]}

    def is_better(self, metrics, best):
        return best is None or metrics["accuracy"] > best["accuracy"]

    def describe(self, metrics):
        return str(metrics)

    def show(self, summaries, step):
        pass


def run(model_dir, scores, patience, done=0, train_steps=8):
    """Trains with an evaluation every step; returns the trainer and how many were made."""
    options = RunOptions(
        train_steps=train_steps, train_batch_size=8, learning_rate=1e-3, eval_steps=1, save_steps=3,
        warmup_steps=0, early_stopping_patience=patience,
    )  # fmt: skip
    features = {name: values.numpy() for name, values in make_batch().items()}
    model, validation = make_model(), Scripted(scores, done)
    model.buckets = [64]
    trainer = Trainer(
        tf.distribute.get_strategy(), model, options, model_dir,
        FeatureFeed(features, 8, 1, train_steps), validation,
    )  # fmt: skip
    trainer.restore()
    assert trainer.run() == 0
    return trainer, validation.done


def test_a_new_best_starts_the_count_anew(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="absl")  # whatever another test made it
    trainer, done = run(tmp_path, [0.5, 0.4, 0.6, 0.6, 0.5, 0.9, 0.9, 0.9], patience=2)
    assert done == trainer.step == 5 and trainer.stopped_early and trainer.finished
    assert trainer.best == {"step": 3, "accuracy": 0.6}
    said = (
        "stopped early at step 5 of 8: the last 2 evaluations were no better than that of step 3 "
        "(--early_stopping_patience=2)"
    )
    assert said in caplog.text

    # The same command again: neither a step nor an evaluation.
    caplog.clear()
    trainer, done = run(tmp_path, [], patience=2)
    assert done == 0 and trainer.step == 5 and f"nothing to train: {said}" in caplog.text

    # More patience: it goes on, with the count as it was.
    trainer, done = run(tmp_path, [0.6, 0.6, 0.6], patience=3)
    assert done == 1 and trainer.step == 6 and trainer.stopped_early


def test_the_count_is_resumed(tmp_path):
    """Best at step 1; the checkpoint of step 3 knows of two bad evaluations, step 4 is the third."""
    trainer, _ = run(tmp_path, [0.5, 0.4, 0.3], patience=3, train_steps=3)
    assert trainer.stale_evaluations == 2 and not trainer.stopped_early
    trainer, done = run(tmp_path, [0.4] * 5, patience=3)
    assert done == 1 and trainer.step == 4 and trainer.stopped_early


def test_without_patience_it_goes_to_the_end(tmp_path):
    trainer, done = run(tmp_path, [0.5] * 8, patience=0)
    assert done == trainer.step == 8 and not trainer.stopped_early


def test_patience_without_evaluations_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--eval_steps=0 makes none"):
        RunOptions(early_stopping_patience=1, eval_steps=0)
    with pytest.raises(UsageError, match="--early_stopping_patience must not be negative"):
        RunOptions(early_stopping_patience=-1)
    data = runs.write_records(tmp_path / "data", examples=16)
    code, line = runs.error_of(
        "electra_keras.train", *runs.SMALL_MODEL, f"--train_files={data}/train*",
        f"--vocab_file={data}/vocab.txt", f"--model_dir={tmp_path / 'run'}", "--train_steps=2",
        "--train_batch_size=8", "--early_stopping_patience=1",
    )  # fmt: skip
    assert code == 2 and "--early_stopping_patience needs data to evaluate on" in line
