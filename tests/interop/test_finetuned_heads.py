"""Heads of fine-tuned models from and to Hugging Face directories."""

import dataclasses
import importlib.util
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from electra_keras.console import UsageError, UserError
from electra_keras.interop import finetuned, google, huggingface, keras_hub, model_directory
from electra_keras.tasks import running
from electra_keras.tasks.adaptation import Adaptation
from electra_keras.tasks.answer_heads import PlainAnswerHead
from electra_keras.tasks.data.examples import QuestionExample, TextExample
from electra_keras.tasks.tagging import TaggingTask
from electra_keras.training.arrays import read_arrays
from tests.interop.finetuned_models import (
    ELECTRA_ANSWERS,
    TAGS,
    TASKS,
    classification,
    id2label,
    inputs,
    linear,
    small_weights,
    write_ours,
    write_theirs,
)
from tests.interop.models import assert_same_bits, random_model
from tests.runs import error_of, run

KERNEL, BIAS = "output_dense/kernel", "output_dense/bias"
needs_torch = pytest.mark.skipif(
    not (importlib.util.find_spec("torch") and importlib.util.find_spec("transformers")),
    reason="needs PyTorch and transformers: pip install -r requirements-convert.txt",
)


def load(model_dir):
    """Returns the encoder's outputs on `inputs`, and the head's before answers are chosen of them."""
    model, task, _ = running.load_finetuned(model_dir)
    ids, mask, segments = inputs()
    hidden = model.encoder(ids, mask, segments)
    if isinstance(model.head, PlainAnswerHead):
        return task, hidden.numpy(), model.head._logits(hidden).numpy()
    batch = {"input_ids": ids, "segment_ids": segments, "lengths": mask.sum(1, np.int32)}
    return task, hidden.numpy(), model(batch).numpy()


def tagger(directory, labels=TAGS, **settings):
    settings = {"id2label": id2label(labels)} | settings
    head = linear("classifier", len(labels))
    return write_theirs(directory, "ElectraForTokenClassification", head, **settings)


def answerer(directory, **settings):
    return write_theirs(
        directory, "ElectraForQuestionAnswering", linear("qa_outputs", 2), **settings
    )


# --- from Hugging Face ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tagger, answerer])
def test_a_linear_head_is_read(tmp_path, make):
    """Against arithmetic on the tensors of the file."""
    directory, ours = make(tmp_path / "theirs"), tmp_path / "ours"
    model = huggingface.read([directory])
    assert not any("unused" in note for note in model.notes)
    ours.mkdir()
    model_directory.write(model, ours)
    task, hidden, outputs = load(ours)
    tensors = load_file(directory / "model.safetensors")
    name = "classifier" if make is tagger else "qa_outputs"
    expected = hidden @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    assert_same_bits(
        {p: a for p, a in model.weights.items() if p.startswith("discriminator/")},
        small_weights().weights,
    )
    # What config.json does not say is the library's default as far as the positions reach.
    taken = next(note for note in model.notes if note.startswith("not in config.json"))
    if make is tagger:
        assert (task.labels, task.scheme) == (TAGS, "BIO")
        assert (task.max_seq_length, task.stride) == (20, 10)
        assert "scheme BIO, max_seq_length 20, stride 10" in taken
    else:
        assert (task.answer_head, task.has_impossible) == ("plain", False)
        assert (task.max_seq_length, task.max_query_length, task.stride) == (20, 6, 128)
        assert "max_seq_length 20, stride 128, max_query_length 6" in taken
        assert any("SQuAD 2.0" in note for note in model.notes)


def test_the_defaults_of_windows(tmp_path):
    """Of a model with 512 positions."""
    for make, expected in ((tagger, (128, 64)), (answerer, (384, 128))):
        directory = make(tmp_path / make.__name__, max_position_embeddings=512)
        path = directory / "model.safetensors"
        tensors = load_file(path)
        name = "electra.embeddings.position_embeddings.weight"
        tensors[name] = np.zeros([512, tensors[name].shape[1]], np.float32)
        save_file(tensors, path)
        task = huggingface.read([directory]).head.task
        assert (task.max_seq_length, task.stride) == expected


