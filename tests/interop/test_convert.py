"""python -m electra_keras.convert, and training from what it makes."""

import dataclasses
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from electra_keras.console import UsageError, UserError
from electra_keras.interop import google, model_directory
from electra_keras.options import ModelOptions
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.training.arrays import read_arrays, write_arrays
from electra_keras.training.checkpoints import CheckpointStore
from electra_keras.training.manifest import MANIFEST, seal
from electra_keras.training.optimizer import ElectraOptimizer, moment_path
from electra_keras.training.schedules import WarmupPolynomialDecay
from tests.interop.models import GOOGLE, HUGGINGFACE, assert_same_bits
from tests.runs import REPOSITORY, checkpoint_arrays, error_of, run, write_records

CONVERT = "electra_keras.convert"
TRAIN = "electra_keras.train"


def convert(*args):
    code, stdout, stderr = run(CONVERT, *args)
    assert code == 0, stderr
    return stdout


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """The golden checkpoint of the original as a model directory."""
    output = tmp_path_factory.mktemp("converted") / "model"
    stdout = convert("--from=google", f"--input={GOOGLE}", f"--output={output}")
    assert "discriminator with head, 3 layers of 64, 4 heads" in stdout
    assert "optimizer at step 40" in stdout
    return output


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Records of the golden vocabulary, as long as those that the golden model was trained on."""
    return golden_records(tmp_path_factory.mktemp("records") / "32", 32)


def golden_records(directory, length):
    write_records(directory, length=length)
    shutil.copy(GOOGLE / "vocab.txt", directory)
    return directory


def test_google_to_huggingface_to_google_changes_no_bit(converted, tmp_path):
    there, back, last = tmp_path / "there", tmp_path / "back", tmp_path / "last"
    convert("--to=huggingface", f"--input={converted}", f"--output={there}")
    directories = f"{there / 'discriminator'},{there / 'generator'}"
    convert("--from=huggingface", f"--input={directories}", f"--output={back}")
    convert("--to=google", f"--input={back}", f"--output={last}")
    found, expected = google.read(last), google.read(GOOGLE)
    assert found.config.embedding_sharing == expected.config.embedding_sharing == "all"
    assert_same_bits(found.weights, expected.weights)


def test_a_model_directory_keeps_moments_and_step(converted):
    ours, theirs = model_directory.read(converted), google.read(GOOGLE)
    assert (ours.config, ours.step) == (theirs.config, 40)
    assert_same_bits(ours.weights, theirs.weights)
    for mine, other in zip(ours.moments, theirs.moments, strict=True):
        assert_same_bits(mine, other)


def test_training_goes_on_with_the_original_optimizer(converted, records, tmp_path):
    """The same as the original would do: same weights, moments and step."""
    model_dir = shutil.copytree(converted, tmp_path / "model")
    args = (f"--model_dir={model_dir}", f"--data_dir={records}", "--train_batch_size=8")
    args += ("--learning_rate=1e-20", "--warmup_steps=0", "--weight_decay=0", "--eval_steps=0")
    for steps in (41, 42):  # the second time the flags of the first are in the way
        code, _, stderr = run(TRAIN, *args, f"--train_steps={steps}")
        assert code == 0, stderr
        assert f"resuming at step {steps - 1}" in stderr
    start, end = checkpoint_arrays(model_dir, 40), checkpoint_arrays(model_dir, 42)
    name = "variables/electra_optimizer.Siteration/.ATTRIBUTES/VARIABLE_VALUE"
    assert end[f"optimizer/{name}"] == 42
    moment = (
        "optimizer/variables/electra_optimizer.Sgenerator_head_output_bias_second_moment"
        "/.ATTRIBUTES/VARIABLE_VALUE"
    )
    # v = 0.999 v + 0.001 g^2, twice: never below 0.998 of what it was.
    assert np.all(end[moment] >= start[moment] * 0.999**2 * (1 - 1e-5))
    weights = [name for name in start if name.startswith("weights/")]
    for name in weights:
        np.testing.assert_allclose(end[name], start[name], rtol=1e-6, atol=1e-12)


def test_training_goes_on_without_hparams(records, tmp_path):
    """What the checkpoint does not record of its training is that of the new flags and records."""
    copy, model_dir = shutil.copytree(GOOGLE, tmp_path / "copy"), tmp_path / "model"
    (copy / "hparams.json").unlink()
    assert "not recorded" in convert("--from=google", f"--input={copy}", f"--output={model_dir}")
    args = (f"--model_dir={model_dir}", f"--data_dir={records}", "--train_batch_size=8")
    code, _, stderr = run(TRAIN, *args, "--mask_prob=0.2", "--train_steps=41", "--eval_steps=0")
    assert code == 0, stderr
    assert "resuming at step 40" in stderr
    config = json.loads((model_dir / "config.json").read_text())
    assert (config["max_seq_length"], config["mask_prob"]) == (32, 0.2)
    # From here on it is an ordinary run.
    code, line = error_of(TRAIN, *args, "--mask_prob=0.3", "--train_steps=42", "--eval_steps=0")
    assert code == 2
    assert "mask_prob is 0.2 there and 0.3 here" in line


def test_a_converted_optimizer_starts_with_its_own_loss_scale(converted, tmp_path):
    model = ElectraPretrainer(model_directory.read(converted).config)
    optimizer = ElectraOptimizer(
        dynamic_loss_scale=True, learning_rate=WarmupPolynomialDecay(1, 9, 1)
    )
    optimizer.build(model.trainable_variables)
    copy = shutil.copytree(converted, tmp_path / "copy")
    state = CheckpointStore(copy, model, optimizer, keep=1).restore_latest()
    assert state["step"] == 40
    assert float(optimizer.loss_scale) == 2**15
    assert int(optimizer.iterations) == 40
    moments = model_directory.read(converted).moments[1]
    for variable, moment in zip(model.trainable_variables, optimizer.second_moments, strict=True):
        np.testing.assert_array_equal(moment, moments[variable.path])
    # One of our own must be whole.
    path = copy / "checkpoints" / "step-00000040" / "state.json"
    path.write_text(json.dumps({"step": 40, "best": None}))
    with pytest.raises(UserError, match=r"step-00000040: state\.json has"):
        CheckpointStore(copy, model, optimizer, keep=1).restore_latest()


@pytest.mark.parametrize(
    "state", ["[]", '{"step": 1}', '{"step": "x", "best": null}', "[" * 100_000]
)
def test_a_bad_state_is_named(converted, tmp_path, state):
    copy = shutil.copytree(converted, tmp_path / "copy")
    (copy / "checkpoints" / "step-00000040" / "state.json").write_text(state)
    with pytest.raises(UserError, match=r"state\.json"):
        model_directory.read(copy)


@pytest.mark.parametrize(
    "values", [{"mask_prob": "x"}, {"generator_weight": None}, {"generator": 5}]
)
def test_a_bad_configuration_is_named(converted, tmp_path, values):
    copy = shutil.copytree(converted, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text()) | values
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=rf"^{copy}/config\.json") as error:
        model_directory.read(copy)
    assert error.value.exit_code == 1


def test_an_optimizer_without_a_moment_is_refused(converted, tmp_path):
    copy = shutil.copytree(converted, tmp_path / "copy")
    checkpoint = copy / "checkpoints" / "step-00000040"
    arrays = read_arrays(checkpoint, "optimizer")
    del arrays[moment_path("generator_head/output_bias", "first_moment")]
    write_arrays(checkpoint, "optimizer", arrays)
    (checkpoint / MANIFEST).unlink()
    seal(checkpoint)
    with pytest.raises(UserError, match="has no moments of generator_head/output_bias"):
        model_directory.read(copy)


def test_what_cannot_be_trained_on_the_records_is_refused(converted, tmp_path):
    from electra_keras.train import check_init_from, make_config

    model = model_directory.read(converted)
    metadata = SimpleNamespace(lower_case=False, strip_accents=False)
    records = SimpleNamespace(metadata=metadata, max_seq_length=32)
    with pytest.raises(
        UsageError, match=r"has lower_case=True, .* the records have lower_case=False"
    ):
        check_init_from(converted, tmp_path, records, model.vocabulary)
    records.metadata = None
    check_init_from(converted, tmp_path, records, model.vocabulary)
    encoders = {
        name: dataclasses.replace(encoder, type_vocab_size=1)
        for name, encoder in model.config.encoders.items()
    }
    base = dataclasses.replace(model.config, **encoders)
    with pytest.raises(UsageError, match="type_vocab_size of the discriminator is 1"):
        make_config(ModelOptions(), set(), base, records, model.vocabulary)


def test_pre_training_starts_from_a_converted_model(converted, tmp_path):
    """No size is asked of the user, and the schedule is that of the new run."""
    model_dir, records = tmp_path / "run", golden_records(tmp_path / "16", 16)
    args = (f"--init_from={converted}", f"--model_dir={model_dir}", f"--data_dir={records}")
    args += ("--train_steps=4", "--train_batch_size=8", "--warmup_steps=0", "--mask_prob=0.2")
    code, _, stderr = run(TRAIN, *args, "--max_runtime=60", "--save_steps=2")
    assert code == 0, stderr
    assert "trained to step 4" in stderr
    config = json.loads((model_dir / "config.json").read_text())
    assert config["discriminator"]["hidden_size"] == 64
    assert config["generator"]["intermediate_size"] == 64
    assert config["mask_prob"] == 0.2
    assert config["max_seq_length"] == 16
    # The run's own flagfile continues it.
    flagfile = f"--flagfile={model_dir / 'flags.cfg'}"
    code, _, stderr = run(TRAIN, flagfile, "--train_steps=6")
    assert code == 0, stderr
    assert "resuming at step 4" in stderr
    moved = checkpoint_arrays(model_dir, 6)["weights/" + WORDS]
    assert not np.array_equal(moved, model_directory.read(converted).weights[TABLE])


TABLE = "discriminator/embeddings/token_embedding/embeddings"
WORDS = f"variables/{TABLE.replace('/', '.S')}/.ATTRIBUTES/VARIABLE_VALUE"


def test_sizes_that_contradict_the_weights_are_refused(converted, records, tmp_path):
    code, line = error_of(
        TRAIN,
        f"--init_from={converted}",
        f"--model_dir={tmp_path / 'run'}",
        f"--data_dir={records}",
        "--model_size=tiny",
        "--train_steps=4",
    )
    assert code == 1
    assert "embedding_size of the discriminator is 32, here 128" in line


def test_a_discriminator_alone_converts_and_cannot_be_pre_trained(records, tmp_path):
    model = tmp_path / "model"
    stdout = convert(
        "--from=huggingface", f"--input={HUGGINGFACE / 'discriminator'}", f"--output={model}"
    )
    assert "no generator" in stdout
    shutil.copy(HUGGINGFACE / "discriminator" / "vocab.txt", records)
    args = (f"--data_dir={records}", "--train_steps=4")
    code, line = error_of(TRAIN, f"--init_from={model}", f"--model_dir={tmp_path / 'run'}", *args)
    assert code == 2
    assert "holds no generator, and pre-training needs both" in line
    assert not (tmp_path / "run").exists()
    directory = HUGGINGFACE / "discriminator"
    code, line = error_of(
        TRAIN, f"--init_from={directory}", f"--model_dir={tmp_path / 'run'}", *args
    )
    assert code == 1
    assert "is converted first: python -m electra_keras.convert" in line
    code, line = error_of("electra_keras.evaluate", f"--model_dir={model}", f"--data_dir={records}")
    assert code == 2
    assert "holds no generator" in line


def test_heads_that_are_missing_start_fresh(tmp_path, records):
    model = google.read(GOOGLE)
    model.moments, model.step = None, 0
    model.weights = {
        path: array
        for path, array in model.weights.items()
        if not path.startswith("discriminator_head/")
    }
    (tmp_path / "model").mkdir()
    model_directory.write(model, tmp_path / "model")
    args = (f"--data_dir={records}", f"--vocab_file={GOOGLE / 'vocab.txt'}", "--train_steps=2")
    args += ("--train_batch_size=8", f"--model_dir={tmp_path / 'run'}")
    code, _, stderr = run(TRAIN, f"--init_from={tmp_path / 'model'}", *args)
    assert code == 0, stderr
    assert "holds no discriminator head: it starts fresh" in stderr
    # Without an optimizer it is nothing to go on with.
    code, line = error_of(TRAIN, *args[:-1], f"--model_dir={tmp_path / 'model'}")
    assert code == 1
    assert "no optimizer to go on with" in line


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--from=google"], 2, "--input and --output are needed"),
        (
            ["--from=google", f"--input={HUGGINGFACE / 'discriminator'}"],
            1,
            "holds no TF1 checkpoint",
        ),
        (["--from=huggingface", f"--input={GOOGLE}"], 1, "not a Hugging Face model"),
        (["--from=keras_nlp", f"--input={GOOGLE}"], 1, "not a keras-nlp preset"),
        ([f"--input={GOOGLE}", "--to=google"], 1, "not a model directory"),
        (["--from=huggingface", "--input=nowhere"], 2, "is not a directory"),
        (["--from=google", "--input=a,b"], 2, "takes one --input"),
        (["--from=keras_nlp", "--input=a", "--lower_case"], 2, "--lower_case says nothing of"),
        (["--from=google", "--input=a", "--encoder_only"], 2, "--encoder_only says nothing of"),
        (
            ["--from=huggingface", f"--input={HUGGINGFACE / 'generator'}", "--encoder_only"],
            2,
            "--encoder_only is for fine-tuned models",
        ),
        (["--from=google", f"--input={'x' * 300}"], 1, "x: File name too long"),
        (
            ["--from=huggingface", f"--input={HUGGINGFACE / 'generator'}", "--to=google"],
            1,
            "there is none here",
        ),
    ],
)
def test_bad_input_ends_in_one_line_and_writes_nothing(tmp_path, args, code, message):
    output = [] if len(args) == 1 else [f"--output={tmp_path / 'new' / 'output'}"]
    found, line = error_of(CONVERT, *args, *output)
    assert found == code
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_vocabulary_and_casing_of_the_user(tmp_path):
    copy, output = shutil.copytree(GOOGLE, tmp_path / "copy"), tmp_path / "model"
    (copy / "vocab.txt").unlink()
    args = (f"--vocab_file={GOOGLE / 'vocab.txt'}", "--lower_case=false")
    convert("--from=google", f"--input={copy}", f"--output={output}", *args)
    assert (output / "vocab.txt").read_bytes() == (GOOGLE / "vocab.txt").read_bytes()
    config = json.loads((output / "config.json").read_text())
    assert (config["lower_case"], config["strip_accents"]) == (False, False)


def test_a_disk_that_is_too_small(tmp_path):
    """In a process of its own, as flags are defined once in a process."""
    code = (
        "import runpy, shutil\n"
        "shutil.disk_usage = lambda path: shutil._ntuple_diskusage(9, 8, 1_000_000)\n"
        f"runpy.run_module({CONVERT!r}, run_name='__main__')"
    )
    output = tmp_path / "new" / "output"
    args = ("--from=google", f"--input={GOOGLE}", f"--output={output}")
    process = subprocess.run(
        [sys.executable, "-c", code, *args], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert process.returncode == 1
    assert "it takes 2.6 MB, and 1.0 MB are free" in process.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_exists_is_not_touched(tmp_path):
    (tmp_path / "precious").touch()
    code, line = error_of(CONVERT, "--from=google", f"--input={GOOGLE}", f"--output={tmp_path}")
    assert code == 2
    assert "exists already" in line
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_converted_model_counts_as_tensorflow_reads_it(converted):
    """The checkpoint's own reader finds every variable in float32."""
    path = converted / "checkpoints" / "step-00000040" / "weights"
    dtypes = tf.train.load_checkpoint(str(path)).get_variable_to_dtype_map()
    assert {d for n, d in dtypes.items() if n.startswith("variables/")} == {tf.float32}
