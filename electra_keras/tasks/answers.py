"""Questions and contexts to windows, and a head's outputs to answers; TensorFlow operations.

Training, prediction and the served model run this code. The choice of answers is google-research/
electra's (finetune/qa/qa_metrics.py), but for the text: there it is put together again from pieces,
here it is cut from the context by the tokens' offsets.
"""

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from electra_keras.tasks.windows import Windows, sliding_windows
from electra_keras.text.tokenizer import Tokenizer

# The score of what is no answer; finite, since infinite ones make nan of softmax.
_IMPOSSIBLE = -1e9


class AnswerWindows(NamedTuple):
    """Windows of contexts.

    Attributes:
        windows: what the encoder reads.
        starts, ends: int32 [windows, max_seq_length], the span of each token in its context, in
            code points; 0 where no token of the context stands.
        count: int32 [n], windows of each context.
        truncated: bool [n], whether the question was cut.
    """

    windows: Windows
    starts: tf.Tensor
    ends: tf.Tensor
    count: tf.Tensor
    truncated: tf.Tensor


class Answers(NamedTuple):
    """Spans of contexts, the best first; what is not `found` is padding.

    Attributes:
        starts, ends: int32 [n, best], in code points.
        scores: float32 [n, best], of start and end together.
        found: bool [n, best].
        null_odds: float32 [n], the larger, the less is there an answer.
    """

    starts: tf.Tensor
    ends: tf.Tensor
    scores: tf.Tensor
    found: tf.Tensor
    null_odds: tf.Tensor


def make_windows(
    tokenizer: Tokenizer,
    questions: tf.Tensor,
    contexts: tf.Tensor,
    max_seq_length: int,
    stride: int,
    max_query_length: int,
) -> AnswerWindows:
    """Makes windows [CLS] question [SEP] part of the context [SEP].

    Args:
        tokenizer: the model's.
        questions, contexts: strings [n], UTF-8.
        max_seq_length: of a window.
        stride: tokens of the context from a window to the next.
        max_query_length: tokens of a question that stay.
    """
    vocabulary = tokenizer.vocabulary
    question = tokenizer.tokenize(questions)
    truncated = question.row_lengths() > max_query_length
    question = tf.cast(question[:, :max_query_length], tf.int32)
    special = tf.ones_like(question.row_lengths()[:, tf.newaxis], tf.int32)
    before = tf.concat(
        [
            tf.RaggedTensor.from_tensor(special * vocabulary.cls_id),
            question,
            tf.RaggedTensor.from_tensor(special * vocabulary.sep_id),
        ],
        axis=1,
    )
    tokens, starts, ends = tokenizer.tokenize_with_offsets(contexts)
    windows = sliding_windows(before, tokens, max_seq_length, stride, vocabulary.sep_id)
    count = tf.math.unsorted_segment_sum(
        tf.ones_like(windows.text), windows.text, tf.size(contexts)
    )
    return AnswerWindows(
        windows,
        gather_tokens(starts.flat_values, windows.tokens),
        gather_tokens(ends.flat_values, windows.tokens),
        count,
        truncated,
    )


def gather_tokens(values: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
    """Returns the value of each token of windows, 0 where there is none.

    Args:
        values: int32 [tokens], of all texts.
        tokens: int32 [windows, length], as `Windows.tokens`.
    """
    # With a value in front there is one to look up where the texts have no tokens at all.
    return tf.gather(tf.concat([[0], values], axis=0), tokens + 1)


def decode(
    outputs: Mapping[str, tf.Tensor],
    made: AnswerWindows,
    max_answer_length: int,
    null_from_spans: bool,
    best: int,
) -> Answers:
    """Chooses answers over all windows of each context.

    A span begins where its window shows most of what is around (`Windows.is_best`), has at most
    max_answer_length tokens, and lies in the context. The null odds are the smallest of the windows';
    those of the plain head are compared with the best span.

    Args:
        outputs: of a head of answer_heads.py, for all windows.
        made: the windows, which may be padded to any length.
        max_answer_length: in tokens.
        null_from_spans: the null scores are scores of spans, as the plain head's.
        best: how many spans to return.
    """
    starts, ends = outputs["starts"], outputs["ends"]
    shape = tf.shape(ends)
    tokens = made.windows.tokens
    may_start = tf.gather(made.windows.is_best & (tokens >= 0), starts, batch_dims=1)
    last = tf.reshape(ends, [shape[0], shape[1] * shape[2]])
    may_end = tf.reshape(tf.gather(tokens >= 0, last, batch_dims=1), shape)
    length = ends - starts[..., tf.newaxis] + 1
    possible = may_start[..., tf.newaxis] & may_end & (length >= 1) & (length <= max_answer_length)
    scores = outputs["start_scores"][..., tf.newaxis] + outputs["end_scores"]
    scores = tf.where(possible, scores, _IMPOSSIBLE)

    # The best of each window, then the best of each context.
    flat = [shape[0], shape[1] * shape[2]]
    kept = tf.minimum(best, flat[1])
    scores, place = tf.math.top_k(tf.reshape(scores, flat), kept)
    first = tf.gather(starts, place // shape[2], batch_dims=1)
    last = tf.gather(tf.reshape(ends, flat), place, batch_dims=1)
    columns = [
        scores,
        tf.gather(made.starts, first, batch_dims=1),
        tf.gather(made.ends, last, batch_dims=1),
    ]
    scores, first, last = (_by_context(column, made.count, kept) for column in columns)
    size = tf.shape(scores)[1]
    scores = tf.pad(scores, [[0, 0], [0, tf.maximum(best - size, 0)]], constant_values=_IMPOSSIBLE)
    scores, place = tf.math.top_k(scores, best)
    place = tf.minimum(place, size - 1)
    found = scores > _IMPOSSIBLE / 2
    first, last = (
        tf.where(found, tf.gather(column, place, batch_dims=1), 0) for column in (first, last)
    )
    null_odds = tf.math.unsorted_segment_min(
        outputs["null_scores"], made.windows.text, tf.size(made.count)
    )
    if null_from_spans:
        null_odds -= scores[:, 0]
    return Answers(first, last, scores, found, null_odds)


def _by_context(values: tf.Tensor, count: tf.Tensor, kept: tf.Tensor) -> tf.Tensor:
    """Returns the values of all windows of each context, padded: [windows, kept] to [n, most]."""
    padding = _IMPOSSIBLE if values.dtype.is_floating else 0
    flat = tf.RaggedTensor.from_row_lengths(tf.reshape(values, [-1]), count * kept, validate=False)
    return flat.to_tensor(padding)
