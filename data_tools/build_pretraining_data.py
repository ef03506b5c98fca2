"""Turns raw text into TFRecords for pre-training.

    python -m data_tools.build_pretraining_data --input='corpus/*.txt' --vocab_file=vocab.txt \
        --output_dir=pretraining_data --max_seq_length=128 --validation_fraction=0.01 --workers=8

Input: UTF-8 text, plain or .gz, best one sentence a line, with a blank line between documents.
Output: shards of tf.train.Example records as the original ELECTRA's build_pretraining_dataset.py
writes them, a copy of the vocabulary, and metadata.json. The directory appears when it is complete.

The result depends on the text, the flags and the seed, not on --workers. The corpus is never in
memory: plain files are built in parts of some megabytes, gzip files as a whole each (so many
middle-sized files suit many workers), and the examples wait on disk beside the output until they are
dealt out to the shards. That takes as much disk again as the result.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import numpy as np
from absl import flags, logging

from data_tools import part_builder
from data_tools.output_directory import OutputDirectory
from data_tools.part_builder import CharacterCounts, Options, PartBuilder, PartResult, SplitCounts
from data_tools.shards import check_open_files, choose_num_shards, write_shards
from data_tools.text_files import Part, TextCounts, find_files, is_gzip, split_files
from data_tools.text_formats import check_files
from electra_keras import __version__
from electra_keras.console import (
    ProgressLine,
    UsageError,
    UserError,
    format_duration,
    run_main,
)
from electra_keras.data.records import SCHEMA_VERSION, Metadata, Split, write_metadata
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS
from electra_keras.text.vocabulary import Vocabulary

# isort: split
import tensorflow as tf

INPUT = flags.DEFINE_string("input", None, "text files: glob patterns, comma-separated; .gz too")
VOCAB_FILE = flags.DEFINE_string("vocab_file", None, "the WordPiece vocabulary")
OUTPUT_DIR = flags.DEFINE_string("output_dir", None, "the directory to make")
MAX_SEQ_LENGTH = flags.DEFINE_integer("max_seq_length", 128, "tokens in an example", 8, 65536)
LOWER_CASE = flags.DEFINE_bool("lower_case", True, "lower-case the text")
STRIP_ACCENTS = flags.DEFINE_bool(
    "strip_accents", None, "remove accents; by default if, and only if, --lower_case"
)
BLANK_LINES = flags.DEFINE_bool(
    "blank_lines_separate_documents", True, "if false, every file is one document"
)
DROP_OVERFLOW = flags.DEFINE_bool(
    "drop_overflow",
    False,
    "as the original: tokens that do not fit an example are lost (and not carried on to the next)",
)
SEED = flags.DEFINE_integer("seed", 0, "of segment lengths, the validation split and the order")
NUM_SHARDS = flags.DEFINE_integer("num_shards", 0, "files per split; 0 chooses", 0, 100_000)
WORKERS = flags.DEFINE_integer("workers", 1, "processes, each of one thread", 1, 1024)
VALIDATION_FRACTION = flags.DEFINE_float(
    "validation_fraction",
    0.0,
    "share of documents held out, whole, for validation; 1 makes a set for evaluation alone",
    0.0,
    1.0,
)
COMPRESSION = flags.DEFINE_enum("compression", "none", ["none", "gzip"], "of the TFRecord files")
STRICT = flags.DEFINE_bool("strict", False, "stop at the first line that is not UTF-8")
MAX_BAD_SHARE = flags.DEFINE_float(
    "max_bad_share", 0.05, "stop if lines that are not UTF-8 are more of the text than this", 0, 1
)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "replace the data set in --output_dir")

# Small enough to keep many workers busy with one file, large enough to not notice the seams.
_PART_BYTES = 4_000_000
_HIGH_UNKNOWN_SHARE = 0.05
_HIGH_PADDING_SHARE = 0.3

# The worker process's own; set by `_start_worker`.
_builder: PartBuilder | None = None


def _use_one_thread() -> None:
    """Keeps TensorFlow to one thread and away from accelerators; workers are the parallelism."""
    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:  # TensorFlow runs already: a test in one process
        pass


def _start_worker(options: Options, directory: str, stop: multiprocessing.Event) -> None:
    """Prepares a worker process: Ctrl-C, or a signal to all, reaches the parent, which sets `stop`."""
    global _builder
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    _use_one_thread()
    _builder = PartBuilder(options, directory, stop.is_set)


def _exit_with_parent() -> None:
    """Ends the worker when its parent was killed and cannot tell it to."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _build_in_worker(index: int, part: Part) -> PartResult:
    return _builder.build(index, part)


