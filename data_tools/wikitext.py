"""MediaWiki markup to prose: paragraphs of an article, without tables, templates, lists and links.

The markup nests, so what nests is removed from the inside out. What remains is kept as written,
case and punctuation included. Small regular expressions rather than gensim's `filter_wiki`, which
keeps image captions, table cells and list items as if they were prose.
"""

import html
import re
from collections.abc import Callable, Iterator, Set

# Elements whose content is no prose.
_ELEMENTS = (
    "ref|math|gallery|timeline|syntaxhighlight|source|code|pre|score|imagemap|table|chem|hiero|"
    "nowiki|div|poem|references|ce|graph|mapframe|templatestyles"
)
_COMMENT = re.compile(r"<!--.*?(-->|\Z)", re.DOTALL)
_EMPTY_ELEMENT = re.compile(r"<(?:ref|references)\b[^<>]*/>", re.IGNORECASE)
_ELEMENT = re.compile(rf"<({_ELEMENTS})\b[^<>]*(?<!/)>.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_BREAK = re.compile(r"<br\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
# Innermost braces: templates, template parameters and tables.
_TEMPLATE = re.compile(r"\{\{(?!\|)[^{}]*\}\}|\{\{\{[^{}]*\}\}\}")
_TABLE = re.compile(r"^[ :*]*\{\|(?:(?!^[ :*]*\{\|).)*?^\s*\|\}", re.DOTALL | re.MULTILINE)
_CONVERT = re.compile(r"\{\{(?:convert|cvt)\|([^{}|]+)\|([^{}|]+)[^{}]*\}\}", re.IGNORECASE)
_DASH = re.compile(r"\s*\{\{(?:spaced ?)?(?:en|em)?(?:dash|ndash|mdash|snd)\}\}\s*", re.IGNORECASE)
# Templates that show one of their arguments: {{lang|grc|text}}, {{lang-el|text}}, {{nowrap|text}}.
_SHOWN_ARGUMENT = re.compile(
    r"\{\{\s*(?:(?:lang|transl|transliteration)\s*\|[^{}|]*\||(?:lang-\w+|nowrap|nobr|nihongo)\s*\|)"
    r"([^{}|]*)(?:\|[^{}]*)?\}\}",
    re.IGNORECASE,
)
_CIRCA = re.compile(r"\{\{\s*(?:circa|c\.)\s*\|([^{}|]*)[^{}]*\}\}", re.IGNORECASE)
# Without another link inside; single brackets may be.
_INNER_LINK = re.compile(r"\[\[((?:[^\[\]]|\[(?!\[)|\](?!\]))*)\]\]")
# Namespaces whose links show no text, by their English names; a dump tells its own language's.
HIDDEN_NAMESPACES = frozenset({"file", "image", "media", "category"})
# Languages, as in "[[de:Titel]]", come as two or three letters, perhaps with a variant.
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(?:-[a-z-]+)?")
_EXTERNAL_LINK = re.compile(r"\[(?:https?:|ftp:|mailto:|news:)?//[^\s\]]*\s*([^\]]*)\]")
_BARE_URL = re.compile(r"\b(?:https?|ftp)://\S+")
_HEADING = re.compile(r"^\s*=+[^=\n].*?=+\s*$", re.MULTILINE)
_QUOTES = re.compile(r"'{2,5}")
_MAGIC_WORD = re.compile(r"__[A-Z]+__")
# Brackets that held nothing but a template: "( ; )", "()", "(, born 1900)".
_EMPTY_BRACKETS = re.compile(r"\s*[(\[][\s,;:]*[)\]]")
_LEADING_IN_BRACKETS = re.compile(r"\((?:\s+|\s*(?:[,;:]\s*)+)")
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?)])(?=\s|$|\))")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200b\u202f]+")
_REDIRECT = re.compile(r"\s*#\s*\w+\s*:?\s*\[\[", re.UNICODE)
# Sections of lists and links, and all that follows them: English articles end with these.
_FINAL_SECTIONS = re.compile(
    r"^==\s*(?:see also|references|notes|footnotes|external links|further reading|bibliography|"
    r"sources|notes and references|citations)\s*==\s*$",
    re.IGNORECASE | re.MULTILINE,
)


