"""MediaWiki markup to prose: paragraphs of an article, without tables, templates, lists and links.

The markup nests, so what nests is read with a stack, in one pass. What remains is kept as written,
case and punctuation included. Small scanners rather than gensim's `filter_wiki`, which keeps image
captions, table cells and list items as if they were prose.

Anybody can edit a wiki, so no page may take more time than its length accounts for: no pattern here
looks at a character again and again from different starts (`++` and `*+` never give back).
"""

import bisect
import collections
import html
import re
from collections.abc import Callable, Iterator, Set

from data_tools import sentences, wikitemplates

# Stands where something was cut that may have been a word of a sentence. No XML holds it.
_GAP = "\x01"
# MediaWiki expands templates no deeper than that. It also bounds how often a text is copied.
_MAX_DEPTH = 40
# Elements whose content is no prose.
_ELEMENTS = (
    "ref|math|gallery|timeline|syntaxhighlight|source|code|pre|score|imagemap|table|chem|hiero|"
    "nowiki|div|poem|references|ce|graph|mapframe|templatestyles"
)
# Elements that may stand for a word.
_INLINE_ELEMENTS = frozenset({"math", "chem", "ce", "hiero", "code", "nowiki"})
# Python refuses to read so long a number, and no character has it.
_LONG_REFERENCE = re.compile(r"&#(?:\d{10,}+|[xX][0-9a-fA-F]{9,}+);?")
_COMMENT = re.compile(r"<!--.*?(-->|\Z)", re.DOTALL)
_EMPTY_ELEMENT = re.compile(r"<(?:ref|references)\b[^<>]*/>", re.IGNORECASE)
_ELEMENT_START = re.compile(rf"<({_ELEMENTS})\b[^<>]*(?<!/)>", re.IGNORECASE)
_ELEMENT_END = re.compile(rf"</({_ELEMENTS})\s*+>", re.IGNORECASE)
_BREAK = re.compile(r"<br\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BRACES = re.compile(r"\{\{++|\}\}++")
_TABLE_EDGE = re.compile(rf"^(?:[ :*{_GAP}]*+(\{{\|)|[^\S\n]*+{_GAP}*+\|\}})", re.MULTILINE)
_LINK_EDGE = re.compile(r"\[\[|\]\]")
# Namespaces whose links show no text, by their English names; a dump tells its own language's.
HIDDEN_NAMESPACES = frozenset({"file", "image", "media", "category"})
# Languages, as in "[[de:Titel]]", come as two or three letters, perhaps with a variant.
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(?:-[a-z-]+)?")
_EXTERNAL_LINK_START = re.compile(r"\[(?:https?:|ftp:|mailto:|news:)?//[^\s\]]*+\s*+")
_BARE_URL = re.compile(r"\b(?:https?|ftp)://\S+")
_QUOTES = re.compile(r"'{2,5}")
_MAGIC_WORD = re.compile(r"__[A-Z]+__")
# Brackets that held nothing but a template: "( ; )", "()", "(, born 1900)".
_EMPTY_BRACKETS = re.compile(r"(?<!\s)\s*+[(\[][\s,;:]*+[)\]]")
_LEADING_IN_BRACKETS = re.compile(r"\((?:\s++|\s*+(?:[,;:]\s*+)++)")
_SPACE_BEFORE_MARK = re.compile(r"(?<!\s)\s++([,.;:!?)])(?=\s|$|\))")
_SPACES = re.compile(r"[ \t\u00a0\u2000-\u200b\u202f]+")
_REDIRECT = re.compile(r"\s*+#\s*+\w++\s*+:?+\s*+\[\[")
_BRACKETS = re.compile(r"[(（][^()（）]*+[)）]")
_GAPS = re.compile(rf" ?{_GAP}[{_GAP} ]*+")
# Behind these a gap held a number or a word, though no space stands between.
_WANTS_MORE = frozenset("$€£¥₹±~−–—-/+=<≈“„«‘\"'")
# Sections of lists and links, and all that follows them: English articles end with these.
_FINAL_SECTIONS = re.compile(
    r"^==\s*+(?:see also|references|notes|footnotes|external links|further reading|bibliography|"
    r"sources|notes and references|citations)\s*+==[^\S\n]*+$",
    re.IGNORECASE | re.MULTILINE,
)
# A paragraph holds a sentence; what is shorter is a caption, a label or a remnant.
_MIN_WEIGHT = 30


def is_redirect(text: str) -> bool:
    """Tells a redirect ("#REDIRECT [[Target]]", in any language) from an article."""
    return bool(_REDIRECT.match(text))


def paragraphs(
    text: str,
    hidden_namespaces: Set[str] = HIDDEN_NAMESPACES,
    counts: collections.Counter[str] | None = None,
) -> list[str]:
    """Returns the prose paragraphs of an article's wikitext, in order.

    A template that stood for a word of a sentence and whose text is not known takes the sentence
    with it. The time is linear in the text's length.

    Args:
        text: the wikitext.
        hidden_namespaces: names, in lower case, of the namespaces of files and categories: links
            to them are no text.
        counts: where to add what was left out: "templates"; "sentences" that lost one in their
            midst and "sentence characters"; "paragraphs" without a sentence and "paragraph
            characters".
    """
    counts = collections.Counter() if counts is None else counts
    text = html.unescape(_LONG_REFERENCE.sub("\ufffd", text)).replace(_GAP, "")
    text = _COMMENT.sub("", text)
    final = _FINAL_SECTIONS.search(text)
    if final:
        text = text[: final.start()]
    text = _without_elements(_EMPTY_ELEMENT.sub("", text))
    text = _BREAK.sub(" ", text)

    def shown(template: str) -> str:
        found = wikitemplates.shown(template)
        if not found:
            counts["templates"] += 1
        return _GAP if found is None else found

    text = _without_tables(_expand_templates(text, shown))
    text = _show_external_links(text)
    text = _show_links(text, hidden_namespaces)
    text = _BARE_URL.sub("", text)
    text = _MAGIC_WORD.sub("", _QUOTES.sub("", _TAG.sub("", text)))
    return [paragraph for line in _joined(text) if (paragraph := _tidy(line, counts))]


def _without_elements(text: str) -> str:
    """Cuts the elements that hold no prose, each with all up to the next end tag of its name."""
    ends = collections.defaultdict(list)
    for end in _ELEMENT_END.finditer(text):
        ends[end[1].lower()].append(end.span())
    kept, copied, position = [], 0, 0
    while start := _ELEMENT_START.search(text, position):
        name, position = start[1].lower(), start.end()
        following = bisect.bisect_left(ends[name], (position,))
        if following < len(ends[name]):
            position = ends[name][following][1]
            kept += [text[copied : start.start()], _GAP if name in _INLINE_ELEMENTS else ""]
            copied = position
    return "".join([*kept, text[copied:]])


def _expand_templates(text: str, shown: Callable[[str], str]) -> str:
    """Replaces "{{template}}" by what it shows and "{{{parameter}}}" by nothing, inmost first.

    Braces pair as in MediaWiki: a run of them closes as much of the last open run as it can.
    """
    # Open runs: how many braces, the pieces of text before them, the depth of what these hold.
    stack: list[tuple[int, list[str], int]] = []
    pieces, depth, position = [], 0, 0
    for braces in _BRACES.finditer(text):
        pieces.append(text[position : braces.start()])
        position, count = braces.end(), len(braces[0])
        if text[braces.start()] == "{":
            stack.append((count, pieces, depth))
            pieces, depth = [], 0
            continue
        while count >= 2 and stack:
            opened, before, depth_before = stack.pop()
            pair = min(count, opened, 3)
            count, opened, depth = count - pair, opened - pair, depth + 1
            within = shown("".join(pieces)) if pair == 2 and depth <= _MAX_DEPTH else _GAP
            if opened >= 2:
                stack.append((opened, before, depth_before))
                pieces = [within]
            else:
                pieces, depth = before, max(depth, depth_before)
                pieces += ["{" * opened, within]
        pieces.append("}" * count)
    unclosed = [part for opened, before, _ in stack for part in (*before, "{" * opened)]
    return "".join([*unclosed, *pieces, text[position:]])


def _without_tables(text: str) -> str:
    """Cuts tables, from a line that begins with "{|" to one that begins with "|}"."""
    starts: list[int] = []
    tables: list[tuple[int, int]] = []
    for edge in _TABLE_EDGE.finditer(text):
        if edge[1]:
            starts.append(edge.start())
        elif starts:
            start = starts.pop()
            while tables and tables[-1][0] > start:  # tables within this one
                tables.pop()
            tables.append((start, edge.end()))
    return _without(text, tables)


def _without(text: str, spans: list[tuple[int, int]]) -> str:
    bounds = [0, *(bound for span in spans for bound in span), len(text)]
    return "".join(text[a:b] for a, b in zip(bounds[::2], bounds[1::2], strict=True))


def _show_external_links(text: str) -> str:
    """Replaces "[http://example.org/ shown]" by what it shows."""
    pieces, position = [], 0
    while start := _EXTERNAL_LINK_START.search(text, position):
        end = text.find("]", start.end())
        if end < 0:
            break
        pieces += [text[position : start.start()], text[start.end() : end]]
        position = end + 1
    return "".join([*pieces, text[position:]])


def _show_links(text: str, hidden_namespaces: Set[str]) -> str:
    """Replaces "[[Target|shown]]" by what it shows, inmost first; brackets without a pair stay."""
    stack: list[tuple[list[str], int]] = []
    pieces, depth, position = [], 0, 0
    for edge in _LINK_EDGE.finditer(text):
        pieces.append(text[position : edge.start()])
        position = edge.end()
        if edge[0] == "[[":
            stack.append((pieces, depth))
            pieces, depth = [], 0
        elif stack:
            depth += 1
            content = "".join(pieces) if depth <= _MAX_DEPTH else ""
            pieces, depth_before = stack.pop()
            pieces.append(_link_text(content, hidden_namespaces))
            depth = max(depth, depth_before)
        else:
            pieces.append("]]")
    unclosed = [part for before, _ in stack for part in (*before, "[[")]
    return "".join([*unclosed, *pieces, text[position:]])


def _link_text(link: str, hidden_namespaces: Set[str]) -> str:
    """Returns what "[[Target|shown]]" or "[[shown]]" shows: nothing for files and categories."""
    namespace, colon, _ = link.partition(":")
    namespace = namespace.strip()
    if colon and (namespace.lower() in hidden_namespaces or _LANGUAGE_LINK.fullmatch(namespace)):
        return ""
    # "[[:Category:X|shown]]" is a link to the category, and shows.
    return link.removeprefix(":").rsplit("|", 1)[-1]


def _joined(text: str) -> Iterator[str]:
    """Yields paragraphs: lines in a row, as only a blank line or other markup ends a paragraph."""
    lines: list[str] = []
    for line in text.split("\n"):
        seen = line.replace(_GAP, "")
        # Lists, indents and headings; and the rows and arguments of tables and templates whose
        # braces did not match.
        if (
            seen.strip()
            and seen[0] not in "*#:;"
            and seen.lstrip()[0] not in "|!{}"
            and not _is_heading(seen.strip())
        ):
            lines.append(line.strip())
        elif lines:
            yield " ".join(lines)
            lines = []
    if lines:
        yield " ".join(lines)


def _is_heading(line: str) -> bool:
    return line[0] == line[-1] == "=" and bool(line.strip("="))


def _tidy(line: str, counts: collections.Counter[str]) -> str:
    """Returns a paragraph without what removed markup left behind, or "" if it is no sentence."""
    line = _SPACES.sub(" ", line)
    if _GAP in line:
        line = _BRACKETS.sub(lambda brackets: brackets[0].replace(_GAP, ""), line)
        line = _GAPS.sub(_judge_gap, line)
        if _GAP in line:
            line = _without_broken_sentences(line, counts)
        line = _SPACES.sub(" ", line)
    line = _EMPTY_BRACKETS.sub("", line)
    line = _LEADING_IN_BRACKETS.sub("(", line)
    line = _SPACE_BEFORE_MARK.sub(r"\1", line)
    line = line.replace("[[", "").replace("]]", "").strip()
    if line and (sentences.weight(line) < _MIN_WEIGHT or not sentences.has_sentence(line)):
        counts["paragraphs"] += 1
        counts["paragraph characters"] += len(line)
        return ""
    return line


def _judge_gap(gap: re.Match) -> str:
    """Returns a gap as it is where a sentence lost a word, and without its mark elsewhere.

    A note stands at the end of a word or a sentence, what belongs to the sentence stands between
    words.
    """
    text, start, end = gap.string, gap.start(), gap.end()
    before, after = text[start - 1 : start], text[end : end + 1]
    spaced = gap[0][0] == " "
    if not before or sentences.ends_sentence(before):
        space_behind = gap[0][-1] == " "
        lost = after in (",", ";") or (after.islower() and (space_behind or bool(before)))
    elif not after or sentences.ends_sentence(after):
        lost = spaced or before in _WANTS_MORE
    else:
        within_word = after.isalnum() and gap[0][-1] != " "
        lost = spaced or before in _WANTS_MORE or within_word or sentences.weight(before) > 1
    return gap[0] if lost else gap[0].replace(_GAP, "")


def _without_broken_sentences(line: str, counts: collections.Counter[str]) -> str:
    whole = []
    for sentence in sentences.split(line):
        if _GAP in sentence:
            counts["sentences"] += 1
            counts["sentence characters"] += len(sentence)
        else:
            whole.append(sentence)
    return "".join(whole)
