"""Checkpoints of google-research/electra, against outputs of its own code."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UserError
from electra_keras.interop import google
from tests.interop.models import GOOGLE, assert_same_bits, random_model, stages


def arrays_of(path):
    reader = tf.train.load_checkpoint(str(path))
    names = reader.get_variable_to_shape_map()
    return {name: np.asarray(reader.get_tensor(name)) for name in names}


def save(path, arrays):
    """Writes a TF1 checkpoint."""
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(arrays),
        shape_and_slices=[""] * len(arrays),
        tensors=[tf.constant(array) for array in arrays.values()],
    )


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(GOOGLE, tmp_path / "copy")


def test_every_stage_equals_the_original():
    model = google.read(GOOGLE)
    assert model.step == 40
    assert (model.config.discriminator.num_attention_heads, model.config.max_seq_length) == (4, 32)
    golden = np.load(GOOGLE / "eval.npz")
    rest = golden["in/input_mask"], golden["in/segment_ids"]
    assert rest[0].min() == 0 and rest[1].max() == 1  # padding and second segments
    outputs, logits = stages(model, "discriminator", golden["in/fake_input_ids"], *rest)
    np.testing.assert_allclose(outputs[0], golden["out/disc/embedding_output"], atol=1e-5)
    np.testing.assert_allclose(outputs[1:], golden["out/disc/all_layers"], atol=2e-5)
    np.testing.assert_allclose(logits, golden["out/disc/logits"], atol=2e-5)
    outputs, logits = stages(
        model,
        "generator",
        golden["in/masked_input_ids"],
        *rest,
        positions=golden["in/masked_lm_positions"],
    )
    np.testing.assert_allclose(outputs[0], golden["out/gen/embedding_output"], atol=1e-5)
    np.testing.assert_allclose(outputs[1:], golden["out/gen/all_layers"], atol=2e-5)
    np.testing.assert_allclose(logits, golden["out/gen/logits_at_positions"], atol=2e-5)


def test_what_is_written_back_is_the_same_checkpoint(tmp_path):
    notes = google.write(google.read(GOOGLE), tmp_path)
    assert notes == []
    assert_same_bits(arrays_of(tmp_path / "model.ckpt-40"), arrays_of(GOOGLE / "model.ckpt-40"))
    for name in ("bert_config.json", "generator_config.json"):
        ours, theirs = (json.loads((d / name).read_text()) for d in (tmp_path, GOOGLE))
        assert ours == theirs
    ours, theirs = (json.loads((d / "hparams.json").read_text()) for d in (tmp_path, GOOGLE))
    for name in ("embedding_size", "generator_hidden_size", "vocab_size", "max_seq_length"):
        assert ours[name] == theirs[name]


def original_variables(directory):
    """Names and shapes that the original's run_pretraining.py makes of --hparams (facts D4, D8)."""
    hparams = json.loads((directory / "hparams.json").read_text())
    sizes = {"hidden_size": 256, "num_hidden_layers": 12}  # model_size "small"
    sizes |= {"max_position_embeddings": 512, "type_vocab_size": 2}
    sizes |= hparams["model_hparam_overrides"]
    hidden = sizes["hidden_size"]
    inner = sizes.get("intermediate_size", 4 * hidden)
    embedding, vocab_size = hparams["embedding_size"], hparams["vocab_size"]
    shapes = {}

    def dense(name, inputs, outputs):
        shapes.update({f"{name}/kernel": (inputs, outputs), f"{name}/bias": (outputs,)})

    def norm(name, width):
        shapes.update({f"{name}/LayerNorm/{part}": (width,) for part in ("gamma", "beta")})

    def embeddings(scope, width):
        shapes[f"{scope}/embeddings/word_embeddings"] = (vocab_size, width)
        shapes[f"{scope}/embeddings/position_embeddings"] = (
            sizes["max_position_embeddings"],
            width,
        )
        shapes[f"{scope}/embeddings/token_type_embeddings"] = (sizes["type_vocab_size"], width)
        norm(f"{scope}/embeddings", width)

    def transformer(scope, embedding, width, layers, inner):
        if embedding != width:
            dense(f"{scope}/embeddings_project", embedding, width)
        for layer in (f"{scope}/encoder/layer_{i}" for i in range(layers)):
            for part in ("self/query", "self/key", "self/value", "output/dense"):
                dense(f"{layer}/attention/{part}", width, width)
            norm(f"{layer}/attention/output", width)
            dense(f"{layer}/intermediate/dense", width, inner)
            dense(f"{layer}/output/dense", inner, width)
            norm(f"{layer}/output", width)

    embeddings("electra", embedding)
    transformer("electra", embedding, hidden, sizes["num_hidden_layers"], inner)
    dense("discriminator_predictions/dense", hidden, hidden)
    dense("discriminator_predictions/dense_1", hidden, 1)
    width = hidden
    if hparams["untied_generator"]:
        width = round(hidden * hparams["generator_hidden_size"])
        layers = round(sizes["num_hidden_layers"] * hparams["generator_layers"])
        if hparams["untied_generator_embeddings"]:
            embedding = width
            embeddings("generator", width)
        transformer("generator", embedding, width, layers, 4 * width)
    dense("generator_predictions/dense", width, embedding)
    norm("generator_predictions", embedding)
    shapes["generator_predictions/output_bias"] = (vocab_size,)
    slots = {f"{n}/{slot}": s for n, s in shapes.items() for slot in ("adam_m", "adam_v")}
    return shapes | slots | {"global_step": ()}


