"""How files write tags: every common notation is read, and what is written is in that of the data.

Inside, tags are those of metrics/tagging.py: O, or B, I, E or S, a hyphen and a type. Labels that are no
tags of chunks, such as parts of speech, are "plain".
"""

import re
from collections.abc import Iterable, Sequence

from electra_keras.tasks.metrics.tagging import SCHEMES, chunks, convert_tags

PLAIN = "plain"
# The letters of BIOES in other schemes.
_LETTERS = {"BILOU": {"E": "L", "S": "U"}, "BMES": {"I": "M"}}
WRITTEN = (*SCHEMES, *_LETTERS)

# What the letters of all schemes mean; W is BMEWO's.
_MEANING = {
    "B": "B",
    "I": "I",
    "M": "I",
    "E": "E",
    "L": "E",
    "S": "S",
    "U": "S",
    "W": "S",
    "O": "O",
}
_LETTER = "(?P<letter>[BIMELSUWbimelsuw])"
_LETTER_FIRST = re.compile(rf"{_LETTER}([-_:](?P<type>.*))?")
_TYPE_FIRST = re.compile(rf"(?P<type>.+)[-_:]{_LETTER}")


def read_tags(tags: Iterable[str]) -> dict[str, str | None]:
    """Returns what each of a file's tags is in BIOES's letters; None where it is no tag.

    The letters are those of IOB, BIOES, BILOU and BMES, of either case, parted from the type by a
    hyphen, an underscore or a colon. They stand in front of the type, or in the whole file behind it.
    """
    read = {}
    for tag, parts in _split(tags).items():
        letter, kind = parts or (None, "")
        read[tag] = letter and _MEANING[letter] + (f"-{kind}" if kind else "")
    return read


def _split(tags: Iterable[str]) -> dict[str, tuple[str, str] | None]:
    """Returns each tag's letter, as a capital, and its type, which may be missing."""
    tags = list(tags)
    inside = [tag for tag in tags if tag.upper() != "O"]
    form = _LETTER_FIRST
    if not all(map(form.fullmatch, inside)) and all(map(_TYPE_FIRST.fullmatch, inside)):
        form = _TYPE_FIRST
    parts: dict[str, tuple[str, str] | None] = {}
    for tag in tags:
        match = form.fullmatch(tag)
        if tag.upper() == "O":
            parts[tag] = ("O", "")
        else:
            parts[tag] = match and (match["letter"].upper(), match["type"] or "")
    return parts


def find_scheme(sentences: Iterable[Sequence[str]]) -> str:
    """Returns which of `WRITTEN` a file is in.

    IOE1 and IOE2, which have no letter of their own, count as BIO: scorers read them alike.

    Args:
        sentences: the tags of each sentence as the file has them; `read_tags` knows them all.
    """
    sentences = list(sentences)
    tags = {tag for sentence in sentences for tag in sentence}
    letters = {parts[0] for parts in _split(tags).values() if parts} - {"O"}
    for scheme, own in _LETTERS.items():
        if letters & set(own.values()):
            return scheme
    if "S" in letters or letters >= {"B", "E"}:
        return "BIOES"
    # In IOB1 B only stands where a chunk follows one of its type. In BIO a chunk that begins with I is
    # a slip, and others begin with B.
    meanings = read_tags(tags)
    read = [[meanings[tag] for tag in sentence] for sentence in sentences]
    if letters and all(convert_tags(sentence, "IOB1") == sentence for sentence in read):
        return "IOB1"
    return "BIO"


def write_tags(tags: Sequence[str], scheme: str) -> list[str]:
    """Returns the tags of a sentence in one of `WRITTEN`.

    Raises:
        ValueError: a tag is unknown.
    """
    if scheme not in _LETTERS:
        return convert_tags(tags, scheme)
    letters = _LETTERS[scheme]
    return [letters.get(tag[0], tag[0]) + tag[1:] for tag in convert_tags(tags, "BIOES")]


def written_forms(scheme: str) -> list[str]:
    """Returns a tag's letter for each of its eight places in a chunk, for `words.written_tags`.

    The place is 4 where the tag is the first of its chunk, plus 2 where it is the last, plus 1 where a
    tag of its type stands in front of it.
    """
    names = {0: "I", 2: "E", 4: "B", 6: "S"}
    if scheme == "IOB1":
        return ["B" if place & 4 and place & 1 else "I" for place in range(8)]
    if scheme == "BIO":
        return ["B" if place & 4 else "I" for place in range(8)]
    letters = _LETTERS.get(scheme, {})
    return [letters.get(names[place & 6], names[place & 6]) for place in range(8)]


def is_tag(text: str) -> bool:
    """Whether a text is a tag as inside: O, or B, I, E or S, and perhaps a hyphen and a type."""
    try:
        chunks([text])
    except ValueError:
        return False
    return True
