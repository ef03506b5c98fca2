"""How a run ended, and several that differ in their seed.

MODEL_DIR/outcome.json             of a finished run
MODEL_DIR/trial-SEED/              a run directory, one of several trials
MODEL_DIR/trials.json              their summary
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from electra_keras.console import UserError, reason
from electra_keras.files import write_whole
from electra_keras.tasks.interface import Task
from electra_keras.training.loop import Trainer
from electra_keras.training.run_directory import OUTCOME_FILE

SUMMARY_FILE = "trials.json"


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended; outcome.json.

    Attributes:
        task: its name.
        metrics: of the task; the first one chooses the best checkpoint.
        seed: of the run.
        step: where it ended.
        best: the best dev metrics, with the `step` that they are of; a metric that is no number is
            None; empty where there is no best evaluation.
        failed: whether it ended at one answer for everything (`Task.failed`), or at a loss that is
            not finite.
        seconds: that its training took, evaluations included.
        flags: what it was run with.
    """

    task: str
    metrics: tuple[str, ...]
    seed: int
    step: int
    best: dict[str, float | None]
    failed: bool
    seconds: float
    flags: tuple[str, ...]

    @classmethod
    def of_run(
        cls, task: Task, seed: int, trainer: Trainer, failed: bool, flags: tuple[str, ...]
    ) -> Self:
        """Returns that of a trainer whose run is finished; arguments as the attributes."""
        best = {k: v if math.isfinite(v) else None for k, v in (trainer.best or {}).items()}
        return cls(
            task.name, task.metrics, seed, trainer.step, best, failed, trainer.total_seconds, flags
        )

    def write(self, model_dir: Path) -> None:
        """Writes it into the run directory."""
        text = json.dumps(dataclasses.asdict(self), indent=2) + "\n"
        write_whole(model_dir / OUTCOME_FILE, text)

    @classmethod
    def read(cls, model_dir: Path, flags: Sequence[str]) -> Self | None:
        """Returns that of a run directory; None where it is not finished, or was with other flags.

        Raises:
            UserError: it cannot be read.
        """
        path = model_dir / OUTCOME_FILE
        if not path.exists():
            return None
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
            outcome = cls(**values)
            if not outcome.metrics or not isinstance(outcome.best, dict):
                raise ValueError("it holds an impossible value")
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path} cannot be read: {reason(error)}") from error
        return outcome if outcome.flags == tuple(flags) else None

    def value(self, metric: str) -> float:
        """Returns a metric of the best evaluation; NaN where there is none."""
        value = self.best.get(metric)
        return math.nan if value is None else value


def trial_directory(model_dir: Path, seed: int) -> Path:
    """Returns the run directory of one of several trials."""
    return model_dir / f"trial-{seed}"


def best_trial(outcomes: Sequence[Outcome]) -> Outcome:
    """Returns the one of the highest first metric, the earliest of equal ones."""
    values = [outcome.value(outcome.metrics[0]) for outcome in outcomes]
    return outcomes[int(np.argmax([-math.inf if math.isnan(v) else v for v in values]))]


def summarize(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Returns what trials.json holds; figures are of the trials whose metric is a number.

    Args:
        outcomes: of one task, at least one; failed ones count like others.
    """
    figures = {}
    for metric in outcomes[0].metrics:
        values = np.array([outcome.value(metric) for outcome in outcomes])
        values = values[~np.isnan(values)]
        if len(values):
            figures[metric] = {
                "median": float(np.median(values)),
                "best": float(values.max()),
                "mean": float(values.mean()),
                # Of a sample, hence n - 1.
                "standard_deviation": float(values.std(ddof=1)) if len(values) > 1 else None,
            }
    return {
        "task": outcomes[0].task,
        "trials": [
            {
                "directory": trial_directory(Path(), outcome.seed).name,
                "seed": outcome.seed,
                "step": outcome.step,
                "best": outcome.best,
                "failed": outcome.failed,
                "seconds": outcome.seconds,
            }
            for outcome in outcomes
        ],
        "figures": figures,
        "failed": sum(outcome.failed for outcome in outcomes),
        "best": trial_directory(Path(), best_trial(outcomes).seed).name,
    }


def format_table(outcomes: Sequence[Outcome], model_dir: Path) -> str:
    """Returns the same for people.

    Args:
        outcomes: as of `summarize`.
        model_dir: which holds the trials.
    """
    summary, metrics = summarize(outcomes), outcomes[0].metrics
    width = max(12, *(len(metric) + 2 for metric in metrics))
    lines = ["seed".ljust(12) + "".join(m.rjust(width) for m in metrics) + "   best step  seconds"]
    for outcome in outcomes:
        cells = "".join(f"{outcome.value(metric):{width}.4f}" for metric in metrics)
        line = f"{outcome.seed:<12}{cells}{outcome.best.get('step', '-'):>12}{outcome.seconds:9.0f}"
        lines.append(line + ("  failed" if outcome.failed else ""))
    for figure in ("median", "best", "mean", "standard_deviation"):
        values = [summary["figures"].get(metric, {}).get(figure) for metric in metrics]
        cells = ("-".rjust(width) if v is None else f"{v:{width}.4f}" for v in values)
        lines.append(figure.replace("standard_deviation", "std").ljust(12) + "".join(cells))
    lines.append(f"failed      {summary['failed']} of {len(outcomes)}")
    lines.append(f"best trial  {model_dir / summary['best']}")
    return "\n".join(lines)