@pytest.mark.parametrize("sharing", ["all", "token", "none", "encoder"])
def test_a_tf1_saver_restores_what_is_written(tmp_path, sharing):
    """The way of the original's Estimator: variables by name, all of them or an error."""
    google.write(random_model(sharing), tmp_path)
    expected = original_variables(tmp_path)
    shapes = tf.train.load_checkpoint(str(tmp_path)).get_variable_to_shape_map()
    assert {name: tuple(shape) for name, shape in shapes.items()} == expected
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = {
            name: tf.compat.v1.get_variable(
                name, shape, tf.int64 if name == "global_step" else tf.float32
            )
            for name, shape in expected.items()
        }
        saver = tf.compat.v1.train.Saver(made)
        saver.restore(session, tf.compat.v1.train.latest_checkpoint(str(tmp_path)))
        bias = session.run(made["generator_predictions/output_bias"])
    np.testing.assert_array_equal(bias, random_model(sharing).weights["generator_head/output_bias"])


def test_the_golden_checkpoint_has_the_original_variables(copy):
    """What the test above takes for the original's rules is what the original made."""
    hparams = json.loads((copy / "hparams.json").read_text())
    defaults = {"generator_layers": 1.0, "untied_generator": True}
    defaults["untied_generator_embeddings"] = False
    (copy / "hparams.json").write_text(json.dumps(defaults | hparams))
    found = {name: array.shape for name, array in arrays_of(copy).items()}
    assert found == original_variables(copy)


@pytest.mark.parametrize("sharing", ["all", "none", "encoder"])
def test_all_tyings_go_there_and_back(tmp_path, sharing):
    model = random_model(sharing, moments=True)
    google.write(model, tmp_path)
    again = google.read(tmp_path)
    assert again.config == model.config
    assert_same_bits(again.weights, model.weights)
    for ours, theirs in zip(again.moments, model.moments, strict=True):
        assert_same_bits(ours, theirs)
    assert again.step == 7
    names = arrays_of(tmp_path).keys()
    assert ("generator/embeddings/word_embeddings" in names) == (sharing == "none")
    assert ("generator/encoder/layer_0/output/dense/bias" in names) == (sharing != "encoder")


def test_a_shared_token_table_becomes_two(tmp_path):
    model = random_model("token")
    google.write(model, tmp_path)
    again = google.read(tmp_path)
    assert again.config.embedding_sharing == "none"
    assert_same_bits(again.network("generator"), model.network("generator"))


def test_released_checkpoints_have_no_slots_and_no_settings(copy):
    arrays = arrays_of(GOOGLE / "model.ckpt-40")
    released = {n: a for n, a in arrays.items() if "adam" not in n and n != "global_step"}
    for path in (*copy.glob("*.json"), *copy.glob("model*"), copy / "checkpoint"):
        path.unlink()
    save(copy / "electra_small", released)
    model = google.read(copy / "electra_small", attention_heads={"discriminator": 4})
    assert model.moments is None
    assert model.step == 0
    assert_same_bits(model.weights, google.read(GOOGLE).weights)
    assert any("generator's attention heads: 1" in note for note in model.notes)


