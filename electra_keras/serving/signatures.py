"""What an exported model answers: named functions of named tensors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from electra_keras.serving.encoding import EncodedText, TextEncoder
from electra_keras.text.vocabulary import Vocabulary

Outputs = dict[str, tf.Tensor]
Request = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature of a SavedModel.

    Attributes:
        name: the `signature_name` of a request.
        inputs: spec of every input by its key; the first dimension is the batch, of any size.
        function: made of stock TensorFlow and tensorflow-text ops; takes the inputs by keyword and
            returns the outputs by their key, each with the batch as its first dimension.
        request: makes a request of texts; for warm-up and for comparisons.
        reads_all: whether the networks read every window of a text, so that time and memory grow
            with it without end.
    """

    name: str
    inputs: Mapping[str, tf.TensorSpec]
    function: Callable[..., Outputs]
    request: Callable[[Sequence[str]], Request]
    reads_all: bool = False


@dataclasses.dataclass(frozen=True)
class Servable:
    """All that is written into one version of an exported model.

    Attributes:
        signatures: in the order in which they are shown.
        default: name of the one that is `serving_default` too.
        layers: whose variables the signatures use; outermost ones only.
        vocabulary: copied beside the model, for people.
        encoder: turns text into the networks' inputs; tells the buckets.
        settings: what is worth knowing of the model, as JSON values; copied beside it.
    """

    signatures: Sequence[Signature]
    default: str
    layers: Sequence[keras.layers.Layer]
    vocabulary: Vocabulary
    encoder: TextEncoder
    settings: Mapping[str, object]


# --- Requests from texts -------------------------------------------------------------------------


def text_request(texts: Sequence[str]) -> Request:
    """Returns a request of the texts as they are."""
    return {"text": np.array([text.encode() for text in texts], object)}


