"""Generator and discriminator, trained together: the keras.Model with its own train_step."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from electra_keras.config import ElectraConfig
from electra_keras.modeling.compiled import CompiledFunction, Keep, keep_nothing
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.flops import training_flops
from electra_keras.modeling.heads import MaskedLanguageModelHead, ReplacedTokenHead
from electra_keras.modeling.layers import DropoutNoise, Embeddings
from electra_keras.pretraining import statistics
from electra_keras.pretraining.accumulation import Part, accumulate, on_tpu
from electra_keras.pretraining.keras_model import (
    Batch,
    ReportSums,
    StepModel,
    static_shape,
)
from electra_keras.pretraining.masking import (
    MaskedTokens,
    MaskingNoise,
    corrupt_tokens,
    mask_tokens,
)
from electra_keras.pretraining.objectives import (
    masked_language_model_loss,
    replaced_token_loss,
    sample_tokens,
)
from electra_keras.pretraining.randomness import Purpose, batch_uniforms, make_key

# Evaluation draws from streams of its own, the same ones each time, whatever the run's seed.
_EVALUATION_SEED = 0x5EED


@keras.saving.register_keras_serializable("electra_keras")
class ElectraPretrainer(StepModel):
    """Replaced-token detection (Clark et al. 2020, arXiv 2003.10555).

    A batch is a dictionary of int32 [batch, length] tensors `input_ids`, `input_mask` and `segment_ids`
    (0 where they are missing) of static shape. Masks, samples and dropout follow from (seed, step, place
    in the global batch), so a step can be repeated exactly.

    The loss is the mean over all tokens of the *global* batch, over micro-batches and replicas: the
    generator's over all predicted positions, the discriminator's over all real tokens. It is the
    same number however the batch is split.

    Args:
        config: sizes and objective.
        seed: of masks, samples and dropout. Initial weights follow keras.utils.set_random_seed.
        gradient_accumulation_steps: micro-batches that a replica's batch is split into.
        pad_to_multiple_of: of the generator's head, see `MaskedLanguageModelHead`.
        recompute: of both encoders, see `Encoder`.
        kwargs: `name` and `dtype` of the model, for `keras.Model`.

    Example:
        model = ElectraPretrainer(config)
        model.compile(optimizer=ElectraOptimizer(learning_rate=5e-4))
        model.fit(dataset, steps_per_epoch=100)
        model.save("electra.keras")

    `electra_keras.models.load_pretrainer` makes one of a model directory.
    """

    input_shapes = dict.fromkeys(("input_ids", "input_mask", "segment_ids"), (None, None))

    def __init__(
        self,
        config: ElectraConfig,
        seed: int = 42,
        gradient_accumulation_steps: int = 1,
        pad_to_multiple_of: int = 1,
        recompute: bool = False,
        **kwargs: Any,
    ) -> None:
        config.require_both("the configuration")
        super().__init__(**{"name": "electra"} | kwargs)
        self.config = config
        self.seed = seed
        self.gradient_accumulation_steps = gradient_accumulation_steps
        self.pad_to_multiple_of, self.recompute = pad_to_multiple_of, recompute
        settings = {"recompute": recompute, "dtype": self.dtype_policy}
        self.discriminator = Encoder(config.discriminator, name="discriminator", **settings)
        shared = self.discriminator.embeddings
        if config.embedding_sharing == "encoder":
            self.generator = self.discriminator
        else:
            embeddings = {
                "all": lambda: shared,
                "token": lambda: Embeddings(
                    config.generator,
                    shared.token_embedding,
                    name="embeddings",
                    dtype=self.dtype_policy,
                ),
                "none": lambda: None,
            }[config.embedding_sharing]()
            self.generator = Encoder(config.generator, embeddings, name="generator", **settings)
        self.generator_head = MaskedLanguageModelHead(
            config.generator,
            self.generator.embeddings.token_embedding,
            pad_to_multiple_of,
            name="generator_head",
            dtype=self.dtype_policy,
        )
        self.discriminator_head = ReplacedTokenHead(
            config.discriminator, name="discriminator_head", dtype=self.dtype_policy
        )
        self.report_sums = ReportSums(self.report_size, self.summarize_tensor)
        self.use_xla = False
        for layer in (
            self.discriminator, self.discriminator_head, self.generator, self.generator_head,
        ):  # fmt: skip
            if not layer.built:
                layer.build()
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments as JSON values."""
        return super().get_config() | {
            "config": json.loads(self.config.to_json()),
            "seed": self.seed,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "pad_to_multiple_of": self.pad_to_multiple_of,
            "recompute": self.recompute,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: object = None) -> Self:
        """Returns a model, without weights, of what `get_config` returned."""
        values = dict(config)
        sizes = ElectraConfig.from_json(json.dumps(values.pop("config")))
        frozen = values.pop("frozen")
        model = cls(sizes, **keras.saving.deserialize_keras_object(values))
        model.freeze(frozen)
        return model

    def call(self, inputs: Batch, training: bool = False) -> dict[str, tf.Tensor]:
        """Runs the discriminator on text as it is, without dropout.

        Returns:
            `sequence_output` [batch, length, hidden_size] and `replaced_logits` float32
            [batch, length], above 0 where the token looks replaced.
        """
        hidden = self.discriminator(
            inputs["input_ids"], inputs["input_mask"], inputs.get("segment_ids")
        )
        return {"sequence_output": hidden, "replaced_logits": self.discriminator_head(hidden)}

    # ------------------------------------------------------------------------------------------
    # One batch, split over replicas and micro-batches

    def _compiles_parts(self) -> bool:
        """Whether XLA compiles the parts of a step; on TPU the whole step is compiled."""
        return self.use_xla and not on_tpu()

    def _mask(self, batch: Batch, seed: int, step: tf.Tensor) -> tuple[MaskedTokens, tf.Tensor]:
        """Masks this replica's batch; also returns the sampling noise [batch, predictions, 2]."""
        rows, length = static_shape(batch)
        context = tf.distribute.get_replica_context()
        replica, num_replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync
        slots = self.config.max_predictions_per_seq

        def uniforms(purpose: Purpose, *shape: int) -> tf.Tensor:
            key = make_key(seed, purpose, step)
            return batch_uniforms(key, (rows, *shape), replica, num_replicas)

        def mask(input_ids: tf.Tensor, input_mask: tf.Tensor, noise: MaskingNoise) -> MaskedTokens:
            config = self.config
            return mask_tokens(
                input_ids,
                input_mask,
                noise,
                config,
                special_ids=(config.cls_token_id, config.sep_token_id, config.mask_token_id),
                mask_id=config.mask_token_id,
            )

        if self._compiles_parts():
            mask = tf.function(mask, jit_compile=True, autograph=False)
        noise = MaskingNoise(
            scores=uniforms(Purpose.MASK_POSITIONS, length),
            keep=uniforms(Purpose.MASK_TOKENS, slots),
        )
        masked = mask(batch["input_ids"], batch["input_mask"], noise)
        return masked, uniforms(Purpose.SAMPLES, slots, 2)

    def _forward(
        self,
        batch: Batch,
        masked: MaskedTokens,
        sample_uniforms: tf.Tensor,
        generator_noise: DropoutNoise | None,
        discriminator_noise: DropoutNoise | None,
        compiled: bool,
    ) -> dict[str, tf.Tensor]:
        """Runs generator, sampling and discriminator on one micro-batch."""
        config = self.config

        # All of it in one function, as the kernels of integers outside XLA run on the host of a GPU.
        def sample(
            inputs: Sequence[tf.Tensor], masked: MaskedTokens, uniforms: tf.Tensor,
            input_ids: tf.Tensor, keep: Keep = keep_nothing,
        ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:  # fmt: skip
            (logits,) = inputs
            sampled_ids = sample_tokens(
                logits,
                uniforms,
                config.temperature,
                masked.labels if config.disallow_correct else None,
            )
            label_logits = tf.gather(logits, masked.labels, batch_dims=2)
            shown = tf.gather(masked.input_ids, masked.positions, batch_dims=1)
            corrupted_ids, replaced = corrupt_tokens(input_ids, masked, sampled_ids)
            return masked_language_model_loss(logits, masked.labels, keep), {
                "generator_correct": label_logits >= tf.reduce_max(logits, axis=-1),
                "sampled_correct": sampled_ids == masked.labels,
                "hidden": shown == config.mask_token_id,
                "corrupted_ids": corrupted_ids,
                "replaced": replaced,
            }

        def judge(hidden: tf.Tensor) -> tf.Tensor:
            return self.discriminator_head(hidden)

        if compiled:
            sample = CompiledFunction(sample)
            judge = tf.function(judge, jit_compile=True, autograph=False)
        rest = batch["input_mask"], batch["segment_ids"]
        hidden = self.generator(masked.input_ids, *rest, noise=generator_noise, compiled=compiled)
        # Not compiled: TensorFlow's products with the vocabulary, and its sum for the bias, are faster.
        logits = self.generator_head(hidden, masked.positions)
        nll, sampled = sample([logits], masked, sample_uniforms, batch["input_ids"])
        hidden = self.discriminator(
            sampled["corrupted_ids"], *rest, noise=discriminator_noise, compiled=compiled
        )
        return sampled | {"generator_nll": nll, "discriminator_logits": judge(hidden)}

    def _forward_backward(
        self,
        batch: Batch,
        masked: MaskedTokens,
        sample_uniforms: tf.Tensor,
        dropout_keys: tuple[tf.Tensor, tf.Tensor],
        counts: tf.Tensor,
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns one micro-batch's share of the gradients, and its statistics.

        Args:
            batch, masked, sample_uniforms: the micro-batch.
            dropout_keys: int32 [2] each, of generator and discriminator.
            counts: float32 [2], predicted positions and real tokens of the global batch.
        """
        streams = [DropoutNoise(key) for key in dropout_keys]
        compiled = self._compiles_parts()
        with tf.GradientTape() as tape:
            outputs = self._forward(batch, masked, sample_uniforms, *streams, compiled)
            discriminator_nll = replaced_token_loss(
                outputs["discriminator_logits"], outputs["replaced"]
            )
            mask = tf.cast(batch["input_mask"], tf.float32)
            generator_loss = tf.reduce_sum(masked.weights * outputs["generator_nll"]) / counts[0]
            discriminator_loss = tf.reduce_sum(mask * discriminator_nll) / counts[1]
            loss = (
                self.config.generator_weight * generator_loss
                + self.config.discriminator_weight * discriminator_loss
            )
            scaled_loss = self.optimizer.scale_loss(loss)
        variables = [variable.value for variable in self.trainable_variables]
        gradients = tape.gradient(scaled_loss, variables)
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        return gradients, self._statistics(batch, masked, outputs, discriminator_nll)

    def _statistics(
        self,
        batch: Batch,
        masked: MaskedTokens,
        outputs: Mapping[str, tf.Tensor],
        discriminator_nll: tf.Tensor,
    ) -> tf.Tensor:
        return statistics.collect(
            masked.weights,
            outputs["generator_nll"],
            outputs["generator_correct"],
            outputs["sampled_correct"],
            outputs["hidden"],
            batch["input_mask"],
            discriminator_nll,
            outputs["discriminator_logits"],
            outputs["replaced"],
        )

    def compute_gradients(self, batch: Batch, step: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns this replica's share of the global batch's gradients, and its statistics.

        Args:
            batch: this replica's part of the global batch.
            step: int, number of the optimizer step, which decides all random numbers.

        Returns:
            gradients of the (scaled) loss; their sum over replicas is the whole gradient.
            statistics float32 [statistics.SIZE]; their sum over replicas is the whole batch's.
        """
        context = tf.distribute.get_replica_context()
        micro_batches = self.gradient_accumulation_steps
        rows = batch["input_ids"].shape[0]
        masked, sample_uniforms = self._mask(batch, self.seed, step)
        counts = tf.stack(
            [
                tf.reduce_sum(masked.weights),
                tf.reduce_sum(tf.cast(batch["input_mask"], tf.float32)),
            ]
        )
        counts = context.all_reduce(tf.distribute.ReduceOp.SUM, counts) + 1e-6  # D2.9, D3.14

        def run(index: tf.Tensor | int, part: Part) -> tuple[list[tf.Tensor], tf.Tensor]:
            batch_slice = context.replica_id_in_sync_group * micro_batches + index
            dropout_keys = tuple(
                make_key(self.seed, purpose, step, batch_slice)
                for purpose in (Purpose.GENERATOR_DROPOUT, Purpose.DISCRIMINATOR_DROPOUT)
            )
            return self._forward_backward(
                {name: part(tensor) for name, tensor in batch.items()},
                MaskedTokens(*(part(tensor) for tensor in masked)),
                part(sample_uniforms),
                dropout_keys,
                counts,
            )

        shapes = [(variable.shape, variable.dtype) for variable in self.trainable_variables]
        return accumulate(run, rows, micro_batches, shapes, statistics.SIZE)

    # ------------------------------------------------------------------------------------------
    # Steps

    def training_update(self, batch: Batch) -> tf.Tensor:
        """Makes one optimizer step in the current replica; returns its statistics [SIZE]."""
        gradients, stats = self.compute_gradients(batch, self.optimizer.iterations)
        self.optimizer.apply(gradients, self.trainable_variables)
        return stats

    def corrupt(self, batch: Batch, step: tf.Tensor) -> tuple[MaskedTokens, dict[str, tf.Tensor]]:
        """Masks, samples and judges one evaluation batch, without dropout.

        Args:
            batch: this replica's part.
            step: int, number of the batch; the same number always draws the same masks and samples.

        Returns:
            the masked batch, and a dictionary with `corrupted_ids`, `replaced`,
            `discriminator_logits` [batch, length] and the generator's outputs.
        """
        masked, sample_uniforms = self._mask(batch, _EVALUATION_SEED, step)
        return masked, self._forward(batch, masked, sample_uniforms, None, None, compiled=False)

    def evaluation_statistics(self, batch: Batch, step: tf.Tensor) -> tf.Tensor:
        """Returns the statistics [SIZE] of one evaluation batch in the current replica."""
        masked, outputs = self.corrupt(batch, step)
        nll = replaced_token_loss(outputs["discriminator_logits"], outputs["replaced"])
        return self._statistics(batch, masked, outputs, nll)

    # --- for the training loop ------------------------------------------------------------------

    report_names = statistics.SUMS
    report_size = statistics.SIZE

    @property
    def flops_per_example(self) -> int:
        """Operations of one example's training step."""
        return training_flops(self.config)

    def summarize(self, totals: np.ndarray) -> dict[str, float]:
        """Turns sums of statistics [SIZE] into metrics."""
        config = self.config
        return statistics.summarize(totals, config.generator_weight, config.discriminator_weight)

    def summarize_tensor(self, totals: tf.Tensor) -> dict[str, tf.Tensor]:
        """Turns sums of statistics, float64 [SIZE], into metrics in the graph."""
        config = self.config
        return statistics.summarize_tensor(
            totals, config.generator_weight, config.discriminator_weight
        )

    def describe(self, metrics: Mapping[str, float]) -> str:
        """Returns the metrics of a log line."""
        return (
            "loss {loss:.3f}  generator at [MASK] {generator_masked_loss:.3f}  "
            "discriminator {discriminator_loss:.4f}  auc {discriminator_auc:.3f}"
        ).format(**metrics)
