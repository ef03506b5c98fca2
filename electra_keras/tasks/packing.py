"""Token ids of texts and pairs of texts become inputs of fixed length: [CLS] A [SEP] (B [SEP]).

TensorFlow operations, so that training and a served model run the same code.
"""

from typing import NamedTuple

import tensorflow as tf

TRUNCATIONS = ("head", "tail", "head_tail")


class Packed(NamedTuple):
    """Inputs of the encoder.

    Attributes:
        input_ids, segment_ids: int32 [n, max_seq_length].
        lengths: int32 [n], real tokens; what follows is padding.
        truncated: bool [n].
    """

    input_ids: tf.Tensor
    segment_ids: tf.Tensor
    lengths: tf.Tensor
    truncated: tf.Tensor


def pack(
    first: tf.RaggedTensor,
    second: tf.RaggedTensor | None,
    max_seq_length: int,
    truncation: str,
    cls_id: int,
    sep_id: int,
) -> Packed:
    """Packs texts that are too long cut.

    Of a pair, tokens are taken from the longer text until both fit, as in the original
    (finetune/classification/classification_tasks.py), which cuts at the end.

    Args:
        first, second: token ids, int32 [n, (tokens)]; `second` None for single texts.
        max_seq_length: of the result.
        truncation: which part of a long text stays: its "head", its "tail", or half of each
            ("head_tail"; Sun et al. 2019, arXiv 1905.05583, section 5.3.1).
        cls_id, sep_id: of the special tokens.
    """
    room = max_seq_length - (2 if second is None else 3)
    lengths = _row_lengths(first)
    if second is None:
        kept = tf.minimum(lengths, room)
        truncated = kept < lengths
    else:
        others = _row_lengths(second)
        truncated = lengths + others > room
        kept, kept_others = pair_lengths(lengths, others, room)
    rows = tf.shape(lengths)[0]
    special = tf.ones([rows, 1], tf.int32)
    parts = [special * cls_id, _cut(first, kept, truncation), special * sep_id]
    if second is not None:
        parts += [_cut(second, kept_others, truncation), special * sep_id]
    ids = tf.concat(
        [
            tf.cast(tf.RaggedTensor.from_tensor(p), tf.int32) if isinstance(p, tf.Tensor) else p
            for p in parts
        ],
        axis=1,
    )
    length = tf.cast(ids.row_lengths(), tf.int32)
    position = tf.range(max_seq_length)[tf.newaxis]
    segments = (position >= (kept + 2)[:, tf.newaxis]) & (position < length[:, tf.newaxis])
    return Packed(
        ids.to_tensor(shape=[None, max_seq_length]),
        tf.cast(segments, tf.int32) if second is not None else tf.zeros_like(segments, tf.int32),
        length,
        truncated,
    )


def pair_lengths(
    first: tf.Tensor, second: tf.Tensor, room: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns how many tokens of pairs stay: one at a time goes from the longer text, or the second.

    Args:
        first, second: integers [n], tokens of the texts.
        room: for both together.
    """
    # Where both are longer than half of the room, each keeps half of it.
    kept = tf.minimum(second, tf.maximum(room // 2, room - first))
    return tf.minimum(first, room - kept), kept


def _row_lengths(tokens: tf.RaggedTensor) -> tf.Tensor:
    return tf.cast(tokens.row_lengths(), tf.int32)


def _cut(tokens: tf.RaggedTensor, kept: tf.Tensor, truncation: str) -> tf.RaggedTensor:
    """Returns `kept` [n] tokens of each row; its order stays."""
    lengths = _row_lengths(tokens)
    position = tf.ragged.range(kept)
    # From this position on, tokens come from the end of the row.
    turn = {"head": kept, "tail": tf.zeros_like(kept), "head_tail": (kept + 1) // 2}[truncation]
    row = position.value_rowids()
    shift = tf.where(position.values >= tf.gather(turn, row), tf.gather(lengths - kept, row), 0)
    starts = tf.cast(tf.gather(tokens.row_starts(), row), tf.int32)
    return position.with_values(
        tf.gather(tf.cast(tokens.flat_values, tf.int32), starts + position.values + shift)
    )
