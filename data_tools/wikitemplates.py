"""What the common inline templates and magic words of the large Wikipedias show in a sentence.

`{{convert|5|km}}`, `{{unité|2345|m}}`, `{{formatnum:12345}}`, `{{lang|grc|...}}`: without them a
sentence lacks its number, date or name. A page does not hold the definitions of its templates, so
tables tell what the common ones show.
"""

import re


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(","))


# They show their first argument.
_FIRST = _names(
    "nombre, nb, num, number, число, nts, ntsh, zahl, liczba, format price, "
    "nowrap, nobr, nobreak, нобр, ta, j, esd, mono, small, smaller, petit, big, larger, "
    "abbr, abréviation, tooltip, smallcaps, sc, sc1, petites capitales, pc, versalita, "
    "maiuscoletto, maiúsculas, caps, sup, exp, sub, em, strong, bold, ital, italic, noitalic, "
    "not a typo, sic, as written, math, mvar, var, key press, keypress, key, touche, kbd, code, "
    "tt, samp, angbr, vr, visible anchor, vanchor, tq, chem2, highlight, linktext, nihongo, "
    "読み仮名, ルビ, ruby, 仮リンク, ill, interlanguage link, lien, le, lj, flag, flagcountry, "
    "citation, guil, «, laS, enS, frS, lcfirst, ucfirst, lc, uc"
)
_SECOND = _names(
    "lang, langue, llang, script, color, colour, font color, couleur, tsl, link-interwiki"
)
_LAST = _names("transl, transliteration, tlit")
# They show their first arguments with a space between: "2345 m", "3 mai 1911", "HMS Victory".
_JOINED = dict.fromkeys(_names("unité, unite, nombre, nb, unidad, unidade, fmtn, ship"), 2)
_JOINED |= dict.fromkeys(_names("date, date-, date de naissance, date de décès"), 3)
# They show a text, and their first argument behind it.
_TEXT = {
    "nbsp": " ", "spaces": " ", "thinsp": " ", "espace": " ", "'": "’", "'s": "’s", "okina": "ʻ",
    "=": "=", "!": "|", "·": " · ", "•": " · ", "pipe": " | ", "shy": "", "zwj": "", "wbr": "",
    "bc": "BC", "bce": "BCE", "ad": "AD", "ce": "CE", "av jc": "av. J.-C.", "ap jc": "apr. J.-C.",
}  # fmt: skip
_BEFORE_FIRST = {
    "circa": "c. ", "c.": "c. ", "floruit": "fl. ", "fl.": "fl. ", "n°": "n° ", "numéro": "n° ",
    "p.": "p. ", "siglo": "siglo ", "séc": "século ", "us$": "US$", "usd": "US$", "a$": "A$",
    "c$": "C$", "£": "£", "gbp": "£", "€": "€", "inr": "₹", "¥": "¥", "hms": "HMS ",
    "uss": "USS ", "ss": "SS ", "rms": "RMS ", "sms": "SMS ",
}  # fmt: skip
# Between the two numbers of {{convert|5|to|10|km}}.
_RANGES = {"to": " to ", "-": "–", "–": "–", "and": " and ", "or": " or ", "by": " by ", "x": " × "}
# Magic words with their argument behind a colon. All wikis know the first, and one of their own.
_FORMATNUM = _names(
    "formatnum, zahlenformat, formatnombre, formatnúmero, formatonúmero, formatanum, "
    "formatteernum, formateranum, форматчисла, صيغة_رقم, rakam"
)
_MAGIC_WORDS = _FORMATNUM | _names("lc, uc, lcfirst, ucfirst")
# Notes, marks of editors, icons, anchors, pronunciations: a sentence is whole without them.
_SILENT = re.compile(
    r"(?:cite|citation|sfn|harv|efn|refn|ref|réf|note|nota|#tag:ref|anchor|anker|ancre|flag ?icon"
    r"|coord|webarchive|wayback|cita|citar|cytuj|literatur|internetquelle|ipac-|respell|isbn|issn"
    r"|источник|нет источника|книга|статья|要出典|來源|来源)"
    r"|.* icon\Z|.*\b(?:needed|inline|source\??|nécessaire|requerida|fonte|necessaria|behövs)\Z"
)
_SILENT_NAMES = _names(
    "rp, r, u, fn, fact, cn, clarify, when, who, which, why, what, where, by whom, dubious, "
    "dead link, update after, vague, disputed, quoi, quand, qui, lesquels, précision, refsou, fakt, "
    "odn, bron?, källa?, belege, quelle, #tag:ref, audio, lsj, dn"
)
_DASH = re.compile(r"(?:spaced ?)?(?:en|em)?(?:dash|ndash|mdash|snd)b?")
# French: {{1er}}, {{XIXe}}, {{XIXe siècle}} show their own name.
_OWN_NAME = re.compile(
    r"(?:\d+|[ivxlcdm]+)(?:er|re|ère|e|ème|nd|nde)(?: siècle(?: av\. j\.-c\.)?)?"
)
_ROMAN = re.compile(r"[IVXLCDM]+")
_LANGUAGE = re.compile(r"(?:lang|link)-[\w-]+|[a-z]{2}s")
_ARGUMENT_NAME = re.compile(r"[\w -]{1,40}")
_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}")
_DIGIT = re.compile(r"\d")
# A link in an argument may hold a "|" of its own.
_SEPARATOR = re.compile(r"\[\[[^\[\]]*+\]\]|\|")


