"""Kills a real run at random moments, resumes it, and compares its end with an uninterrupted run.

    python benchmarks/kill_and_resume.py --data_dir=data/quickstart/records [--kills=10] [--steps=1500]

Both runs use configs/quickstart.cfg with frequent checkpoints. Prints one JSON object: the steps at
which the run was resumed, and how many arrays of the final checkpoint (weights and optimizer) and how
many records of metrics.jsonl differ; both must be 0.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

import numpy as np  # noqa: E402

from tests import runs  # noqa: E402


def command(args: argparse.Namespace, model_dir: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "electra_keras.train",
        f"--flagfile={REPOSITORY / 'configs' / 'quickstart.cfg'}",
        f"--data_dir={Path(args.data_dir).resolve()}",
        f"--model_dir={model_dir}",
        f"--train_steps={args.steps}",
        "--save_steps=25",
        "--log_steps=10",
        "--eval_steps=100",
        "--eval_batches=5",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as directory:
        whole, killed = Path(directory) / "whole", Path(directory) / "killed"
        begun = time.monotonic()
        subprocess.run(command(args, whole), check=True, cwd=REPOSITORY, capture_output=True)
        duration = time.monotonic() - begun
        resumed = []
        for _ in range(args.kills):
            process = subprocess.Popen(
                command(args, killed),
                cwd=REPOSITORY,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            # Any moment: start-up, first step, training, evaluation, or while a checkpoint is written.
            time.sleep(4 + rng.uniform(0.0, 1.8) * duration / args.kills)
            process.kill()
            stderr = process.communicate()[1]
            resumed += [int(step) for step in re.findall(r"resuming at step (\d+)", stderr)]
        subprocess.run(command(args, killed), check=True, cwd=REPOSITORY, capture_output=True)
        expected, got = (runs.checkpoint_arrays(d, args.steps) for d in (whole, killed))
        records = [runs.metrics_of(d) for d in (whole, killed)]
    print(
        json.dumps(
            {
                "kills": args.kills,
                "resumed_at": resumed,
                "arrays": len(expected),
                "arrays_that_differ": sum(
                    not np.array_equal(value, got[name]) for name, value in expected.items()
                ),
                "records": len(records[0]),
                "records_that_differ": sum(a != b for a, b in zip(*records, strict=True)),
            }
        )
    )


if __name__ == "__main__":
    main()
