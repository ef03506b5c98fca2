"""Makes a WordPiece vocabulary from raw text.

    python -m data_tools.build_vocab --input='corpus/*.txt' --output=vocab.txt --vocab_size=8192

The text is split into words by the library's own tokenizer, so that no entry is one that the
tokenizer cannot produce; then Hugging Face `tokenizers` learns the pieces (BPE merges over word
counts, as in its BertWordPieceTokenizer). Two runs over the same text give the same bytes. Order:
[PAD] [UNK] [CLS] [SEP] [MASK], [unused0].. if asked for, characters, then pieces from the most to
the least useful.
"""

import os
import sys
from collections import Counter
from collections.abc import Iterator

# The trainer sums in threads; one thread leaves no room for the order of sums to matter.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from absl import flags, logging

from data_tools.text_files import Part, find_files, read_lines
from electra_keras.console import ProgressLine, UsageError, UserError, run_main
from electra_keras.files import check_writable, is_stdout
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS, Tokenizer, is_cjk, is_punctuation
from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

# isort: split
import tensorflow as tf

INPUT = flags.DEFINE_string("input", None, "text files: glob patterns, comma-separated; .gz too")
OUTPUT = flags.DEFINE_string("output", None, "the vocabulary file to write")
VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 30522, "entries, special tokens included")
LOWER_CASE = flags.DEFINE_bool("lower_case", True, "lower-case the text")
STRIP_ACCENTS = flags.DEFINE_bool(
    "strip_accents", None, "remove accents; by default if, and only if, --lower_case"
)
NUM_UNUSED_TOKENS = flags.DEFINE_integer(
    "num_unused_tokens", 0, "entries [unused0].. to keep free for tokens of your own"
)
MIN_FREQUENCY = flags.DEFINE_integer("min_frequency", 2, "how often a piece must occur")
LIMIT_ALPHABET = flags.DEFINE_integer(
    "limit_alphabet", 1000, "how many characters, the most frequent, get an entry"
)

_BATCH_BYTES = 1 << 20
# Words handed to the trainer in one string.
_REPEATS = 4096


def count_words(files: list[str], tokenizer: Tokenizer) -> Counter[str]:
    """Counts the words of all files, as the tokenizer splits them."""
    graph = tf.function(
        tokenizer.basic_tokenize, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    counts: Counter[bytes] = Counter()
    progress = ProgressLine(sum(map(os.path.getsize, files)) / 1e6, "MB")
    done = 0.0
    for path in files:
        batch, size = [], 0
        for line in read_lines(Part(path)):
            batch.append(line)
            size += len(line)
            if size > _BATCH_BYTES:
                counts.update(graph(batch).flat_values.numpy().tolist())
                batch, size = [], 0
                progress.update(done, path)
        if batch:
            counts.update(graph(batch).flat_values.numpy().tolist())
        done += os.path.getsize(path) / 1e6
        progress.update(done, path)
    progress.clear()
    return Counter({word.decode(): count for word, count in counts.items()})


def learn_vocabulary(
    counts: Counter[str],
    vocab_size: int,
    num_unused_tokens: int = 0,
    min_frequency: int = 2,
    limit_alphabet: int = 1000,
) -> Vocabulary:
    """Learns WordPieces from word counts.

    Args:
        counts: how often each word occurs.
        vocab_size: entries to make; there are fewer if the words give no more.
        num_unused_tokens: how many [unused] entries follow the special tokens.
        min_frequency: how often a pair must occur to be merged into a piece.
        limit_alphabet: how many characters get entries. Words with others are left out, as the
            tokenizer makes [UNK] of them.

    Raises:
        UsageError: `vocab_size` has no room for the characters.
    """
    letters: Counter[str] = Counter()
    for word, count in counts.items():
        for char in word:
            letters[char] += count
    # By code point where counts are equal, so that the cut is the same in every run.
    alphabet = sorted(letters, key=lambda char: (-letters[char], char))[:limit_alphabet]
    # Punctuation and CJK characters are words of their own and continue none.
    continuing = [f"##{c}" for c in alphabet if not (is_punctuation(c) or is_cjk(c))]
    unused = [f"[unused{k}]" for k in range(num_unused_tokens)]
    # What is given here gets its id in this order. Left to the trainer, continuing letters would
    # be numbered in the order of a hash table, and ties between merges differ from run to run.
    initial = [*SPECIAL_TOKENS, *unused, *sorted(alphabet), *sorted(continuing)]
    if len(initial) > vocab_size:
        raise UsageError(
            f"--vocab_size={vocab_size} is too small: special tokens and single characters alone "
            f"make {len(initial)}; raise it or lower --limit_alphabet={limit_alphabet}"
        )
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=initial,
        continuing_subword_prefix="##",
        show_progress=False,
    )
    model = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.train_from_iterator(_repeated(counts, set(alphabet)), trainer)
    ids = model.get_vocab()
    return Vocabulary(tuple(sorted(ids, key=ids.__getitem__)))


def _repeated(counts: Counter[str], alphabet: set[str]) -> Iterator[str]:
    """Yields text with every usable word as often as it occurs; the trainer takes no counts."""
    for word in sorted(counts):
        if len(word) > MAX_WORD_CHARACTERS or not alphabet.issuperset(word):
            continue
        full, left = divmod(counts[word], _REPEATS)
        for repeats in [_REPEATS] * full + [left]:
            yield f"{word} " * repeats


def main() -> int:
    """Reads the text, learns the vocabulary, writes it; see the module's docstring."""
    for flag in (INPUT, OUTPUT):
        if not flag.value:
            raise UsageError(f"--{flag.name} is required")
    strip_accents = STRIP_ACCENTS.value
    if strip_accents and not LOWER_CASE.value:
        raise UsageError("--strip_accents works only with --lower_case, as in the original")
    check_writable(OUTPUT.value)
    files = find_files(INPUT.value)
    # Only its basic_tokenize is used, which needs no pieces.
    tokenizer = Tokenizer(Vocabulary(SPECIAL_TOKENS), LOWER_CASE.value, strip_accents)
    counts = count_words(files, tokenizer)
    if not counts:
        raise UserError(f"no words in {INPUT.value}: the text is empty")
    logging.info("%d words, %d different", counts.total(), len(counts))
    vocabulary = learn_vocabulary(
        counts,
        VOCAB_SIZE.value,
        NUM_UNUSED_TOKENS.value,
        MIN_FREQUENCY.value,
        LIMIT_ALPHABET.value,
    )
    vocabulary.save(OUTPUT.value)
    if len(vocabulary) < VOCAB_SIZE.value:
        logging.warning(
            "only %d of %d entries could be made: no more pieces occur %d times. Train with "
            "--vocab_size=%d, or give more text",
            len(vocabulary),
            VOCAB_SIZE.value,
            MIN_FREQUENCY.value,
            len(vocabulary),
        )
    print(
        f"{OUTPUT.value}: {len(vocabulary)} entries from {counts.total():,} words "
        f"({len(counts):,} different), sha256 {vocabulary.sha256[:16]}",
        file=sys.stderr if is_stdout(OUTPUT.value) else sys.stdout,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