def shown(content: str) -> str | None:
    """Returns what a template shows in a sentence: "" for notes, None where no table knows it.

    Args:
        content: what stands between the braces, all templates in it replaced by what they show.
    """
    parts = _split(content)
    name, arguments = " ".join(parts[0].replace("_", " ").split()), parts[1:]
    key = name.lower()
    word, colon, _ = key.partition(":")
    if colon and word in _MAGIC_WORDS:
        return name[len(word) + 1 :].strip()
    named, positional = {}, []
    for argument in arguments:
        left, equals, right = argument.partition("=")
        if equals and _ARGUMENT_NAME.fullmatch(left):
            named[left.strip().lower()] = right.strip()
        else:
            positional.append(argument.strip())
    positional = [named[k] for k in ("1", "2", "3") if k in named] or positional
    text = _known(name, key, positional, named)
    if text is None and (key in _SILENT_NAMES or _SILENT.match(key)):
        return ""
    return text


def _known(name: str, key: str, values: list[str], named: dict[str, str]) -> str | None:
    """Returns what the tables know; None for other templates and for missing arguments."""
    if key in _TEXT:
        return _TEXT[key]
    if _DASH.fullmatch(key):
        return " – "
    if _OWN_NAME.fullmatch(key) and not values:
        return name
    if key == "m" and values and (unit := named.get("ul") or named.get("u")):  # Italian
        return f"{values[0]} {unit}"
    if not values or not values[0]:
        return None
    first = values[0]
    if key == "as of":
        return f"{'as' if named.get('lc') else 'As'} of {first}"
    if key in ("convert", "cvt"):
        return _convert(values)
    if key in _JOINED:
        return " ".join(filter(None, values[: _JOINED[key]]))
    if key == "s":  # French: a century; Russian: text that does not break
        return f"{first}e siècle" if _ROMAN.fullmatch(first) else first
    if key in _BEFORE_FIRST:
        return _BEFORE_FIRST[key] + first
    if key == "chem":
        return "".join(values)
    if key in ("frac", "sfrac"):  # "1/first", "first/second" or "first second/third"
        whole = first if len(values) > 2 else ""
        return f" {whole} {'/'.join(values[1:3] if whole else ('1', *values)[-2:])}"
    if key == "val":
        return " ".join(filter(None, (first, named.get("u") or named.get("ul"))))
    if key in _SECOND:
        return values[1] if len(values) > 1 else None
    if key in _LAST:
        return values[-1]
    if key in ("ill", "interlanguage link") and _LANGUAGE_CODE.fullmatch(first):
        return values[1] if len(values) > 1 else None
    if key in _FIRST or key in _FORMATNUM or _LANGUAGE.fullmatch(key):
        return first
    return None


def _convert(values: list[str]) -> str | None:
    """Returns "5 km", "5 to 10 km" or "6 ft 2 in" of {{convert}}'s arguments."""
    number, *rest = values
    while len(rest) > 2 and (between := _RANGES.get(rest[0].replace("(-)", ""))):
        number += between + rest[1]
        rest = rest[2:]
    if not rest:
        return None
    if len(rest) > 2 and _DIGIT.search(rest[1]) and not _DIGIT.search(rest[2]):
        return f"{number} {rest[0]} {rest[1]} {rest[2]}"
    return f"{number} {rest[0]}"


def _split(content: str) -> list[str]:
    """Splits a template's content at the "|" that stand in no link."""
    parts, start = [], 0
    for separator in _SEPARATOR.finditer(content):
        if separator[0] == "|":
            parts.append(content[start : separator.start()])
            start = separator.end()
    return [*parts, content[start:]]
