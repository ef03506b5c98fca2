"""Hugging Face directories, against outputs of transformers."""

import dataclasses
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from electra_keras.console import UserError
from electra_keras.interop import huggingface
from tests.interop.models import HUGGINGFACE, assert_same_bits, random_model, stages

BOTH = [HUGGINGFACE / "discriminator", HUGGINGFACE / "generator"]
needs_torch = pytest.mark.skipif(
    not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")),
    reason="needs PyTorch and transformers: pip install -r requirements-convert.txt",
)


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(BOTH[0], tmp_path / "copy")


@pytest.mark.parametrize("network", ["discriminator", "generator"])
@pytest.mark.parametrize("inputs", ["padded", "fullpos", "holes"])
def test_every_stage_equals_transformers(network, inputs):
    model = huggingface.read([HUGGINGFACE / network])
    golden = np.load(HUGGINGFACE / f"{network}.npz")
    given = [golden[f"{inputs}/{n}"] for n in ("input_ids", "attention_mask", "token_type_ids")]
    outputs, logits = stages(model, network, *given)
    if inputs != "fullpos":
        for i, output in enumerate(outputs):
            np.testing.assert_allclose(output, golden[f"{inputs}/hidden_states_{i}"], atol=2e-5)
    if network == "generator":
        logits = logits[:, :, ::25]  # the golden copy holds every 25th
    np.testing.assert_allclose(logits, golden[f"{inputs}/logits"], atol=2e-5)


def test_both_directories_share_their_embeddings(tmp_path):
    model = huggingface.read(BOTH)
    assert model.config.embedding_sharing == "all"
    huggingface.write(model, tmp_path)
    for network in ("discriminator", "generator"):
        ours, theirs = (
            load_file(d / network / "model.safetensors") for d in (tmp_path, HUGGINGFACE)
        )
        assert_same_bits(ours, theirs)
        ours, theirs = (
            json.loads((d / network / "config.json").read_text()) for d in (tmp_path, HUGGINGFACE)
        )
        assert {name for name in ours if name not in theirs} == {
            "electra_keras_network",
            "position_embedding_type",
        }
        assert all(theirs[name] == ours[name] for name in ours if name in theirs)
    assert_same_bits(huggingface.read([tmp_path]).weights, model.weights)


@pytest.mark.parametrize("sharing", ["all", "token", "none", "encoder"])
def test_all_sharings_go_there_and_back(tmp_path, sharing):
    model = random_model(sharing)
    huggingface.write(model, tmp_path)
    again = huggingface.read([tmp_path])
    assert again.config == model.config
    assert_same_bits(again.weights, model.weights)


def test_an_encoder_without_head(tmp_path):
    model = random_model(generator=False)
    model.weights = {p: a for p, a in model.weights.items() if "head" not in p}
    huggingface.write(model, tmp_path)
    settings = json.loads((tmp_path / "discriminator" / "config.json").read_text())
    assert settings["architectures"] == ["ElectraModel"]
    names = load_file(tmp_path / "discriminator" / "model.safetensors")
    assert "embeddings.word_embeddings.weight" in names
    again = huggingface.read([tmp_path / "discriminator"])
    assert_same_bits(again.weights, model.weights)
    assert again.config == model.config