def build_parts(
    parts: list[Part], options: Options, directory: str, workers: int
) -> Iterator[PartResult]:
    """Builds all parts; yields their results in the order in which they are done."""
    if workers == 1:
        _use_one_thread()
        builder = PartBuilder(options, directory)
        for index, part in enumerate(parts):
            yield builder.build(index, part)
        return
    # spawn: a forked TensorFlow hangs.
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(workers, len(parts)), context, _start_worker, (options, directory, stop)
    )
    try:
        # No name for the futures: as_completed lets go of each, and its result, once it is used.
        for future in as_completed(
            [pool.submit(_build_in_worker, k, part) for k, part in enumerate(parts)]
        ):
            yield future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, perhaps for lack of memory: try fewer --workers"
        ) from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


class Corpus:
    """Sums over all parts."""

    def __init__(self, vocab_size: int) -> None:
        self.splits = {
            split: SplitCounts(np.zeros(vocab_size, np.int64)) for split in part_builder.SPLITS
        }
        self.text = TextCounts()
        self.text_tokens = 0
        self.characters = CharacterCounts()

    def add(self, part: PartResult) -> None:
        """Adds one part."""
        for split, counts in part.splits.items():
            self.splits[split].add(counts)
        self.text.add(part.text)
        self.text_tokens += part.text_tokens
        self.characters.add(part.characters)

    def check(self, validation_fraction: float) -> None:
        """Raises UserError where a split got nothing."""
        if not any(counts.examples for counts in self.splits.values()):
            raise UserError(f"no text in {INPUT.value}: the files are empty")
        documents = sum(counts.documents for counts in self.splits.values())
        wanted = {"train": validation_fraction < 1, "validation": validation_fraction > 0}
        for split, counts in self.splits.items():
            if not counts.examples and wanted[split]:
                raise UserError(
                    f"all {documents} documents fell to the other split, none to {split}: change "
                    "--validation_fraction or --seed, or split the text into more documents"
                )


def unigram_entropies(
    train: np.ndarray, validation: np.ndarray, ignored: list[int]
) -> tuple[float, float | None]:
    """Returns the train tokens' entropy and the validation tokens' cross-entropy, in nats.

    Without train tokens it is the validation tokens' own entropy, and None.

    Args:
        train, validation: token counts, int64 [vocab_size].
        ignored: ids of tokens that are never masked, and so never predicted.
    """
    kept = np.setdiff1d(np.arange(len(train)), ignored)
    if not train.any():
        train, validation = validation, train
    train, validation = train[kept].astype(float), validation[kept].astype(float)
    p = train[train > 0] / max(1.0, train.sum())
    entropy = float(-(p * np.log(p)).sum())
    if not validation.sum():
        return entropy, None
    # One is added to every count, as validation may hold tokens that train lacks.
    log_q = np.log((train + 1) / (train.sum() + len(train)))
    return entropy, float(-(validation * log_q).sum() / validation.sum())


def build(output: OutputDirectory, options: Options, files: list[str]) -> tuple[Metadata, Corpus]:
    """Builds the data set in `output.temporary`, all but publishing it."""
    directory = output.temporary
    vocabulary = Vocabulary.load(options.vocab_file)
    parts = split_files(files, _PART_BYTES, options.blank_lines_separate_documents)
    corpus = Corpus(len(vocabulary))
    source_bytes = sum(map(os.path.getsize, files))
    packed = any(map(is_gzip, files))
    progress = ProgressLine(len(parts), "parts")
    for done, result in enumerate(build_parts(parts, options, directory, WORKERS.value), start=1):
        corpus.add(result)
        # What is read later cannot change the verdict; but how much gzip files hold is not known.
        if not packed and corpus.text.bad_bytes > MAX_BAD_SHARE.value * source_bytes:
            corpus.text.check(MAX_BAD_SHARE.value)
        progress.update(done, f"{corpus.text.bytes / 1e6:,.0f} MB of text")
    progress.clear()
    corpus.text.check(MAX_BAD_SHARE.value)
    corpus.text.warn()
    corpus.check(options.validation_fraction)

    compression = "" if COMPRESSION.value == "none" else COMPRESSION.value.upper()
    splits = {}
    for split, counts in corpus.splits.items():
        if not counts.examples:
            continue
        num_shards = NUM_SHARDS.value or choose_num_shards(counts.examples, counts.bytes)
        if num_shards > counts.examples:
            logging.warning(
                "%s has only %d examples: %d shards, not %d",
                split,
                counts.examples,
                counts.examples,
                num_shards,
            )
            num_shards = counts.examples
        splits[split] = Split(
            shards=write_shards(
                directory, split, len(parts), num_shards, compression, options.seed
            ),
            documents=counts.documents,
            examples=counts.examples,
            tokens=int(counts.token_counts.sum()),
            unknown_tokens=int(counts.token_counts[vocabulary.unk_id]),
        )
    special = [vocabulary.pad_id, vocabulary.cls_id, vocabulary.sep_id, vocabulary.mask_id]
    entropy, cross_entropy = unigram_entropies(
        *(corpus.splits[split].token_counts for split in part_builder.SPLITS), special
    )
    metadata = Metadata(
        schema_version=SCHEMA_VERSION,
        tool=f"electra_keras build_pretraining_data {__version__}",
        max_seq_length=options.max_seq_length,
        vocab_size=len(vocabulary),
        vocab_sha256=vocabulary.sha256,
        lower_case=options.lower_case,
        strip_accents=options.lower_case and options.strip_accents is not False,
        compression=compression,
        seed=options.seed,
        drop_overflow=options.drop_overflow,
        blank_lines_separate_documents=options.blank_lines_separate_documents,
        validation_fraction=options.validation_fraction,
        source_files=len(files),
        source_bytes=source_bytes,
        splits=splits,
        unigram_entropy=entropy,
        validation_unigram_cross_entropy=cross_entropy,
    )
    vocabulary.save(os.path.join(directory, "vocab.txt"))
    write_metadata(directory, metadata)
    return metadata, corpus


