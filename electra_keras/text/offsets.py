"""Which characters of a text its tokens come from: the part of the tokenizer that finds offsets.

A token's span is text[start:end], counted in Unicode code points of the text as it was given,
before anything is lower-cased, stripped, removed or spaced. Bytes that are not UTF-8 count as the
U+FFFD that `bytes.decode("utf-8", "replace")` puts in their place. The rules:

- A span reaches from the first to the last source character that a character of the token comes
  from. What is dropped between these two (controls, U+FFFD) lies inside; what is dropped before,
  after or between tokens belongs to none.
- A stripped accent belongs to the last character before it that was not dropped, and lengthens its
  span, as "é" has one span whether it is written as one code point or as two. After white space or
  at the start of the text it belongs to nothing.
- Tokens that share a source character ("한" is three characters after NFD, "İ" two in lower case)
  all have it in their spans. Otherwise spans do not overlap, and they never go back.
- [UNK] has the span of its word.

Why counting is enough: the characters of all words together are those that every source character
gives when it is tokenized alone, in order. Two things depend on neighbours. The final sigma is one
character for one. NFD sorts the marks after a letter; some few stay (U+302E, U+1D165), and the
first of the sorted ones is held for that of the first source character.
"""

from collections.abc import Callable

import numpy as np

import electra_keras.console  # noqa: F401  (sets TensorFlow's log level before it is imported)

# isort: split
import tensorflow as tf

# What a source character does, if it does not give characters to words (then it is their number).
_DROPPED, _SPACE, _ACCENT = 0, -1, -2
_PAGE = 256


def row_ids(splits: tf.Tensor) -> tf.Tensor:
    """Returns the row of every value of a ragged tensor.

    As `value_rowids` and `tf.repeat`, which take memory for rows x the longest row: with one long text
    among short ones, or one long word in a long text, that is more than there is.

    Args:
        splits: where rows begin and end, of any integer type, [rows + 1].

    Returns:
        int32 [values].
    """
    begun = tf.math.unsorted_segment_sum(
        tf.ones_like(splits[1:], tf.int32), splits[1:], splits[-1] + 1
    )
    return tf.cumsum(begun)[:-1]


class CodePointTable:
    """A small number for every code point, in the graph.

    Args:
        values: int8 [0x110000].
    """

    def __init__(self, values: np.ndarray) -> None:
        # Most pages of the code space are alike: the graph holds 50 kB of them instead of 1.1 MB.
        pages, page_of = np.unique(values.reshape(-1, _PAGE), axis=0, return_inverse=True)
        self._pages, self._page_of = pages.ravel(), page_of.astype(np.int32).ravel()

    def lookup(self, codes: tf.Tensor) -> tf.Tensor:
        """Returns the values of code points, int32 of any shape, as int32."""
        page = tf.gather(self._page_of, codes // _PAGE)
        return tf.cast(tf.gather(self._pages, page * _PAGE + codes % _PAGE), tf.int32)


class SourceCharacters:
    """Finds the spans of tokens, by the number of characters that each source character gives.

    Args:
        basic_tokenize: splits strings [n] into words [n, (words)]; called once, eagerly, with
            every character that is kept.
        is_dropped: tells characters that vanish.
        is_whitespace: tells characters that end words.
    """

    def __init__(
        self,
        basic_tokenize: Callable[[tf.Tensor], tf.RaggedTensor],
        is_dropped: Callable[[str], bool],
        is_whitespace: Callable[[str], bool],
    ) -> None:
        kept = [char for char in map(chr, range(0x110000)) if not is_dropped(char)]
        with tf.init_scope():  # also when the first call is inside a tf.function
            lengths = tf.strings.length(basic_tokenize(tf.constant(kept)), unit="UTF8_CHAR")
            given = tf.reduce_sum(lengths, axis=1).numpy()
        otherwise = [_SPACE if is_whitespace(char) else _ACCENT for char in kept]
        effects = np.full(0x110000, _DROPPED, np.int8)
        effects[[ord(char) for char in kept]] = np.where(given, given, otherwise)
        self._effects = CodePointTable(effects)

    def spans(self, codes: tf.RaggedTensor, lengths: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns where tokens start and end.

        Args:
            codes: the code points of the source texts, int32 [n, (characters)].
            lengths: how many characters of the words each token holds, int32 [tokens]; the tokens
                of all texts, in order.

        Returns:
            Starts and ends, int32 [tokens].
        """
        effect = self._effects.lookup(codes.flat_values)
        position = tf.ragged.range(tf.cast(codes.row_lengths(), tf.int32)).flat_values

        # A group is a character and what follows, up to the next that gives characters or is space.
        leads = (effect > 0) | (effect == _SPACE) | (position == 0)
        group = tf.cumsum(tf.cast(leads, tf.int32)) - 1
        group_end = tf.math.segment_max(tf.where(effect == _DROPPED, 0, position + 1), group)

        # The source of every character of the words.
        source = row_ids(tf.concat([[0], tf.cumsum(tf.maximum(effect, 0))], axis=0))
        after = tf.cumsum(lengths)
        first, last = tf.gather(source, after - lengths), tf.gather(source, after - 1)
        return tf.gather(position, first), tf.gather(group_end, tf.gather(group, last))
