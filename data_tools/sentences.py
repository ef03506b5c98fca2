"""Sentences of any script: the marks that end one, where a text splits, how long it is."""

import re
from collections.abc import Iterator

# Unicode's property Sentence_Terminal (17.0), as ranges for a regular expression, and what ends
# sentences without having it: the Tibetan shads, the ellipsis, the Greek question mark.
TERMINALS = (
    "!.?\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e\u0964\u0965"
    "\u104a\u104b\u1362\u1367\u1368\u166e\u1735\u1736\u17d4\u17d5\u1803\u1809\u1944\u1945"
    "\u1aa8-\u1aab\u1b4e\u1b4f\u1b5a\u1b5b\u1b5e\u1b5f\u1b7d-\u1b7f\u1c3b\u1c3c\u1c7e\u1c7f"
    "\u2024\u203c\u203d\u2047-\u2049\u2cf9-\u2cfb\u2e2e\u2e3c\u2e53\u2e54\u2e60\u2e61\u3002"
    "\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf\ua92f\ua9c8\ua9c9\uaa5d-\uaa5f"
    "\uaaf0\uaaf1\uabeb\ufe12\ufe15\ufe16\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
    "\U00010a56\U00010a57\U00010f55-\U00010f59\U00010f86-\U00010f89\U00011047\U00011048"
    "\U000110be-\U000110c1\U00011141-\U00011143\U000111c5\U000111c6\U000111cd\U000111de"
    "\U000111df\U00011238\U00011239\U0001123b\U0001123c\U000112a9\U000113d4\U000113d5"
    "\U0001144b\U0001144c\U000115c2\U000115c3\U000115c9-\U000115d7\U00011641\U00011642"
    "\U0001173c-\U0001173e\U00011944\U00011946\U00011a42\U00011a43\U00011a9b\U00011a9c"
    "\U00011c41\U00011c42\U00011ef7\U00011ef8\U00011f43\U00011f44\U00016a6e\U00016a6f"
    "\U00016af5\U00016b37\U00016b38\U00016b44\U00016d6e\U00016d6f\U00016e98\U0001bc9f"
    "\U0001da88"
    "\u0f0d-\u0f11\u2026\u037e"
)
_TERMINAL = re.compile(f"[{TERMINALS}]")
# Scripts that write no mark at the end of a sentence: Thai, Lao, Tai Le, New Tai Lue, Tai Viet.
_WITHOUT_MARKS = re.compile("[\u0e00-\u0eff\u1950-\u19df\uaa80-\uaadf]")
# Characters that hold about as much as three letters of an alphabet: Han, kana, Hangul, Yi.
_DENSE = re.compile(
    "[\u2e80-\u2fdf\u3005-\u31ff\u3400-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
_DENSE_WEIGHT = 3

_CLOSERS = "\"'\u201d\u2019\u00bb)\\]\u300d\u300f\uff09"
# Behind a mark stand closing quotes and white space; full-width marks need none behind them.
_END = re.compile(
    rf"(?<![{TERMINALS}])[{TERMINALS}]++[{_CLOSERS}]*+(?:\s++|\Z)"
    rf"|[\u3002\uff01\uff1f\uff61]++[{_CLOSERS}]*+"
)
# A full stop behind fewer letters belongs to an abbreviation or an initial ("J.", "Dr.", "U.S.").
_BEFORE_FULL_STOP = re.compile(rf"(?:[^\W\d_]{{3}}|.[\d{_CLOSERS}])\Z", re.DOTALL)


def weight(text: str) -> int:
    """Returns a text's length in letters of an alphabet: a Chinese character counts as three."""
    return len(text) + (_DENSE_WEIGHT - 1) * len(_DENSE.findall(text))


def ends_sentence(character: str) -> bool:
    """Tells whether a character is a mark that ends sentences, in any script."""
    return bool(_TERMINAL.match(character))


def has_sentence(text: str) -> bool:
    """Tells whether a mark ends a sentence in `text`, or its script writes none."""
    if _TERMINAL.search(text):
        return True
    return 2 * len(_WITHOUT_MARKS.findall(text)) > len(text) - text.count(" ")


def split(text: str) -> Iterator[str]:
    """Yields the sentences of a paragraph with the white space behind them.

    In doubt two sentences stay together: a full stop behind a short word, or any mark before a
    lower-case letter, ends none.
    """
    start = 0
    for end in _END.finditer(text):
        letters = text[max(0, end.start() - 3) : end.start()]
        abbreviation = text[end.start()] == "." and not _BEFORE_FULL_STOP.search(letters)
        if abbreviation or text[end.end() : end.end() + 1].islower():
            continue
        yield text[start : end.end()]
        start = end.end()
    if start < len(text):
        yield text[start:]
