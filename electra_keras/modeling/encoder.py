"""The transformer encoder that generator and discriminator are made of."""

import keras
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.layers import (
    DropoutNoise,
    Embeddings,
    TransformerBlock,
    flatten_tokens,
)
from electra_keras.modeling.lora import Lora


class Encoder(keras.layers.Layer):
    """Embeddings, a projection where the widths differ, and post-LN transformer blocks.

    Follows the original's model/modeling.py: no pooler; the sequence vector is position 0.

    Args:
        config: sizes.
        embeddings: the embedding block, when another encoder owns it; by default a new one.
        lora: low-rank updates of the attention's projections, or None.

    Example:
        encoder = Encoder(config)
        hidden = encoder(input_ids, input_mask, segment_ids)  # [batch, length, hidden]
    """

    def __init__(
        self,
        config: EncoderConfig,
        embeddings: Embeddings | None = None,
        lora: Lora | None = None,
        **kwargs: str,
    ) -> None:
        super().__init__(**kwargs)
        self.config = config
        self.embeddings = embeddings or Embeddings(config, name="embeddings")
        self.embeddings_project = None
        if config.embedding_size != config.hidden_size:
            # The original leaves this kernel's initialiser at TF1's default, glorot uniform (D4.18).
            self.embeddings_project = keras.layers.Dense(
                config.hidden_size, name="embeddings_project"
            )
        self.blocks = [
            TransformerBlock(config, lora, name=f"layer_{i}")
            for i in range(config.num_hidden_layers)
        ]
        # One function for all blocks, which takes their weights as arguments: it is traced and
        # compiled once, and not once for each layer.
        self._compiled_block = tf.function(self._stateless_block, jit_compile=True, autograph=False)

    def build(self, input_shape: object = None) -> None:
        """Creates the variables; embeddings that another encoder owns are not built again."""
        if not self.embeddings.built:
            self.embeddings.build()
        if self.embeddings_project is not None:
            self.embeddings_project.build((None, None, self.config.embedding_size))
        for block in self.blocks:
            block.build()

    def _embed(
        self, input_ids: tf.Tensor, segment_ids: tf.Tensor, key: tf.Tensor | None
    ) -> tf.Tensor:
        """Returns what goes into the first block."""
        noise = None if key is None else DropoutNoise(key)
        hidden = self.embeddings(input_ids, segment_ids, noise=noise)
        if self.embeddings_project is None:
            return hidden
        rows = self.embeddings_project(flatten_tokens(hidden))
        return tf.reshape(rows, [*tf.unstack(tf.shape(input_ids)), self.config.hidden_size])

    def _stateless_block(
        self,
        weights: list[tf.Tensor],
        hidden: tf.Tensor,
        attention_bias: tf.Tensor,
        key: tf.Tensor | None,
        trained: tuple[bool, ...],
    ) -> tf.Tensor:
        """Runs a block with the given weights, in the order of its variables.

        For those that are not trained no gradient is computed: nobody could leave it out afterwards,
        since the backward pass is one compiled function.
        """
        block, noise = self.blocks[0], None if key is None else DropoutNoise(key)
        weights = [w if t else tf.stop_gradient(w) for w, t in zip(weights, trained, strict=True)]
        # Not `stateless_call`: it parts the variables by whether this very block's are trained.
        with keras.StatelessScope(state_mapping=list(zip(block.weights, weights, strict=True))):
            return block(hidden, attention_bias, noise=noise)

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor,
        segment_ids: tf.Tensor,
        noise: DropoutNoise | None = None,
        compiled: bool = False,
    ) -> tf.Tensor:
        """Encodes token ids.

        Args:
            input_ids, input_mask, segment_ids: int32 [batch, length]; the mask is 1 for real tokens.
            noise: source of dropout's random numbers, or None for no dropout.
            compiled: run the blocks by XLA; the shape of the inputs must be static.

        Returns:
            [batch, length, hidden_size] in the compute dtype.
        """
        embed = self._embed
        if compiled:
            embed = tf.function(embed, jit_compile=True, autograph=False)
        key = None if noise is None else noise.next_key()
        hidden = embed(input_ids, segment_ids, key)
        # -10000 as the original; the sum is made in float32 at every precision.
        attention_bias = (
            1.0 - tf.cast(input_mask[:, tf.newaxis, tf.newaxis, :], tf.float32)
        ) * -1e4
        for block in self.blocks:
            key = None if noise is None else noise.next_key()
            if compiled:
                weights = [tf.convert_to_tensor(v.value) for v in block.weights]
                trained = tuple(variable.trainable for variable in block.weights)
                hidden = self._compiled_block(weights, hidden, attention_bias, key, trained)
            else:
                block_noise = None if key is None else DropoutNoise(key)
                hidden = block(hidden, attention_bias, noise=block_noise)
        return hidden
