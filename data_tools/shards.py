"""Merges the examples of all parts of a corpus into well mixed TFRecord shards."""

import os
import random
from collections.abc import Iterator

import numpy as np

from data_tools.part_builder import spool_paths
from electra_keras.console import ProgressLine
from electra_keras.data.records import Shard

# isort: split
import tensorflow as tf

_SHARD_BYTES = 100_000_000
_SHARD_EXAMPLES = 4096
_MANY_SHARDS = 16
_FEW_EXAMPLES = 256
# Examples of one part that are shuffled with each other; bounds memory when a part is huge.
_BLOCK = 16_384


def choose_num_shards(examples: int, num_bytes: int) -> int:
    """Returns how many shards suit a split.

    Shards of 100 MB for a large one; for a smaller one up to 16 of some thousands of examples, so
    that readers have something to interleave; for a small one 4; and 1 if it is tiny. (A thousand
    shards of a few records each, which the original always makes, starve the input pipeline.)
    """
    by_size = -(-num_bytes // _SHARD_BYTES)
    by_count = min(_MANY_SHARDS, examples // _SHARD_EXAMPLES)
    return max(1, by_size, by_count, min(4, examples // _FEW_EXAMPLES))


def write_shards(
    directory: str, split: str, num_parts: int, num_shards: int, compression: str, seed: int
) -> tuple[Shard, ...]:
    """Deals the spooled examples of all parts out to shards, and removes the spool.

    Parts come in random order, and each part's examples in random order within blocks; then
    example k goes to shard k mod `num_shards`. So every shard draws on all parts, and neighbours in
    a document are in different shards.

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
    writers = [tf.io.TFRecordWriter(path, options=compression) for path in paths]
    rng = random.Random(f"{seed}:{split}")
    order = list(range(num_parts))
    rng.shuffle(order)
    written = 0
    progress = ProgressLine(num_parts, "parts merged")
    for done, part in enumerate(order):
        for example in _spooled(directory, part, split, rng):
            writers[written % num_shards].write(example)
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


def _spooled(directory: str, part: int, split: str, rng: random.Random) -> Iterator[bytes]:
    """Yields a part's examples, shuffled within blocks, and removes its files."""
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
    os.remove(data_path)
    os.remove(lengths_path)
