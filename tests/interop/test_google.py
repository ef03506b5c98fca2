"""Checkpoints of google-research/electra, against outputs of its own code."""

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


def test_a_tf1_saver_restores_what_is_written(tmp_path):
    """The way of the original's Estimator: variables by name, all of them or an error."""
    google.write(random_model(), tmp_path)
    shapes = tf.train.load_checkpoint(str(tmp_path)).get_variable_to_shape_map()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        made = {
            name: tf.compat.v1.get_variable(
                name, shape, tf.int64 if name == "global_step" else tf.float32
            )
            for name, shape in shapes.items()
        }
        assert "electra/embeddings/word_embeddings/adam_m" in made
        saver = tf.compat.v1.train.Saver(made)
        saver.restore(session, tf.compat.v1.train.latest_checkpoint(str(tmp_path)))
        bias = session.run(made["generator_predictions/output_bias"])
    np.testing.assert_array_equal(bias, random_model().weights["generator_head/output_bias"])


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


def test_models_that_the_original_cannot_hold_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is none here"):
        google.write(random_model(discriminator=False), tmp_path)
