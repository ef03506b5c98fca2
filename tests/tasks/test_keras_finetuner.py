"""The fine-tuned model as a Keras user has it: fit, evaluate, predict, saved and loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from electra_keras.tasks.adaptation import Adaptation
from electra_keras.tasks.answer_heads import ElectraAnswerHead, PlainAnswerHead
from electra_keras.tasks.classification import ClassificationHead
from electra_keras.tasks.finetuner import FineTuner, LayerwiseRate
from electra_keras.tasks.tagging import TaggingHead
from tests.pretraining.test_keras_model import assert_same, weights_of
from tests.tasks.test_finetuner import make_batch, make_model


def make_dataset():
    return tf.data.Dataset.from_tensor_slices(make_batch()).batch(4, drop_remainder=True)


def test_fit_evaluate_and_predict():
    model, dataset = make_model(), make_dataset()
    history = model.fit(dataset, epochs=8, verbose=0, validation_data=dataset).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    # Batches of any size: the mean is over the examples.
    parts = make_dataset().unbatch().batch(3)
    (loss,) = model.evaluate(parts, verbose=0, return_dict=True).values()
    assert loss == pytest.approx(history["val_loss"][-1], rel=1e-5)
    logits = model.predict(parts, verbose=0)
    assert logits.shape == (8, 3)
    labels = make_batch()["labels"].numpy()
    nll = np.log(np.exp(logits).sum(1)) - logits[np.arange(8), labels]
    assert nll.mean() == pytest.approx(loss, rel=1e-5)


def test_targets_are_part_of_the_batch():
    batch = {name: value.numpy() for name, value in make_batch().items()}
    labels = batch.pop("labels")
    with pytest.raises(ValueError, match="give the targets by name in it"):
        make_model().fit(batch, labels, batch_size=4, verbose=0)


@pytest.mark.parametrize(
    "adaptation",
    [Adaptation(3, 1), Adaptation(lora_rank=2, lora_alpha=4.0)],
    ids=["unfrozen", "lora"],
)
def test_a_saved_model_goes_on_as_if_it_had_not_stopped(adaptation, tmp_path):
    factor = LayerwiseRate(0.8, 2, original=False)
    model, dataset = make_model(0.1, factor=factor, adaptation=adaptation), make_dataset()
    model.fit(dataset, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(weights_of(loaded), weights_of(model))
    assert {v.path: v.trainable for v in loaded.weights} == {
        v.path: v.trainable for v in model.weights
    }
    assert loaded.optimizer.rate_factor == factor
    assert loaded.optimizer.first_step == adaptation.first_step
    for each in (model, loaded):
        each.fit(dataset, verbose=0)
    assert_same(weights_of(loaded), weights_of(model))


@pytest.mark.parametrize(
    "make_head",
    [
        lambda encoder: ClassificationHead(encoder, "single_label", 3, (0.5, 1.0, 2.0)),
        lambda encoder: TaggingHead(encoder, 5),
        lambda encoder: ElectraAnswerHead(encoder, 3),
        lambda encoder: PlainAnswerHead(encoder, 2),
    ],
)
def test_every_head_is_saved(make_head, tmp_path):
    model = FineTuner(make_model().config, make_head, 64)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.head.get_config() == model.head.get_config()
    batch = make_batch()
    tf.nest.map_structure(np.testing.assert_array_equal, loaded(batch), model(batch))


def test_a_model_that_was_never_called_is_exported(tmp_path):
    model = make_model()
    model.export(tmp_path / "export", verbose=False)
    batch = {name: value for name, value in make_batch().items() if name != "labels"}
    served = tf.saved_model.load(tmp_path / "export")
    np.testing.assert_allclose(served.serve(batch), model(batch), rtol=1e-5, atol=1e-6)
