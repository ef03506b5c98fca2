"""Tagging: chunks (entities) in tag sequences, their scores as conlleval.pl's, tagging schemes.

A tag is O, outside of every chunk, or B, I, E or S, a hyphen and the type of a chunk; the type is all
that stands behind the first hyphen, and may be missing together with it.
"""

from collections import Counter
from collections.abc import Sequence

SCHEMES = ("IOB1", "BIO", "BIOES")

# Type, first token, and the token behind the last.
Chunk = tuple[str, int, int]


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """Returns the chunks of a sentence, in order.

    The rules are those of conlleval.pl (Tjong Kim Sang, version of 2004-01-26), which read IOB1, BIO
    (IOB2), IOE1 and IOE2 alike and make something of every sequence: a chunk goes on with I or E of
    the same type behind B or I, and everything else but O begins a new one. That reads BIOES, too.
    (The script knows no S and no B behind E, and would join two such chunks of one type.)

    Raises:
        ValueError: a tag has another form.
    """
    found = []
    start, last_prefix, last_type = 0, "O", ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        if tag != "O" and prefix not in ("B", "I", "E", "S"):
            raise ValueError(f"unknown tag {tag!r}: expected O, or B-, I-, E- or S- and a type")
        goes_on = prefix in ("I", "E") and last_prefix in ("B", "I") and kind == last_type
        if not goes_on:
            if last_prefix != "O":
                found.append((last_type, start, position))
            start = position
        last_prefix, last_type = prefix, kind
    return found


def convert_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """Returns the tags of a sentence, whatever their scheme, in another one.

    Args:
        tags: as `chunks` reads them.
        scheme: "IOB1", B only where a chunk follows one of its type; "BIO", B at every start; or
            "BIOES", also E at every end, and S for chunks of one token.

    Raises:
        ValueError: there is no such scheme, or a tag is unknown.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown tagging scheme {scheme!r}: choose from {', '.join(SCHEMES)}")
    converted = ["O"] * len(tags)
    last_kind, last_end = "", -1
    for kind, start, end in chunks(tags):
        prefixes = ["I"] * (end - start)
        if scheme != "IOB1" or (kind, start) == (last_kind, last_end):
            prefixes[0] = "B"
        if scheme == "BIOES":
            prefixes[-1] = "E" if end - start > 1 else "S"
        converted[start:end] = [f"{prefix}-{kind}" if kind else prefix for prefix in prefixes]
        last_kind, last_end = kind, end
    return converted


def evaluate_tags(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Scores predicted tags as conlleval.pl does.

    Args:
        gold, predicted: tags of the same sentences, in any scheme that `chunks` reads.

    Returns:
        `accuracy`, the share of tokens with the very same tag (so, unlike the others, it depends on the
        scheme; nan without tokens); `precision`, `recall` and `f1` of the chunks, right if type, start
        and end are; all in percent; 0 for 0 / 0. `gold`, `predicted`, `correct`: numbers of chunks.

    Raises:
        ValueError: the sentences differ in number or in length, or a tag is unknown.
    """
    gold_chunks, predicted_chunks = _chunk_sets(gold, predicted)
    pairs = [pair for tags in zip(gold, predicted, strict=True) for pair in zip(*tags, strict=True)]
    right = sum(a == b for a, b in pairs)
    accuracy = 100.0 * right / len(pairs) if pairs else float("nan")
    return {"accuracy": accuracy} | _scores(gold_chunks, predicted_chunks)


def evaluate_labels(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Scores labels of words that are no tags of chunks, such as parts of speech.

    Args:
        gold, predicted: labels of the same sentences.

    Returns:
        `accuracy`, the share of words with the right label, and `macro_f1`, the mean over the labels
        in `gold` or `predicted` of each one's F1; in percent, nan without words.

    Raises:
        ValueError: the sentences differ in number or in length.
    """
    _check_lengths(gold, predicted)
    pairs = Counter(
        pair for tags in zip(gold, predicted, strict=True) for pair in zip(*tags, strict=True)
    )
    labels = {label for pair in pairs for label in pair}
    if not pairs:
        return {"accuracy": float("nan"), "macro_f1": float("nan")}
    right = {label: pairs[label, label] for label in labels}
    either: Counter[str] = Counter()
    for pair, number in pairs.items():
        for label in pair:
            either[label] += number
    return {
        "accuracy": 100.0 * sum(right.values()) / pairs.total(),
        "macro_f1": 100.0 * sum(2 * right[label] / either[label] for label in labels) / len(labels),
    }


def evaluate_tags_by_type(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Scores each type of chunk by itself: type -> as `evaluate_tags`, without accuracy; sorted."""
    gold_chunks, predicted_chunks = _chunk_sets(gold, predicted)
    return {
        kind: _scores(
            {chunk for chunk in gold_chunks if chunk[1] == kind},
            {chunk for chunk in predicted_chunks if chunk[1] == kind},
        )
        for kind in sorted({chunk[1] for chunk in gold_chunks | predicted_chunks})
    }


def _chunk_sets(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> tuple[set, set]:
    """The chunks of all sentences as (sentence, type, start, end)."""
    _check_lengths(gold, predicted)
    gold_chunks, predicted_chunks = set(), set()
    for index, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True)):
        gold_chunks |= {(index, *chunk) for chunk in chunks(gold_tags)}
        predicted_chunks |= {(index, *chunk) for chunk in chunks(predicted_tags)}
    return gold_chunks, predicted_chunks


def _check_lengths(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} sentences with gold tags, but {len(predicted)} predicted")
    for number, (gold_tags, predicted_tags) in enumerate(zip(gold, predicted, strict=True), 1):
        if len(gold_tags) != len(predicted_tags):
            raise ValueError(
                f"sentence {number} has {len(gold_tags)} gold tags, "
                f"but {len(predicted_tags)} predicted ones"
            )


def _scores(gold: set, predicted: set) -> dict[str, float]:
    correct = len(gold & predicted)
    precision = 100.0 * correct / len(predicted) if predicted else 0.0
    recall = 100.0 * correct / len(gold) if gold else 0.0
    f1 = 2 * precision * recall / (precision + recall) if correct else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "gold": len(gold),
        "predicted": len(predicted),
        "correct": correct,
    }
