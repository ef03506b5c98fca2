"""Makes a WordPiece vocabulary from raw text.

    python -m data_tools.build_vocab --input='corpus/*.txt' --output=vocab.txt --vocab_size=8192

The text is split into words by the library's own tokenizer, so that no entry is one that the
tokenizer cannot produce; then Hugging Face `tokenizers` learns the pieces (BPE merges over word
counts, as in its BertWordPieceTokenizer). Two runs over the same text give the same bytes. Order:
[PAD] [UNK] [CLS] [SEP] [MASK], [unused0].. if asked for, characters, then pieces from the most to
the least useful.
"""

import sys

from absl import flags, logging

from data_tools.text_files import find_files
from data_tools.text_formats import check_files
from data_tools.word_counts import WordCounter
from data_tools.word_pieces import learn_vocabulary
from electra_keras.console import UsageError, UserError, run_main
from electra_keras.files import check_writable, is_stdout
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS, Tokenizer
from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

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
STRICT = flags.DEFINE_bool("strict", False, "stop at the first line that is not UTF-8")
MAX_BAD_SHARE = flags.DEFINE_float(
    "max_bad_share", 0.05, "stop if lines that are not UTF-8 are more of the text than this", 0, 1
)

_HIGH_LONG_SHARE = 0.01
_HIGH_MARK_SHARE = 0.01


def warn_of_lost_text(counter: WordCounter, strip_accents: bool) -> None:
    """Warns of text that the tokenizer makes nothing of."""
    if counter.long_share > _HIGH_LONG_SHARE:
        logging.warning(
            "%.0f %% of the characters stand in words of more than %d characters, which become "
            "[UNK]: if the text is written without spaces, insert some between its words first",
            100 * counter.long_share,
            MAX_WORD_CHARACTERS,
        )
    share, script = counter.foreign_marks()
    if strip_accents and share > _HIGH_MARK_SHARE:
        logging.warning(
            "%.0f %% of the characters are marks, such as vowel signs, which are removed as "
            "accents are; most are %s. --nostrip_accents keeps them, here and in all later commands",
            100 * share,
            script,
        )


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
    check_files(files, 1.0 if STRICT.value else MAX_BAD_SHARE.value)
    # Only its basic_tokenize is used, which needs no pieces.
    tokenizer = Tokenizer(Vocabulary(SPECIAL_TOKENS), LOWER_CASE.value, strip_accents)
    counter = WordCounter()
    counter.count_files(files, tokenizer, STRICT.value)
    counter.text.check(MAX_BAD_SHARE.value)
    counter.text.warn()
    if not counter.total:
        raise UserError(f"no words in {INPUT.value}: the text is empty")
    logging.info("%d words, %d different", counter.total, len(counter.words))
    warn_of_lost_text(counter, tokenizer.strip_accents)
    vocabulary = learn_vocabulary(
        counter.words,
        VOCAB_SIZE.value,
        NUM_UNUSED_TOKENS.value,
        MIN_FREQUENCY.value,
        LIMIT_ALPHABET.value,
        counter.long_letters,
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
        f"{OUTPUT.value}: {len(vocabulary)} entries from {counter.total:,} words "
        f"({len(counter.words):,} different), sha256 {vocabulary.sha256[:16]}",
        file=sys.stderr if is_stdout(OUTPUT.value) else sys.stdout,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
