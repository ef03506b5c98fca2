"""Damages checkpoints in every way and counts what a run that goes on makes of it.

A run of a small ELECTRA has three checkpoints and a best one. In each case one file of one of them is
truncated, emptied, zeroed, deleted, or has a bit flipped; then a new process's part of a run's start
is done in this one: the newest whole checkpoint is restored, the run reaches the end of its steps
again and writes its checkpoint. The outcome is one of

  named      the damage is said in a warning, and an earlier or other copy is used
  harmless   an older checkpoint is damaged, which nobody reads; it is found when it is asked for
  silent     the newest or the best one is damaged, and nothing says so, or wrong weights are used
  stopped    the run does not go on
  lost       after the run there is no whole newest or best checkpoint

and the last three must be 0. Prints one JSON object.

  python benchmarks/torture_checkpoints.py --cases=1000
"""

import argparse
import collections
import json
import logging
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from electra_keras.console import UserError
from electra_keras.options import ModelOptions
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.training.checkpoints import CheckpointStore, find_checkpoint
from electra_keras.training.manifest import damage
from electra_keras.training.optimizer import ElectraOptimizer

STEPS = (4, 8, 12)
STATE = {"window": [0.0, 1.5, 2.5], "window_steps": 3, "watch": None, "seconds": 1.5}


def truncate(path: Path, rng: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def zero(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    begin = rng.randrange(len(content))
    end = rng.randrange(begin, len(content)) + 1
    if not any(content[begin:end]):  # zeros already
        begin, end = 0, len(content)
    content[begin:end] = bytes(end - begin)
    path.write_bytes(content)


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def delete(path: Path, rng: random.Random) -> None:
    path.unlink()


WAYS = (truncate, empty, zero, flip, delete)


class Warnings(logging.Handler):
    """Keeps what was logged as a warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps a record's text."""
        self.lines.append(record.getMessage())


def fill(model: ElectraPretrainer, step: int) -> None:
    for variable in model.weights:
        variable.assign(np.full(variable.shape, step, variable.dtype))


def step_of(model: ElectraPretrainer) -> float | None:
    """Returns the number that all weights are, or None where they differ."""
    values = {float(v) for w in model.trainable_variables for v in np.unique(w.numpy())}
    return values.pop() if len(values) == 1 else None


def torture(
    whole: Path, model_dir: Path, store: CheckpointStore, model: ElectraPretrainer,
    target: str, name: str, harm: object, rng: random.Random, warnings: Warnings,
) -> str:  # fmt: skip
    """Makes one case in `model_dir`; returns its outcome."""
    shutil.rmtree(model_dir, ignore_errors=True)
    shutil.copytree(whole, model_dir)
    path = model_dir / "checkpoints" / target / name
    before = path.read_bytes()
    harm(path, rng)
    assert not path.exists() or path.read_bytes() != before
    warnings.lines.clear()
    store.damaged = set()
    fill(model, -1)
    try:
        state = store.restore_latest()
        store.repair_best()
    except UserError:
        return "stopped"
    named = any(str(path.parent) in line for line in warnings.lines)
    newest = f"step-{STEPS[-1]:08d}"
    expected = STEPS[-2] if target == newest else STEPS[-1]
    if state["step"] != expected or step_of(model) != expected:
        return "silent"
    # A best one is written anew from its step's checkpoint, which needs no warning: both are there.
    best = model_dir / "checkpoints" / "best"
    repaired = target == "best" and damage(best) is None
    # The run goes on: to its end, and to a best one where it was forgotten.
    fill(model, STEPS[-1])
    final = store.save({"step": STEPS[-1], **STATE, "best": state["best"]})
    if damage(final) is not None or damage(best) is not None:
        return "lost"
    if target == newest or target == "best":
        return "named" if named or repaired else "silent"
    try:
        find_checkpoint(model_dir, str(int(target.removeprefix("step-"))))
    except UserError:
        return "harmless"
    return "silent"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    options = ModelOptions(
        model_size="tiny", embedding_size=16, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2,
    )  # fmt: skip
    special = dict(cls_token_id=2, sep_token_id=3, mask_token_id=4)
    config = options.resolve(vocab_size=64, max_seq_length=16, **special)
    model = ElectraPretrainer(config)
    model.compile(ElectraOptimizer(1e-3))
    model.optimizer.build(model.trainable_variables)
    warnings = Warnings()
    logger = logging.getLogger("absl")
    logger.handlers, logger.propagate = [warnings], False

    rng, counts = random.Random(args.seed), collections.defaultdict(collections.Counter)
    bad = []
    with tempfile.TemporaryDirectory() as directory:
        whole, model_dir = Path(directory) / "whole", Path(directory) / "run"
        store = CheckpointStore(whole, model, model.optimizer, keep=3)
        for step in STEPS:
            fill(model, step)
            path = store.save({"step": step, **STATE, "best": {"step": min(step, 8), "auc": 0.7}})
            if step == 8:
                store.save_best(path)
        store = CheckpointStore(model_dir, model, model.optimizer, keep=3)
        files = sorted(
            (path.parent.name, path.name) for path in (whole / "checkpoints").glob("*/*")
        )
        cases = [(target, name, harm) for target, name in files for harm in WAYS]
        for number in range(args.cases):
            target, name, harm = cases[number % len(cases)]
            outcome = torture(whole, model_dir, store, model, target, name, harm, rng, warnings)
            counts[harm.__name__][outcome] += 1
            if outcome in ("silent", "stopped", "lost"):
                bad.append([outcome, target, name, harm.__name__])
            if sys.stderr.isatty():
                sys.stderr.write(f"\r{number + 1}/{args.cases}")
    total = sum(counts.values(), collections.Counter())
    print(
        json.dumps(
            {
                "cases": args.cases,
                "seed": args.seed,
                "outcomes": {
                    key: total[key] for key in ("named", "harmless", "silent", "stopped", "lost")
                },
                "by_way": {way: dict(counter) for way, counter in counts.items()},
                "bad": bad[:20],
            },
            indent=2,
        )
    )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    main()
