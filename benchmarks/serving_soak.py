"""Feeds hostile requests to an export from many threads for minutes, and checks all that comes back.

    python benchmarks/serving_soak.py [--export=EXPORT/1] [--minutes=10] [--threads=8] [--megabytes=10]

The export may be of a pre-trained or of a fine-tuned model; one that reads long texts in windows
(answer, tag) needs minutes for ten megabytes: give it fewer.

By TensorFlow's C++ loader, as in TF Serving. Every request is answered once by one thread at first; then
the threads draw requests at random, and every answer, or error, must be the same again. After the first
fifth of the time the memory may not grow (in one arena of glibc's: of one for each thread each keeps the
most that it ever held, and that rises for long). Prints JSON; exit code 1 if anything is amiss.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from tests.serving.native import NativeModel  # noqa: E402

Request = tuple[str, dict[str, list]]
# What memory may grow by, from the second to the last fifth of the time: allocators keep some slack.
GROWTH = 0.05
GROWTH_MB = 20


def hostile_texts(draw: random.Random, megabytes: float) -> list[bytes]:
    """Returns texts that something may trip over, short ones and up to `megabytes` long ones."""
    scripts = (
        "aZ09 ,.\n\té\u0301ßİıΣς中文한글かガحبΔдעברית🙂👩\u200d👧\u202e\ufeff\ufffd\x00\x7f𝒜½²…"
        "[MASK]##"
    )

    def mixed(length: int) -> bytes:
        return "".join(draw.choices(scripts, k=length)).encode()

    size = int(megabytes * 1e6)
    return [
        b"", b" ", b"\x00", b"\x00" * 1000, b"\xff" * 999, b"\xed\xa0\x80\xed\xb0\x80", b"\xf0\x9f",
        b"\xc0\x80 overlong \xf5\x80\x80\x80", "\u0301\u0301a".encode(), b"[MASK]" * 500, b"[MASK",
        b"a" * 200, b"a" * 201, b"b" * 100_000, "é".encode() * 50_000, b"!" * 10_000, b"[" * 10_000,
        "\u0301".encode() * 20_000, "\u200b".encode() * 20_000, "中".encode() * 20_000,
        b"the cat sat on the mat " * 2_000, *(draw.randbytes(draw.randrange(300)) for _ in range(10)),
        *(mixed(draw.randrange(1, 400)) for _ in range(20)), mixed(50_000),
        b"x" * size, b" " * size, mixed(size // 3), draw.randbytes(size // 2), b"word " * (size // 5),
    ]  # fmt: skip


def make_requests(model: NativeModel, draw: random.Random, megabytes: float) -> list[Request]:
    """Returns requests to every signature, some of which are wrong."""
    texts = hostile_texts(draw, megabytes)
    small = [text for text in texts if len(text) < 10_000]
    requests: list[Request] = []
    for name, (inputs, _) in model.signatures.items():
        keys = list(inputs)
        if "input_ids" in keys:
            for ids in ([[2, 5, 3]], [[]], [[2] * 5000], [[-1, 3]], [[2**31 - 1]]):
                for segment in (0, 7):
                    shape = np.ones_like(ids)
                    values = {"input_ids": ids, "input_mask": shape, "segment_ids": segment * shape}
                    requests.append((name, {key: values[key] for key in keys}))
            continue
        rows = [small, small[:1] * 300, [], *([text] for text in texts)]
        for row in rows:
            requests.append((name, {key: draw.sample(row, len(row)) for key in keys}))
        requests.append((name, {key: [b"a", b"b"][: 1 + i] for i, key in enumerate(keys)}))
    return requests


def answer(model: NativeModel, request: Request) -> dict[str, np.ndarray] | str:
    """Returns outputs, or the first line of the error."""
    try:
        return model.run(*request)
    except ValueError as error:
        return str(error).splitlines()[0]


def same(one: dict[str, np.ndarray] | str, other: dict[str, np.ndarray] | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        # Several things may be wrong with a request; which one is found first may change.
        return isinstance(one, str) and isinstance(other, str)
    return one.keys() == other.keys() and all(
        a.shape == (b := other[key]).shape
        and (np.allclose(a, b, atol=1e-5) if a.dtype.kind == "f" else (a == b).all())
        for key, a in one.items()
    )


def memory_mb() -> float:
    """Returns the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(model: NativeModel, args: argparse.Namespace) -> dict[str, object]:
    requests = make_requests(model, random.Random(args.seed), args.megabytes)
    expected = [answer(model, request) for request in requests]
    sizes = [
        sum(len(t) for v in r.values() for t in v if isinstance(t, bytes)) for _, r in requests
    ]
    # Large ones more rarely, or there would be nothing else.
    weights = [1 / (1 + size / 20_000) for size in sizes]
    wrong: list[str] = []
    counts = [0] * args.threads
    begin = time.monotonic()
    end = begin + 60 * args.minutes

    def call(thread: int) -> None:
        draw = random.Random(args.seed + 1 + thread)
        while time.monotonic() < end:
            (i,) = draw.choices(range(len(requests)), weights)
            if not same(answer(model, requests[i]), expected[i]):
                wrong.append(f"request {i} to {requests[i][0]}, {sizes[i]} bytes")
            counts[thread] += 1

    threads = [threading.Thread(target=call, args=(i,)) for i in range(args.threads)]
    for thread in threads:
        thread.start()
    samples = []
    while any(thread.is_alive() for thread in threads):
        samples.append((time.monotonic() - begin, memory_mb()))
        time.sleep(0.5)
    fifth = 12 * args.minutes
    medians = [
        statistics.median([mb for at, mb in samples if i * fifth <= at < (i + 1) * fifth] or [0])
        for i in range(5)
    ]
    growth = medians[4] - medians[1]
    return {
        "requests": len(requests),
        "errors_expected": sum(isinstance(a, str) for a in expected),
        "answers": sum(counts),
        "wrong": wrong[:10],
        "wrong_count": len(wrong),
        "memory_mb_by_fifth": [round(value) for value in medians],
        "memory_grew": growth > max(GROWTH_MB, GROWTH * medians[1]),
        "largest_request_mb": round(max(sizes) / 1e6, 1),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, help="default: tiny, with random weights")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--megabytes", type=float, default=10, help="of the largest texts")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if "MALLOC_ARENA_MAX" not in os.environ:
        environment = os.environ | {"MALLOC_ARENA_MAX": "1"}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    with tempfile.TemporaryDirectory() as directory:
        export = args.export
        if export is None:
            # In a process of its own: this one never imports Python's TensorFlow.
            code = (
                "import sys; from pathlib import Path; sys.path[:0] = ['.', 'benchmarks']; "
                "import serving_latency; serving_latency.prepare(None, 'tiny', Path(sys.argv[1]))"
            )
            command = [sys.executable, "-c", code, directory]
            subprocess.run(command, check=True, cwd=REPOSITORY)
            export = Path(directory) / "export" / "1"
        result = soak(NativeModel(export), args)
    print(json.dumps(result, indent=2))
    return 1 if result["wrong"] or result["memory_grew"] else 0


if __name__ == "__main__":
    sys.exit(main())
