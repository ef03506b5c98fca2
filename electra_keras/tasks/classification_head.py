"""The head of classification and regression, and its loss."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from electra_keras.config import EncoderConfig
from electra_keras.modeling.layers import ConfiguredLayer, DropoutNoise, dropout


def element_loss(
    kind: str, outputs: tf.Tensor, labels: tf.Tensor, weights: Sequence[float] = ()
) -> tf.Tensor:
    """Returns the loss of each example [n] from outputs [n, classes].

    `weights` are those of the classes, or none: see `class_weights.class_weights`.
    """
    if kind == "regression":
        return tf.square(outputs[:, 0] - labels)
    if kind == "multi_label":
        losses = tf.nn.weighted_cross_entropy_with_logits(
            labels, outputs, tf.constant(weights or (1.0,), tf.float32)
        )
        return tf.reduce_sum(losses, axis=-1)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=outputs)
    return losses * tf.gather(tf.constant(weights, tf.float32), labels) if weights else losses


@keras.saving.register_keras_serializable("electra_keras")
class ClassificationHead(ConfiguredLayer):
    """Dropout on the vector of [CLS], and one linear layer (D7.35): no hidden layer."""

    def __init__(
        self,
        config: EncoderConfig,
        kind: str,
        outputs: int,
        class_weights: Sequence[float] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(config, **{"name": "task_head"} | kwargs)
        self.rate, self.kind, self.outputs = config.hidden_dropout_prob, kind, outputs
        self.class_weights = tuple(class_weights)
        self.output_dense = keras.layers.Dense(
            outputs, name="output_dense", dtype=self.dtype_policy
        )
        self.output_dense.build((None, config.hidden_size))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        own = {"kind": self.kind, "outputs": self.outputs, "class_weights": [*self.class_weights]}
        return super().get_config() | own

    def call(
        self, hidden: tf.Tensor, batch: Mapping[str, tf.Tensor], noise: DropoutNoise | None = None
    ) -> tf.Tensor:
        """Maps [batch, length, hidden_size] to float32 [batch, outputs]."""
        vector = dropout(hidden[:, 0], self.rate, noise)
        return tf.cast(self.output_dense(vector), tf.float32)

    def loss(
        self, hidden: tf.Tensor, batch: Mapping[str, tf.Tensor], noise: DropoutNoise | None
    ) -> tf.Tensor:
        """Returns the loss of each example, [batch]."""
        outputs = self(hidden, batch, noise=noise)
        return element_loss(self.kind, outputs, batch["labels"], self.class_weights)
