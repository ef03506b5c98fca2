"""An encoder and a task's head, trained together: the keras.Model of fine-tuning."""

import collections
import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, Self

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state

from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.flops import encoder_flops
from electra_keras.modeling.layers import DropoutNoise
from electra_keras.pretraining.accumulation import Part, accumulate, on_tpu
from electra_keras.pretraining.keras_model import (
    Batch,
    ReportSums,
    StepModel,
    static_shape,
)
from electra_keras.pretraining.randomness import Purpose, make_key
from electra_keras.tasks.adaptation import Adaptation, depth_of

Outputs = tf.Tensor | dict[str, tf.Tensor]
_SHORTEST_BUCKET = 16


class Head(Protocol):
    """What a task puts on the encoder: a built Keras layer named "task_head".

    Weights are stored by their paths: no two may have the same, so a weight needs a name where a layer
    has several. For `model.save("x.keras")` it needs `get_config`, and to be registered by
    `keras.saving.register_keras_serializable`.
    """

    def __call__(self, hidden: tf.Tensor, batch: Batch) -> Outputs:
        """Maps [batch, length, hidden_size] to float32 outputs, the batch first, without dropout."""

    def loss(self, hidden: tf.Tensor, batch: Batch, noise: DropoutNoise | None) -> tf.Tensor:
        """Returns the float32 loss of each example, [batch]."""


def check_length(config: ElectraConfig, max_seq_length: int) -> None:
    """Checks that an encoder can be fine-tuned on inputs of a length, before anything is written.

    Raises:
        UsageError: the model holds no discriminator, or has fewer positions than max_seq_length.
    """
    if config.discriminator is None:
        raise UsageError("the model holds no discriminator, which is what is fine-tuned")
    if max_seq_length > config.discriminator.max_position_embeddings:
        raise UsageError(
            f"--max_seq_length={max_seq_length} is more than the model's "
            f"{config.discriminator.max_position_embeddings} positions"
        )


