"""A model as plain arrays: shapes, sharing, vocabulary."""

import dataclasses

import numpy as np
import pytest

from electra_keras.console import UserError
from electra_keras.interop import weights
from electra_keras.interop.names import original_names_of
from electra_keras.pretraining.pretrainer import ElectraPretrainer
from electra_keras.text.vocabulary import Vocabulary
from tests.interop.models import VOCABULARY, assert_same_bits, random_model


@pytest.mark.parametrize("sharing", ["all", "token", "none", "encoder"])
def test_shapes_are_those_of_the_keras_model(sharing):
    config = random_model(sharing).config
    model = ElectraPretrainer(config)
    expected = {variable.path: tuple(variable.shape) for variable in model.trainable_variables}
    assert weights.variable_shapes(config) == expected


@pytest.mark.parametrize("sharing", ["all", "token", "none", "encoder"])
def test_taking_networks_apart_and_joining_them_changes_nothing(sharing):
    model = random_model(sharing)
    parts = [model.network(name) for name in ("discriminator", "generator")]
    assert weights.find_sharing(*parts) == sharing
    assert_same_bits(weights.join_networks(*parts, sharing), model.weights)


def test_every_name_of_the_original_is_used_once():
    names = [name for path in random_model("none").weights for name in original_names_of(path)]
    assert len(names) == len(set(names))
    assert "electra/encoder/layer_1/attention/output/LayerNorm/gamma" in names
    assert "electra/encoder/layer_0/output/dense/kernel" in names
    assert "discriminator_predictions/dense_1/bias" in names
    assert "generator_predictions/LayerNorm/beta" in names


def test_rows_without_a_token_are_left_out_and_named():
    model = random_model(moments=True)
    short = dataclasses.replace(model, vocabulary=Vocabulary(VOCABULARY.tokens[:-3]))
    fitted = weights.fit_vocabulary(short, "here")
    assert fitted.config.generator.vocab_size == 37
    path = "discriminator/embeddings/token_embedding/embeddings"
    np.testing.assert_array_equal(fitted.weights[path], model.weights[path][:37])
    assert fitted.moments[1]["generator_head/output_bias"].shape == (37,)
    assert "40 rows for 37 tokens; the last 3" in fitted.notes[0]
    shapes = {path: array.shape for path, array in fitted.weights.items()}
    assert shapes == weights.variable_shapes(fitted.config)


def test_a_vocabulary_that_is_too_large_is_refused():
    model = random_model()
    model.vocabulary = Vocabulary((*VOCABULARY.tokens, "one"))
    with pytest.raises(UserError, match="has 40 rows, but the vocabulary 41"):
        weights.fit_vocabulary(model, "here")


def test_casing_is_seen_from_the_tokens():
    assert weights.guess_casing(VOCABULARY)[0] is True
    cased, note = weights.guess_casing(Vocabulary((*VOCABULARY.tokens, "London")))
    assert cased is False
    assert "taken as cased" in note


@pytest.mark.parametrize(
    ("rows", "tokens", "message"),
    [
        (30522, 30522, None),
        (30528, 30522, "the last 6"),
        (30592, 30522, "the last 70"),  # a multiple of 128
        (30720, 30522, "the last 198"),  # of 256
    ],
)
def test_what_counts_as_padding(rows, tokens, message):
    notes = weights.check_rows(rows, tokens, "here")
    assert notes == [] if message is None else message in notes[0]


@pytest.mark.parametrize(("rows", "tokens"), [(30522, 30519), (1500, 50), (30536, 30522)])
def test_a_vocabulary_that_is_too_small_is_refused(rows, tokens):
    with pytest.raises(
        UserError, match=f"has {rows} rows, but the vocabulary {tokens} .*--vocab_file"
    ):
        weights.check_rows(rows, tokens, "here")
