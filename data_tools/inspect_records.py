"""Checks every record of a data set and shows what is in it.

    python -m data_tools.inspect_records --data=pretraining_data
    python -m data_tools.inspect_records --data='old/pretrain_data.tfrecord-*' --vocab_file=vocab.txt

Works on what build_pretraining_data made and on files of the original ELECTRA, which have no
metadata.json. Names the file and the number, from 0, of every record in which something is wrong.
Exit code 0 means that there is none.
"""

import os
from collections.abc import Iterator

import numpy as np
from absl import flags

from electra_keras.console import ProgressLine, UsageError, run_main
from electra_keras.data.records import (
    METADATA_FILE,
    NOT_PARSED,
    RecordsError,
    RecordSet,
    find_records,
    has_validation,
    parse_batch,
    read_metadata,
    read_serialized,
)
from electra_keras.text.tokenizer import detokenize
from electra_keras.text.vocabulary import Vocabulary

# isort: split
import itertools

import tensorflow as tf

DATA = flags.DEFINE_string("data", None, "directory, or file patterns separated by commas")
VOCAB_FILE = flags.DEFINE_string("vocab_file", None, "default: vocab.txt in the directory")
NUM_EXAMPLES = flags.DEFINE_integer("num_examples", 2, "decoded examples to show per split", 0)
NUM_TOKENS = flags.DEFINE_integer("num_tokens", 20, "most frequent tokens to show", 0)
MAX_PROBLEMS = flags.DEFINE_integer("max_problems", 20, "how many problems to name", 1)

_BATCH = 512
_HISTOGRAM_BINS = 8


def check_examples(
    input_ids: np.ndarray, input_mask: np.ndarray, segment_ids: np.ndarray, vocabulary: Vocabulary
) -> Iterator[tuple[np.ndarray, str]]:
    """Checks what holds for every pre-training example.

    Args:
        input_ids, input_mask, segment_ids: integers [batch, length].
        vocabulary: what the ids index.

    Yields:
        For every check: the rows that fail it, bool [batch], and what is wrong with them.
    """
    mask = input_mask == 1
    lengths = mask.sum(axis=1)
    last = input_ids[np.arange(len(input_ids)), np.maximum(lengths - 1, 0)]
    size = len(vocabulary)
    yield ((input_ids < 0) | (input_ids >= size)).any(1), f"input_ids outside [0, {size})"
    yield ((input_mask != 0) & ~mask).any(1), "input_mask is not 0 or 1"
    yield (mask[:, 1:] & ~mask[:, :-1]).any(1), "input_mask is not ones and then zeros"
    yield input_ids[:, 0] != vocabulary.cls_id, "the first token is not [CLS]"
    yield last != vocabulary.sep_id, "the last token is not [SEP]"
    yield (~mask & (input_ids != vocabulary.pad_id)).any(1), "tokens other than [PAD] in padding"
    yield (mask & (input_ids == vocabulary.pad_id)).any(1), "[PAD] among the tokens"
    yield ((segment_ids != 0) & (segment_ids != 1)).any(1), "segment_ids are not 0 or 1"
    yield (~mask & (segment_ids != 0)).any(1), "segment_ids in padding are not 0"
    goes_back = mask[:, 1:] & (segment_ids[:, 1:] < segment_ids[:, :-1])
    yield goes_back.any(1), "segment_ids go back from 1 to 0"


