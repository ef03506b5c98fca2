"""Names of our variables in the original's checkpoints and in Hugging Face's files.

Hugging Face's names follow from the original's (facts D8), so there is one table.
"""

import re

_TO_ORIGINAL = (
    (r"embeddings/token_embedding/embeddings$", "embeddings/word_embeddings"),
    (r"embeddings/position_embedding/embeddings$", "embeddings/position_embeddings"),
    (r"embeddings/type_embedding/embeddings$", "embeddings/token_type_embeddings"),
    (r"^layer_", "encoder/layer_"),
    (r"/attention/output_dense/", "/attention/output/dense/"),
    (r"/attention_layer_norm/", "/attention/output/LayerNorm/"),
    (r"/intermediate_dense/", "/intermediate/dense/"),
    (r"(layer_\d+)/output_dense/", r"\1/output/dense/"),
    (r"/output_layer_norm/", "/output/LayerNorm/"),
    (r"/layer_norm/", "/LayerNorm/"),
)
_SCOPES = {"discriminator": "electra", "generator": "generator"}


def original_names(network: str, path: str) -> tuple[str, ...]:
    """Returns the original's variables that, side by side, make up one of ours.

    Args:
        network: "discriminator" or "generator".
        path: of the variable below the network; below "head/" for its head.

    Returns:
        one name, or three for the fused query, key and value.
    """
    if path.startswith("head/"):
        path = path.removeprefix("head/").replace("output_dense", "dense_1")
        return (f"{network}_predictions/{path.replace('layer_norm', 'LayerNorm')}",)
    for ours, original in _TO_ORIGINAL:
        path = re.sub(ours, original, path)
    path = f"{_SCOPES[network]}/{path}"
    if "query_key_value" in path:
        return tuple(
            path.replace("query_key_value", f"self/{part}") for part in ("query", "key", "value")
        )
    return (path,)


def original_names_of(path: str) -> tuple[str, ...]:
    """Returns `original_names` of a variable by its path in `ElectraPretrainer`."""
    part, path = path.split("/", 1)
    if part.endswith("_head"):
        return original_names(part.removesuffix("_head"), f"head/{path}")
    return original_names(part, path)


def huggingface_name(original: str) -> tuple[str, bool]:
    """Returns Hugging Face's name for one of the original's, and whether the matrix is transposed.

    The encoder's scope is "electra" for both networks there: a directory holds one of them.
    """
    if original == "generator_predictions/output_bias":
        return "generator_lm_head.bias", False
    name = re.sub("^generator/", "electra/", original)
    name = name.replace(
        "discriminator_predictions/dense_1", "discriminator_predictions/dense_prediction"
    )
    name = re.sub(r"/layer_(\d+)/", r"/layer/\1/", name)
    name = re.sub(r"(word|position|token_type)_embeddings$", r"\1_embeddings/weight", name)
    transposed = name.endswith("/kernel")
    name = re.sub(r"/(kernel|gamma)$", "/weight", name)
    name = re.sub(r"/beta$", "/bias", name)
    return name.replace("/", "."), transposed
