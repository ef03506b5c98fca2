"""Smaller weights for serving: int8, one scale for each output channel, and what that costs."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np

from electra_keras.serving.signatures import Servable

# Below this many weights a kernel saves nothing worth an error (the head of one logit, for one).
_SMALLEST = 4096
# Outputs that follow from the text or the task, and not from the weights; but for fill_mask's tokens.
_GIVEN = ("tokens", "labels", "words")


def quantize(layers: Iterable[keras.layers.Layer]) -> int:
    """Turns large kernels and token tables into int8, in place; returns how many.

    Only weights are rounded: the graph turns them back to floating point where it uses them. The
    tables of positions and types are small, and added to every token: they stay.
    """
    config = keras.quantizers.Int8QuantizationConfig(activation_quantizer=None)
    count = 0
    for layer in {id(part): part for top in layers for part in _sublayers(top)}.values():
        dense = isinstance(layer, keras.layers.Dense) and _size(layer.kernel) >= _SMALLEST
        table = isinstance(layer, keras.layers.Embedding) and layer.name == "token_embedding"
        if dense or table:
            layer.quantize("int8", config=config)
            count += 1
    return count


def _sublayers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    return list(layer._flatten_layers())


def _size(variable: keras.Variable) -> int:
    return int(np.prod(variable.shape))


def answers(servable: Servable, texts: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
    """Returns what every signature over text answers to the texts, in batches, by signature."""
    found = {}
    for signature in servable.signatures:
        if signature.name.endswith("_ids"):
            continue  # the same networks
        request = signature.request(texts)
        outputs = signature.function(**{key: value for key, value in request.items()})
        found[signature.name] = {key: value.numpy() for key, value in outputs.items()}
    return found


def compare(
    exact: Mapping[str, Mapping[str, np.ndarray]], other: Mapping[str, Mapping[str, np.ndarray]]
) -> list[str]:
    """Returns lines that say how far answers are from the exact ones.

    Padding, which is 0 or "" in both, is left out.
    """
    lines = []
    for name, outputs in exact.items():
        for key, expected in outputs.items():
            got = other[name][key]
            if expected.dtype.kind == "f":
                difference = np.abs(got - expected)[(expected != 0) | (got != 0)]
                scale = (
                    np.sqrt(np.mean(np.square(expected[expected != 0]))) if difference.size else 0
                )
                lines.append(
                    f"{name}.{key}: mean difference {difference.mean() if difference.size else 0:.2g}, "
                    f"largest {difference.max(initial=0):.2g} (values: {scale:.2g} root mean square)"
                )
            elif expected.dtype == object and (key not in _GIVEN or name == "fill_mask"):
                # Of a ranking the first.
                first, same = (x[..., 0] if x.ndim == 3 else x for x in (expected, got == expected))
                share = np.mean(same[first != b""]) if (first != b"").any() else 1.0
                lines.append(f"{name}.{key}: the same for {share:.1%}")
    return lines
