"""Tagged sentences in CoNLL's format: a word a line, columns, a blank line between sentences."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from electra_keras.console import UserError
from electra_keras.tasks.data.examples import TaggedSentence, warn_of_unknown_labels
from electra_keras.tasks.data.files import read_lines, warn_once
from electra_keras.tasks.metrics.tagging import convert_tags
from electra_keras.tasks.schemes import PLAIN, find_scheme, read_tags

EXTENSIONS = (".txt", ".conll", ".tsv")

_BLANKS = re.compile(r"[ \t]+")  # not \s: a word may hold a no-break space
_NEW_DOCUMENT = "-DOCSTART-"
_NO_WORD = re.compile(r"\d+[-.]\d+")  # CoNLL-U: 1-2, of a token that is two words; 1.1, left out


class _Row(NamedTuple):
    """A word's line: its number in the file, its first column, the word, and the tag or ""."""

    line: int
    first: str
    word: str
    tag: str


def read_columns(
    path: str,
    word_column: int = 0,
    tag_column: int | None = -1,
    labels: Sequence[str] | None = None,
    plain: bool = False,
) -> list[TaggedSentence]:
    """Reads sentences.

    Args:
        word_column, tag_column: numbers from 0, or from -1 backwards; None for a file without tags.
        labels: as from `tag_labels`, of a model: tags of other types are warned of; None: whatever is
            there.
        plain: the tags are labels of words, such as parts of speech, and stay as they are.

    Columns are parted by tabs in a line that has one, else by spaces. Lines that hold nothing but
    white space or a byte order mark count as blank. A line with -DOCSTART- ends a sentence and is left
    out. So are, at the beginning of a sentence, lines that begin with # and are none of words
    (GermEval's, CoNLL-U's), and CoNLL-U's lines of tokens that are several words, or none.

    Returns:
        The sentences, their ids counted from 0; words as they stand; tags, whatever the scheme they
        are written in (see `schemes.read_tags`), in BIO.

    Raises:
        UserError: the file cannot be read or holds no sentence; a line has another number of columns
            than the first, too few for those asked for, no word, or an unknown tag; or none of the tags
            is one of `labels`.
    """
    sentences = list(_read_rows(path, word_column, tag_column))
    if not sentences:
        raise UserError(f"{path} holds no sentences")
    words = [tuple(row.word for row in rows) for rows in sentences]
    if tag_column is None:
        return [TaggedSentence(str(i), of_sentence) for i, of_sentence in enumerate(words)]
    found = [tuple(row.tag for row in rows) for rows in sentences]
    lines = {row.tag: row.line for rows in reversed(sentences) for row in reversed(rows)}
    meanings = {tag: tag for tag in lines} if plain else read_tags(lines)
    _check_tags(meanings, lines, path)
    if labels is not None:
        _warn_of_unknown(
            Counter(tag for row in found for tag in row), meanings, labels, plain, path
        )
    if plain:
        scheme, tags = PLAIN, found
    else:
        scheme = find_scheme(found)
        tags = [tuple(convert_tags([meanings[tag] for tag in row], "BIO")) for row in found]
    return [
        TaggedSentence(str(i), *of_sentence, scheme)
        for i, of_sentence in enumerate(zip(words, tags, strict=True))
    ]


def tag_labels(sentences: Sequence[TaggedSentence]) -> list[str]:
    """Returns the list of labels of a task: O, then B and I of every type found, sorted.

    Both, also where only one was found: a type whose chunks were all of one word may have longer ones
    elsewhere (LST of CoNLL-2000 does). Plain labels are those found, sorted.
    """
    tags = {tag for sentence in sentences for tag in sentence.tags or ()}
    if sentences[0].scheme == PLAIN:
        return sorted(tags)
    kinds = sorted({tag[1:] for tag in tags - {"O"}})  # with the hyphen; or both may be missing
    return ["O"] + [prefix + kind for kind in kinds for prefix in "BI"]


