"""The models as a Keras user has them: saved, loaded, exported, in mixed precision."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.pretraining import statistics
from electra_keras.pretraining.keras_model import ReportSums
from electra_keras.training.optimizer import ElectraOptimizer
from electra_keras.training.schedules import WarmupPolynomialDecay
from tests.pretraining.test_pretrainer import make_batches, make_model


def weights_of(model):
    """Every number that a saved model must have, optimizer and all."""
    variables = [*model.weights, *model.optimizer.variables]
    return {variable.path: variable.numpy() for variable in variables}


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for path, array in theirs.items():
        np.testing.assert_array_equal(ours[path], array, err_msg=path)


def compiled(model, **options):
    schedule = WarmupPolynomialDecay(1e-3, train_steps=20, warmup_steps=2)
    model.compile(ElectraOptimizer(schedule, **options), jit_compile="off")
    return model


@pytest.mark.parametrize("sharing", ["token", "none", "encoder"])
def test_a_saved_model_shares_what_it_shared(sharing, tmp_path):
    options = {"generator_hidden_size": 1.0, "num_attention_heads": 1}
    model = make_model(embedding_sharing=sharing, **options)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(weights_of(loaded), weights_of(model))
    assert (loaded.generator is loaded.discriminator) == (sharing == "encoder")


def test_a_saved_model_goes_on_as_if_it_had_not_stopped(tmp_path):
    model = compiled(make_model(), algorithm="adamw")
    path = tmp_path / "model.keras"
    model.fit(make_batches(2), verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    loaded = keras.models.load_model(path)
    assert_same(weights_of(loaded), weights_of(model))
    assert loaded.config == model.config and loaded.seed == model.seed and not loaded.use_xla
    (batch,) = make_batches(1)
    for name, value in model.predict(batch, verbose=0).items():
        np.testing.assert_array_equal(loaded.predict(batch, verbose=0)[name], value)
    for each in (model, loaded):
        each.fit(make_batches(2), verbose=0)
    assert_same(weights_of(loaded), weights_of(model))


def test_what_is_frozen_stays_so(tmp_path):
    model = make_model()
    model.discriminator.embeddings.trainable = False
    model.compile(ElectraOptimizer(1e-3))
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    trained = [variable.path for variable in loaded.trainable_variables]
    assert trained == [variable.path for variable in model.trainable_variables]
    assert len(trained) == len(model.weights) - 5
    assert_same(weights_of(loaded), weights_of(model))


def test_a_model_is_loaded_in_the_precision_it_had(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(make_model())
    keras.config.set_dtype_policy("float32")
    assert model.optimizer.dynamic_loss_scale  # by compile
    model.fit(make_batches(1), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    dtypes = {layer.compute_dtype for layer in loaded._flatten_layers() if layer.weights}
    assert dtypes == {"float16"}
    assert_same(weights_of(loaded), weights_of(model))
    (batch,) = make_batches(1)
    np.testing.assert_array_equal(loaded(batch)["replaced_logits"], model(batch)["replaced_logits"])


def test_an_optimizer_from_its_config():
    schedule = WarmupPolynomialDecay(2e-3, 30, 3, power=2.0, end=1e-4)
    settings = dict(
        algorithm="lamb", beta_1=0.8, beta_2=0.99, epsilon=1e-4, weight_decay=0.2,
        max_grad_norm=None, dynamic_loss_scale=True,
    )  # fmt: skip
    config = json.loads(json.dumps(ElectraOptimizer(schedule, **settings).get_config()))
    again = ElectraOptimizer.from_config(config)
    assert again.get_config() == config
    assert again.schedule.get_config() == schedule.get_config()
    assert again.decay_rate == 0.2
    assert {name: config[name] for name in settings} == settings
    assert ElectraOptimizer.from_config(ElectraOptimizer(3e-4).get_config()).schedule is None


@pytest.mark.parametrize("make_optimizer", [ElectraOptimizer, keras.optimizers.AdamW])
def test_the_loss_is_scaled_in_float16(make_optimizer):
    keras.config.set_dtype_policy("mixed_float16")
    model = make_model()
    model.compile(make_optimizer(1e-3), jit_compile="off")
    assert float(model.optimizer.scale_loss(tf.constant(1.0))) == 2.0**15


def test_no_scale_where_none_is_wanted():
    assert not make_model().optimizer.dynamic_loss_scale  # float32
    keras.config.set_dtype_policy("mixed_float16")
    model = compiled(make_model(), dynamic_loss_scale=False)
    assert model.optimizer.dynamic_loss_scale is False


def test_missing_segment_ids_are_zeros():
    model = make_model()
    (batch,) = make_batches(1)
    zeros = {**batch, "segment_ids": tf.zeros_like(batch["input_ids"])}
    rest = {name: batch[name] for name in ("input_ids", "input_mask")}
    np.testing.assert_array_equal(model(rest)["replaced_logits"], model(zeros)["replaced_logits"])
    assert model.test_on_batch(rest) == model.test_on_batch(zeros)
    with pytest.raises(ValueError, match="input_mask is missing from input_ids"):
        model.evaluate({"input_ids": batch["input_ids"]}, verbose=0)


def test_arrays_are_batches_too():
    (batch,) = make_batches(1)
    arrays = {name: value.numpy() for name, value in batch.items()}
    history = make_model().fit(arrays, batch_size=4, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    with pytest.raises(ValueError, match="drop_remainder"):
        make_model().fit(arrays, batch_size=3, verbose=0)


def test_a_model_that_was_never_called_is_exported(tmp_path):
    model = make_model()
    model.export(tmp_path / "export", verbose=False)
    served = tf.saved_model.load(tmp_path / "export")
    for length in (16, 9):
        (batch,) = make_batches(1, rows=3)
        batch = {name: value[:, :length] for name, value in batch.items()}
        expected = model(batch)
        for name, value in served.serve(batch).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6)


def test_the_metric_of_fit_counts_beyond_what_float32_can():
    metric = ReportSums(
        statistics.SIZE, lambda totals: statistics.summarize_tensor(totals, 1.0, 50.0)
    )
    one = np.zeros(statistics.SIZE, np.float32)
    one[statistics.SUMS.index("tokens")] = 1.0
    one[statistics.SUMS.index("discriminator_nll")] = 0.5
    metric.totals.assign(one.astype(np.float64) * 2**24)
    metric.batches.assign(2**24)
    metric.update_state(tf.constant(one))
    assert int(metric.batches.numpy()) == 2**24 + 1
    assert metric.totals.numpy()[statistics.SUMS.index("tokens")] == 2**24 + 1
    result = tf.function(metric.result)
    operations = result.get_concrete_function().graph.get_operations()
    assert not any("PyFunc" in operation.type for operation in operations)
    expected = statistics.summarize(metric.totals.numpy(), 1.0, 50.0)
    assert {name: float(value) for name, value in result().items()} == pytest.approx(
        expected, rel=1e-6, nan_ok=True
    )