def test_labels_of_other_schemes(tmp_path):
    bioes = ("O", "S-X", "B-X", "E-X", "I-X")
    head = huggingface.read([tagger(tmp_path / "bioes", bioes)]).head
    assert (head.task.labels, head.task.scheme) == (bioes, "BIOES")
    head = huggingface.read([tagger(tmp_path / "single", ("O", "B-X", "S-X"))]).head
    assert head.task.scheme == "BIOES"
    model = huggingface.read([tagger(tmp_path / "part", ("O", "I-X", "B-Y", "I-Y"))])
    assert any("no label B-X: " in note for note in model.notes)
    assert not any("no label" in note for note in huggingface.read([tmp_path / "bioes"]).notes)


def test_the_pre_training_head_beside_it_is_named_as_unused(tmp_path):
    directory = tagger(tmp_path / "theirs")
    path = directory / "model.safetensors"
    name = "discriminator_predictions.dense.weight"
    save_file(load_file(path) | {name: np.zeros([24, 24], np.float32)}, path)
    assert f"unused in {path}: {name}" in huggingface.read([directory]).notes


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        (("NOUN", "O", "VERB"), {}, "id2label has NOUN, VERB; tagging here is in O, B-TYPE"),
        (("O", "B-X"), {"id2label": None}, "id2label has LABEL_0, LABEL_1; tagging"),
        (("O",), {}, "id2label has O; tagging"),
        (TAGS, {"id2label": {"0": "O", "2": "B-X"}}, "the ids 0, 2, but classifier.weight has 5 rows"),
        (TAGS, {"id2label": {**id2label(TAGS), "1": 7}}, "id2label are not different texts"),
        (TAGS, {"id2label": {**id2label(TAGS), "1": "B-LOC"}}, "id2label are not different texts"),
        (TAGS, {"id2label": ["O"]}, "id2label must be of type dict"),
        (TAGS, {"architectures": ["ElectraWithCrf"]}, "architectures is ElectraWithCrf, but"),
        (TAGS, {"electra_keras_task": {"family": "tagging"}}, "electra_keras_task holds no settings"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_refused(tmp_path, labels, settings, message):
    with pytest.raises(UserError, match=message) as error:
        huggingface.read([tagger(tmp_path / "theirs", labels, **settings)])
    assert str(tmp_path / "theirs" / "config.json") in str(error.value)


@pytest.mark.parametrize(
    ("head", "architecture", "message"),
    [
        (linear("qa_outputs", 3), "ElectraForQuestionAnswering",
         r"qa_outputs\.weight has shape \[3, 24\], expected \[2, 24\]"),
        ({"qa_outputs.bias": np.zeros(2, np.float32)}, "ElectraForQuestionAnswering",
         r"has no tensor qa_outputs\.weight"),
        ({"classifier.bias": np.zeros(2, np.float32)}, "ElectraForTokenClassification",
         r"has no tensor classifier\.weight"),
        (linear("classifier", 1) | linear("sequence_summary.summary", 24),
         "ElectraForMultipleChoice",
         r"no counterpart here \(classifier\.bias, .*sequence_summary\.summary\.weight\): --enc"),
        (linear("classifier.dense", 24) | linear("classifier.out_proj", 2),
         "ElectraForSequenceClassification",
         r"classifier\.dense\.weight, .* are a hidden layer with GELU .*--encoder_only"),
    ],
)  # fmt: skip
def test_heads_that_do_not_fit_are_refused(tmp_path, head, architecture, message):
    directory = write_theirs(tmp_path / "theirs", architecture, head)
    with pytest.raises(UserError, match=message) as error:
        huggingface.read([directory])
    assert str(directory / "model.safetensors") in str(error.value)


def test_questions_need_two_segments(tmp_path):
    directory = answerer(tmp_path / "theirs", type_vocab_size=1)
    with pytest.raises(UserError, match="type_vocab_size is 1, but question and context"):
        huggingface.read([directory])


def test_a_fine_tuned_model_stands_alone(tmp_path):
    huggingface.write(random_model(), tmp_path)
    both = [tagger(tmp_path / "theirs"), tmp_path / "generator"]
    with pytest.raises(
        UserError, match=r"is fine-tuned .*give a discriminator, and nothing beside"
    ):
        huggingface.read(both)
    assert huggingface.read(both, encoder_only=True).config.generator is not None


def test_the_encoder_alone(tmp_path):
    head = linear("classifier.dense", 24) | linear("classifier.out_proj", 2)
    directory = write_theirs(tmp_path / "theirs", "ElectraForSequenceClassification", head)
    model = huggingface.read([directory], encoder_only=True)
    assert model.head is None
    assert_same_bits(model.weights, small_weights().weights)
    names = ", ".join(sorted(head))
    assert f"unused in {directory / 'model.safetensors'}: {names}" in model.notes
    huggingface.write(random_model(), tmp_path)
    with pytest.raises(UsageError, match=r"is for fine-tuned models: .*discriminator has no head"):
        huggingface.read([tmp_path / "discriminator"], encoder_only=True)


# --- to Hugging Face ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(TASKS))
def test_there_and_back_changes_no_bit(tmp_path, name):
    arrays, there, back = write_ours(tmp_path / "ours", TASKS[name]), tmp_path / "1", tmp_path / "2"
    for path in (there, back):
        path.mkdir()
    huggingface.write(finetuned.read(tmp_path / "ours"), there)
    again = huggingface.read([there])
    assert not any(note.startswith(("unused", "not in")) for note in again.notes)
    model_directory.write(again, back)
    found = read_arrays(back / "checkpoints" / "step-00000000", "weights")
    assert_same_bits(found, arrays)
    assert (back / "task.json").read_text() == (tmp_path / "ours" / "task.json").read_text()


@pytest.mark.parametrize("kind", ["single_label", "multi_label", "regression"])
def test_a_linear_head_as_a_hidden_layer(tmp_path, kind):
    """Against what ElectraClassificationHead computes, here in float64."""
    arrays = write_ours(tmp_path / "ours", TASKS[kind])
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    vectors = np.random.default_rng(8).normal(0, 4, (50, 24))
    inner = vectors @ tensors["classifier.dense.weight"].T + tensors["classifier.dense.bias"]
    inner *= 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
    outputs = inner @ tensors["classifier.out_proj.weight"].T + tensors["classifier.out_proj.bias"]
    expected = vectors @ arrays[KERNEL] + arrays[BIAS]
    if kind == "regression":
        expected = TASKS[kind].scores(expected)[:, np.newaxis]
    np.testing.assert_allclose(outputs, expected, atol=1e-6)
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["architectures"] == ["ElectraForSequenceClassification"]
    assert settings["problem_type"].startswith(kind)
    labels = TASKS[kind].labels or ("LABEL_0",)
    assert settings["id2label"] == id2label(labels)


def test_a_hidden_layer_that_was_trained_on_is_refused(tmp_path):
    write_ours(tmp_path / "ours", TASKS["single_label"])
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["classifier.dense.bias"][20] = 1e-6
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="are a hidden layer with GELU"):
        huggingface.read([tmp_path])


