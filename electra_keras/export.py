"""Exports a model for TF Serving: python -m electra_keras.export --model_dir=... --export_dir=..."""

import functools
import random
from collections.abc import Callable
from pathlib import Path

from absl import flags

from electra_keras.console import OVERRIDES, UsageError, UserError, run_main

# isort: split
# After electra_keras.console, which sets TensorFlow's log level.
from electra_keras.interop import model_directory
from electra_keras.serving import archive, finetuned, networks, pretrained, quantization
from electra_keras.serving.encoding import choose_buckets
from electra_keras.serving.signatures import Servable
from electra_keras.text.vocabulary import Vocabulary
from electra_keras.training import run_directory

_MODEL_DIR = flags.DEFINE_string("model_dir", None, "Model directory to export.")
_EXPORT_DIR = flags.DEFINE_string(
    "export_dir", None, "Directory of the model's versions, the one that TF Serving watches."
)
_VERSION = flags.DEFINE_integer(
    "version", None, "Version to write; default: the next.", lower_bound=1
)
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest, or a step.")
_NETWORKS = flags.DEFINE_list(
    "networks", None, "discriminator, generator, or both; default: what the directory holds."
)
_BUCKETS = flags.DEFINE_list(
    "sequence_buckets",
    None,
    "Lengths in tokens that inputs are padded to, ascending; the last is where texts are truncated, of "
    "a fine-tuned model its max_seq_length. Default: 16, 32, 64 and so on up to max_seq_length.",
)
_PRECISION = flags.DEFINE_enum(
    "precision", "float32", ["float32", "mixed_bfloat16"], "What the networks compute in."
)
_QUANTIZE = flags.DEFINE_enum(
    "quantize",
    "none",
    ["none", "int8"],
    "Store large weights in int8, one scale per output channel.",
)
OVERRIDES.update(quantize={"precision"}, precision={"quantize"})
_TOP_K = flags.DEFINE_integer("top_k", 5, "Tokens that fill_mask names.", lower_bound=1)
_MAX_TEXT_BYTES = flags.DEFINE_integer(
    "max_text_bytes",
    archive.MAX_TEXT_BYTES,
    "How long the texts of a request to `answer` or `tag`, which read them to the end, may be together "
    "in UTF-8; longer ones are refused. 0: no limit.",
    lower_bound=0,
)
_SAMPLES = flags.DEFINE_string(
    "sample_file",
    None,
    "Texts, one a line, to compare a reduced precision with float32 on; default: random words of the "
    "vocabulary.",
)


def main() -> int:
    """Exports and says what; returns the exit code."""
    if not _MODEL_DIR.value or not _EXPORT_DIR.value:
        raise UsageError("--model_dir and --export_dir are needed: what to export, and where to")
    if _QUANTIZE.value == "int8" and _PRECISION.value != "float32":
        raise UsageError("--quantize=int8 computes in float32: leave --precision out")
    export_dir = Path(_EXPORT_DIR.value)
    version = archive.choose_version(export_dir, _VERSION.value)
    make_servable = choose_servable(Path(_MODEL_DIR.value))
    servable = make_servable(precision=_PRECISION.value, quantize=_QUANTIZE.value)
    reads_all = any(signature.reads_all for signature in servable.signatures)
    if _MAX_TEXT_BYTES.present and not reads_all:
        raise UsageError(
            "--max_text_bytes is for question answering and tagging: other models read the beginning"
        )
    for path in archive.remove_leftovers(export_dir):
        print(f"deleted {path}, which an export that was killed had left")
    archive.check_space(export_dir, servable.layers)
    if _PRECISION.value != "float32" or _QUANTIZE.value != "none":
        texts = sample_texts(servable.vocabulary)
        print(f"difference from float32 on {len(texts)} texts:")
        for line in quantization.compare(
            quantization.answers(make_servable(), texts), quantization.answers(servable, texts)
        ):
            print(f"  {line}")
    path = archive.write_version(servable, export_dir, version, _MAX_TEXT_BYTES.value)
    print(f"wrote {path}: {archive.describe_size(path)}")
    print(f"  from {servable.settings['source']}")
    print(
        f"  sequence buckets {', '.join(map(str, servable.encoder.buckets))}; serving_default is "
        f"{servable.default}"
    )
    for signature in servable.signatures:
        print(f"  {signature.name}({', '.join(signature.inputs)})")
    return 0


def choose_servable(model_dir: Path) -> Callable[..., Servable]:
    """Returns what builds the export of a model directory; `precision` and `quantize` are left open.

    Raises:
        UsageError: a flag does not fit the model.
        UserError: the directory holds nothing that can be exported.
    """
    if run_directory.read_task(model_dir) is None:
        model = model_directory.read(model_dir, _CHECKPOINT.value)
        buckets = choose_buckets(model.config, _BUCKETS.value)
        names = networks.choose(model, _NETWORKS.value, str(model_dir))
        return functools.partial(
            pretrained.make_servable, model, names, buckets, top_k=_TOP_K.value
        )
    for flag in (_NETWORKS, _TOP_K):
        if flag.present:
            raise UsageError(f"--{flag.name} is for pre-trained models; {model_dir} is fine-tuned")
    return functools.partial(finetuned.make_servable, model_dir, _CHECKPOINT.value, _BUCKETS.value)


def sample_texts(vocabulary: Vocabulary) -> list[str]:
    """Returns texts to compare precisions on.

    Raises:
        UserError: --sample_file cannot be read, or is empty.
    """
    if _SAMPLES.value is None:
        words = [t for t in vocabulary.tokens if t.isalnum()] or ["x"]
        draw = random.Random(0)
        return [" ".join(draw.choices(words, k=draw.randint(4, 24))) for _ in range(64)]
    try:
        lines = Path(_SAMPLES.value).read_text(encoding="utf-8").splitlines()
    except ValueError as error:
        raise UserError(f"--sample_file={_SAMPLES.value} is not UTF-8") from error
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise UserError(f"--sample_file={_SAMPLES.value} holds no text")
    return texts


if __name__ == "__main__":
    run_main(main)
