"""What pre-training brings: fine-tunes a model from its weights and from random ones, on nine tasks.

    python -m benchmarks.finetuning_table --init_from=runs/pretrained --data=DATA --output=runs/table

DATA holds the data sets as they are published: glue/{SST-2,CoLA,MRPC,RTE,STS-B}/*.tsv,
imdb/{train,dev}.jsonl (`text`, `label`), squad/dev-v1.1.json (divided by articles here),
conll2000/{train,test}.txt, wnut17/{wnut17train,emerging.dev}.conll. Tasks whose files are missing are
named and left out.

Both runs of a task have the same settings and seeds but for the learning rate (`RATES`: what has to
be learnt from nothing wants a higher one), and are scored once, at their end: no checkpoint is chosen by
the dev set. Prints a Markdown table of medians, with the range in brackets, the number of failed runs
where there are any, and the seconds a run took. Finished trials are not run again, so the
command can be stopped and continued, and `--weights` does one half. `--also=--learning_rate=3e-4`
gives finetune more flags, which win over the table's: use another --output with it. With a model of 2
layers, 128 wide, a run takes one to seven minutes on a CPU core.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

# For tiny models; larger ones want less. Chosen of 3e-4 and 1e-3 in trial runs; see BUILD_NOTES.md.
RATES = {"pretrained": "3e-4", "random": "1e-3"}
TAGGING_RATES = {"pretrained": "1e-3", "random": "1e-3"}
# Task -> (metric, flags).
COMMON = (
    "--layerwise_lr_decay=1", "--eval_steps=1000000",
    "--log_steps=500", "--save_steps=1000000",
)  # fmt: skip
TASKS = {
    "SST-2": ("accuracy", ("--task=SST-2", "--data_dir={data}/glue/SST-2", "--num_train_epochs=1",
                           "--max_seq_length=64")),
    "CoLA": ("matthews", ("--task=CoLA", "--data_dir={data}/glue/CoLA", "--num_train_epochs=5",
                          "--max_seq_length=64")),
    "MRPC": ("accuracy", ("--task=MRPC", "--data_dir={data}/glue/MRPC", "--num_train_epochs=4",
                          "--double_unordered")),
    "RTE": ("accuracy", ("--task=RTE", "--data_dir={data}/glue/RTE", "--num_train_epochs=5")),
    "STS-B": ("spearman", ("--task=STS-B", "--data_dir={data}/glue/STS-B", "--num_train_epochs=8")),
    "IMDB": ("accuracy", ("--task=classification", "--data_dir={data}/imdb", "--num_train_epochs=1",
                          "--max_seq_length=128", "--truncation=head_tail")),
    "SQuAD 1.1": ("f1", ("--task=question_answering", "--train_file={data}/squad/dev-v1.1.json",
                         "--dev_share=0.2", "--num_train_epochs=2", "--max_seq_length=128",
                         "--max_query_length=32", "--stride=48")),
    "CoNLL-2000": ("f1", ("--task=tagging", "--train_file={data}/conll2000/train.txt",
                          "--dev_file={data}/conll2000/test.txt", "--num_train_epochs=3")),
    "WNUT-17": ("f1", ("--task=tagging", "--train_file={data}/wnut17/wnut17train.conll",
                       "--dev_file={data}/wnut17/emerging.dev.conll", "--num_train_epochs=5")),
}  # fmt: skip


def fine_tune(arguments: argparse.Namespace, directory: Path, flags: list[str]) -> dict | None:
    """Returns what trials.json says, or None where the data is not there."""
    command = [
        sys.executable, "-m", "electra_keras.finetune", f"--init_from={arguments.init_from}",
        f"--checkpoint={arguments.checkpoint}", f"--model_dir={directory}",
        f"--num_trials={arguments.trials}", *COMMON, *flags,
    ]  # fmt: skip
    files = [flag.partition("=")[2] for flag in flags if flag.startswith(("--data_dir", "--train"))]
    if not all(Path(file).exists() for file in files):
        print(f"{directory.name}: no {files[0]}, left out", file=sys.stderr)
        return None
    with (directory.parent / f"{directory.name}.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}; see {log.name}")
    return json.loads((directory / "trials.json").read_text())


def describe(summary: dict | None, metric: str) -> str:
    """Returns a table's cell."""
    if summary is None:
        return "-"
    values = [trial["best"][metric] for trial in summary["trials"]]
    scale = 100 if max(map(abs, values)) <= 1 else 1
    low, middle, high = (scale * f(values) for f in (min, statistics.median, max))
    failed = f", {summary['failed']} failed" if summary["failed"] else ""
    return f"**{middle:.1f}** ({low:.1f} to {high:.1f}{failed})"


def main() -> None:
    """Runs the tasks and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--init_from", required=True)
    parser.add_argument("--checkpoint", default="best", help="best, latest, or a step")
    parser.add_argument("--data", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--trials", type=int, default=3)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--weights", choices=("both", "pretrained", "random"), default="both")
    parser.add_argument("--also", default="", help="more flags for finetune, by spaces")
    arguments = parser.parse_args()
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    kinds = ("pretrained", "random") if arguments.weights == "both" else (arguments.weights,)
    print("| task | metric | " + " | ".join(kinds) + " | seconds a run |")
    print("|---|---|" + "---|" * (len(kinds) + 1))
    for task in arguments.tasks.split(","):
        metric, flags = TASKS[task]
        rates = TAGGING_RATES if "--task=tagging" in flags else RATES
        summaries = [
            fine_tune(
                arguments,
                output / f"{task.replace(' ', '-')}-{kind}",
                [flag.format(data=arguments.data) for flag in flags]
                + [f"--learning_rate={rates[kind]}"]
                + ["--random_weights"] * (kind == "random")
                + arguments.also.split(),
            )
            for kind in kinds
        ]
        seconds = [t["seconds"] for s in summaries if s for t in s["trials"]]
        cells = [describe(summary, metric) for summary in summaries]
        time = f"{statistics.median(seconds):.0f}" if seconds else "-"
        print(f"| {task} | {metric} | {' | '.join(cells)} | {time} |", flush=True)


if __name__ == "__main__":
    main()