def test_labels_that_were_renamed_there(tmp_path):
    for name, labels in (("single_label", ("a", "b", "c")), ("tagging", (*TAGS[:3], "B-Y", "I-Y"))):
        path = tmp_path / name
        write_ours(path, TASKS[name])
        huggingface.write(finetuned.read(path), path)
        settings = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(settings | {"id2label": id2label(labels)}))
        model = huggingface.read([path])
        assert model.head.task.labels == labels
    settings["electra_keras_task"] = {"family": "classification"}
    (path / "config.json").write_text(json.dumps(settings))
    notes = huggingface.read([path]).notes
    assert f"{path / 'config.json'}: electra_keras_task is of another task: not used" in notes


def test_plain_labels_there_and_back(tmp_path):
    task = TaggingTask("tagging", ("ADJ", "NOUN", "O"), "plain", 16, 5, "plain")
    write_ours(tmp_path / "ours", task)
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    assert huggingface.read([tmp_path]).head.task == task
    settings = json.loads((tmp_path / "config.json").read_text())
    settings["id2label"]["0"] = "ADV"
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert huggingface.read([tmp_path]).head.task.labels == ("ADV", "NOUN", "O")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (ELECTRA_ANSWERS, r"huggingface cannot hold this head \(start_dense/kernel, .*"
         r"--answer_head=plain .*electra_keras\.export; --encoder_only leaves"),
        (classification("single_label", tuple("abcdefghijklm")), "13 labels do not fit .* 24 units"),
    ],
)  # fmt: skip
def test_heads_that_transformers_has_not_are_refused(tmp_path, task, message):
    write_ours(tmp_path / "ours", task)
    with pytest.raises(UserError, match=message):
        huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize("format", [google, keras_hub])
