"""Measures the input pipeline alone, on one core: reading, shuffling and parsing TFRecords; prints JSON.

    python benchmarks/input_pipeline.py [--examples=200000] [--length=128] [--batch_size=32]

Random records, as `data_tools.build_pretraining_data` writes them, in 8 files, read through
`training_dataset` with the default shuffle buffer. The process is bound to one core. The first epoch
warms up; `examples_per_second` is over the second and the third; `peak_memory_mb` after each of the
three says whether memory grows. Compare with `examples_per_second` of pretraining_throughput.py.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
SHARDS, VOCAB_SIZE = 8, 8192


def main() -> None:
    """Measures as the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=200_000)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    args = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    from electra_keras import console  # noqa: F401  first: it imports TensorFlow quietly

    # isort: split
    import numpy as np
    import tensorflow as tf

    from electra_keras.data.pipeline import open_records, training_dataset
    from electra_keras.data.records import find_records, serialize_example
    from electra_keras.options import DataOptions

    rng = np.random.default_rng(0)
    rest = [1] * args.length, [0] * args.length
    with tempfile.TemporaryDirectory() as directory:
        for shard in range(SHARDS):
            path = Path(directory) / f"train-{shard:05d}.tfrecord"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for _ in range(args.examples // SHARDS):
                    ids = rng.integers(5, VOCAB_SIZE, args.length).tolist()
                    writer.write(serialize_example(ids, *rest))
        source = open_records(find_records(directory))
        dataset = training_dataset(
            source, VOCAB_SIZE, args.batch_size, seed=0, shuffle_buffer=DataOptions.shuffle_buffer
        )
        steps = source.num_examples // args.batch_size
        seconds, memory, iterator = [], [], iter(dataset)
        for _ in range(3):
            begun = time.perf_counter()
            for _ in range(steps):
                next(iterator)
            seconds.append(time.perf_counter() - begun)
            memory.append(round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
    rate = 2 * steps * args.batch_size / sum(seconds[1:])
    print(
        json.dumps(
            {
                "length": args.length,
                "examples_per_second": round(rate),
                "seconds_per_epoch": [round(second, 2) for second in seconds],
                "peak_memory_mb": memory,
            }
        )
    )


if __name__ == "__main__":
    main()
