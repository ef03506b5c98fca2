"""Which variables of the original are which of ours."""

import re

import numpy as np

_RENAMED = {
    "embeddings/token_embedding/embeddings": "embeddings/word_embeddings",
    "embeddings/position_embedding/embeddings": "embeddings/position_embeddings",
    "embeddings/type_embedding/embeddings": "embeddings/token_type_embeddings",
    "attention/output_dense": "attention/output/dense",
    "attention_layer_norm": "attention/output/LayerNorm",
    "intermediate_dense": "intermediate/dense",
    "output_layer_norm": "output/LayerNorm",
    "layer_norm": "LayerNorm",
}


def original_names(path):
    """Returns the original's variables that, side by side, make up ours at `path`."""
    path = path.removeprefix("electra/")
    for head, original, output in (
        ("generator_head/", "generator_predictions/", "output_dense"),
        ("discriminator_head/", "discriminator_predictions/", "dense_1"),
    ):
        if path.startswith(head):
            path = path.replace(head, original).replace("output_dense", output)
            return [path.replace("layer_norm", "LayerNorm")]
    path = re.sub(r"(layer_\d+)/output_dense", r"\1/output/dense", path)
    for ours, original in _RENAMED.items():
        path = path.replace(ours, original)
    path = re.sub(r"^discriminator/", "electra/", path)
    path = re.sub(r"(electra|generator)/layer_", r"\1/encoder/layer_", path)
    if "query_key_value" in path:
        return [
            path.replace("query_key_value", f"self/{part}") for part in ("query", "key", "value")
        ]
    return [path]


def original_value(arrays, prefix, path):
    """Returns the original's array for our variable at `path`."""
    return np.concatenate([arrays[prefix + name] for name in original_names(path)], axis=-1)
