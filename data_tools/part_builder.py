"""Turns one part of the corpus into serialized examples; runs in every worker process."""

import dataclasses
import hashlib
import os
import random
from collections.abc import Callable

import numpy as np

from data_tools.example_builder import ExampleBuilder, Segments
from data_tools.text_files import Part, TextCounts, is_blank, read_batches
from electra_keras.data.examples import serialize_examples
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS, Tokenizer
from electra_keras.text.vocabulary import Vocabulary

# isort: split
import itertools

import tensorflow as tf

SPLITS = ("train", "validation")
_EXAMPLES_PER_WRITE = 1024


@dataclasses.dataclass(frozen=True)
class Options:
    """What decides how text becomes examples; see the flags of build_pretraining_data."""

    vocab_file: str
    max_seq_length: int
    lower_case: bool
    strip_accents: bool | None
    blank_lines_separate_documents: bool
    drop_overflow: bool
    validation_fraction: float
    seed: int
    strict: bool


@dataclasses.dataclass
class SplitCounts:
    """What a part, or the whole corpus, gave to one split.

    Attributes:
        token_counts: how often each token id occurs, padding not counted, int64 [vocab_size].
        bytes: of the serialized examples.
    """

    token_counts: np.ndarray
    documents: int = 0
    examples: int = 0
    bytes: int = 0

    def add(self, other: "SplitCounts") -> None:
        """Adds the counts of another part."""
        self.token_counts += other.token_counts
        self.documents += other.documents
        self.examples += other.examples
        self.bytes += other.bytes


@dataclasses.dataclass
class CharacterCounts:
    """How many characters words have: all, those that become [UNK], and of these the too long."""

    words: int = 0
    unknown: int = 0
    too_long: int = 0

    def add(self, other: "CharacterCounts") -> None:
        """Adds the counts of another part."""
        self.words += other.words
        self.unknown += other.unknown
        self.too_long += other.too_long


@dataclasses.dataclass(frozen=True)
class PartResult:
    """What one part gave.

    Attributes:
        index: the part's number.
        splits: by name.
        text: what was read.
        text_tokens: tokens of the text, before anything was packed or dropped.
        characters: of the text, white space not counted.
    """

    index: int
    splits: dict[str, SplitCounts]
    text: TextCounts
    text_tokens: int
    characters: CharacterCounts


class Stopped(Exception):
    """The run was interrupted."""


def spool_paths(directory: str, index: int, split: str) -> tuple[str, str]:
    """Returns where a part's examples wait to be merged into shards: the bytes and the lengths."""
    stem = os.path.join(directory, f"part-{index:06d}-{split}")
    return f"{stem}.examples", f"{stem}.lengths"