def change(directory, edit):
    """Applies `edit` to the tensors of a directory."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def test_buffers_and_heads_that_are_left_behind_are_named_as_unused(copy):
    extra = {
        "electra.embeddings.position_ids": np.zeros([1, 64], np.int64),
        "classifier.dense.weight": np.zeros([48, 48], np.float32),
        "classifier.out_proj.weight": np.zeros([2, 48], np.float32),
    }
    change(copy, lambda tensors: tensors.update(extra))
    model = huggingface.read([copy], encoder_only=True)
    unused = next(note for note in model.notes if note.startswith("unused"))
    assert all(name in unused for name in extra)
    assert_same_bits(model.weights, huggingface.read(BOTH[:1]).weights)  # its own head stays


def test_half_precision_and_old_names_are_read(copy):
    def edit(tensors):
        for name in list(tensors):
            array = tensors.pop(name).astype(np.float16)
            name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[name.replace("LayerNorm.bias", "LayerNorm.beta")] = array

    change(copy, edit)
    model, full = huggingface.read([copy]), huggingface.read(BOTH[:1])
    assert any("float16" in note for note in model.notes)
    for path, array in full.weights.items():
        np.testing.assert_array_equal(model.weights[path], array.astype(np.float16))


def test_a_vocabulary_in_tokenizer_json(copy):
    tokens = (copy / "vocab.txt").read_text().splitlines()
    (copy / "vocab.txt").unlink()
    content = {"model": {"type": "WordPiece", "vocab": {t: i for i, t in enumerate(tokens)}}}
    (copy / "tokenizer.json").write_text(json.dumps(content))
    assert list(huggingface.read([copy]).vocabulary.tokens) == tokens
    content["model"]["type"] = "BPE"
    (copy / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="BPE tokenizer; only WordPiece"):
        huggingface.read([copy])


def test_casing_comes_from_the_tokenizer(copy):
    settings = {"do_lower_case": False, "strip_accents": None}
    (copy / "tokenizer_config.json").write_text(json.dumps(settings))
    config = huggingface.read([copy]).config
    assert (config.lower_case, config.strip_accents) == (False, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "bert"}, "another kind of model"),
        ({"hidden_act": "gelu_new"}, "only 'gelu'"),
        ({"position_embedding_type": "relative_key"}, "only 'absolute'"),
        (
            {"hidden_size": 64},
            r"embeddings_project\.weight has shape \[48, 24\], expected \[64, 24\]",
        ),
        ({"num_hidden_layers": 4}, r"holds 3 layers, but num_hidden_layers of .* is 4"),
        ({"num_hidden_layers": 2}, r"holds 3 layers, but num_hidden_layers of .* is 2"),
        ({"hidden_size": "48"}, r"config\.json: hidden_size must be of type int: '48'"),
        ({"hidden_dropout_prob": float("nan")}, "hidden_dropout_prob must be of type float: nan"),
        ({"architectures": "ElectraModel"}, "architectures must be of type list"),
        ({"num_attention_heads": 5}, "not a multiple of num_attention_heads"),
    ],
)
def test_other_models_and_wrong_sizes_are_refused(copy, settings, message):
    path = copy / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(UserError, match=message):
        huggingface.read([copy])


def test_a_head_with_a_missing_tensor_is_refused(copy):
    change(copy, lambda tensors: tensors.pop("discriminator_predictions.dense.bias"))
    with pytest.raises(UserError, match=r"has no tensor discriminator_predictions\.dense\.bias"):
        huggingface.read([copy])


def test_an_untied_output_is_refused(tmp_path):
    copy = shutil.copytree(BOTH[1], tmp_path / "copy")
    table = np.zeros([1500, 24], np.float32)
    change(copy, lambda tensors: tensors.update({"generator_lm_head.weight": table}))
    with pytest.raises(UserError, match="only tied"):
        huggingface.read([copy])


@pytest.mark.parametrize("size", [0, 4, 1_000, 100_000])
def test_truncated_files_are_named(copy, size):
    path = copy / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=r"model\.safetensors.* cannot be read"):
        huggingface.read([copy])


def test_two_of_a_kind_and_missing_files_are_refused(copy):
    with pytest.raises(UserError, match="is a second discriminator"):
        huggingface.read([copy, copy])
    (copy / "model.safetensors").unlink()
    (copy / "tf_model.h5").touch()
    with pytest.raises(
        UserError, match=r"neither model\.safetensors .* tf_model\.h5 cannot be read"
    ):
        huggingface.read([copy])
    (copy / "config.json").unlink()
    with pytest.raises(UserError, match=r"not a Hugging Face model: there is no config\.json"):
        huggingface.read([copy])


def test_casing_of_tokenizer_json(copy):
    (copy / "tokenizer_config.json").unlink()
    normalizer = {"type": "BertNormalizer", "lowercase": True, "strip_accents": False}
    for content in (normalizer, {"type": "Sequence", "normalizers": [{}, normalizer]}):
        (copy / "tokenizer.json").write_text(json.dumps({"normalizer": content}))
        model = huggingface.read([copy])
        assert (model.config.lower_case, model.config.strip_accents) == (True, False)
        assert not any("casing" in note for note in model.notes)
    normalizer |= {"lowercase": False, "strip_accents": True}
    (copy / "tokenizer.json").write_text(json.dumps({"normalizer": normalizer}))
    with pytest.raises(UserError, match="removes accents and does not lower-case"):
        huggingface.read([copy])
    assert huggingface.read([copy], lower_case=True).config.strip_accents is True


def test_two_directories_of_different_casing_are_refused(copy):
    settings = copy / "tokenizer_config.json"
    settings.write_text(json.dumps({"do_lower_case": False}))
    with pytest.raises(UserError, match=f"{copy} and {BOTH[1]} have different casing: lower_case"):
        huggingface.read([copy, BOTH[1]])
    assert huggingface.read([copy, BOTH[1]], lower_case=False).config.lower_case is False


def padded(directory, rows):
    """Pads the token table of a directory."""

    def edit(tensors):
        for name in ("electra.embeddings.word_embeddings.weight", "generator_lm_head.bias"):
            if name in tensors:
                spare = np.zeros([rows, *tensors[name].shape[1:]], np.float32)
                tensors[name] = np.concatenate([tensors[name], spare])

    change(directory, edit)
    settings = json.loads((directory / "config.json").read_text())
    settings["vocab_size"] += rows
    (directory / "config.json").write_text(json.dumps(settings))


def test_one_padded_table_of_two(copy):
    padded(copy, 4)  # 1504 is a multiple of 8
    model = huggingface.read([copy, BOTH[1]])
    assert model.config == huggingface.read(BOTH).config
    assert_same_bits(model.weights, huggingface.read(BOTH).weights)
    assert any("1504 rows for 1500 tokens" in note for note in model.notes)


def test_added_tokens_are_entries_of_the_vocabulary(copy):
    padded(copy, 3)
    with pytest.raises(UserError, match=r"1503 rows, but the vocabulary 1500 .*--vocab_file"):
        huggingface.read([copy])
    added = [{"id": 4, "content": "[MASK]"}] + [
        {"id": 1500 + i, "content": f"x{i}"} for i in range(3)
    ]
    (copy / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    model = huggingface.read([copy])
    assert model.vocabulary.tokens[-3:] == ("x0", "x1", "x2")
    assert any("3 added tokens" in note for note in model.notes)
    (copy / "tokenizer.json").unlink()
    (copy / "added_tokens.json").write_text(json.dumps({f"x{i}": 1500 + i for i in range(3)}))
    assert huggingface.read([copy]).vocabulary == model.vocabulary
    (copy / "added_tokens.json").write_text(json.dumps({"x0": 1500, "x2": 1502}))
    with pytest.raises(UserError, match=r"added_tokens\.json: the ids .* have gaps"):
        huggingface.read([copy])


def test_a_generator_without_head(tmp_path):
    model = random_model()
    model.weights = {p: a for p, a in model.weights.items() if "generator_head" not in p}
    huggingface.write(model, tmp_path)
    again = huggingface.read([tmp_path / "generator"])
    assert again.config.discriminator is None
    whole = huggingface.read([tmp_path / "generator", tmp_path / "discriminator"])
    assert_same_bits(whole.weights, model.weights)


def test_the_generator_may_come_first():
    assert_same_bits(huggingface.read(BOTH[::-1]).weights, huggingface.read(BOTH).weights)


def test_unknown_casing_is_guessed_when_it_is_written(tmp_path):
    model = random_model()
    model.config = dataclasses.replace(model.config, lower_case=None, strip_accents=None)
    assert any("taken as uncased" in note for note in huggingface.write(model, tmp_path))


def split(directory):
    """Splits the weights of a directory into two files with an index; returns their names."""
    path = directory / "model.safetensors"
    tensors = load_file(path)
    names = sorted(tensors)
    files = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    weight_map = {name: files[i % 2] for i, name in enumerate(names)}
    for file in files:
        part = {n: t for n, t in tensors.items() if weight_map[n] == file}
        save_file(part, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    path.unlink()
    return files


def test_weights_in_several_files(copy):
    files = split(copy)
    assert_same_bits(huggingface.read([copy]).weights, huggingface.read(BOTH[:1]).weights)
    tensors, others = load_file(copy / files[1]), load_file(copy / files[0])
    twice = next(iter(others))
    save_file(tensors | {twice: others[twice] + 1}, copy / files[1])
    with pytest.raises(UserError, match=rf"holds {twice}, which another of the model's files"):
        huggingface.read([copy])
    tensors.pop(next(name for name in tensors if "query.bias" in name))
    save_file(tensors, copy / files[1])
    with pytest.raises(UserError, match=rf"^{copy} has no tensor .*query\.bias"):
        huggingface.read([copy])
    (copy / files[1]).unlink()
    with pytest.raises(UserError, match=f"names {files[1]}, which is not there"):
        huggingface.read([copy])


def test_bfloat16_is_read(copy):
    full = huggingface.read(BOTH[:1])
    kind = tf.bfloat16.as_numpy_dtype
    change(copy, lambda tensors: tensors.update({n: t.astype(kind) for n, t in tensors.items()}))
    model = huggingface.read([copy])
    assert any(note.startswith("bfloat16 in") for note in model.notes)
    for path, array in full.weights.items():
        np.testing.assert_array_equal(model.weights[path], array.astype(kind).astype(np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "cannot be read as JSON"),
        ("[]", "is not a JSON object"),
        ('{"model": {"type": "WordPiece", "vocab": {"a": "x"}}}', "is not a number"),
        (
            '{"model": {"type": "WordPiece", "vocab": {"a": 0}}}',
            "the vocabulary has 1 lines but no",
        ),
    ],
)
def test_a_bad_tokenizer_json_is_named(copy, content, message):
    (copy / "vocab.txt").unlink()
    (copy / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=rf"^{copy}/tokenizer\.json.*{message}"):
        huggingface.read([copy])


# --- with PyTorch and transformers ------------------------------------------------------------------


def as_pytorch(directory, extra=()):
    """Turns a directory's weights into an old pytorch_model.bin."""
    import torch

    path = directory / "model.safetensors"
    tensors = {name: torch.from_numpy(array) for name, array in load_file(path).items()}
    torch.save(tensors | dict(extra), directory / "pytorch_model.bin")
    path.unlink()


