"""A request to stop inside an evaluation: obeyed soon, and nothing is lost or changed by it."""

import os
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.options import RunOptions
from electra_keras.tasks.features import FeatureFeed
from electra_keras.tasks.running import Predictor
from electra_keras.training.loop import Trainer
from tests import runs
from tests.tasks.test_finetuner import make_batch, make_model

BATCHES = 5


class Validation:
    """Scores by the model's weights; gets a signal in the midst of the evaluation of a step."""

    def __init__(self, model, signal_at=None):
        self.model, self.signal_at, self.batches = model, signal_at, []

    def metrics(self, on_batch):
        step = int(self.model.optimizer.iterations)
        for batch in range(BATCHES):
            self.batches.append((step, batch))
            if (step, batch) == self.signal_at:
                os.kill(os.getpid(), signal.SIGTERM)
            on_batch(batch + 1)
        # Of all steps the second is the best one.
        weights = sum(float(tf.reduce_sum(tf.abs(v.value))) for v in self.model.trainable_variables)
        return {"accuracy": 1 - abs(step - 2) / 10, "weights": weights}

    def is_better(self, metrics, best):
        return best is None or metrics["accuracy"] > best["accuracy"]

    def describe(self, metrics):
        return str(metrics)

    def show(self, summaries, step):
        pass


def run(model_dir, signal_at=None, max_runtime=None):
    """Trains four steps, each one evaluated; returns (exit code, trainer, evaluated batches)."""
    options = RunOptions(
        train_steps=4, train_batch_size=8, learning_rate=1e-3, eval_steps=1, save_steps=3,
        warmup_steps=0, max_runtime=max_runtime,
    )  # fmt: skip
    features = {name: values.numpy() for name, values in make_batch().items()}
    tf.keras.utils.set_random_seed(1)
    model = make_model()
    model.buckets = [64]
    validation = Validation(model, signal_at)
    feed = FeatureFeed(features, 8, 1, 4)
    trainer = Trainer(tf.distribute.get_strategy(), model, options, model_dir, feed, validation)
    trainer.restore()
    return trainer.run(), trainer, validation.batches


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("uninterrupted")
    code, trainer, batches = run(model_dir)
    assert code == 0 and len(batches) == 4 * BATCHES and trainer.best["step"] == 2
    return model_dir, trainer.best


def metrics_of(model_dir):
    return [record for record in runs.metrics_of(model_dir) if record["split"] != "start"]


@pytest.mark.parametrize("step", [2, 3, 4])
def test_a_signal_stops_an_evaluation_and_the_run_repeats_it(tmp_path, uninterrupted, step):
    code, trainer, batches = run(tmp_path, signal_at=(step, 1))
    assert code == 128 + signal.SIGTERM
    assert batches[-1] == (step, 1) and not trainer.finished
    assert trainer.best is None or trainer.best["step"] < step
    # Once more, and killed again in it.
    code, trainer, batches = run(tmp_path, signal_at=(step, 3))
    assert code == 128 + signal.SIGTERM and batches == [(step, batch) for batch in range(4)]
    code, trainer, batches = run(tmp_path)
    assert code == 0 and trainer.finished
    assert batches == [(s, batch) for s in range(step, 5) for batch in range(BATCHES)]
    whole, best = uninterrupted
    assert trainer.best == best
    assert metrics_of(tmp_path) == metrics_of(whole)
    expected = runs.checkpoint_arrays(whole, 4)
    for name, value in runs.checkpoint_arrays(tmp_path, 4).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    # What `best` holds is the checkpoint after the evaluation, not the one that waited for it.
    shutil.rmtree(tmp_path / "checkpoints" / "step-00000004")
    code, trainer, batches = run(tmp_path)
    assert code == 0 and trainer.best == best and (2, 0) not in batches


def test_the_time_limit_stops_an_evaluation(tmp_path):
    code, trainer, batches = run(tmp_path, max_runtime=1e-9)
    assert code == 0 and trainer.step == 1 and batches == [(1, 0)] and trainer.evaluation_due


def test_the_predictor_can_be_stopped():
    """The evaluation of fine-tuning looks for a stop after each of its batches."""
    batch = {name: values.numpy() for name, values in make_batch().items()}
    done = []

    def on_batch(rows):
        done.append(rows)
        if len(done) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Predictor(tf.distribute.get_strategy(), make_model(), 2).outputs(batch, on_batch)
    assert done == [2, 4]
