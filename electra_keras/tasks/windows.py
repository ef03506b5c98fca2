"""Long texts in overlapping windows, each with the same beginning: [CLS] (question [SEP]) part [SEP].

TensorFlow operations, so that training and a served model run the same code. The windows are those of
google-research/electra (finetune/qa/qa_tasks.py, after BERT's run_squad.py).
"""

from typing import NamedTuple

import tensorflow as tf

from electra_keras.text.offsets import row_ids


class Windows(NamedTuple):
    """Inputs of the encoder, and where their tokens come from.

    Attributes:
        input_ids, segment_ids: int32 [windows, max_seq_length]; segment 1 is the text's part and the
            [SEP] behind it, if it stands behind another text.
        lengths: int32 [windows], real tokens; what follows is padding.
        text: int32 [windows], which text a window is of; windows of a text follow each other.
        tokens: int32 [windows, max_seq_length], which token of all the texts' stands here, counted
            over the batch; -1 for special tokens, those of the beginning and padding.
        is_best: bool [windows, max_seq_length], whether of all windows with this token, this one
            shows most of what is around it ("max context"); true once for every token.
    """

    input_ids: tf.Tensor
    segment_ids: tf.Tensor
    lengths: tf.Tensor
    text: tf.Tensor
    tokens: tf.Tensor
    is_best: tf.Tensor


def sliding_windows(
    before: tf.RaggedTensor,
    tokens: tf.RaggedTensor,
    max_seq_length: int,
    stride: int,
    sep_id: int,
) -> Windows:
    """Makes windows of texts; each text has one at least.

    Args:
        before: int32 [n, (tokens)], what each window of a text begins with, special tokens included;
            it leaves room for at least one token and [SEP].
        tokens: int32 [n, (tokens)], of the texts.
        max_seq_length: of a window.
        stride: tokens from a window's beginning to the next one's; at most as many as fit.
        sep_id: of [SEP].
    """
    total = tf.cast(tokens.row_lengths(), tf.int32)
    before_length = tf.cast(before.row_lengths(), tf.int32)
    room = max_seq_length - 1 - before_length
    step = tf.minimum(stride, room)
    count = 1 + (tf.maximum(total - room, 0) + step - 1) // step
    text = row_ids(tf.concat([[0], tf.cumsum(count)], axis=0))
    start = tf.ragged.range(count).flat_values * tf.gather(step, text)
    length = tf.minimum(tf.gather(room, text), tf.gather(total, text) - start)
    # Over the tokens of all windows, one after the other.
    first = tf.cast(tf.gather(tokens.row_starts(), text), tf.int32) + start
    index = tf.ragged.range(first, first + length)
    is_best = _most_context(index, length, tf.size(tokens.flat_values))

    offset = tf.gather(before_length, text)
    windows = tf.shape(text)[0]

    def place(values: tf.Tensor, fill: int) -> tf.Tensor:
        """Puts a value for every token of a window at its place."""
        padding = tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(offset)], fill), tf.cast(offset, tf.int64), validate=False
        )
        placed = tf.concat([padding, index.with_flat_values(values)], axis=1)
        return placed.to_tensor(fill, shape=[None, max_seq_length])

    parts = [
        tf.gather(tf.cast(before, tf.int32), text),
        index.with_flat_values(tf.gather(tf.cast(tokens.flat_values, tf.int32), index.flat_values)),
        tf.RaggedTensor.from_row_lengths(
            tf.fill([windows], sep_id), tf.ones([windows], tf.int64), validate=False
        ),
    ]
    lengths = offset + length + 1
    position = tf.range(max_seq_length)[tf.newaxis]
    behind = (position >= offset[:, tf.newaxis]) & (position < lengths[:, tf.newaxis])
    is_second = tf.cast(behind & (offset > 1)[:, tf.newaxis], tf.int32)
    return Windows(
        input_ids=tf.concat(parts, axis=1).to_tensor(shape=[None, max_seq_length]),
        segment_ids=is_second,
        lengths=lengths,
        text=text,
        tokens=place(index.flat_values, -1),
        is_best=place(tf.cast(is_best, tf.int32), 0) > 0,
    )


def _most_context(index: tf.RaggedTensor, length: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """Returns whether a window's token has most context there; the first of equal windows has it.

    A token's context is the smaller number of tokens on either side of it; of equal ones the longer
    window counts (run_squad.py, `_check_is_max_context`).

    Args:
        index: int32 [windows, (tokens)], which token each one is, counted over the batch.
        length: int32 [windows], of the windows.
        total: of the tokens.

    Returns:
        bool [tokens of all windows].
    """
    window = row_ids(tf.concat([[0], tf.cumsum(length)], axis=0))
    left = tf.ragged.range(length).flat_values
    own_length = tf.gather(length, window)
    context = 100 * tf.minimum(left, own_length - 1 - left) + own_length
    token = index.flat_values
    most = tf.math.unsorted_segment_max(context, token, total)
    is_most = context == tf.gather(most, token)
    candidate = tf.where(is_most, window, tf.int32.max)
    first = tf.math.unsorted_segment_min(candidate, token, total)
    return is_most & (window == tf.gather(first, token))
