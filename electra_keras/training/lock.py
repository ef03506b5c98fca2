"""One run at a time in a run directory."""

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from absl import logging

from electra_keras.console import UserError

LOCK_FILE = ".lock"


@contextlib.contextmanager
def locked(model_dir: Path, chief: bool = True) -> Iterator[None]:
    """Makes the run directory and keeps other runs out of it.

    The system releases the lock when the process ends, however it does.

    Args:
        model_dir: the run directory.
        chief: whether this process writes; others take no lock.

    Raises:
        UserError: another process works in it, which is named; or it cannot be made.
    """
    if not chief:
        yield
        return
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        file = (model_dir / LOCK_FILE).open("a+", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write --model_dir={model_dir}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{model_dir} is in use by {_holder(model_dir)}: wait for it, stop it, or choose "
                "another --model_dir"
            ) from None
        except OSError as error:  # a file system without locks
            logging.warning("%s cannot be locked (%s): start no second run in it", model_dir, error)
        file.truncate(0)
        holder = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
        }
        file.write(json.dumps(holder) + "\n")
        file.flush()
        yield


def _holder(model_dir: Path) -> str:
    try:
        holder = json.loads((model_dir / LOCK_FILE).read_text(encoding="utf-8"))
        return "process {process} on {host}, since {since}".format(**holder)
    except (OSError, ValueError, KeyError, TypeError):  # it has just taken the lock
        return "another process"
