"""Small models and the outputs of every stage, for the tests of interop."""

import dataclasses

import numpy as np
import tensorflow as tf

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.interop.weights import ModelWeights, variable_shapes
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.heads import MaskedLanguageModelHead, ReplacedTokenHead
from electra_keras.text.vocabulary import Vocabulary
from tests.runs import REPOSITORY, SPECIAL

GOOGLE = REPOSITORY / "tests" / "golden" / "tf1_small_like"
HUGGINGFACE = REPOSITORY / "tests" / "golden" / "hf_proj"

ENCODER = EncoderConfig(
    vocab_size=40,
    embedding_size=16,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=3,
    intermediate_size=48,
    max_position_embeddings=20,
)
# What a Google checkpoint can hold: one head per 64 of width, feed-forward layers of 4 times the width;
# with untied embeddings these are as wide as the generator.
GENERATORS = {
    "all": dataclasses.replace(
        ENCODER, hidden_size=12, num_attention_heads=1, intermediate_size=48
    ),
    "token": dataclasses.replace(
        ENCODER, hidden_size=16, num_attention_heads=1, intermediate_size=64
    ),
    "none": dataclasses.replace(
        ENCODER,
        embedding_size=12,
        hidden_size=12,
        num_attention_heads=1,
        intermediate_size=48,
        num_hidden_layers=1,
    ),
    "encoder": ENCODER,
}
VOCABULARY = Vocabulary((*SPECIAL, *(f"word{i}" for i in range(35))))


def random_model(sharing="all", generator=True, discriminator=True, moments=False):
    """A model with random weights, of every sharing, or with one network only."""
    config = ElectraConfig(
        ENCODER if discriminator else None,
        GENERATORS[sharing] if generator else None,
        embedding_sharing=sharing if generator and discriminator else "none",
        max_seq_length=20,
        lower_case=True,
        strip_accents=True,
    )
    rng = np.random.default_rng(1)

    def arrays():
        return {
            path: rng.normal(size=shape).astype(np.float32)
            for path, shape in variable_shapes(config).items()
        }

    weights = arrays()
    slots = (arrays(), arrays()) if moments else None
    return ModelWeights(config, VOCABULARY, weights, slots, step=7 if moments else 0)


def assert_same_bits(ours, theirs):
    """Checks that two dictionaries hold the same arrays under the same names."""
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert (array.dtype, array.shape) == (theirs[name].dtype, theirs[name].shape)
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def stages(model, network, input_ids, mask, segments, positions=None):
    """Returns the outputs of one network: after the embeddings, after every block, and the logits.

    Args:
        positions: of the generator's logits; None for all.
    """
    config = model.config.encoders[network]
    encoder = Encoder(config, name=network)
    if network == "discriminator":
        head = ReplacedTokenHead(config, name="head")
    else:
        head = MaskedLanguageModelHead(config, encoder.embeddings.token_embedding, name="head")
        if positions is None:
            positions = np.tile(np.arange(input_ids.shape[1]), (len(input_ids), 1))
    last = encoder(input_ids, mask, segments)
    inputs = (last,) if network == "discriminator" else (last, positions)
    head(*inputs)
    weights = model.network(network)
    for layer, begin in ((encoder, ""), (head, "head/")):
        for variable in layer.trainable_variables:
            # The table stands in the head's variables too.
            path = variable.path.removeprefix(f"{network}/").removeprefix("head/")
            variable.assign(weights[path if path in weights else begin + path])
    hidden = encoder.embeddings(input_ids, segments)
    if encoder.embeddings_project is not None:
        hidden = encoder.embeddings_project(hidden)
    outputs = [hidden]
    bias = (1.0 - tf.cast(mask, tf.float32)[:, None, None, :]) * -1e4
    for block in encoder.blocks:
        outputs.append(block(outputs[-1], bias))
    last = encoder(input_ids, mask, segments)
    np.testing.assert_allclose(last, outputs[-1], atol=1e-6)
    inputs = (last,) if network == "discriminator" else (last, positions)
    return [output.numpy() for output in outputs], head(*inputs).numpy()
