"""Measures the pre-training step, from TFRecords on: prints one JSON object per model size.

    python benchmarks/pretraining_throughput.py [--sizes=tiny,small,base] [--steps=20]

Each size runs in a process of its own, on random tokens (the time does not depend on them) that are
written to records first. With a GPU, give --precision=mixed_bfloat16 and the batch size that fits.

Fields: `examples_per_second` and `step_seconds` from the median step; `cpu_seconds` of all threads per
step; `first_step_seconds` from the start of the process to the end of the first step, compilation and
imports included; `peak_memory_mb` of the process, and `first_step_peak_memory_mb` of it until then;
`page_faults` per step after that, for each of which the kernel zeroes a page. With --matmul_rate,
`of_matmul_rate`: the step over the rate of TensorFlow's matrix products alone, at its shapes, forward
and backward. On a GPU also try --pad_to_multiple_of=8.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late, to time the imports
    from electra_keras.config import ElectraConfig

PROCESS_START = time.time()
REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="tiny,small,base")
    parser.add_argument("--steps", type=int, default=20, help="timed steps, after two others")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--vocab_size", type=int, help="default: 8192 for tiny, else 30522")
    parser.add_argument("--strategy", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--jit_compile", default="auto", choices=["auto", "on", "off"])
    parser.add_argument("--pad_to_multiple_of", type=int, default=1)
    parser.add_argument(
        "--matmul_rate", action="store_true",
        help="also time TensorFlow's matmul alone at the step's shapes",
    )  # fmt: skip
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


def write_records(directory: Path, args: argparse.Namespace, vocab_size: int) -> None:
    import numpy as np
    import tensorflow as tf

    from electra_keras.data.records import serialize_example

    rng = np.random.default_rng(0)
    ones, zeros = [1] * args.length, [0] * args.length
    with tf.io.TFRecordWriter(str(directory / "train.tfrecord")) as writer:
        for _ in range(32 * args.batch_size):
            ids = rng.integers(5, vocab_size, args.length)
            ids[0], ids[-1] = 2, 3
            writer.write(serialize_example(ids.tolist(), ones, zeros))


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Runs in the process of one size."""
    from electra_keras import console  # noqa: F401  first: it imports TensorFlow quietly

    # isort: split
    import keras
    import tensorflow as tf

    from electra_keras.data.pipeline import TrainingFeed, open_records
    from electra_keras.data.records import find_records
    from electra_keras.modeling.flops import training_flops
    from electra_keras.options import ModelOptions, TrainingOptions
    from electra_keras.pretraining.pretrainer import ElectraPretrainer
    from electra_keras.training import distribution
    from electra_keras.training.execution import make_step_function
    from electra_keras.training.loop import Trainer
    from electra_keras.training.memory import release_freed_memory
    from electra_keras.training.optimizer import ElectraOptimizer

    size = args.worker
    vocab_size = args.vocab_size or (8192 if size == "tiny" else 30522)
    model_options = ModelOptions(model_size=size)
    options = TrainingOptions(train_batch_size=args.batch_size, strategy=args.strategy).resolve(
        model_options
    )
    strategy = distribution.make_training_strategy(options)
    keras.config.set_dtype_policy(args.precision)
    with tempfile.TemporaryDirectory() as directory:
        before = time.time()
        write_records(Path(directory), args, vocab_size)
        preparation = time.time() - before
        config = model_options.resolve(vocab_size=vocab_size, max_seq_length=args.length)
        with strategy.scope():
            model = ElectraPretrainer(config, pad_to_multiple_of=args.pad_to_multiple_of)
            optimizer = ElectraOptimizer(1e-4, dynamic_loss_scale=args.precision == "mixed_float16")
            model.compile(optimizer, jit_compile=args.jit_compile)
            optimizer.build(model.trainable_variables)
        source = open_records(find_records(directory))
        feed = TrainingFeed(source, vocab_size, args.batch_size, seed=42, shuffle_buffer=1000)
        trainer = Trainer(strategy, model, options, Path(directory), feed, validation=None)
        run_steps, iterator = (
            make_step_function(strategy, model, args.batch_size),
            trainer.batches(),
        )

        def step() -> None:
            run_steps(iterator, tf.constant(1), tf.constant(0.0)).numpy()

        step()
        first_step = time.time() - PROCESS_START - preparation
        first_peak = peak_megabytes()
        release_freed_memory()
        step()
        times, cpu, faults = [], time.process_time(), page_faults()
        for _ in range(args.steps):
            begun = time.perf_counter()
            step()
            times.append(time.perf_counter() - begun)
        cpu = (time.process_time() - cpu) / args.steps
        faults = (page_faults() - faults) / args.steps
        peak_memory = peak_megabytes()
    median = statistics.median(times)
    gflops = training_flops(config) * args.batch_size / median / 1e9
    matmul = matmul_gflops(config, args.batch_size) if args.matmul_rate else None
    return {
        "size": size,
        "devices": distribution.describe(strategy),
        "precision": args.precision,
        "batch_size": args.batch_size,
        "length": args.length,
        "vocab_size": vocab_size,
        "examples_per_second": round(args.batch_size / median, 2),
        "step_seconds": round(median, 4),
        "step_seconds_min": round(min(times), 4),
        "step_seconds_max": round(max(times), 4),
        "cpu_seconds": round(cpu, 4),
        "gflops_per_second": round(gflops, 1),
        "first_step_seconds": round(first_step, 1),
        "first_step_peak_memory_mb": first_peak,
        "peak_memory_mb": peak_memory,
        "page_faults": round(faults),
    } | (
        {"matmul_gflops_per_second": round(matmul, 1), "of_matmul_rate": round(gflops / matmul, 2)}
        if matmul
        else {}
    )