def pair_request(texts: Sequence[str]) -> Request:
    """Returns a request of pairs: the two halves of each text."""
    words = [text.split() for text in texts]
    halves = [(row[: len(row) // 2], row[len(row) // 2 :]) for row in words]
    return {
        key: np.array([" ".join(half[i]).encode() for half in halves], object)
        for i, key in enumerate(("text", "text_pair"))
    }


def question_request(texts: Sequence[str]) -> Request:
    """Returns a request of questions and contexts: the first words of each text, and the others."""
    words = [text.split() for text in texts]
    begins = [min(4, (len(row) + 1) // 2) for row in words]
    parts = {
        "question": [row[:begin] for row, begin in zip(words, begins, strict=True)],
        "context": [row[begin:] for row, begin in zip(words, begins, strict=True)],
    }
    return {
        key: np.array([" ".join(row).encode() for row in rows], object)
        for key, rows in parts.items()
    }


def mask_request(texts: Sequence[str]) -> Request:
    """Returns a request of the texts with the word in the middle masked."""
    words = [text.split() or ["x"] for text in texts]
    for row in words:
        row[len(row) // 2] = "[MASK]"
    return text_request([" ".join(row) for row in words])


def ids_request(encoder: TextEncoder, texts: Request) -> Request:
    """Returns the request in token ids that means what one in text does."""
    encoded = encoder.encode(tf.constant(texts["text"]), find_masks=True)
    return {key: getattr(encoded, key).numpy() for key in ID_INPUTS}


# --- Shared by signatures ------------------------------------------------------------------------

TEXT_INPUTS = {"text": tf.TensorSpec([None], tf.string)}
PAIR_INPUTS = TEXT_INPUTS | {"text_pair": tf.TensorSpec([None], tf.string)}
QUESTION_INPUTS = {key: tf.TensorSpec([None], tf.string) for key in ("question", "context")}
ID_INPUTS = {
    key: tf.TensorSpec([None, None], tf.int32) for key in ("input_ids", "input_mask", "segment_ids")
}


def token_outputs(encoded: EncodedText, tokens: tf.Tensor) -> Outputs:
    """Returns what every answer over the tokens of a text says about them.

    Args:
        encoded: the batch.
        tokens: the vocabulary, strings.

    Returns:
        `tokens`, `starts`, `ends` [batch, bucket] (padded with "" and 0), `length` and `truncated`
        [batch].
    """
    ids = tf.gather(encoded.input_ids, encoded.positions, batch_dims=1)
    real = tf.sequence_mask(encoded.length, tf.shape(ids)[1])
    return {
        "tokens": tf.where(real, tf.gather(tokens, ids), ""),
        "starts": encoded.starts,
        "ends": encoded.ends,
        "length": encoded.length,
        "truncated": encoded.truncated,
    }


def checked(signature: Signature, max_text_bytes: int) -> Callable[..., Outputs]:
    """Returns a signature's function with assertions on what strings a client may send.

    Args:
        signature: any.
        max_text_bytes: how long all strings of a request may be together, in bytes, where the
            signature reads them to the end; 0 for no limit.
    """

    def function(**inputs: tf.Tensor) -> Outputs:
        texts = {key: value for key, value in inputs.items() if value.dtype == tf.string}
        assertions = []
        if len(texts) > 1:
            sizes = [tf.size(value) for value in texts.values()]
            message = f"{' and '.join(texts)} must be equally many"
            assertions += [tf.debugging.assert_equal(sizes[0], size, message) for size in sizes[1:]]
        if texts and signature.reads_all and max_text_bytes:
            total = tf.add_n([tf.reduce_sum(tf.strings.length(v)) for v in texts.values()])
            message = f"the texts of a request may have {max_text_bytes} bytes (--max_text_bytes)"
            assertions.append(tf.debugging.Assert(total <= max_text_bytes, [message, total]))
        with tf.control_dependencies([op for op in assertions if op is not None]):
            inputs = {key: tf.identity(value) for key, value in inputs.items()}
        return signature.function(**inputs)

    return function


class PaddedIds(NamedTuple):
    """Token ids that a client sent, padded to a bucket as text is, and cut to the longest.

    Attributes:
        inputs: `input_ids`, `input_mask` and `segment_ids`, int32 [batch, bucket].
        width: int32 scalar, how many columns of them the client sent.
        truncated: bool [batch], whether real tokens were cut off.
    """

    inputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor]
    width: tf.Tensor
    truncated: tf.Tensor


def pad_ids(
    encoder: TextEncoder, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor
) -> PaddedIds:
    """Checks and pads what a client sent, int32 [batch, length] each, of any length."""
    vocabulary, longest = encoder.tokenizer.vocabulary, encoder.buckets[-1]
    with tf.control_dependencies(_assertions(len(vocabulary), input_ids, input_mask, segment_ids)):
        # All three, or the lookup of a bad id might fail first, and say less.
        input_ids, segment_ids = tf.identity(input_ids), tf.identity(segment_ids)
        input_mask = tf.identity(input_mask)
    sent = tf.shape(input_ids)[1]
    width = tf.minimum(sent, longest)
    padding = [[0, 0], [0, encoder.bucket(sent) - width]]

    def padded(values: tf.Tensor, value: int) -> tf.Tensor:
        return tf.pad(values[:, :longest], padding, constant_values=value)

    return PaddedIds(
        (padded(input_ids, vocabulary.pad_id), padded(input_mask, 0), padded(segment_ids, 0)),
        width,
        truncated=tf.reduce_any(input_mask[:, longest:] > 0, axis=1),
    )


def _assertions(
    vocab_size: int, ids: tf.Tensor, mask: tf.Tensor, segments: tf.Tensor
) -> list[tf.Operation]:
    """Returns assertions for what a client may get wrong; the server's error then says what."""
    same = "input_ids, input_mask and segment_ids must have one shape"
    shape = tf.shape(ids)
    return [
        tf.debugging.assert_equal(tf.shape(mask), shape, same),
        tf.debugging.assert_equal(tf.shape(segments), shape, same),
        tf.debugging.Assert(
            tf.reduce_all((ids >= 0) & (ids < vocab_size)),
            [f"input_ids must be between 0 and {vocab_size - 1}"],
        ),
        tf.debugging.Assert(
            tf.reduce_all((segments >= 0) & (segments <= 1)), ["segment_ids must be 0 or 1"]
        ),
        tf.debugging.Assert(
            tf.reduce_all((mask >= 0) & (mask <= 1)), ["input_mask must be 0 or 1"]
        ),
    ]
