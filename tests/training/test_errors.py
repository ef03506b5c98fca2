"""Mistakes end in one line and the right exit code, and nothing is lost."""

import json
import os
import re
import resource
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from electra_keras.console import UsageError
from electra_keras.data.records import serialize_example
from electra_keras.training.lock import locked
from tests import runs

USAGE, FAILURE = 2, 1


@pytest.fixture
def data(tmp_path):
    return runs.write_records(tmp_path / "data", examples=32)


def error(*args):
    """Runs training with a mistake; returns (exit code, the line that says so)."""
    return runs.error_of("electra_keras.train", *runs.SMALL_MODEL, *args)


def small_run(data, model_dir, *more):
    return [
        f"--data_dir={data}",
        f"--model_dir={model_dir}",
        "--train_batch_size=8",
        "--warmup_steps=1",
        "--log_steps=1",
        *more,
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_such_flag=1"], "no_such_flag"),
        (["--model_size=huge"], "--model_size"),
        (["--warmup_steps=1", "--warmup_ratio=0.1"], "--warmup_steps and --warmup_ratio"),
        (["--flagfile=/nonexistent.cfg"], "nonexistent.cfg"),
        (["--train_steps=ten"], "--train_steps"),
        (["--profile_steps=5,2"], "--profile_steps"),
        (["a_file"], "a_file"),
        ([], "--model_dir"),
    ],
)
def test_usage(flags, message):
    code, line = error(*flags)
    assert code == USAGE
    assert message in line


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max_seq_length=32"], "--max_seq_length=32, but the records have length 16"),
        (["--train_batch_size=64"], "more than the 32 training examples"),
        (["--strategy=mirrored"], "--strategy=mirrored needs several devices"),
        (["--strategy=multi_worker"], "TF_CONFIG"),
        (["--strategy=mirrored", "--logical_cpus=3"], "not a multiple of 3 replicas"),
        (["--hidden_size=33"], "not a multiple of num_attention_heads"),
        (["--train_files=/nowhere/*"], "contradict"),
        (["--overwrite"], "--overwrite needs --fresh"),
    ],
)
def test_settings_that_do_not_fit(data, tmp_path, flags, message):
    code, line = error(*small_run(data, tmp_path / "run"), *flags)
    assert code == USAGE
    assert message in line
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_no_records(tmp_path):
    code, line = error(*small_run(tmp_path, tmp_path / "run"))
    assert code == FAILURE
    assert str(tmp_path) in line


def test_truncated_shard(data, tmp_path):
    shard = data / "train.tfrecord-1-of-2"
    shard.write_bytes(shard.read_bytes()[:-100])
    code, line = error(*small_run(data, tmp_path / "run"))
    assert code == FAILURE
    assert f"{shard} is truncated or corrupt at record 15" in line


@pytest.mark.slow
def test_corrupt_record(data, tmp_path):
    """Found in the middle of training; named; skipped on request."""
    shard = data / "train.tfrecord-1-of-2"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    code, line = error(*small_run(data, tmp_path / "run", "--train_steps=20"))
    assert code == FAILURE
    assert f"{shard} is truncated or corrupt at record" in line
    stderr = runs.train(*small_run(data, tmp_path / "r", "--train_steps=4", "--skip_bad_records"))
    assert f"{shard}: damaged at record" in stderr


@pytest.mark.slow
def test_records_of_another_vocabulary(data, tmp_path):
    with tf.io.TFRecordWriter(str(data / "train.tfrecord-2-of-2")) as writer:
        for _ in range(8):
            writer.write(serialize_example([2] + [999] * 14 + [3], [1] * 16, [0] * 16))
    code, line = error(*small_run(data, tmp_path / "run", "--train_steps=20"))
    assert code == FAILURE
    assert "not below the vocabulary size" in line


@pytest.mark.slow
def test_loss_that_is_not_finite(data, tmp_path):
    """Stops, names the step, keeps the last good checkpoint."""
    model_dir = tmp_path / "run"
    args = small_run(data, model_dir, "--save_steps=2")
    runs.train(*args, "--train_steps=4", "--learning_rate=1e-3")
    code, line = error(*args, "--train_steps=30", "--learning_rate=1e30", "--steps_per_execution=2")
    assert code == FAILURE
    reports = list(model_dir.glob("not-finite-step-*.json"))
    assert len(reports) == 1
    report = json.loads(reports[0].read_text())
    step = report["step"]
    assert f"not finite at step {step}" in line
    # Steps of the same call came after it: two are made at a time, between checkpoints.
    assert report["weights_of_step"] == step + step % 2
    # The last checkpoint is there, and the run goes on from it with a better rate.
    stderr = runs.train(*args, "--train_steps=30", "--learning_rate=1e-3")
    assert re.search(r"resuming at step \d+", stderr)


@pytest.mark.slow
def test_full_disk_at_a_checkpoint(data, tmp_path):
    """A limit on the size of files stands in for the disk: writes fail in the same place."""
    model_dir = tmp_path / "run"
    args = small_run(data, model_dir, "--save_steps=2", "--learning_rate=1e-3")
    runs.train(*args, "--train_steps=2")
    before = runs.checkpoint_arrays(model_dir, 2)
    process = subprocess.run(
        [sys.executable, "-m", "electra_keras.train", *runs.SMALL_MODEL, *args, "--train_steps=6"],
        cwd=runs.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)),
    )
    assert process.returncode == FAILURE, process.stderr
    assert "Traceback" not in process.stderr, process.stderr
    assert "cannot write checkpoint" in process.stderr
    after = runs.checkpoint_arrays(model_dir, 2)
    assert all((before[name] == after[name]).all() for name in before)
    assert [p.name for p in (model_dir / "checkpoints").glob("*incomplete*")] == []
    assert "resuming at step 2" in runs.train(*args, "--train_steps=6")


