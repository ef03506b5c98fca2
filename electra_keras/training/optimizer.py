"""The optimizer: all-reduce, then global clip, then decay, then the update."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import tensorflow as tf
from absl import logging

from electra_keras.options import RunOptions
from electra_keras.training.schedules import WarmupPolynomialDecay

# A variable whose path has one of these words is not decayed (D5.25: the original's "LayerNorm",
# "layer_norm" and "bias"). Embedding tables are decayed.
_NOT_DECAYED = ("layer_norm", "bias")
# Nor does LAMB scale its update, nor that of a matrix that starts at 0: |variable| would keep it there.
_NOT_SCALED = (*_NOT_DECAYED, "lora_up")

# Gradients travel in pieces of about so many bytes: by default all are copied into one, which waits for
# the last of them.
_COMMUNICATION = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=32 << 20)

MOMENTS = ("first_moment", "second_moment")


def moment_path(path: str, moment: str) -> str:
    """Returns the path of one of `MOMENTS` of the variable at `path`."""
    return f"electra_optimizer/{path.replace('/', '_')}_{moment}"


_FIRST_LOSS_SCALE = 2.0**15


def _unchanged_rate(path: str) -> float:
    return 1.0


def _from_the_start(path: str) -> int:
    return 0


@keras.saving.register_keras_serializable("electra_keras")
class ElectraOptimizer(keras.optimizers.Optimizer):
    """Adam as the original has it, AdamW or LAMB, right under tf.distribute and in mixed precision.

    Every step: gradients are summed over the replicas, clipped by their global norm (Keras clips each
    replica's own part, which is another optimizer), then
        m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
        update = m / (sqrt(v) + epsilon) + weight_decay * variable
        variable -= learning_rate * update
    with m and v corrected for their bias except in "adam" (facts: original model/optimization.py), and
    in "lamb" with the update scaled by |variable| / |update| (You et al. 2019, arXiv 1904.00962).
    Biases, LayerNorm (as in NVIDIA's LAMB for BERT) and LoRA's second matrices are not scaled: they
    start at 0, and would only be changed by a small share of what they are.

    A step whose gradient norm is not finite changes neither weights nor moments. In float16 that is
    part of loss scaling: the scale is halved, and doubled after 2,000 good steps. It is decided on the
    summed gradients, hence the same on each replica.

    Args:
        learning_rate: a number or a schedule of the step.
        algorithm: "adam", "adamw" or "lamb".
        beta_1, beta_2, epsilon: of the moments.
        weight_decay: decoupled; not for biases and LayerNorm.
        max_grad_norm: global norm to clip to, or None.
        dynamic_loss_scale: scale the loss, for float16; None: where a model in float16 is compiled with
            it.
        rate_factor: of a variable's path, what its learning rate is multiplied by; None: 1. Saving the
            optimizer needs registered functions, or objects, here and in `first_step`.
        first_step: of a variable's path, the step from which on it is updated; until then it is as
            if it were not there, in the norm too, and its bias correction begins then. None: 0.
        jit_compile: have XLA compile clipping and update, so that a GPU starts few kernels in place of
            five or more a variable. None: where there is a GPU.

    Attributes:
        gradient_norm: float32 variable, the last step's global norm before clipping.
        loss_scale: float32 variable; 1 without dynamic_loss_scale.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 5e-4,
        algorithm: str = "adam",
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        max_grad_norm: float | None = 1.0,
        dynamic_loss_scale: bool | None = None,
        rate_factor: Callable[[str], float] | None = None,
        first_step: Callable[[str], int] | None = None,
        jit_compile: bool | None = None,
    ) -> None:
        super().__init__(learning_rate=learning_rate, name="electra_optimizer")
        if algorithm not in ("adam", "adamw", "lamb"):
            raise ValueError(f"algorithm must be adam, adamw or lamb: {algorithm!r}")
        is_schedule = isinstance(learning_rate, keras.optimizers.schedules.LearningRateSchedule)
        self.schedule = learning_rate if is_schedule else None
        self.algorithm = algorithm
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.decay_rate = weight_decay
        self.max_grad_norm = max_grad_norm
        self.dynamic_loss_scale = dynamic_loss_scale
        self.rate_factor = rate_factor or _unchanged_rate
        self.first_step = first_step or _from_the_start
        self.jit_compile = jit_compile

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        learning_rate = super().get_config()["learning_rate"]
        callables = {
            name: None if value in (_unchanged_rate, _from_the_start) else value
            for name, value in (("rate_factor", self.rate_factor), ("first_step", self.first_step))
        }
        return {
            "learning_rate": learning_rate,
            "algorithm": self.algorithm,
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
            "weight_decay": self.decay_rate,
            "max_grad_norm": self.max_grad_norm,
            "dynamic_loss_scale": self.dynamic_loss_scale,
            "jit_compile": self.jit_compile,
        } | {name: keras.saving.serialize_keras_object(value) for name, value in callables.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: object = None) -> Self:
        """Returns an optimizer, without state, of what `get_config` returned."""
        names = ("learning_rate", "rate_factor", "first_step")
        return cls(
            **config | {name: keras.saving.deserialize_keras_object(config[name]) for name in names}
        )

    def scale_loss_by_default(self) -> None:
        """Scales the loss from now on, unless the constructor was told otherwise."""
        if self.dynamic_loss_scale is None:
            self.dynamic_loss_scale = True
            if self.built:
                self.loss_scale.assign(_FIRST_LOSS_SCALE)

    @classmethod
    def of_run(
        cls,
        options: RunOptions,
        rate_factor: Callable[[str], float] | None = None,
        first_step: Callable[[str], int] | None = None,
    ) -> "ElectraOptimizer":
        """Returns a run's optimizer and schedule; warns where the warm-up is most of the run."""
        if options.warmup_steps > options.train_steps // 2:
            peak = options.learning_rate * (
                1 - min(options.warmup_steps, options.train_steps / 2) / options.train_steps
            )
            peak *= min(1.0, options.train_steps / 2 / options.warmup_steps)
            logging.warning(
                "warm-up of %d steps is most of the %d steps: the learning rate will not pass %.2g; "
                "consider --warmup_ratio=0.1",
                options.warmup_steps, options.train_steps, peak,
            )  # fmt: skip
        return cls(
            WarmupPolynomialDecay(
                options.learning_rate,
                options.train_steps,
                options.warmup_steps,
                options.lr_decay_power,
                options.lr_end,
            ),
            algorithm=options.optimizer,
            beta_1=options.adam_beta_1,
            beta_2=options.adam_beta_2,
            epsilon=options.adam_epsilon,
            weight_decay=options.weight_decay,
            max_grad_norm=options.max_grad_norm,
            dynamic_loss_scale=options.precision == "mixed_float16",
            rate_factor=rate_factor,
            first_step=first_step,
            jit_compile=False if options.jit_compile == "off" else None,
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the moments; inside the strategy's scope, before a restore."""
        if self.built:
            return
        super().build(variables)
        self.first_moments = [
            self.add_variable_from_reference(v, name="first_moment") for v in variables
        ]
        self.second_moments = [
            self.add_variable_from_reference(v, name="second_moment") for v in variables
        ]

        def scalar(value: float, name: str) -> keras.Variable:
            initializer = keras.initializers.Constant(value)
            return self.add_variable(
                (), initializer, "float32", aggregation="only_first_replica", name=name
            )

        self.gradient_norm = scalar(0.0, "gradient_norm")
        self.loss_scale = scalar(
            _FIRST_LOSS_SCALE if self.dynamic_loss_scale else 1.0, "loss_scale"
        )
        self.good_steps = scalar(0.0, "good_steps")

    def current_rate(self) -> tf.Tensor:
        """Returns the rate of the coming update, a float32 scalar.

        The n-th update, from 1, has the schedule's value at n, as in the original, whose update sees
        the step counter already advanced.
        """
        if self.schedule is None:
            return tf.cast(self.learning_rate, tf.float32)
        return self.schedule(self.iterations + 1)

    def is_decayed(self, variable: keras.Variable) -> bool:
        """Whether weight decay applies to a variable, by its path."""
        return not any(word in variable.path for word in _NOT_DECAYED)

    def is_scaled(self, variable: keras.Variable) -> bool:
        """Whether LAMB scales a variable's update, by its path."""
        return not any(word in variable.path for word in _NOT_SCALED)

    def scale_loss(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss to differentiate; `apply` takes the scale out again."""
        return loss * self.loss_scale if self.dynamic_loss_scale else loss

    def _backend_apply_gradients(
        self, grads: list[tf.Tensor], trainable_variables: list[keras.Variable]
    ) -> None:
        context = tf.distribute.get_replica_context()
        grads = context.all_reduce(tf.distribute.ReduceOp.SUM, grads, options=_COMMUNICATION)
        first_steps = [self.first_step(variable.path) for variable in trainable_variables]
        begun = {first: self.iterations >= first for first in set(first_steps) if first}
        loss_scale = tf.convert_to_tensor(self.loss_scale)
        grads, norm = self._compiled(self._clip)(
            grads, loss_scale, [begun.get(f) for f in first_steps]
        )
        finite = tf.math.is_finite(norm)
        self.gradient_norm.assign(norm)
        if self.dynamic_loss_scale:
            self._update_loss_scale(finite)

        def choose(value: Any, otherwise: float) -> tf.Tensor:
            return tf.where(finite, tf.cast(value, tf.float32), otherwise)

        corrected = self.algorithm != "adam"

        def scalars_of(first: int) -> dict[str, tf.Tensor]:
            step = tf.cast(self.iterations - first, tf.float32) + 1.0
            rate = choose(self.current_rate(), 0.0)
            if first:
                # Before the first step all moments are 0: with a rate of 0 nothing moves.
                rate, step = tf.where(step > 0, rate, 0.0), tf.maximum(step, 1.0)
            return {
                "learning_rate": rate,
                "beta_1": choose(self.beta_1, 1.0),
                "beta_2": choose(self.beta_2, 1.0),
                "correction_1": self.beta_1**step if corrected else tf.constant(0.0),
                "correction_2": self.beta_2**step if corrected else tf.constant(0.0),
            }

        scalars = {first: scalars_of(first) for first in sorted(set(first_steps))}
        variables = [variable.value for variable in trainable_variables]
        slots = [self._get_variable_index(variable) for variable in trainable_variables]
        decayed = [self.is_decayed(variable) for variable in trainable_variables]
        scaled = [self.is_scaled(variable) for variable in trainable_variables]
        factors = [self.rate_factor(variable.path) for variable in trainable_variables]

        firsts = [self.first_moments[slot].value for slot in slots]
        seconds = [self.second_moments[slot].value for slot in slots]

        def update_on_device(
            _: tf.Variable,
            variables: list[tf.Variable],
            firsts: list[tf.Variable],
            seconds: list[tf.Variable],
            grads: list[tf.Tensor],
            scalars: dict[int, dict[str, tf.Tensor]],
        ) -> None:
            def update(grads: list[tf.Tensor], scalars: dict[int, dict[str, tf.Tensor]]) -> None:
                for i, first in enumerate(first_steps):
                    self._update_variable(
                        variables[i],
                        grads[i],
                        firsts[i],
                        seconds[i],
                        scalars[first],
                        self.decay_rate if decayed[i] else 0.0,
                        scaled[i],
                        factors[i],
                    )

            self._compiled(update)(grads, scalars)

        def update_everywhere(
            strategy: tf.distribute.Strategy,
            grads: list[tf.Tensor],
            scalars: dict[int, dict[str, tf.Tensor]],
        ) -> None:
            strategy.extended.update(
                variables[0],
                update_on_device,
                args=(variables, firsts, seconds, grads, scalars),
                group=False,
            )

        context.merge_call(update_everywhere, args=(grads, scalars))

    def _compiled(self, function: Callable) -> Callable:
        """Returns the function, compiled by XLA where that is wanted."""
        on_gpu = bool(tf.config.get_visible_devices("GPU"))
        if not (on_gpu if self.jit_compile is None else self.jit_compile):
            return function
        return tf.function(function, jit_compile=True, autograph=False)

    def _clip(
        self, grads: list[tf.Tensor], loss_scale: tf.Tensor, begun: list[tf.Tensor | None]
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns the gradients clipped by their global norm, and the norm.

        Args:
            grads: summed over the replicas, of the scaled loss.
            loss_scale: a scalar.
            begun: whether each variable is trained yet; None: it is from the start.
        """
        if self.dynamic_loss_scale:
            grads = [gradient / loss_scale for gradient in grads]
        grads = [
            gradient if is_trained is None else tf.where(is_trained, gradient, 0.0)
            for gradient, is_trained in zip(grads, begun, strict=True)
        ]
        norm = tf.linalg.global_norm(grads)
        clip = 1.0 if self.max_grad_norm is None else self.max_grad_norm / norm
        clip = tf.where(tf.math.is_finite(norm), tf.minimum(1.0, clip), 0.0)
        # multiply_no_nan gives 0 for 0 * NaN.
        return [tf.math.multiply_no_nan(gradient, clip) for gradient in grads], norm

    def _update_loss_scale(self, finite: tf.Tensor) -> None:
        good_steps = tf.where(finite, self.good_steps + 1.0, 0.0)
        grow = good_steps >= 2000.0
        scale = tf.where(finite, tf.where(grow, 2.0, 1.0), 0.5) * self.loss_scale
        self.loss_scale.assign(tf.clip_by_value(scale, 2.0**-14, 2.0**24))
        self.good_steps.assign(tf.where(grow, 0.0, good_steps))

    def _update_variable(
        self,
        variable: tf.Variable,
        gradient: tf.Tensor,
        first_moment: tf.Variable,
        second_moment: tf.Variable,
        scalars: dict[str, tf.Tensor],
        decay_rate: float,
        scaled: bool,
        rate_factor: float,
    ) -> None:
        """Updates one variable on one device."""
        learning_rate = scalars["learning_rate"] * rate_factor
        if self.algorithm != "lamb":
            if decay_rate:
                variable.assign_sub(variable * (learning_rate * decay_rate))
            # One kernel; with corrections of 0 it is Adam without bias correction.
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=first_moment.handle,
                v=second_moment.handle,
                beta1_power=scalars["correction_1"],
                beta2_power=scalars["correction_2"],
                lr=learning_rate,
                beta1=scalars["beta_1"],
                beta2=scalars["beta_2"],
                epsilon=self.epsilon,
                grad=gradient,
                use_locking=True,
            )
            return
        beta_1, beta_2 = scalars["beta_1"], scalars["beta_2"]
        m = first_moment.assign(beta_1 * first_moment + (1 - beta_1) * gradient)
        v = second_moment.assign(beta_2 * second_moment + (1 - beta_2) * tf.square(gradient))
        m_hat = m / (1 - scalars["correction_1"])
        v_hat = v / (1 - scalars["correction_2"])
        update = m_hat / (tf.sqrt(v_hat) + self.epsilon) + decay_rate * variable
        if scaled:
            weight_norm, update_norm = tf.norm(variable), tf.norm(update)
            trusted = (weight_norm > 0) & (update_norm > 0)
            update *= tf.where(trusted, tf.math.divide_no_nan(weight_norm, update_norm), 1.0)
        variable.assign_sub(learning_rate * update)