def summarize(metadata: Metadata, corpus: Corpus, seconds: float) -> None:
    """Prints what was made, and warns of what looks wrong."""
    examples = tokens = unknown = 0
    for name, split in metadata.splits.items():
        size = sum(shard.bytes for shard in split.shards)
        print(
            f"{name}: {split.documents:,} documents, {split.examples:,} examples, "
            f"{split.tokens:,} tokens, {len(split.shards)} shards, {size / 1e6:,.1f} MB"
        )
        examples += split.examples
        tokens += split.tokens
        unknown += split.unknown_tokens
    padding = 1 - tokens / (examples * metadata.max_seq_length)
    # A word of any length is one [UNK].
    characters = corpus.characters
    unknown_share = characters.unknown / max(1, characters.words)
    print(
        f"padding {padding:.1%}, [UNK] {unknown / tokens:.2%} of the tokens and "
        f"{unknown_share:.2%} of the characters, unigram entropy {metadata.unigram_entropy:.3f} nats"
    )
    if metadata.drop_overflow:
        # [CLS] and one or two [SEP] are in the examples and not in the text; tell them apart by
        # counting all but the special tokens.
        kept = sum(int(counts.token_counts.sum()) for counts in corpus.splits.values())
        vocabulary = Vocabulary.load(VOCAB_FILE.value)
        added = sum(
            int(counts.token_counts[[vocabulary.cls_id, vocabulary.sep_id]].sum())
            for counts in corpus.splits.values()
        )
        lost = corpus.text_tokens - (kept - added)
        print(f"--drop_overflow lost {lost:,} tokens ({lost / corpus.text_tokens:.1%} of the text)")
    print(
        f"read {corpus.text.bytes / 1e6:,.1f} MB of text in {format_duration(seconds)} "
        f"({corpus.text.bytes / 1e6 / seconds:.1f} MB/s)"
    )
    if unknown_share > _HIGH_UNKNOWN_SHARE:
        logging.warning(
            "%.1f %% of the characters are in words that become [UNK]: %s",
            100 * unknown_share,
            f"most are in words of more than {MAX_WORD_CHARACTERS} characters. If the text is "
            "written without spaces, insert some between its words first"
            if characters.too_long > characters.unknown / 2
            else "is the vocabulary made for this text, and does --lower_case fit it?",
        )
    if padding > _HIGH_PADDING_SHARE:
        logging.warning(
            "%.0f %% of all positions are padding: documents are short%s",
            100 * padding,
            "; if blank lines separate paragraphs, use --noblank_lines_separate_documents"
            if metadata.blank_lines_separate_documents
            else "",
        )


def main() -> int:
    """Builds a data set; see the module's docstring."""
    for flag in (INPUT, VOCAB_FILE, OUTPUT_DIR):
        if not flag.value:
            raise UsageError(f"--{flag.name} is required")
    if STRIP_ACCENTS.value and not LOWER_CASE.value:
        raise UsageError("--strip_accents works only with --lower_case, as in the original")
    started = time.monotonic()
    files = find_files(INPUT.value)
    options = Options(
        vocab_file=VOCAB_FILE.value,
        max_seq_length=MAX_SEQ_LENGTH.value,
        lower_case=LOWER_CASE.value,
        strip_accents=STRIP_ACCENTS.value,
        blank_lines_separate_documents=BLANK_LINES.value,
        drop_overflow=DROP_OVERFLOW.value,
        validation_fraction=VALIDATION_FRACTION.value,
        seed=SEED.value,
        strict=STRICT.value,
    )
    Vocabulary.load(options.vocab_file)  # an error in it should come before anything is made
    check_files(files, 1.0 if options.strict else MAX_BAD_SHARE.value)
    check_open_files(WORKERS.value)
    try:
        with OutputDirectory(OUTPUT_DIR.value, OVERWRITE.value) as output:
            metadata, corpus = build(output, options, files)
            output.publish()
    except OSError as error:
        raise UserError(f"cannot write {OUTPUT_DIR.value}: {error.strerror or error}") from error
    except tf.errors.OpError as error:
        raise UserError(f"cannot write {OUTPUT_DIR.value}: {error.message}") from error
    summarize(metadata, corpus, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    run_main(main)
