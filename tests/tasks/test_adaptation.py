"""Freezing, gradual unfreezing and LoRA: what moves, what does not, and what is merged."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UsageError, UserError
from electra_keras.modeling.lora import is_lora
from electra_keras.tasks.adaptation import Adaptation, AdaptationOptions, load_merged
from electra_keras.training.arrays import write_arrays
from tests.tasks.test_finetuner import assert_same, make_batch, make_model, updated

LORA = Adaptation(lora_rank=2, lora_alpha=6.0)


def depth(path):
    """Embeddings 0, layers 1 and 2, head 3."""
    if not path.startswith("discriminator/"):
        return 3
    return {"layer_0": 1, "layer_1": 2}.get(path.split("/")[1], 0)


def with_lora(seed=3, **options):
    """A model whose updates are not 0, as after some training."""
    model = make_model(adaptation=LORA, **options)
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if is_lora(variable.path):
            variable.assign(rng.normal(0, 0.2, variable.shape))
    return model


def save(model, directory, adaptation):
    """Writes a run directory as far as loading reads it."""
    checkpoint = directory / "checkpoints" / "step-00000001"
    checkpoint.mkdir(parents=True)
    write_arrays(checkpoint, "weights", {v.path: v.numpy() for v in model.weights})
    if adaptation.to_json():
        (directory / "adaptation.json").write_text(adaptation.to_json())
    return checkpoint


# --- freezing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [0, 1, 2, 3])
@pytest.mark.parametrize("jit_compile", ["on", "off"])
def test_only_what_is_not_frozen_moves_and_as_it_would_without_clipping(frozen, jit_compile):
    """Without weight decay of others, a trained variable's first update knows only its own gradient."""
    batch = make_batch()
    before = {v.path: v.numpy() for v in make_model().weights}
    model = make_model(adaptation=Adaptation(frozen=frozen), jit_compile=jit_compile)
    whole = make_model()
    model.optimizer.max_grad_norm = whole.optimizer.max_grad_norm = None
    _, weights = updated(model, batch)
    _, expected = updated(whole, batch)
    for path, start in before.items():
        if depth(path) < frozen:
            np.testing.assert_array_equal(weights[path], start, err_msg=path)
        else:
            assert np.abs(weights[path] - start).max() > 0, path
    assert_same(
        {path: weights[path] for path in before if depth(path) >= frozen},
        {path: expected[path] for path in before if depth(path) >= frozen},
    )
    moments = [v.path for v in model.optimizer.variables if v.path.endswith("_moment")]
    assert len(moments) == 2 * sum(depth(path) >= frozen for path in before)


def operations(graph):
    """All operations of a graph and of the functions that it calls."""
    names = [op.type for op in graph.get_operations()]
    for function in graph.as_graph_def().library.function:
        names += [node.op for node in function.node_def]
    return names


def test_frozen_layers_have_no_backward_pass():
    def products(adaptation):
        model = make_model(adaptation=adaptation)
        model.buckets = [64]
        update = tf.function(model.training_update, autograph=False)
        names = operations(update.get_concrete_function(make_batch()).graph)
        return sum(name in ("MatMul", "BatchMatMulV2") for name in names)

    whole, half, head, lora = map(
        products, [Adaptation(), Adaptation(frozen=2), Adaptation(frozen=3), LORA]
    )
    # A block has 4 dense layers and 2 products of the attention, each with 2 in its gradient.
    assert whole - half >= 12
    assert half - head >= 12
    # With LoRA the dense layers need the gradient of their inputs only.
    per_block = 4 - 2 * 2 * 3  # four weight gradients less; 3 products more, twice, per projection
    assert lora <= whole - 2 * per_block - 2


# --- gradual unfreezing -----------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["adam", "adamw", "lamb"])
def test_layers_are_unfrozen_from_the_top(algorithm):
    """At first the head alone: layer 1 moves from step 2 on, layer 0 from 4, then the rest."""
    model = make_model(adaptation=Adaptation(frozen=3, unfreeze_steps=2), algorithm=algorithm)
    update = tf.function(model.training_update, autograph=False)
    for step in range(8):
        before = {v.path: v.numpy() for v in model.weights}
        update(make_batch())
        for variable in model.weights:
            moved = np.abs(variable.numpy() - before[variable.path]).max() > 0
            expected = step >= 2 * (3 - depth(variable.path))
            assert moved == expected, (step, variable.path)
            assert np.all(np.isfinite(variable.numpy()))


