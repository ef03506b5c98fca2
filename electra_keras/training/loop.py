"""The training loop: the model's step under a strategy, watched, saved, resumable at any step."""

import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from electra_keras.console import ProgressLine, UsageError, UserError, format_duration
from electra_keras.data.errors import READ_ERRORS
from electra_keras.files import write_whole
from electra_keras.options import RunOptions
from electra_keras.training.checkpoints import CheckpointStore
from electra_keras.training.collapse import CollapseWatch
from electra_keras.training.distribution import (
    describe,
    distribute,
    is_chief,
    make_sum_over_workers,
    wait_for_all,
)
from electra_keras.training.execution import EXTRAS, describe_not_finite, make_step_function
from electra_keras.training.interfaces import Feed, TrainableModel, Validation
from electra_keras.training.memory import release_freed_memory
from electra_keras.training.start import check_workers_agree, describe_start
from electra_keras.training.stopping import EvaluationStopped, StopRequest
from electra_keras.training.summaries import SummaryWriter


class NotFiniteError(UserError):
    """The loss or the gradient of a step was not finite; what the run has is its last checkpoint."""


class Trainer:
    """Runs a model's training step from its newest checkpoint to `train_steps`.

    Position and random numbers are functions of the step, and a checkpoint holds the half-full
    logging window too, so a resumed run equals an uninterrupted one bit for bit, its metrics included.

    Args:
        strategy: tf.distribute strategy; model and optimizer were built in its scope.
        model: compiled with an `ElectraOptimizer`.
        options: resolved options of the run.
        model_dir: run directory.
        feed: the training batches.
        validation: on held-out data, or None.
        watch: looks at the training metrics for signs of a failing run, or None.
        fingerprint: of the training data, for the checkpoints.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: TrainableModel,
        options: RunOptions,
        model_dir: Path,
        feed: Feed,
        validation: Validation | None,
        watch: CollapseWatch | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.strategy, self.model, self.options = strategy, model, options
        self.model_dir, self.feed, self.validation, self.watch = model_dir, feed, validation, watch
        self.fingerprint = fingerprint
        self.chief = is_chief(strategy)
        self.store = CheckpointStore(
            model_dir, model, model.optimizer, options.keep_checkpoints, self.chief
        )
        on_cpu = not any(tf.config.list_logical_devices(kind) for kind in ("GPU", "TPU"))
        self.steps_per_execution = options.steps_per_execution or (1 if on_cpu else 20)
        # What a checkpoint's state.json holds.
        self.step = 0
        self.window = np.zeros(model.report_size + len(EXTRAS))  # sums since the last log record
        self.window_steps = 0
        self.best: dict[str, float] | None = None
        self.stale_evaluations = 0  # since the best one
        self.total_seconds = 0.0  # in `run`, of all processes that have worked on it
        self.evaluation_due = False  # of this step: it was stopped before its end
        self.profiling = False
        # The votes to stop of all workers, and how they are counted.
        self.votes, self._sum_over_workers = 0.0, make_sum_over_workers(strategy)
        # Not part of the state: how many steps of this window were timed, and how long they took; the
        # exit code that a request to stop asked for at the very end, when nothing was left to stop.
        self.timed_steps, self.seconds, self.late_exit_code = 0, 0.0, 0
        if options.early_stopping_patience and validation is None:
            raise UsageError("--early_stopping_patience needs data to evaluate on")

    # --- state ----------------------------------------------------------------------------------

    def restore(self) -> bool:
        """Takes up the newest whole checkpoint; returns whether there was one.

        Raises:
            UserError: none can be read, or the workers have found different ones.
        """
        state = self.store.restore_latest()
        check_workers_agree(self.strategy, self.model_dir, state)
        if state is None:
            return False
        self.store.repair_best()
        self.step = state["step"]
        if "window" in state:  # otherwise it was converted, with its optimizer
            if len(state["window"]) == len(self.window):
                self.window[:], self.window_steps = state["window"], state["window_steps"]
            else:
                logging.info("saved by another version: the next log record begins at this step")
            self.best = state["best"]
            # Checkpoints of earlier versions have neither.
            self.stale_evaluations = state.get("stale_evaluations", 0)
            self.total_seconds = state.get("seconds", 0.0)
            self.evaluation_due = state.get("evaluation_due", False) and self.validation is not None
            if self.watch is not None:
                self.watch.restore(state["watch"])
        return True

    def save(self, replace: bool = False) -> Path | None:
        """Writes a checkpoint, on the chief, in the place of one of this step if that is to be."""
        if not self.chief:
            return None
        return self.store.save(
            {
                "step": self.step,
                "window": self.window.tolist(),
                "window_steps": self.window_steps,
                "best": self.best,
                "stale_evaluations": self.stale_evaluations,
                "seconds": self.total_seconds + time.monotonic() - self.started,
                "watch": self.watch.state() if self.watch is not None else None,
                "records": self.fingerprint,
                "evaluation_due": self.evaluation_due,
            },
            replace,
        )

    # --- the loop -------------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to train, nor to evaluate."""
        return not self.evaluation_due and self.options.is_finished(
            self.step, self.stale_evaluations
        )

    @property
    def stopped_early(self) -> bool:
        """Whether `early_stopping_patience` has ended the run."""
        return self.finished and self.step < self.options.train_steps

    def run(self) -> int:
        """Trains to the end, or to a request to stop; returns the exit code.

        Raises:
            UserError: bad records, or a checkpoint that cannot be written.
            NotFiniteError: a loss or gradient that is not finite.
        """
        options = self.options
        if self.finished:
            logging.info("nothing to train: %s", self._progress_made())
            return 0
        self.summaries = None
        if self.chief:
            self.summaries = SummaryWriter(self.model_dir, self.step)
            facts = describe_start(self.model_dir, describe(self.strategy), self.fingerprint)
            self.summaries.start(self.step, facts)
        self.progress = ProgressLine(options.train_steps, "steps", start=self.step)
        run_steps = make_step_function(self.strategy, self.model, self.options.train_batch_size)
        profile = options.profile_range()
        self.started, self.first_step = time.monotonic(), True
        with StopRequest(options.max_runtime) as stop:
            self.stop, iterator = stop, None
            while not self.finished:
                if self.evaluation_due:  # of the checkpoint that the run goes on from
                    self._evaluate_and_save(again=True)
                else:
                    iterator = self.batches() if iterator is None else iterator
                    self._train(iterator, run_steps, profile)
                if self.votes > 0 and not self.finished:
                    self.save()
                    self._close()
                    wait_for_all(self.strategy)
                    logging.info(
                        "stopped by %s at step %d; the same command continues",
                        stop.reason or "another worker", self.step,
                    )  # fmt: skip
                    return stop.exit_code_after(self.votes)
        self.save()
        self._close()
        wait_for_all(self.strategy)
        self.late_exit_code = stop.exit_code_after(self.votes)
        if self.stopped_early:
            logging.info("%s", self._progress_made())
        elapsed = time.monotonic() - self.started
        self.total_seconds += elapsed
        logging.info("trained to step %d in %s", self.step, format_duration(elapsed))
        return 0

    def _train(self, iterator: Any, run: Any, profile: tuple[int, int] | None) -> None:
        """Makes the steps up to the next event, and does what is due then."""
        if profile and self.step == profile[0] and self.chief:
            tf.profiler.experimental.start(str(self.model_dir / "logs" / "train"))
            self.profiling = True
        count = self._steps_to_next_event(profile)
        begun = time.monotonic()
        try:
            parts = self.strategy.num_replicas_in_sync * self.options.gradient_accumulation_steps
            longest = self.feed.longest(self.step, self.steps_per_execution, parts)
            rows = run(iterator, tf.constant(count), tf.constant(self.stop.vote), longest).numpy()
        except READ_ERRORS as error:
            self.progress.clear()
            raise self.feed.explain(error) from error
        if self.first_step:
            logging.info("first step after %.1f s", time.monotonic() - self.started)
            release_freed_memory()
            self.first_step = False
        else:
            self.seconds += time.monotonic() - begun
            self.timed_steps += count
        self._account(rows)
        if profile and self.step > profile[1]:
            self._stop_profile()
        # Votes of all workers, so that all stop at the same step.
        self.votes = rows[-1, -1] * self.strategy.num_replicas_in_sync
        self._events()

    def _progress_made(self) -> str:
        text = f"step {self.step} of {self.options.train_steps}"
        if not self.stopped_early:
            return text
        best = "the best" if self.best is None else f"that of step {self.best['step']}"
        return (
            f"stopped early at {text}: the last {self.stale_evaluations} evaluations were no better "
            f"than {best} (--early_stopping_patience={self.options.early_stopping_patience})"
        )

    def batches(self) -> Any:
        """Returns an iterator of per-replica batches from the current step on."""
        return iter(distribute(self.strategy, partial(self.feed.dataset, self.step)))

    def _steps_to_next_event(self, profile: tuple[int, int] | None) -> int:
        options = self.options
        intervals = (
            options.log_steps,
            options.save_steps,
            options.eval_steps,
            options.histogram_steps,
        )
        ends = [(self.step // interval + 1) * interval for interval in intervals if interval]
        ends += [options.train_steps, self.step + self.steps_per_execution]
        if profile:
            ends += [end for end in (profile[0], profile[1] + 1) if end > self.step]
        return min(ends) - self.step

    def _account(self, rows: np.ndarray) -> None:
        """Adds the steps' reports to the window; stops the run if one is not finite."""
        size, last = self.model.report_size, self.step + len(rows)
        for row in rows.astype(np.float64):
            self.step += 1
            extras = dict(zip(EXTRAS, row[size:], strict=True))
            bad_gradient = not math.isfinite(extras["gradient_norm"])
            scaling = self.model.optimizer.dynamic_loss_scale
            if scaling and bad_gradient and extras["loss_scale"] > 2.0**-14:
                row[size] = 0.0  # the step was skipped and the scale lowered
                bad_gradient = False
            if bad_gradient or not np.all(np.isfinite(row[:size])):
                self._stop_not_finite(row, last)
            self.window += row
            self.window_steps += 1

    def _stop_not_finite(self, row: np.ndarray, last_step: int) -> None:
        if self.chief:
            report = describe_not_finite(self.model, self.step, last_step, row)
            path = self.model_dir / f"not-finite-step-{self.step}.json"
            write_whole(path, json.dumps(report, indent=2) + "\n")
            self._close()
        self.total_seconds += time.monotonic() - self.started
        raise NotFiniteError(
            f"loss or gradient is not finite at step {self.step}. What was trained since the last "
            f"checkpoint is dropped; details in {self.model_dir}/not-finite-step-{self.step}.json. "
            "Lower --learning_rate, or lengthen the warm-up"
        )

    # --- events ---------------------------------------------------------------------------------

    def _events(self) -> None:
        """Does what is due at this step: log, evaluate, save."""
        options, step = self.options, self.step
        if self._due(options.log_steps):
            self._log()
        else:
            self._show_progress()
        if options.histogram_steps and step % options.histogram_steps == 0 and self.chief:
            self.summaries.histograms(step, self.model.trainable_variables)
        self.evaluation_due = self._due(options.eval_steps) and self.validation is not None
        self._evaluate_and_save()

    def _due(self, interval: int) -> bool:
        final = self.step == self.options.train_steps
        return bool(interval) and (final or self.step % interval == 0)

    def _evaluate_and_save(self, again: bool = False) -> None:
        """Evaluates, if that is due, and saves, unless the evaluation is stopped: then `run` does."""
        is_best = self._evaluate() if self.evaluation_due else False
        if not self.evaluation_due and (again or self._due(self.options.save_steps) or is_best):
            path = self.save(replace=again)
            if is_best and path is not None:
                self.store.save_best(path)

    def _rates(self) -> dict[str, float]:
        """Returns throughput since the last record; none before a step has been timed."""
        if not self.seconds:
            return {}
        steps_per_second = self.timed_steps / self.seconds
        tokens = self.window[self.model.report_names.index("tokens")] / self.window_steps
        batch_size = self.options.train_batch_size
        rates = {
            "examples_per_second": steps_per_second * batch_size,
            "tokens_per_second": steps_per_second * tokens,
        }
        if self.options.peak_teraflops:
            flops = self.model.flops_per_example * rates["examples_per_second"]
            rates["model_flops_utilisation"] = flops / (self.options.peak_teraflops * 1e12)
        return rates

    def _log(self) -> None:
        if not self.window_steps:
            return
        step, size = self.step, self.model.report_size
        metrics = self.model.summarize(self.window[:size])
        extras = dict(zip(EXTRAS, self.window[size:] / self.window_steps, strict=True))
        metrics |= {name: extras[name] for name in ("gradient_norm", "learning_rate")}
        if self.model.optimizer.dynamic_loss_scale:
            metrics["loss_scale"] = extras["loss_scale"]
        warning = self.watch.update(step, metrics) if self.watch is not None else None
        metrics |= self._rates()
        self.window[:] = 0
        self.window_steps, self.timed_steps, self.seconds = 0, 0, 0.0
        if not self.chief:
            return
        self.summaries.scalars("train", step, metrics)
        self.progress.clear()
        rate = metrics.get("examples_per_second")
        logging.info(
            "step %d/%d  %s  lr %.2e  %s examples/s",
            step, self.options.train_steps, self.model.describe(metrics),
            metrics["learning_rate"], "-" if rate is None else f"{rate:.1f}",
        )  # fmt: skip
        if warning:
            logging.warning("%s", warning)

    def _show_progress(self) -> None:
        if self.chief and self.window_steps and self.progress.enabled:
            metrics = self.model.summarize(self.window[: self.model.report_size])
            self.progress.update(self.step, f"loss {metrics['loss']:.3f}")

    def _evaluate(self) -> bool:
        """Evaluates, writes the metrics; returns whether they are the best so far.

        A request to stop ends it: `evaluation_due` then stays, and the run that goes on repeats it.
        """

        def look_for_stop(_: int) -> None:
            self.votes = max(self.votes, self._sum_over_workers(self.stop.vote))
            if self.votes > 0:
                raise EvaluationStopped

        try:
            metrics = self.validation.metrics(look_for_stop)
        except EvaluationStopped:
            return False
        self.evaluation_due = False
        better = self.validation.is_better(metrics, self.best)
        if better:
            self.best = {"step": self.step, **metrics}
        self.stale_evaluations = 0 if better else self.stale_evaluations + 1
        self.validation.show(self.summaries, self.step)
        if self.chief:
            self.summaries.scalars("validation", self.step, metrics)
            self.summaries.flush()
            self.progress.clear()
            logging.info(
                "step %d validation  %s%s",
                self.step, self.validation.describe(metrics), "  (best)" if better else "",
            )  # fmt: skip
        return better

    def _stop_profile(self) -> None:
        if self.profiling:
            tf.profiler.experimental.stop()
            self.profiling = False

    def _close(self) -> None:
        self._stop_profile()
        self.progress.clear()
        if self.summaries is not None:
            self.summaries.close()