def _read_rows(path: str, word_column: int, tag_column: int | None) -> Iterator[list[_Row]]:
    """Yields the lines of each sentence's words."""
    lines = ((number, *_fields(line)) for number, line in read_lines(path))
    # What is no comment tells what a line of words looks like.
    head, tabbed, first = [], False, []
    for line in lines:
        head.append(line)
        if not _ends(line[2]) and not line[2][0].startswith("#"):
            _, tabbed, first = line
            break
    rows: list[_Row] = []
    comments: list[int] = []
    width = 0
    for number, has_tabs, fields in itertools.chain(head, lines):
        if _ends(fields):
            yield from _sentence(rows)
            rows = []
            continue
        if fields[0].startswith("#") and not rows and first:
            is_setting = fields[0] == "#" and fields[2:3] == ["="]  # CoNLL-U: `# sent_id = 1`
            if is_setting or len(fields) != len(first) or (tabbed and not has_tabs):
                comments.append(number)
                continue
        where = f"{path}, line {number}"
        width = width or len(fields)
        if len(fields) != width:
            raise UserError(f"{where}: {len(fields)} columns, but the first line has {width}")
        for column in (word_column, tag_column):
            if column is not None and not -width <= column < width:
                raise UserError(f"{where}: no column {column}, there are {width}, counted from 0")
        word, tag = fields[word_column], "" if tag_column is None else fields[tag_column]
        if not word.strip(" "):
            raise UserError(f"{where}: the word is empty")
        rows.append(_Row(number, fields[0], word, tag))
    yield from _sentence(rows)  # the last one may lack its blank line
    if comments:
        warn_once(
            f"{path}: {len(comments)} lines that begin with # are taken for comments, the first is "
            f"line {comments[0]}"
        )


def _fields(line: str) -> tuple[bool, list[str]]:
    """Returns whether tabs part a line's columns, and the columns; a blank line has none."""
    # Files that were joined have the mark of each in the middle.
    line = line.lstrip("\ufeff").strip(" \r").rstrip(" \t\r")
    if not line.replace("\ufeff", "").strip():
        return False, []
    return "\t" in line, line.split("\t") if "\t" in line else _BLANKS.split(line)


def _ends(fields: list[str]) -> bool:
    """Whether a line ends a sentence: a blank one, or that of a new document."""
    return not fields or any(field.startswith(_NEW_DOCUMENT) for field in fields)


def _sentence(rows: list[_Row]) -> list[list[_Row]]:
    """Returns a list of the sentence, without lines that CoNLL-U has beside those of words; or []."""
    numbered = [row for row in rows if row.first.isdecimal()]
    others = [row.first for row in rows if not row.first.isdecimal()]
    if (
        others
        and all(map(_NO_WORD.fullmatch, others))
        and [row.first for row in numbered] == list(map(str, range(1, len(numbered) + 1)))
        and any(row.first != row.word for row in rows)  # the first column is not the words'
    ):
        rows = numbered
    return [rows] if rows else []


def _check_tags(meanings: dict[str, str | None], lines: dict[str, int], path: str) -> None:
    """Checks that a file's tags are some, given what they mean and the first line of each."""
    for tag in sorted(meanings, key=lines.__getitem__):
        if meanings[tag] is None:
            raise UserError(
                f"{path}, line {lines[tag]}: unknown tag {tag!r}: expected O, or B-, I-, E- or S- and a "
                "type (BILOU, BMES and the type in front are read, too); labels that are no such tags, "
                "as parts of speech: --tag_scheme=plain"
            )


def _warn_of_unknown(
    counts: Counter[str],
    meanings: dict[str, str | None],
    labels: Sequence[str],
    plain: bool,
    path: str,
) -> None:
    """Warns of the tags that a model does not know, of how many words each is."""

    def is_known(tag: str) -> bool:
        meaning = meanings[tag]
        return meaning in labels or (not plain and "B" + meaning[1:] in labels)

    unknown = {tag: counts[tag] for tag in sorted(counts) if not is_known(tag)}
    if len(unknown) == len(counts):
        raise UserError(
            f"{path}: no tag is one of the model's, as {min(unknown)!r}; the tags are "
            f"{', '.join(labels)}"
        )
    warn_of_unknown_labels(path, unknown, counts.total(), "words have a tag")
