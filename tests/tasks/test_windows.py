"""Sliding windows against plain loops like BERT's run_squad.py."""

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.tasks.windows import sliding_windows

CLS, SEP = 2, 3


def spans(total, room, stride):
    """run_squad.py: start and length of the windows over `total` tokens."""
    found, start = [], 0
    while True:
        length = min(total - start, room)
        found.append((start, length))
        if start + length >= total:
            return found
        start += min(length, stride)


def is_max_context(windows, index, token):
    """run_squad.py, _check_is_max_context: whether window `index` is the best for the token."""
    best, best_index = None, None
    for number, (start, length) in enumerate(windows):
        if not start <= token < start + length:
            continue
        left, right = token - start, start + length - 1 - token
        score = min(left, right) + 0.01 * length
        if best is None or score > best:
            best, best_index = score, number
    return best_index == index


@pytest.mark.parametrize(("length", "stride"), [(8, 2), (9, 3), (16, 5), (16, 100)])
def test_windows_equal_plain_loops(length, stride):
    rng = np.random.default_rng(length + stride)
    texts = [list(rng.integers(10, 99, size)) for size in [0, 1, 3, 8, 12, 13, 14, 40]]
    questions = [[CLS, *rng.integers(10, 99, size), SEP] for size in [1, 0, 3, 2, 1, 4, 0, 2]]
    made = sliding_windows(
        tf.ragged.constant(questions, tf.int32), tf.ragged.constant(texts, tf.int32),
        length, stride, SEP,
    )  # fmt: skip
    row, before_text = 0, 0
    for number, (question, text) in enumerate(zip(questions, texts, strict=True)):
        windows = spans(len(text), length - len(question) - 1, stride)
        for index, (start, size) in enumerate(windows):
            ids = [*question, *text[start : start + size], SEP]
            first = len(question)
            tokens, best = np.full(length, -1), np.zeros(length, bool)
            tokens[first : first + size] = before_text + np.arange(start, start + size)
            best[first : first + size] = [
                is_max_context(windows, index, token) for token in range(start, start + size)
            ]
            assert made.text[row] == number
            assert made.lengths[row] == len(ids)
            assert made.input_ids[row].numpy().tolist() == ids + [0] * (length - len(ids))
            segments = [0] * first + [1] * (size + 1)
            assert made.segment_ids[row].numpy().tolist() == segments + [0] * (length - len(ids))
            np.testing.assert_array_equal(made.tokens[row], tokens)
            np.testing.assert_array_equal(made.is_best[row], best)
            row += 1
        before_text += len(text)
    assert row == len(made.text)


def test_without_a_question_all_is_segment_0():
    made = sliding_windows(
        tf.ragged.constant([[CLS]]), tf.ragged.constant([[5, 6, 7]], tf.int32), 8, 4, SEP
    )
    assert made.segment_ids.numpy().sum() == 0
