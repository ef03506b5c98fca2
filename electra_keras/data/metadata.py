"""`metadata.json`: what a directory of record files says about itself."""

import dataclasses
import json
import os
from typing import Any

from electra_keras.console import UserError
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


def _build(cls: type, values: Any, where: str) -> Any:
    """Returns `cls(**values)`; unknown keys are left out, missing ones are an error."""
    if not isinstance(values, dict):
        raise RecordsError(f"{where} should be a JSON object")
    names = [field.name for field in dataclasses.fields(cls)]
    missing = [name for name in names if name not in values]
    if missing:
        raise RecordsError(
            f"{where} lacks {', '.join(missing)}: rebuild the data with "
            "data_tools.build_pretraining_data"
        )
    return cls(**{name: values[name] for name in names})


def read_metadata(directory: str) -> Metadata | None:
    """Reads `metadata.json` of `directory`; None where there is no such file.

    Raises:
        RecordsError: broken JSON, missing keys, or a schema newer than this code.
    """
    path = os.path.join(directory, METADATA_FILE)
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            values = json.loads(file.read().decode("utf-8"))
    except (ValueError, tf.errors.OpError) as error:
        raise RecordsError(f"{path} cannot be read as JSON: {error}") from error
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise RecordsError(
            f"{path} has schema version {version}, this code knows up to {SCHEMA_VERSION}: "
            "update electra_keras or rebuild the data"
        )
    metadata = _build(Metadata, values, path)
    if not isinstance(metadata.splits, dict):
        raise RecordsError(f"{path}: 'splits' should be a JSON object")
    splits = {}
    for name, value in metadata.splits.items():
        split = _build(Split, value, f"{path}: split {name!r}")
        if not isinstance(split.shards, list):
            raise RecordsError(f"{path}: 'shards' of split {name!r} should be a list")
        shards = tuple(
            _build(Shard, shard, f"{path}: a shard of {name!r}") for shard in split.shards
        )
        splits[name] = dataclasses.replace(split, shards=shards)
    return dataclasses.replace(metadata, splits=splits)
