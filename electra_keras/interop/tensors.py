"""The named tensors of a foreign file: each is taken once, in the shape expected, or named as unused."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from electra_keras.config import EncoderConfig
from electra_keras.console import UserError, reason
from electra_keras.interop.names import original_names
from electra_keras.interop.weights import block_shapes, check_finite, embedding_shapes, head_shapes


@dataclasses.dataclass
class Tensors:
    """What a file holds, and what of it was used.

    Attributes:
        where: the file, for messages.
        shapes: of all tensors, by name.
        read: returns a tensor by name; any exception of it counts as damage.
        used: names that `take` returned.
        converted: dtypes other than float32 that were met.
    """

    where: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    used: set[str] = dataclasses.field(default_factory=set)
    converted: set[str] = dataclasses.field(default_factory=set)

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Returns a tensor in float32.

        Raises:
            UserError: it is missing, has another shape, holds no finite numbers or cannot be read.
        """
        if name not in self.shapes:
            raise UserError(f"{self.where} has no tensor {name}")
        if tuple(self.shapes[name]) != shape:
            raise UserError(
                f"{self.where}: {name} has shape {list(self.shapes[name])}, expected {list(shape)}"
            )
        array = self._read(name)
        if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
            raise UserError(
                f"{self.where}: {name} holds {array.dtype.name}, expected numbers in float32"
            )
        if array.dtype != np.float32:
            self.converted.add(array.dtype.name)
        self.used.add(name)
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
        check_finite({name: array}, self.where)
        return array

    def take_count(self, name: str) -> int:
        """Returns a whole number that is not negative, such as global_step; 0 where it is missing.

        Raises:
            UserError: it is something else, or cannot be read.
        """
        if name not in self.shapes:
            return 0
        array = self._read(name)
        if array.ndim or array.dtype.kind not in "iu" or array < 0:
            raise UserError(f"{self.where}: {name} is not a count: {array!r}")
        self.used.add(name)
        return int(array)

    def _read(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self.read(name))
        except Exception as error:  # TensorFlow and safetensors raise many types for a damaged file
            raise UserError(f"{self.where}: {name} cannot be read: {reason(error)}") from error

    def network(
        self,
        network: str,
        encoder: EncoderConfig,
        rename: Callable[[str], tuple[str, bool]],
        scopes: tuple[str, ...] = ("embeddings", "blocks", "head"),
    ) -> dict[str, np.ndarray]:
        """Returns one network's weights by path, as `ModelWeights.network` does.

        A head of which there is nothing is left out; of everything else, nothing may be missing.

        Args:
            network: "discriminator" or "generator".
            encoder: its sizes.
            rename: from the original's name to (this file's name, is it transposed).
            scopes: what to read.
        """
        shapes = {
            "embeddings": embedding_shapes(encoder),
            "blocks": block_shapes(encoder),
            "head": {f"head/{p}": s for p, s in head_shapes(encoder, network).items()},
        }
        found = {}
        for scope in scopes:
            names = {
                path: [rename(name) for name in original_names(network, path)]
                for path in shapes[scope]
            }
            if scope == "head" and not any(
                name in self.shapes for parts in names.values() for name, _ in parts
            ):
                continue
            for path, parts in names.items():
                shape = shapes[scope][path]
                shape = (*shape[:-1], shape[-1] // len(parts))
                arrays = [
                    self.take(name, shape[::-1]).T if transposed else self.take(name, shape)
                    for name, transposed in parts
                ]
                found[path] = np.ascontiguousarray(np.concatenate(arrays, axis=-1))
        return found

    def notes(self, ignored: Callable[[str], bool] = lambda name: False) -> list[str]:
        """Returns a line on unused tensors, and one on converted ones, where there are any."""
        unused = sorted(name for name in self.shapes if name not in self.used and not ignored(name))
        notes = []
        if unused:
            notes.append(f"unused in {self.where}: {', '.join(unused)}")
        if self.converted:
            notes.append(f"{', '.join(sorted(self.converted))} in {self.where} became float32")
        return notes
