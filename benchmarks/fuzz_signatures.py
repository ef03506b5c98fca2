"""Sends random hostile requests to every signature of tiny exports, and counts what comes back.

    python benchmarks/fuzz_signatures.py [--requests=1000] [--seconds=300] [--export=DIR/1 ...]

Without --export it exports one tiny model of each kind, with random weights: pre-trained, classifiers,
a regressor, question answering, tagging. The requests have odd Unicode and bytes, empty batches, long
texts, masks with holes and wrong values, wrong ids, dtypes, shapes and keys. They are answered by
TensorFlow's C++ loader, as in TF Serving, in a process of its own, so that a crash is counted too.

Printed is, for each export and signature, how many requests were

    answered   with finite numbers, a row for each row of the request, strings in UTF-8;
    refused    with an error of one message;
    wrong      answered otherwise, or answered though the request makes no sense;
    crashed    the process ended, or an answer took more than --answer_seconds.

The exit code is 1 where any was wrong or crashed.
"""

import argparse
import collections
import json
import multiprocessing
import multiprocessing.connection
import random
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.serving.native import NativeModel  # noqa: E402

_IDS = ("input_ids", "input_mask", "segment_ids")
_CHARACTERS = (
    "aZ09 ,.\n\té\u0301ßİıΣς中文한글かガحبΔdעברית🙂👩\u200d👧"
    "\u202e\ufeff\ufffd\x00\x7f𝒜½²…\u2028\u3000"
)


def random_text(draw: random.Random) -> bytes:
    """Returns a text: empty, odd, broken, long, or a little of all."""
    mixed = "".join(draw.choices(_CHARACTERS, k=draw.randrange(200))).encode()
    return draw.choice(
        [
            b"", b" " * draw.randrange(1, 50), b"\x00" * 9, draw.randbytes(draw.randrange(200)), mixed,
            mixed, mixed, b"[MASK]" * draw.randrange(40), b"[MASK", b"the cat sat " * draw.randrange(90),
            b"a" * draw.choice([100, 101, 200, 201, 5000]), "\u0301".encode() * draw.randrange(500),
            "中".encode() * draw.randrange(2000), b"\xed\xa0\x80\xf5\x80\xc0", b"?!" * 300,
        ]
    )  # fmt: skip


def random_request(
    draw: random.Random, inputs: dict[str, tuple[str, int]]
) -> tuple[dict[str, object], bool]:
    """Returns a request, and whether it makes sense and should be answered."""
    if set(inputs) == set(_IDS):
        return _random_ids(draw)
    rows = draw.choice([0, 1, 1, 1, 2, 3, 7, 40])
    request: dict[str, object] = {key: [random_text(draw) for _ in range(rows)] for key in inputs}
    fault = draw.random()
    key = draw.choice(list(request))
    if fault < 0.06 and len(inputs) > 1:
        request[key] = [b"x"] * (rows + 1) if draw.random() < 0.7 or not rows else []
    elif fault < 0.09:
        request[key] = [[b"x", b"y"]]
    elif fault < 0.12:
        request[key] = b"a scalar"
    elif fault < 0.15:
        del request[key]
    elif fault < 0.18:
        request["other"] = [b"x"]
    else:
        return request, True
    return request, False


def _random_ids(draw: random.Random) -> tuple[dict[str, object], bool]:
    rows, length = draw.choice([0, 1, 1, 2, 5]), draw.choice([0, 1, 2, 5, 9, 17, 33, 70, 700])
    shape = (rows, length)
    random_numbers = np.random.default_rng(draw.randrange(1 << 30))
    request = {
        "input_ids": random_numbers.integers(0, 30, shape, np.int32),
        "input_mask": random_numbers.integers(0, 2, shape, np.int32),
        "segment_ids": random_numbers.integers(0, 2, shape, np.int32),
    }
    if draw.random() < 0.5:
        request["input_mask"] = np.ones(shape, np.int32)
    fault, key = draw.random(), draw.choice(_IDS)
    if fault < 0.2 and rows * length:
        low = -(1 << 31)
        request[key][draw.randrange(rows), draw.randrange(length)] = draw.choice(
            [low, -1, 1 << 20, (1 << 31) - 1]
        )
    elif fault < 0.26:
        request[key] = np.zeros((rows + 1, length), np.int32)
    elif fault < 0.3:
        request[key] = np.zeros((rows, length + 1), np.int32)
    elif fault < 0.34:
        request[key] = np.zeros(length, np.int32)
    elif fault < 0.38:
        del request[key]
    else:
        return request, True
    return request, False


