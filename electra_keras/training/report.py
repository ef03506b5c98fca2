"""What a run has learned, printed for a person."""

import math
from pathlib import Path
from typing import Any, TextIO

from electra_keras.data.metadata import Metadata

_BOLD_RED, _GREEN, _RESET = "\033[1;31m", "\033[32m", "\033[0m"


def print_metrics(metrics: dict[str, float], metadata: Metadata | None, file: TextIO) -> None:
    """Prints validation metrics beside what they are without learning.

    The generator's chance level is the unigram entropy: the loss of knowing how frequent each token
    is and nothing of the context.
    """
    unigram = None
    if metadata is not None:
        unigram = metadata.validation_unigram_cross_entropy or metadata.unigram_entropy
    replaced, precision = metrics["replaced_share"], metrics["discriminator_precision"]
    rows = [
        (
            "generator loss at [MASK] (nats)",
            f"{metrics['generator_masked_loss']:.3f}",
            f"{unigram:.3f} (token frequencies alone)" if unigram else "unknown (no metadata.json)",
        ),
        ("generator accuracy", f"{metrics['generator_accuracy']:.1%}", ""),
        ("share of tokens replaced", f"{replaced:.1%}", ""),
        ("discriminator AUC", f"{metrics['discriminator_auc']:.3f}", "0.500 (guessing)"),
        (
            "discriminator accuracy",
            f"{metrics['discriminator_accuracy']:.1%}",
            f"{1 - replaced:.1%} (calling every token original)",
        ),
        ("discriminator recall", f"{metrics['discriminator_recall']:.1%}", "0.0% (the same)"),
        (
            "discriminator precision",
            "-" if math.isnan(precision) else f"{precision:.1%}",
            f"{replaced:.1%} (flagging at random)",
        ),
    ]
    print(f"\n{'held-out text':<34}{'reached':>9}   without learning", file=file)
    for name, reached, chance in rows:
        print(f"  {name:<32}{reached:>9}   {chance}".rstrip(), file=file)


def print_verdicts(examples: list[list[dict[str, Any]]], file: TextIO, limit: int = 60) -> None:
    """Prints examples with the tokens that the discriminator finds most suspicious.

    In a terminal: red, and green where it is right; in plain text: [?token] wrongly marked,
    [!token<original] rightly marked, [_token<original] missed.
    """
    color = file.isatty()
    print(
        "\nheld-out text as the generator changed it; the discriminator marks as many tokens as were "
        "replaced, the likeliest first", file=file,
    )  # fmt: skip
    if color:
        print(
            f"  {_GREEN}green{_RESET} marked, and replaced; {_BOLD_RED}red{_RESET} marked, but "
            "original; (was: ...) the original of a replaced token",
            file=file,
        )
    else:
        print(
            "  [!token<original] marked, and replaced; [?token] marked, but original; "
            "[_token<original] replaced, but missed",
            file=file,
        )
    for tokens in examples:
        tokens = tokens[:limit]
        words = []
        for token in tokens:
            text, original = token["text"], token["original"]
            if color:
                if token["marked"]:
                    text = f"{_GREEN if token['replaced'] else _BOLD_RED}{text}{_RESET}"
                if token["replaced"]:
                    text += f" (was: {original})"
            elif token["marked"]:
                text = f"[!{text}<{original}]" if token["replaced"] else f"[?{text}]"
            elif token["replaced"]:
                text = f"[_{text}<{original}]"
            words.append(text)
        count = sum(token["replaced"] for token in tokens)
        hits = sum(token["replaced"] and token["marked"] for token in tokens)
        line = " ".join(words).replace(" ##", "")
        print(f"\n  {line}\n  ({hits} of {count} found)", file=file)


def print_next_steps(model_dir: Path, file: TextIO) -> None:
    """Prints where the results are and how to look at them."""
    print(
        f"\nmodel directory   {model_dir}\n"
        f"curves            tensorboard --logdir={model_dir / 'logs'}\n"
        f"same numbers      {model_dir / 'metrics.jsonl'}\n"
        f"evaluate again    python -m electra_keras.evaluate --model_dir={model_dir} "
        "--data_dir=RECORDS",
        file=file,
        flush=True,
    )
