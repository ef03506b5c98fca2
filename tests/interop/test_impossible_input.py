"""What no model can be: impossible sizes, weights that are no numbers, files that are no files."""

import dataclasses
import errno
import io
import json
import math
import os
import zipfile

import numpy as np
import pytest
import tokenizers
from safetensors.numpy import load_file, save_file

from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError, UserError
from electra_keras.interop import (
    conversion,
    google,
    huggingface,
    huggingface_files,
    keras_hub,
    model_directory,
)
from electra_keras.options import ModelOptions
from electra_keras.text.tokenizer import ReferenceTokenizer
from electra_keras.text.vocabulary import Vocabulary
from tests.interop.models import ENCODER, assert_same_bits, random_model


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("layer_norm_eps", -1.0),
        ("layer_norm_eps", 0.0),
        ("layer_norm_eps", math.nan),
        ("layer_norm_eps", 3.0),
        ("hidden_size", 0),
        ("hidden_size", 3 << 40),
        ("num_attention_heads", 5),
        ("num_hidden_layers", -2),
        ("vocab_size", 40.0),
        ("initializer_range", math.inf),
        ("hidden_dropout_prob", 1.5),
        ("attention_probs_dropout_prob", math.nan),
    ],
)
def test_impossible_sizes_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        dataclasses.replace(ENCODER, **{name: value})
    config = json.loads(random_model().config.to_json())
    config["generator"][name] = value
    with pytest.raises(UserError, match=f"config.json: generator: .*{name}"):
        ElectraConfig.from_json(json.dumps(config))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0.0),
        ("mask_prob", math.nan),
        ("generator_weight", -1.0),
        ("discriminator_weight", math.inf),
        ("mask_token_id", 40),
        ("pad_token_id", -1),
        ("sep_token_id", 2),
    ],
)
def test_impossible_objectives_are_refused_by_name(name, value):
    with pytest.raises(UsageError, match=name):
        dataclasses.replace(random_model().config, **{name: value})


def test_a_generator_that_cannot_be_is_named():
    options = ModelOptions(model_size="small", generator_hidden_size=0.001)
    with pytest.raises(UsageError, match="the generator: hidden_size must be at least 1"):
        options.resolve(vocab_size=100, max_seq_length=128)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_no_numbers_are_refused_by_name(value, tmp_path):
    model = random_model()
    path = "discriminator/layer_1/output_dense/bias"
    directory = tmp_path / "hf"
    directory.mkdir()
    huggingface.write(model, directory)
    file = directory / "discriminator" / "model.safetensors"
    tensors = load_file(file)
    tensors["electra.encoder.layer.1.output.dense.bias"][3] = value
    save_file(tensors, file)
    with pytest.raises(UserError, match=r"layer\.1\.output\.dense\.bias holds NaN or infinity"):
        huggingface.read([directory])
    model.weights[path][3] = value
    (tmp_path / "ours").mkdir()
    with pytest.raises(UserError, match=f"{path} holds NaN or infinity"):
        model_directory.write(model, tmp_path / "ours")


def test_a_name_that_stands_twice_in_a_header_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    entry = '"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    header = f"{{{entry}, {entry}}}".encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(UserError, match="a stands twice in its header"):
        huggingface_files.open_tensors(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_pipe_is_no_file_of_weights(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="not a regular file"):
        huggingface_files.open_tensors(tmp_path)


def test_a_packed_or_endless_list_of_tensors_is_refused(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    for method, message in ((zipfile.ZIP_DEFLATED, "compressed"), (zipfile.ZIP_STORED, "5.0 MB")):
        with zipfile.ZipFile(path, "w", method) as file:
            file.writestr("archive/data.pkl", b"]" * 5_000_000)
        with pytest.raises(UserError, match=message):
            huggingface_files._check_packing(path)


def test_input_is_split_at_commas_that_part_two_paths(tmp_path):
    one, two, odd = (str(tmp_path / name) for name in ("a", "b", "a, b"))
    for path in (one, two, odd):
        os.mkdir(path)

    def split(value):
        return list(map(str, conversion.split_input(value)))

    assert split(one) == [one]
    assert split(odd) == [odd]
    assert split(f"{one},{two}") == [one, two]
    assert split(f"{odd},{two}") == [odd, two]
    assert split(f"{one},{odd}") == [one, odd]
    assert split("x,y,z") == ["x", "y", "z"]
    assert split("new\nline") == ["new\nline"]


def test_a_checkpoint_of_the_original_in_any_directory(tmp_path):
    directory = tmp_path / "run[1]*?{a},\\ b\nc"
    directory.mkdir()
    model = random_model()
    google.write(model, directory)
    found = google.read(directory)
    for path, array in model.weights.items():
        np.testing.assert_array_equal(found.weights[path], array)


def test_long_words_are_cut_where_ours_are(tmp_path):
    tokens = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "ä", "##ä")
    vocabulary = Vocabulary((*tokens, *(f"w{i}" for i in range(31))))
    model = dataclasses.replace(random_model(), vocabulary=vocabulary)
    huggingface.write(model, tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "discriminator" / "tokenizer.json"))
    ours = ReferenceTokenizer(vocabulary, lower_case=True, strip_accents=True)
    for length in (100, 101, 150, 200, 201):
        found = theirs.encode("a" * length, "Ä")
        assert found.tokens == ["[CLS]", *ours.tokenize("a" * length), "[SEP]", "a", "[SEP]"]
        assert len(found.ids) == (5 if length == 201 else length + 4)
    assert found.type_ids == [0, 0, 0, 1, 1]
    model = huggingface.read([tmp_path])
    assert not any("characters" in note for note in model.notes)
    path = tmp_path / "discriminator" / "tokenizer.json"
    path.write_text(
        path.read_text().replace(
            '"max_input_chars_per_word": 200', '"max_input_chars_per_word": 100'
        )
    )
    notes = huggingface.read([tmp_path]).notes
    assert any("words of more than 100 characters are [UNK] there" in note for note in notes)


def test_a_preset_is_not_written_by_hdf5_to_the_disk(tmp_path, monkeypatch):
    """The HDF5 library takes the process with it where a disk is full; ours is one error."""
    output = tmp_path / "out"

    class FullDisk(io.BytesIO):
        def write(self, data):
            assert bytes(data[:4]) == b"\x89HDF"  # whole, from memory
            raise OSError(errno.ENOSPC, "No space left on device")

    def full(path, mode):
        assert path.name == "model.weights.h5" and mode == "xb" and not path.exists()
        return FullDisk()

    monkeypatch.setattr(keras_hub, "open", full, raising=False)
    with pytest.raises(UserError, match=f"cannot write {output}: No space left on device"):
        conversion.write(random_model(), "keras_nlp", output)
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    conversion.write(random_model(), "keras_nlp", output)
    assert_same_bits(
        keras_hub.read(output).weights,
        {p: a for p, a in random_model().weights.items() if p.startswith("discriminator/")},
    )
