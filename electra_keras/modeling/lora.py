"""Low-rank updates of frozen matrices: LoRA (Hu et al. 2021, arXiv 2106.09685)."""

import dataclasses
from collections.abc import Mapping, MutableMapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

_DOWN, _UP = "lora_down", "lora_up"


@dataclasses.dataclass(frozen=True)
class Lora:
    """What is added to a frozen matrix: alpha / rank times a product of two narrow ones.

    Attributes:
        rank: columns of the first, rows of the second.
        alpha: the paper's; with alpha = rank the product is added as it is.
    """

    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """What the product is multiplied by."""
        return self.alpha / self.rank


@keras.saving.register_keras_serializable("electra_keras")
class LoraDense(keras.layers.Dense):
    """A dense layer y = x W + b + scale * x A B, whose W and b are frozen (section 4.1).

    Variables beside `kernel` and `bias`, which have the names and shapes that they have without LoRA:
    `lora_down` [parts, inputs, rank], the paper's A, normal with standard deviation inputs^-0.5;
    `lora_up` [parts, rank, units / parts], its B, zero, so that training begins at the frozen layer.

    Args:
        units: width of the output.
        lora: rank and scale.
        parts: matrices that lie side by side in `kernel` (query, key and value): each has its own A.
    """

    def __init__(self, units: int, lora: Lora, parts: int = 1, **kwargs: object) -> None:
        super().__init__(units, **kwargs)
        self.lora, self.parts = lora, parts

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        own = {"lora": dataclasses.asdict(self.lora), "parts": self.parts}
        return super().get_config() | own

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns a layer of what `get_config` returned."""
        return super().from_config(config | {"lora": Lora(**config["lora"])})

    # Those of `keras.layers.Dense` know kernel and bias only.

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Saves all variables, the updates among them."""
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Loads what `save_own_variables` saved."""
        keras.layers.Layer.load_own_variables(self, store)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the variables."""
        super().build(input_shape)
        inputs, rank = input_shape[-1], self.lora.rank
        self.lora_down = self.add_weight(
            name=_DOWN,
            shape=(self.parts, inputs, rank),
            initializer=keras.initializers.RandomNormal(stddev=inputs**-0.5),
        )
        self.lora_up = self.add_weight(
            name=_UP, shape=(self.parts, rank, self.units // self.parts), initializer="zeros"
        )
        self.kernel.trainable = self.bias.trainable = False

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Maps [tokens, inputs] to [tokens, units]."""
        narrow = tf.einsum("ti,pir->tpr", inputs, tf.convert_to_tensor(self.lora_down))
        update = tf.einsum("tpr,pro->tpo", narrow, tf.convert_to_tensor(self.lora_up))
        frozen = super().call(inputs, training)
        scale = tf.constant(self.lora.scale, frozen.dtype)
        return frozen + scale * tf.reshape(update, tf.shape(frozen))


def is_lora(path: str) -> bool:
    """Whether a variable's path is of a low-rank update."""
    return path.rsplit("/", 1)[-1] in (_DOWN, _UP)


def merge_lora(arrays: Mapping[str, np.ndarray], lora: Lora) -> dict[str, np.ndarray]:
    """Returns weights by path in which the low-rank updates are added to their matrices.

    Args:
        arrays: of a model with `LoraDense` layers, by variable path.
        lora: theirs.
    """
    merged = {path: array for path, array in arrays.items() if not is_lora(path)}
    for path, down in arrays.items():
        if path.endswith(f"/{_DOWN}"):
            layer = path.removesuffix(f"/{_DOWN}")
            up = arrays[f"{layer}/{_UP}"]
            # [parts, inputs, outputs of a part], side by side.
            products = np.matmul(down.astype(np.float64), up.astype(np.float64))
            kernel = f"{layer}/kernel"
            update = lora.scale * np.concatenate(list(products), axis=1)
            merged[kernel] = (arrays[kernel] + update).astype(arrays[kernel].dtype)
    return merged
