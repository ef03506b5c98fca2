"""From a model directory to a model in one call."""

import keras
import numpy as np
import pytest

from electra_keras import models
from electra_keras.console import UserError
from electra_keras.interop import model_directory
from electra_keras.training.optimizer import ElectraOptimizer
from tests import runs
from tests.interop.finetuned_models import TASKS, inputs, write_ours
from tests.interop.models import random_model
from tests.tasks.test_adaptation import LORA


@pytest.mark.parametrize("sharing", ["all", "token", "none", "encoder"])
def test_both_networks_and_each_encoder(sharing, tmp_path):
    model_directory.write(random_model(sharing), tmp_path)
    model = models.load_pretrainer(str(tmp_path), seed=7)
    assert model.seed == 7
    ids, mask, segments = inputs()
    hidden = model({"input_ids": ids, "input_mask": mask, "segment_ids": segments})
    encoder = models.load_encoder(tmp_path)
    np.testing.assert_array_equal(encoder(ids, mask, segments), hidden["sequence_output"])
    generator = models.load_encoder(tmp_path, network="generator")
    np.testing.assert_array_equal(
        generator(ids, mask, segments), model.generator(ids, mask, segments)
    )


def test_a_finetuned_model(tmp_path):
    arrays = write_ours(tmp_path, TASKS["single_label"], LORA)
    model, task, tokenizer = models.load_finetuned(tmp_path)
    assert task.labels == ("no", "yes", "maybe")
    np.testing.assert_array_equal(model.head.weights[0], arrays["output_dense/kernel"])
    ids, mask, segments = inputs()
    merged = models.load_encoder(str(tmp_path))(ids, mask, segments)
    np.testing.assert_array_equal(merged, model.encoder(ids, mask, segments))
    row = models.load_tokenizer(tmp_path).tokenize(["word3 word7"]).to_list()
    assert row == tokenizer.tokenize(["word3 word7"]).to_list() == [[8, 12]]


def test_what_is_not_there_is_said(tmp_path):
    (tmp_path / "one").mkdir()
    model_directory.write(random_model(generator=False), tmp_path / "one")
    with pytest.raises(UserError, match="one holds no 'generator', only discriminator"):
        models.load_encoder(tmp_path / "one", "generator")
    with pytest.raises(UserError, match="one holds no generator, and pre-training needs both"):
        models.load_pretrainer(tmp_path / "one")
    with pytest.raises(UserError, match="missing is not a model directory"):
        models.load_encoder(tmp_path / "missing")


def test_another_process_loads_a_saved_model(tmp_path):
    """It has to import this module alone."""
    model_directory.write(random_model(), tmp_path)
    model = models.load_pretrainer(tmp_path)
    model.compile(ElectraOptimizer(1e-3))
    model.save(tmp_path / "model.keras")
    code, stdout, stderr = runs.run("tests.load_saved", tmp_path / "model.keras")
    assert code == 0, stderr
    expected = sum(float(keras.ops.sum(v * v)) for v in model.weights)
    assert float(stdout) == pytest.approx(expected, rel=1e-6)
