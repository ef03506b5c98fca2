"""Five optimizer steps of the original, every random choice given: google-research/electra, TF1."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.interop.names import original_names_of
from electra_keras.pretraining import pretrainer, statistics
from electra_keras.pretraining.masking import MaskedTokens, corrupt_tokens
from electra_keras.training.optimizer import ElectraOptimizer
from electra_keras.training.schedules import WarmupPolynomialDecay

GOLDEN = Path(__file__).parents[1] / "golden" / "train_steps.npz"


def original_value(arrays, prefix, path):
    """Returns the original's array for our variable at `path`."""
    return np.concatenate([arrays[prefix + name] for name in original_names_of(path)], axis=-1)


def encoder_config(hidden_size, heads, intermediate_size):
    return EncoderConfig(
        vocab_size=1500,
        embedding_size=32,
        hidden_size=hidden_size,
        num_hidden_layers=3,
        num_attention_heads=heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=48,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        initializer_range=0.12,
    )


@pytest.mark.parametrize("jit_compile", ["on", "off"])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_five_steps_equal_the_original(monkeypatch, jit_compile, micro_batches):
    golden = np.load(GOLDEN)
    config = ElectraConfig(encoder_config(64, 4, 256), encoder_config(16, 1, 64), max_seq_length=32)
    model = pretrainer.ElectraPretrainer(config, gradient_accumulation_steps=micro_batches)
    optimizer = ElectraOptimizer(WarmupPolynomialDecay(1e-3, train_steps=10, warmup_steps=2))
    model.compile(optimizer, jit_compile=jit_compile)
    optimizer.build(model.trainable_variables)
    used = set()
    for variable in model.trainable_variables:
        variable.assign(original_value(golden, "w0/", variable.path))
        used.update(original_names_of(variable.path))
    assert used == {name[3:] for name in golden.files if name.startswith("w0/")}

    # The original's masks and samples take the place of the random ones. The samples travel as the
    # "uniform numbers", so that micro-batches slice them too.
    def given_mask(self, batch, seed, step):
        def at(name):
            return tf.gather(golden["in/" + name], tf.cast(step, tf.int32))

        masked = MaskedTokens(
            at("masked_input_ids"),
            at("masked_lm_positions"),
            at("masked_lm_ids"),
            at("masked_lm_weights"),
        )
        return masked, at("fake_ids_at_positions")

    monkeypatch.setattr(pretrainer.ElectraPretrainer, "_mask", given_mask)
    monkeypatch.setattr(pretrainer, "sample_tokens", lambda logits, samples, *_: samples)
    update = tf.function(model.training_update)
    for step in range(5):
        batch = {
            name: tf.constant(golden["in/" + name][step])
            for name in ("input_ids", "input_mask", "segment_ids")
        }
        masked, samples = given_mask(model, batch, 0, step)
        corrupted, replaced = corrupt_tokens(batch["input_ids"], masked, samples)
        np.testing.assert_array_equal(corrupted, golden["in/fake_input_ids"][step])
        np.testing.assert_array_equal(replaced, golden["in/disc_labels"][step].astype(bool))
        # The file's rates are those of the step counter before the update; the original's update uses
        # the counter after it (its weights tell; BUILD_NOTES.md, "learning rate").
        np.testing.assert_allclose(optimizer.schedule(step), golden["lr"][step], rtol=1e-6)
        metrics = statistics.summarize(update(batch).numpy(), 1.0, 50.0)
        np.testing.assert_allclose(metrics["loss"], golden["loss"][step], rtol=2e-5)
        np.testing.assert_allclose(
            float(optimizer.gradient_norm.value), golden["grad_norm"][step], rtol=2e-4
        )
    for index, variable in enumerate(model.trainable_variables):
        for prefix, value, atol in (
            ("w5/", variable, 1e-5),
            ("m5/", optimizer.first_moments[index], 2e-6),
            ("v5/", optimizer.second_moments[index], 1e-8),
        ):
            np.testing.assert_allclose(
                keras.ops.convert_to_numpy(value),
                original_value(golden, prefix, variable.path),
                rtol=2e-4,
                atol=atol,
                err_msg=prefix + variable.path,
            )
