"""The learning rate as a function of the step."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("electra_keras")
class WarmupPolynomialDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Polynomial decay times linear warm-up, the original's (D5.27).

    rate(step) = (lr - end) * (1 - step / train_steps)^power + end, times min(1, step / warmup_steps).
    The warm-up multiplies the decay: the first step's rate is 0 and the peak, at the end of the
    warm-up, is a little below `learning_rate`.

    Args:
        learning_rate: at step 0, were there no warm-up.
        train_steps: where the decay ends; later steps have rate `end`.
        warmup_steps: 0 for none.
        power, end: of the decay.
    """

    def __init__(
        self,
        learning_rate: float,
        train_steps: int,
        warmup_steps: int,
        power: float = 1.0,
        end: float = 0.0,
    ) -> None:
        self.initial_rate, self.train_steps, self.warmup_steps = (
            learning_rate,
            train_steps,
            warmup_steps,
        )
        self.power, self.end = power, end

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the float32 rate at integer `step`."""
        step = tf.cast(step, tf.float32)
        left = 1.0 - tf.minimum(step / self.train_steps, 1.0)
        rate = (self.initial_rate - self.end) * left**self.power + self.end
        if self.warmup_steps:
            rate *= tf.minimum(1.0, step / self.warmup_steps)
        return rate

    def get_config(self) -> dict[str, float]:
        """Returns the constructor's arguments."""
        return {
            "learning_rate": self.initial_rate,
            "train_steps": self.train_steps,
            "warmup_steps": self.warmup_steps,
            "power": self.power,
            "end": self.end,
        }
