"""Fine-tunes a pre-trained ELECTRA: python -m electra_keras.finetune --init_from=... --task=SST-2 ..."""

import dataclasses
import json
import math
import os
import sys
import time
from pathlib import Path

from electra_keras import flags as option_flags
from electra_keras.console import UsageError, UserError, run_main
from electra_keras.tasks.adaptation import AdaptationOptions, load_merged
from electra_keras.tasks.options import FineTuningOptions, TaskOptions

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import keras
import tensorflow as tf
from absl import logging

from electra_keras.config import ElectraConfig
from electra_keras.data.fingerprint import of_arrays
from electra_keras.files import write_whole
from electra_keras.tasks import registry, running
from electra_keras.tasks.classification import ClassificationTask
from electra_keras.tasks.features import FeatureFeed
from electra_keras.tasks.finetuner import FineTuner, LayerwiseRate, check_length
from electra_keras.tasks.interface import Task, scores_of
from electra_keras.tasks.trials import (
    SUMMARY_FILE,
    Outcome,
    format_table,
    summarize,
    trial_directory,
)
from electra_keras.training import checkpoints, distribution, run_directory
from electra_keras.training.lock import locked
from electra_keras.training.loop import NotFiniteError, Trainer
from electra_keras.training.optimizer import ElectraOptimizer

for _options in (TaskOptions, AdaptationOptions, FineTuningOptions):
    option_flags.define(_options)


def main() -> int:
    """Fine-tunes as the flags say; returns the exit code."""
    task_options = option_flags.read(TaskOptions)
    adaptation_options = option_flags.read(AdaptationOptions)
    options = option_flags.read(FineTuningOptions)
    if not options.model_dir or not options.init_from:
        raise UsageError(
            "--init_from and --model_dir are needed: the pre-trained model, and where to write"
        )
    if Path(options.init_from).resolve() == Path(options.model_dir).resolve():
        raise UsageError(
            "--init_from and --model_dir are the same: a new run needs its own directory"
        )
    check_number_of_runs(options)
    if options.num_trials > 1:
        return run_trials(task_options, adaptation_options, options)
    exit_code, _, outcome = fine_tune(task_options, adaptation_options, options)
    if outcome is not None:
        report(outcome, registry.find_family(task_options.task))
    return exit_code


