"""Ours against the best PyTorch loop, alternating on one machine: prints medians and the ratio as JSON.

    pip install -r requirements-convert.txt
    python benchmarks/compare_peers.py [--sizes=tiny,small] [--rounds=3] [--steps=12]

Batch 32, length 128, float32, the same sizes and masking share. Nothing else may run on the machine.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
FIELDS = (
    "examples_per_second", "cpu_seconds", "first_step_seconds", "first_step_peak_memory_mb",
    "peak_memory_mb", "page_faults",
)  # fmt: skip


def run(script: str, *args: str) -> dict[str, float]:
    command = [sys.executable, str(HERE / script), *args]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="tiny,small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    args = parser.parse_args()
    for size in args.sizes.split(","):
        runs: dict[str, list[dict[str, float]]] = {"ours": [], "pytorch": []}
        for number in range(args.rounds):
            print(f"{size}, round {number + 1} of {args.rounds}", file=sys.stderr)
            steps = f"--steps={args.steps}"
            runs["ours"].append(run("pretraining_throughput.py", f"--sizes={size}", steps))
            runs["pytorch"].append(run("peer_pytorch.py", f"--size={size}", steps))
        medians = {
            who: {field: statistics.median(r[field] for r in found) for field in FIELDS}
            for who, found in runs.items()
        }
        rates = [medians[who]["examples_per_second"] for who in ("ours", "pytorch")]
        print(json.dumps({"size": size, "ratio": round(rates[0] / rates[1], 3), **medians}))


if __name__ == "__main__":
    main()
