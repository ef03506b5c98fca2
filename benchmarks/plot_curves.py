"""Plots a run's curves from its metrics.jsonl.

    python benchmarks/plot_curves.py --model_dir=runs/tiny --data_dir=records --output=curves.png

Needs matplotlib (requirements-dev.txt). The dashed line is the unigram entropy of the training data,
from metadata.json: a generator below it uses the context.
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS = (
    ("generator_masked_loss", "generator loss at [MASK], nats"),
    ("discriminator_auc", "discriminator AUC"),
    ("discriminator_recall", "discriminator recall"),
    ("replaced_share", "share of tokens replaced"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model_dir", type=Path, required=True)
    parser.add_argument("--data_dir", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    lines = (args.model_dir / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    metadata = json.loads((args.data_dir / "metadata.json").read_text())
    figure, axes = plt.subplots(2, 2, figsize=(10, 6), sharex=True, layout="constrained")
    for axis, (name, title) in zip(axes.flat, PANELS, strict=True):
        for split, color in (("train", "0.75"), ("validation", "tab:blue")):
            points = [
                (r["step"], r[name]) for r in records if r["split"] == split and r[name] is not None
            ]
            if points:
                axis.plot(*zip(*points, strict=True), color=color, label=split)
        axis.set_title(title, fontsize=10)
        axis.grid(alpha=0.3)
    axes[0, 0].axhline(
        metadata["unigram_entropy"], color="k", ls="--", lw=1, label="unigram entropy"
    )
    axes[0, 1].axhline(0.5, color="k", ls="--", lw=1, label="guessing")
    for axis in axes[0]:
        axis.legend(fontsize=8)
    for axis in axes[1]:
        axis.set_xlabel("step")
    figure.savefig(args.output, dpi=110)
    print(f"{args.output}: {len(records)} records")


if __name__ == "__main__":
    main()
