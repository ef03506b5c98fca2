"""Functions that XLA compiles forward and backward, and that say what is kept in between."""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# Takes a tensor that the backward pass is to use again, and returns it.
Keep = Callable[[tf.Tensor], tf.Tensor]


def keep_nothing(tensor: tf.Tensor) -> tf.Tensor:
    """Returns its argument: the `Keep` of whoever leaves it to TensorFlow what is kept."""
    return tensor


class _KeptTensors:
    """A `Keep` that collects the tensors in the forward pass and gives them back in the backward pass.

    Args:
        tensors: what the forward pass has collected, in the order of its calls; None: this is it.
    """

    def __init__(self, tensors: Sequence[tf.Tensor] | None = None) -> None:
        self.tensors = [] if tensors is None else tensors
        self._next = None if tensors is None else iter(tensors)

    def __call__(self, computed: tf.Tensor) -> tf.Tensor:
        """Returns `computed` itself or the tensor that was kept, with the gradient of `computed`."""
        if self._next is None:
            self.tensors.append(computed)
            return computed
        return _replace(computed, next(self._next))


@tf.custom_gradient
def _replace(computed: tf.Tensor, kept: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    return tf.identity(kept), lambda gradient: (gradient, None)


class CompiledFunction:
    """A function that XLA compiles, forward and backward, each in one piece.

    TensorFlow's own gradient of a compiled function keeps whatever the gradients of its operations
    mention: tensors of which only the shape is used, the function's own arguments, the same tensor
    thrice. XLA has to copy each of them to where it stays. Here the backward pass runs the function
    again, and takes what was kept in the place of what it would have to compute, so that matrix
    products are not made twice, while what is cheap is computed where it is used.

    Args:
        function: takes a list of tensors to differentiate by, others, and last a `Keep`. It returns a
            tensor, or a tuple whose first tensor alone is differentiated.
        recompute: keep nothing but the inputs.
    """

    def __init__(self, function: Callable[..., Any], recompute: bool = False) -> None:
        self.function, self.recompute = function, recompute
        self._forward = tf.function(self._run, jit_compile=True, autograph=False)
        self._backward = tf.function(self._differentiate, jit_compile=True, autograph=False)

    def __call__(
        self, inputs: Sequence[tf.Tensor], *others: Any, wanted: Sequence[bool] | None = None
    ) -> Any:
        """Returns what the function does.

        Args:
            inputs: those to differentiate by.
            *others: its other arguments, tensors or nests of them.
            wanted: by which of the inputs to differentiate; None: by all.
        """
        wanted = tuple(wanted or [True] * len(inputs))
        rest: list[Any] = []

        @tf.custom_gradient
        def run(*inputs: tf.Tensor) -> tuple[tf.Tensor, Callable]:
            # Out of sight of the tape, which would have TensorFlow's own gradient made.
            constants = [tf.stop_gradient(tensor) for tensor in inputs]
            (output, *rest[:]), kept = self._forward(constants, others)

            def gradient(output_gradient: tf.Tensor) -> list[tf.Tensor | None]:
                found = iter(self._backward(constants, others, kept, output_gradient, wanted))
                return [next(found) if is_wanted else None for is_wanted in wanted]

            return output, gradient

        output = run(*inputs)
        return (output, *rest) if rest else output

    def _run(
        self, inputs: Sequence[tf.Tensor], others: Sequence[Any]
    ) -> tuple[tuple[tf.Tensor, ...], list[tf.Tensor]]:
        keep = _KeptTensors()
        outputs = self.function(inputs, *others, keep_nothing if self.recompute else keep)
        return outputs if isinstance(outputs, tuple) else (outputs,), keep.tensors

    def _differentiate(
        self,
        inputs: Sequence[tf.Tensor],
        others: Sequence[Any],
        kept: Sequence[tf.Tensor],
        output_gradient: tf.Tensor,
        wanted: Sequence[bool],
    ) -> list[tf.Tensor]:
        sources = [tensor for tensor, is_wanted in zip(inputs, wanted, strict=True) if is_wanted]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources)
            keep = keep_nothing if self.recompute else _KeptTensors(kept)
            outputs = self.function(inputs, *others, keep)
        output = outputs[0] if isinstance(outputs, tuple) else outputs
        return tape.gradient(output, sources, output_gradient)
