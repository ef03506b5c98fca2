"""Raw text to the inputs of an encoder, in the graph: tokens, special tokens, truncation, padding."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError
from electra_keras.tasks.packing import pair_lengths
from electra_keras.text.offsets import row_ids
from electra_keras.text.tokenizer import Tokenizer

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import tensorflow as tf

_MASK = "[MASK]"
# Of a longer text (in bytes per token of the longest input) only the beginning is looked at first.
_BYTES_PER_TOKEN = 64
# Ids, and where they are asked for, starts and ends.
Tokens = tuple[tf.RaggedTensor, ...]


class EncodedText(NamedTuple):
    """A batch of texts, or pairs of texts, as an encoder takes them.

    All but `length` and `truncated` are padded to the same bucket, with zeros or [PAD]. The first three
    hold "[CLS] text [SEP]" or "[CLS] text [SEP] text_pair [SEP]". The next four tell of the texts' j-th
    token, special tokens left out.

    Attributes:
        input_ids, input_mask, segment_ids: int32 [batch, bucket].
        positions: int32 [batch, bucket]; where in `input_ids` the token stands.
        starts, ends: int32 [batch, bucket]; its span in its text, in code points.
        text_index: int32 [batch, bucket]; 0 for a token of the text, 1 for one of its pair.
        length: int32 [batch]; how many tokens the texts have.
        truncated: bool [batch]; whether tokens were cut off.
    """

    input_ids: tf.Tensor
    input_mask: tf.Tensor
    segment_ids: tf.Tensor
    positions: tf.Tensor
    starts: tf.Tensor
    ends: tf.Tensor
    text_index: tf.Tensor
    length: tf.Tensor
    truncated: tf.Tensor


def choose_buckets(config: ElectraConfig, wanted: Sequence[str] | None) -> list[int]:
    """Returns the lengths that inputs are padded to.

    Args:
        config: of the model.
        wanted: the values of --sequence_buckets, or None.

    Raises:
        UsageError: impossible ones.
    """
    longest = config.max_seq_length
    if wanted is None:
        return [size for size in (16, 32, 64, 128, 256) if size < longest] + [longest]
    limit = min(e.max_position_embeddings for e in config.encoders.values())
    buckets = [int(value) if value.isdecimal() else 0 for value in wanted]
    if not buckets or buckets != sorted(set(buckets)) or buckets[0] < 4 or buckets[-1] > limit:
        raise UsageError(
            f"--sequence_buckets={','.join(wanted)} must be numbers from 4 to the model's {limit} "
            "positions, in ascending order"
        )
    return buckets


class TextEncoder(tf.Module):
    """Encodes raw strings with the tokenizer that built the training data.

    A text that is too long loses its last tokens, a pair those of the longer text first, one at a
    time, as the original does before it trains (run_classifier's `_truncate_seq_pair`). A pair without
    tokens is no pair. A batch is padded to the smallest bucket that holds its longest row.

    Args:
        tokenizer: the model's.
        buckets: lengths to pad to, ascending; texts are truncated to the last.
    """

    def __init__(self, tokenizer: Tokenizer, buckets: Sequence[int]) -> None:
        super().__init__(name="text_encoder")
        self.tokenizer, self.buckets = tokenizer, tuple(buckets)

        # Their own functions, so that an export holds the tokenizer's tables once.
        def graph(function: Callable[[tf.Tensor], Tokens]) -> Callable[[tf.Tensor], Tokens]:
            spec = [tf.TensorSpec([None], tf.string)]
            return tf.function(function, input_signature=spec, autograph=False)

        self._tokenize_whole = graph(tokenizer.tokenize_with_offsets)
        self._ids_of_whole = graph(lambda texts: (tokenizer.tokenize(texts),))
        self._head_bytes = _BYTES_PER_TOKEN * self.buckets[-1]

    def encode(
        self, texts: tf.Tensor, pairs: tf.Tensor | None = None, find_masks: bool = False
    ) -> EncodedText:
        """Encodes texts [batch], or pairs of texts.

        Args:
            texts: strings, UTF-8; bytes that are not are left out.
            pairs: the second texts, strings [batch], or None.
            find_masks: whether "[MASK]" in a text is the special token, and not three words.
        """
        vocabulary = self.tokenizer.vocabulary
        texts = tf.ensure_shape(texts, [None])  # a server does not look at it
        first = self.first_tokens(texts)
        if find_masks:
            first = self._join_masks(texts, first)
        rows = first[0].nrows()
        capacity = self.buckets[-1] - 2
        wanted = first[0].row_lengths()
        if pairs is None:
            second, pair_sep = None, []
            truncated = wanted > capacity
            first = _first_tokens(first, tf.minimum(wanted, capacity))
            tokens = first
        else:
            second = self.first_tokens(pairs)
            wanted_second = second[0].row_lengths()
            has_pair = tf.cast(wanted_second > 0, tf.int64)
            room = capacity - has_pair
            truncated = wanted + wanted_second > room
            kept, kept_second = pair_lengths(wanted, wanted_second, room)
            first, second = _first_tokens(first, kept), _first_tokens(second, kept_second)
            sep = tf.fill([tf.reduce_sum(has_pair)], vocabulary.sep_id)
            pair_sep = [second[0], tf.RaggedTensor.from_row_lengths(sep, has_pair)]
            tokens = [tf.concat(parts, axis=1) for parts in zip(first, second, strict=True)]
        special = [
            tf.fill([rows, 1], tf.constant(i)) for i in (vocabulary.cls_id, vocabulary.sep_id)
        ]
        inputs = tf.concat([special[0], first[0], special[1], *pair_sep], axis=1)

        bucket = self.bucket(tf.reduce_max(inputs.row_lengths()))
        # How many tokens of the first text there are.
        before = tf.cast(first[0].row_lengths(), tf.int32)[:, tf.newaxis]
        index = tf.range(bucket)[tf.newaxis]
        total = tf.cast(inputs.row_lengths(), tf.int32)[:, tf.newaxis]
        length = tf.cast(tokens[0].row_lengths(), tf.int32)
        of_pair = tf.cast(index >= before, tf.int32)
        real = tf.cast(index < length[:, tf.newaxis], tf.int32)

        def padded(ragged: tf.RaggedTensor, value: int = 0) -> tf.Tensor:
            return ragged.to_tensor(value, shape=tf.stack([rows, tf.cast(bucket, tf.int64)]))

        return EncodedText(
            input_ids=padded(inputs, vocabulary.pad_id),
            input_mask=tf.cast(index < total, tf.int32),
            segment_ids=tf.cast((index >= before + 2) & (index < total), tf.int32),
            positions=(index + 1 + of_pair) * real,
            starts=padded(tokens[1]),
            ends=padded(tokens[2]),
            text_index=of_pair * real,
            length=length,
            truncated=truncated,
        )

    def bucket(self, length: tf.Tensor) -> tf.Tensor:
        """Returns the smallest bucket that holds `length`, or else the largest; int32 scalar."""
        smaller = [tf.cast(length > bucket, tf.int32) for bucket in self.buckets[:-1]]
        return tf.gather(tf.constant(self.buckets), tf.add_n([tf.constant(0), *smaller]))

    def token_ids(self, texts: tf.Tensor, whole: bool) -> tf.RaggedTensor:
        """Returns what the tokenizer's `tokenize` does, int32 [batch, (tokens)].

        Args:
            texts: strings [batch].
            whole: otherwise of a long text perhaps only the first tokens, but more than the largest
                bucket holds.
        """
        texts = tf.ensure_shape(texts, [None])
        if whole:
            return self._ids_of_whole(texts)[0]
        return self._beginnings(texts, self._ids_of_whole)[0]

    def all_tokens(self, texts: tf.Tensor) -> Tokens:
        """Returns ids, starts and ends of the tokens of texts, strings [batch]."""
        return self._tokenize_whole(tf.ensure_shape(texts, [None]))

    def first_tokens(self, texts: tf.Tensor) -> Tokens:
        """Returns the same; of long texts perhaps not all, but more than the largest bucket holds."""
        return self._beginnings(tf.ensure_shape(texts, [None]), self._tokenize_whole)

    def _beginnings(self, texts: tf.Tensor, tokenize: Callable[[tf.Tensor], Tokens]) -> Tokens:
        """Returns tokens of texts; of long ones perhaps only the first, but enough.

        What follows a space does not change the tokens before it, so a text that is cut there has the
        first tokens of the whole. Where these are not enough (it has few words), the whole is read.
        """
        long = tf.strings.length(texts) > self._head_bytes
        heads = tf.strings.substr(texts, 0, self._head_bytes)
        heads = tf.strings.unicode_transcode(heads, "UTF-8", "UTF-8")  # it may end in a character
        heads = tf.strings.regex_replace(heads, r"[^ \n]*\z", "")
        tokens = tokenize(tf.where(long, heads, texts))
        enough = ~long | (tokens[0].row_lengths() > self.buckets[-1])
        return tuple(tf.cond(tf.reduce_all(enough), lambda: tokens, lambda: tokenize(texts)))

    def _join_masks(self, texts: tf.Tensor, tokens: Tokens) -> Tokens:
        """Makes one [MASK] of the tokens of each literal "[MASK]".

        Brackets are punctuation, so these are always tokens of their own, whatever "mask" is cut into.
        """
        ids, starts, ends = tokens
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        chars, row = codes.flat_values, row_ids(codes.row_splits)
        width = len(_MASK)
        size = tf.size(chars)

        def ahead(values: tf.Tensor, by: int) -> tf.Tensor:
            return tf.roll(values, -by, axis=0)

        found = row == ahead(row, width - 1)  # not over the end of a text
        found &= tf.range(size) < size - width + 1
        for i, char in enumerate(_MASK):
            found &= ahead(chars, i) == ord(char)
        behind = tf.zeros_like(found)
        for i in range(1, width):
            behind |= ahead(found, -i)
        rows = row_ids(ids.row_splits)
        at = starts.flat_values + tf.cast(tf.gather(codes.row_starts(), rows), tf.int32)
        is_mask, keep = tf.gather(found, at), ~tf.gather(behind, at)
        values = (
            tf.where(is_mask, self.tokenizer.vocabulary.mask_id, ids.flat_values),
            starts.flat_values,
            tf.where(is_mask, starts.flat_values + width, ends.flat_values),
        )
        kept = tf.math.unsorted_segment_sum(tf.cast(keep, tf.int64), rows, ids.nrows())
        return tuple(
            tf.RaggedTensor.from_row_lengths(tf.boolean_mask(part, keep), kept, validate=False)
            for part in values
        )


def _first_tokens(tokens: Tokens, counts: tf.Tensor) -> Tokens:
    """Keeps the first `counts` (int64 [batch], never more than there are) tokens of every row."""
    begin = tokens[0].row_starts()
    kept = tf.ragged.range(begin, begin + counts)
    return tuple(
        kept.with_flat_values(tf.gather(part.flat_values, kept.flat_values)) for part in tokens
    )