@needs_torch
def test_an_old_file_of_pytorch(copy):
    as_pytorch(copy)
    assert_same_bits(huggingface.read([copy]).weights, huggingface.read(BOTH[:1]).weights)


@needs_torch
def test_old_files_of_pytorch_in_parts(copy):
    import torch

    expected = huggingface.read([copy])
    path = copy / "model.safetensors"
    tensors = {n: torch.from_numpy(a).bfloat16() for n, a in load_file(path).items()}
    path.unlink()
    weight_map = {name: f"part-{i % 2}.bin" for i, name in enumerate(sorted(tensors))}
    for file in set(weight_map.values()):
        part = {n: torch.nn.Parameter(t) for n, t in tensors.items() if weight_map[n] == file}
        torch.save(part, copy / file)
    (copy / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    model = huggingface.read([copy])
    assert any(note.startswith("bfloat16 in") for note in model.notes)
    for name, array in expected.weights.items():
        np.testing.assert_allclose(model.weights[name], array, rtol=2**-8)


@needs_torch
def test_names_that_are_no_strings_are_refused(copy):
    as_pytorch(copy)
    import torch

    torch.save({1: torch.zeros(2)}, copy / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pytorch_model\.bin does not hold tensors by name"):
        huggingface.read([copy])


class Harmful:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@needs_torch
def test_code_in_a_file_of_pytorch_is_not_run(copy, tmp_path):
    as_pytorch(copy, {"harmful": Harmful(tmp_path / "was-run")}.items())
    with pytest.raises(
        UserError,
        match=r"pytorch_model\.bin holds something other than tensors \(GLOBAL [\w.]+\), which is",
    ):
        huggingface.read([copy])
    assert not (tmp_path / "was-run").exists()


@needs_torch
def test_a_truncated_file_of_pytorch(copy):
    as_pytorch(copy)
    path = copy / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:10_000])
    with pytest.raises(UserError, match=r"pytorch_model\.bin cannot be read: it is damaged"):
        huggingface.read([copy])


