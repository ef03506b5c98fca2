"""`metadata.json`: what a directory of record files says about itself."""

import dataclasses
import json
import os
import re
from typing import Any

from electra_keras.config import matches
from electra_keras.console import UserError, reason
from electra_keras.files import write_whole

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf

METADATA_FILE = "metadata.json"
SCHEMA_VERSION = 1


class RecordsError(UserError):
    """Record files that are missing, damaged, or not what they should be."""


@dataclasses.dataclass(frozen=True)
class Shard:
    """One record file: its name inside the data set's directory, its examples and bytes."""

    name: str
    examples: int
    bytes: int


@dataclasses.dataclass(frozen=True)
class Split:
    """The files of one split and their totals.

    Attributes:
        shards: the files, in the order of their names.
        documents: documents that the examples were made of.
        examples: examples in all shards.
        tokens: tokens without padding, [CLS] and [SEP] included.
        unknown_tokens: how many of them are [UNK].
    """

    shards: tuple[Shard, ...]
    documents: int
    examples: int
    tokens: int
    unknown_tokens: int


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What `metadata.json` says about a data set.

    Attributes:
        tool: the program and version that built it.
        compression: "" or "GZIP", as `tf.data.TFRecordDataset` takes it.
        source_files, source_bytes: the input's files and their size on disk.
        splits: "train" and, if any document was held out, "validation".
        unigram_entropy: entropy in nats of the distribution of the train split's tokens
            other than [PAD] [CLS] [SEP] [MASK]: the loss of a generator that has learned
            token frequencies and nothing else.
        validation_unigram_cross_entropy: that loss on the validation split, under the train
            split's distribution (add-one smoothed over the vocabulary); None without the split.
            Where there is no train split, `unigram_entropy` is of the validation split.
    """

    schema_version: int
    tool: str
    max_seq_length: int
    vocab_size: int
    vocab_sha256: str
    lower_case: bool
    strip_accents: bool
    compression: str
    seed: int
    drop_overflow: bool
    blank_lines_separate_documents: bool
    validation_fraction: float
    source_files: int
    source_bytes: int
    splits: dict[str, Split]
    unigram_entropy: float
    validation_unigram_cross_entropy: float | None


def write_metadata(directory: str, metadata: Metadata) -> None:
    """Writes `metadata.json` into `directory`, whole or not at all."""
    path = os.path.join(directory, METADATA_FILE)
    write_whole(path, json.dumps(dataclasses.asdict(metadata), indent=2) + "\n")


# The largest value of a whole number in the file; lengths and ids are far below.
_MOST = 2**53


def _build(cls: type, values: Any, where: str) -> Any:
    """Returns `cls(**values)`, types checked; unknown keys are left out, missing ones are an error."""
    if not isinstance(values, dict):
        raise RecordsError(f"{where} should be a JSON object")
    fields = dataclasses.fields(cls)
    missing = [field.name for field in fields if field.name not in values]
    if missing:
        raise RecordsError(
            f"{where} lacks {', '.join(missing)}: rebuild the data with "
            "data_tools.build_pretraining_data"
        )
    for field in fields:
        value, kind = values[field.name], _JSON_TYPES.get(field.name, field.type)
        if not matches(value, kind):
            name = getattr(kind, "__name__", str(kind))
            raise _impossible(where, field.name, value, f"should be of type {name}")
        if isinstance(value, int | float) and not 0 <= value <= _MOST:
            raise _impossible(where, field.name, value, "should not be negative, nor that large")
    return cls(**{field.name: values[field.name] for field in fields})


def _impossible(where: str, name: str, value: Any, problem: str) -> RecordsError:
    text = repr(value)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return RecordsError(f"{where}: {name} {problem}, but is {text}: copy or build the data again")


# What JSON holds where the dataclasses have something else.
_JSON_TYPES = {"shards": list, "splits": dict}


def read_metadata(directory: str) -> Metadata | None:
    """Reads `metadata.json` of `directory`; None where there is no such file.

    Raises:
        RecordsError: it cannot be read, is broken JSON, lacks keys, has impossible values, or a
            schema newer than this code.
    """
    path = os.path.join(directory, METADATA_FILE)
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            values = json.loads(file.read().decode("utf-8"))
    except tf.errors.OpError as error:
        raise RecordsError(f"cannot read {path}: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise RecordsError(f"{path} cannot be read as JSON: {error}") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecordsError(
            f"{path} has schema version {version}, this code knows up to {SCHEMA_VERSION}: "
            "update electra_keras or rebuild the data"
        )
    metadata = _build(Metadata, values, path)
    for name, wrong, problem in (
        ("compression", metadata.compression not in ("", "GZIP"), "should be '' or 'GZIP'"),
        ("max_seq_length", not 1 <= metadata.max_seq_length < 2**20, "is no length of examples"),
        ("vocab_size", not 1 <= metadata.vocab_size < 2**28, "is no size of a vocabulary"),
        ("validation_fraction", metadata.validation_fraction > 1, "should be a share"),
    ):
        if wrong:
            raise _impossible(path, name, getattr(metadata, name), problem)
    splits = {name: _build_split(value, name, path) for name, value in metadata.splits.items()}
    return dataclasses.replace(metadata, splits=splits)


def _build_split(values: Any, name: str, path: str) -> Split:
    where = f"{path}: split {name!r}"
    split = _build(Split, values, where)
    shards = tuple(_build(Shard, shard, f"{where}, a shard") for shard in split.shards)
    for shard in shards:
        # The files lie beside metadata.json: a name that leads elsewhere is none of a builder's.
        if (
            shard.name in ("", ".", "..")
            or re.search(r"[/\\]", shard.name)
            or not shard.name.isprintable()
        ):
            raise _impossible(where, "name", shard.name, "of a shard should be that of a file")
    names = [shard.name for shard in shards]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise RecordsError(f"{where} lists {twice} twice: copy or build the data again")
    total = sum(shard.examples for shard in shards)
    if total != split.examples:
        raise RecordsError(
            f"{where} has {split.examples} examples, but its shards have {total} together: copy or "
            "build the data again"
        )
    return dataclasses.replace(split, shards=shards)