def test_a_discriminator_alone_and_what_is_unused(tmp_path):
    shutil.copy(GOOGLE / "vocab.txt", tmp_path)
    arrays = {
        name: array
        for name, array in arrays_of(GOOGLE / "model.ckpt-40").items()
        if name.startswith("electra/") and "adam" not in name
    }
    save(tmp_path / "model.ckpt", arrays | {"finetuning/task/kernel": np.zeros([2], np.float32)})
    model = google.read(tmp_path)
    assert model.config.generator is None
    assert not any("head" in path for path in model.weights)
    assert any(note.endswith("finetuning/task/kernel") for note in model.notes)
    google.write(model, tmp_path / "model.ckpt-again")


def _without(name):
    return lambda arrays: arrays.pop(name)


def _reshaped(name, shape):
    return lambda arrays: arrays.update({name: np.zeros(shape, np.float32)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _without("electra/encoder/layer_1/output/dense/bias"),
            "has no tensor electra/encoder/layer_1/output/dense/bias",
        ),
        (
            _reshaped("generator_predictions/dense/kernel", [5, 32]),
            r"generator_predictions/dense/kernel has shape \[5, 32\], expected \[16, 32\]",
        ),
        (
            _without("electra/embeddings/word_embeddings"),
            "no electra/embeddings/word_embeddings; it has",
        ),
        (_without("discriminator_predictions/dense_1/bias"), "has no tensor discriminator_pred"),
        (_without("generator/encoder/layer_0/attention/self/query/kernel"), "has no matrix gener"),
    ],
)
def test_incomplete_checkpoints_are_refused(copy, change, message):
    arrays = arrays_of(GOOGLE / "model.ckpt-40")
    change(arrays)
    save(copy / "model.ckpt-40", arrays)
    with pytest.raises(UserError, match=message):
        google.read(copy)


def test_a_bert_is_refused(copy):
    arrays = arrays_of(GOOGLE / "model.ckpt-40")
    save(copy / "model.ckpt-40", {n.replace("electra/", "bert/"): a for n, a in arrays.items()})
    with pytest.raises(UserError, match="is a BERT, not an ELECTRA: it has bert/embeddings"):
        google.read(copy)


def test_settings_that_contradict_the_shapes_are_refused(copy):
    settings = json.loads((copy / "bert_config.json").read_text())
    (copy / "bert_config.json").write_text(json.dumps(settings | {"hidden_size": 128}))
    with pytest.raises(UserError, match=r"hidden_size of the discriminator is 64, but .* says 128"):
        google.read(copy)


@pytest.mark.parametrize("name", ["model.ckpt-40.index", "model.ckpt-40.data-00000-of-00001"])
@pytest.mark.parametrize("size", [0, 5_000])
def test_truncated_files_are_named(copy, name, size):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:size])
    with pytest.raises(UserError, match=r"model\.ckpt-40.* cannot be read"):
        google.read(copy)


def test_a_directory_without_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no TF1 checkpoint"):
        google.read(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint .*nothing"):
        google.read(tmp_path / "nothing")


def with_hparams(directory, **values):
    path = directory / "hparams.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return directory


def test_settings_of_hparams_are_read(copy):
    values = {"do_lower_case": False, "temperature": 2.0, "disallow_correct": True}
    values |= {"gen_weight": 3, "disc_weight": 7.0, "mask_prob": 0.25}
    model = google.read(with_hparams(copy, **values))
    config = model.config
    assert (config.lower_case, config.strip_accents) == (False, False)
    assert (config.temperature, config.disallow_correct, config.mask_prob) == (2.0, True, 0.25)
    assert (config.generator_weight, config.discriminator_weight) == (3, 7.0)
    assert not any("casing" in note or "not recorded" in note for note in model.notes)


def test_what_is_not_recorded_is_noted(copy):
    (copy / "hparams.json").unlink()
    notes = google.read(copy).notes
    assert any("max_seq_length, mask_prob" in note for note in notes)
    assert any("casing is not recorded" in note for note in notes)


def test_casing_and_objective_go_there_and_back(tmp_path):
    model = random_model()
    model.config = dataclasses.replace(
        model.config, strip_accents=False, temperature=2.0, mask_prob=0.25, disallow_correct=True
    )
    notes = google.write(model, tmp_path)
    assert google.read(tmp_path).config == model.config
    assert any("removes accents wherever it lower-cases" in note for note in notes)


def test_unknown_casing_is_guessed_when_it_is_written(tmp_path):
    model = random_model()
    model.config = dataclasses.replace(model.config, lower_case=None, strip_accents=None)
    assert any("taken as uncased" in note for note in google.write(model, tmp_path))
    assert json.loads((tmp_path / "hparams.json").read_text())["do_lower_case"] is True


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_seq_length": "32"}, "max_seq_length must be of type int: '32'"),
        ({"max_seq_length": 2}, "max_seq_length 2 must be between 4"),
        ({"model_hparam_overrides": "{}"}, "model_hparam_overrides must be of type dict"),
        ({"mask_prob": float("nan")}, "mask_prob must be of type float"),
    ],
)
def test_hparams_of_wrong_types_are_named(copy, values, message):
    (copy / "bert_config.json").unlink()
    with pytest.raises(UserError, match=rf"^{copy}/hparams\.json: {message}") as error:
        google.read(with_hparams(copy, **values))
    assert error.value.exit_code == 1


