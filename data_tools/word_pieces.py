"""Learns WordPieces from word counts."""

import os
import types
from collections import Counter
from collections.abc import Iterator, Mapping

# The trainer sums in threads; one thread leaves no room for the order of sums to matter.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from absl import logging

from electra_keras.console import UsageError
from electra_keras.text.tokenizer import MAX_WORD_CHARACTERS, is_cjk, is_punctuation
from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary

# A piece's longest length, without "##". Where words are not separated, whole sentences that recur
# would become entries; and the tokenizer takes 256 bytes.
_MAX_PIECE_CHARACTERS = 32
# The trainer counts pairs of pieces in int32.
_MAX_CHARACTERS = 1 << 30
# Words handed to the trainer in one string.
_REPEATS = 4096


def learn_vocabulary(
    counts: Counter[str],
    vocab_size: int,
    num_unused_tokens: int = 0,
    min_frequency: int = 2,
    limit_alphabet: int = 1000,
    other_letters: Mapping[str, int] = types.MappingProxyType({}),
) -> Vocabulary:
    """Learns WordPieces from word counts.

    Args:
        counts: how often each word occurs.
        vocab_size: entries to make; there are fewer if the words give no more.
        num_unused_tokens: how many [unused] entries follow the special tokens.
        min_frequency: how often a pair must occur to be merged into a piece.
        limit_alphabet: how many characters get entries. Words with others are left out, as the
            tokenizer makes [UNK] of them.
        other_letters: how often characters occur beside, in words that are too long to learn from.

    Raises:
        UsageError: `vocab_size` has no room for the characters.
    """
    letters: Counter[str] = Counter(other_letters)
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
    usable = usable_words(counts, set(alphabet))
    divisor = count_divisor(usable, counts)
    if divisor > 1:
        logging.info("counts are divided by %d to fit the trainer's int32", divisor)
    # It is what the WordPiece trainer is inside, which cannot limit the length.
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=-(-min_frequency // divisor),
        special_tokens=initial,
        continuing_subword_prefix="##",
        max_token_length=_MAX_PIECE_CHARACTERS + 1,  # a merge must stay below it
        show_progress=False,
    )
    model = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    model.train_from_iterator(_repeated(usable, counts, divisor), trainer)
    ids = model.get_vocab()
    return Vocabulary(tuple(sorted(ids, key=ids.__getitem__)))


def usable_words(counts: Counter[str], alphabet: set[str]) -> list[str]:
    """Returns, sorted, the words of counts that the tokenizer does not make [UNK] of."""
    return sorted(
        word for word in counts if len(word) <= MAX_WORD_CHARACTERS and alphabet.issuperset(word)
    )


def count_divisor(words: list[str], counts: Counter[str]) -> int:
    """Returns by what to divide the counts of words, so that no pair of pieces has too many."""
    return max(1, -(-sum(len(word) * counts[word] for word in words) // _MAX_CHARACTERS))


def _repeated(words: list[str], counts: Counter[str], divisor: int) -> Iterator[str]:
    """Yields text with every word as often as it occurs; the trainer takes no counts."""
    seen = 0
    for word in words:
        # What a division leaves over goes to the next word, which begins alike: beginnings that
        # many rare words share keep their weight.
        before, seen = seen, seen + counts[word]
        full, left = divmod(seen // divisor - before // divisor, _REPEATS)
        for repeats in [_REPEATS] * full + [left]:
            yield f"{word} " * repeats
