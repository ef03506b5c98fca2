"""Prediction heads: masked tokens (generator) and replaced tokens (discriminator)."""

from typing import Any

import keras
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.layers import (
    ConfiguredLayer,
    flatten_tokens,
    gelu,
    share,
    shared_config,
    weight_initializer,
)


@keras.saving.register_keras_serializable("electra_keras")
class MaskedLanguageModelHead(ConfiguredLayer):
    """Logits over the vocabulary at given positions, with the transposed token table (D2.8).

    Args:
        config: sizes of the generator.
        token_embedding: the table.
        pad_to_multiple_of: rows of zeros are multiplied along to make the numbers of positions and
            of vocabulary entries multiples of this, and their logits dropped.
    """

    def __init__(
        self,
        config: EncoderConfig,
        token_embedding: keras.layers.Embedding,
        pad_to_multiple_of: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, **kwargs)
        self.pad_to_multiple_of = pad_to_multiple_of
        self.token_embedding = share(token_embedding)
        self.dense = keras.layers.Dense(
            config.embedding_size,
            kernel_initializer=weight_initializer(config),
            name="dense",
            dtype=self.dtype_policy,
        )
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_eps, name="layer_norm", dtype=self.dtype_policy
        )
        self.output_bias = self.add_weight(
            shape=(config.vocab_size,), initializer="zeros", name="output_bias"
        )

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {
            "token_embedding": shared_config(self.token_embedding),
            "pad_to_multiple_of": self.pad_to_multiple_of,
        }

    def build(self, input_shape: object = None) -> None:
        """Creates the variables."""
        self.dense.build((None, None, self.config.hidden_size))
        self.layer_norm.build((None, None, self.config.embedding_size))

    def call(self, hidden: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Returns float32 logits [batch, predictions, vocab_size].

        Args:
            hidden: [batch, length, hidden_size] from the generator.
            positions: int32 [batch, predictions]; only these reach the vocabulary (D2.7).
        """
        table = keras.ops.convert_to_tensor(self.token_embedding.embeddings)
        entries, predictions = table.shape[0], positions.shape[1]
        multiple = self.pad_to_multiple_of
        if multiple > 1:
            table = tf.pad(table, [[0, -entries % multiple], [0, 0]])
            positions = tf.pad(positions, [[0, 0], [0, -predictions % multiple]])
        rows = flatten_tokens(tf.gather(hidden, positions, batch_dims=1))
        rows = self.layer_norm(gelu(self.dense(rows)))
        logits = tf.matmul(rows, tf.cast(table, rows.dtype), transpose_b=True)
        if multiple > 1:
            logits = logits[:, :entries]
        if table.dtype == tf.int8:  # quantized for serving: each row is w * scale
            logits /= tf.convert_to_tensor(self.token_embedding.embeddings_scale)
        bias = tf.cast(self.output_bias, tf.float32)
        logits = tf.nn.bias_add(tf.cast(logits, tf.float32), bias)  # one kernel with the product
        logits = tf.reshape(logits, [*tf.unstack(tf.shape(positions)), entries])
        return logits[:, :predictions] if multiple > 1 else logits


@keras.saving.register_keras_serializable("electra_keras")
class ReplacedTokenHead(ConfiguredLayer):
    """One logit per token, above 0 where the token looks replaced (D3.13)."""

    def __init__(self, config: EncoderConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.dense = keras.layers.Dense(
            config.hidden_size,
            kernel_initializer=weight_initializer(config),
            name="dense",
            dtype=self.dtype_policy,
        )
        # Glorot uniform, as the original.
        self.output_dense = keras.layers.Dense(1, name="output_dense", dtype=self.dtype_policy)

    def build(self, input_shape: object = None) -> None:
        """Creates the variables."""
        self.dense.build((None, None, self.config.hidden_size))
        self.output_dense.build((None, None, self.config.hidden_size))

    def call(self, hidden: tf.Tensor) -> tf.Tensor:
        """Maps [batch, length, hidden_size] to float32 logits [batch, length]."""
        rows = gelu(self.dense(flatten_tokens(hidden)))
        logits = tf.cast(self.output_dense(rows), tf.float32)
        return tf.reshape(logits, tf.shape(hidden)[:2])
