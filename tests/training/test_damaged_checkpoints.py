"""A damaged checkpoint is named and passed over, never used, and never the cause of another loss."""

import json
import logging
import os
import shutil

import keras
import numpy as np
import pytest

from electra_keras.console import UserError
from electra_keras.training.checkpoints import (
    CheckpointStore,
    find_checkpoint,
    give_back_replaced,
)
from electra_keras.training.manifest import MANIFEST, damage, read_state
from electra_keras.training.optimizer import ElectraOptimizer

STATE = {"window": [0.0, 1.5], "window_steps": 3, "best": None, "watch": None}


def make_store(model_dir, keep=3):
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2, name="dense")], name="net")
    optimizer = ElectraOptimizer(1e-3)
    optimizer.build(model.trainable_variables)
    return CheckpointStore(model_dir, model, optimizer, keep), model


def fill(model, value):
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, value, "float32"))


def value_of(model):
    (value,) = {float(v) for variable in model.weights for v in np.ravel(variable.numpy())}
    return value


@pytest.fixture
def run(tmp_path):
    """A run directory with whole checkpoints of steps 4, 8 and 12, whose weights are the step."""
    store, model = make_store(tmp_path / "run")
    for step in (4, 8, 12):
        fill(model, step)
        path = store.save({"step": step, **STATE, "best": {"step": min(step, 8), "auc": 0.7}})
        if step == 8:
            store.save_best(path)
    return tmp_path / "run"


def restore(model_dir):
    """Returns the state that a new process restores, its store and the value of its weights."""
    store, model = make_store(model_dir)
    state = store.restore_latest()
    store.repair_best()
    return state, store, model


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FILES = [
    "weights.index", "weights.data-00000-of-00001", "optimizer.index",
    "optimizer.data-00000-of-00001", "state.json", MANIFEST,
]  # fmt: skip


def test_the_files_of_a_checkpoint(run):
    assert sorted(p.name for p in (run / "checkpoints" / "step-00000012").iterdir()) == sorted(
        FILES
    )
    assert damage(run / "checkpoints" / "step-00000012") is None


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "harm", [truncate, empty, zero, flip, lambda path: path.unlink()],
    ids=["truncated", "empty", "zeroed", "flipped", "deleted"],
)  # fmt: skip
def test_the_newest_whole_one_is_used(run, name, harm, caplog):
    caplog.set_level(logging.WARNING, logger="absl")
    newest = run / "checkpoints" / "step-00000012"
    harm(newest / name)
    state, store, model = restore(run)
    assert state["step"] == 8 and value_of(model) == 8
    warnings = [r.message for r in caplog.records if "damaged" in r.message]
    assert len(warnings) == 1 and str(newest) in warnings[0] and name in warnings[0]
    # The good best one is not touched, and the step is written anew when the run is there.
    assert damage(run / "checkpoints" / "best") is None
    fill(model, 12)
    store.save_best(store.save({"step": 12, **STATE, "best": {"step": 12, "auc": 0.8}}))
    assert damage(newest) is None and damage(run / "checkpoints" / "best") is None
    assert restore(run)[0]["step"] == 12


def test_best_is_never_replaced_by_a_damaged_one(run):
    newest = run / "checkpoints" / "step-00000012"
    flip(newest / "weights.data-00000-of-00001")
    store, _ = make_store(run)
    with pytest.raises(UserError, match="is damaged"):
        store.save_best(newest)
    assert damage(run / "checkpoints" / "best") is None
    assert read_state(run / "checkpoints" / "best")["step"] == 8
    assert not list((run / "checkpoints").glob("*incomplete*"))


def test_a_damaged_best_is_written_from_its_step_or_forgotten(run, caplog):
    caplog.set_level(logging.WARNING, logger="absl")
    best = run / "checkpoints" / "best"
    for broken in best.iterdir():  # names of their own, for the files of step 8 are linked
        content = broken.read_bytes()
        broken.unlink()
        broken.write_bytes(content[:-1])
    state, _, _ = restore(run)
    assert state["best"]["step"] == 8 and damage(best) is None
    flip(best / "state.json")
    shutil.rmtree(run / "checkpoints" / "step-00000008")
    state, _, _ = restore(run)
    assert state["step"] == 12 and state["best"] is None
    assert "the next evaluation makes a new one" in caplog.text


def test_surplus_is_counted_without_the_damaged(run):
    """A single checkpoint to keep must not be the damaged one."""
    flip(run / "checkpoints" / "step-00000012" / "state.json")
    store, _ = make_store(run, keep=1)
    assert store.restore_latest()["step"] == 8
    store.save({"step": 10, **STATE})
    names = sorted(p.name for p in (run / "checkpoints").glob("step-*"))
    assert names == ["step-00000010", "step-00000012"]
    store.save({"step": 14, **STATE})
    assert [p.name for p in (run / "checkpoints").glob("step-*")] == ["step-00000014"]


