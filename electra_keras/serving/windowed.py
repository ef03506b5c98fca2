"""The signatures of models that read long texts in windows: answers to questions, and tags of words."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from electra_keras.serving.encoding import TextEncoder
from electra_keras.serving.signatures import (
    ID_INPUTS,
    QUESTION_INPUTS,
    TEXT_INPUTS,
    Outputs,
    Request,
    Signature,
    pad_ids,
    question_request,
    text_request,
)
from electra_keras.tasks import words
from electra_keras.tasks.answers import AnswerWindows
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.tasks.question_answering import QuestionAnsweringTask
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.tasks.windows import Windows
from electra_keras.text.offsets import row_ids
from electra_keras.text.vocabulary import Vocabulary

# Of the windows that the network reads at a time: what it needs for more is more than there is.
_TOKENS_AT_A_TIME = 8192


class _Tokenizer(NamedTuple):
    """What a task's `windows` asks of a tokenizer, as one graph for all calls."""

    vocabulary: Vocabulary
    encoder: TextEncoder

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Returns token ids; of long texts perhaps only the first, but more than a window holds."""
        return self.encoder.first_tokens(texts)[0]

    def tokenize_with_offsets(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, ...]:
        """Does as the tokenizer."""
        return self.encoder.all_tokens(texts)


class _Network:
    """Encoder and head, on any number of windows.

    Args:
        model: fine-tuned.
        encoder: tells the buckets.
        reduce: makes of the head's outputs for some windows what is kept of them.
    """

    def __init__(
        self,
        model: FineTuner,
        encoder: TextEncoder,
        reduce: Callable[..., dict[str, tf.Tensor]],
    ) -> None:
        self.model, self.encoder, self.reduce = model, encoder, reduce
        ids = tf.TensorSpec([None, None], tf.int32)
        # Its own function: all signatures use it, and the export holds its graph once.
        self._some = tf.function(
            self._outputs,
            input_signature=[ids, ids, ids, tf.TensorSpec([None, None], tf.bool)],
            autograph=False,
        )

    def _outputs(
        self, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor, chosen: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        batch = {
            "input_ids": input_ids,
            "segment_ids": segment_ids,
            "lengths": tf.reduce_sum(input_mask, axis=1),
        }
        hidden = self.model.encoder(input_ids, input_mask, segment_ids)
        return self.reduce(self.model.head(hidden, batch), chosen)

    def __call__(
        self, inputs: Sequence[tf.Tensor], chosen: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Returns what `reduce` makes, joined along the first axis.

        Args:
            inputs: ids, mask and segments, int32 [windows, bucket].
            chosen: bool [windows, bucket], the second argument of `reduce`; by default all.
        """
        chosen = tf.ones_like(inputs[0], tf.bool) if chosen is None else chosen
        windows, length = tf.unstack(tf.shape(inputs[0]))
        step = tf.maximum(_TOKENS_AT_A_TIME // length, 1)
        specs = self._some.get_concrete_function().structured_outputs
        arrays = {
            name: tf.TensorArray(spec.dtype, 0, dynamic_size=True, infer_shape=False)
            for name, spec in specs.items()
        }

        def body(done: tf.Tensor, arrays: dict[str, tf.TensorArray]) -> tuple[Any, Any]:
            part = [values[done : done + step] for values in (*inputs, chosen)]
            outputs = self._some(*part)
            at = done // step
            return done + step, {k: array.write(at, outputs[k]) for k, array in arrays.items()}

        # Once at least, so that there is something to join where there are no windows.
        _, arrays = tf.while_loop(
            lambda done, _: (done < windows) | (done == 0),
            body,
            (tf.constant(0), arrays),
            parallel_iterations=1,
        )
        return {name: tf.ensure_shape(arrays[name].concat(), specs[name].shape) for name in specs}

    def inputs(self, windows: Windows) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]:
        """Returns ids, mask and segments of windows, int32 [windows, bucket], and the bucket."""
        bucket = self.encoder.bucket(tf.reduce_max(windows.lengths))
        mask = tf.sequence_mask(windows.lengths, bucket, tf.int32)
        ids, segments = windows.input_ids[:, :bucket], windows.segment_ids[:, :bucket]
        return (ids, mask, segments), bucket


def _ids_of(inputs: Sequence[tf.Tensor]) -> Request:
    return {key: value.numpy() for key, value in zip(ID_INPUTS, inputs, strict=True)}


