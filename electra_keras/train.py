"""Pre-trains ELECTRA: python -m electra_keras.train --flagfile=configs/small.cfg"""

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TextIO

from electra_keras import flags as option_flags
from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError, run_main
from electra_keras.options import DataOptions, ModelOptions, TrainingOptions

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
import keras
import tensorflow as tf
from absl import logging

from electra_keras.data.fingerprint import of_records
from electra_keras.data.metadata import Metadata
from electra_keras.data.opening import FINDINGS_FILE, needs_findings
from electra_keras.data.pipeline import ReadableRecords, TrainingFeed, open_records
from electra_keras.data.records import RecordSet, find_records, has_validation
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import checkpoints, distribution, report, run_directory
from electra_keras.training.collapse import CollapseWatch
from electra_keras.training.evaluation import Evaluator
from electra_keras.training.lock import locked
from electra_keras.training.loop import Trainer
from electra_keras.training.optimizer import ElectraOptimizer
from electra_keras.training.summaries import token_verdicts

for _options in (ModelOptions, DataOptions, TrainingOptions):
    option_flags.define(_options)


def main() -> int:
    """Trains as the flags say; returns the exit code."""
    model_options = option_flags.read(ModelOptions)
    data_options = option_flags.read(DataOptions)
    options = option_flags.read(TrainingOptions).resolve(model_options)
    if not options.model_dir:
        raise UsageError("--model_dir is missing: where the run is to be written")
    model_dir = Path(options.model_dir)
    strategy = distribution.make_training_strategy(options)
    distribution.check_batches(options, strategy.num_replicas_in_sync)
    distribution.set_precision(options)
    keras.utils.set_random_seed(options.seed)

    train_records, validation_records = find_splits(data_options)
    vocabulary = find_vocabulary(data_options, train_records, model_dir)
    if options.init_from:
        check_init_from(Path(options.init_from), model_dir, train_records, vocabulary)
    given = option_flags.given(ModelOptions)
    base = None if given & ModelOptions.SIZES else find_base(options, model_dir)
    config = make_config(model_options, given, base, train_records, vocabulary)
    train_source, validation_source = open_splits(
        strategy, (train_records, validation_records), data_options.skip_bad_records, model_dir
    )
    if options.train_batch_size > train_source.num_examples:
        raise UsageError(
            f"--train_batch_size={options.train_batch_size} is more than the "
            f"{train_source.num_examples} training examples"
        )
    flagfile = option_flags.to_flagfile(
        model_options,
        data_options,
        options,
        # Sizes that came with the weights come with them again.
        leave_out=() if base is None else {f.name for f in fields(ModelOptions)} - given,
    )
    with locked(model_dir, distribution.is_chief(strategy)):
        return pretrain(
            strategy, config, vocabulary, data_options, options, flagfile,
            train_source, validation_source,
        )  # fmt: skip


