"""Building blocks of the encoder: embeddings, attention, feed-forward, and dropout without state.

Sizes are in the configuration, so `build` needs no shapes, and a model is built without a call: Keras
would trace each layer three times to find them out.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.compiled import Keep, keep_nothing
from electra_keras.modeling.lora import Lora, LoraDense


def weight_initializer(config: EncoderConfig) -> keras.initializers.Initializer:
    """Truncated normal, the original's for all kernels and tables but the projections."""
    return keras.initializers.TruncatedNormal(stddev=config.initializer_range)


@tf.custom_gradient
def gelu(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The exact GELU, x * Phi(x) (Hendrycks and Gimpel 2016, arXiv 1606.08415), at any shape.

    Its gradient keeps only the inputs. TensorFlow's keeps four tensors of their size, which a compiled
    block would have to hand on from the forward to the backward pass.
    """

    def gradient(outputs_gradient: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-0.5 * tf.square(inputs)) * (2 * math.pi) ** -0.5
        distribution = 0.5 * (1.0 + tf.math.erf(inputs * 0.5**0.5))
        return outputs_gradient * (distribution + inputs * density)

    return tf.nn.gelu(inputs, approximate=False), gradient


def softmax(inputs: tf.Tensor, keep: Keep) -> tf.Tensor:
    """The softmax over the last axis, whose result is kept, and is all that its gradient needs."""

    @tf.custom_gradient
    def kept_softmax(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        outputs = keep(tf.nn.softmax(inputs))

        def gradient(outputs_gradient: tf.Tensor) -> tf.Tensor:
            mean = tf.reduce_sum(outputs_gradient * outputs, axis=-1, keepdims=True)
            return (outputs_gradient - mean) * outputs

        return outputs, gradient

    return kept_softmax(inputs)


@keras.saving.register_keras_serializable("electra_keras")
class SinusoidalInitializer(keras.initializers.Initializer):
    """Vaswani et al. 2017 (arXiv 1706.03762, section 3.5), scaled to a standard deviation.

    The vectors of two positions then differ in the same way wherever their distance is the same, so
    that "the token before" is one pattern to learn and not one for each position.
    """

    def __init__(self, stddev: float) -> None:
        self.stddev = stddev

    def __call__(self, shape: Sequence[int], dtype: str | None = None) -> tf.Tensor:
        """Returns the table [positions, width]."""
        positions, width = shape
        frequencies = np.exp(-math.log(10_000.0) * np.arange((width + 1) // 2) / (width / 2))
        angles = np.arange(positions)[:, np.newaxis] * frequencies
        table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)[:, :width]
        return tf.constant(table * math.sqrt(2) * self.stddev, dtype or "float32")

    def get_config(self) -> dict[str, float]:
        """Returns the constructor's arguments."""
        return {"stddev": self.stddev}


def random_bits(key: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Returns uniform uint32 numbers of a static shape that follow from `key` (int32 [2]).

    A hash of the position, once for each half of the key. It is no generator for statistics, but
    dropout needs no more, and it is elementwise: XLA computes it where it is used, while Philox in XLA
    is slow on CPU and its numbers, drawn outside, take time and memory.
    """
    first, second = tf.unstack(tf.bitcast(key, tf.uint32))
    # Many keys have the same second half: added as it is, their bits would be shifted copies.
    second = _lowbias32(_lowbias32(first) + second)
    positions = tf.cast(tf.range(math.prod(shape)), tf.uint32)
    return tf.reshape(_lowbias32(_lowbias32(positions + first) + second), shape)


def _lowbias32(bits: tf.Tensor) -> tf.Tensor:
    """C. Wellons 2018, "Prospecting for hash functions"."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        shifted = tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint32))
        bits = tf.bitwise.bitwise_xor(bits, shifted) * tf.constant(factor, tf.uint32)
    return bits


class DropoutNoise:
    """Random bits for the dropout sites of one forward pass, in the order of the calls.

    There is no random state: the bits follow from the key alone.

    Args:
        key: int32 [2], seed of this pass.
    """

    def __init__(self, key: tf.Tensor) -> None:
        self.key = key
        self.sites = 0

    def next_key(self) -> tf.Tensor:
        """Returns a key of its own, int32 [2], for the next site or the next part of the pass."""
        self.sites += 1
        return tf.random.experimental.stateless_fold_in(self.key, self.sites)


def dropout(inputs: tf.Tensor, rate: float, noise: DropoutNoise | None) -> tf.Tensor:
    """Zeroes each element with probability `rate` and scales the rest to keep the mean.

    Does nothing without noise, which is how evaluation and inference call it.
    """
    if noise is None or rate == 0:
        return inputs
    threshold = tf.constant(round(rate * 2**32), tf.uint32)
    keep = random_bits(noise.next_key(), inputs.shape) >= threshold
    return tf.where(
        keep, inputs * tf.constant(1 / (1 - rate), inputs.dtype), tf.zeros([], inputs.dtype)
    )


def flatten_tokens(hidden: tf.Tensor) -> tf.Tensor:
    """Returns [tokens, width] of [batch, length, width].

    The gradients of biases and of LayerNorm are then sums over one axis. Over two axes XLA makes a
    reduce-window of them, which on CPU takes ten times as long as all else that GELU costs.
    """
    return tf.reshape(hidden, [-1, hidden.shape[-1]])


def share(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Marks a layer as one that several others have, so that it is saved and loaded as one."""
    layer.is_shared = True
    return layer


def shared_config(layer: keras.layers.Layer) -> dict[str, Any] | None:
    """Returns what `get_config` says of an inner layer: nothing, unless it is shared."""
    if not getattr(layer, "is_shared", False):
        return None
    # Keras adds the mark itself where it meets a layer again, but not to the first of its places.
    return keras.saving.serialize_keras_object(layer) | {"shared_object_id": id(layer)}


class ConfiguredLayer(keras.layers.Layer):
    """A layer whose sizes are an `EncoderConfig`, and which Keras can save.

    Args:
        config: sizes.
        kwargs: as of `keras.layers.Layer`; inner layers have this layer's `dtype`.
    """

    def __init__(self, config: EncoderConfig, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {"config": dataclasses.asdict(self.config)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a layer of what `get_config` returned."""
        config = config | {"config": EncoderConfig(**config["config"])}
        for name in ("embeddings", "token_embedding"):
            if config.get(name) is not None:
                config[name] = keras.saving.deserialize_keras_object(config[name])
        return super().from_config(config)


class AdaptedLayer(ConfiguredLayer):
    """A `ConfiguredLayer` some of whose projections may have low-rank updates.

    Args:
        config, kwargs: as of `ConfiguredLayer`.
        lora: the updates, or None.
    """

    def __init__(self, config: EncoderConfig, lora: Lora | None = None, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.lora = lora

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        lora = None if self.lora is None else dataclasses.asdict(self.lora)
        return super().get_config() | {"lora": lora}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a layer of what `get_config` returned."""
        lora = config["lora"]
        return super().from_config(config | {"lora": None if lora is None else Lora(**lora)})


@keras.saving.register_keras_serializable("electra_keras")
class Embeddings(ConfiguredLayer):
    """Token + type + position embeddings, then LayerNorm and dropout (D4.19).

    Args:
        config: the encoder's sizes; vectors are `embedding_size` wide.
        token_embedding: a token table that another encoder owns, to share only that
            (`embedding_sharing="token"`); to share everything, share this layer.
    """

    def __init__(
        self,
        config: EncoderConfig,
        token_embedding: keras.layers.Embedding | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, **kwargs)

        def table(
            rows: int, name: str, initializer: keras.initializers.Initializer
        ) -> keras.layers.Embedding:
            return keras.layers.Embedding(
                rows,
                config.embedding_size,
                embeddings_initializer=initializer,
                name=name,
                dtype=self.dtype_policy,
            )

        normal = weight_initializer
        of_positions = normal(config)
        if config.position_initializer == "sinusoidal":
            of_positions = SinusoidalInitializer(config.initializer_range)
        self.token_embedding = (
            table(config.vocab_size, "token_embedding", normal(config))
            if token_embedding is None
            else share(token_embedding)
        )
        self.position_embedding = table(
            config.max_position_embeddings, "position_embedding", of_positions
        )
        self.type_embedding = table(config.type_vocab_size, "type_embedding", normal(config))
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, name="layer_norm", dtype=self.dtype_policy
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {"token_embedding": shared_config(self.token_embedding)}

    def build(self, input_shape: object = None) -> None:
        """Creates the variables that another encoder does not own."""
        for table in (self.token_embedding, self.position_embedding, self.type_embedding):
            if not table.built:
                table.build()
        self.layer_norm.build((None, None, self.config.embedding_size))

    def call(
        self, input_ids: tf.Tensor, segment_ids: tf.Tensor, noise: DropoutNoise | None = None
    ) -> tf.Tensor:
        """Maps ids [batch, length] to vectors [batch, length, embedding_size]."""
        length = tf.shape(input_ids)[1] if input_ids.shape[1] is None else input_ids.shape[1]
        hidden = self.token_embedding(input_ids)
        hidden += self.type_embedding(segment_ids)
        hidden += self.position_embedding(tf.range(length))
        rows = self.layer_norm(flatten_tokens(hidden))
        rows = dropout(rows, self.config.hidden_dropout_prob, noise)
        return tf.reshape(rows, tf.shape(hidden))


@keras.saving.register_keras_serializable("electra_keras")
class SelfAttention(AdaptedLayer):
    """Multi-head self-attention; query, key and value come from one matrix product.

    The columns of `query_key_value` are those of the query, then the key, then the value.

    Args:
        config: sizes.
        lora: low-rank updates of all four projections, which are then frozen; None: there are none.
    """

    def __init__(self, config: EncoderConfig, lora: Lora | None = None, **kwargs: Any) -> None:
        super().__init__(config, lora, **kwargs)

        def projection(parts: int, name: str) -> keras.layers.Dense:
            units = parts * config.hidden_size
            settings = {
                "kernel_initializer": weight_initializer(config),
                "name": name,
                "dtype": self.dtype_policy,
            }
            if lora is None:
                return keras.layers.Dense(units, **settings)
            return LoraDense(units, lora, parts, **settings)

        self.query_key_value = projection(3, "query_key_value")
        self.output_dense = projection(1, "output_dense")

    def build(self, input_shape: object = None) -> None:
        """Creates the variables."""
        self.query_key_value.build((None, None, self.config.hidden_size))
        self.output_dense.build((None, None, self.config.hidden_size))

    def call(
        self,
        hidden: tf.Tensor,
        attention_bias: tf.Tensor,
        noise: DropoutNoise | None = None,
        keep: Keep = keep_nothing,
    ) -> tf.Tensor:
        """Maps [batch * length, hidden] to the same shape.

        Args:
            hidden: [batch * length, hidden], the tokens of one text behind each other.
            attention_bias: float32 [batch, 1, 1, length], 0 for real tokens, -10000 for padding.
            noise: source of dropout's random numbers, or None.
            keep: takes what the backward pass uses again, where that is compiled.
        """
        heads, width = self.config.num_attention_heads, self.config.hidden_size
        batch, length = tf.shape(attention_bias)[0], tf.shape(attention_bias)[3]
        static = attention_bias.shape
        if static.is_fully_defined():
            batch, length = static[0], static[3]
        mixed = tf.reshape(self.query_key_value(hidden), [batch, length, 3, heads, width // heads])
        query, key, value = tf.unstack(keep(tf.transpose(mixed, [2, 0, 3, 1, 4])))
        query *= tf.constant((width // heads) ** -0.5, query.dtype)
        scores = tf.cast(tf.matmul(query, key, transpose_b=True), tf.float32)
        scores += tf.cast(attention_bias, tf.float32)  # Keras has cast it to the compute dtype
        weights = tf.cast(softmax(scores, keep), value.dtype)
        weights = dropout(weights, self.config.attention_probs_dropout_prob, noise)
        context = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
        return self.output_dense(keep(tf.reshape(context, [-1, width])))


@keras.saving.register_keras_serializable("electra_keras")
class TransformerBlock(AdaptedLayer):
    """Self-attention and feed-forward, each with dropout, residual and LayerNorm after it (D4.20).

    Arguments as of `SelfAttention`.
    """

    def __init__(self, config: EncoderConfig, lora: Lora | None = None, **kwargs: Any) -> None:
        super().__init__(config, lora, **kwargs)
        dtype = self.dtype_policy
        self.attention = SelfAttention(config, lora, name="attention", dtype=dtype)
        self.attention_layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, name="attention_layer_norm", dtype=dtype
        )
        self.intermediate_dense = keras.layers.Dense(
            config.intermediate_size,
            kernel_initializer=weight_initializer(config),
            name="intermediate_dense",
            dtype=dtype,
        )
        self.output_dense = keras.layers.Dense(
            config.hidden_size,
            kernel_initializer=weight_initializer(config),
            name="output_dense",
            dtype=dtype,
        )
        self.output_layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, name="output_layer_norm", dtype=dtype
        )

    def build(self, input_shape: object = None) -> None:
        """Creates the variables."""
        shape = (None, None, self.config.hidden_size)
        self.attention.build()
        self.attention_layer_norm.build(shape)
        self.intermediate_dense.build(shape)
        self.output_dense.build((None, None, self.config.intermediate_size))
        self.output_layer_norm.build(shape)

    def call(
        self,
        hidden: tf.Tensor,
        attention_bias: tf.Tensor,
        noise: DropoutNoise | None = None,
        keep: Keep = keep_nothing,
    ) -> tf.Tensor:
        """Maps [batch, length, hidden] to the same shape; the others as of `SelfAttention`."""
        rate, rows = self.config.hidden_dropout_prob, flatten_tokens(hidden)
        attended = self.attention(rows, attention_bias, noise=noise, keep=keep)
        rows = self.attention_layer_norm(keep(rows + dropout(attended, rate, noise)))
        inner = gelu(keep(self.intermediate_dense(rows)))
        outer = dropout(self.output_dense(inner), rate, noise)
        rows = self.output_layer_norm(keep(rows + outer))
        return tf.reshape(rows, tf.shape(hidden))
