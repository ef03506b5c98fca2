"""Presets of keras-nlp's ElectraBackbone."""

import dataclasses
import json
import re
import shutil
from pathlib import Path

import keras_nlp
import numpy as np
import pytest

from electra_keras.console import UserError
from electra_keras.interop import google, keras_hub
from tests.interop.models import GOOGLE, assert_same_bits, random_model, stages


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """The golden checkpoint as a preset; returns (directory, notes)."""
    directory = tmp_path_factory.mktemp("preset")
    return directory, keras_hub.write(google.read(GOOGLE), directory)


def test_from_preset_loads_backbone_and_tokenizer(preset):
    directory, notes = preset
    backbone = keras_nlp.models.ElectraBackbone.from_preset(str(directory))
    golden = np.load(GOOGLE / "eval.npz")
    given = {
        "token_ids": golden["in/fake_input_ids"],
        "padding_mask": golden["in/input_mask"],
        "segment_ids": golden["in/segment_ids"],
    }
    real = given["padding_mask"] == 1
    theirs = backbone.predict(given, verbose=0)["sequence_output"][real]
    original = golden["out/disc/all_layers"][-1][real]
    # Its GELU is another; with the original's GELU it would be 2e-5 (test_google.py).
    assert 1e-5 < np.abs(theirs - original).max() < 2e-3
    tokenizer = keras_nlp.models.ElectraTokenizer.from_preset(str(directory))
    tokens = (GOOGLE / "vocab.txt").read_text().splitlines()
    assert tokenizer.get_vocabulary() == tokens
    assert tokenizer.lowercase
    assert any(re.search("at most 0.000[0-9]+, on average", note) for note in notes)
    assert any(note.startswith("fresh: pooled_dense") for note in notes)


def test_there_and_back_changes_no_weight(preset):
    directory, _ = preset
    model = google.read(GOOGLE)
    again = keras_hub.read(directory)
    expected = {
        path: array for path, array in model.weights.items() if path.startswith("discriminator/")
    }
    assert_same_bits(again.weights, expected)
    assert again.vocabulary == model.vocabulary
    assert (again.config.lower_case, again.config.strip_accents) == (True, True)
    assert again.config.generator is None
    theirs, ours = model.config.discriminator, again.config.discriminator
    for name in ("num_attention_heads", "intermediate_size", "max_position_embeddings"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert any("pooled_dense" in note for note in again.notes)


def test_without_projection(tmp_path):
    model = random_model("none")
    keras_hub.write(model, tmp_path)
    again = keras_hub.read(tmp_path)
    golden = np.tile(np.arange(12), (2, 1)).astype(np.int32)
    ones, zeros = np.ones_like(golden), np.zeros_like(golden)
    weights = model.network("discriminator")
    for path, array in again.network("discriminator").items():
        np.testing.assert_array_equal(array, weights[path])
    again.weights |= {p: a for p, a in model.weights.items() if p.startswith("discriminator_head")}
    ours, theirs = (stages(m, "discriminator", golden, ones, zeros) for m in (model, again))
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_what_is_no_preset_is_refused(preset, tmp_path):
    with pytest.raises(UserError, match="not a keras-nlp preset"):
        keras_hub.read(GOOGLE)
    copy = shutil.copytree(preset[0], tmp_path / "copy")
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"registered_name": "x>BertBackbone"}))
    with pytest.raises(UserError, match="not a preset of an ElectraBackbone but of x>BertBackbone"):
        keras_hub.read(copy)


def test_truncated_weights_are_named(preset, tmp_path):
    copy = shutil.copytree(preset[0], tmp_path / "copy")
    weights = copy / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:10_000])
    with pytest.raises(UserError, match=f"{copy} cannot be read"):
        keras_hub.read(copy)


def test_a_generator_alone_is_refused(tmp_path):
    with pytest.raises(UserError, match="there is none here"):
        keras_hub.write(random_model(discriminator=False), tmp_path)


def test_what_a_backbone_cannot_hold_is_refused(tmp_path):
    model = random_model()
    encoder = dataclasses.replace(model.config.discriminator, layer_norm_eps=1e-6)
    model.config = dataclasses.replace(model.config, discriminator=encoder)
    with pytest.raises(UserError, match="layer_norm_eps is 1e-06; a backbone has 1e-12"):
        keras_hub.write(model, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layers", [2, 4])
def test_another_number_of_layers_is_refused(preset, tmp_path, layers):
    copy = shutil.copytree(preset[0], tmp_path / "copy")
    settings = json.loads((copy / "config.json").read_text())
    settings["config"]["num_layers"] = layers
    (copy / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=f"holds 3 layers, but num_layers of .* is {layers}"):
        keras_hub.read(copy)


def test_a_directory_named_like_a_preset_to_download(preset, tmp_path, monkeypatch):
    shutil.copytree(preset[0], tmp_path / "electra_small_discriminator_uncased_en")
    monkeypatch.chdir(tmp_path)
    model = keras_hub.read(Path("electra_small_discriminator_uncased_en"))
    assert model.config.discriminator.hidden_size == 64