@pytest.mark.slow
def test_run_directory_is_protected(data, tmp_path):
    model_dir = tmp_path / "run"
    args = small_run(data, model_dir, "--train_steps=2")
    runs.train(*args)
    code, line = error(*args, "--num_hidden_layers=1")
    assert code == USAGE
    assert "another configuration: discriminator" in line
    code, line = error(*args, "--fresh")
    assert code == USAGE
    assert "--overwrite" in line
    assert runs.checkpoint_arrays(model_dir, 2)
    # Another process is in it.
    with locked(model_dir):
        code, line = error(*args)
        assert code == FAILURE
        assert f"is in use by process {os.getpid()} on {socket.gethostname()}" in line
    # What breaks the run's position or moments is refused, and changes nothing; other records too.
    flags = (model_dir / "flags.cfg").read_text()
    other = runs.write_records(tmp_path / "other", examples=40)
    for changed, said in (
        (["--seed=2"], "--seed was 42 and is 2 here"),
        (["--train_batch_size=4"], "--train_batch_size was 8 and is 4"),
        (["--optimizer=lamb"], "--optimizer was adam and is lamb"),
        ([f"--data_dir={other}"], "the training data was fingerprint"),
    ):
        code, line = error(*args, *changed)
        assert code == USAGE
        assert said in line and "--force_resume" in line
    assert (model_dir / "flags.cfg").read_text() == flags
    # What merely changes is logged, and the old flags are kept.
    longer = small_run(data, model_dir, "--train_steps=4", "--save_steps=2")
    stderr = runs.train(*longer, "--lr_end=1e-5", "--seed=2", "--force_resume")
    for name, old, new in (("train_steps", 2, 4), ("lr_end", 0.0, 1e-05), ("seed", 42, 2)):
        assert f"with another setting: --{name} was {old} and is {new}\n" in stderr
    assert (model_dir / "flags.cfg.2").read_text() == flags
    assert "--seed=2\n" in (model_dir / "flags.cfg").read_text()
    # A damaged checkpoint is named, and the run goes on from the one before.
    damaged = model_dir / "checkpoints" / "step-00000004"
    weights = damaged / "weights.data-00000-of-00001"
    weights.write_bytes(weights.read_bytes()[:50])
    stderr = runs.train(*longer, "--train_steps=6", "--seed=2", "--lr_end=1e-5")
    assert f"{damaged} is damaged (weights.data-00000-of-00001 has 50 bytes of" in stderr
    assert "resuming at step 2" in stderr
    starts = [
        json.loads(line)
        for line in (model_dir / "metrics.jsonl").read_text().splitlines()
        if '"start"' in line
    ]
    assert [(s["step"], s["flags"]["train_steps"]) for s in starts] == [
        (0, "2"),
        (2, "4"),
        (2, "6"),
    ]
    assert all(s["host"] and s["versions"]["tensorflow"] and s["records"] for s in starts)
    # Weights only, a fresh optimizer and a new schedule.
    stderr = runs.train(
        *small_run(data, tmp_path / "next", "--train_steps=2", f"--init_from={model_dir}")
    )
    assert "optimizer fresh" in stderr
    assert "resuming" not in stderr
    runs.train(*args, "--fresh", "--overwrite")
    assert not (model_dir / "checkpoints" / "step-00000006").exists()


@pytest.mark.slow
def test_evaluation_of_other_lengths_and_vocabularies(data, tmp_path):
    """Records of another length than the training's: masks follow the records' length."""
    model_dir = tmp_path / "run"
    runs.train(*small_run(data, model_dir, "--train_steps=2"))
    short = runs.write_records(tmp_path / "short", examples=8, length=8)
    command = ["electra_keras.evaluate", f"--model_dir={model_dir}", "--json"]
    code, stdout, stderr = runs.run(*command, f"--data_dir={short}", "--split=train")
    assert code == 0, stderr
    assert json.loads(stdout)["generator_loss"] > 0
    with tf.io.TFRecordWriter(str(short / "train.tfrecord-2-of-2")) as writer:
        writer.write(serialize_example([2] + [999] * 6 + [3], [1] * 8, [0] * 8))
    code, line = runs.error_of(*command, f"--data_dir={short}", "--split=train")
    assert code == FAILURE
    assert "another vocabulary" in line
    code, line = runs.error_of(*command, f"--data_dir={tmp_path / 'nowhere'}/*")
    assert code == FAILURE


def test_overwriting_waits_for_the_checks(data, tmp_path):
    """A mistake beside --fresh --overwrite must not cost the earlier run."""
    earlier = tmp_path / "run" / "checkpoints" / "step-00000004"
    earlier.mkdir(parents=True)
    (earlier / "state.json").write_text("{}")
    args = small_run(data, tmp_path / "run", "--fresh", "--overwrite")
    for flags in ([f"--init_from={tmp_path / 'nowhere'}"], ["--max_seq_length=32"]):
        error(*args, *flags)
        assert (earlier / "state.json").exists()


def test_tf_config_that_is_not_json(monkeypatch):
    from electra_keras.training import distribution

    monkeypatch.setenv("TF_CONFIG", "{oops")
    with pytest.raises(UsageError, match="TF_CONFIG should be like"):
        distribution.make_strategy("auto")