@keras.saving.register_keras_serializable("electra_keras")
class FineTuner(StepModel):
    """Fine-tuning of a pre-trained discriminator (the original's finetune/, Clark et al. 2020).

    A batch is a dictionary of `input_ids`, `segment_ids` int32 [batch, max_seq_length], `lengths` int32
    [batch] and what the head's loss needs. The loss is the mean over the global batch, or its sum.

    A batch is computed at the shortest of the lengths 16, 32, 64, ... max_seq_length that holds its
    longest example: padding changes nothing but the time.

    `electra_keras.models.load_finetuned` makes one of a run directory.

    Args:
        config: of the model directory; its discriminator is used.
        make_head: builds the task's head from the encoder's configuration.
        max_seq_length: of the batches.
        seed: of dropout. Initial weights follow keras.utils.set_random_seed.
        gradient_accumulation_steps: micro-batches that a replica's batch is split into.
        loss_reduction: "mean" over the examples of a batch, or their "sum", the original's (D7.32).
        adaptation: what of the encoder is trained.
        recompute: of the encoder, see `Encoder`.
        kwargs: `name` and `dtype` of the model, for `keras.Model`.

    Raises:
        UsageError: the model holds no discriminator, or has fewer positions than max_seq_length.
    """

    report_names = ("tokens", "examples", "loss")
    report_size = 3
    input_shapes: ClassVar = {
        "input_ids": (None, None), "segment_ids": (None, None), "lengths": (None,)
    }  # fmt: skip

    def __init__(
        self,
        config: ElectraConfig,
        make_head: Callable[[object], Head],
        max_seq_length: int,
        seed: int = 42,
        gradient_accumulation_steps: int = 1,
        loss_reduction: str = "mean",
        adaptation: Adaptation | None = None,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        check_length(config, max_seq_length)
        super().__init__(**{"name": "fine_tuner"} | kwargs)
        self.config, self.seed = config, seed
        self.max_seq_length = max_seq_length
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.loss_reduction = loss_reduction
        # The pre-trained model's name, so that its weights have the same paths.
        self.adaptation = adaptation or Adaptation()
        lora = self.adaptation.lora
        self.encoder = Encoder(
            config.discriminator,
            lora=lora,
            recompute=recompute,
            name="discriminator",
            dtype=self.dtype_policy,
        )
        self.encoder.build()
        self.adaptation.freeze(self.encoder)
        with _numbered_anew():
            self.head = make_head(config.discriminator)
        self.report_sums = ReportSums(self.report_size, self.summarize_tensor)
        self.use_xla = False
        self.built = True
        self.buckets = [max_seq_length]
        while self.buckets[0] > _SHORTEST_BUCKET:
            self.buckets.insert(0, max(_SHORTEST_BUCKET, self.buckets[0] // 2))

    def get_config(self) -> dict[str, Any]:
        """Returns what makes the model again, as JSON values; the head is one of them."""
        return super().get_config() | {
            "config": json.loads(self.config.to_json()),
            "head": keras.saving.serialize_keras_object(self.head),
            "max_seq_length": self.max_seq_length,
            "seed": self.seed,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "loss_reduction": self.loss_reduction,
            "adaptation": dataclasses.asdict(self.adaptation),
            "recompute": self.encoder.recompute,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: object = None) -> Self:
        """Returns a model, without weights, of what `get_config` returned."""
        values = dict(config)
        sizes = ElectraConfig.from_json(json.dumps(values.pop("config")))
        adaptation, frozen = Adaptation(**values.pop("adaptation")), values.pop("frozen")
        with _numbered_anew():
            values = keras.saving.deserialize_keras_object(values)
        head = values.pop("head")
        model = cls(sizes, lambda encoder: head, adaptation=adaptation, **values)
        model.freeze(frozen)
        return model

    def call(self, inputs: Batch, training: bool = False) -> Outputs:
        """Returns the head's outputs, without dropout."""
        return self.head(self._encode(inputs, None, compiled=False), inputs)

    def _encode(self, batch: Batch, noise: DropoutNoise | None, compiled: bool) -> tf.Tensor:
        length = tf.shape(batch["input_ids"])[1]
        lengths = tf.cast(batch["lengths"], tf.float32)
        mask = tf.cast(tf.range(tf.cast(length, tf.float32)) < lengths[:, tf.newaxis], tf.int32)
        return self.encoder(
            batch["input_ids"], mask, batch.get("segment_ids"), noise=noise, compiled=compiled
        )

    def _forward_backward(self, batch: Batch, key: tf.Tensor, count: tf.Tensor) -> list[tf.Tensor]:
        """Returns one micro-batch's share of the gradients, and behind them its report [3].

        Args:
            batch: the micro-batch.
            key: int32 [2], of dropout.
            count: float32, what the sum of the losses is divided by.
        """
        variables = [variable.value for variable in self.trainable_variables]
        # Nothing else is watched: what lies below the lowest trained layer then has no backward pass.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            noise = DropoutNoise(key)
            # On TPU the whole step is compiled.
            hidden = self._encode(batch, noise, compiled=self.use_xla and not on_tpu())
            loss = tf.reduce_sum(self.head.loss(hidden, batch, noise))
            scaled_loss = self.optimizer.scale_loss(loss / count)
        gradients = tape.gradient(scaled_loss, variables, unconnected_gradients="zero")
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return [*gradients, _report(batch, loss)]

    def _at_bucket(self, length: int, batch: Batch, *args: tf.Tensor) -> list[tf.Tensor]:
        """Runs `_forward_backward` on the first `length` positions."""
        cut = {name: batch[name][:, :length] for name in ("input_ids", "segment_ids")}
        return self._forward_backward({**batch, **cut}, *args)

    def training_update(self, batch: Batch, longest: tf.Tensor | None = None) -> tf.Tensor:
        """Makes one optimizer step in the current replica; returns its report [3].

        Args:
            batch: this replica's.
            longest: int32 [replicas x micro-batches], the longest example's tokens in each micro-batch
                of the global batch; None: it is looked up in the batch.
        """
        context = tf.distribute.get_replica_context()
        micro_batches, rows = self.gradient_accumulation_steps, static_shape(batch)[0]
        count = tf.constant(1.0)
        if self.loss_reduction == "mean":
            count *= rows * context.num_replicas_in_sync
        buckets = self.buckets[-1:] if on_tpu() else self.buckets
        step = self.optimizer.iterations

        def run(index: tf.Tensor | int, part: Part) -> tuple[list[tf.Tensor], tf.Tensor]:
            batch_slice = context.replica_id_in_sync_group * micro_batches + index
            key = make_key(self.seed, Purpose.DISCRIMINATOR_DROPOUT, step, batch_slice)
            micro_batch = {name: part(values) for name, values in batch.items()}
            known = longest is not None
            tokens = longest[batch_slice] if known else tf.reduce_max(micro_batch["lengths"])
            branches = [
                lambda length=length: self._at_bucket(length, micro_batch, key, count)
                for length in buckets
            ]
            bucket = tf.reduce_sum(tf.cast(tokens > tf.constant(buckets[:-1], tf.int32), tf.int32))
            *gradients, report = (
                branches[0]() if len(branches) == 1 else tf.switch_case(bucket, branches)
            )
            return gradients, report

        shapes = [(variable.shape, variable.dtype) for variable in self.trainable_variables]
        gradients, report = accumulate(run, rows, micro_batches, shapes, self.report_size)
        self.optimizer.apply(gradients, self.trainable_variables)
        return report

    def evaluation_statistics(self, batch: Batch, step: tf.Tensor) -> tf.Tensor:
        """Returns the report [3] of one evaluation batch; without dropout, whatever `step`."""
        hidden = self._encode(batch, None, compiled=False)
        return _report(batch, tf.reduce_sum(self.head.loss(hidden, batch, None)))

    @property
    def flops_per_example(self) -> int:
        """Operations of the encoder in one example's training step."""
        return 3 * encoder_flops(self.config.discriminator, self.max_seq_length)

    def summarize(self, totals: np.ndarray) -> dict[str, float]:
        """Turns the sum of reports into metrics."""
        _, examples, loss = totals.tolist()
        return {"loss": loss / examples}

    def summarize_tensor(self, totals: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns the sum of reports, float64 [3], into metrics in the graph."""
        return {"loss": totals[2] / totals[1]}

    def describe(self, metrics: Mapping[str, float]) -> str:
        """Returns the metrics of a log line."""
        return f"loss {metrics['loss']:.4f}"


@contextlib.contextmanager
def _numbered_anew() -> Iterator[None]:
    """Names layers without a name, "dense", "dense_1", as in a process that has made no other.

    Weights are stored by the paths that follow from it, and a head has to have the same ones wherever it
    is made. Keras can only forget all numbers, which would give later layers names that exist.
    """
    before = global_state.get_global_attribute("object_name_uids")
    global_state.set_global_attribute("object_name_uids", collections.defaultdict(int))
    try:
        yield
    finally:
        global_state.set_global_attribute("object_name_uids", before)


def _report(batch: Batch, loss: tf.Tensor) -> tf.Tensor:
    """Returns `report_names` of a batch, float32 [3]; `loss` is the sum over its examples."""
    examples = tf.cast(tf.shape(batch["lengths"])[0], tf.float32)
    tokens = tf.reduce_sum(tf.cast(batch["lengths"], tf.float32))
    return tf.stack([tokens, examples, loss])


@keras.saving.register_keras_serializable("electra_keras")
@dataclasses.dataclass(frozen=True)
class LayerwiseRate:
    """The factor of the learning rate by a variable's path (D7.33), for `ElectraOptimizer`.

    The head has 1, the top layer `decay`, each layer below `decay` times the one above, the
    embeddings `decay` once more.

    Attributes:
        decay: 1 for none.
        num_layers: of the encoder.
        original: as google-research/electra computes it, one power more below the head.
    """

    decay: float
    num_layers: int
    original: bool

    def __call__(self, path: str) -> float:
        """Returns the factor of the variable at a path."""
        depth = depth_of(path)
        return 1.0 if depth is None else self.decay ** (self.num_layers + 1 - depth + self.original)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the function of what `get_config` returned."""
        return cls(**config)