@pytest.mark.parametrize("name", ["step-00000012", "best"])
def test_a_replacement_that_was_cut_off(run, name):
    """Killed between its two renames: what was to be replaced is given back; what is there stays."""
    path = run / "checkpoints" / name
    path.rename(path.with_name(f"{name}-old.incomplete-99"))
    give_back_replaced(run)
    assert damage(path) is None
    assert restore(run)[0]["step"] == 12
    shutil.copytree(path, path.with_name(f"{name}-old.incomplete-99"))
    flip(path.with_name(f"{name}-old.incomplete-99") / "state.json")
    give_back_replaced(run)
    assert damage(path) is None


def test_a_replacement_that_fails_gives_back_what_was_there(run, monkeypatch):
    store, _ = make_store(run)
    real, path = os.replace, run / "checkpoints" / "step-00000012"

    def replace(source, target):
        if "-old" not in str(source) and str(target) == str(path):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(UserError, match="the earlier checkpoints are intact"):
        store.save({"step": 12, **STATE}, replace=True)
    assert damage(path) is None and not list(path.parent.glob("*incomplete*"))


def test_nothing_whole_is_left(run):
    for path in (run / "checkpoints").glob("step-*"):
        empty(path / "weights.index")
    with pytest.raises(
        UserError, match=r"no checkpoint of .* can be used; step-00000012: weights.index"
    ):
        restore(run)


def test_what_later_commands_take(run, caplog):
    caplog.set_level(logging.WARNING, logger="absl")
    newest = run / "checkpoints" / "step-00000012"
    zero(newest / "weights.index")
    assert find_checkpoint(run, "latest").name == "step-00000008"
    assert str(newest) in caplog.text
    with pytest.raises(UserError, match=r"weights.index.*choose another --checkpoint"):
        find_checkpoint(run, "12")
    assert find_checkpoint(run).name == "best"
    flip(run / "checkpoints" / "best" / "state.json")
    with pytest.raises(UserError, match=r"best is damaged"):
        find_checkpoint(run)


def as_earlier_versions_wrote(checkpoint, **changes):
    """Takes the manifest away, and changes the state."""
    (checkpoint / MANIFEST).unlink()
    state = json.loads((checkpoint / "state.json").read_text())
    del state["version"]
    state = {k: v for k, v in (state | changes).items() if v != "missing"}
    (checkpoint / "state.json").write_text(json.dumps(state))


def test_checkpoints_of_earlier_versions(run):
    newest = run / "checkpoints" / "step-00000012"
    as_earlier_versions_wrote(newest)
    state, _, model = restore(run)
    assert state["step"] == 12 and value_of(model) == 12
    truncate(newest / "weights.data-00000-of-00001")  # TensorFlow finds it
    assert restore(run)[0]["step"] == 8


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 999999}, "impossible step"),
        ({"step": -5}, "impossible step"),
        ({"step": "12"}, "impossible step"),
        ({"window": "missing"}, "window is missing"),
        ({"window": [float("nan"), 0.0]}, "impossible window"),
        ({"window": {}}, "impossible window"),
        ({"window_steps": 1.5}, "impossible window_steps"),
        ({"best": {"auc": 0.7}}, "impossible best"),
        ({"best": [1]}, "impossible best"),
        ({"watch": 5}, "impossible watch"),
        ({"seconds": -1.0}, "impossible seconds"),
        ({"stale_evaluations": None}, "impossible stale_evaluations"),
    ],
)
def test_impossible_states(run, changes, said):
    newest = run / "checkpoints" / "step-00000012"
    as_earlier_versions_wrote(newest, **changes)
    assert said in damage(newest)
    assert restore(run)[0]["step"] == 8


def test_another_model_is_no_damage(run):
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(2, name="dense")], name="net")
    optimizer = ElectraOptimizer(1e-3)
    optimizer.build(model.trainable_variables)
    store = CheckpointStore(run, model, optimizer, 3)
    with pytest.raises(UserError, match=r"step-00000012 cannot be read.*shape"):
        store.restore_latest()


@pytest.mark.parametrize("name", ["a[1]", "a*b", "a?", "{a,b}", "a b", "a\nb", "a\\b", "[!x]"])
def test_any_path(tmp_path, name):
    store, model = make_store(tmp_path / name)
    fill(model, 3)
    store.save_best(store.save({"step": 3, **STATE, "best": {"step": 3}}))
    state, _, model = restore(tmp_path / name)
    assert state["step"] == 3 and value_of(model) == 3
