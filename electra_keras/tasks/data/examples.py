"""Examples of the tasks, as read from files: text that is neither tokenized nor cut yet."""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from absl import logging

from electra_keras.console import UsageError

Example = TypeVar("Example")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class TextExample:
    """A text, or a pair of texts, to be classified or given a number.

    Attributes:
        id: unique within its file where the file's own ids are.
        label: the name of a class; a number in regression; names in a multi-label task; or None
            where the file has no labels.
    """

    id: str
    text_a: str
    text_b: str | None = None
    label: str | float | tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class QuestionExample:
    """A question whose answer is a span of the context, or not there.

    Attributes:
        answers: (text, start) of spans of the context; `context[start:start + len(text)] == text`
            holds for all of them. The first is the one to train on.
        gold: the accepted answers that the official scores are computed with, as the file has them.
            More than `answers` where one of them could not be found in the context.
        is_impossible: the context does not answer the question.
        title: of the article, or "".
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...] = ()
    gold: tuple[str, ...] = ()
    is_impossible: bool = False
    title: str = ""


@dataclasses.dataclass(frozen=True)
class TaggedSentence:
    """The words of a sentence, their case kept, and a tag for each.

    Attributes:
        tags: in BIO, or plain labels; None where the file has none.
        scheme: that the file has them in, one of `schemes.WRITTEN` or `schemes.PLAIN`.
    """

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...] | None = None
    scheme: str = "BIO"


def count_labels(examples: Sequence[TextExample]) -> dict[str, int]:
    """Returns the class names found in the examples, in order, and how many examples have each.

    In a multi-label task an example counts for each of its names. The keys, in this order, are the
    list of labels of a task that brings none: by number where all are numbers, else as texts.
    """
    counts: Counter[str] = Counter()
    for example in examples:
        if isinstance(example.label, str):
            counts[example.label] += 1
        elif isinstance(example.label, tuple):
            counts.update(example.label)
    are_numbers = all(_NUMBER.fullmatch(name) for name in counts)
    order = (lambda name: (float(name), name)) if are_numbers else None
    return {name: counts[name] for name in sorted(counts, key=order)}


def warn_of_unknown_labels(
    path: str, unknown: Mapping[str, int], found: int, what: str = "rows have a label"
) -> None:
    """Says which labels of a file to evaluate on the model does not know, in one warning.

    They stay in the scores as errors of the model, as in those of scikit-learn and conlleval.

    Args:
        path: of the file.
        unknown: label -> how many rows have it.
        found: the rows in all.
        what: has an unknown label.
    """
    if not unknown:
        return
    some = ", ".join(f"{label!r} ({count})" for label, count in list(unknown.items())[:10])
    some += ", ..." if len(unknown) > 10 else ""
    total = sum(unknown.values())
    logging.warning(
        "%s: %d of %d %s that the model does not know, which counts as its error: %s",
        path,
        total,
        found,
        what,
        some,
    )


def warn_of_unlearnt_labels(train: Iterable[str], held_out: Mapping[str, int]) -> None:
    """Says which labels only held-out examples have, and how many of them: they cannot be learnt."""
    known = set(train)
    some = [f"{label!r} ({count})" for label, count in held_out.items() if label not in known]
    if some:
        logging.warning(
            "--dev_share holds out all examples of %d labels, which cannot be learnt: %s",
            len(some),
            ", ".join(some[:10]) + (", ..." if len(some) > 10 else ""),
        )


def hold_out(
    examples: Sequence[Example], share: float, seed: int, group: Callable[[Example], str]
) -> tuple[list[Example], list[Example]]:
    """Divides examples into a part to train on and a part held out, for data without a dev file.

    Args:
        share: of the examples that are held out, at least; whole groups are taken until they are
            that many.
        seed: picks the groups. The same seed and names pick the same, on any machine.
        group: the name of an example's group, which is not divided: the article of a question, say.

    Returns:
        Both parts, each in the order of `examples`.

    Raises:
        UsageError: `share` is not between 0 and 1, or leaves nothing to train on.
    """
    if not 0 < share < 1:
        raise UsageError(f"the share to hold out must lie between 0 and 1, not {share}")
    names = [group(example) for example in examples]
    held_out, taken = set(), 0
    sizes = Counter(names)
    # Ordered by a hash, so that it does not depend on a random generator's version.
    for name in sorted(sizes, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest()):
        if taken >= share * len(examples):
            break
        held_out.add(name)
        taken += sizes[name]
    if len(held_out) == len(sizes):
        raise UsageError(
            f"holding out {share:.0%} of {len(sizes)} groups of examples leaves none to train on"
        )
    named = list(zip(names, examples, strict=True))
    return (
        [example for name, example in named if name not in held_out],
        [example for name, example in named if name in held_out],
    )
