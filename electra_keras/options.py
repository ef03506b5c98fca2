"""What a run can be told: model, data and training options, with presets.

Each field carries its help text, and `electra_keras.flags` makes the command-line flags from them, so
that a default stands in one place only.
"""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from electra_keras.config import EMBEDDING_SHARING, ElectraConfig, EncoderConfig, named, require
from electra_keras.console import UsageError

MODEL_SIZES: Mapping[str, Mapping[str, Any]] = {
    # The paper's table 6 (arXiv 2003.10555, appendix A) and the original's configure_pretraining.py;
    # "tiny" is ours, for two CPU cores.
    "tiny": dict(
        embedding_size=128, hidden_size=128, num_hidden_layers=4, num_attention_heads=2,
        generator_hidden_size=0.5, mask_prob=0.15, max_seq_length=128,
        learning_rate=1e-3, train_batch_size=32, train_steps=100_000,
    ),
    "small": dict(
        embedding_size=128, hidden_size=256, num_hidden_layers=12, num_attention_heads=4,
        generator_hidden_size=0.25, mask_prob=0.15, max_seq_length=128,
        learning_rate=5e-4, train_batch_size=128, train_steps=1_000_000,
    ),
    "base": dict(
        embedding_size=768, hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
        generator_hidden_size=1 / 3, mask_prob=0.15, max_seq_length=512,
        learning_rate=2e-4, train_batch_size=256, train_steps=766_000,
    ),
    "large": dict(
        embedding_size=1024, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        generator_hidden_size=0.25, mask_prob=0.25, max_seq_length=512,
        learning_rate=2e-4, train_batch_size=2048, train_steps=400_000,
    ),
}  # fmt: skip


