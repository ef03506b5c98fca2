"""Directories that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from electra_keras.files import sync_directory, sync_tree


@contextlib.contextmanager
def whole_directory(final: Path, temporary: Path) -> Iterator[None]:
    """Makes `temporary` to be written, and renames it to `final` once all of it is on the disk.

    After an error nothing is left, of parents that were made for it neither.

    Raises:
        OSError: it cannot be made or renamed: `final` exists and is not empty, for one.
    """
    new_parents = [path for path in temporary.absolute().parents if not path.exists()]
    try:
        temporary.mkdir(parents=True)
        yield
        sync_tree(temporary)
        os.rename(temporary, final)
        sync_directory(final.absolute().parent)
        new_parents = []
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in new_parents:
            with contextlib.suppress(OSError):
                path.rmdir()
