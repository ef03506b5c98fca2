"""The transformer encoder that generator and discriminator are made of."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.compiled import CompiledFunction, Keep, keep_nothing
from electra_keras.modeling.layers import (
    AdaptedLayer,
    DropoutNoise,
    Embeddings,
    TransformerBlock,
    flatten_tokens,
    share,
    shared_config,
)
from electra_keras.modeling.lora import Lora


@keras.saving.register_keras_serializable("electra_keras")
class Encoder(AdaptedLayer):
    """Embeddings, a projection where the widths differ, and post-LN transformer blocks.

    Follows the original's model/modeling.py: no pooler; the sequence vector is position 0.

    Args:
        config: sizes.
        embeddings: the embedding block, when another encoder owns it; by default a new one.
        lora: low-rank updates of the attention's projections, or None.
        recompute: in training, each block keeps its input only, and the backward pass runs it again.

    Example:
        encoder = Encoder(config)
        hidden = encoder(input_ids, input_mask, segment_ids)  # [batch, length, hidden]

    `electra_keras.models.load_encoder` makes one of a model directory, with its weights.
    """

    def __init__(
        self,
        config: EncoderConfig,
        embeddings: Embeddings | None = None,
        lora: Lora | None = None,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(config, lora, **kwargs)
        self.recompute, dtype = recompute, self.dtype_policy
        self.embeddings = (
            Embeddings(config, name="embeddings", dtype=dtype)
            if embeddings is None
            else share(embeddings)
        )
        self.embeddings_project = None
        if config.embedding_size != config.hidden_size:
            # The original leaves this kernel's initialiser at TF1's default, glorot uniform (D4.18).
            self.embeddings_project = keras.layers.Dense(
                config.hidden_size, name="embeddings_project", dtype=dtype
            )
        self.blocks = [
            TransformerBlock(config, lora, name=f"layer_{i}", dtype=dtype)
            for i in range(config.num_hidden_layers)
        ]
        # One function for all blocks, which takes their weights as arguments: it is traced and
        # compiled once, and not once for each layer.
        self._compiled_block = CompiledFunction(self._stateless_block, recompute)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {
            "embeddings": shared_config(self.embeddings),
            "recompute": self.recompute,
        }

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
        inputs: Sequence[tf.Tensor],
        attention_bias: tf.Tensor,
        key: tf.Tensor | None,
        keep: Keep,
    ) -> tf.Tensor:
        """Runs a block on `inputs`: what goes into it, and weights in the order of its variables."""
        hidden, *weights = inputs
        block, noise = self.blocks[0], None if key is None else DropoutNoise(key)
        # Not `stateless_call`: it parts the variables by whether this very block's are trained.
        with keras.StatelessScope(state_mapping=list(zip(block.weights, weights, strict=True))):
            return block(hidden, attention_bias, noise=noise, keep=keep)

    def _recomputing_block(
        self, inputs: Sequence[tf.Tensor], attention_bias: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        """Runs a block, not compiled, whose gradient runs it again in place of keeping anything."""

        @tf.custom_gradient
        def run(*inputs: tf.Tensor) -> tuple[tf.Tensor, Callable]:
            def gradient(output_gradient: tf.Tensor) -> list[tf.Tensor | None]:
                # 0, but nobody knows before the gradient is there: so it is not run again too early,
                # nor taken for the same computation as the first time.
                zero = tf.math.is_nan(tf.reshape(output_gradient, [-1])[0])
                hidden, *weights = inputs
                again = [hidden + tf.cast(zero, hidden.dtype), *weights]
                later_key = key + tf.cast(zero, key.dtype)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(again)
                    output = self._stateless_block(again, attention_bias, later_key, keep_nothing)
                return tape.gradient(output, again, output_gradient)

            constants = [tf.stop_gradient(tensor) for tensor in inputs]
            return self._stateless_block(constants, attention_bias, key, keep_nothing), gradient

        return run(*inputs)

    def call(
        self,
        input_ids: tf.Tensor,
        input_mask: tf.Tensor,
        segment_ids: tf.Tensor | None = None,
        noise: DropoutNoise | None = None,
        compiled: bool = False,
    ) -> tf.Tensor:
        """Encodes token ids.

        Args:
            input_ids, input_mask, segment_ids: int32 [batch, length]; the mask is 1 for real tokens.
                Without segment ids all are 0.
            noise: source of dropout's random numbers, or None for no dropout.
            compiled: run the blocks by XLA; the shape of the inputs must be static.

        Returns:
            [batch, length, hidden_size] in the compute dtype.
        """
        if segment_ids is None:
            segment_ids = tf.zeros_like(input_ids)
        embed = self._embed
        if compiled:
            embed = tf.function(embed, jit_compile=True, autograph=False)
        key = None if noise is None else noise.next_key()
        hidden = embed(input_ids, segment_ids, key)
        # -10000 as the original; the sum is made in float32 at every precision.
        padding = 1.0 - tf.cast(input_mask, tf.float32)
        attention_bias = padding[:, tf.newaxis, tf.newaxis, :] * -1e4
        for block in self.blocks:
            key = None if noise is None else noise.next_key()
            inputs = [hidden, *(tf.convert_to_tensor(v.value) for v in block.weights)]
            if compiled:
                wanted = [True, *(variable.trainable for variable in block.weights)]
                hidden = self._compiled_block(inputs, attention_bias, key, wanted=wanted)
            elif self.recompute and noise is not None:
                hidden = self._recomputing_block(inputs, attention_bias, key)
            else:
                block_noise = None if key is None else DropoutNoise(key)
                hidden = block(hidden, attention_bias, noise=block_noise)
        return hidden