def test_a_frozen_layer_is_not_in_the_norm():
    batch = make_batch()
    gradual = make_model(adaptation=Adaptation(frozen=3, unfreeze_steps=5))
    frozen = make_model(adaptation=Adaptation(frozen=3))
    _, weights = updated(gradual, batch)
    _, expected = updated(frozen, batch)
    np.testing.assert_allclose(
        gradual.optimizer.gradient_norm.numpy(), frozen.optimizer.gradient_norm.numpy(), rtol=1e-6
    )
    assert_same(weights, expected)
    whole = make_model()
    updated(whole, batch)
    assert whole.optimizer.gradient_norm.numpy() > 1.01 * gradual.optimizer.gradient_norm.numpy()


def test_the_bias_correction_begins_when_a_layer_is_unfrozen():
    """AdamW's first update is rate x sign of the gradient (+ decay), whenever that is."""
    model = make_model(adaptation=Adaptation(frozen=2, unfreeze_steps=3), algorithm="adamw")
    model.optimizer.decay_rate = 0.0
    update = tf.function(model.training_update, autograph=False)
    for _ in range(3):
        update(make_batch())
    kernel = next(v for v in model.weights if "layer_0/intermediate_dense/kernel" in v.path)
    before = kernel.numpy()
    update(make_batch())
    assert np.abs(kernel.numpy() - before).max() == pytest.approx(1e-2, rel=0.05)


# --- LoRA -------------------------------------------------------------------------------------------


def test_lora_begins_at_the_pretrained_model_and_trains_its_updates_only():
    batch = make_batch()
    plain = make_model()
    model = make_model(adaptation=LORA)
    shared = {v.path: v.numpy() for v in plain.weights}
    for variable in model.weights:
        if not is_lora(variable.path):
            variable.assign(shared[variable.path])
    np.testing.assert_array_equal(model(batch), plain(batch))
    before = {v.path: v.numpy() for v in model.weights}
    updated(model, batch)
    _, weights = updated(model, batch)  # lora_down has no gradient while lora_up is 0
    for path, array in weights.items():
        moved = np.abs(array - before[path]).max() > 0
        assert moved == (is_lora(path) or depth(path) == 3), path
    names = {path.split("/", 3)[-1] for path in weights if is_lora(path)}
    assert names == {
        f"{layer}/{part}" for layer in ("query_key_value", "output_dense")
        for part in ("lora_down", "lora_up")
    }  # fmt: skip


def test_xla_computes_the_same_updates():
    batch = make_batch()
    _, weights = updated(with_lora(dropout=0.1, jit_compile="on"), batch)
    _, expected = updated(with_lora(dropout=0.1), batch)
    assert_same(weights, expected)


def test_a_merged_model_is_the_unmerged_one(tmp_path):
    batch, model, merged = make_batch(), with_lora(), make_model()
    outputs = model(batch).numpy()
    without = make_model()
    load_merged(without.weights, tmp_path, save(without, tmp_path, Adaptation()))
    assert np.abs(outputs - without(batch)).max() > 1e-2  # the updates matter
    directory = tmp_path / "lora"
    load_merged(merged.weights, directory, save(model, directory, LORA))
    np.testing.assert_allclose(merged(batch), outputs, atol=1e-5)
    # A new LoRA run from this one begins at the merged model.
    again = make_model(adaptation=Adaptation(lora_rank=1, lora_alpha=1.0))
    load_merged(again.weights, directory, directory / "checkpoints" / "step-00000001")
    np.testing.assert_allclose(again(batch), outputs, atol=1e-5)


def test_updates_by_hand(tmp_path):
    """Query, key and value have their own factors; the scale is alpha / rank = 3."""
    model, merged = with_lora(), make_model()
    load_merged(merged.weights, tmp_path, save(model, tmp_path, LORA))
    ours = {v.path: v.numpy() for v in model.weights}
    layer = "discriminator/layer_1/attention/query_key_value"
    down, up = ours[f"{layer}/lora_down"], ours[f"{layer}/lora_up"]
    assert down.shape == (3, 32, 2) and up.shape == (3, 2, 32)
    kernel = ours[f"{layer}/kernel"].copy()
    for part in range(3):
        kernel[:, 32 * part : 32 * (part + 1)] += 3 * down[part] @ up[part]
    theirs = {v.path: v.numpy() for v in merged.weights}
    np.testing.assert_allclose(theirs[f"{layer}/kernel"], kernel, atol=1e-6)
    ffn = "discriminator/layer_1/intermediate_dense/kernel"
    np.testing.assert_array_equal(theirs[ffn], ours[ffn])