# --- Answers -------------------------------------------------------------------------------------


class AnswerSignatures:
    """The signatures of a model that answers questions.

    Args:
        model: fine-tuned.
        task: what it was fine-tuned for; its own `windows` and `decode` are used, as in prediction.
        encoder: tells the buckets.
    """

    def __init__(self, model: FineTuner, task: QuestionAnsweringTask, encoder: TextEncoder) -> None:
        self.task, self.encoder = task, encoder
        self.tokenizer = _Tokenizer(encoder.tokenizer.vocabulary, encoder)
        self.network = _Network(model, encoder, lambda outputs, _: outputs)

    def all(self) -> list[Signature]:
        """Returns the signatures; the first is the natural default."""

        def ids(texts: Sequence[str]) -> Request:
            request = {key: tf.constant(v) for key, v in question_request(texts).items()}
            made = self._windows(**request)
            return _ids_of(self.network.inputs(made.windows)[0])

        return [
            Signature("answer", QUESTION_INPUTS, self.answer, question_request, True),
            Signature("answer_ids", ID_INPUTS, self.answer_ids, ids),
        ]

    def _windows(self, question: tf.Tensor, context: tf.Tensor) -> AnswerWindows:
        return self.task.windows(
            self.tokenizer, tf.ensure_shape(question, [None]), tf.ensure_shape(context, [None])
        )

    def answer(self, question: tf.Tensor, context: tf.Tensor) -> Outputs:
        """Answers questions from contexts of any length.

        Returns:
            All [batch]. `best_answer` string, the best span of the context, `best_start`, `best_end`
            int32, where it stands, in code points, and `score` float32, the larger the better;
            `null_odds` float32, the larger the less is there an answer. `answer`, `start`, `end` are
            the same, but "" and 0 where the null odds are above the task's threshold.
            `truncated` bool, whether the question was cut.
        """
        made = self._windows(question, context)
        inputs, bucket = self.network.inputs(made.windows)
        found = self.task.decode(self.network(inputs), _cut(made, bucket))
        start, end = found.starts[:, 0], found.ends[:, 0]
        text = _slices(context, tf.range(tf.size(start)), start, end)
        is_answer = found.found[:, 0]
        if self.task.has_impossible:
            is_answer &= found.null_odds <= self.task.null_threshold
        return {
            "answer": tf.where(is_answer, text, ""),
            "start": tf.where(is_answer, start, 0),
            "end": tf.where(is_answer, end, 0),
            "best_answer": text,
            "best_start": start,
            "best_end": end,
            "score": found.scores[:, 0],
            "null_odds": found.null_odds,
            "truncated": made.truncated,
        }

    def answer_ids(self, **ids: tf.Tensor) -> Outputs:
        """Does so for single windows, [CLS] question [SEP] context [SEP], whose context is segment 1.

        Returns:
            `best_start`, `best_end` int32 [batch], the first and last token of the best span (0
            where there is no context), `score`, `null_odds` and `truncated` [batch].
        """
        padded = pad_ids(self.encoder, **ids)
        input_ids, mask, segments = padded.inputs
        segments *= mask
        rows, length = tf.unstack(tf.shape(input_ids))
        position = tf.broadcast_to(tf.range(length), tf.shape(input_ids))
        # All of the segment but its last token, [SEP].
        behind = tf.pad(segments[:, 1:], [[0, 0], [0, 1]])
        in_context = (segments == 1) & (behind == 1)
        tokens = tf.where(in_context, position, -1)
        windows = Windows(
            input_ids, segments, tf.reduce_sum(mask, axis=1), tf.range(rows), tokens, in_context
        )
        count = tf.ones_like(windows.text)
        made = AnswerWindows(windows, position, position, count, padded.truncated)
        found = self.task.decode(self.network((input_ids, mask, segments)), made)
        return {
            "best_start": found.starts[:, 0],
            "best_end": found.ends[:, 0],
            "score": found.scores[:, 0],
            "null_odds": found.null_odds,
            "truncated": padded.truncated,
        }


def _cut(made: AnswerWindows, bucket: tf.Tensor) -> AnswerWindows:
    """Cuts what `decode` reads to the bucket."""
    windows = made.windows._replace(
        tokens=made.windows.tokens[:, :bucket], is_best=made.windows.is_best[:, :bucket]
    )
    starts, ends = made.starts[:, :bucket], made.ends[:, :bucket]
    return made._replace(windows=windows, starts=starts, ends=ends)


