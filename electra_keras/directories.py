"""Directories that appear whole or not at all."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_directory(final: Path, temporary: Path) -> Iterator[None]:
    """Makes `temporary` to be written, and renames it to `final` at the end.

    After an error nothing is left, of parents that were made for it neither.

    Raises:
        OSError: it cannot be made or renamed: `final` exists and is not empty, for one.
    """
    new_parents = [path for path in temporary.absolute().parents if not path.exists()]
    try:
        temporary.mkdir(parents=True)
        yield
        os.rename(temporary, final)
        new_parents = []
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in new_parents:
            with contextlib.suppress(OSError):
                path.rmdir()
