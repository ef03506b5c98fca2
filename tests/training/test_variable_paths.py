"""Weights are stored by their paths: which paths there are, and when they are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UserError
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.training.arrays import assign_arrays, by_path, read_arrays, write_arrays
from electra_keras.training.checkpoints import CheckpointStore
from electra_keras.training.optimizer import ElectraOptimizer
from tests.tasks.test_finetuner import make_model


class Head(keras.layers.Layer):
    """Two layers without names, and two weights."""

    def __init__(self, names=("scale", "shift")):
        super().__init__(name="task_head")
        self.layers = [keras.layers.Dense(32), keras.layers.Dense(2)]
        for layer in self.layers:
            layer.build((None, 32))
        self.scale, self.shift = (self.add_weight(name=name, shape=(2,)) for name in names)
        self.built = True


def model_of(head):
    model = FineTuner(make_model().config, lambda encoder: head(), 64)
    model.compile(ElectraOptimizer(1e-3))
    return model


def test_two_variables_of_one_path_are_refused(tmp_path):
    model = model_of(lambda: Head(("w", "w")))
    message = "two variables have the path 'task_head/w', and only one could be saved"
    with pytest.raises(UserError, match=message):
        CheckpointStore(tmp_path, model, model.optimizer, keep=1)
    with pytest.raises(UserError, match=message):
        assign_arrays(model.head.weights, {}, tmp_path)


def test_a_head_without_names_has_the_same_paths_in_every_process(tmp_path):
    keras.layers.Dense(1), keras.layers.Dense(1)
    first, second = model_of(Head), model_of(Head)
    paths = by_path(first.head.weights).keys()
    assert paths == by_path(second.head.weights).keys()
    assert {"dense/kernel", "dense_1/bias", "task_head/scale"} < paths
    store = CheckpointStore(tmp_path, first, first.optimizer, keep=1)
    saved = store.save({"step": 1, "best": None})
    assign_arrays(second.weights, read_arrays(saved, "weights"), saved)
    for ours, theirs in zip(second.weights, first.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Elsewhere the numbers go on.
    names = {keras.layers.Dense(1).name, keras.layers.Dense(1).name}
    assert len(names) == 2 and not names & {"dense", "dense_1"}


def test_names_with_dots_are_read_as_they_were(tmp_path):
    arrays = {"head.v1/kernel": np.ones(2), "a.S/b..c": np.zeros(3), "plain/bias": np.ones(1)}
    write_arrays(tmp_path, "weights", arrays)
    read = read_arrays(tmp_path, "weights")
    assert read.keys() == arrays.keys()
    assert tf.nest.map_structure(np.shape, read) == tf.nest.map_structure(np.shape, arrays)