def test_updates_without_their_scale_are_refused(tmp_path):
    checkpoint = save(with_lora(), tmp_path, Adaptation())
    with pytest.raises(UserError, match=r"low-rank updates, but .* has no adaptation\.json"):
        load_merged(make_model().weights, tmp_path, checkpoint)


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"freeze": "everything"}, "--freeze must be none, embeddings, encoder"),
        ({"freeze": "0"}, "--freeze must be"),
        ({"freeze": "5"}, "--freeze=5: the model has only 4 layers"),
        ({"unfreeze_steps": 5}, "--unfreeze_steps needs --freeze"),
        ({"unfreeze_epochs": 1.0}, "--unfreeze_epochs needs --freeze"),
        ({"freeze": "encoder", "unfreeze_steps": 0}, "--unfreeze_steps must be above 0"),
        ({"freeze": "encoder", "unfreeze_steps": 1, "unfreeze_epochs": 1.0}, "contradict"),
        ({"freeze": "encoder", "unfreeze_steps": 100}, "--unfreeze_steps=100: .* has only 100"),
        ({"freeze": "encoder", "unfreeze_epochs": 4.0}, "--unfreeze_epochs=4.0: .* step 100"),
        ({"lora_rank": 0}, "--lora_rank must be above 0"),
        ({"lora_rank": 2, "freeze": "embeddings"}, "--lora_rank freezes the whole encoder"),
        ({"lora_alpha": 2.0}, "--lora_alpha needs --lora_rank"),
    ],
)
def test_settings_without_sense_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        AdaptationOptions(**options).resolve(num_layers=4, train_steps=100, steps_per_epoch=25)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, Adaptation()),
        ({"freeze": "embeddings"}, Adaptation(1)),
        ({"freeze": "4"}, Adaptation(5)),
        ({"freeze": "encoder", "unfreeze_epochs": 0.5}, Adaptation(5, 12)),
        ({"lora_rank": 8}, Adaptation(lora_rank=8, lora_alpha=8.0)),
        ({"lora_rank": 8, "lora_alpha": 16.0}, Adaptation(lora_rank=8, lora_alpha=16.0)),
    ],
)
def test_settings_are_kept_with_the_run(options, expected, tmp_path):
    adaptation = AdaptationOptions(**options).resolve(4, train_steps=100, steps_per_epoch=25)
    assert adaptation == expected
    if adaptation.to_json():
        (tmp_path / "adaptation.json").write_text(adaptation.to_json())
    assert Adaptation.read(tmp_path) == adaptation


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"rank": 2}', '{"frozen": -1}', '{"lora_rank": "2"}', '{"frozen": null}']
)
def test_a_damaged_file_is_named(text, tmp_path):
    (tmp_path / "adaptation.json").write_text(text)
    with pytest.raises(UserError, match=r"adaptation\.json"):
        Adaptation.read(tmp_path)


def test_the_number_of_trained_parameters_is_said():
    sizes = {v.path: int(np.prod(v.shape)) for v in make_model().weights}
    head, everything = 33 * 3, sum(sizes.values())
    millions = [f"{n / 1e6:.3f}" for n in (head, everything)]

    def line(adaptation, steps=100):
        return adaptation.describe(make_model(adaptation=adaptation).weights, steps)

    assert line(Adaptation()) == f"{millions[1]} of {millions[1]} M parameters are trained"
    assert line(Adaptation(3)).startswith(f"{millions[0]} of {millions[1]} M parameters")
    assert line(Adaptation(3, 20)).endswith(
        f"one layer more every 20 steps, {millions[1]} M from step 60 on"
    )
    layers = sum(size for path, size in sizes.items() if depth(path) >= 1) / 1e6
    assert line(Adaptation(3, 20), 50).endswith(f"{layers:.3f} M from step 40 on")
    assert dataclasses.asdict(LORA) == json.loads(LORA.to_json())