def pretrain(
    strategy: tf.distribute.Strategy,
    config: ElectraConfig,
    vocabulary: Vocabulary,
    data_options: DataOptions,
    options: TrainingOptions,
    flagfile: str,
    train_source: ReadableRecords,
    validation_source: ReadableRecords | None,
) -> int:
    """Makes or continues the run in a directory that is this process's own; returns the exit code.

    Args:
        strategy: where it computes.
        config, vocabulary: of the model.
        data_options, options: resolved options.
        flagfile: all options as the text of a flagfile.
        train_source, validation_source: the records of the two splits.
    """
    model_dir, chief = Path(options.model_dir), distribution.is_chief(strategy)
    fingerprint = of_records(train_source.records)
    if chief:
        run_directory.prepare(model_dir, config, vocabulary, options, flagfile, fingerprint)
    with strategy.scope():
        model = ElectraPretrainer(
            config,
            options.seed,
            options.gradient_accumulation_steps,
            options.pad_to_multiple_of,
            options.recompute,
        )
        optimizer = ElectraOptimizer.of_run(options)
        model.compile(optimizer, jit_compile=options.jit_compile)
        optimizer.build(model.trainable_variables)
    evaluator = None
    if validation_source is not None and options.eval_steps:
        evaluator = Evaluator(
            strategy,
            model,
            validation_source,
            options.eval_batch_size,
            options.eval_batches or None,
            options.best_metric,
            vocabulary.tokens,
        )
        logging.info("%s", evaluator.coverage())
    feed = TrainingFeed(
        train_source,
        config.discriminator.vocab_size,
        options.train_batch_size,
        options.seed,
        data_options.shuffle_buffer,
    )
    trainer = Trainer(
        strategy,
        model,
        options,
        model_dir,
        feed,
        evaluator,
        CollapseWatch(first_step=max(2_000, options.train_steps // 2)),
        fingerprint,
    )
    if trainer.restore():
        logging.info("resuming at step %d", trainer.step)
    elif options.init_from:
        path = checkpoints.load_weights(model, Path(options.init_from), fresh_heads=True)
        logging.info("weights from %s, optimizer fresh", path)
    log_run(strategy, model, options, train_source)
    exit_code = trainer.run()
    if trainer.finished and trainer.best is not None and evaluator is not None:
        print_report(
            trainer, evaluator, train_source.records, sys.stdout if chief else io.StringIO()
        )
    return exit_code


def find_splits(options: DataOptions) -> tuple[RecordSet, RecordSet | None]:
    """Returns the training records and, where there are any, the validation records."""
    if options.data_dir and options.train_files:
        raise UsageError("--data_dir and --train_files contradict each other: give one")
    if not options.data_dir and not options.train_files:
        raise UsageError("--data_dir is missing: where the TFRecords are")
    train = find_records(options.data_dir or options.train_files, "train")
    validation = None
    if options.validation_files:
        validation = find_records(options.validation_files, "validation")
    elif train.metadata is not None and "validation" in train.metadata.splits:
        validation = find_records(options.data_dir or options.train_files, "validation")
    elif options.data_dir and has_validation(options.data_dir):
        validation = find_records(options.data_dir, "validation")
    if validation is None:
        logging.warning(
            "no validation records: nothing is evaluated and no best checkpoint is kept. Build with "
            "--validation_fraction, or give --validation_files"
        )
    elif validation.max_seq_length != train.max_seq_length:
        raise UsageError(
            f"validation records have length {validation.max_seq_length}, training records "
            f"{train.max_seq_length}"
        )
    return train, validation


def open_splits(
    strategy: tf.distribute.Strategy,
    splits: Sequence[RecordSet | None],
    skip_bad_records: bool,
    model_dir: Path,
) -> list[ReadableRecords | None]:
    """Opens the records of all splits; what has to be counted is counted by the chief, for all workers.

    Args:
        strategy: of all workers; they share the model directory.
        splits: the records, or None.
        skip_bad_records: as of `open_records`.
        model_dir: keeps what was found.
    """
    findings = str(model_dir / FINDINGS_FILE)

    def open_all() -> list[ReadableRecords | None]:
        return [split and open_records(split, skip_bad_records, findings) for split in splits]

    several = isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if not several or not any(
        split and needs_findings(split, skip_bad_records) for split in splits
    ):
        return open_all()
    opened = open_all() if distribution.is_chief(strategy) else None
    distribution.wait_for_all(strategy)
    return open_all() if opened is None else opened


def find_vocabulary(options: DataOptions, records: RecordSet, model_dir: Path) -> Vocabulary:
    """Loads the vocabulary and checks it against the records' metadata."""
    path = options.vocab_file
    if not path:
        # Not by pathlib, which takes gs://a for gs:/a.
        directories = os.path.dirname(records.files[0]), str(model_dir)
        candidates = [os.path.join(directory, "vocab.txt") for directory in directories]
        path = next(filter(tf.io.gfile.exists, candidates), None)
        if path is None:
            raise UsageError(f"--vocab_file is missing, and there is no {candidates[0]}")
    vocabulary = Vocabulary.load(path)
    metadata = records.metadata
    if metadata is not None and metadata.vocab_sha256 != vocabulary.sha256:
        raise UsageError(
            f"--vocab_file={path} ({len(vocabulary)} tokens) is not the vocabulary that the records "
            f"were built with ({metadata.vocab_size} tokens)"
        )
    return vocabulary


def check_init_from(
    init_from: Path, model_dir: Path, records: RecordSet, vocabulary: Vocabulary
) -> None:
    """Checks what can be checked of --init_from before anything is written or deleted."""
    if init_from.resolve() == model_dir.resolve():
        raise UsageError("--init_from is the --model_dir itself: leave it out to continue the run")
    config, metadata = checkpoints.read_config(init_from), records.metadata
    config.require_both(f"--init_from={init_from}")
    theirs = _casing(config)
    ours = _casing(metadata) if metadata else theirs
    if theirs != ours and None not in (config.lower_case, metadata.lower_case):
        raise UsageError(
            f"--init_from={init_from} has {theirs}, the records have {ours}: build them with the casing "
            "that the model was trained with"
        )
    checkpoints.find_checkpoint(init_from)
    if Vocabulary.load(str(init_from / "vocab.txt")).sha256 != vocabulary.sha256:
        raise UsageError(f"--init_from={init_from} has another vocabulary than this run")


def _casing(tokenizer: ElectraConfig | Metadata) -> str:
    """Returns a tokenizer's casing; without lower-casing, accents always stay."""
    strip_accents = bool(tokenizer.lower_case) and tokenizer.strip_accents is not False
    return f"lower_case={tokenizer.lower_case}, strip_accents={strip_accents}"


def find_base(options: TrainingOptions, model_dir: Path) -> ElectraConfig | None:
    """Returns the configuration that gives the model's sizes where no flag does, or None.

    It is that of --init_from. A run that began so has no --model_size in its flags.cfg and goes on
    with its own configuration, as does a converted model with its optimizer.
    """
    if checkpoints.checkpoint_steps(model_dir) and not options.fresh:
        if "model_size" in option_flags.flagfile_values(model_dir / "flags.cfg"):
            return None
        return checkpoints.read_config(model_dir)
    return checkpoints.read_config(Path(options.init_from)) if options.init_from else None


def make_config(
    options: ModelOptions,
    given: set[str],
    base: ElectraConfig | None,
    records: RecordSet,
    vocabulary: Vocabulary,
) -> ElectraConfig:
    """Returns the model's configuration, checked against the records.

    Args:
        options: the model's options.
        given: names of those on the command line.
        base: what the others come from, or None for their defaults.
        records, vocabulary: what it is trained on.
    """
    if options.max_seq_length not in (None, records.max_seq_length):
        raise UsageError(
            f"--max_seq_length={options.max_seq_length}, but the records have length "
            f"{records.max_seq_length}: leave the flag out, or build the records again"
        )
    for network, encoder in base.encoders.items() if base else ():
        if encoder.type_vocab_size < 2:
            raise UsageError(
                f"type_vocab_size of the {network} is 1, but the records have segments 0 and 1: this "
                "model cannot be pre-trained"
            )
    metadata = records.metadata
    values = {"max_seq_length": records.max_seq_length, **vocabulary.special_ids()}
    if base is None or metadata:
        values["lower_case"] = metadata.lower_case if metadata else None
        values["strip_accents"] = metadata.strip_accents if metadata else None
    if base is not None:
        return options.adapt(base, given, **values)
    return options.resolve(vocab_size=len(vocabulary), **values)


def log_run(
    strategy: tf.distribute.Strategy,
    model: ElectraPretrainer,
    options: TrainingOptions,
    source: ReadableRecords,
) -> None:
    """Logs what is about to run."""

    def parameters(*layers: keras.layers.Layer) -> float:
        return sum(layer.count_params() for layer in layers) / 1e6

    logging.info("%s, %s", distribution.describe(strategy), options.precision)
    logging.info(
        "discriminator %.1f M parameters, generator %.1f M (shared embeddings counted in both); "
        "%d training examples of %d tokens; %d steps of %d = %.1f epochs",
        parameters(model.discriminator, model.discriminator_head),
        parameters(model.generator, model.generator_head),
        source.num_examples,
        model.config.max_seq_length,
        options.train_steps,
        options.train_batch_size,
        options.train_steps * options.train_batch_size / source.num_examples,
    )


def print_report(trainer: Trainer, evaluator: Evaluator, records: RecordSet, file: TextIO) -> None:
    """Prints the best checkpoint's validation metrics and some verdicts.

    All workers must call it: loading weights and judging examples are collective.
    """
    checkpoints.load_weights(trainer.model, trainer.model_dir, "best")
    verdicts = token_verdicts(evaluator.examples(5), evaluator.tokens)
    print(f"\nbest checkpoint, step {trainer.best['step']} of {trainer.step}", file=file)
    report.print_metrics(trainer.best, records.metadata, file)
    report.print_verdicts(verdicts, file)
    report.print_next_steps(trainer.model_dir, file)


if __name__ == "__main__":
    run_main(main)
