"""With `recompute` the same gradients are computed in less memory."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.options import ModelOptions
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.tasks.adaptation import Adaptation
from electra_keras.tasks.classification import ClassificationHead
from electra_keras.tasks.finetuner import FineTuner
from electra_keras.training.optimizer import ElectraOptimizer
from tests.runs import REPOSITORY


def make_config(**options):
    return ModelOptions(
        model_size="tiny", hidden_size=32, num_hidden_layers=2, num_attention_heads=1,
        embedding_size=16, max_position_embeddings=16, **options,
    ).resolve(vocab_size=60, max_seq_length=16)  # fmt: skip


def make_batch(rows=8):
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 17, rows).astype(np.int32)
    return {
        "input_ids": tf.constant(rng.integers(5, 60, (rows, 16)), tf.int32),
        "input_mask": tf.cast(tf.sequence_mask(lengths, 16), tf.int32),
        "segment_ids": tf.zeros([rows, 16], tf.int32),
        "lengths": tf.constant(lengths),
        "labels": tf.constant(rng.integers(0, 3, rows), tf.int32),
    }


def pretrained(recompute, micro_batches=1, **options):
    names = ("input_ids", "input_mask", "segment_ids")
    model = ElectraPretrainer(
        make_config(**options), gradient_accumulation_steps=micro_batches, recompute=recompute
    )
    return model, {name: make_batch()[name] for name in names}


def finetuned(recompute, adaptation=None):
    model = FineTuner(
        make_config(),
        lambda encoder: ClassificationHead(encoder, "single_label", 3),
        16,
        adaptation=adaptation,
        recompute=recompute,
    )
    return model, {name: v for name, v in make_batch().items() if name != "input_mask"}


MODELS = {
    "pre-training": pretrained,
    "accumulating, one encoder": lambda recompute: pretrained(
        recompute, 2, embedding_sharing="encoder", generator_hidden_size=1.0
    ),
    "frozen": lambda recompute: finetuned(recompute, Adaptation(frozen=2)),
    "LoRA": lambda recompute: finetuned(recompute, Adaptation(lora_rank=2, lora_alpha=2.0)),
}


@pytest.mark.parametrize(
    ("name", "jit_compile"),
    [
        ("accumulating, one encoder", "on"),
        ("LoRA", "on"),
        ("pre-training", "off"),
        ("frozen", "off"),
    ],
)
def test_same_step(name, jit_compile):
    """The same dropout too: it follows from the keys."""
    outcomes = []
    for recompute in (False, True):
        keras.utils.set_random_seed(1)
        model, batch = MODELS[name](recompute)
        model.compile(ElectraOptimizer(1e-3), jit_compile=jit_compile)
        model.optimizer.build(model.trainable_variables)
        report = tf.function(model.training_update, autograph=False)(batch)
        outcomes.append((report, [moment.numpy() for moment in model.optimizer.first_moments]))
    (report, gradients), (theirs, recomputed) = (
        outcomes  # the first moments are 0.1 x the gradients
    )
    np.testing.assert_allclose(report, theirs, rtol=1e-5)
    assert any(np.abs(gradient).max() > 1e-4 for gradient in gradients)
    for first, second in zip(gradients, recomputed, strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-7)


PROGRAM = """
import json
from pathlib import Path

import tensorflow as tf
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.layers import DropoutNoise
from electra_keras.options import ModelOptions

config = ModelOptions(
    hidden_size=64, num_hidden_layers=12, num_attention_heads=2, max_position_embeddings=64
).resolve(vocab_size=100, max_seq_length=64)

def kilobytes(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))

def peak(recompute):
    encoder = Encoder(config.discriminator, recompute=recompute)
    encoder.build()

    @tf.function(autograph=False)
    def gradients(ids, mask):
        variables = [variable.value for variable in encoder.trainable_variables]
        with tf.GradientTape() as tape:
            noise = DropoutNoise(tf.constant([1, 2]))
            loss = tf.reduce_sum(encoder(ids, mask, ids, noise=noise, compiled=True) ** 2)
        return [tf.reduce_sum(gradient) for gradient in tape.gradient(loss, variables)]

    gradients(tf.zeros([256, 64], tf.int32), tf.ones([256, 64], tf.int32))
    return kilobytes("VmHWM") - start

start = kilobytes("VmRSS")
print(json.dumps([peak(True), peak(False)]))
"""


def test_peak_memory():
    """Of 12 layers, one layer's activations and the inputs of the others."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        check=True, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    recomputed, kept = json.loads(result.stdout)
    assert recomputed < 0.5 * kept, (recomputed, kept)
