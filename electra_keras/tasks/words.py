"""Words of texts, and which tokens they begin with; TensorFlow operations.

Tagged data comes in words. A raw text is split where such data mostly is: at white space, between
punctuation marks at the edges of what stands between white space and the rest of it ("(Paris)," is four
words, "U.S" and "mother-in-law" are one), and around CJK characters.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from electra_keras.tasks.answers import gather_tokens
from electra_keras.tasks.schemes import written_forms
from electra_keras.tasks.windows import Windows, sliding_windows
from electra_keras.text.offsets import CodePointTable, row_ids
from electra_keras.text.tokenizer import Tokenizer, is_cjk, is_punctuation

_PUNCTUATION, _CJK = 1, 2


class WordWindows(NamedTuple):
    """Windows [CLS] part of a text [SEP].

    Attributes:
        windows: what the encoder reads.
        is_word: bool [windows, max_seq_length]; true once for every word, at its first token in the
            window that shows most around it. Row by row, these are the words in order.
        starts, ends: int32 [windows, max_seq_length], there the span of the word in its text, in code
            points; elsewhere of no meaning.
        count: int32 [n], words of each text.
    """

    windows: Windows
    is_word: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    count: tf.Tensor


class ChosenLabels(NamedTuple):
    """Labels of the words of all texts, in order: int32 [words], float32 [words]."""

    labels: tf.Tensor
    probabilities: tf.Tensor


def windows_of_words(
    tokenizer: Tokenizer, words: tf.RaggedTensor, max_seq_length: int, stride: int
) -> WordWindows:
    """Makes windows of sentences.

    Args:
        tokenizer: the model's.
        words: strings [n, (words)], UTF-8; one of which nothing stays is read as [UNK].
        max_seq_length, stride: in tokens.
    """
    pieces = tf.cast(tokenizer.tokenize(words.flat_values), tf.int32)
    unknown = tf.fill([pieces.nrows(), 1], tf.constant(tokenizer.vocabulary.unk_id))
    missing = tf.cast(pieces.row_lengths() == 0, tf.int64)
    unknown = tf.RaggedTensor.from_row_lengths(
        tf.boolean_mask(unknown[:, 0], missing > 0), missing, validate=False
    )
    pieces = tf.concat([pieces, unknown], axis=1)
    # Spans in the words joined by spaces.
    length = tf.strings.length(words.flat_values, unit="UTF8_CHAR")
    behind = tf.cumsum(length + 1)
    before_row = tf.gather(tf.concat([[0], behind], axis=0), words.row_starts())
    starts = behind - length - 1 - tf.repeat(before_row, words.row_lengths())
    counts = pieces.row_lengths()
    tokens = tf.RaggedTensor.from_row_splits(
        pieces.flat_values, tf.gather(pieces.row_splits, words.row_splits), validate=False
    )
    begins = tf.ragged.range(counts).flat_values == 0
    return _windows(
        tokenizer,
        tokens,
        begins,
        tf.repeat(starts, counts),
        tf.repeat(starts + length, counts),
        max_seq_length,
        stride,
    )


def windows_of_texts(
    tokenizer: Tokenizer, texts: tf.Tensor, max_seq_length: int, stride: int
) -> WordWindows:
    """Makes windows of raw texts, strings [n], UTF-8; see `windows_of_words`."""
    tokens, starts, ends = tokenizer.tokenize_with_offsets(texts)
    begins = _begins(tokenizer, texts, tokens, starts.flat_values, ends.flat_values)
    # The end of a word is that of its last token.
    word = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    last = tf.math.segment_max(ends.flat_values, word)
    return _windows(
        tokenizer,
        tokens,
        begins,
        starts.flat_values,
        tf.gather(last, word),
        max_seq_length,
        stride,
    )


def choose(outputs: tf.Tensor, is_word: tf.Tensor) -> ChosenLabels:
    """Returns the likeliest label of every word, and its probability.

    Args:
        outputs: float32 [windows, length, labels].
        is_word: bool [windows, length].
    """
    probabilities = tf.nn.softmax(tf.boolean_mask(outputs, is_word))
    labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    return ChosenLabels(labels, tf.reduce_max(probabilities, axis=-1))


def written_tags(
    labels: tf.Tensor, counts: tf.Tensor, tags: Sequence[str], scheme: str
) -> tf.Tensor:
    """Returns the words' tags in another scheme, strings [words], as `schemes.write_tags` does.

    Args:
        labels: int32 [words], of all texts in order.
        counts: int32 [n], words of each text.
        tags: in the order of the labels' ids, in any scheme of metrics/tagging.py.
        scheme: one of `schemes.WRITTEN`.
    """
    kinds = sorted({tag[1:] for tag in tags if tag != "O"})
    kind = tf.gather([-1 if tag == "O" else kinds.index(tag[1:]) for tag in tags], labels)
    continues = tf.gather([tag[0] in "IE" for tag in tags], labels)
    is_open = tf.gather([tag[0] in "BI" for tag in tags], labels)

    def shifted(values: tf.Tensor, by: int) -> tf.Tensor:
        return tf.roll(values, by, axis=0)

    position = tf.ragged.range(counts)
    leads = position.flat_values == 0
    ends_text = shifted(leads, -1)
    follows_kind = ~leads & (shifted(kind, 1) == kind)
    starts = ~(continues & follows_kind & shifted(is_open, 1))
    ends = ends_text | shifted(starts, -1)
    place = sum(
        size * tf.cast(flag, tf.int32) for size, flag in ((4, starts), (2, ends), (1, follows_kind))
    )
    forms = [letter + kind for kind in ("", *kinds) for letter in written_forms(scheme)]
    forms[:8] = ["O"] * 8
    return tf.gather(forms, 8 * (kind + 1) + place)


def _windows(
    tokenizer: Tokenizer,
    tokens: tf.RaggedTensor,
    begins: tf.Tensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
    max_seq_length: int,
    stride: int,
) -> WordWindows:
    """Makes windows of tokens [n, (tokens)], given for each whether it begins a word, and its span."""
    vocabulary = tokenizer.vocabulary
    before = tf.fill([tokens.nrows(), 1], tf.constant(vocabulary.cls_id))
    windows = sliding_windows(
        tf.RaggedTensor.from_tensor(before), tokens, max_seq_length, stride, vocabulary.sep_id
    )
    first = gather_tokens(tf.cast(begins, tf.int32), windows.tokens) > 0
    is_word = first & windows.is_best
    words = tf.reduce_sum(tf.cast(is_word, tf.int32), axis=1)
    count = tf.math.unsorted_segment_sum(words, windows.text, tf.cast(tokens.nrows(), tf.int32))
    return WordWindows(
        windows,
        is_word,
        gather_tokens(starts, windows.tokens),
        gather_tokens(ends, windows.tokens),
        count,
    )


def _begins(
    tokenizer: Tokenizer,
    texts: tf.Tensor,
    tokens: tf.RaggedTensor,
    starts: tf.Tensor,
    ends: tf.Tensor,
) -> tf.Tensor:
    """Returns which tokens begin words of raw texts, bool [tokens]."""
    codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    text_start = tf.gather(codes.row_starts(), row_ids(tokens.row_splits))
    kind = _character_kinds().lookup(
        tf.gather(codes.flat_values, tf.cast(text_start, tf.int32) + starts)
    )
    continues = tf.gather(
        [token.startswith("##") and len(token) > 2 for token in tokenizer.vocabulary.tokens],
        tokens.flat_values,
    )
    index, size = tf.range(tf.size(starts)), tf.size(starts)
    # The first token of what stands between white space.
    gap = starts > tf.concat([[0], ends], axis=0)[:-1]
    gap |= tf.ragged.range(tokens.row_lengths()).flat_values == 0
    gap &= ~continues  # inside a word, something vanished
    group = tf.cumsum(tf.cast(gap, tf.int32)) - 1
    is_mark = kind == _PUNCTUATION
    first = tf.math.segment_min(tf.where(is_mark, size, index), group)
    last = tf.math.segment_max(tf.where(is_mark, -1, index), group)
    begins = (index <= tf.gather(first, group)) | (index > tf.gather(last, group))
    alone = kind == _CJK
    begins |= alone | tf.concat([[False], alone], axis=0)[:-1]
    return gap | (begins & ~continues)


@functools.cache
def _character_kinds() -> CodePointTable:
    kinds = np.zeros(0x110000, np.int8)
    for code in range(0x110000):
        char = chr(code)
        if is_cjk(char):
            kinds[code] = _CJK
        elif is_punctuation(char):
            kinds[code] = _PUNCTUATION
    return CodePointTable(kinds)