def is_redirect(text: str) -> bool:
    """Tells a redirect ("#REDIRECT [[Target]]", in any language) from an article."""
    return bool(_REDIRECT.match(text))


def paragraphs(text: str, hidden_namespaces: Set[str] = HIDDEN_NAMESPACES) -> list[str]:
    """Returns the prose paragraphs of an article's wikitext, in order.

    Args:
        text: the wikitext.
        hidden_namespaces: names, in lower case, of the namespaces of files and categories: links
            to them are no text.
    """
    text = _COMMENT.sub("", html.unescape(text))
    final = _FINAL_SECTIONS.search(text)
    if final:
        text = text[: final.start()]
    text = _EMPTY_ELEMENT.sub("", text)
    text = _until_stable(_ELEMENT, text)
    text = _BREAK.sub(" ", text)
    text = _CONVERT.sub(r"\1 \2", text)
    text = _DASH.sub(" – ", text)
    text = _CIRCA.sub(r"c. \1", text)
    text = _until_stable(_SHOWN_ARGUMENT, text, r"\1")
    text = _until_stable(_TEMPLATE, text)
    text = _until_stable(_TABLE, text)
    text = _EXTERNAL_LINK.sub(r"\1", text)

    def shown(link: re.Match) -> str:
        return _link_text(link[1], hidden_namespaces)

    text = _until_stable(_INNER_LINK, text, shown)
    text = _BARE_URL.sub("", text)
    text = _HEADING.sub("\n", text)
    text = _MAGIC_WORD.sub("", _QUOTES.sub("", _TAG.sub("", text)))
    return [paragraph for paragraph in map(_tidy, _joined(text)) if paragraph]


def _until_stable(
    pattern: re.Pattern, text: str, replacement: str | Callable[[re.Match], str] = ""
) -> str:
    """Replaces again and again, as every pass lays open what contained the last one's matches."""
    count = 1
    while count:
        text, count = pattern.subn(replacement, text)
    return text


def _link_text(link: str, hidden_namespaces: Set[str]) -> str:
    """Returns what "[[Target|shown]]" or "[[shown]]" shows: nothing for files and categories."""
    namespace = link.split(":", 1)[0].strip()
    if ":" in link and (
        namespace.lower() in hidden_namespaces or _LANGUAGE_LINK.fullmatch(namespace)
    ):
        return ""
    # "[[:Category:X|shown]]" is a link to the category, and shows.
    return link.removeprefix(":").rsplit("|", 1)[-1]


def _joined(text: str) -> Iterator[str]:
    """Yields paragraphs: lines in a row, as only a blank line or other markup ends a paragraph."""
    lines: list[str] = []
    for line in text.split("\n"):
        # Lists and indents; and the rows and arguments of tables and templates whose braces did
        # not match.
        if line.strip() and line[0] not in "*#:;" and line.lstrip()[0] not in "|!{}":
            lines.append(line.strip())
        elif lines:
            yield " ".join(lines)
            lines = []
    if lines:
        yield " ".join(lines)


def _tidy(line: str) -> str:
    """Returns a paragraph without what removed markup left behind, or "" if it is no sentence."""
    line = _SPACES.sub(" ", line)
    line = _EMPTY_BRACKETS.sub("", line)
    line = _LEADING_IN_BRACKETS.sub("(", line)
    line = _SPACE_BEFORE_MARK.sub(r"\1", line)
    line = line.replace("[[", "").replace("]]", "").strip()
    # A paragraph holds a sentence; what is shorter is a caption, a label or a remnant.
    if len(line) < 30 or not any(mark in line for mark in ".!?。！？।"):
        return ""
    return line