class Problems:
    """What is wrong: how much, and the first of it.

    Attributes:
        count: problems found.
        first: the first --max_problems of them, a line each.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, line: str) -> None:
        """Adds a problem."""
        self.count += 1
        if len(self.first) < MAX_PROBLEMS.value:
            self.first.append(line)


class Inspection:
    """What is in one split, and what is wrong with it.

    Args:
        records: the files.
        vocabulary: what their ids index.
        problems: is told what is wrong.
    """

    def __init__(self, records: RecordSet, vocabulary: Vocabulary, problems: Problems) -> None:
        self.records = records
        self.vocabulary = vocabulary
        self.problems = problems
        self.examples = self.two_segments = 0
        self.lengths = np.zeros(records.max_seq_length + 1, np.int64)
        self.token_counts = np.zeros(len(vocabulary), np.int64)
        self.shown: list[str] = []

    def run(self) -> None:
        """Reads all files to their end."""
        progress = ProgressLine(self.records.num_examples, "records")
        expected = self.records.examples_per_file or [None] * len(self.records.files)
        for path, count in zip(self.records.files, expected, strict=True):
            read, batch = 0, []
            try:
                for record in read_serialized(path, self.records.compression):
                    batch.append(record)
                    read += 1
                    if len(batch) == _BATCH:
                        self._add(path, read - len(batch), batch)
                        batch = []
                        progress.update(self.examples)
            except tf.errors.DataLossError:
                self.problems.add(f"{path}, record {read}: cut off or corrupt; reading ends here")
            if batch:
                self._add(path, read - len(batch), batch)
            if count is not None and read != count:
                self.problems.add(f"{path}: {read} records, {METADATA_FILE} says {count}")
        progress.clear()

    def _add(self, path: str, start: int, batch: list[bytes]) -> None:
        length = self.records.max_seq_length
        numbers = np.arange(start, start + len(batch))
        try:
            features = parse_batch(batch, length)
        except NOT_PARSED:
            good = []
            for number, record in enumerate(batch):
                try:
                    parse_batch([record], length)
                    good.append(number)
                except NOT_PARSED:
                    self.problems.add(
                        f"{path}, record {start + number}: no tf.train.Example with features of "
                        f"length {length}"
                    )
            if not good:
                return
            numbers = numbers[good]
            features = parse_batch([batch[k] for k in good], length)
        arrays = [features[name].numpy() for name in ("input_ids", "input_mask", "segment_ids")]
        input_ids, input_mask, segment_ids = arrays
        for wrong, what in check_examples(*arrays, self.vocabulary):
            for number in numbers[wrong]:
                self.problems.add(f"{path}, record {number}: {what}")
        self.examples += len(input_ids)
        self.two_segments += int((segment_ids == 1).any(axis=1).sum())
        self.lengths += np.bincount((input_mask == 1).sum(axis=1), minlength=length + 1)
        tokens = input_ids[input_mask == 1]
        tokens = tokens[(tokens >= 0) & (tokens < len(self.vocabulary))]
        self.token_counts += np.bincount(tokens, minlength=len(self.vocabulary))
        for row in range(min(len(input_ids), NUM_EXAMPLES.value - len(self.shown))):
            self.shown.append(f"{path}, record {numbers[row]}: {self._decode(input_ids[row])}")

    def _decode(self, ids: np.ndarray) -> str:
        size = len(self.vocabulary)
        tokens = [self.vocabulary.tokens[i] if 0 <= i < size else f"<{i}>" for i in ids]
        return detokenize([token for token in tokens if token != "[PAD]"])

    def report(self, split: str) -> None:
        """Prints what was found."""
        length = self.records.max_seq_length
        tokens = int(self.token_counts.sum())
        print(f"{split}: {len(self.records.files)} files, {self.examples:,} examples of {length}")
        if not self.examples:
            return
        padding = 1 - int((self.lengths * np.arange(length + 1)).sum()) / (self.examples * length)
        unknown = self.token_counts[self.vocabulary.unk_id] / max(1, tokens)
        print(
            f"  {tokens:,} tokens, padding {padding:.1%}, [UNK] {unknown:.2%}, two segments in "
            f"{self.two_segments / self.examples:.1%}"
        )
        unseen = [
            self.vocabulary.tokens[i]
            for i in np.flatnonzero(self.token_counts == 0)
            if i not in (self.vocabulary.pad_id, self.vocabulary.mask_id)
        ]
        print(
            f"  vocabulary entries never seen: {len(unseen):,} of {len(self.vocabulary):,}", end=""
        )
        print(f" ({' '.join(unseen[:8])}{' ..' if len(unseen) > 8 else ''})" if unseen else "")
        print("  lengths:")
        edges = np.unique(np.linspace(0, length, _HISTOGRAM_BINS + 1).astype(int))
        for low, high in itertools.pairwise(edges):
            share = self.lengths[low + 1 : high + 1].sum() / self.examples
            print(f"    {low + 1:5d} to {high:5d}  {share:6.1%}  {'#' * round(50 * share)}")
        if NUM_TOKENS.value:
            print("  most frequent tokens:")
            for index in np.argsort(-self.token_counts, kind="stable")[: NUM_TOKENS.value]:
                share = self.token_counts[index] / max(1, tokens)
                print(f"    {share:6.2%}  {self.vocabulary.tokens[index]}")
        for line in self.shown:
            print(f"  {line}")


def find_splits() -> dict[str, RecordSet]:
    """Returns the files of every split that --data has."""
    source = DATA.value
    if not tf.io.gfile.isdir(source):
        return {"records": find_records(source)}
    metadata = read_metadata(source)
    if metadata is not None:
        return {split: find_records(source, split) for split in metadata.splits}
    splits = {"train": find_records(source, "train")}
    if has_validation(source):
        splits["validation"] = find_records(source, "validation")
    return splits


def main() -> int:
    """Inspects a data set; see the module's docstring."""
    if not DATA.value:
        raise UsageError("--data is required")
    splits = find_splits()
    vocab_file = VOCAB_FILE.value or os.path.join(DATA.value, "vocab.txt")
    if not VOCAB_FILE.value and not tf.io.gfile.exists(vocab_file):
        raise UsageError(f"--vocab_file is required, as there is no {vocab_file}")
    vocabulary = Vocabulary.load(vocab_file)
    metadata = next(iter(splits.values())).metadata
    if metadata and metadata.vocab_sha256 != vocabulary.sha256:
        raise RecordsError(
            f"{vocab_file} ({len(vocabulary)} entries) is not the vocabulary that the data were "
            f"built with ({metadata.vocab_size} entries, sha256 {metadata.vocab_sha256[:16]}..)"
        )
    if metadata:
        casing = "lower-cased" if metadata.lower_case else "cased"
        accents = "without accents" if metadata.strip_accents else "with accents"
        print(
            f"{metadata.tool}; {casing}, {accents}; unigram entropy {metadata.unigram_entropy:.3f}"
        )
    problems = Problems()
    for split, records in splits.items():
        before = problems.count
        inspection = Inspection(records, vocabulary, problems)
        inspection.run()
        inspection.report(split)
        if metadata and problems.count == before:
            described = metadata.splits[split]
            for what, found, said in (
                ("examples", inspection.examples, described.examples),
                ("tokens", int(inspection.token_counts.sum()), described.tokens),
            ):
                if found != said:
                    problems.add(f"{split}: {found} {what}, {METADATA_FILE} says {said}")
    for problem in problems.first:
        print(f"WRONG {problem}")
    if problems.count > len(problems.first):
        print(f"WRONG and {problems.count - len(problems.first)} more")
    print(f"{problems.count} problems" if problems.count else "all records are good")
    return 1 if problems.count else 0


if __name__ == "__main__":
    run_main(main)
