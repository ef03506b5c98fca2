"""The start of a run: what metrics.jsonl says of it, and whether all workers start from the same."""

import os
import socket
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import tensorflow as tf

from electra_keras.console import UserError
from electra_keras.training.distribution import gather_from_workers
from electra_keras.training.run_directory import FLAGS_FILE, read_flags, read_text

_PACKAGES = ("tensorflow", "keras", "tensorflow-text", "numpy")


def describe_start(model_dir: Path, devices: str, fingerprint: str | None) -> dict[str, Any]:
    """Returns time, host, process, devices, versions, commit, flags and the training data's fingerprint.

    Args:
        model_dir: the run directory, whose flags.cfg is the run's.
        devices: what it computes on.
        fingerprint: of the training data, or None.
    """
    versions = {"python": sys.version.split()[0]}
    for package in _PACKAGES:
        versions[package] = metadata.version(package)
    return {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "process": os.getpid(),
        "devices": devices,
        "versions": versions,
        "commit": _commit(),
        "flags": read_flags(read_text(model_dir, FLAGS_FILE) or ""),
        "records": fingerprint,
    }


def _commit() -> str | None:
    """Returns the commit of the library's own checkout, or None where it is installed without one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def check_workers_agree(
    strategy: tf.distribute.Strategy, model_dir: Path, state: dict[str, Any] | None
) -> None:
    """Checks that all workers, which all call it, have found the same checkpoint.

    Args:
        strategy: of all workers.
        model_dir: which should be the same for all.
        state: of the checkpoint that this one has found, or None.

    Raises:
        UserError: they have not.
    """
    best = None if state is None else state["best"]
    found = [-1 if state is None else state["step"], -1 if best is None else best["step"]]
    everyone = sorted(set(gather_from_workers(strategy, found)))
    if len(everyone) > 1:
        steps = ", ".join("none" if step < 0 else f"step {step}" for step, _ in everyone)
        raise UserError(
            f"the workers find different checkpoints in {model_dir} ({steps}): --model_dir "
            "must be one directory that all of them share"
        )