class PartBuilder:
    """Builds the examples of parts of the corpus, one after the other.

    Args:
        options: how.
        directory: where the examples are put.
        stopped: tells whether the run was interrupted.
    """

    def __init__(
        self, options: Options, directory: str, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        self.options = options
        self.directory = directory
        self.stopped = stopped
        self.vocabulary = Vocabulary.load(options.vocab_file)
        self.tokenizer = Tokenizer(self.vocabulary, options.lower_case, options.strip_accents)
        self._tokenize = tf.function(
            self._tokenize_and_count, input_signature=[tf.TensorSpec([None], tf.string)]
        )
        lengths = [len(token.removeprefix("##")) for token in self.vocabulary.tokens]
        self._lengths = np.array(lengths)
        self._lengths[self.vocabulary.unk_id] = 0

    def build(self, index: int, part: Part) -> PartResult:
        """Builds the examples of one part and writes them to its `spool_paths`.

        The result is a function of the part and the options, not of what was built before.

        Raises:
            TextError: the part cannot be read; with `strict`, a line is not UTF-8.
            OSError: the examples cannot be written.
            Stopped: the run was interrupted.
        """
        return _PartBuild(self, index, part).run()

    def _tokenize_and_count(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Returns token ids, and the characters of every word that became [UNK]."""
        words = self.tokenizer.basic_tokenize(texts, valid_utf8=True)
        pieces = self.tokenizer.tokenize_words(words)
        # An unknown word is one piece.
        first = tf.gather(pieces.flat_values, pieces.values.row_splits[:-1])
        lost = tf.boolean_mask(words.flat_values, first == self.vocabulary.unk_id)
        return pieces.merge_dims(-2, -1), tf.strings.length(lost, unit="UTF8_CHAR")

    def tokenize(self, lines: list[bytes]) -> tuple[list[list[int]], CharacterCounts]:
        """Returns the token ids of every line, and what became [UNK]; all lines must be UTF-8."""
        ragged, lost = self._tokenize(tf.constant(lines, tf.string))
        ids, lost = ragged.flat_values.numpy(), lost.numpy()
        unknown = int(lost.sum())
        counts = CharacterCounts(
            words=int(self._lengths[ids].sum()) + unknown,
            unknown=unknown,
            too_long=int(lost[lost > MAX_WORD_CHARACTERS].sum()),
        )
        ids, bounds = ids.tolist(), ragged.row_splits.numpy().tolist()
        return [ids[start:end] for start, end in itertools.pairwise(bounds)], counts

    def pack(self, examples: list[Segments]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns input_ids, input_mask, segment_ids [n, max_seq_length] of examples.

        [CLS] first [SEP], or [CLS] first [SEP] second [SEP], then padding.
        """
        cls, sep = self.vocabulary.cls_id, self.vocabulary.sep_id
        flat: list[int] = []
        first_lengths, lengths = [], []
        for first, second in examples:
            flat += (cls, *first, sep)
            length = len(first) + 2
            first_lengths.append(length)
            if second:
                flat += second
                flat.append(sep)
                length += len(second) + 1
            lengths.append(length)
        positions = np.arange(self.options.max_seq_length)
        mask = positions < np.asarray(lengths)[:, None]
        input_ids = np.full(mask.shape, self.vocabulary.pad_id, np.int32)
        input_ids[mask] = flat
        return input_ids, mask, mask & (positions >= np.asarray(first_lengths)[:, None])


class _PartBuild:
    """The state while one part is built."""

    def __init__(self, builder: PartBuilder, index: int, part: Part) -> None:
        self.builder, self.index, self.part = builder, index, part
        options = builder.options
        # By name and offset, so that new files in the corpus leave the examples of others alone.
        self.key = f"{options.seed}:{part.name}:{part.start}"
        rng = random.Random(int.from_bytes(_digest(self.key), "little"))
        self.packer = ExampleBuilder(options.max_seq_length, rng, options.drop_overflow)
        size = len(builder.vocabulary)
        self.counts = {split: SplitCounts(np.zeros(size, np.int64)) for split in SPLITS}
        self.pending: dict[str, list[Segments]] = {split: [] for split in SPLITS}
        self.document = 0
        self.in_document = False
        self.split = self._split_of_document()
        self.text = TextCounts()
        self.text_tokens = 0
        self.characters = CharacterCounts()

    def run(self) -> PartResult:
        for lines in read_batches(self.part, self.text, self.builder.options.strict):
            self._add_batch(lines)
        self._end_document()
        for split in SPLITS:
            self._write(split)
        return PartResult(
            index=self.index,
            splits=self.counts,
            text=self.text,
            text_tokens=self.text_tokens,
            characters=self.characters,
        )

    def _add_batch(self, lines: list[bytes]) -> None:
        if self.builder.stopped():
            raise Stopped
        blank = [is_blank(line) for line in lines]
        texts = [line for line, nothing in zip(lines, blank, strict=True) if not nothing]
        ids, characters = self.builder.tokenize(texts) if texts else ([], CharacterCounts())
        self.characters.add(characters)
        ids = iter(ids)
        for nothing in blank:
            if not nothing:
                tokens = next(ids)
                self.in_document = True
                self.text_tokens += len(tokens)
                self.pending[self.split] += self.packer.add_line(tokens)
            elif self.builder.options.blank_lines_separate_documents:
                self._end_document()
        for split in SPLITS:
            if len(self.pending[split]) >= _EXAMPLES_PER_WRITE:
                self._write(split)

    def _end_document(self) -> None:
        if not self.in_document:
            return
        self.pending[self.split] += self.packer.end_document()
        self.counts[self.split].documents += 1
        self.document += 1
        self.in_document = False
        self.split = self._split_of_document()

    def _split_of_document(self) -> str:
        share = int.from_bytes(_digest(f"{self.key}:{self.document}"), "little") / 2**64
        return "validation" if share < self.builder.options.validation_fraction else "train"

    def _write(self, split: str) -> None:
        examples = self.pending[split]
        if not examples:
            return
        self.pending[split] = []
        input_ids, mask, segment_ids = self.builder.pack(examples)
        records = serialize_examples(input_ids, mask, segment_ids)
        data_path, lengths_path = spool_paths(self.builder.directory, self.index, split)
        data = b"".join(records)
        with open(data_path, "ab") as file:
            file.write(data)
        with open(lengths_path, "ab") as file:
            file.write(np.fromiter(map(len, records), np.uint32).tobytes())
        counts = self.counts[split]
        counts.examples += len(records)
        counts.bytes += len(data)
        counts.token_counts += np.bincount(input_ids[mask], minlength=len(counts.token_counts))


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
