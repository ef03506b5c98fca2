"""Tagged sentences in CoNLL's format: a word a line, columns, a blank line between sentences."""

import itertools
import re
from collections.abc import Sequence

from electra_keras.console import UserError
from electra_keras.tasks.data.examples import TaggedSentence
from electra_keras.tasks.data.files import read_lines
from electra_keras.tasks.metrics.tagging import chunks, convert_tags

EXTENSIONS = (".txt", ".conll", ".tsv")

_BLANKS = re.compile(r"[ \t]+")  # not \s: a word may hold a no-break space


def read_columns(
    path: str,
    word_column: int = 0,
    tag_column: int | None = -1,
    labels: Sequence[str] | None = None,
) -> list[TaggedSentence]:
    """Reads sentences.

    Args:
        word_column, tag_column: numbers from 0, or from -1 backwards; None for a file without tags.
        labels: as from `tag_labels`, to allow only tags of their types; None: whatever is there.

    Columns are parted by tabs in a line that has one, else by spaces. Lines that hold nothing but
    white space or a byte order mark count as blank. A word -DOCSTART- ends a sentence and is left
    out.

    Returns:
        The sentences, their ids counted from 0; words as they stand; tags, whether in IOB1, BIO or
        BIOES, in BIO.

    Raises:
        UserError: the file cannot be read or holds no sentence; a line has another number of columns
            than the first, too few for those asked for, no word, or an unknown tag.
    """
    sentences: list[TaggedSentence] = []
    words: list[str] = []
    tags: list[str] = []
    width = 0
    # The last sentence may lack its blank line.
    for number, line in itertools.chain(read_lines(path), [(0, "")]):
        line = line.strip(" \t\r")
        if not line.strip("\ufeff") or line.startswith("-DOCSTART-"):
            if words:
                converted = None if tag_column is None else tuple(convert_tags(tags, "BIO"))
                sentences.append(TaggedSentence(str(len(sentences)), tuple(words), converted))
            words, tags = [], []
            continue
        fields = line.split("\t") if "\t" in line else _BLANKS.split(line)
        where = f"{path}, line {number}"
        width = width or len(fields)
        if len(fields) != width:
            raise UserError(f"{where}: {len(fields)} columns, but the first line has {width}")
        for column in (word_column, tag_column):
            if column is not None and not -width <= column < width:
                raise UserError(f"{where}: no column {column}, there are {width}, counted from 0")
        if not fields[word_column]:
            raise UserError(f"{where}: the word is empty")
        words.append(fields[word_column])
        if tag_column is not None:
            tags.append(fields[tag_column])
            _check_tag(tags[-1], labels, where)
    if not sentences:
        raise UserError(f"{path} holds no sentences")
    return sentences


def tag_labels(sentences: Sequence[TaggedSentence]) -> list[str]:
    """Returns the list of labels of a task: O, then B and I of every type found, sorted.

    Both, also where only one was found: a type whose chunks were all of one word may have longer ones
    elsewhere (LST of CoNLL-2000 does).
    """
    tags = {tag for sentence in sentences for tag in sentence.tags or ()} - {"O"}
    kinds = sorted({tag[1:] for tag in tags})  # with the hyphen; the type may be missing, too
    return ["O"] + [prefix + kind for kind in kinds for prefix in "BI"]


def _check_tag(tag: str, labels: Sequence[str] | None, where: str) -> None:
    try:
        chunks([tag])
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error
    if labels is not None and tag != "O" and "B" + tag[1:] not in labels:
        raise UserError(f"{where}: unknown tag {tag!r}; the tags are {', '.join(labels)}")
