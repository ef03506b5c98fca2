"""Measures how fast data_tools.build_pretraining_data turns text into examples; prints JSON.

    python benchmarks/data_building.py
    python benchmarks/data_building.py --input='corpus/*.txt' --vocab_file=vocab.txt --workers=1,2,8
    python benchmarks/data_building.py --original=electra   # a clone of google-research/electra

Without --input the text is made up: words of random syllables whose frequencies follow Zipf's law,
200 MB of it. The command runs twice for every number of workers, on a small part of the text (one
worker's share of the start-up: imports, tokenizer, graph) and on all of it. The rate is what the
second run took longer for what it read more, so it is the rate of a long run.

Output, for every number of workers: `start_up_s`, `mb_per_s`, `examples_per_s`, and both of the last
two divided by the number of workers; also `text_mb`, and the number of CPUs. With --original the
same of its build_pretraining_dataset.py with one process, and the ratio.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def make_text(path: Path, megabytes: float) -> list[str]:
    """Writes sentences of made-up words; returns a vocabulary for them."""
    rng = random.Random(0)
    syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s")]
    words = ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(50_000)]
    weights = [1 / rank for rank in range(2, len(words) + 2)]
    size = 0
    with path.open("w") as file:
        while size < megabytes * 1e6:
            lines = []
            stream = iter(rng.choices(words, weights, k=20_000))
            for word in stream:
                rest = [w for _, w in zip(range(rng.randint(4, 30)), stream, strict=False)]
                lines.append(" ".join([word.capitalize(), *rest]) + ".")
                if rng.random() < 0.03:
                    lines.append("")
            text = "\n".join(lines) + "\n\n"
            file.write(text)
            size += len(text)
    letters = sorted(set("".join(syllables)) | set("."))
    pieces = letters + [f"##{c}" for c in letters] + [f"##{s}" for s in syllables if len(s) > 1]
    whole = sorted(set(words[:8000]) - set(pieces))
    return SPECIAL_TOKENS + pieces + whole


def run_original(clone: str, text: Path, vocab_file: str, output: Path) -> dict[str, float]:
    """Runs google-research/electra's builder once, with one process."""
    with tempfile.TemporaryDirectory() as corpus:
        Path(corpus, text.name).symlink_to(text)
        command = [sys.executable, "build_pretraining_dataset.py", f"--corpus-dir={corpus}"]
        command += [f"--vocab-file={Path(vocab_file).absolute()}", f"--output-dir={output}"]
        started = time.monotonic()
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
        subprocess.run(command, cwd=clone, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
    return {"seconds": seconds, "mb": text.stat().st_size / 1e6}


def run(text: Path, vocab_file: str, workers: int, output: Path) -> dict[str, float]:
    """Runs the builder once."""
    command = [sys.executable, "-m", "data_tools.build_pretraining_data", f"--input={text}"]
    command += [f"--vocab_file={vocab_file}", f"--output_dir={output}", f"--workers={workers}"]
    started = time.monotonic()
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, "--overwrite"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    seconds = time.monotonic() - started
    if done.returncode:
        sys.exit(done.stderr)
    examples = int(re.search(r"([\d,]+) examples", done.stdout)[1].replace(",", ""))
    return {"seconds": seconds, "examples": examples, "mb": text.stat().st_size / 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--input", help="plain text files: a glob pattern")
    parser.add_argument("--vocab_file", help="needed with --input")
    parser.add_argument("--workers", default="1,2", help="numbers, comma-separated")
    parser.add_argument("--megabytes", type=float, default=200, help="of made-up text")
    parser.add_argument("--original", help="a clone of google-research/electra, to compare with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large, small = Path(folder, "large.txt"), Path(folder, "small.txt")
        vocab_file = arguments.vocab_file
        if arguments.input:
            if not vocab_file:
                parser.error("--input needs --vocab_file")
            paths = sorted(Path("/").glob(str(Path(arguments.input).absolute())[1:]))
            large.write_bytes(b"\n\n".join(path.read_bytes() for path in paths))
        else:
            vocab_file = str(Path(folder, "vocab.txt"))
            vocabulary = make_text(large, arguments.megabytes)
            Path(vocab_file).write_text("\n".join(vocabulary) + "\n")
        small.write_bytes(large.read_bytes()[:1_000_000].rpartition(b"\n\n")[0])
        report = {"cpus": os.cpu_count(), "text_mb": large.stat().st_size / 1e6, "workers": {}}
        for workers in map(int, arguments.workers.split(",")):
            short = run(small, vocab_file, workers, Path(folder, "out"))
            long = run(large, vocab_file, workers, Path(folder, "out"))
            more = {key: long[key] - short[key] for key in long}
            megabytes, examples = more["mb"] / more["seconds"], more["examples"] / more["seconds"]
            report["workers"][workers] = {
                "start_up_s": round(short["seconds"] - short["mb"] / megabytes, 1),
                "mb_per_s": round(megabytes, 2),
                "mb_per_s_per_worker": round(megabytes / workers, 2),
                "examples_per_s": round(examples),
                "examples_per_s_per_worker": round(examples / workers),
            }
        if arguments.original:
            short, long = (
                run_original(arguments.original, text, vocab_file, Path(folder, "original"))
                for text in (small, large)
            )
            rate = (long["mb"] - short["mb"]) / (long["seconds"] - short["seconds"])
            report["original_mb_per_s"] = round(rate, 3)
            report["of_original_per_worker"] = {
                workers: round(figures["mb_per_s_per_worker"] / rate, 1)
                for workers, figures in report["workers"].items()
            }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
