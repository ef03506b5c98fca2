"""TensorFlow's checkpoint files under any path.

TensorFlow takes the prefix of a checkpoint that it reads for a glob pattern, so that the files of
`run[1]/weights` are not found.
"""

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

_GLOB_CHARACTERS = re.compile(r"[*?\[\]\\]")


@contextlib.contextmanager
def glob_safe(prefix: str | Path) -> Iterator[str]:
    """Gives a prefix that names the same files and holds no character of a glob pattern.

    Args:
        prefix: of a checkpoint or of a SavedModel's variables; its last part must hold none.
    """
    directory, name = os.path.split(os.path.abspath(prefix))
    if not _GLOB_CHARACTERS.search(directory):
        yield str(prefix)
        return
    with tempfile.TemporaryDirectory() as temporary:
        link = os.path.join(temporary, "directory")
        os.symlink(directory, link)
        yield os.path.join(link, name)
