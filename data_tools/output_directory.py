"""A directory that appears under its name when it is complete, and never before."""

import fcntl
import glob
import os
import shutil
from types import TracebackType

from absl import logging

from electra_keras.console import UserError, reason
from electra_keras.data.records import METADATA_FILE, TEMPORARY_MARK
from electra_keras.files import sync_directory, sync_tree

_LOCK = ".lock"
# All that a data set holds; a directory with anything else in it is never replaced.
_DATA_SUFFIXES = (".tfrecord",)
_DATA_NAMES = (METADATA_FILE, "vocab.txt")


class OutputDirectory:
    """Context manager: a temporary sibling of `path` to build in, which `publish` renames to it.

    The sibling is locked while its builder lives. One without a holder of the lock was left by a
    killed run and is removed. A finished one that cannot get its name is kept.

    Args:
        path: the directory to make; where it is a symbolic link, what that points to.
        overwrite: whether a data set that stands there may be replaced.

    Raises:
        UserError: the directory exists and may not be replaced; another run builds it; or it
            cannot be made.
    """

    def __init__(self, path: str, overwrite: bool) -> None:
        self.path = os.path.realpath(path)
        self.overwrite = overwrite
        self.temporary = f"{self.path}{TEMPORARY_MARK}{os.getpid()}"
        self._lock = None

    def __enter__(self) -> "OutputDirectory":
        self._check_target()
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._remove_leftovers()
            os.mkdir(self.temporary)
            self._lock = open(os.path.join(self.temporary, _LOCK), "w")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.temporary, ignore_errors=True)
        if self._lock:
            self._lock.close()

    def publish(self) -> None:
        """Gives the finished directory its name; an old one goes only when the new one stands.

        Raises:
            UserError: that is not possible; the message says where the finished directory is.
        """
        os.remove(os.path.join(self.temporary, _LOCK))
        old = None
        try:
            self._check_target()
            sync_tree(self.temporary)
            if os.path.isdir(self.path) and os.listdir(self.path):
                old = f"{self.path}{TEMPORARY_MARK}old-{os.getpid()}"
                os.replace(self.path, old)
            os.replace(self.temporary, self.path)
            sync_directory(os.path.dirname(self.path))
        except (OSError, UserError) as error:
            if old and not os.path.exists(self.path):
                os.replace(old, self.path)
            # It may have taken hours.
            finished = f"{self.path}.finished-{os.getpid()}"
            os.replace(self.temporary, finished)
            raise UserError(
                f"cannot write {self.path}: {reason(error)}. The finished data set is {finished}"
            ) from error
        if old:
            shutil.rmtree(old, ignore_errors=True)

    def _check_target(self) -> None:
        if not os.path.lexists(self.path):
            return
        if not os.path.isdir(self.path):
            raise UserError(f"{self.path} exists and is no directory: choose another --output_dir")
        if os.path.ismount(self.path):
            raise UserError(
                f"{self.path} is a mount point, which nothing can replace: name a directory in it"
            )
        names = os.listdir(self.path)
        if names and not self.overwrite:
            raise UserError(
                f"{self.path} exists already: choose another --output_dir, or add --overwrite"
            )
        foreign = [n for n in names if n not in _DATA_NAMES and not n.endswith(_DATA_SUFFIXES)]
        if foreign:
            raise UserError(
                f"{self.path} holds files that are no data set ({sorted(foreign)[0]}): it is not "
                "replaced, even with --overwrite"
            )

    def _remove_leftovers(self) -> None:
        for path in sorted(glob.glob(f"{glob.escape(self.path)}{TEMPORARY_MARK}*")):
            try:
                with open(os.path.join(path, _LOCK)) as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another run is building {self.path} (in {path}): wait for it, or stop it"
                ) from None
            except FileNotFoundError:
                # Killed between its last steps. Data it was to replace are given back.
                complete = os.path.exists(os.path.join(path, METADATA_FILE))
                if complete and "old-" in path and not os.path.exists(self.path):
                    os.replace(path, self.path)
                    logging.warning("gave back %s, which a killed run was replacing", self.path)
                    self._check_target()
                    continue
            shutil.rmtree(path)
            logging.warning("removed %s, left by a run that was killed", path)
