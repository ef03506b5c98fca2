"""Record files by their names: paths that exist as they are, patterns otherwise, on any file system.

TensorFlow's own glob takes "[" in the name of a directory for a pattern.
"""

import fnmatch
import os
import re
from collections.abc import Iterator, Sequence

from electra_keras.files import TEMPORARY_MARK

# isort: split
# After electra_keras.files, whose import of electra_keras.console sets TensorFlow's log level.
import tensorflow as tf

_NUMBERED = re.compile(r"(.*?)(\d+)-of-(\d+)([^/]*)", re.DOTALL)


def glob(pattern: str) -> list[str]:
    """Returns the paths that a pattern (`*`, `?`, `[...]`) matches, sorted.

    A path that exists is no pattern, and neither is the part before the last "/" if it is a directory.
    """
    if tf.io.gfile.exists(pattern):
        return [pattern]
    directory, name = os.path.split(pattern)
    if not name:
        return []
    directories = [directory]
    if directory and not tf.io.gfile.isdir(directory):
        directories = [path for path in glob(directory) if tf.io.gfile.isdir(path)]
    return sorted(
        os.path.join(found, entry)
        for found in directories
        for entry in list_directory(found or ".")
        if fnmatch.fnmatchcase(entry, name)
    )


def list_directory(directory: str) -> list[str]:
    """Returns the names in a directory, sorted; object stores put "/" behind those of directories."""
    return sorted({name.rstrip("/") for name in tf.io.gfile.listdir(directory)} - {""})


def split_list(source: str) -> Iterator[tuple[str, list[str]]]:
    """Yields each entry of a comma-separated list of patterns, with the paths that it matches.

    A comma inside a path is none of the list: an entry is the whole, or else the shortest run of parts
    that matches something; what matches nothing ends at the first comma.
    """
    found = glob(source) if source.strip() else []
    if found:
        yield source, found
        return
    parts = source.split(",")
    while parts:
        count, entry, found = 1, parts[0].strip(), []
        for end in range(1, len(parts) + 1):
            whole = ",".join(parts[:end])
            for candidate in dict.fromkeys((whole, whole.strip())):
                found = glob(candidate) if candidate else []
                if found:
                    break
            if found:
                count, entry = end, candidate
                break
        if entry:
            yield entry, found
        parts = parts[count:]


def record_files(directory: str, split: str) -> list[str]:
    """Returns the files of a split in a directory without metadata.

    Those are the `*tfrecord*` files whose names begin with "validation", or, of "train", the others.
    """
    names = [
        name
        for name in list_directory(directory)
        if "tfrecord" in name and name.startswith("validation") == (split == "validation")
    ]
    return only_files(os.path.join(directory, name) for name in names)


def only_files(paths: Iterator[str] | Sequence[str]) -> list[str]:
    """Leaves out directories, and what a builder has not finished."""
    return [path for path in paths if TEMPORARY_MARK not in path and not tf.io.gfile.isdir(path)]


def missing_files(paths: Sequence[str]) -> tuple[str, bool] | None:
    """Says which files are missing, going by the numbers in names such as train-00001-of-00002.

    Returns:
        a phrase about the first incomplete group of files, and whether most of the group are missing,
        as in a sample that someone has chosen; None where nothing is missing.
    """
    groups: dict[tuple[str, str, str], set[int]] = {}
    for path in paths:
        directory, name = os.path.split(path)
        match = _NUMBERED.fullmatch(name)
        if match:
            prefix, number, total, rest = match.groups()
            key = (os.path.join(directory, prefix), total, rest)
            groups.setdefault(key, set()).add(int(number))
    for (prefix, total, rest), numbers in groups.items():
        # Some count from 1.
        first = int(0 not in numbers and int(total) in numbers)
        wanted = range(first, first + int(total))
        there = sum(number in wanted for number in numbers)
        if there < len(wanted):
            lost = next(number for number in wanted if number not in numbers)
            phrase = (
                f"{len(wanted) - there} of the {len(wanted)} files {prefix}*-of-{total}{rest} are "
                f"missing, the first of them number {lost}"
            )
            return phrase, there < len(wanted) / 2
    return None
