"""Merges the examples of all parts of a corpus into well mixed TFRecord shards."""

import os
import random
import resource
from collections.abc import Iterator

import numpy as np

from data_tools.part_builder import spool_paths
from electra_keras.console import ProgressLine, UserError
from electra_keras.data.records import Shard

# isort: split
import tensorflow as tf

_SHARD_BYTES = 100_000_000
_SHARD_EXAMPLES = 4096
_MANY_SHARDS = 16
_FEW_EXAMPLES = 256
# Examples of one part that are shuffled with each other; bounds memory when a part is huge.
_BLOCK = 16_384
# Shards that are written at a time; a gzip writer takes nearly 1 MB.
_MAX_OPEN = 1000
# Open files that are left for all but shards: the spool, libraries, the pipes of workers.
_OTHER_FILES = 16
_FILES_PER_WORKER = 4


def choose_num_shards(examples: int, num_bytes: int) -> int:
    """Returns how many shards suit a split.

    Shards of 100 MB for a large one; for a smaller one up to 16 of some thousands of examples, so
    that readers have something to interleave; for a small one 4; and 1 if it is tiny. (A thousand
    shards of a few records each, which the original always makes, starve the input pipeline.)
    """
    by_size = -(-num_bytes // _SHARD_BYTES)
    by_count = min(_MANY_SHARDS, examples // _SHARD_EXAMPLES)
    return max(1, by_size, by_count, min(4, examples // _FEW_EXAMPLES))


def check_open_files(workers: int) -> None:
    """Raises the limit of open files, if it is low and the system lets it, and checks that it will do.

    Args:
        workers: processes that build.

    Raises:
        UserError: the limit is too low.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _open_files() + _FILES_PER_WORKER * workers
    soft = max(soft, min(hard, needed + _MAX_OPEN))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if hard < needed:
        raise UserError(
            f"the system allows {hard} open files, and {workers} workers need {needed}: raise the "
            "limit (ulimit -n), or lower --workers"
        )


def _open_files() -> int:
    """Returns how many files are open, and room for those that a library may open."""
    return len(os.listdir("/dev/fd")) + _OTHER_FILES


def write_shards(
    directory: str, split: str, num_parts: int, num_shards: int, compression: str, seed: int
) -> tuple[Shard, ...]:
    """Deals the spooled examples of all parts out to shards, and removes the spool.

    Parts come in random order, and each part's examples in random order within blocks; then
    example k goes to shard k mod `num_shards`. So every shard draws on all parts, and neighbours in
    a document are in different shards. Where there are more shards than files may be open, the
    spool is read several times.

    Args:
        directory: holds the spool (see `spool_paths`) and will hold the shards.
        split: begins the shards' names.
        num_parts: how many parts there were.
        num_shards: how many shards to write.
        compression: "" or "GZIP".
        seed: of the order.

    Returns:
        The shards.
    """
    names = [f"{split}-{k:05d}-of-{num_shards:05d}.tfrecord" for k in range(num_shards)]
    paths = [os.path.join(directory, name) for name in names]
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    at_a_time = max(1, min(_MAX_OPEN, limit - _open_files()))
    passes = -(-num_shards // at_a_time)
    progress = ProgressLine(passes * num_parts, "parts merged")
    for number in range(passes):
        first = number * at_a_time
        writers = [
            tf.io.TFRecordWriter(path, options=compression)
            for path in paths[first : first + at_a_time]
        ]
        # The same in every pass.
        rng = random.Random(f"{seed}:{split}")
        order = list(range(num_parts))
        rng.shuffle(order)
        written = 0
        for done, part in enumerate(order, start=number * num_parts):
            for example in _spooled(directory, part, split, rng, number == passes - 1):
                shard = written % num_shards - first
                if 0 <= shard < len(writers):
                    writers[shard].write(example)
                written += 1
            progress.update(done)
        for writer in writers:
            writer.close()
    progress.clear()
    counts = [len(range(k, written, num_shards)) for k in range(num_shards)]
    return tuple(
        Shard(name, count, os.path.getsize(path))
        for name, count, path in zip(names, counts, paths, strict=True)
    )


def _spooled(
    directory: str, part: int, split: str, rng: random.Random, remove: bool
) -> Iterator[bytes]:
    """Yields a part's examples, shuffled within blocks; `remove` deletes its files at the end."""
    data_path, lengths_path = spool_paths(directory, part, split)
    if not os.path.exists(data_path):
        return
    lengths = np.fromfile(lengths_path, np.uint32).astype(np.int64)
    with open(data_path, "rb") as file:
        for start in range(0, len(lengths), _BLOCK):
            ends = np.cumsum(lengths[start : start + _BLOCK]).tolist()
            data = file.read(ends[-1])
            bounds = list(zip([0, *ends[:-1]], ends, strict=True))
            rng.shuffle(bounds)
            for begin, end in bounds:
                yield data[begin:end]
    if remove:
        os.remove(data_path)
        os.remove(lengths_path)