def option(
    default: Any, help: str, choices: tuple[str, ...] = (), may_be_empty: bool = False
) -> Any:
    """A dataclass field that becomes a flag with this default, help text and choices.

    Where the default is None, an empty value unsets the flag, unless that `may_be_empty`.
    """
    metadata = {"help": help, "choices": choices, "may_be_empty": may_be_empty}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class ModelOptions:
    """The model and its objective; what is not given has the value of --model_size."""

    model_size: str = option("small", "Preset of sizes and rates.", tuple(MODEL_SIZES))
    embedding_size: int | None = option(None, "Width of the token embeddings.")
    hidden_size: int | None = option(None, "Width of the discriminator.")
    num_hidden_layers: int | None = option(None, "Layers of the discriminator.")
    num_attention_heads: int | None = option(None, "Attention heads of the discriminator.")
    intermediate_size: int | None = option(None, "Feed-forward width; default 4 x hidden_size.")
    max_position_embeddings: int = option(512, "Longest input that has position embeddings.")
    generator_hidden_size: float | None = option(None, "Generator width / discriminator width.")
    generator_layers: float = option(1.0, "Generator layers / discriminator layers.")
    embedding_sharing: str = option(
        "all",
        "What generator and discriminator share: all embeddings, the token table, nothing, or the "
        "whole encoder.",
        EMBEDDING_SHARING,
    )
    hidden_dropout_prob: float = option(0.1, "Dropout after embeddings and sub-layers.")
    attention_probs_dropout_prob: float = option(0.1, "Dropout of attention probabilities.")
    initializer_range: float = option(0.02, "Standard deviation of the initial weights.")
    position_initializer: str = option(
        "truncated_normal",
        "Initial position embeddings: the original's, or sinusoidal, with which small models learn "
        "to look at neighbours much sooner. Both are trained.",
        ("truncated_normal", "sinusoidal"),
    )
    max_seq_length: int | None = option(None, "Tokens per example; default: the records' length.")
    mask_prob: float | None = option(None, "Share of tokens that the generator predicts.")
    masking: str = option(
        "unique",
        "Draw masked positions without replacement, or with, as the original code does.",
        ("unique", "original"),
    )
    mask_token_prob: float = option(0.85, "Share of the masked positions that become [MASK].")
    temperature: float = option(1.0, "Temperature of the generator's samples.")
    disallow_correct: bool = option(False, "Never let the generator sample the original token.")
    generator_weight: float = option(1.0, "Weight of the generator's loss.")
    discriminator_weight: float = option(50.0, "Weight of the discriminator's loss.")

    # What weights to start from decide, unless one of these is given.
    SIZES: ClassVar = frozenset(
        {
            "model_size",
            "embedding_size",
            "hidden_size",
            "num_hidden_layers",
            "num_attention_heads",
            "intermediate_size",
            "max_position_embeddings",
            "generator_hidden_size",
            "generator_layers",
            "embedding_sharing",
        }
    )

    def adapt(self, base: ElectraConfig, given: Collection[str], **values: Any) -> ElectraConfig:
        """Returns the configuration of a run that starts from weights: `base`'s sizes and objective.

        Args:
            base: the weights' configuration.
            given: options that the user gave; these are taken from `self`.
            values: `max_seq_length` and the tokenizer's fields of `ElectraConfig`.
        """
        options = {name: getattr(self, name) for name in given}
        in_encoder = {field.name for field in dataclasses.fields(EncoderConfig)} & set(options)
        changes = {name: options.pop(name) for name in in_encoder}
        options.pop("max_seq_length", None)
        encoders = {
            name: dataclasses.replace(encoder, **changes) for name, encoder in base.encoders.items()
        }
        return dataclasses.replace(base, **encoders, **options, **values)

    def preset(self, name: str) -> Any:
        """Returns the option `name`, or the preset's value where it was not given."""
        value = getattr(self, name)
        return MODEL_SIZES[self.model_size][name] if value is None else value

    def resolve(
        self, *, vocab_size: int, max_seq_length: int, **tokenization: int | bool | None
    ) -> ElectraConfig:
        """Returns the complete configuration for a vocabulary and records of this length.

        `tokenization` are the special tokens' ids and the casing, fields of `ElectraConfig`.

        Generator sizes follow the original's get_generator_config: width and layers are rounded
        shares of the discriminator's, one head per 64 of width, feed-forward 4 x the width.
        """
        hidden_size = self.preset("hidden_size")
        discriminator = EncoderConfig(
            vocab_size=vocab_size,
            embedding_size=self.preset("embedding_size"),
            hidden_size=hidden_size,
            num_hidden_layers=self.preset("num_hidden_layers"),
            num_attention_heads=self.preset("num_attention_heads"),
            intermediate_size=self.intermediate_size or 4 * hidden_size,
            max_position_embeddings=self.max_position_embeddings,
            hidden_dropout_prob=self.hidden_dropout_prob,
            attention_probs_dropout_prob=self.attention_probs_dropout_prob,
            initializer_range=self.initializer_range,
            position_initializer=self.position_initializer,
        )
        generator_hidden_size = round(hidden_size * self.preset("generator_hidden_size"))
        with named("the generator"):
            generator = dataclasses.replace(
                discriminator,
                hidden_size=generator_hidden_size,
                num_hidden_layers=round(discriminator.num_hidden_layers * self.generator_layers),
                num_attention_heads=max(1, generator_hidden_size // 64),
                intermediate_size=4 * generator_hidden_size,
            )
        return ElectraConfig(
            discriminator=discriminator,
            generator=generator,
            embedding_sharing=self.embedding_sharing,
            max_seq_length=max_seq_length,
            mask_prob=self.preset("mask_prob"),
            masking=self.masking,
            mask_token_prob=self.mask_token_prob,
            temperature=self.temperature,
            disallow_correct=self.disallow_correct,
            generator_weight=self.generator_weight,
            discriminator_weight=self.discriminator_weight,
            **tokenization,
        )


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Where the records come from and how they are read."""

    data_dir: str | None = option(
        None, "Directory of TFRecords (data_tools.build_pretraining_data, or the original's)."
    )
    train_files: str | None = option(
        None, "Comma-separated globs of records, in place of data_dir."
    )
    validation_files: str | None = option(None, "Comma-separated globs of held-out records.")
    vocab_file: str | None = option(None, "Vocabulary; default: vocab.txt of the data directory.")
    shuffle_buffer: int = option(20_000, "Examples that are shuffled together.")
    skip_bad_records: bool = option(
        False, "Count and skip damaged or unreadable records in place of stopping."
    )

    OVERRIDES: ClassVar = {
        "data_dir": ("train_files", "validation_files"),
        "train_files": ("data_dir",),
    }

    def __post_init__(self) -> None:
        require(self.shuffle_buffer >= 1, "--shuffle_buffer must be at least 1")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """One run of the training loop, pre-training or fine-tuning."""

    model_dir: str | None = option(None, "Run directory: configuration, checkpoints, logs.")
    train_steps: int | None = option(None, "Optimizer steps of the whole run.")
    train_batch_size: int | None = option(None, "Examples per optimizer step, over all replicas.")
    gradient_accumulation_steps: int = option(1, "Micro-batches per optimizer step and replica.")
    recompute: bool = option(
        False,
        "Keep only each layer's input for the backward pass, and compute the layer again there: much "
        "less memory, about a third more time.",
    )
    learning_rate: float | None = option(None, "Peak learning rate, before warm-up's share.")
    warmup_steps: int | None = option(
        None, "Warm-up steps; default: 10,000 in pre-training, as the original, 10% in fine-tuning."
    )
    warmup_ratio: float | None = option(None, "Warm-up as a share of train_steps.")
    lr_end: float = option(0.0, "Learning rate at the end of the polynomial decay.")
    lr_decay_power: float = option(1.0, "Power of the polynomial decay.")
    optimizer: str = option(
        "adam",
        "adam: the original's, without bias correction; adamw: with; lamb: layer-wise rates.",
        ("adam", "adamw", "lamb"),
    )
    adam_beta_1: float = option(0.9, "Decay of the first moment.")
    adam_beta_2: float = option(0.999, "Decay of the second moment.")
    adam_epsilon: float = option(1e-6, "Added to the root of the second moment.")
    weight_decay: float = option(0.01, "Decoupled; not on biases and LayerNorm.")
    max_grad_norm: float = option(1.0, "Global norm that gradients are clipped to.")
    seed: int = option(42, "Seed of initial weights, data order, masks, samples and dropout.")
    strategy: str = option(
        "auto",
        "auto: multi_worker with TF_CONFIG, else mirrored with several GPUs, else one_device.",
        ("auto", "one_device", "mirrored", "multi_worker", "tpu"),
    )
    logical_cpus: int = option(1, "Split the CPU into so many devices, to try --strategy=mirrored.")
    tpu: str | None = option(None, "TPU name or address for --strategy=tpu; 'local' for a TPU VM.")
    precision: str = option(
        "float32", "Precision of the computation.", ("float32", "mixed_bfloat16", "mixed_float16")
    )
    allow_tf32: bool = option(
        True,
        "On GPUs since Ampere float32 matrix products have 10 bits of precision (TF32), TensorFlow's "
        "default; --noallow_tf32: all 23.",
    )
    jit_compile: str = option(
        "auto", "XLA around forward and backward pass; auto: on.", ("auto", "on", "off")
    )
    steps_per_execution: int | None = option(
        None, "Steps per call from Python; default: 1 on CPU, 20 elsewhere."
    )
    init_from: str | None = option(
        None, "Model directory whose weights to start from, with a fresh optimizer."
    )
    fresh: bool = option(False, "Start anew; refused where the model directory has a checkpoint.")
    overwrite: bool = option(False, "With --fresh: delete the earlier run in the model directory.")
    force_resume: bool = option(
        False, "Go on from a checkpoint with another seed, batch size, optimizer or other data."
    )
    max_runtime: float | None = option(None, "Save and stop cleanly after so many minutes.")
    save_steps: int = option(1000, "Steps between checkpoints.")
    keep_checkpoints: int = option(3, "Checkpoints to keep, besides the best one.")
    eval_steps: int = option(1000, "Steps between evaluations of the validation split; 0: none.")
    early_stopping_patience: int = option(
        0, "Stop after so many evaluations in a row without a new best one; 0: never."
    )
    eval_batch_size: int | None = option(None, "Examples per validation batch, over all replicas.")
    log_steps: int = option(100, "Steps between log lines, summaries and metrics.jsonl records.")
    histogram_steps: int = option(0, "Steps between weight histograms in TensorBoard; 0: none.")
    profile_steps: str | None = option(None, "FIRST,LAST step to profile for TensorBoard.")
    peak_teraflops: float | None = option(
        None, "Peak of all devices together, to report the model FLOPs utilisation."
    )

    OVERRIDES: ClassVar = {"warmup_steps": ("warmup_ratio",), "warmup_ratio": ("warmup_steps",)}

    def __post_init__(self) -> None:
        for name in (
            "gradient_accumulation_steps", "save_steps", "log_steps",
            "keep_checkpoints",
        ):  # fmt: skip
            require(getattr(self, name) >= 1, f"--{name} must be at least 1")
        for name in (
            "train_steps", "train_batch_size", "eval_batch_size", "steps_per_execution",
            "logical_cpus",
        ):  # fmt: skip
            value = getattr(self, name)
            require(value is None or value >= 1, f"--{name} must be at least 1")
        for name in (
            "eval_steps", "early_stopping_patience", "histogram_steps", "weight_decay", "lr_end",
        ):  # fmt: skip
            require(getattr(self, name) >= 0, f"--{name} must not be negative")
        require(
            not self.early_stopping_patience or self.eval_steps > 0,
            "--early_stopping_patience counts evaluations, and --eval_steps=0 makes none",
        )
        for name in ("learning_rate", "max_runtime", "peak_teraflops", "max_grad_norm"):
            value = getattr(self, name)
            require(value is None or value > 0, f"--{name} must be above 0")
        for name in ("adam_beta_1", "adam_beta_2"):
            require(0 <= getattr(self, name) < 1, f"--{name} must be in [0, 1)")
        require(self.adam_epsilon > 0, "--adam_epsilon must be above 0")
        require(
            self.warmup_steps is None or self.warmup_ratio is None,
            "--warmup_steps and --warmup_ratio contradict each other: give one",
        )
        require(
            self.warmup_ratio is None or 0 <= self.warmup_ratio <= 1,
            "--warmup_ratio must be in [0, 1]",
        )
        require(self.warmup_steps is None or self.warmup_steps >= 0, "--warmup_steps must be >= 0")
        require(not (self.overwrite and not self.fresh), "--overwrite needs --fresh")
        require(0 <= self.seed < 2**31, f"--seed must be between 0 and 2^31 - 1: {self.seed}")
        require(self.lr_decay_power > 0, "--lr_decay_power must be above 0")
        for name in ("model_dir", "init_from"):
            value = getattr(self, name)
            require(value is None or "://" not in value, f"--{name} must be a local path: {value}")
        if self.profile_steps is not None:
            self.profile_range()

    def is_finished(self, step: int, stale_evaluations: int) -> bool:
        """Whether nothing is left to train.

        Args:
            step: of the run.
            stale_evaluations: made since the best one.
        """
        return step >= self.train_steps or (0 < self.early_stopping_patience <= stale_evaluations)

    def profile_range(self) -> tuple[int, int] | None:
        """Returns (first, last) step to profile, or None."""
        if self.profile_steps is None:
            return None
        try:
            first, last = (int(part) for part in self.profile_steps.split(","))
        except ValueError:
            raise UsageError(
                f"--profile_steps must be FIRST,LAST: {self.profile_steps!r}"
            ) from None
        require(0 <= first <= last, f"--profile_steps: {first} must not be after {last}")
        return first, last


@dataclasses.dataclass(frozen=True)
class TrainingOptions(RunOptions):
    """One pre-training run; what is not given has the value of --model_size."""

    eval_batches: int | None = option(
        None,
        "Batches of an evaluation, from all files alike; default: of at most 16,384 examples; 0: the "
        "whole split.",
    )
    best_metric: str = option(
        "discriminator_auc",
        "Validation metric that chooses the best checkpoint.",
        ("discriminator_auc", "discriminator_loss", "generator_masked_loss", "loss"),
    )
    pad_to_multiple_of: int = option(
        1,
        "Compute the generator's logits at numbers of tokens and of vocabulary entries that are "
        "multiples of this, 8 for tensor cores; results and weights are the same.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.eval_batches is None or self.eval_batches >= 0,
            "--eval_batches must not be negative",
        )
        require(self.pad_to_multiple_of >= 1, "--pad_to_multiple_of must be at least 1")

    def resolve(self, model: ModelOptions) -> "TrainingOptions":
        """Returns a copy in which the preset's values and the warm-up steps are filled in.

        Raises:
            UsageError: batch sizes that do not divide.
        """
        preset = MODEL_SIZES[model.model_size]
        filled = {
            name: preset[name]
            for name in ("train_steps", "train_batch_size", "learning_rate")
            if getattr(self, name) is None
        }
        train_steps = self.train_steps or preset["train_steps"]
        if self.warmup_ratio is not None:
            filled.update(warmup_steps=round(self.warmup_ratio * train_steps), warmup_ratio=None)
        elif self.warmup_steps is None:
            filled["warmup_steps"] = 10_000
        batch_size = self.train_batch_size or preset["train_batch_size"]
        eval_batch_size = self.eval_batch_size or batch_size // self.gradient_accumulation_steps
        filled["eval_batch_size"] = eval_batch_size
        if self.eval_batches is None:  # a small part of the time, however large the split is
            filled["eval_batches"] = max(1, 16_384 // max(1, eval_batch_size))
        return dataclasses.replace(self, **filled)
