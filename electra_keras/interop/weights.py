"""A model as plain arrays: what every format is read into and written from."""

import dataclasses
from collections.abc import Mapping

import numpy as np

from electra_keras.config import ElectraConfig, EncoderConfig
from electra_keras.console import UserError
from electra_keras.text.vocabulary import Vocabulary

Shapes = dict[str, tuple[int, ...]]
# What of the discriminator's encoder each embedding_sharing gives to the generator.
_SHARED = {
    "all": "embeddings/",
    "token": "embeddings/token_embedding/",
    "none": None,
    "encoder": "",
}
HEADS = {"discriminator": "discriminator_head", "generator": "generator_head"}


@dataclasses.dataclass
class ModelWeights:
    """Both networks of a model, or one of them.

    Attributes:
        config: sizes; a network that is not there is None.
        vocabulary: the tokens of its table.
        weights: float32 arrays by the path of their variable in `ElectraPretrainer`.
        moments: Adam's first and second moment of every weight, by the same paths, or None.
        step: optimizer steps it was trained for, where that is known, otherwise 0.
        notes: lines for the user about what was not used, or not found.
    """

    config: ElectraConfig
    vocabulary: Vocabulary
    weights: dict[str, np.ndarray]
    moments: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None = None
    step: int = 0
    notes: list[str] = dataclasses.field(default_factory=list)

    def network(self, name: str) -> dict[str, np.ndarray]:
        """Returns all weights of one network, shared ones included.

        Args:
            name: "discriminator" or "generator".

        Returns:
            arrays by path below the network ("embeddings/layer_norm/gamma"), those of its head below
            "head/".
        """
        shared = _SHARED[self.config.embedding_sharing]
        found = {}
        if name == "generator" and shared is not None and self.config.discriminator is not None:
            found = self._below("discriminator/", shared)
        found |= self._below(f"{name}/")
        head = self._below(f"{HEADS[name]}/")
        return found | {f"head/{path}": array for path, array in head.items()}

    def _below(self, prefix: str, begin: str = "") -> dict[str, np.ndarray]:
        return {
            path.removeprefix(prefix): array
            for path, array in self.weights.items()
            if path.startswith(prefix + begin)
        }


def embedding_shapes(config: EncoderConfig) -> Shapes:
    """Returns the shapes of the embedding block, by path below the encoder."""
    width = config.embedding_size
    return {
        "embeddings/token_embedding/embeddings": (config.vocab_size, width),
        "embeddings/position_embedding/embeddings": (config.max_position_embeddings, width),
        "embeddings/type_embedding/embeddings": (config.type_vocab_size, width),
        "embeddings/layer_norm/gamma": (width,),
        "embeddings/layer_norm/beta": (width,),
    }


def block_shapes(config: EncoderConfig) -> Shapes:
    """Returns the shapes of projection and transformer blocks, by path below the encoder."""
    hidden, inner = config.hidden_size, config.intermediate_size

    def dense(path: str, inputs: int, outputs: int) -> Shapes:
        return {f"{path}/kernel": (inputs, outputs), f"{path}/bias": (outputs,)}

    shapes = {}
    if config.embedding_size != hidden:
        shapes |= dense("embeddings_project", config.embedding_size, hidden)
    for i in range(config.num_hidden_layers):
        layer = f"layer_{i}"
        shapes |= dense(f"{layer}/attention/query_key_value", hidden, 3 * hidden)
        shapes |= dense(f"{layer}/attention/output_dense", hidden, hidden)
        shapes |= dense(f"{layer}/intermediate_dense", hidden, inner)
        shapes |= dense(f"{layer}/output_dense", inner, hidden)
        for norm in ("attention_layer_norm", "output_layer_norm"):
            shapes |= {f"{layer}/{norm}/gamma": (hidden,), f"{layer}/{norm}/beta": (hidden,)}
    return shapes


def head_shapes(config: EncoderConfig, network: str) -> Shapes:
    """Returns the shapes of a network's pre-training head, by path below the head."""
    hidden, width = config.hidden_size, config.embedding_size
    if network == "discriminator":
        return {
            "dense/kernel": (hidden, hidden),
            "dense/bias": (hidden,),
            "output_dense/kernel": (hidden, 1),
            "output_dense/bias": (1,),
        }
    return {
        "dense/kernel": (hidden, width),
        "dense/bias": (width,),
        "layer_norm/gamma": (width,),
        "layer_norm/beta": (width,),
        "output_bias": (config.vocab_size,),
    }


