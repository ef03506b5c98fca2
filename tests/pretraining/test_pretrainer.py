"""The keras.Model: sharing, fit and evaluate, what noise depends on."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.modeling.layers import DropoutNoise, dropout, random_bits
from electra_keras.options import ModelOptions
from electra_keras.pretraining import statistics
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.training.optimizer import ElectraOptimizer
from tests import runs


def make_model(micro_batches=1, jit_compile="off", **options):
    options = {
        "model_size": "tiny", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "embedding_size": 16, "max_position_embeddings": 16,
    } | options  # fmt: skip
    config = ModelOptions(**options).resolve(vocab_size=60, max_seq_length=16)
    keras.utils.set_random_seed(1)
    model = ElectraPretrainer(config, seed=3, gradient_accumulation_steps=micro_batches)
    model.compile(ElectraOptimizer(1e-3), jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model


def make_batches(count, rows=8):
    rng = np.random.default_rng(0)
    examples = [runs.example(rng, 16) for _ in range(count * rows)]
    names = ("input_ids", "input_mask", "segment_ids")
    columns = {
        name: np.array([example[i] for example in examples], np.int32)
        for i, name in enumerate(names)
    }
    return tf.data.Dataset.from_tensor_slices(columns).batch(rows, drop_remainder=True)


def test_padding_for_tensor_cores_changes_nothing():
    """61 vocabulary entries and 3 predictions are computed as 64 and 8."""
    (batch,) = make_batches(1)
    outcomes = []
    for multiple in (1, 8):
        config = ModelOptions(
            model_size="tiny", hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            embedding_size=16, max_position_embeddings=16,
        ).resolve(vocab_size=61, max_seq_length=16)  # fmt: skip
        assert config.max_predictions_per_seq % 8
        keras.utils.set_random_seed(1)
        model = ElectraPretrainer(config, seed=3, pad_to_multiple_of=multiple)
        model.compile(ElectraOptimizer(1e-3), jit_compile="off")
        model.optimizer.build(model.trainable_variables)
        outcomes.append(model.compute_gradients(batch, tf.constant(0)))
    (gradients, statistics), (padded_gradients, padded_statistics) = outcomes
    np.testing.assert_allclose(statistics, padded_statistics, rtol=1e-6)
    for variable, ours, theirs in zip(
        model.trainable_variables, gradients, padded_gradients, strict=True
    ):
        assert theirs.shape == variable.shape
        # Gradients reach 8.7, where 1e-6 is one unit in float32's last place: hence relative.
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize(
    ("sharing", "own_tables", "own_norm"), [("all", 0, 0), ("token", 2, 1), ("none", 3, 1)]
)
def test_embedding_sharing(sharing, own_tables, own_norm):
    """Facts D4.18: the original shares token, position and type tables and their LayerNorm."""
    model = make_model(embedding_sharing=sharing)
    shared = {id(v) for v in model.discriminator.embeddings.trainable_variables}
    own = [v for v in model.generator.embeddings.trainable_variables if id(v) not in shared]
    assert sum(v.path.endswith("embeddings") for v in own) == own_tables
    assert sum(v.path.endswith("gamma") for v in own) == own_norm
    tables = [v for v in model.trainable_variables if v.shape == (60, 16)]
    assert len(tables) == (2 if sharing == "none" else 1)
    paths = [v.path for v in model.trainable_variables]
    assert len(set(paths)) == len(paths)
    # The generator's output matrix is its own token table.
    assert model.generator_head.token_embedding is model.generator.embeddings.token_embedding


def test_a_second_model_in_the_process_has_the_same_paths():
    """Keras numbers unnamed layers, and weights are loaded by path."""
    for sharing in ("all", "token", "none", "encoder"):
        options = {
            "embedding_sharing": sharing,
            "generator_hidden_size": 1.0,
            "num_attention_heads": 1,
        }
        first, second = (
            {v.path for v in make_model(**options).trainable_variables} for _ in range(2)
        )
        assert first == second, sharing


def test_sizes_follow_the_original():
    """Facts D4.22."""

    def resolve(size, vocab_size=30522):
        options = ModelOptions(model_size=size)
        return options.resolve(
            vocab_size=vocab_size, max_seq_length=options.preset("max_seq_length")
        )

    small, base, large = resolve("small"), resolve("base"), resolve("large")
    assert (small.generator.hidden_size, small.generator.num_attention_heads) == (64, 1)
    assert (small.generator.num_hidden_layers, small.generator.intermediate_size) == (12, 256)
    assert (base.generator.hidden_size, base.generator.num_attention_heads) == (256, 4)
    assert (large.generator.hidden_size, large.discriminator.intermediate_size) == (256, 4096)
    predictions = [c.max_predictions_per_seq for c in (small, base, large)]
    assert predictions == [19, 79, 130]


def test_parameter_count_of_electra_small():
    """By arithmetic: 13.5 M in the discriminator (the paper's table 1 says 14 M)."""
    config = ModelOptions(model_size="small").resolve(vocab_size=30522, max_seq_length=128)
    model = ElectraPretrainer(config)
    count = model.discriminator.count_params() + model.discriminator_head.count_params()
    hidden, layers = 256, 12
    block = 4 * (hidden**2 + hidden) + 2 * hidden * 1024 + 1024 + hidden + 4 * hidden
    embeddings = (30522 + 512 + 2 + 2) * 128 + 128 * hidden + hidden
    head = hidden**2 + hidden + hidden + 1
    assert count == embeddings + layers * block + head


def test_fit_and_evaluate():
    model = make_model()
    dataset = make_batches(8)
    first = model.evaluate(dataset, verbose=0, return_dict=True)
    history = model.fit(dataset, epochs=60, verbose=0).history
    last = model.evaluate(dataset, verbose=0, return_dict=True)
    assert set(first) == set(statistics.summarize(np.zeros(statistics.SIZE), 1, 50))
    assert last["generator_masked_loss"] < 0.9 * first["generator_masked_loss"]
    assert len(history["discriminator_auc"]) == 60
    assert int(model.optimizer.iterations.numpy()) == 480
    # The same batches draw the same masks and samples each time.
    assert model.evaluate(dataset, verbose=0, return_dict=True) == last


@pytest.mark.parametrize("micro_batches", [1, 2])
def test_noise_depends_on_seed_and_step_alone(micro_batches):
    batch = next(iter(make_batches(1)))
    model = make_model(micro_batches)

    def gradients(step, seed=3):
        model.seed = seed
        parts, _ = model.compute_gradients(batch, tf.constant(step))
        return np.concatenate([part.numpy().ravel() for part in parts])

    np.testing.assert_array_equal(gradients(5), gradients(5))
    assert not np.array_equal(gradients(5), gradients(6))
    assert not np.array_equal(gradients(5), gradients(5, seed=4))


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_loss_is_the_mean_over_the_global_batch(micro_batches):
    """Micro-batches have different numbers of tokens: a mean of means would differ."""
    batch = next(iter(make_batches(1)))
    dry = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    whole, _ = make_model(1, **dry).compute_gradients(batch, tf.constant(0))
    cut, _ = make_model(micro_batches, **dry).compute_gradients(batch, tf.constant(0))
    for a, b in zip(whole, cut, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_xla_computes_the_same():
    batch = next(iter(make_batches(1)))
    plain, stats = make_model(2, "off").compute_gradients(batch, tf.constant(0))
    compiled, compiled_stats = make_model(2, "on").compute_gradients(batch, tf.constant(0))
    np.testing.assert_allclose(stats, compiled_stats, rtol=1e-5, atol=1e-5)
    for a, b in zip(plain, compiled, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_token_ids_are_computed_with_in_compiled_functions_only():
    """TensorFlow's own kernels for int32 run on the host of a GPU, which would have to wait for it."""
    batch = next(iter(make_batches(1)))
    step = tf.function(make_model(jit_compile="on").training_update, autograph=False)
    kinds = {
        op.type
        for op in step.get_concrete_function(batch).graph.get_operations()
        if any(t.dtype == tf.int32 and t.shape == (8, 16) for t in (*op.inputs, *op.outputs))
    }
    assert kinds <= {"Placeholder", "Const", "Cast", "PartitionedCall", "StatefulPartitionedCall"}


def test_gradient_is_that_of_the_loss():
    """Finite differences in one direction, in float64 of the sums."""
    batch = next(iter(make_batches(1)))
    model = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    # Only the discriminator's own weights: a sample may change with the generator's.
    variables = model.discriminator_head.trainable_variables
    gradients, _ = model.compute_gradients(batch, tf.constant(0))
    by_path = dict(zip([v.path for v in model.trainable_variables], gradients, strict=True))
    direction = [np.sign(by_path[v.path].numpy()) for v in variables]
    slope = sum(
        (by_path[v.path].numpy() * d).sum() for v, d in zip(variables, direction, strict=True)
    )

    def loss(step):
        for v, d in zip(variables, direction, strict=True):
            v.assign_add(step * d)
        _, stats = model.compute_gradients(batch, tf.constant(0))
        for v, d in zip(variables, direction, strict=True):
            v.assign_sub(step * d)
        return statistics.summarize(stats.numpy(), 1.0, 50.0)["loss"]

    assert (loss(1e-3) - loss(-1e-3)) / 2e-3 == pytest.approx(slope, rel=2e-2)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_dropout(rate):
    ones = tf.ones([100, 1000])
    noise = DropoutNoise(tf.constant([1, 2]))
    first, second = dropout(ones, rate, noise), dropout(ones, rate, noise)
    assert float(tf.reduce_mean(first)) == pytest.approx(1.0, abs=0.02)
    assert np.mean(first.numpy() == 0) == pytest.approx(rate, abs=0.01)
    assert np.mean((first.numpy() == 0) & (second.numpy() == 0)) == pytest.approx(rate**2, abs=0.01)
    assert dropout(ones, rate, None) is ones


@pytest.mark.parametrize("compiled", [True, False])
def test_random_bits_are_uniform_and_independent(compiled):
    """Of neighbours, of the same place under other keys, and of rows and columns of a matrix."""
    draw = tf.function(lambda key: random_bits(key, [512, 1024]), jit_compile=compiled)
    keys = [[1, 2], [1, 3], [2, 2], [-1, 2**31 - 1]]
    streams = [draw(tf.constant(key)).numpy().ravel() / 2**32 for key in keys]
    count = len(streams[0])
    error = 5 / count**0.5  # five standard errors of a correlation
    for stream in streams:
        # Chi-squared over 256 bins: mean 255, standard deviation 22.6.
        for bits in (stream * 256, stream * 2**24 % 256):  # the highest and other bits
            observed = np.bincount(bits.astype(int), minlength=256)
            assert ((observed - count / 256) ** 2 / (count / 256)).sum() < 255 + 5 * 22.6
        for lag in (1, 2, 64, 1024):
            assert abs(np.corrcoef(stream[:-lag], stream[lag:])[0, 1]) < error
            # Runs of dropped units: both below 0.1 as often as independence has it.
            both = np.mean((stream[:-lag] < 0.1) & (stream[lag:] < 0.1))
            assert both == pytest.approx(0.01, abs=5 * (0.01 / count) ** 0.5)
    for i, first in enumerate(streams):
        for second in streams[i + 1 :]:
            assert abs(np.corrcoef(first, second)[0, 1]) < error


def test_random_bits_of_two_keys_are_no_shifted_copies():
    """Keys of different layers have the number of the site as their second half."""
    first, second = (random_bits(tf.constant([key, 1]), [1000]).numpy() for key in (5, 69))
    assert not set(first) & set(second)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_near_float32(precision):
    batch = next(iter(make_batches(1)))
    _, exact = make_model().compute_gradients(batch, tf.constant(0))
    keras.config.set_dtype_policy(precision)
    model = make_model()
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert model.discriminator.compute_dtype == precision.removeprefix("mixed_")
    model.optimizer.loss_scale.assign(1.0)  # the gradients as they are, in float16 too
    gradients, rough = model.compute_gradients(batch, tf.constant(0))
    assert all(np.isfinite(g.numpy()).all() for g in gradients)
    exact, rough = (statistics.summarize(s.numpy(), 1, 50) for s in (exact, rough))
    assert rough["generator_loss"] == pytest.approx(exact["generator_loss"], rel=0.02)
    assert rough["discriminator_loss"] == pytest.approx(exact["discriminator_loss"], rel=0.1)


def test_disallow_correct_replaces_every_masked_token():
    config = dataclasses.replace(make_model().config, disallow_correct=True)
    model = ElectraPretrainer(config)
    batch = next(iter(make_batches(1)))
    masked, outputs = model.corrupt(batch, tf.constant(0))
    replaced = tf.reduce_sum(tf.cast(outputs["replaced"], tf.float32))
    assert float(replaced) == float(tf.reduce_sum(masked.weights))
