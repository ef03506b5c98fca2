"""The networks of a model directory, ready to be exported."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterator

import keras

from electra_keras.config import ElectraConfig
from electra_keras.console import UsageError, UserError
from electra_keras.interop.weights import ModelWeights
from electra_keras.modeling.encoder import Encoder
from electra_keras.modeling.heads import MaskedLanguageModelHead, ReplacedTokenHead
from electra_keras.modeling.layers import Embeddings
from electra_keras.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class Networks:
    """What of a pre-trained model is exported; a part that is not there is None.

    Attributes:
        config, vocabulary: of the model.
        discriminator, discriminator_head: a converted discriminator may come without its head.
        generator, generator_head: both or none.
    """

    config: ElectraConfig
    vocabulary: Vocabulary
    discriminator: Encoder | None = None
    discriminator_head: ReplacedTokenHead | None = None
    generator: Encoder | None = None
    generator_head: MaskedLanguageModelHead | None = None

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The layers there are, outermost ones only."""
        parts = (
            self.discriminator, self.discriminator_head, self.generator, self.generator_head,
        )  # fmt: skip
        return [part for part in parts if part is not None]


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Builds layers under a Keras dtype policy, "float32" or "mixed_bfloat16"."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def choose(model: ModelWeights, wanted: Collection[str] | None, where: str) -> list[str]:
    """Returns which networks of a model to export.

    Args:
        model: as read from a directory.
        wanted: names, or None for all that can be of use.
        where: the directory, for messages.

    Raises:
        UsageError: a network is wanted that the model does not have.
        UserError: nothing is left to export.
    """
    there = list(model.config.encoders)
    for name in wanted or ():
        if name not in there:
            raise UsageError(f"--networks: {where} holds no {name!r}, only {', '.join(there)}")
    names = [name for name in there if wanted is None or name in wanted]
    if "generator" in names and "generator_head" in model.config.missing_heads(model.weights):
        if wanted is not None:
            raise UserError(f"{where} holds no generator head, without which it fills no masks")
        names.remove("generator")
    if not names:
        raise UserError(f"{where} holds only a generator without head: nothing to serve")
    return names


def build(model: ModelWeights, names: Collection[str]) -> Networks:
    """Builds networks and fills them, under the current dtype policy.

    Embeddings that two exported networks share are one layer, so that they are stored once.

    Args:
        model: configuration and weights.
        names: which networks; of `choose`.
    """
    config, sharing = model.config, model.config.embedding_sharing
    parts: dict[str, keras.layers.Layer] = {}
    if "discriminator" in names:
        parts["discriminator"] = Encoder(config.discriminator, name="discriminator")
        if "discriminator_head" not in config.missing_heads(model.weights):
            parts["discriminator_head"] = ReplacedTokenHead(
                config.discriminator, name="discriminator_head"
            )
    if "generator" in names:
        embeddings = None
        if "discriminator" in parts and sharing == "all":
            embeddings = parts["discriminator"].embeddings
        elif "discriminator" in parts and sharing == "token":
            table = parts["discriminator"].embeddings.token_embedding
            embeddings = Embeddings(config.generator, table, name="embeddings")
        if "discriminator" in parts and sharing == "encoder":
            parts["generator"] = parts["discriminator"]
        else:
            parts["generator"] = Encoder(config.generator, embeddings, name="generator")
        parts["generator_head"] = MaskedLanguageModelHead(
            config.generator, parts["generator"].embeddings.token_embedding, name="generator_head"
        )
    for name, layer in parts.items():
        if not layer.built:
            layer.build()
        network = name.removesuffix("_head")
        arrays = model.network(network)
        for variable in layer.variables:
            owner, path = variable.path.split("/", 1)
            if owner.endswith("_head"):
                path = f"head/{path}"
            elif name.endswith("_head"):
                continue  # the table of the masked language model, which is the encoder's
            variable.assign(arrays[path])
    return Networks(config, model.vocabulary, **parts)