def fine_tune(
    task_options: TaskOptions,
    adaptation_options: AdaptationOptions,
    options: FineTuningOptions,
    one_of_many: bool = False,
) -> tuple[int, Trainer, Outcome | None]:
    """Makes one run; returns the exit code, the trainer, and on the chief the end, if it is there.

    Args:
        task_options, adaptation_options, options: its flags.
        one_of_many: it is one of several trials, and ends as a failed one where a loss is not finite.
    """
    flags = flags_of(task_options, adaptation_options, options)
    init_from, model_dir = Path(options.init_from), Path(options.model_dir)
    strategy = distribution.make_training_strategy(options)
    distribution.set_precision(options)
    keras.utils.set_random_seed(options.seed)

    config = read_encoder(init_from, options)
    checkpoint = checkpoints.find_checkpoint(init_from, options.checkpoint)
    vocabulary = checkpoints.read_vocabulary(init_from, config)
    task, examples = read_data(task_options)
    check_length(config, task.max_seq_length)
    earlier = run_directory.read_task(model_dir)
    if isinstance(task, ClassificationTask) and earlier is not None and not options.fresh:
        task = task.in_order_of(earlier)
    tokenizer = running.make_tokenizer(config, vocabulary)
    features = {name: task.features(part, tokenizer) for name, part in examples.items()}
    log_data(task, features)
    # Of the training examples, what only predictions read is let go: it may be most of them.
    inputs = ("input_ids", "segment_ids", "lengths", *task.targets)
    features["train"] = {name: features["train"][name] for name in inputs}
    rows, num_layers = len(features["train"]["lengths"]), config.discriminator.num_hidden_layers
    options = options.resolve(task.default_epochs, rows)
    distribution.check_batches(options, strategy.num_replicas_in_sync)
    adaptation = adaptation_options.resolve(
        num_layers, options.train_steps, rows // options.train_batch_size
    )
    flagfile = option_flags.to_flagfile(
        task_options,
        adaptation_options,
        options,
        leave_out=registry.unused_options(type(task)),
    )
    chief, fingerprint = distribution.is_chief(strategy), of_arrays(features["train"])
    with locked(model_dir, chief):
        # Before the variables, whose making is where the other workers wait for the chief.
        if chief:
            run_directory.prepare(
                model_dir,
                config,
                vocabulary,
                options,
                flagfile,
                fingerprint,
                task.to_json(),
                adaptation.to_json(),
            )
        with strategy.scope():
            model = FineTuner(
                config,
                task.make_head,
                task.max_seq_length,
                options.seed,
                options.gradient_accumulation_steps,
                options.loss_reduction,
                adaptation,
                options.recompute,
            )
            factor = LayerwiseRate(
                options.layerwise_lr_decay, num_layers, options.original_layer_decay
            )
            optimizer = ElectraOptimizer.of_run(options, factor, adaptation.first_step)
            model.compile(optimizer, jit_compile=options.jit_compile)
            model.optimizer.build(model.trainable_variables)
            if not options.random_weights:
                load_merged(model.encoder.weights, init_from, checkpoint)
        feed = FeatureFeed(
            features["train"],
            options.train_batch_size,
            options.seed,
            options.train_steps,
        )
        predictor = running.Predictor(strategy, model, options.eval_batch_size)
        validation = running.TaskValidation(task, predictor, features["dev"], examples["dev"])
        trainer = Trainer(
            strategy, model, options, model_dir, feed, validation, fingerprint=fingerprint
        )
        if trainer.restore():
            logging.info("resuming at step %d", trainer.step)
        else:
            logging.info(
                "%s from %s",
                "random weights, sizes" if options.random_weights else "weights",
                checkpoint,
            )
        log_run(strategy, model, options)
        exit_code, outcome, diverged = 0, None, False
        try:
            exit_code = trainer.run()
        except NotFiniteError as error:
            if not one_of_many:
                raise
            logging.error("this trial failed: %s", error)
            diverged = True
        if chief and (trainer.finished or diverged):
            failed = diverged or validation.failed()
            outcome = Outcome.of_run(task, options.seed, trainer, failed, flags)
            outcome.write(model_dir)
        return exit_code, trainer, outcome


def flags_of(*groups: TaskOptions | AdaptationOptions | FineTuningOptions) -> tuple[str, ...]:
    """Returns the flags of a run, but for those that say how long this process may work on it."""
    lines = option_flags.to_flagfile(*groups, leave_out=("max_runtime",)).splitlines()
    return tuple(line for line in lines if line.startswith("--"))


def check_number_of_runs(options: FineTuningOptions) -> None:
    """Checks that a directory is not used for one run and for several trials.

    Raises:
        UsageError: it is, or there are several trials and several workers.
    """
    model_dir = Path(options.model_dir)
    if options.num_trials == 1:
        if any(model_dir.glob("trial-*/config.json")):
            raise UsageError(
                f"{model_dir} holds trials: give --num_trials, or choose another --model_dir"
            )
        return
    if checkpoints.checkpoint_steps(model_dir):
        raise UsageError(
            f"--num_trials: {model_dir} holds a single run; choose another --model_dir"
        )
    if os.environ.get("TF_CONFIG"):
        raise UsageError(
            "--num_trials is for one worker: with TF_CONFIG start a run for each --seed yourself"
        )


