"""Packing of texts and pairs against a plain loop like the original's."""

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.tasks.packing import TRUNCATIONS, pack

CLS, SEP = 2, 3


def cut(tokens, kept, truncation):
    if truncation == "tail":
        return tokens[len(tokens) - kept :]
    head = kept if truncation == "head" else (kept + 1) // 2
    return tokens[:head] + tokens[len(tokens) - (kept - head) :]


def expected(first, second, length, truncation):
    room = length - (2 if second is None else 3)
    if second is None:
        kept = [min(len(first), room)]
    else:
        kept = [len(first), len(second)]
        while sum(kept) > room:  # classification_tasks.py, _truncate_seq_pair
            kept[0 if kept[0] > kept[1] else 1] -= 1
    ids = [CLS, *cut(first, kept[0], truncation), SEP]
    segments = [0] * len(ids)
    if second is not None:
        ids += [*cut(second, kept[1], truncation), SEP]
        segments += [1] * (len(ids) - len(segments))
    padding = [0] * (length - len(ids))
    return ids + padding, segments + padding, len(ids)


@pytest.mark.parametrize("truncation", TRUNCATIONS)
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("length", [8, 9, 16])
def test_packing_equals_a_plain_loop(truncation, pairs, length):
    rng = np.random.default_rng(length)

    def texts():
        return [rng.integers(5, 99, size=rng.integers(0, 20)).tolist() for _ in range(200)]

    firsts, seconds = texts(), texts() if pairs else [None] * 200
    packed = pack(
        tf.ragged.constant(firsts, dtype=tf.int32),
        tf.ragged.constant(seconds, dtype=tf.int32) if pairs else None,
        length,
        truncation,
        CLS,
        SEP,
    )
    for row, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        ids, segments, real = expected(first, second, length, truncation)
        assert packed.input_ids[row].numpy().tolist() == ids
        assert packed.segment_ids[row].numpy().tolist() == segments
        assert packed.lengths[row] == real
        tokens = len(first) + (len(second) if pairs else 0)
        assert bool(packed.truncated[row]) == (tokens > length - (3 if pairs else 2))
