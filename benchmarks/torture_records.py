"""Damages record files and their metadata in every way, and counts what a reader says; prints JSON.

    python benchmarks/torture_records.py [--cases=1000] [--seed=0]

Each case makes a small data set of three files (with metadata.json, or foreign; plain, or gzip),
damages it at one random place, and reads it as training and evaluation do: find, open, one epoch of
training batches, one evaluation. Counted per kind of damage:

    named       an error of one line that names a file of the data set
    unchanged   read to the end, and every example is what it was
    rejected    an error that names no file
    silent      read to the end, and examples are missing, changed or too many
    traceback   any other exception

Exit code 1 if anything is silent or a traceback where checksums, sizes or counts can see it. They cannot
see two foreign files that have changed their names, one that was replaced by a copy of another, or one
that was cut off between two records: these are counted as `undetectable`.
"""

import argparse
import collections
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
LENGTH, VOCAB_SIZE, EXAMPLES, FILES, BATCH = 8, 100, 30, 3, 5

Damage = Callable[[Path, random.Random], bool]  # returns whether a reader can see it


def record_files(directory: Path) -> list[Path]:
    """Returns the record files of a data set."""
    return sorted(directory.glob("*.tfrecord*"))


def pick(directory: Path, rng: random.Random) -> Path:
    """Returns a random one of them."""
    return rng.choice(record_files(directory))


def truncated(directory: Path, rng: random.Random) -> bool:
    """Cuts a file off."""
    path = pick(directory, rng)
    content = path.read_bytes()
    keep = rng.randrange(len(content))
    path.write_bytes(content[:keep])
    at_a_record = keep % (len(content) // (EXAMPLES // FILES)) == 0
    return keep == 0 or not at_a_record or (directory / "metadata.json").exists()


def zeroed(directory: Path, rng: random.Random) -> bool:
    """Fills a piece of a file with zeros, as a power cut does."""
    path = pick(directory, rng)
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content))
    end = rng.randrange(begin, len(content)) + 1
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)
    return True


def flipped(directory: Path, rng: random.Random) -> bool:
    """Flips a bit of a file."""
    path = pick(directory, rng)
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)
    return True


def extended(directory: Path, rng: random.Random) -> bool:
    """Appends random bytes to a file."""
    path = pick(directory, rng)
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 40)))
    return True


def deleted(directory: Path, rng: random.Random) -> bool:
    """Deletes a file."""
    pick(directory, rng).unlink()
    return True


def emptied(directory: Path, rng: random.Random) -> bool:
    """Leaves nothing in a file."""
    pick(directory, rng).write_bytes(b"")
    return True


def replaced(directory: Path, rng: random.Random) -> bool:
    """Puts a directory, or a text, in the place of a file."""
    path = pick(directory, rng)
    path.unlink()
    if rng.random() < 0.5:
        path.mkdir()
    else:
        path.write_text("This is no file of records. " * rng.randrange(1, 50))
    return True


def swapped(directory: Path, rng: random.Random) -> bool:
    """Copies a file over another."""
    one, other = rng.sample(record_files(directory), 2)
    same_size = one.stat().st_size == other.stat().st_size
    shutil.copyfile(one, other)
    return (directory / "metadata.json").exists() and not same_size


def rewritten(directory: Path, rng: random.Random) -> bool:
    """Replaces one record by another message, its checksum right and the file's size the same."""
    import tensorflow as tf

    path = pick(directory, rng)
    compression = "GZIP" if path.read_bytes()[:2] == b"\x1f\x8b" else ""
    records = [r.numpy() for r in tf.data.TFRecordDataset(str(path), compression)]
    number = rng.randrange(len(records))
    record = bytearray(records[number])
    for _ in range(rng.randrange(1, 4)):
        record[rng.randrange(len(record))] = rng.randrange(256)
    records[number] = bytes(record)
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for value in records:
            writer.write(value)
    return False  # a right checksum of wrong ids


def wrong_value(directory: Path, rng: random.Random) -> bool:
    """Changes one value of metadata.json to something impossible."""
    path = directory / "metadata.json"
    values = json.loads(path.read_text())
    shard = rng.choice(values["splits"]["train"]["shards"])
    place, name = rng.choice(
        [
            (shard, "examples"), (shard, "bytes"), (shard, "name"), (values, "compression"),
            (values, "max_seq_length"), (values, "unigram_entropy"), (values, "splits"),
            (values["splits"]["train"], "examples"), (values["splits"]["train"], "shards"),
            (values, "schema_version"), (values, "lower_case"), (values, "vocab_size"),
        ]
    )  # fmt: skip
    place[name] = rng.choice(
        [-5, 0, 10**30, 1e400, None, "../../etc/passwd", "ZIPX", [], {}, [[[]]], 3.5, "\ud800"]
    )
    path.write_text(json.dumps(values))
    return (place, name) != (values, "vocab_size") or place[name] != 0


def wrong_count(directory: Path, rng: random.Random) -> bool:
    """Makes the examples of a file in metadata.json more or fewer, and the sum with them."""
    path = directory / "metadata.json"
    values = json.loads(path.read_text())
    train = values["splits"]["train"]
    shard = rng.choice(train["shards"])
    shard["examples"] = rng.choice([1, 5, 9, 11, 12, 20, 100, shard["examples"] * 10])
    train["examples"] = sum(shard["examples"] for shard in train["shards"])
    path.write_text(json.dumps(values))
    return True


