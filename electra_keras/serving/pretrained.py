"""The signatures of pre-trained networks: replaced tokens, embeddings, filled masks."""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from electra_keras.interop.weights import ModelWeights, known_casing
from electra_keras.serving import networks, quantization
from electra_keras.serving.encoding import EncodedText, TextEncoder
from electra_keras.serving.networks import Networks
from electra_keras.serving.signatures import (
    ID_INPUTS,
    PAIR_INPUTS,
    TEXT_INPUTS,
    Outputs,
    Request,
    Servable,
    Signature,
    ids_request,
    mask_request,
    pad_ids,
    pair_request,
    text_request,
    token_outputs,
)
from electra_keras.text.tokenizer import Tokenizer


def make_servable(
    model: ModelWeights,
    names: Sequence[str],
    buckets: Sequence[int],
    precision: str = "float32",
    quantize: str = "none",
    top_k: int = 5,
) -> Servable:
    """Builds what is exported of a pre-trained model.

    Args:
        model: as read from a directory.
        names: networks, of `networks.choose`.
        buckets: lengths that inputs are padded to, ascending; the last is where they are cut.
        precision: "float32" or "mixed_bfloat16", what the networks compute in.
        quantize: "int8" to store large weights so, or "none".
        top_k: how many tokens `fill_mask` names for each [MASK].
    """
    config, _ = known_casing(model.config, model.vocabulary)
    with networks.precision(precision):
        parts = networks.build(model, names)
    if quantize == "int8":
        quantization.quantize(parts.layers)
    tokenizer = Tokenizer(model.vocabulary, config.lower_case, config.strip_accents)
    encoder = TextEncoder(tokenizer, buckets)
    top_k = min(top_k, len(model.vocabulary))
    signatures = PretrainedSignatures(parts, encoder, top_k).all()
    settings = {
        "source": model.source,
        "step": model.step,
        "networks": list(names),
        "precision": precision,
        "quantize": quantize,
        "lower_case": config.lower_case,
        "strip_accents": config.strip_accents,
        "vocab_sha256": model.vocabulary.sha256,
    }
    return Servable(
        signatures, signatures[0].name, parts.layers, model.vocabulary, encoder, settings
    )


