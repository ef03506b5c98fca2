"""An export tokenizes as the trainer does: every code point, the golden cases, and fuzzed text."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.interop.weights import ModelWeights, variable_shapes
from electra_keras.serving import archive, pretrained
from electra_keras.text.tokenizer import Tokenizer, basic_tokenize
from electra_keras.text.vocabulary import Vocabulary
from tests.runs import REPOSITORY, SPECIAL
from tests.serving.native import NativeModel

# isort: split
import tensorflow as tf

GOLDEN = json.loads((REPOSITORY / "tests/golden/tokenizer.json").read_text())
# All of the blocks that hold characters; of the rest, private or not assigned, one in 64 and the ends.
CODES = [*range(0xD800), *range(0xE000, 0x34000), *range(0xE0000, 0xE0200)]
CODES += [*range(0x34000, 0xE0000, 64), *range(0xE0200, 0x110000, 64), 0xDFFFF, 0x10FFFF]
# More characters than any text here has: nothing is cut off.
BUCKETS = (16, 64, 1024)
OUTPUTS = ("tokens", "starts", "ends", "length")


def small_model(vocabulary, lower_case=True, strip_accents=True):
    encoder = EncoderConfig(len(vocabulary), 2, 2, 1, 1, 2, max_position_embeddings=BUCKETS[-1])
    config = ElectraConfig(
        encoder, None, "none", max_seq_length=64, lower_case=lower_case, strip_accents=strip_accents
    )
    weights = {path: np.zeros(shape, np.float32) for path, shape in variable_shapes(config).items()}
    return ModelWeights(config, vocabulary, weights)


def export_of(model, directory):
    """An export's loader (TensorFlow's C++ one), and the tokenizer that a trainer would use."""
    servable = pretrained.make_servable(model, ["discriminator"], BUCKETS)
    one = [s for s in servable.signatures if s.name == "replaced_tokens"]
    servable = dataclasses.replace(servable, signatures=one)
    path = archive.write_version(servable, directory, 1)
    config = model.config
    return NativeModel(path), Tokenizer(model.vocabulary, config.lower_case, config.strip_accents)


@pytest.fixture(scope="module")
def every_character(tmp_path_factory):
    """A vocabulary in which every character that text can turn into is a token of its own."""
    chars = sorted({c for code in CODES for word in basic_tokenize(chr(code)) for c in word})
    vocabulary = Vocabulary((*SPECIAL, *chars, *(f"##{c}" for c in chars)))
    return export_of(small_model(vocabulary), tmp_path_factory.mktemp("characters"))


def assert_equal(pair, texts):
    """The export's tokens, spans and lengths are the trainer's tokenizer's."""
    native, tokenizer = pair
    answer = native.run("replaced_tokens", {"text": texts}, OUTPUTS)
    ids, starts, ends = tokenizer.tokenize_with_offsets(tf.constant(texts, tf.string))
    np.testing.assert_array_equal(answer["length"], ids.row_lengths())
    real = np.arange(answer["starts"].shape[1]) < answer["length"][:, np.newaxis]
    np.testing.assert_array_equal(answer["starts"][real], starts.flat_values)
    np.testing.assert_array_equal(answer["ends"][real], ends.flat_values)
    vocabulary = np.array([token.encode() for token in tokenizer.vocabulary.tokens], object)
    assert (answer["tokens"][real] == vocabulary[ids.flat_values]).all()
    assert (
        (tokenizer.tokenize(tf.constant(texts, tf.string)).flat_values == ids.flat_values)
        .numpy()
        .all()
    )


def test_every_code_point(every_character):
    for begin in range(0, len(CODES), 8192):
        chars = [chr(code) for code in CODES[begin : begin + 8192]]
        assert_equal(every_character, [f"A{char}Σ {char}".encode() for char in chars])


@pytest.mark.parametrize("lower_case, strip_accents", [(1, 1), (1, 0), (0, 0)])
def test_golden_cases(tmp_path, lower_case, strip_accents):
    """The original's tokens, not only ours."""
    cases = [c for c in GOLDEN["cases"] if c[1:3] == [lower_case, strip_accents or 1 - lower_case]]
    assert len(cases) == 306
    vocabulary = Vocabulary(tuple(GOLDEN["vocabulary"]))
    model = small_model(vocabulary, bool(lower_case), bool(strip_accents))
    native, _ = export_of(model, tmp_path)
    answer = native.run("replaced_tokens", {"text": [case[0] for case in cases]}, OUTPUTS)
    for row, case in enumerate(cases):
        tokens = [token.decode() for token in answer["tokens"][row][: answer["length"][row]]]
        assert tokens == case[3].split(), case[0]


any_text = st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass"))
scripts = st.text(
    st.sampled_from("aAzZ09 \t\n.,'[]#ΣσςİıßǅéÉ\u0301\u0345\u200b\ufffd\x00中文한글ガｶﾞ𝒜😀👩‍👧ﬁ½²…"),
    max_size=60,
).map(str.encode)
batches = st.lists(st.one_of(any_text, scripts, st.binary(max_size=40)), min_size=50, max_size=50)


@settings(
    max_examples=200,  # of 50 texts
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(batches)
def test_ten_thousand_fuzzed_texts(every_character, texts):
    assert_equal(every_character, texts)