# --- Tags ----------------------------------------------------------------------------------------


class TagSignatures:
    """The signatures of a model that tags words; arguments as of `AnswerSignatures`."""

    def __init__(self, model: FineTuner, task: TaggingTask, encoder: TextEncoder) -> None:
        self.task, self.encoder = task, encoder
        self.tokenizer = _Tokenizer(encoder.tokenizer.vocabulary, encoder)
        self.labels = tf.constant(task.labels, tf.string)
        # A label and a number for each word are all that is kept.
        self.network = _Network(model, encoder, lambda *args: words.choose(*args)._asdict())

    def all(self) -> list[Signature]:
        """Returns the signatures; the first is the natural default."""

        def ids(texts: Sequence[str]) -> Request:
            made = self.task.windows(self.tokenizer, tf.constant(text_request(texts)["text"]))
            return _ids_of(self.network.inputs(made.windows)[0])

        return [
            Signature("tag", TEXT_INPUTS, self.tag, text_request, True),
            Signature("tag_ids", ID_INPUTS, self.tag_ids, ids),
        ]

    def tag(self, text: tf.Tensor) -> Outputs:
        """Tags the words of texts of any length, in the scheme of the data.

        Returns:
            `words`, `tags` string, `probabilities` float32, `starts`, `ends` int32 (the words'
            spans, in code points), all [batch, words], padded with "" and 0; `length` int32 [batch],
            how many words a text has.
        """
        text = tf.ensure_shape(text, [None])
        made = self.task.windows(self.tokenizer, text)
        inputs, bucket = self.network.inputs(made.windows)
        chosen = self.network(inputs, made.is_word[:, :bucket])
        starts, ends = (tf.boolean_mask(v, made.is_word) for v in (made.starts, made.ends))
        place = tf.ragged.range(made.count)
        of_text = row_ids(place.row_splits)
        flat = {
            "words": _slices(text, of_text, starts, ends),
            "tags": self._tags(chosen["labels"], made.count),
            "probabilities": chosen["probabilities"],
            "starts": starts,
            "ends": ends,
        }
        # At least one column: not every client copes with an empty tensor.
        shape = tf.stack([tf.size(text), tf.maximum(tf.reduce_max(made.count), 1)])
        padded = {
            key: place.with_flat_values(values).to_tensor(shape=shape)
            for key, values in flat.items()
        }
        return padded | {"length": made.count}

    def _tags(self, labels: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        """Returns the tags of words, strings [words], given the words of each text."""
        if self.task.scheme == self.task.data_scheme:
            return tf.gather(self.labels, labels)
        return words.written_tags(labels, counts, self.task.labels, self.task.data_scheme)

    def tag_ids(self, **ids: tf.Tensor) -> Outputs:
        """Returns `tags` string and `probabilities` float32 of all tokens, [batch, length as sent].

        Tokens, unlike words, make no chunks: tags are the labels as the model has them.
        """
        padded = pad_ids(self.encoder, **ids)
        real = padded.inputs[1] > 0
        chosen = self.network(padded.inputs)
        shape = tf.shape(real)
        tags = tf.reshape(tf.gather(self.labels, chosen["labels"]), shape)
        probabilities = tf.reshape(chosen["probabilities"], shape)
        return {
            "tags": tf.where(real, tags, "")[:, : padded.width],
            "probabilities": tf.where(real, probabilities, 0.0)[:, : padded.width],
            "truncated": padded.truncated,
        }


def _slices(texts: tf.Tensor, of: tf.Tensor, starts: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
    """Returns pieces of texts, strings [pieces], in time linear in texts and pieces.

    Bytes that are not UTF-8 come as U+FFFD, as which they count.

    Args:
        texts: strings [n].
        of: int32 [pieces], of which text each piece is.
        starts, ends: int32 [pieces], in code points.
    """
    codes = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
    begin = tf.cast(tf.gather(codes.row_starts(), of), tf.int32)
    index = tf.ragged.range(begin + starts, begin + ends)
    pieces = index.with_flat_values(tf.gather(codes.flat_values, index.flat_values))
    return tf.strings.unicode_encode(pieces, "UTF-8")
