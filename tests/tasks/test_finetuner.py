"""The fine-tuning step: buckets, accumulation, layer-wise rates, order of the examples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UsageError
from electra_keras.options import ModelOptions
from electra_keras.tasks.classification import (
    KINDS,
    ClassificationHead,
    ClassificationTask,
    element_loss,
)
from electra_keras.tasks.features import FeatureFeed, evaluation_batches
from electra_keras.tasks.finetuner import FineTuner, LayerwiseRate
from electra_keras.tasks.running import Predictor
from electra_keras.training.optimizer import ElectraOptimizer

SIZES = {
    "model_size": "tiny", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "embedding_size": 16, "max_position_embeddings": 64,
}  # fmt: skip


def make_model(
    dropout=0.0, micro_batches=1, jit_compile="off", factor=None, algorithm="adam", **options
):
    sizes = SIZES | {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    config = ModelOptions(**sizes).resolve(vocab_size=60, max_seq_length=64)
    keras.utils.set_random_seed(1)
    model = FineTuner(
        config,
        lambda encoder: ClassificationHead(encoder, "single_label", 3),
        64,
        gradient_accumulation_steps=micro_batches,
        **options,
    )
    optimizer = ElectraOptimizer(
        1e-2, algorithm, rate_factor=factor, first_step=model.adaptation.first_step
    )
    model.compile(optimizer, jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)
    return model


def make_batch(longest=30, rows=8):
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, longest, rows).astype(np.int32)
    lengths[0] = longest
    real = np.arange(64) < lengths[:, None]
    batch = {
        "input_ids": np.where(real, rng.integers(5, 60, (rows, 64)), 0).astype(np.int32),
        "segment_ids": np.zeros((rows, 64), np.int32),
        "lengths": lengths,
        "labels": rng.integers(0, 3, rows).astype(np.int32),
    }
    return {name: tf.constant(values) for name, values in batch.items()}


def updated(model, batch):
    report = tf.function(model.training_update, autograph=False)(batch).numpy()
    return report, {v.path: v.numpy() for v in model.weights}


def assert_same(ours, theirs):
    for path, array in theirs.items():
        np.testing.assert_allclose(ours[path], array, rtol=2e-4, atol=2e-6, err_msg=path)


def test_a_bucket_changes_nothing_but_the_time():
    short, whole = make_model(), make_model()
    assert short.buckets == [16, 32, 64]
    whole.buckets = [64]
    report, weights = updated(short, make_batch(longest=17))
    expected_report, expected = updated(whole, make_batch(longest=17))
    np.testing.assert_allclose(report, expected_report, rtol=1e-5)
    assert_same(weights, expected)


def test_every_token_is_in_its_bucket():
    """A batch whose longest example is as long as a bucket: its last token must count."""
    for longest in (16, 17, 32, 33, 64):
        batch = make_batch(longest)
        model = make_model()
        first, _ = updated(model, batch)
        ids = batch["input_ids"].numpy()
        ids[0, longest - 1] = 5 if ids[0, longest - 1] != 5 else 6
        second, _ = updated(make_model(), {**batch, "input_ids": tf.constant(ids)})
        assert first[2] != second[2], longest


def test_the_bucket_is_what_the_feed_says():
    """Where it says so, the batch's own lengths are not looked at: on a GPU they are far away."""
    batch = make_batch(longest=17)
    parts = tf.reshape(batch["lengths"], [2, 4])
    said = tf.reduce_max(parts, axis=1)
    _, expected = updated(make_model(micro_batches=2, dropout=0.1), batch)
    for longest, same in ((said, True), (tf.constant([16, 16]), False)):
        model = make_model(micro_batches=2, dropout=0.1)
        tf.function(model.training_update, autograph=False)(batch, longest)
        equal = [np.array_equal(v.numpy(), expected[v.path]) for v in model.weights]
        assert all(equal) == same


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_micro_batches_make_the_same_step(reduction):
    batch = make_batch()
    report, weights = updated(make_model(micro_batches=4, loss_reduction=reduction), batch)
    expected_report, expected = updated(make_model(loss_reduction=reduction), batch)
    np.testing.assert_allclose(report, expected_report, rtol=1e-5)
    assert_same(weights, expected)


def test_xla_computes_the_same_with_dropout():
    batch = make_batch()
    _, weights = updated(make_model(dropout=0.1, jit_compile="on"), batch)
    _, expected = updated(make_model(dropout=0.1), batch)
    assert_same(weights, expected)
    _, other = updated(make_model(dropout=0.0), batch)
    assert any(np.abs(other[path] - expected[path]).max() > 1e-4 for path in expected)


def test_layerwise_rates():
    """Facts D7.33: lr x decay^(n + 2 - depth) in the original, one power less in the paper."""
    paper, original = LayerwiseRate(0.5, 12, False), LayerwiseRate(0.5, 12, True)
    assert paper("task_head/output_dense/kernel") == original("task_head/output_dense/kernel") == 1
    assert paper("discriminator/layer_11/output_dense/kernel") == 0.5
    assert original("discriminator/layer_11/output_dense/kernel") == 0.5**2
    assert paper("discriminator/layer_0/output_dense/kernel") == 0.5**12
    assert paper("discriminator/embeddings/layer_norm/gamma") == 0.5**13
    assert original("discriminator/embeddings_project/kernel") == 0.5**14


def test_layerwise_rates_of_a_model():
    """The paths are those that the variables really have."""
    factor = LayerwiseRate(0.5, 2, False)
    rates = {v.path: factor(v.path) for v in make_model().weights}
    assert [rate for path, rate in rates.items() if not path.startswith("discriminator/")] == [1, 1]
    for part, rate in (("layer_1", 0.5), ("layer_0", 0.25), ("embeddings", 0.125)):
        found = {r for path, r in rates.items() if path.startswith(f"discriminator/{part}")}
        assert found == {rate}, part


