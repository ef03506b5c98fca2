"""Weights in and out: python -m electra_keras.convert --from=huggingface --input=... --output=..."""

import os
from pathlib import Path

from absl import flags

from electra_keras.console import UsageError, run_main
from electra_keras.interop import finetuned, google, huggingface, keras_hub, model_directory
from electra_keras.interop.conversion import check_space, split_input, write
from electra_keras.interop.weights import ModelWeights

# What each source can be told.
_CASING = ("vocab_file", "lower_case", "strip_accents")
_FLAGS = {
    "electra_keras": ("checkpoint", "encoder_only"),
    "google": (*_CASING, "num_attention_heads", "generator_num_attention_heads"),
    "huggingface": (*_CASING, "encoder_only"),
    "keras_nlp": (),
}
# What a format may not be able to hold.
_CHECKS = {"google": google.check_writable, "keras_nlp": keras_hub.check_writable}
_FORMATS = tuple(_FLAGS)
_FROM = flags.DEFINE_enum("from", "electra_keras", _FORMATS, "Format of --input.")
_TO = flags.DEFINE_enum("to", "electra_keras", _FORMATS, "Format of --output.")
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "What to read: a model directory, a TF1 checkpoint or its directory, a keras-nlp preset, or one or "
    "two Hugging Face directories (DISCRIMINATOR,GENERATOR).",
)
_OUTPUT = flags.DEFINE_string("output", None, "Directory to write; must not exist.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "Of a model directory: best, latest, or a step."
)
_VOCAB_FILE = flags.DEFINE_string("vocab_file", None, "Vocabulary, where --input has none.")
_HEADS = flags.DEFINE_integer(
    "num_attention_heads", None, "Of a google discriminator that has no bert_config.json."
)
_GENERATOR_HEADS = flags.DEFINE_integer(
    "generator_num_attention_heads",
    None,
    "Of a google generator that has no generator_config.json.",
)
_LOWER_CASE = flags.DEFINE_bool(
    "lower_case", None, "Whether text is lower-cased; default: as --input tells."
)
_STRIP_ACCENTS = flags.DEFINE_bool(
    "strip_accents", None, "Whether accents are removed; default: as --input tells."
)
_ENCODER_ONLY = flags.DEFINE_bool(
    "encoder_only", False, "Of a fine-tuned model: convert its encoder, and leave its head behind."
)


def main() -> int:
    """Converts and says what was and was not; returns the exit code."""
    source, target = flags.FLAGS["from"].value, _TO.value
    if not _INPUT.value or not _OUTPUT.value:
        raise UsageError("--input and --output are needed: what to read, and where to write")
    paths = split_input(_INPUT.value)
    if len(paths) > 1 and source != "huggingface":
        raise UsageError(f"--from={source} takes one --input, not {len(paths)}")
    for name in {name for names in _FLAGS.values() for name in names} - set(_FLAGS[source]):
        if flags.FLAGS[name].present:
            raise UsageError(f"--{name} says nothing of --from={source}: leave it out")
    if _LOWER_CASE.value is False and _STRIP_ACCENTS.value:
        raise UsageError("--strip_accents needs --lower_case: accents go only with lower-casing")
    output = Path(_OUTPUT.value)
    if os.path.lexists(output):
        raise UsageError(f"--output={output} exists already: choose another directory")
    for path in paths:
        if source != "google" and not path.is_dir():
            raise UsageError(f"--input={path} is not a directory")
    model = read(source, paths)
    print(f"read {source}: {f'{model.source}: ' if model.source else ''}{describe(model)}")
    for note in model.notes:
        print(f"  {note}")
    if target in _CHECKS:
        _CHECKS[target](model.config)
    check_space(model, target, output)
    notes = write(model, target, output)
    print(f"wrote {target}: {output}")
    for note in notes:
        print(f"  {note}")
    return 0


def read(source: str, paths: list[Path]) -> ModelWeights:
    """Reads a model in the format `source` as the flags say."""
    casing = {"lower_case": _LOWER_CASE.value, "strip_accents": _STRIP_ACCENTS.value}
    vocab_file = Path(_VOCAB_FILE.value) if _VOCAB_FILE.value else None
    if source == "google":
        heads = {"discriminator": _HEADS.value, "generator": _GENERATOR_HEADS.value}
        return google.read(paths[0], vocab_file, heads, **casing)
    if source == "huggingface":
        return huggingface.read(paths, vocab_file, **casing, encoder_only=_ENCODER_ONLY.value)
    if source == "keras_nlp":
        return keras_hub.read(paths[0])
    if finetuned.is_finetuned(paths[0]):
        return finetuned.read(paths[0], _CHECKPOINT.value, _ENCODER_ONLY.value)
    if _ENCODER_ONLY.value:
        raise UsageError(f"--encoder_only is for fine-tuned models: {paths[0]} is pre-trained")
    return model_directory.read(paths[0], _CHECKPOINT.value)


def describe(model: ModelWeights) -> str:
    """Returns what a model holds and lacks, in one line."""
    headless = model.config.missing_heads(model.weights)
    found = []
    for network in ("discriminator", "generator"):
        encoder = model.config.encoders.get(network)
        if encoder is None:
            found.append(f"no {network}")
            continue
        head = "" if model.head else " with head"
        if f"{network}_head" in headless and not model.head:
            head = " without head"
        found.append(
            f"{network}{head}, {encoder.num_hidden_layers} layers of {encoder.hidden_size}, "
            f"{encoder.num_attention_heads} heads"
        )
    if model.head is not None:
        found.append(f"fine-tuned: {model.head.task.describe()}")
    if len(model.config.encoders) == 2:
        found.append(f"embedding_sharing={model.config.embedding_sharing}")
    if model.moments is not None:
        found.append(f"optimizer at step {model.step}")
    return "; ".join(found)


if __name__ == "__main__":
    run_main(main)