def test_heads_that_do_not_divide_point_to_the_flag(copy):
    with pytest.raises(UserError, match=r"5 attention heads .* give --num_attention_heads"):
        google.read(copy, attention_heads={"discriminator": 5})
    with pytest.raises(UserError, match=r"0 attention heads .* --generator_num_attention_heads"):
        google.read(copy, attention_heads={"generator": 0})


def test_all_weights_tied_is_noted_and_a_lost_generator_refused(copy, tmp_path):
    tied = tmp_path / "tied"
    tied.mkdir()
    google.write(random_model("encoder"), tied)
    assert any("all weights of the two networks are tied" in n for n in google.read(tied).notes)
    with pytest.raises(UserError, match=r"is incomplete: it has no generator/encoder"):
        google.read(with_hparams(tied, untied_generator=True))
    arrays = arrays_of(GOOGLE / "model.ckpt-40")
    towers = {n.replace("generator/", "generator_ltr/"): a for n, a in arrays.items()}
    save(copy / "model.ckpt-40", towers)
    with pytest.raises(UserError, match=r"two-tower generator, .* generator_ltr/"):
        google.read(copy)


def test_which_of_several_checkpoints(copy):
    """The file "checkpoint" names a place on the machine of the training."""
    arrays = arrays_of(GOOGLE / "model.ckpt-40")
    save(copy / "model.ckpt-30", arrays | {"global_step": np.int64(30)})
    state = 'model_checkpoint_path: "/home/other/model.ckpt-{}"\n'
    (copy / "checkpoint").write_text(state.format(30))
    model = google.read(copy)
    assert (model.step, model.source) == (30, str(copy / "model.ckpt-30"))
    assert google.read(copy / "model.ckpt-40.index").step == 40
    (copy / "checkpoint").write_text(state.format(50))
    with pytest.raises(UserError, match=r"2 checkpoints; name one: model\.ckpt-30, model\.ckpt-40"):
        google.read(copy)
    for path in copy.glob("model.ckpt-30*"):
        path.unlink()
    assert any("names model.ckpt-50, which is not there" in n for n in google.read(copy).notes)


def test_partly_missing_slots_are_not_used(copy):
    arrays = arrays_of(GOOGLE / "model.ckpt-40")
    del arrays["electra/encoder/layer_0/output/dense/bias/adam_v"]
    save(copy / "model.ckpt-40", arrays)
    model = google.read(copy)
    assert model.moments is None
    assert any("some Adam slots are missing" in note for note in model.notes)


def test_a_file_that_lacks_its_last_bytes(copy):
    """They are global_step's."""
    path = copy / "model.ckpt-40.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match=r"model.ckpt-40: .* cannot be read"):
        google.read(copy)


def with_encoder(model, network, **values):
    encoder = dataclasses.replace(getattr(model.config, network), **values)
    model.config = dataclasses.replace(model.config, **{network: encoder})
    return model


@pytest.mark.parametrize(
    ("network", "values", "message"),
    [
        ("generator", {"num_attention_heads": 2}, "num_attention_heads is 2, and there 1"),
        ("generator", {"intermediate_size": 20}, "intermediate_size is 20, and there 48"),
        ("generator", {"type_vocab_size": 1}, "type_vocab_size is 1, and there 2"),
        ("discriminator", {"layer_norm_eps": 1e-6}, "layer_norm_eps of the discriminator"),
    ],
)
def test_models_that_the_original_does_not_build_are_refused(tmp_path, network, values, message):
    with pytest.raises(UserError, match=message):
        google.write(with_encoder(random_model(), network, **values), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_heads_are_noted(tmp_path):
    model = random_model()
    model.weights = {p: a for p, a in model.weights.items() if "discriminator_head" not in p}
    assert any("no discriminator_head: " in note for note in google.write(model, tmp_path))


def test_models_that_the_original_cannot_hold_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is none here"):
        google.write(random_model(discriminator=False), tmp_path)
