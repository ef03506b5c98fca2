"""Micro-batches bound the memory of a step: one is computed at a time."""

import json
import subprocess
import sys

from tests.runs import REPOSITORY

PROGRAM = """
import json
from pathlib import Path

import numpy as np
import tensorflow as tf
from electra_keras.options import ModelOptions
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.training.optimizer import ElectraOptimizer

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def growth(rows, micro_batches):
    config = ModelOptions(
        model_size="tiny", hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        embedding_size=16, max_position_embeddings=64,
    ).resolve(vocab_size=500, max_seq_length=64)
    model = ElectraPretrainer(config, gradient_accumulation_steps=micro_batches)
    model.compile(ElectraOptimizer(), jit_compile=True)
    model.optimizer.build(model.trainable_variables)
    rng = np.random.default_rng(0)
    batch = {
        "input_ids": tf.constant(rng.integers(5, 500, (rows, 64)), tf.int32),
        "input_mask": tf.ones([rows, 64], tf.int32),
        "segment_ids": tf.zeros([rows, 64], tf.int32),
    }
    before = kilobytes("VmRSS")
    tf.function(model.training_update, autograph=False)(batch)
    return kilobytes("VmHWM") - before

print(json.dumps([growth(64 * parts, parts) for parts in (1, 16)]))
"""


def test_peak_memory():
    """Of sixteen micro-batches near that of one; ten of them at a time take three times as much."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    alone, sixteen = json.loads(result.stdout)
    assert sixteen < 1.2 * alone, (alone, sixteen)
