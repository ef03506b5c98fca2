"""Several runs that differ in their seed: what each came to, and all together.

MODEL_DIR/trial-SEED/              a run directory
MODEL_DIR/trial-SEED/trial.json    whether it failed, written when it is finished
MODEL_DIR/trials.json              the summary
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from electra_keras.console import UserError, reason
from electra_keras.options import RunOptions
from electra_keras.training import checkpoints
from electra_keras.training.run_directory import TRIAL_FILE

SUMMARY_FILE = "trials.json"


@dataclasses.dataclass(frozen=True)
class Trial:
    """A finished run.

    Attributes:
        seed: its seed.
        directory: its run directory.
        step: where it ended.
        best: its best dev metrics, with the `step` that they are of; empty where none was a number.
        failed: whether it ended at one answer for everything (`Task.failed`).
        seconds: that its training took, evaluations included.
    """

    seed: int
    directory: Path
    step: int
    best: dict[str, float]
    failed: bool
    seconds: float

    @classmethod
    def read(cls, directory: Path, seed: int, options: RunOptions) -> "Trial | None":
        """Returns the run of a directory, or None where it is not finished.

        Args:
            directory: of the run.
            seed: its seed.
            options: say when it is finished.

        Raises:
            UserError: a file of it cannot be read.
        """
        steps, path = checkpoints.checkpoint_steps(directory), directory / TRIAL_FILE
        if not steps or not path.exists():
            return None
        state = checkpoints.read_state(steps[max(steps)])
        try:
            outcome = json.loads(path.read_text(encoding="utf-8"))
            step, failed = int(outcome["step"]), bool(outcome["failed"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(f"{path} cannot be read: {reason(error)}") from error
        if step != state["step"] or not options.is_finished(step, state["stale_evaluations"]):
            return None
        return cls(seed, directory, step, state["best"] or {}, failed, state["seconds"])

    @staticmethod
    def write(directory: Path, step: int, failed: bool) -> None:
        """Says in a run directory that the run is finished, and whether it failed."""
        text = json.dumps({"step": step, "failed": failed}) + "\n"
        checkpoints.write_file(directory / TRIAL_FILE, text)

    def value(self, metric: str) -> float:
        """Returns a metric of the best evaluation; NaN where there is none."""
        return self.best.get(metric, math.nan)


def best_trial(trials: Sequence[Trial], metric: str) -> Trial:
    """Returns the trial of the highest metric, the earliest of equal ones."""
    return max(trials, key=lambda t: -math.inf if math.isnan(t.value(metric)) else t.value(metric))


def summarize(trials: Sequence[Trial], metrics: Sequence[str]) -> dict[str, Any]:
    """Returns what trials.json holds; the figures are of the trials whose metric is a number.

    Args:
        trials: at least one; failed ones count like others.
        metrics: of the task; the first chooses the best trial.
    """
    summary = {}
    for metric in metrics:
        values = np.array([trial.value(metric) for trial in trials])
        values = values[~np.isnan(values)]
        if len(values):
            summary[metric] = {
                "median": float(np.median(values)),
                "best": float(values.max()),
                "mean": float(values.mean()),
                # Of a sample, hence n - 1.
                "standard_deviation": float(values.std(ddof=1)) if len(values) > 1 else None,
            }
    rows = [dataclasses.asdict(trial) | {"directory": trial.directory.name} for trial in trials]
    for row in rows:
        row["best"] = {k: v if math.isfinite(v) else None for k, v in row["best"].items()}
    return {
        "trials": rows,
        "summary": summary,
        "failed": sum(trial.failed for trial in trials),
        "best": best_trial(trials, metrics[0]).directory.name,
    }


def format_table(trials: Sequence[Trial], metrics: Sequence[str]) -> str:
    """Returns the same for people; arguments as of `summarize`."""
    summary = summarize(trials, metrics)
    width = max(12, *(len(metric) + 2 for metric in metrics))
    lines = ["seed".ljust(12) + "".join(m.rjust(width) for m in metrics) + "   best step  seconds"]
    for trial in trials:
        line = str(trial.seed).ljust(12) + "".join(
            f"{trial.value(metric):{width}.4f}" for metric in metrics
        )
        line += f"{trial.best.get('step', '-'):>12}{trial.seconds:9.0f}"
        lines.append(line + ("  failed" if trial.failed else ""))
    for figure in ("median", "best", "mean", "standard_deviation"):
        values = [summary["summary"].get(metric, {}).get(figure) for metric in metrics]
        cells = ("-".rjust(width) if v is None else f"{v:{width}.4f}" for v in values)
        lines.append(
            ("std" if figure == "standard_deviation" else figure).ljust(12) + "".join(cells)
        )
    lines.append(f"failed      {summary['failed']} of {len(trials)}")
    lines.append(f"best trial  {best_trial(trials, metrics[0]).directory}")
    return "\n".join(lines)