@needs_torch
@pytest.mark.parametrize("sharing", ["all", "none"])
def test_transformers_computes_the_same(tmp_path, sharing):
    import torch
    import transformers

    model = random_model(sharing)
    for path in model.weights:
        model.weights[path] *= 0.2
    huggingface.write(model, tmp_path)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 40, (3, 17)).astype(np.int32)
    mask = (np.arange(17) < np.array([[17], [9], [13]])).astype(np.int32)
    segments = (np.arange(17) >= 6).astype(np.int32) * mask
    given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": segments}
    given = {name: torch.from_numpy(array).long() for name, array in given.items()}
    classes = {
        "discriminator": transformers.ElectraForPreTraining,
        "generator": transformers.ElectraForMaskedLM,
    }
    for network, cls in classes.items():
        theirs, info = cls.from_pretrained(tmp_path / network, output_loading_info=True)
        assert not info["missing_keys"] and not info["unexpected_keys"]
        with torch.no_grad():
            found = theirs.eval()(**given, output_hidden_states=True)
        outputs, logits = stages(model, network, ids, mask, segments)
        for ours, hidden in zip(outputs, found.hidden_states, strict=True):
            np.testing.assert_allclose(ours, hidden.numpy(), atol=2e-5)
        np.testing.assert_allclose(logits, found.logits.numpy(), atol=2e-5)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "discriminator")
    assert tokenizer("word3 word7 Word1")["input_ids"] == [2, 8, 12, 6, 3]