def variable_shapes(config: ElectraConfig) -> Shapes:
    """Returns the shape of every variable of a model, heads included, by its path."""
    sharing, both = config.embedding_sharing, len(config.encoders) == 2
    shapes: Shapes = {}
    for network, encoder in config.encoders.items():
        own: Shapes = {}
        if network == "discriminator" or not both or sharing != "encoder":
            own = embedding_shapes(encoder) | block_shapes(encoder)
        if network == "generator" and both and _SHARED[sharing]:
            own = {p: shape for p, shape in own.items() if not p.startswith(_SHARED[sharing])}
        shapes |= {f"{network}/{path}": shape for path, shape in own.items()}
        head = head_shapes(encoder, network)
        shapes |= {f"{HEADS[network]}/{path}": shape for path, shape in head.items()}
    return shapes


def missing_heads(config: ElectraConfig, present: Mapping[str, object]) -> list[str]:
    """Returns the heads of the config's networks of which nothing is `present` (by path)."""
    return [
        HEADS[network]
        for network in config.encoders
        if not any(path.startswith(f"{HEADS[network]}/") for path in present)
    ]


def find_sharing(
    discriminator: Mapping[str, np.ndarray] | None, generator: Mapping[str, np.ndarray] | None
) -> str:
    """Returns the embedding_sharing under which no weight of two whole networks changes.

    What is equal to the last bit is taken for shared, so that a format that stores each network whole
    loses nothing.

    Args:
        discriminator, generator: as `ModelWeights.network` returns them, or None.
    """

    def same(begin: str) -> bool:
        def paths(network: Mapping[str, np.ndarray]) -> set[str]:
            return {p for p in network if p.startswith(begin) and not p.startswith("head/")}

        return paths(discriminator) == paths(generator) and all(
            np.array_equal(discriminator[path], generator[path]) for path in paths(discriminator)
        )

    if discriminator is None or generator is None:
        return "none"
    return next((name for name in ("encoder", "all", "token") if same(_SHARED[name])), "none")


def join_networks(
    discriminator: Mapping[str, np.ndarray] | None,
    generator: Mapping[str, np.ndarray] | None,
    sharing: str,
) -> dict[str, np.ndarray]:
    """Returns the weights of two networks by their path in the model.

    Args:
        discriminator, generator: by path below the network, or None.
        sharing: embedding_sharing; what the generator shares may be missing from it.
    """
    weights = {}
    for network, arrays in (("discriminator", discriminator), ("generator", generator)):
        for path, array in (arrays or {}).items():
            if path.startswith("head/"):
                weights[HEADS[network] + path.removeprefix("head")] = array
            elif (
                network == "discriminator"
                or _SHARED[sharing] is None
                or not path.startswith(_SHARED[sharing])
            ):
                weights[f"{network}/{path}"] = array
    return weights


def fit_vocabulary(model: ModelWeights, where: str) -> ModelWeights:
    """Leaves out the rows of the token table for which the vocabulary has no token.

    Ports pad the table to a multiple of 8 (facts D8: NVIDIA's 30,528 rows for 30,522 tokens). No text
    reaches these rows, and the generator must not sample them.

    Raises:
        UserError: the vocabulary has more tokens than the table rows; the message begins with `where`.
    """
    tokens = len(model.vocabulary)
    rows = next(iter(model.config.encoders.values())).vocab_size
    if tokens == rows:
        return model
    if tokens > rows:
        raise UserError(
            f"{where}: the token table has {rows} rows, but the vocabulary {tokens} tokens: it belongs "
            "to another model"
        )

    def trimmed(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        by_token = ("token_embedding/embeddings", "generator_head/output_bias")
        return {p: a[:tokens] if p.endswith(by_token) else a for p, a in arrays.items()}

    encoders = {
        name: dataclasses.replace(encoder, vocab_size=tokens)
        for name, encoder in model.config.encoders.items()
    }
    return dataclasses.replace(
        model,
        config=dataclasses.replace(model.config, **encoders),
        weights=trimmed(model.weights),
        moments=model.moments and tuple(trimmed(moment) for moment in model.moments),
        notes=[
            *model.notes,
            f"{where}: the token table has {rows} rows for {tokens} tokens; the last {rows - tokens}, "
            "which no text reaches, are left out",
        ],
    )


def guess_casing(vocabulary: Vocabulary) -> tuple[bool, str]:
    """Returns whether a vocabulary is uncased, and a note that says so.

    It is where no token but those in brackets has a capital letter.
    """
    uncased = all(token == token.lower() for token in vocabulary.tokens if token[0] != "[")
    return uncased, (
        f"casing is not recorded; the vocabulary has {'no' if uncased else 'tokens with'} capitals: "
        f"taken as {'un' if uncased else ''}cased (--lower_case, --strip_accents)"
    )
