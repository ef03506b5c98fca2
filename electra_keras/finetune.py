"""Fine-tunes a pre-trained ELECTRA: python -m electra_keras.finetune --init_from=... --task=SST-2 ..."""

import dataclasses
import gc
import json
import time
from collections.abc import Mapping
from pathlib import Path

from electra_keras import flags as option_flags
from electra_keras.console import UsageError, UserError, run_main
from electra_keras.tasks.adaptation import Adaptation, AdaptationOptions, load_merged
from electra_keras.tasks.options import FineTuningOptions, TaskOptions

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import keras
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.tasks import registry, running
from electra_keras.tasks.features import FeatureFeed, Features
from electra_keras.tasks.finetuner import FineTuner, layerwise_rate
from electra_keras.tasks.interface import Task
from electra_keras.tasks.trials import SUMMARY_FILE, Trial, format_table, summarize
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, distribution, run_directory
from electra_keras.training.loop import Trainer
from electra_keras.training.optimizer import ElectraOptimizer

for _options in (TaskOptions, AdaptationOptions, FineTuningOptions):
    option_flags.define(_options)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What all runs of a command share.

    Attributes:
        strategy: of tf.distribute.
        config, vocabulary: of --init_from, without its generator.
        checkpoint: its weights.
        task_options, adaptation_options: as the flags have them.
        task: what is learned.
        adaptation: what of the encoder is trained.
        examples, features: of "train" and "dev".
    """

    strategy: tf.distribute.Strategy
    config: ElectraConfig
    vocabulary: Vocabulary
    checkpoint: Path
    task_options: TaskOptions
    adaptation_options: AdaptationOptions
    task: Task
    adaptation: Adaptation
    examples: Mapping[str, list]
    features: Mapping[str, Features]

    def prepare(self, model_dir: Path, options: FineTuningOptions) -> None:
        """Makes a run directory, or checks the one there; on the chief."""
        run_directory.prepare(
            model_dir, self.config, self.vocabulary, options, self.task.to_json(),
            self.adaptation.to_json(),
        )  # fmt: skip
        self.write_flags(model_dir, options)

    def write_flags(self, model_dir: Path, options: FineTuningOptions) -> None:
        """Writes the flagfile that reproduces what is run with these options."""
        flagfile = option_flags.to_flagfile(
            self.task_options,
            self.adaptation_options,
            options,
            leave_out=registry.unused_options(type(self.task)),
        )
        checkpoints.write_file(model_dir / "flags.cfg", flagfile)


def main() -> int:
    """Fine-tunes as the flags say; returns the exit code."""
    task_options = option_flags.read(TaskOptions)
    adaptation_options = option_flags.read(AdaptationOptions)
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
    check_number_of_runs(model_dir, options)
    if options.logical_cpus > 1:
        distribution.split_cpu(options.logical_cpus)
    strategy = distribution.make_strategy(options.strategy, options.tpu)

    config = read_encoder(init_from)
    checkpoint = checkpoints.find_checkpoint(init_from, options.checkpoint)
    vocabulary = Vocabulary.load(str(init_from / "vocab.txt"))
    task, examples = read_data(task_options)
    tokenizer = running.make_tokenizer(config, vocabulary)
    features = {name: task.features(part, tokenizer) for name, part in examples.items()}
    log_data(task, features)
    rows = len(features["train"]["lengths"])
    options = options.resolve(task.default_epochs, rows)
    distribution.check_batches(options, strategy.num_replicas_in_sync)
    adaptation = adaptation_options.resolve(
        config.discriminator.num_hidden_layers,
        options.train_steps,
        rows // options.train_batch_size,
    )
    setup = Setup(
        strategy, config, vocabulary, checkpoint, task_options, adaptation_options, task, adaptation,
        examples, features,
    )  # fmt: skip
    if options.num_trials > 1:
        return run_trials(setup, options, model_dir)
    exit_code, trainer, validation = fine_tune(setup, options, model_dir)
    if trainer.chief and trainer.finished:
        report(trainer, validation)
    return exit_code


def fine_tune(
    setup: Setup, options: FineTuningOptions, model_dir: Path
) -> tuple[int, Trainer, running.TaskValidation]:
    """Trains in a run directory; returns the exit code, the trainer, and its validation."""
    strategy, config, task = setup.strategy, setup.config, setup.task
    keras.config.set_dtype_policy(options.precision)
    keras.utils.set_random_seed(options.seed)
    with strategy.scope():
        model = FineTuner(
            config,
            task.make_head,
            task.max_seq_length,
            options.seed,
            options.gradient_accumulation_steps,
            options.loss_reduction,
            setup.adaptation,
        )
        factor = layerwise_rate(
            options.layerwise_lr_decay,
            config.discriminator.num_hidden_layers,
            options.original_layer_decay,
        )
        optimizer = ElectraOptimizer.of_run(options, factor, setup.adaptation.first_step)
        model.compile(optimizer, jit_compile=options.jit_compile)
        model.optimizer.build(model.trainable_variables)
        if not options.random_weights:
            load_merged(model.encoder.weights, Path(options.init_from), setup.checkpoint)
    if distribution.is_chief(strategy):
        setup.prepare(model_dir, options)
    inputs = ("input_ids", "segment_ids", "lengths", *task.targets)
    feed = FeatureFeed(
        {name: setup.features["train"][name] for name in inputs},
        options.train_batch_size,
        options.seed,
        options.train_steps,
    )
    predictor = running.Predictor(strategy, model, options.eval_batch_size)
    validation = running.TaskValidation(
        task, predictor, setup.features["dev"], setup.examples["dev"]
    )
    trainer = Trainer(strategy, model, options, model_dir, feed, validation)
    if trainer.restore():
        logging.info("resuming at step %d", trainer.step)
    else:
        logging.info(
            "%s from %s",
            "random weights, sizes" if options.random_weights else "weights",
            setup.checkpoint,
        )
    log_run(strategy, model, options)
    return trainer.run(), trainer, validation


def check_number_of_runs(model_dir: Path, options: FineTuningOptions) -> None:
    """Checks that a directory is not used for one run and for several trials.

    Raises:
        UsageError: it is.
    """
    if options.num_trials > 1 and checkpoints.checkpoint_steps(model_dir):
        raise UsageError(
            f"--num_trials: {model_dir} holds a single run; choose another --model_dir"
        )
    if options.num_trials == 1 and any(model_dir.glob("trial-*/config.json")):
        raise UsageError(
            f"{model_dir} holds trials: give --num_trials, or choose another --model_dir"
        )


def run_trials(setup: Setup, options: FineTuningOptions, model_dir: Path) -> int:
    """Trains once with each seed, prints and writes the summary; returns the exit code."""
    started, results = time.monotonic(), []
    chief = distribution.is_chief(setup.strategy)
    for seed in range(options.seed, options.seed + options.num_trials):
        logging.info("trial %d of %d, seed %d", len(results) + 1, options.num_trials, seed)
        directory = model_dir / f"trial-{seed}"
        own = dataclasses.replace(options, seed=seed, num_trials=1, model_dir=str(directory))
        result = None if options.fresh else Trial.read(directory, seed, own)
        if result is not None:
            logging.info("it is finished")
            if chief:
                setup.prepare(directory, own)  # checks that it is of the same settings
            results.append(result)
            continue
        if options.max_runtime is not None:
            left = options.max_runtime - (time.monotonic() - started) / 60
            if left <= 0:
                logging.info("stopped by --max_runtime; the same command continues")
                return 0
            own = dataclasses.replace(own, max_runtime=left)
        exit_code, trainer, validation = fine_tune(setup, own, directory)
        if not trainer.finished:
            return exit_code
        if chief:
            Trial.write(directory, trainer.step, validation.failed())
        if trainer.late_exit_code:
            logging.info("stopped after this trial; the same command continues")
            return trainer.late_exit_code
        # The graphs and variables of a trial would else stay until the end of all.
        del trainer, validation
        keras.backend.clear_session()
        gc.collect()
        results.append(Trial.read(directory, seed, own))
    if chief:
        metrics = setup.task.metrics
        summary = {"task": setup.task.name, **summarize(results, metrics)}
        checkpoints.write_file(model_dir / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
        setup.write_flags(model_dir, options)
        print(f"{setup.task.name}: best dev metrics of {len(results)} trials")
        print(format_table(results, metrics))
    return 0


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
        "%s; %d steps of %d",
        model.adaptation.describe(model.weights, options.train_steps),
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