def peak_megabytes() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def matrix_products(
    config: "ElectraConfig", batch_size: int
) -> list[tuple[int, int, int, int, int]]:
    """Returns the forward pass's products as (times, batch, rows, inner, columns)."""
    length = config.max_seq_length
    tokens, products = batch_size * length, []
    for encoder in (config.generator, config.discriminator):
        hidden, inner, heads = (
            encoder.hidden_size, encoder.intermediate_size, encoder.num_attention_heads
        )  # fmt: skip
        layers, size = encoder.num_hidden_layers, hidden // heads
        products += [
            (layers, 1, tokens, hidden, 3 * hidden),
            (layers, 1, tokens, hidden, hidden),
            (layers, 1, tokens, hidden, inner),
            (layers, 1, tokens, inner, hidden),
            (layers, batch_size * heads, length, size, length),
            (layers, batch_size * heads, length, length, size),
        ]
        if encoder.embedding_size != hidden:
            products.append((1, 1, tokens, encoder.embedding_size, hidden))
    predictions = batch_size * config.max_predictions_per_seq
    generator, hidden = config.generator, config.discriminator.hidden_size
    return [
        *products,
        (1, 1, predictions, generator.hidden_size, generator.embedding_size),
        (1, 1, predictions, generator.embedding_size, generator.vocab_size),
        (1, 1, tokens, hidden, hidden),
    ]


def matmul_gflops(config: "ElectraConfig", batch_size: int) -> float:
    """Returns the rate of TensorFlow's matmul over the products of a step, forward and backward."""
    import tensorflow as tf

    seconds = operations = 0.0
    for times, batch, rows, inner, columns in matrix_products(config, batch_size):
        x, w, dy = (
            tf.random.normal([batch, *shape])
            for shape in ((rows, inner), (inner, columns), (rows, columns))
        )
        for run in (
            lambda x=x, w=w: tf.matmul(x, w),
            lambda dy=dy, w=w: tf.matmul(dy, w, transpose_b=True),
            lambda x=x, dy=dy: tf.matmul(x, dy, transpose_a=True),
        ):
            took = []
            for _ in range(7):
                begun = time.perf_counter()
                run()
                tf.test.experimental.sync_devices()
                took.append(time.perf_counter() - begun)
            seconds += times * statistics.median(took)
            operations += times * 2.0 * batch * rows * inner * columns
    return operations / seconds / 1e9


def main() -> None:
    args = arguments()
    if args.worker:
        print(json.dumps(measure(args)))
        return
    for size in args.sizes.split(","):
        command = [sys.executable, __file__, *sys.argv[1:], f"--worker={size}"]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