class PretrainedSignatures:
    """The signatures of pre-trained networks.

    Args:
        networks: what there is.
        encoder: of text.
        top_k: how many tokens `fill_mask` names for each [MASK].
    """

    def __init__(self, networks: Networks, encoder: TextEncoder, top_k: int) -> None:
        self.networks, self.encoder, self.top_k = networks, encoder, top_k
        self.tokens = tf.constant(networks.vocabulary.tokens)
        # Their own functions: several signatures use them, and the export holds their graphs once.
        spec = [tf.TensorSpec([None, None], tf.int32)] * 3

        def graph(function: Callable[..., object]) -> Callable[..., object]:
            return tf.function(function, input_signature=spec, autograph=False)

        self._discriminate, self._generate = graph(self._discriminator), graph(self._generator)

    def all(self) -> list[Signature]:
        """Returns the signatures that the networks allow; the first is the natural default."""
        networks, signatures = self.networks, []

        def add(
            name: str, inputs: Mapping[str, tf.TensorSpec], request: Callable[..., Request]
        ) -> None:
            signatures.append(Signature(name, inputs, getattr(self, name), request))

        def ids(texts: Sequence[str]) -> Request:
            return ids_request(self.encoder, text_request(texts))

        def masked_ids(texts: Sequence[str]) -> Request:
            return ids_request(self.encoder, mask_request(texts))

        if networks.discriminator_head is not None:
            add("replaced_tokens", TEXT_INPUTS, text_request)
            add("replaced_tokens_pair", PAIR_INPUTS, pair_request)
            add("replaced_tokens_ids", ID_INPUTS, ids)
        if networks.discriminator is not None:
            add("embed", TEXT_INPUTS, text_request)
            add("embed_ids", ID_INPUTS, ids)
            add("embed_tokens", TEXT_INPUTS, text_request)
            add("embed_tokens_ids", ID_INPUTS, ids)
        if networks.generator_head is not None:
            add("fill_mask", TEXT_INPUTS, mask_request)
            add("fill_mask_ids", ID_INPUTS, masked_ids)
        return signatures

    # Over text

    def replaced_tokens(self, text: tf.Tensor) -> Outputs:
        """Returns `token_outputs` and `probabilities` float32 [batch, bucket] of being replaced."""
        encoded = self.encoder.encode(text)
        return token_outputs(encoded, self.tokens) | self._replaced(encoded)

    def replaced_tokens_pair(self, text: tf.Tensor, text_pair: tf.Tensor) -> Outputs:
        """Does the same for pairs; `text_index` [batch, bucket] is 0 or 1: whose offsets they are.

        An empty text_pair makes its row one of a single text.
        """
        encoded = self.encoder.encode(text, text_pair)
        outputs = token_outputs(encoded, self.tokens) | self._replaced(encoded)
        return outputs | {"text_index": encoded.text_index}

    def embed(self, text: tf.Tensor) -> Outputs:
        """Returns `cls` and `mean`, float32 [batch, hidden_size], `length` and `truncated` [batch]."""
        encoded = self.encoder.encode(text)
        hidden, _ = self._discriminate(*_inputs(encoded))
        outputs = {"length": encoded.length, "truncated": encoded.truncated}
        return outputs | _pooled(hidden, encoded.input_mask)

    def embed_tokens(self, text: tf.Tensor) -> Outputs:
        """Returns `token_outputs` and `embeddings` float32 [batch, bucket, hidden_size]."""
        encoded = self.encoder.encode(text)
        hidden, _ = self._discriminate(*_inputs(encoded))
        real = tf.sequence_mask(encoded.length, tf.shape(hidden)[1], hidden.dtype)
        embeddings = tf.gather(hidden, encoded.positions, batch_dims=1) * real[..., tf.newaxis]
        return token_outputs(encoded, self.tokens) | {"embeddings": embeddings}

    def fill_mask(self, text: tf.Tensor) -> Outputs:
        """Names the likeliest tokens for each "[MASK]" of a text.

        Returns:
            `tokens` string and `token_ids` int32, `probabilities` float32 [batch, masks, top_k];
            `starts` and `ends` int32 [batch, masks], where the masks stand in the text; `length`
            int32 [batch], how many of them a text has (the rest is padding); `truncated` [batch].
        """
        encoded = self.encoder.encode(text, find_masks=True)
        outputs, of_input = self._filled(*_inputs(encoded))
        # A position in the input is one more than the place among the tokens, because of [CLS].
        place = tf.maximum(of_input - 1, 0)
        real = tf.sequence_mask(outputs["length"], tf.shape(of_input)[1], tf.int32)
        for key in ("starts", "ends"):
            outputs[key] = tf.gather(getattr(encoded, key), place, batch_dims=1) * real
        return outputs | {"truncated": encoded.truncated}

    # Over token ids

    def replaced_tokens_ids(self, **ids: tf.Tensor) -> Outputs:
        """Returns `probabilities` float32 [batch, length as sent] and `truncated` [batch]."""
        padded = pad_ids(self.encoder, **ids)
        _, probabilities = self._discriminate(*padded.inputs)
        probabilities *= tf.cast(padded.inputs[1], tf.float32)
        return {
            "probabilities": probabilities[:, : padded.width], "truncated": padded.truncated
        }  # fmt: skip

    def embed_ids(self, **ids: tf.Tensor) -> Outputs:
        """Returns `cls` and `mean`, float32 [batch, hidden_size], and `truncated` [batch]."""
        padded = pad_ids(self.encoder, **ids)
        hidden, _ = self._discriminate(*padded.inputs)
        return _pooled(hidden, padded.inputs[1]) | {"truncated": padded.truncated}

    def embed_tokens_ids(self, **ids: tf.Tensor) -> Outputs:
        """Returns `embeddings` float32 [batch, length as sent, hidden_size] and `truncated`."""
        padded = pad_ids(self.encoder, **ids)
        hidden, _ = self._discriminate(*padded.inputs)
        hidden *= tf.cast(padded.inputs[1], tf.float32)[..., tf.newaxis]
        return {"embeddings": hidden[:, : padded.width], "truncated": padded.truncated}

    def fill_mask_ids(self, **ids: tf.Tensor) -> Outputs:
        """Does as `fill_mask`; `positions` int32 [batch, masks] in place of starts and ends."""
        padded = pad_ids(self.encoder, **ids)
        outputs, positions = self._filled(*padded.inputs)
        return outputs | {"positions": positions, "truncated": padded.truncated}

    # Networks

    def _discriminator(
        self, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns float32 vectors, and probabilities (zeros where there is no head)."""
        hidden = self.networks.discriminator(input_ids, input_mask, segment_ids)
        head = self.networks.discriminator_head
        logits = head(hidden) if head is not None else tf.zeros_like(input_ids, tf.float32)
        return tf.cast(hidden, tf.float32), tf.sigmoid(logits)

    def _generator(
        self, input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns probabilities and ids of the top_k, positions of the masks, and their number."""
        is_mask = (input_ids == self.networks.vocabulary.mask_id) & (input_mask > 0)
        length = tf.reduce_sum(tf.cast(is_mask, tf.int32), axis=1)
        masked = tf.ragged.boolean_mask(
            tf.broadcast_to(tf.range(tf.shape(input_ids)[1]), tf.shape(input_ids)), is_mask
        )
        # At least one column: not every client copes with an empty tensor.
        width = tf.maximum(tf.reduce_max(length), 1)
        shape = tf.stack([tf.cast(tf.shape(input_ids)[0], tf.int64), tf.cast(width, tf.int64)])
        positions = masked.to_tensor(0, shape=shape)
        hidden = self.networks.generator(input_ids, input_mask, segment_ids)
        logits = self.networks.generator_head(hidden, positions)
        probabilities, ids = tf.math.top_k(tf.nn.softmax(logits), self.top_k)
        return probabilities, ids, positions, length

    def _replaced(self, encoded: EncodedText) -> Outputs:
        _, probabilities = self._discriminate(*_inputs(encoded))
        real = tf.sequence_mask(encoded.length, tf.shape(probabilities)[1], tf.float32)
        of_tokens = tf.gather(probabilities, encoded.positions, batch_dims=1)
        return {"probabilities": of_tokens * real}

    def _filled(self, *inputs: tf.Tensor) -> tuple[Outputs, tf.Tensor]:
        """Returns the outputs that both fill_mask signatures have, and the masks' positions."""
        probabilities, ids, positions, length = self._generate(*inputs)
        real = tf.sequence_mask(length, tf.shape(positions)[1])[..., tf.newaxis]
        outputs = {
            "tokens": tf.where(real, tf.gather(self.tokens, ids), ""),
            "token_ids": tf.where(real, ids, 0),
            "probabilities": tf.where(real, probabilities, 0.0),
            "length": length,
        }
        return outputs, positions


def _inputs(encoded: EncodedText) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    return encoded.input_ids, encoded.input_mask, encoded.segment_ids


def _pooled(hidden: tf.Tensor, mask: tf.Tensor) -> Outputs:
    """Returns the vector of [CLS], and the mean over all real tokens, special ones included."""
    weights = tf.cast(mask, tf.float32)[..., tf.newaxis]
    mean = tf.reduce_sum(hidden * weights, axis=1) / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)
    return {"cls": hidden[:, 0], "mean": mean}
