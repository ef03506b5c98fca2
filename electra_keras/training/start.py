"""What metrics.jsonl says of each start of a run, so that its numbers can be traced."""

import os
import socket
import subprocess
import sys
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

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