def test_other_formats_have_no_place_for_a_head(tmp_path, format):
    write_ours(tmp_path / "ours", TASKS["tagging"])
    with pytest.raises(UsageError, match=rf"has no place for a fine-tuned head \({KERNEL}, {BIAS}"):
        format.write(finetuned.read(tmp_path / "ours"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_low_rank_updates_are_merged(tmp_path):
    arrays = write_ours(tmp_path / "ours", TASKS["tagging"], Adaptation(0, 0, 2, 6.0))
    model = finetuned.read(tmp_path / "ours")
    layer = "discriminator/layer_1/attention/query_key_value"
    down, up = arrays[f"{layer}/lora_down"].astype(float), arrays[f"{layer}/lora_up"].astype(float)
    updates = np.concatenate([3.0 * a @ b for a, b in zip(down, up, strict=True)], axis=1)
    expected = arrays[f"{layer}/kernel"] + updates
    np.testing.assert_allclose(model.weights[f"{layer}/kernel"], expected, rtol=1e-6, atol=1e-7)
    assert np.abs(updates).max() > 0.1
    assert not any("lora" in path for path in model.weights)
    assert model.notes == ["low-rank updates (LoRA) are merged into the encoder's matrices"]


def test_a_task_of_ones_own(tmp_path):
    text = json.dumps({"family": "theirs"})
    arrays = write_ours(tmp_path / "ours", TASKS["tagging"], text=text)
    with pytest.raises(UserError, match=r"task\.json is damaged, or of a task of your own"):
        finetuned.read(tmp_path / "ours")
    model = finetuned.read(tmp_path / "ours", encoder_only=True)
    assert model.notes == [f"left behind: {BIAS}, {KERNEL}"]
    encoder = {p: a for p, a in arrays.items() if p.startswith("discriminator/")}
    assert_same_bits(model.weights, encoder)


# --- as commands ----------------------------------------------------------------------------------


def succeed(module, *args):
    code, stdout, stderr = run(module, *args)
    assert code == 0, stderr
    return stdout


@pytest.mark.slow
def test_a_converted_tagger_works(tmp_path):
    theirs, ours, data = tagger(tmp_path / "theirs"), tmp_path / "ours", tmp_path / "dev.conll"
    stdout = succeed(
        "electra_keras.convert", "--from=huggingface", f"--input={theirs}", f"--output={ours}"
    )
    assert "fine-tuned: tagging in BIO, 2 types: LOC, ört" in stdout
    data.write_text("word3 B-LOC\nword4 I-LOC\n\nword9 O\n")
    rows = succeed(
        "electra_keras.predict", f"--model_dir={ours}", f"--input={data}", "--word_column=0"
    ).splitlines()
    assert [len(json.loads(row)["words"]) for row in rows] == [2, 1]
    assert {word["tag"] for row in rows for word in json.loads(row)["words"]} <= set(TAGS)
    assert "precision" in succeed(
        "electra_keras.evaluate", f"--model_dir={ours}", f"--dev_file={data}"
    )
    succeed("electra_keras.export", f"--model_dir={ours}", f"--export_dir={tmp_path / 'export'}")
    assert (tmp_path / "export" / "1" / "saved_model.pb").exists()
    code, line = error_of(
        "electra_keras.convert", "--to=google", f"--input={ours}", f"--output={tmp_path / 'tf1'}"
    )
    assert code == 2
    assert "google has no place for a fine-tuned head" in line
    assert not (tmp_path / "tf1").exists()


@pytest.mark.slow
def test_a_converted_answerer_works(tmp_path):
    theirs, ours, there = answerer(tmp_path / "theirs"), tmp_path / "ours", tmp_path / "there"
    stdout = succeed(
        "electra_keras.convert", "--from=huggingface", f"--input={theirs}", f"--output={ours}"
    )
    assert "plain head, windows of 20 tokens every 128" in stdout
    rows = [{"question": "word1", "context": "word2 word3 " * 20}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (row,) = succeed(
        "electra_keras.predict", f"--model_dir={ours}", f"--input={tmp_path / 'in.jsonl'}"
    ).splitlines()
    row = json.loads(row)
    assert row["answer"] == rows[0]["context"][row["start"] : row["end"]]
    succeed("electra_keras.convert", "--to=huggingface", f"--input={ours}", f"--output={there}")
    assert_same_bits(*(load_file(d / "model.safetensors") for d in (there, theirs)))


@pytest.mark.slow
def test_the_encoder_of_a_fine_tuned_run_goes_everywhere(tmp_path):
    ours, there = tmp_path / "ours", tmp_path / "there"
    write_ours(ours, ELECTRA_ANSWERS)
    args = ("--to=google", f"--input={ours}", f"--output={there}", "--encoder_only")
    stdout = succeed("electra_keras.convert", *args)
    assert "left behind: answerable_dense/bias, " in stdout
    # The original derives its own sizes; here the heads are given.
    found = google.read(there, attention_heads={"discriminator": 3})
    assert_same_bits(found.weights, small_weights().weights)


# --- with PyTorch and transformers ----------------------------------------------------------------


def transformers_outputs(name, directory):
    """Returns what a class of transformers computes of `inputs`; all its weights must be there."""
    import torch
    import transformers

    cls = getattr(transformers, name)
    model, info = cls.from_pretrained(directory, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ids, mask, segments = (torch.from_numpy(array).long() for array in inputs())
    with torch.no_grad():
        found = model.eval()(input_ids=ids, attention_mask=mask, token_type_ids=segments)
    if name == "ElectraForQuestionAnswering":
        return model, np.stack([found.start_logits.numpy(), found.end_logits.numpy()], axis=-1)
    return model, found.logits.numpy()


CLASSES = {
    "tagging": "ElectraForTokenClassification",
    "answers": "ElectraForQuestionAnswering",
    "single_label": "ElectraForSequenceClassification",
    "multi_label": "ElectraForSequenceClassification",
    "regression": "ElectraForSequenceClassification",
}


@needs_torch
@pytest.mark.parametrize("name", list(TASKS))
def test_transformers_computes_what_ours_does(tmp_path, name):
    write_ours(tmp_path / "ours", TASKS[name])
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    task, _, ours = load(tmp_path / "ours")
    model, theirs = transformers_outputs(CLASSES[name], tmp_path)
    if name == "regression":
        ours = task.scores(ours)[:, np.newaxis]
    real = inputs()[1] == 1 if theirs.ndim == 3 else slice(None)
    np.testing.assert_allclose(theirs[real], ours[real], atol=1e-4)
    assert np.ptp(ours[real]) > 0.5  # the inputs make a difference
    labels = getattr(task, "labels", ()) or ("LABEL_0", "LABEL_1")[: theirs.shape[-1]]
    assert model.config.id2label == dict(enumerate(labels))


@needs_torch
@pytest.mark.parametrize("name", list(TASKS))
def test_a_directory_that_transformers_wrote_again(tmp_path, name):
    """Nothing of the task is lost on the way through save_pretrained."""
    import transformers

    write_ours(tmp_path / "ours", TASKS[name])
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    model = getattr(transformers, CLASSES[name]).from_pretrained(tmp_path)
    model.save_pretrained(tmp_path / "again")
    transformers.AutoTokenizer.from_pretrained(tmp_path).save_pretrained(tmp_path / "again")
    found, expected = huggingface.read([tmp_path / "again"]), huggingface.read([tmp_path])
    assert found.head.task == TASKS[name]
    assert found.config == expected.config
    assert_same_bits(found.head.weights, expected.head.weights)
    assert_same_bits(found.weights, expected.weights)


@needs_torch
@pytest.mark.parametrize("name", ["tagging", "answers"])
def test_ours_computes_what_transformers_does(tmp_path, name):
    """From a model that transformers made and wrote."""
    import transformers

    settings = json.loads((tagger(tmp_path / "made") / "config.json").read_text())
    keys = [k for k in settings if k not in ("architectures", "id2label", "model_type", "dtype")]
    config = transformers.ElectraConfig(
        **{key: settings[key] for key in keys} | {"initializer_range": 0.3}
    )
    if name == "tagging":
        config.id2label = dict(enumerate(TAGS))
    model = getattr(transformers, CLASSES[name])(config)
    model.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "vocab.txt").write_bytes((tmp_path / "made" / "vocab.txt").read_bytes())
    (tmp_path / "ours").mkdir()
    model_directory.write(huggingface.read([tmp_path / "theirs"]), tmp_path / "ours")
    task, _, ours = load(tmp_path / "ours")
    _, theirs = transformers_outputs(CLASSES[name], tmp_path / "theirs")
    real = inputs()[1] == 1
    np.testing.assert_allclose(ours[real], theirs[real], atol=1e-4)
    assert np.ptp(theirs[real]) > 0.5
    assert name == "answers" or task.labels == TAGS


TEXTS = ["word3 Word9 word20", "word1", "word4 word4 word30 word11 word25 word7 word2"]


def predict(model_dir, examples):
    model, task, tokenizer = running.load_finetuned(model_dir)
    features = task.features(examples, tokenizer)
    outputs = running.Predictor(tf.distribute.get_strategy(), model).outputs(features)
    return task.predictions(outputs, features, examples)


@needs_torch
@pytest.mark.parametrize("name", ["tagging", "single_label", "multi_label", "regression"])
def test_a_pipeline_of_transformers_says_what_predict_does(tmp_path, name):
    """Texts in, labels out: tokenizer, labels and the kind of the task come together."""
    import transformers

    task = dataclasses.replace(TASKS[name], max_seq_length=20)
    write_ours(tmp_path / "ours", task)
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    kind = "token-classification" if name == "tagging" else "text-classification"
    more = {"ignore_labels": []} if name == "tagging" else {}
    pipeline = transformers.pipeline(kind, model=str(tmp_path), device="cpu", **more)
    examples = [TextExample(str(i), text) for i, text in enumerate(TEXTS)]
    for row, text in zip(predict(tmp_path / "ours", examples), TEXTS, strict=True):
        if name == "tagging":
            ours = [(w["start"], w["tag"], w["probability"]) for w in row["words"]]
            theirs = [(w["start"], w["entity"], w["score"]) for w in pipeline(text)]
        else:
            ours = [(0, *item) for item in row.get("probabilities", {}).items()]
            ours = ours or [(0, "LABEL_0", row["score"])]
            theirs = [(0, r["label"], r["score"]) for r in pipeline(text, top_k=None)]
            ours, theirs = sorted(ours), sorted(theirs)
        assert [item[:2] for item in ours] == [item[:2] for item in theirs]
        scores = [[item[2] for item in items] for items in (ours, theirs)]
        np.testing.assert_allclose(*scores, atol=1e-4)


@needs_torch
def test_answers_by_hand_from_the_logits_of_transformers(tmp_path):
    """The best of all spans of three tokens at most, in the context, as it is tokenized there."""
    import torch
    import transformers

    task = dataclasses.replace(
        TASKS["answers"], has_impossible=False, max_seq_length=20, max_answer_length=3
    )
    write_ours(tmp_path / "ours", task)
    huggingface.write(finetuned.read(tmp_path / "ours"), tmp_path)
    model = transformers.ElectraForQuestionAnswering.from_pretrained(tmp_path).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    contexts = [" ".join(f"word{i * k % 30}" for k in range(9)) for i in range(3, 8)]
    examples = [QuestionExample("", "word1 word2", context) for context in contexts]
    rows = predict(tmp_path / "ours", examples)
    for row, context in zip(rows, contexts, strict=True):
        given = tokenizer("word1 word2", context, return_tensors="pt", return_offsets_mapping=True)
        offsets = given.pop("offset_mapping")[0].tolist()
        with torch.no_grad():
            found = model(**given)
        starts, ends = found.start_logits[0].tolist(), found.end_logits[0].tolist()
        inside = range(4, len(starts) - 1)  # behind [CLS] word1 word2 [SEP]
        score, first, last = max(
            (starts[i] + ends[j], i, j) for i in inside for j in inside if i <= j < i + 3
        )
        assert (row["start"], row["end"]) == (offsets[first][0], offsets[last][1])
        assert row["best"][0]["score"] == pytest.approx(score, abs=1e-4)
