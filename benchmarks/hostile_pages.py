"""Wikipedia pages that are made to take long: seconds for each shape at doubling sizes.

    python -m benchmarks.hostile_pages [--bytes=2000000] [--shapes=10]

Every shape repeats markup that a careless pattern looks at again from each of its starts. A page
of a wiki has at most 2 MB. Printed are CPU seconds and how they grew when the size doubled: about
2 is linear, 4 is quadratic. The exit code is 1 where the largest size took more than
`--max_seconds`, or any size outlasted it.
"""

import sys
import time
from collections.abc import Callable

from absl import app, flags

from data_tools import wikitext

BYTES = flags.DEFINE_integer("bytes", 2_000_000, "size of the largest page", lower_bound=16)
MAX_SECONDS = flags.DEFINE_float("max_seconds", 30.0, "stop a shape, and fail, above this")
SHAPES = flags.DEFINE_string("shapes", "", "only shapes whose name holds this")
_DOUBLINGS = 4


def _repeated(*pieces: str) -> dict[str, Callable[[int], str]]:
    """Pages that repeat a piece; begun and closed by text, as blanks at the end are easier."""
    return {
        repr(piece): lambda size, piece=piece: f"x{piece * (size // len(piece))}y"
        for piece in pieces
    }


def _nested(start: str, end: str) -> dict[str, Callable[[int], str]]:
    def page(size: int) -> str:
        depth = size // len(start + end)
        return f"x{start * depth} text {end * depth}y"

    def page_with_text(size: int) -> str:
        depth = size // 2 // len(start + end)
        return f"x{start * depth}{'text ' * (size // 10)}{end * depth}y"

    return {f"{start!r} .. {end!r}": page, f"{start!r} text {end!r}": page_with_text}


def _once(start: str, piece: str) -> dict[str, Callable[[int], str]]:
    return {f"{start!r} + {piece!r}": lambda size: f"{start}{piece * (size // len(piece))}y"}


SHAPES_OF_PAGES = {
    **_repeated(
        "<ref>", "<ref", "<ref name=a>x", "</ref>", "<math>", "<div>\n", "<br", "<a", "<", ">",
        "<!--", "-->", "[http://a ", "[http://a", "[//", "http://a", "[", "]", "[[", "]]", "[[[",
        "[[a|", "[[File:a|", "]][[", "{{", "}}", "{{{", "}}}", "{", "}", "{{a|", "{{a}", "{{a}}",
        "{{a}} ", "{{convert|1|", "{{lang|a|", "{{{{a}}", "}}{{", "{{a|[[", "{{a|b=", "{{formatnum:",
        "\n{|", "\n|}", "\n{|\n|-", "\n{|\n|}", "\n:{|", "\n ", "\n|", "\n*", "\n==", "\n== a ==",
        "\n==a", "=", "= ", "= a =", "\n== see also", "\n==references==\nx", "==\n", " ", "\n", "\t",
        "\r", "\u3000", "\u2028", "\xa0", "\x0b", "'", "''", "'''", "'''''", "'' ", "__", "__A",
        "__A__", "&", "&#", "&#1;", "&amp;", "&lt;ref&gt;", "(", ")", "( ", "(,", "(;", "( ) ", "（",
        ".", ". ", ".\"", "..)", "?!", "。", "。」", "a. ", "A.", ",", " ,", " .", "#", "#a ", ":",
        "-{", "}-", "|", "!", "a", "é", "字", "\ud7ff",
    ),
    **_nested("{{a|", "}}"),
    **_nested("{{nowrap|", "}}"),
    **_nested("{{", "}}"),
    **_nested("{{{", "}}}"),
    **_nested("[[a|", "]]"),
    **_nested("[[", "]]"),
    **_nested("[[File:a|", "]]"),
    **_nested("\n{|\n", "\n|}"),
    **_nested("<div>", "</div>"),
    **_nested("<ref>", "</ref>"),
    **_nested("(", ")"),
    **_nested("[http://a ", "]"),
    **_once("#a", " "),
    **_once("#", "a"),
    **_once("{{convert|1|", "a"),
    **_once("{{convert|1|", "a|"),
    **_once("{{a|", "b|"),
    **_once("{{nowrap|", "[[a|"),
    **_once("==", "\n"),
    **_once("== a", "="),
    **_once("&#", "9"),
    **_once("&#x", "f"),
    **_once("<ref ", "a/"),
    **_once("<ref name=a ", " "),
    **_once("a {{unknown}} b", ". "),
    **_once("a {{unknown}} b", " {{unknown}} b. C"),
}  # fmt: skip


def seconds(page: str) -> float:
    """Returns the CPU seconds that a page takes."""
    started = time.process_time()
    wikitext.is_redirect(page)
    wikitext.paragraphs(page)
    return time.process_time() - started


def main(_: list[str]) -> None:
    """Prints a line a shape; see the module's docstring."""
    sizes = [BYTES.value >> k for k in reversed(range(_DOUBLINGS))]
    print("shape".ljust(36), *(f"{size / 1e6:8.2f} MB" for size in sizes), "   growth")
    slow = []
    for name, page in SHAPES_OF_PAGES.items():
        if SHAPES.value not in name:
            continue
        times = []
        for size in sizes:
            times.append(seconds(page(size)))
            if times[-1] > MAX_SECONDS.value:
                slow.append(name)
                break
        growth = times[-1] / times[-2] if len(times) > 1 and times[-2] > 0 else float("nan")
        print(name.ljust(36), *(f"{t:9.3f} s" for t in times), f"{growth:9.2f}", flush=True)
    print(f"{len(slow)} shapes took more than {MAX_SECONDS.value} s: {', '.join(slow) or 'none'}")
    sys.exit(1 if slow else 0)


if __name__ == "__main__":
    app.run(main)