def damaged_metadata(directory: Path, rng: random.Random) -> bool:
    """Truncates, zeroes or empties metadata.json, or nests it deeply."""
    path = directory / "metadata.json"
    content = path.read_bytes()
    keep = rng.randrange(len(content) - 2)
    path.write_bytes(
        rng.choice([content[:keep], bytes(len(content)), b"", b"[" * 100_000, rng.randbytes(50)])
    )
    return True


def flipped_metadata(directory: Path, rng: random.Random) -> bool:
    """Flips a bit of a count, a size or a name in metadata.json."""
    path = directory / "metadata.json"
    content = bytearray(path.read_bytes())
    begin = content.index(b'"shards"')
    content[rng.randrange(begin, content.index(b"]", begin))] ^= 1 << rng.randrange(7)
    path.write_bytes(content)
    return True


OF_FILES: list[Damage] = [
    truncated, zeroed, flipped, extended, deleted, emptied, replaced, swapped, rewritten,
]  # fmt: skip
OF_METADATA: list[Damage] = [wrong_value, wrong_count, damaged_metadata, flipped_metadata]


def write_data(directory: Path, compression: str, foreign: bool, rng: random.Random) -> None:
    """Writes a data set of `FILES` files."""
    import numpy as np
    import tensorflow as tf

    from electra_keras.data.records import (
        Metadata,
        Shard,
        Split,
        serialize_example,
        write_metadata,
    )

    directory.mkdir()
    shards = []
    for file in range(FILES):
        path = directory / f"train-{file:05d}-of-{FILES:05d}.tfrecord"
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for _ in range(EXAMPLES // FILES):
                ids = [rng.randrange(5, VOCAB_SIZE) for _ in range(LENGTH)]
                writer.write(serialize_example(ids, np.ones(LENGTH, int), np.zeros(LENGTH, int)))
        shards.append(Shard(path.name, EXAMPLES // FILES, path.stat().st_size))
    if not foreign:
        split = Split(tuple(shards), 1, EXAMPLES, EXAMPLES * LENGTH, 0)
        metadata = Metadata(
            1, "torture", LENGTH, VOCAB_SIZE, "0" * 64, True, True, compression, 0, False, True,
            0.0, 1, 1, {"train": split}, 1.0, None,
        )  # fmt: skip
        write_metadata(str(directory), metadata)


def read(directory: Path) -> tuple[list, list]:
    """Returns the ids of an epoch of training and of an evaluation, sorted."""
    from electra_keras.data.pipeline import (
        READ_ERRORS,
        evaluation_dataset,
        explain_error,
        open_records,
        training_dataset,
    )
    from electra_keras.data.records import find_records

    source = open_records(find_records(str(directory)))
    steps = max(1, source.num_examples // BATCH)
    datasets = (
        training_dataset(source, VOCAB_SIZE, BATCH, 1, shuffle_buffer=12).take(steps),
        evaluation_dataset(source, VOCAB_SIZE, BATCH),
    )
    try:
        return tuple(
            sorted(tuple(row) for batch in dataset for row in batch["input_ids"].numpy().tolist())
            for dataset in datasets
        )
    except READ_ERRORS as error:
        raise explain_error(error, source) from error


def outcome(directory: Path, expected: tuple[list, list]) -> tuple[str, str]:
    """Returns how reading a damaged data set ends, and the error's words."""
    from electra_keras.console import UserError

    try:
        found = read(directory)
    except UserError as error:
        names = [path.name for path in record_files(directory)] + [str(directory)]
        return "named" if any(name in str(error) for name in names) else "rejected", str(error)
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    return "unchanged" if found == expected else "silent", ""


def main() -> None:
    """Runs the cases that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    from electra_keras import console  # noqa: F401  first: it imports TensorFlow quietly

    # isort: split
    from absl import logging

    logging.set_verbosity(logging.ERROR)
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    worst = []
    with tempfile.TemporaryDirectory() as root:
        # One data set of each kind, which every case copies.
        kinds = [
            (compression, foreign) for compression in ("", "GZIP") for foreign in (True, False)
        ]
        whole = {}
        for number, kind in enumerate(kinds):
            directory = Path(root) / f"whole-{number}"
            write_data(directory, *kind, random.Random(number))
            whole[kind] = (directory, read(directory))
        for case in range(args.cases):
            rng = random.Random(f"{args.seed}:{case}")
            compression, foreign = rng.choice(kinds)
            damage = rng.choice(OF_FILES if foreign else OF_FILES + OF_METADATA)
            directory = Path(root) / f"case-{case}"
            original, expected = whole[compression, foreign]
            shutil.copytree(original, directory)
            visible = damage(directory, rng)
            what, words = outcome(directory, expected)
            if what == "silent" and not visible:
                what = "undetectable"
            counts[damage.__name__][what] += 1
            if what in ("silent", "traceback", "rejected"):
                data = f"{compression or 'plain'}, {'foreign' if foreign else 'with metadata'}"
                worst.append(f"case {case}, {damage.__name__}, {data}: {what} {words}"[:300])
            shutil.rmtree(directory)
    total = sum(counts.values(), collections.Counter())
    print(json.dumps({"total": total, "by_damage": counts, "worst": worst[:20]}, indent=2))
    sys.exit(1 if total["silent"] or total["traceback"] else 0)


if __name__ == "__main__":
    main()
