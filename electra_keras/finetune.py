"""Fine-tunes a pre-trained ELECTRA: python -m electra_keras.finetune --init_from=... --task=SST-2 ..."""

import dataclasses
from pathlib import Path

from electra_keras import flags as option_flags
from electra_keras.console import UsageError, UserError, run_main
from electra_keras.tasks.options import FineTuningOptions, TaskOptions

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import keras
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.tasks import registry, running
from electra_keras.tasks.features import FeatureFeed
from electra_keras.tasks.finetuner import FineTuner, layerwise_rate
from electra_keras.tasks.interface import Task
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, distribution, run_directory
from electra_keras.training.loop import Trainer
from electra_keras.training.optimizer import ElectraOptimizer

for _options in (TaskOptions, FineTuningOptions):
    option_flags.define(_options)


def main() -> int:
    """Fine-tunes as the flags say; returns the exit code."""
    task_options = option_flags.read(TaskOptions)
    options = option_flags.read(FineTuningOptions)
    if not options.model_dir or not options.init_from:
        raise UsageError(
            "--init_from and --model_dir are needed: the pre-trained model, and where to write"
        )
    init_from, model_dir = Path(options.init_from), Path(options.model_dir)
    if init_from.resolve() == model_dir.resolve():
        raise UsageError(
            "--init_from and --model_dir are the same: a new run needs its own directory"
        )
    if options.logical_cpus > 1:
        distribution.split_cpu(options.logical_cpus)
    strategy = distribution.make_strategy(options.strategy, options.tpu)
    keras.config.set_dtype_policy(options.precision)
    keras.utils.set_random_seed(options.seed)

    config = read_encoder(init_from)
    checkpoint = checkpoints.find_checkpoint(init_from, options.checkpoint)
    vocabulary = Vocabulary.load(str(init_from / "vocab.txt"))
    task, examples = read_data(task_options)
    tokenizer = running.make_tokenizer(config, vocabulary)
    features = {name: task.features(part, tokenizer) for name, part in examples.items()}
    log_data(task, features)
    options = options.resolve(task.default_epochs, len(features["train"]["lengths"]))
    distribution.check_batches(options, strategy.num_replicas_in_sync)
    with strategy.scope():
        model = FineTuner(
            config,
            task.make_head,
            task.max_seq_length,
            options.seed,
            options.gradient_accumulation_steps,
            options.loss_reduction,
        )
        factor = layerwise_rate(
            options.layerwise_lr_decay,
            config.discriminator.num_hidden_layers,
            options.original_layer_decay,
        )
        model.compile(ElectraOptimizer.of_run(options, factor), jit_compile=options.jit_compile)
        model.optimizer.build(model.trainable_variables)
        if not options.random_weights:
            checkpoints.assign_arrays(model.encoder.weights, checkpoint)
    chief = distribution.is_chief(strategy)
    if chief:
        run_directory.prepare(model_dir, config, vocabulary, options, task.to_json())
        unused = registry.unused_options(type(task))
        flagfile = option_flags.to_flagfile(task_options, options, leave_out=unused)
        checkpoints.write_file(model_dir / "flags.cfg", flagfile)
    inputs = ("input_ids", "segment_ids", "lengths", *task.targets)
    feed = FeatureFeed(
        {name: features["train"][name] for name in inputs},
        options.train_batch_size,
        options.seed,
        options.train_steps,
    )
    predictor = running.Predictor(strategy, model, options.eval_batch_size)
    validation = running.TaskValidation(task, predictor, features["dev"], examples["dev"])
    trainer = Trainer(strategy, model, options, model_dir, feed, validation)
    if trainer.restore():
        logging.info("resuming at step %d", trainer.step)
    else:
        logging.info(
            "%s from %s",
            "random weights, sizes" if options.random_weights else "weights",
            checkpoint,
        )
    log_run(strategy, model, options)
    exit_code = trainer.run()
    if chief and trainer.step >= options.train_steps:
        report(trainer, validation)
    return exit_code


def read_encoder(init_from: Path) -> ElectraConfig:
    """Returns the configuration of --init_from without its generator."""
    config = checkpoints.read_config(init_from)
    if config.discriminator is None:
        raise UserError(
            f"--init_from={init_from} holds no discriminator, which is what is fine-tuned"
        )
    return dataclasses.replace(config, generator=None, embedding_sharing="all")


def read_data(options: TaskOptions) -> tuple[Task, dict[str, list]]:
    """Returns the task that the training examples make, and the examples of "train" and "dev"."""
    family = registry.find_family(options.task)
    strangers = option_flags.given(TaskOptions) & registry.unused_options(family)
    if strangers:
        raise UsageError(f"--{min(strangers)} says nothing to --task={options.task}")
    train = family.read(options, "train")
    task = family.of_data(options, train)
    dev = family.read(options, "dev", task)
    return task, {"train": task.training_examples(options, train), "dev": dev}


def log_data(task: Task, features: dict) -> None:
    """Logs what the task is, how much there is of it, and how much is cut."""
    logging.info("%s", task.describe())
    for name, arrays in features.items():
        logging.info(
            "%s: %d rows, %.0f tokens on the average, %.1f%% cut",
            name, len(arrays["lengths"]), arrays["lengths"].mean(),
            100 * arrays["truncated"].mean(),
        )  # fmt: skip


def log_run(strategy: tf.distribute.Strategy, model: FineTuner, options: FineTuningOptions) -> None:
    """Logs what is about to run."""
    logging.info("%s, %s", distribution.describe(strategy), options.precision)
    logging.info(
        "%.2f M parameters; %d steps of %d",
        running.count_parameters(model.trainable_variables) / 1e6,
        options.train_steps,
        options.train_batch_size,
    )


def report(trainer: Trainer, validation: running.TaskValidation) -> None:
    """Prints the best metrics, where there are any, and says if the last model failed."""
    if trainer.best is not None:
        step = trainer.best["step"]
        print(f"{validation.task.name}: best dev metrics, step {step} of {trainer.step}")
        for name, value in trainer.best.items():
            if name != "step":
                print(f"  {name:<20}{value:.4f}")
    if validation.failed():
        logging.warning(
            "this run failed: the model gives every dev example the same answer. Try another --seed, a "
            "lower --learning_rate, a longer --warmup_ratio, or more epochs"
        )


if __name__ == "__main__":
    run_main(main)
