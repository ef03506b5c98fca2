"""Heads for question answering: google-research/electra's, and BERT's two logits.

Both return the same for prediction, so that answers are chosen in one way (`answers.decode`).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.layers import ConfiguredLayer, DropoutNoise, gelu

Batch = Mapping[str, tf.Tensor]
Outputs = dict[str, tf.Tensor]
# finetune/qa/qa_tasks.py: width of the hidden layers, and the share of the last loss.
_HIDDEN = 512
_ANSWERABLE_WEIGHT = 0.5
_MASKED = 1000.0


def _cross_entropy(logits: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=positions, logits=logits)


def _top_spans(
    start_scores: tf.Tensor, beam_size: int, end_scores: Callable[[tf.Tensor], tf.Tensor]
) -> Outputs:
    """Returns the best starts, and the best ends of each.

    Args:
        start_scores: float32 [batch, length].
        beam_size: of each; a shorter input has as many as it has tokens.
        end_scores: given starts int32 [batch, starts], returns float32 [batch, starts, length].

    Returns:
        `start_scores`, `starts` [batch, starts], `end_scores`, `ends` [batch, starts, ends].
    """
    beam = tf.minimum(beam_size, tf.shape(start_scores)[1])
    scores, starts = tf.math.top_k(start_scores, beam)
    scores_of_ends, ends = tf.math.top_k(end_scores(starts), beam)
    return {
        "start_scores": scores, "starts": starts, "end_scores": scores_of_ends, "ends": ends
    }  # fmt: skip


class _AnswerHead(ConfiguredLayer):
    """What both heads have: their arguments."""

    def __init__(self, config: EncoderConfig, beam_size: int, **kwargs: Any) -> None:
        super().__init__(config, **{"name": "task_head"} | kwargs)
        self.beam_size = beam_size

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {"beam_size": self.beam_size}

    def _dense(self, inputs: int, outputs: int, name: str, **kwargs: object) -> keras.layers.Dense:
        dense = keras.layers.Dense(outputs, name=name, dtype=self.dtype_policy, **kwargs)
        dense.build((None, inputs))
        return dense


@keras.saving.register_keras_serializable("electra_keras")
class ElectraAnswerHead(_AnswerHead):
    """Start, end given the start, and whether there is no answer (D7.37; Clark et al. 2020).

    Only [CLS] and the context, the [SEP] behind it included, can be start or end. A start at [CLS]
    means that the window has no answer. The hidden layer of the end reads the start's vector beside
    the token's; as the product of a concatenation is a sum of products, the two are multiplied apart.

    Args:
        config: the encoder's sizes.
        beam_size: starts, and ends of each, in prediction.
    """

    def __init__(self, config: EncoderConfig, beam_size: int, **kwargs: Any) -> None:
        super().__init__(config, beam_size, **kwargs)
        width = config.hidden_size
        self.start_dense = self._dense(width, 1, "start_dense")
        # Glorot's limit of the one kernel that these two make in the original.
        limit = math.sqrt(6 / (2 * width + _HIDDEN))
        uniform = {
            name: keras.initializers.RandomUniform(-limit, limit) for name in ("start", "token")
        }
        self.end_start_dense = self._dense(
            width, _HIDDEN, "end_start_dense", use_bias=False, kernel_initializer=uniform["start"]
        )
        self.end_token_dense = self._dense(
            width, _HIDDEN, "end_token_dense", kernel_initializer=uniform["token"]
        )
        self.end_dense = self._dense(_HIDDEN, 1, "end_dense")
        self.answerable_hidden_dense = self._dense(2 * width, _HIDDEN, "answerable_hidden_dense")
        self.answerable_dense = self._dense(_HIDDEN, 1, "answerable_dense")
        self.built = True

    def call(self, hidden: tf.Tensor, batch: Batch) -> Outputs:
        """Returns what `_top_spans` does, of log probabilities, and `null_scores` [batch]."""
        mask = _answer_mask(batch)
        logits = self._start_logits(hidden, mask)
        of_tokens = self.end_token_dense(hidden)

        def end_scores(starts: tf.Tensor) -> tf.Tensor:
            vectors = self.end_start_dense(tf.gather(hidden, starts, batch_dims=1))

            # One start at a time: all at once take beam_size x length x 512 numbers per example.
            def of_start(vector: tf.Tensor) -> tf.Tensor:
                ends = self._end_logits(of_tokens, vector, mask)
                return tf.nn.log_softmax(ends)

            by_start = tf.map_fn(
                of_start,
                tf.transpose(vectors, [1, 0, 2]),
                fn_output_signature=tf.float32,
                parallel_iterations=1,
            )
            return tf.transpose(by_start, [1, 0, 2])

        spans = _top_spans(tf.nn.log_softmax(logits), self.beam_size, end_scores)
        return spans | {"null_scores": self._null_logits(hidden, logits)}

    def loss(self, hidden: tf.Tensor, batch: Batch, noise: DropoutNoise | None) -> tf.Tensor:
        """Returns the loss of each window [batch]: start and end halved, half of answerability.

        The head itself has no dropout, like the original's.
        """
        mask = _answer_mask(batch)
        starts, ends = batch["start_positions"], batch["end_positions"]
        logits = self._start_logits(hidden, mask)
        gold = tf.gather(hidden, starts, batch_dims=1)
        end_logits = self._end_logits(
            self.end_token_dense(hidden), self.end_start_dense(gold), mask
        )
        answerable = tf.nn.sigmoid_cross_entropy_with_logits(
            labels=tf.cast(batch["is_impossible"], tf.float32),
            logits=self._null_logits(hidden, logits),
        )
        spans = (_cross_entropy(logits, starts) + _cross_entropy(end_logits, ends)) / 2
        return spans + _ANSWERABLE_WEIGHT * answerable

    def _start_logits(self, hidden: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.start_dense(hidden)[..., 0], tf.float32) + _MASKED * (mask - 1)

    def _end_logits(self, of_tokens: tf.Tensor, of_start: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        """Returns [batch, length] from [batch, length, 512] of tokens and [batch, 512] of a start."""
        inner = gelu(of_tokens + of_start[:, tf.newaxis])
        return tf.cast(self.end_dense(inner)[..., 0], tf.float32) + _MASKED * (mask - 1)

    def _null_logits(self, hidden: tf.Tensor, start_logits: tf.Tensor) -> tf.Tensor:
        """Returns [batch], above 0 where the question looks like one without answer."""
        likely = tf.cast(tf.nn.softmax(start_logits), hidden.dtype)
        start_vector = tf.einsum("bl,blh->bh", likely, hidden)
        both = tf.concat([hidden[:, 0], start_vector], axis=-1)
        inner = gelu(self.answerable_hidden_dense(both))
        return tf.cast(self.answerable_dense(inner)[..., 0], tf.float32)


@keras.saving.register_keras_serializable("electra_keras")
class PlainAnswerHead(_AnswerHead):
    """Two logits for each token, start and end (Devlin et al. 2019; Hugging Face's head).

    The null score is that of the span which begins and ends at [CLS].

    Args:
        config: the encoder's sizes.
        beam_size: starts and ends in prediction.
    """

    def __init__(self, config: EncoderConfig, beam_size: int, **kwargs: Any) -> None:
        super().__init__(config, beam_size, **kwargs)
        self.output_dense = self._dense(config.hidden_size, 2, "output_dense")
        self.built = True

    def call(self, hidden: tf.Tensor, batch: Batch) -> Outputs:
        """Returns what `_top_spans` does, of logits, and `null_scores` [batch]."""
        logits = self._logits(hidden)
        outside = _MASKED * (_answer_mask(batch) - 1)
        start_logits, end_logits = logits[..., 0] + outside, logits[..., 1] + outside

        def end_scores(starts: tf.Tensor) -> tf.Tensor:
            shape = tf.stack([tf.shape(starts)[0], tf.shape(starts)[1], tf.shape(hidden)[1]])
            return tf.broadcast_to(end_logits[:, tf.newaxis], shape)

        spans = _top_spans(start_logits, self.beam_size, end_scores)
        return spans | {"null_scores": start_logits[:, 0] + end_logits[:, 0]}

    def loss(self, hidden: tf.Tensor, batch: Batch, noise: DropoutNoise | None) -> tf.Tensor:
        """Returns the mean of the two cross-entropies over all tokens, [batch]."""
        logits = self._logits(hidden)
        padding = _MASKED * tf.cast(
            tf.range(tf.shape(hidden)[1]) >= batch["lengths"][:, tf.newaxis], tf.float32
        )
        starts = _cross_entropy(logits[..., 0] - padding, batch["start_positions"])
        return (starts + _cross_entropy(logits[..., 1] - padding, batch["end_positions"])) / 2

    def _logits(self, hidden: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.output_dense(hidden), tf.float32)


def _answer_mask(batch: Batch) -> tf.Tensor:
    """Returns float32 [batch, length], 1 at [CLS] and in segment 1."""
    position = tf.range(tf.shape(batch["segment_ids"])[1])[tf.newaxis]
    return tf.cast((batch["segment_ids"] == 1) | (position == 0), tf.float32)