def run_trials(
    task_options: TaskOptions, adaptation_options: AdaptationOptions, options: FineTuningOptions
) -> int:
    """Runs the first trial that is not finished, then itself again; after the last one, reports.

    Each trial has a process of its own, the same one as seen from outside: TensorFlow does not give
    back the memory of a model that is no longer used.
    """
    started, model_dir = time.monotonic(), Path(options.model_dir)
    outcomes, left = [], options.max_runtime
    for number, seed in enumerate(range(options.seed, options.seed + options.num_trials), start=1):
        directory = trial_directory(model_dir, seed)
        own = dataclasses.replace(options, seed=seed, num_trials=1, model_dir=str(directory))
        outcome = Outcome.read(directory, flags_of(task_options, adaptation_options, own))
        if outcome is not None:
            outcomes.append(outcome)
            continue
        logging.info("trial %d of %d, seed %d", number, options.num_trials, seed)
        exit_code, trainer, outcome = fine_tune(
            task_options, adaptation_options, own, one_of_many=True
        )
        if outcome is None:
            return exit_code
        if trainer.late_exit_code:
            logging.info("stopped after this trial; the same command continues")
            return trainer.late_exit_code
        again = []
        if left is not None:
            # Of what is left, at least a step is made.
            left = max(left - (time.monotonic() - started) / 60, 1e-6)
            again = [f"--max_runtime={left}"]
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(
            sys.executable,
            [sys.executable, "-m", "electra_keras.finetune", *sys.argv[1:], *again],
        )
    write_whole(model_dir / SUMMARY_FILE, json.dumps(summarize(outcomes), indent=2) + "\n")
    unit = scores_of(registry.find_family(task_options.task))
    print(f"{outcomes[0].task}: best dev metrics of {len(outcomes)} trials{unit}")
    print(format_table(outcomes, model_dir))
    return 0


def read_encoder(init_from: Path, options: FineTuningOptions) -> ElectraConfig:
    """Returns the configuration of --init_from without its generator, with the dropout of the run."""
    config = checkpoints.read_config(init_from)
    if config.discriminator is None:
        raise UserError(
            f"--init_from={init_from} holds no discriminator, which is what is fine-tuned"
        )
    rates = {
        name: getattr(options, name)
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob")
        if getattr(options, name) is not None
    }
    encoder = dataclasses.replace(config.discriminator, **rates)
    return dataclasses.replace(
        config, discriminator=encoder, generator=None, embedding_sharing="all"
    )


def read_data(options: TaskOptions) -> tuple[Task, dict[str, list]]:
    """Returns the task that the training examples make, and the examples of "train" and "dev"."""
    family = registry.find_family(options.task)
    strangers = option_flags.given(TaskOptions) & registry.unused_options(family)
    if strangers:
        raise UsageError(f"--{min(strangers)} says nothing to --task={options.task}")
    train = family.read(options, "train")
    if options.dev_share is not None and family in registry.FAMILY_OPTIONS:
        # What is known of a file does not depend on the share that is held out.
        dev = family.read(options, "dev")
        task = family.of_data(options, train, dev)
    else:
        task = family.of_data(options, train)
        dev = family.read(options, "dev", task)
    for split, examples in (("train", train), ("dev", dev)):
        if not examples:
            raise UserError(f"--task={options.task} found no {split} examples")
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


def report(outcome: Outcome, family: type[Task]) -> None:
    """Prints the best metrics, where there are any, and says if the last model failed."""
    if outcome.best:
        steps = f"step {outcome.best['step']} of {outcome.step}"
        print(f"{outcome.task}: best dev metrics, {steps}{scores_of(family)}")
        for name, value in outcome.best.items():
            if name != "step":
                value = math.nan if value is None else value
                print(f"  {name:<20}{value if isinstance(value, int) else f'{value:.4f}'}")
    if outcome.failed:
        logging.warning(
            "this run failed: the model says the same of every dev example, or nothing right. Try "
            "another --seed, a lower --learning_rate, a longer --warmup_ratio, or more epochs"
        )


if __name__ == "__main__":
    run_main(main)
