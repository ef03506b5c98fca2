"""Turns a MediaWiki dump into plain text: one paragraph a line, a blank line between articles.

    python -m data_tools.extract_wikipedia --dump=enwiki-pages-articles.xml.bz2 --output=wiki.txt

Without --dump it reads the piece of the English Wikipedia that comes with gensim (106 articles,
about 2.5 MB of text), which is enough to try everything. Redirects, talk pages and other namespaces
are left out, as are tables, templates, references, lists, headings and the sections of links at the
end. The dump is read as a stream, so memory does not grow with it.
"""

import bz2
import importlib.util
import os
import sys
from collections.abc import Iterator
from typing import NamedTuple
from xml.etree import ElementTree

from absl import flags, logging

from data_tools import wikitext
from electra_keras.console import ProgressLine, UsageError, UserError, run_main
from electra_keras.files import is_stdout, whole_file

DUMP = flags.DEFINE_string("dump", None, "the dump, .xml.bz2; default: the piece within gensim")
OUTPUT = flags.DEFINE_string("output", None, "the text file to write")
MIN_ARTICLE_CHARACTERS = flags.DEFINE_integer(
    "min_article_characters", 500, "leave out articles with less prose than this"
)

_GENSIM_PIECE = "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
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


def extract(dump: str, output: str, min_characters: int) -> tuple[int, int, int]:
    """Writes the prose of all articles of a dump.

    Args:
        dump: path of the .xml.bz2 file.
        output: path of the text file; it appears when it is complete.
        min_characters: articles with less prose are left out.

    Returns:
        Articles written, articles left out as too short, characters written.
    """
    articles = short = characters = 0
    progress = ProgressLine(os.path.getsize(dump) / 1e6, "MB")
    with open(dump, "rb") as compressed, bz2.open(compressed) as xml, whole_file(output) as file:
        for article in read_articles(xml):
            lines = wikitext.paragraphs(article.markup, article.hidden_namespaces)
            size = sum(map(len, lines))
            if size < min_characters:
                short += 1
                continue
            text = ("\n" if articles else "") + "".join(line + "\n" for line in lines)
            file.write(text.encode("utf-8"))
            articles += 1
            characters += size
            progress.update(compressed.tell() / 1e6, f"{articles} articles")
        progress.clear()
        if not articles:
            raise UserError(f"{dump} holds no article of {min_characters} characters or more")
    return articles, short, characters


def main() -> int:
    """Extracts the text; see the module's docstring."""
    if not OUTPUT.value:
        raise UsageError("--output is required")
    dump = DUMP.value or default_dump()
    try:
        articles, short, characters = extract(dump, OUTPUT.value, MIN_ARTICLE_CHARACTERS.value)
    except EOFError as error:
        raise UserError(f"{dump} is truncated: download it again") from error
    except ElementTree.ParseError as error:
        raise UserError(f"{dump} is no complete MediaWiki XML dump: {error}") from error
    except OSError as error:
        # bz2 reports bad data as an OSError without a number.
        if error.errno is None:
            raise UserError(f"{dump} is no bzip2 file, or a damaged one: {error}") from error
        raise UserError(f"{error.filename or OUTPUT.value}: {error.strerror}") from error
    if short:
        logging.info("%d articles were shorter than --min_article_characters", short)
    print(
        f"{OUTPUT.value}: {articles:,} articles, {characters:,} characters",
        file=sys.stderr if is_stdout(OUTPUT.value) else sys.stdout,
    )
    return 0


if __name__ == "__main__":
    run_main(main)