def fault_of(request: dict[str, object], answer: dict[str, np.ndarray]) -> str | None:
    """Returns what is wrong with an answer, or None."""
    rows = len(next(iter(request.values())))
    for key, value in answer.items():
        if value.ndim == 0 or value.shape[0] != rows:
            return f"{key} has shape {value.shape} for {rows} rows"
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            return f"{key} is not finite"
        if "probabilit" in key and ((value < 0) | (value > 1.001)).any():
            return f"{key} is no probability"
        if value.dtype == object:
            for text in value.ravel():
                try:
                    text.decode("utf-8")
                except UnicodeDecodeError:
                    return f"{key} is not UTF-8"
    return None


def serve(export: str, connection: multiprocessing.connection.Connection) -> None:
    """Answers requests from a pipe: the verdict on each, and what is to be said of it."""
    model = NativeModel(export)
    connection.send({name: inputs for name, (inputs, _) in model.signatures.items()})
    while True:
        name, request, sensible = connection.recv()
        try:
            answer = model.run(name, request)
        except ValueError as error:
            verdict = ("refused", "") if not sensible else ("wrong", f"refused: {error}")
        else:
            fault = fault_of(request, answer) if sensible else "answered what makes no sense"
            verdict = ("wrong", fault) if fault else ("answered", "")
        connection.send(verdict)


def fuzz(
    export: str, requests: int, until: float, seed: int, answer_seconds: float
) -> collections.Counter:
    """Sends requests to one export; prints what is wrong, and returns counts by (signature, verdict)."""
    draw, counts = random.Random(seed), collections.Counter()
    context = multiprocessing.get_context("spawn")

    def start() -> tuple:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(export, theirs), daemon=True)
        process.start()
        theirs.close()
        return process, ours, ours.recv()

    process, pipe, signatures = start()
    names = sorted(signatures)
    for number in range(requests):
        if time.monotonic() > until:
            break
        name = names[number % len(names)]
        request, sensible = random_request(draw, signatures[name])
        try:
            pipe.send((name, request, sensible))
            if not pipe.poll(answer_seconds):
                raise EOFError(f"no answer in {answer_seconds} s")
            verdict, said = pipe.recv()
        except (EOFError, OSError) as error:
            process.kill()
            process.join()
            verdict, said = "crashed", f"exit code {process.exitcode}: {error}"
            process, pipe, _ = start()
        counts[name, verdict] += 1
        if verdict in ("wrong", "crashed"):
            shown = {key: repr(value)[:200] for key, value in request.items()}
            print(f"{export}, {name}: {verdict}: {said}: {shown}", flush=True)
    process.kill()
    process.join()
    return counts


def export_tiny_models(directory: Path) -> list[Path]:
    """Exports one tiny model of each kind, and returns the versions."""
    from electra_keras.interop import google
    from electra_keras.serving import archive, finetuned, pretrained
    from tests.interop.models import GOOGLE
    from tests.serving import finetuned_models
    from tests.serving.texts import BUCKETS

    servables = {
        "pretrained": pretrained.make_servable(
            google.read(GOOGLE), ["discriminator", "generator"], BUCKETS
        )
    }
    for name, task in finetuned_models.TASKS.items():
        finetuned_models.write(task, directory / "models" / name)
        servables[name] = finetuned.make_servable(
            directory / "models" / name, buckets=list(map(str, BUCKETS))
        )
    found = []
    for name, servable in servables.items():
        (directory / name).mkdir()
        found.append(archive.write_version(servable, directory / name, 1))
    return found


def main() -> int:
    """Fuzzes all exports in turn; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000, help="of each export")
    parser.add_argument("--seconds", type=float, default=300, help="in all")
    parser.add_argument("--answer_seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--export", action="append", help="a version of an export; may be repeated")
    options = parser.parse_args()
    totals: collections.Counter = collections.Counter()
    with tempfile.TemporaryDirectory() as temporary:
        exports = options.export or export_tiny_models(Path(temporary))
        until = time.monotonic() + options.seconds
        for done, export in enumerate(exports):
            now = time.monotonic()
            share = now + max(0.0, until - now) / (len(exports) - done)
            counts = fuzz(
                str(export), options.requests, share, options.seed + done, options.answer_seconds
            )
            by_name = collections.defaultdict(dict)
            for (name, verdict), count in sorted(counts.items()):
                by_name[name][verdict] = count
                totals[verdict] += count
            print(json.dumps({str(export): by_name}), flush=True)
    print(json.dumps({v: totals[v] for v in ("answered", "refused", "wrong", "crashed")}))
    return 1 if totals["wrong"] or totals["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
