"""Turns a MediaWiki dump into plain text: one paragraph a line, a blank line between articles.

    python -m data_tools.extract_wikipedia --dump=enwiki-pages-articles.xml.bz2 --output=wiki.txt

Without --dump it reads the piece of the English Wikipedia that comes with gensim (106 articles,
about 2.5 MB of text), which is enough to try everything. Redirects, talk pages and other namespaces
are left out, as are tables, templates, references, lists, headings and the sections of links at the
end. A sentence that lost a template in its midst (a number, a date) is left out too; the last line
on stderr says how much that was. The dump is read as a stream, so memory does not grow with it.
"""

import bz2
import collections
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

from absl import flags, logging

from data_tools import sentences, wikitext
from electra_keras.console import ProgressLine, UsageError, UserError, run_main
from electra_keras.files import is_stdout, whole_file

DUMP = flags.DEFINE_string("dump", None, "the dump, .xml.bz2; default: the piece within gensim")
OUTPUT = flags.DEFINE_string("output", None, "the text file to write")
MIN_ARTICLE_CHARACTERS = flags.DEFINE_integer(
    "min_article_characters",
    500,
    "leave out articles with less prose than this; a Chinese, Japanese or Korean character counts "
    "as three letters",
)

_GENSIM_PIECE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
# Above this share of left-out characters something is wrong with the rules for the language.
_MANY_LEFT_OUT = 0.1
# Media, File, Category: the same numbers in every wiki.
_HIDDEN_NAMESPACE_KEYS = ("-2", "6", "14")


def default_dump() -> str:
    """Returns the path of the dump that gensim's wheel brings along."""
    # Not gensim.test.utils.datapath: importing that trains a model.
    gensim = importlib.util.find_spec("gensim")
    if gensim is None or gensim.origin is None:
        raise UserError(
            "gensim, which holds the default dump, is not installed: pip install gensim, or name "
            "a dump with --dump"
        )
    return os.path.join(os.path.dirname(gensim.origin), "test", "test_data", _GENSIM_PIECE)


class Article(NamedTuple):
    """An article of a dump, and the names of its wiki's namespaces whose links show no text."""

    title: str
    markup: str
    hidden_namespaces: frozenset[str]


def read_articles(xml: bz2.BZ2File) -> Iterator[Article]:
    """Yields every article: pages of namespace 0 that are no redirects."""
    events = ElementTree.iterparse(xml, events=("start", "end"))
    _, root = next(events)
    # All tags carry the export format's version: "{http://www.mediawiki.org/xml/export-0.10/}page".
    prefix = root.tag.removesuffix("mediawiki")
    hidden = wikitext.HIDDEN_NAMESPACES
    for event, element in events:
        if event != "end":
            continue
        if element.tag == f"{prefix}namespace" and element.get("key") in _HIDDEN_NAMESPACE_KEYS:
            hidden |= {(element.text or "").lower()}
        if element.tag != f"{prefix}page":
            continue
        text = element.findtext(f"{prefix}revision/{prefix}text") or ""
        is_article = element.findtext(f"{prefix}ns", "0") == "0"
        redirect = element.find(f"{prefix}redirect") is not None or wikitext.is_redirect(text)
        if is_article and not redirect:
            yield Article(element.findtext(f"{prefix}title") or "", text, hidden)
        # The page and the root's reference to it: else the tree would grow with the dump.
        root.clear()


def extract(dump: str, output: str, min_characters: int) -> collections.Counter[str]:
    """Writes the prose of all articles of a dump.

    Args:
        dump: path of the .xml.bz2 file.
        output: path of the text file; it appears when it is complete.
        min_characters: articles with less prose are left out; see `sentences.weight`.

    Returns:
        Counts of "articles" and "characters" written, of articles too "short", and of what
        `wikitext.paragraphs` left out.
    """
    counts = collections.Counter()
    longest = 0
    progress = ProgressLine(os.path.getsize(dump) / 1e6, "MB")
    with open(dump, "rb") as compressed, bz2.open(compressed) as xml, whole_file(output) as file:
        for article in read_articles(xml):
            lines = wikitext.paragraphs(article.markup, article.hidden_namespaces, counts)
            weight = sum(map(sentences.weight, lines))
            longest = max(longest, weight)
            if not lines or weight < min_characters:
                counts["short"] += 1
                counts["short characters"] += sum(map(len, lines))
                continue
            text = ("\n" if counts["articles"] else "") + "".join(line + "\n" for line in lines)
            file.write(text.encode("utf-8"))
            counts["articles"] += 1
            counts["characters"] += sum(map(len, lines))
            progress.update(compressed.tell() / 1e6, f"{counts['articles']} articles")
        progress.clear()
        if not counts["articles"]:
            _report_left_out(counts)
            raise UserError(
                f"{dump} holds no article of {min_characters} characters or more: of its "
                f"{counts['short']} articles the longest counts {longest}; see "
                "--min_article_characters"
            )
    return counts


def _report_left_out(counts: collections.Counter[str]) -> None:
    """Logs what was left out; a warning where that is much."""
    left_out = counts["sentence characters"] + counts["paragraph characters"]
    found = counts["characters"] + counts["short characters"] + left_out
    share = left_out / max(1, found)
    log = logging.warning if share > _MANY_LEFT_OUT else logging.info
    log(
        "left out: %s templates; %s sentences that lost one in their midst (%s characters); %s "
        "paragraphs too short or without the end of a sentence (%s characters); %.1f %% of the "
        "characters in all",
        *(
            f"{counts[key]:,}"
            for key in (
                "templates",
                "sentences",
                "sentence characters",
                "paragraphs",
                "paragraph characters",
            )
        ),
        100 * share,
    )


def main() -> int:
    """Extracts the text; see the module's docstring."""
    if not OUTPUT.value:
        raise UsageError("--output is required")
    dump = DUMP.value or default_dump()
    try:
        counts = extract(dump, OUTPUT.value, MIN_ARTICLE_CHARACTERS.value)
    except EOFError as error:
        raise UserError(f"{dump} is truncated: download it again") from error
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        # The latter two: an encoding that the XML declares and that cannot be read.
        raise UserError(f"{dump} is no complete MediaWiki XML dump: {error}") from error
    except OSError as error:
        # bz2 reports bad data as an OSError without a number.
        if error.errno is None:
            raise UserError(f"{dump} is no bzip2 file, or a damaged one: {error}") from error
        raise UserError(f"{error.filename or OUTPUT.value}: {error.strerror}") from error
    if counts["short"]:
        logging.info("%d articles were shorter than --min_article_characters", counts["short"])
    _report_left_out(counts)
    print(
        f"{OUTPUT.value}: {counts['articles']:,} articles, {counts['characters']:,} characters",
        file=sys.stderr if is_stdout(OUTPUT.value) else sys.stdout,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
