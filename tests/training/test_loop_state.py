"""What the training loop takes up from a checkpoint's state."""

import logging
import time

import numpy as np
import tensorflow as tf

from electra_keras.options import RunOptions
from electra_keras.tasks.features import FeatureFeed
from electra_keras.training.loop import Trainer
from tests.tasks.test_finetuner import make_batch, make_model


def make_trainer(model_dir):
    options = RunOptions(
        train_steps=8, train_batch_size=8, learning_rate=1e-3, warmup_steps=0, save_steps=2
    )
    features = {name: values.numpy() for name, values in make_batch().items()}
    feed = FeatureFeed(features, 8, 1, 8)
    return Trainer(tf.distribute.get_strategy(), make_model(), options, model_dir, feed, None)


def save_with_window(model_dir, window):
    trainer = make_trainer(model_dir)
    trainer.step, trainer.started = 2, time.monotonic()
    trainer.window, trainer.window_steps = window(trainer.window.size), 2
    trainer.save()
    return trainer.window


def test_the_logging_window_continues(tmp_path):
    window = save_with_window(tmp_path, lambda size: np.arange(size) / 2)
    trainer = make_trainer(tmp_path)
    assert trainer.restore()
    np.testing.assert_array_equal(trainer.window, window)
    assert (trainer.step, trainer.window_steps) == (2, 2)


def test_a_logging_window_of_another_version_is_left_out(tmp_path, caplog):
    """Earlier versions had fewer bins for the area under the ROC curve."""
    caplog.set_level(logging.INFO, logger="absl")  # whatever another test made it
    save_with_window(tmp_path, lambda size: np.ones(size + 1000))
    trainer = make_trainer(tmp_path)
    assert trainer.restore()
    assert not trainer.window.any() and trainer.window.size < 1000
    assert (trainer.step, trainer.window_steps) == (2, 0)
    assert "saved by another version: the next log record begins at this step" in caplog.text
