"""Small data sets and real runs of the commands, for tests."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from electra_keras.data.records import serialize_example

REPOSITORY = Path(__file__).parents[1]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
SMALL_MODEL = [
    "--model_size=tiny",
    "--hidden_size=32",
    "--num_hidden_layers=2",
    "--num_attention_heads=2",
    "--embedding_size=16",
    "--max_position_embeddings=16",
]


def write_vocabulary(path, size=60):
    path.write_text("\n".join(SPECIAL + [f"word{i}" for i in range(size - 5)]) + "\n")


def example(rng, length, vocab_size=60):
    """A [CLS] A [SEP] B [SEP] example with some padding; each word tells the next one."""
    real = int(rng.integers(length // 2, length + 1))
    words = (np.arange(real) * 3 + rng.integers(0, 50)) % (vocab_size - 5) + 5
    middle = real // 2
    words[0], words[middle], words[-1] = 2, 3, 3
    pad = length - real
    return (
        [*words.tolist(), *[0] * pad],
        [1] * real + [0] * pad,
        [0] * (middle + 1) + [1] * (real - middle - 1) + [0] * pad,
    )


def write_records(directory, examples=64, length=16, shards=2, seed=0, name="train"):
    """Writes record files as the original's builder does, without metadata, and a vocabulary."""
    directory.mkdir(parents=True, exist_ok=True)
    write_vocabulary(directory / "vocab.txt")
    rng = np.random.default_rng(seed)
    for shard in range(shards):
        path = directory / f"{name}.tfrecord-{shard}-of-{shards}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for _ in range(examples // shards):
                writer.write(serialize_example(*example(rng, length)))
    return directory


def start(module, *args, **environment):
    """Starts a command of the library; returns the process."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *map(str, args)],
        cwd=REPOSITORY,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_two_workers(module, *args):
    """Runs a command as two processes of one TF_CONFIG; returns (stdout, stderr) of each."""
    sockets = [socket.socket() for _ in range(2)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    workers = ["{}:{}".format(*s.getsockname()) for s in sockets]
    for s in sockets:
        s.close()
    processes = [
        start(
            module,
            *args,
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]
    try:
        ends = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, stderr) in zip(processes, ends, strict=True):
        assert process.returncode == 0, stderr
    return ends


_FORK_SECONDS = 90


class _Forks:
    """The process of tests/forked.py, started when it is needed first."""

    def __init__(self):
        self._server = None

    def run(self, module, arguments):
        """Runs a command; returns (exit code, stdout, stderr), or None if it does not come to an end.

        A fork that computes may wait for a thread that only its parent has: such a command is to be run
        again as a process of its own.
        """
        if self._server is None:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.forked"],
                cwd=REPOSITORY,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                text=True,
            )
            assert self._server.stdout.readline() == "ready\n"
        with tempfile.NamedTemporaryFile() as stdout, tempfile.NamedTemporaryFile() as stderr:
            request = {
                "module": module,
                "arguments": [str(argument) for argument in arguments],
                "environment": os.environ | {"CUDA_VISIBLE_DEVICES": ""},
                "stdout": stdout.name,
                "stderr": stderr.name,
            }
            self._server.stdin.write(json.dumps(request) + "\n")
            self._server.stdin.flush()
            answered, _, _ = select.select([self._server.stdout], [], [], _FORK_SECONDS)
            if not answered:
                os.killpg(self._server.pid, signal.SIGKILL)
                self._server.wait()
                self._server = None
                return None
            code = int(self._server.stdout.readline())
            return code, stdout.read().decode(), stderr.read().decode()


_forks = _Forks()


def run(module, *args, timeout=240, **environment):
    """Runs a command of the library to its end; returns (exit code, stdout, stderr)."""
    # Training takes longer than the import, and has threads to shut down, as users' runs have.
    if not environment and module not in ("electra_keras.train", "electra_keras.finetune"):
        result = _forks.run(module, args)
        if result is not None:
            return result
    process = start(module, *args, **environment)
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, stdout, stderr


def train(*args, **environment):
    """Runs electra_keras.train with a small model; it must succeed; returns its stderr."""
    code, _, stderr = run("electra_keras.train", *SMALL_MODEL, *args, **environment)
    assert code == 0, stderr
    return stderr


def error_of(module, *args):
    """Runs a command that must fail with one line; returns (exit code, that line)."""
    code, _, stderr = _forks.run(module, args) or run(module, *args)
    assert "Traceback" not in stderr, stderr
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    return code, lines[0]


def checkpoint_arrays(model_dir, step):
    """Returns every array of a checkpoint, weights and optimizer, by name."""
    arrays = {}
    for part in ("weights", "optimizer"):
        path = Path(model_dir) / "checkpoints" / f"step-{step:08d}" / part
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            if "OBJECT_GRAPH" not in name:
                arrays[f"{part}/{name}"] = reader.get_tensor(name)
    return arrays


def metrics_of(model_dir):
    """Returns the records of metrics.jsonl without what depends on the clock, and without the starts."""
    timed = ("examples_per_second", "tokens_per_second")
    return [
        {name: value for name, value in record.items() if name not in timed}
        for record in map(json.loads, (Path(model_dir) / "metrics.jsonl").read_text().splitlines())
        if record["split"] != "start"
    ]