def test_the_factor_scales_the_update():
    batch = make_batch()
    before = {v.path: v.numpy() for v in make_model().weights}
    _, full = updated(make_model(), batch)
    _, half = updated(make_model(factor=lambda path: 0.5), batch)
    for path, start in before.items():
        np.testing.assert_allclose(half[path] - start, (full[path] - start) / 2, atol=1e-6)


def test_more_positions_than_the_model_has_are_refused():
    config = ModelOptions(**SIZES).resolve(vocab_size=60, max_seq_length=64)
    with pytest.raises(UsageError, match="max_seq_length=65 is more than the model's 64"):
        FineTuner(config, lambda encoder: ClassificationHead(encoder, KINDS[0], 2), 65)


def test_losses_of_every_kind():
    outputs = tf.constant([[0.5, -1.0]])
    p = np.exp([0.5, -1.0]) / np.exp([0.5, -1.0]).sum()
    loss = element_loss("single_label", outputs, tf.constant([1]))
    np.testing.assert_allclose(loss, [-np.log(p[1])], rtol=1e-6)
    loss = element_loss("multi_label", outputs, tf.constant([[1.0, 0.0]]))
    expected = np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-1.0))
    np.testing.assert_allclose(loss, [expected], rtol=1e-6)
    loss = element_loss("regression", tf.constant([[0.5]]), tf.constant([0.25]))
    np.testing.assert_allclose(loss, [0.0625])


@pytest.mark.parametrize(
    ("kind", "same", "different"),
    [
        ("single_label", [[2.0, 1.0], [3.0, 0.0]], [[2.0, 1.0], [0.0, 3.0]]),
        ("multi_label", [[2.0, -1.0], [1.0, -3.0]], [[2.0, -1.0], [1.0, 3.0]]),
        ("regression", [[0.5], [0.5]], [[0.5], [0.6]]),
    ],
)
def test_a_run_that_gives_one_answer_has_failed(kind, same, different):
    labels = () if kind == "regression" else ("a", "b")
    task = ClassificationTask(
        "classification", kind, labels, (0.0, 1.0), False, 16, "head", ("f1",)
    )
    gold = np.array([[0, 1], [1, 0]]) if kind == "multi_label" else np.array([0, 1])
    assert task.failed(np.array(same), {"labels": gold}, [])
    assert not task.failed(np.array(different), {"labels": gold}, [])
    assert not task.failed(np.array(same), {"labels": gold[[0, 0]]}, [])  # there is one answer


def feed(steps, examples=10, batch=4):
    return FeatureFeed({"lengths": np.arange(examples, dtype=np.int32)}, batch, 7, steps)


def test_order_is_a_function_of_the_step():
    order = feed(9).order(0)
    assert order.shape == (9, 4)
    for epoch in order[:8].reshape(-1, 8):
        assert len(set(epoch)) == 8  # no example twice in an epoch
    assert not np.array_equal(order[0:2], order[2:4])
    for step in range(9):
        np.testing.assert_array_equal(feed(9).order(step), order[step:])


def test_hosts_and_replicas_divide_a_batch():
    whole = np.concatenate([b["lengths"] for b in feed(3).dataset(0).as_numpy_iterator()])
    parts = [
        list(feed(3).dataset(0, 2, host, 2).as_numpy_iterator()) for host in range(2)
    ]  # each of 2 replicas with 1 row
    together = [parts[h][2 * s + r]["lengths"][0] for s in range(3) for h in (0, 1) for r in (0, 1)]
    assert together == whole.tolist()


def test_the_longest_examples_are_those_of_the_batches():
    ours = FeatureFeed({"lengths": np.arange(1, 11, dtype=np.int32)}, 4, 7, 9)
    batches = [b["lengths"] for b in ours.dataset(3, 1, 0, 2).as_numpy_iterator()]
    expected = np.array([lengths.max() for lengths in batches]).reshape(-1, 2)
    np.testing.assert_array_equal(ours.longest(3, 6, 2), expected)
    np.testing.assert_array_equal(ours.longest(5, 2, 2), expected[2:4])


def test_prediction_at_few_shapes():
    """As on TPU: the same outputs, whatever fills up rows and lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 40, 13).astype(np.int32)
    ids = np.where(np.arange(64) < lengths[:, None], rng.integers(5, 60, (13, 64)), 0)
    features = {
        "input_ids": ids.astype(np.int32),
        "segment_ids": np.zeros((13, 64), np.int32),
        "lengths": lengths,
    }
    model, strategy = make_model(), tf.distribute.get_strategy()
    shapes = {
        (len(batch["lengths"]), *batch["input_ids"].shape)
        for _, batch in evaluation_batches(features, 4, model.buckets)
    }
    assert shapes <= {(4, 4, 16), (4, 4, 32), (4, 4, 64)}
    fixed = Predictor(strategy, model, 4, fixed_shapes=True).outputs(features)
    np.testing.assert_allclose(
        fixed, Predictor(strategy, model, 4).outputs(features), rtol=1e-5, atol=1e-6
    )


def test_evaluation_sees_each_example_once():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 33, 50).astype(np.int32)
    features = {
        "input_ids": np.zeros((50, 32)),
        "segment_ids": np.zeros((50, 32)),
        "lengths": lengths,
    }
    seen = []
    for rows, batch in evaluation_batches(features, 8):
        seen += rows.tolist()
        assert batch["lengths"].max() <= batch["input_ids"].shape[1] <= batch["lengths"].max() + 7
    assert sorted(seen) == list(range(50))
