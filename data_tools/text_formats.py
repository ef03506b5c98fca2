"""Telling text in UTF-8 from what else may be in a file, by its first bytes."""

import re

from absl import logging

from data_tools.text_files import TextCounts, TextError, character_start, open_text

# What is looked at of every file.
_HEAD_BYTES = 1 << 16
_PACKED = "unpack it first"
_CONVERT = "convert it to UTF-8 first, as with iconv -f {} -t UTF-8"
# What a file may begin with; what that is; what to do. UTF-32 begins as UTF-16 does.
_FORMATS = (
    (rb"\xff\xfe\0\0|\0\0\xfe\xff", "UTF-32 text", _CONVERT.format("UTF-32")),
    (rb"\xff\xfe|\xfe\xff", "UTF-16 text", _CONVERT.format("UTF-16")),
    (rb"BZh[1-9](1AY&SY|\x17rE8P\x90)", "packed with bzip2", _PACKED),
    (rb"\xfd7zXZ\0", "packed with xz", _PACKED),
    (rb"\x5d\0\0[\0-\x80]", "packed with lzma", _PACKED),
    (rb"[\x1e-\x28]\xb5\x2f\xfd", "packed with zstd", _PACKED),
    (rb"\x04\x22\x4d\x18", "packed with lz4", _PACKED),
    (rb"\x1f[\x9d\xa0]", "packed with compress", _PACKED),
    (rb"PK(\x03\x04|\x05\x06|\x07\x08)", "a zip archive or office document", _PACKED),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _PACKED),
    (rb"Rar!\x1a\x07", "a rar archive", _PACKED),
    (rb"(?s).{257}ustar", "a tar archive", _PACKED),
    (rb"%PDF-", "a PDF document", "extract its text first"),
    (rb"%!PS", "a PostScript document", "extract its text first"),
    (rb"\{\\rtf", "an RTF document", "save it as plain text first"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document", "save it as plain text first"),
    (
        rb"PAR1\x15|ARROW1\0|Obj\x01",
        "a table in a binary format",
        "write its texts to a file first",
    ),
)
# More zero bytes than a text that was damaged here and there has.
_MAX_ZERO_SHARE = 0.01


def check_files(files: list[str], max_bad_share: float) -> None:
    """Looks at the beginning of every file, before hours go into what is no text.

    Args:
        files: plain or gzip files.
        max_bad_share: how much of the beginnings, in bytes, may be in lines that are not UTF-8.

    Raises:
        TextError: a file is of another format, or too much is not UTF-8.
    """
    counts = TextCounts()
    for path in files:
        with open_text(path) as file:
            head = file.read(_HEAD_BYTES)
        if len(head) == _HEAD_BYTES:
            head = head[: character_start(head)]
        check_head(path, head)
        if b"\n" not in head and head.count(b"\r") > 1:
            logging.warning(
                "%s ends its lines with CR alone, and is read as one line, without documents: "
                "convert it, as with tr '\\r' '\\n'",
                path,
            )
        lines = head.split(b"\n")
        counts.add(_count(path, lines))
    counts.check(max_bad_share)


def check_head(path: str, head: bytes) -> None:
    """Raises TextError if a file that begins with `head` is no text in an encoding of bytes."""
    for pattern, what, advice in _FORMATS:
        if re.match(pattern, head):
            raise TextError(f"{path} is {what}: {advice}")
    zeros = head.count(b"\0")
    if zeros > _MAX_ZERO_SHARE * len(head) or (zeros and not _is_utf8(head)):
        raise TextError(
            f"{path} holds zero bytes: it is UTF-16 text without a mark, or no text; "
            + _CONVERT.format("UTF-16LE (or UTF-16BE)")
        )


def _count(path: str, lines: list[bytes]) -> TextCounts:
    counts = TextCounts(lines=len(lines), bytes=sum(map(len, lines)))
    if not _is_utf8(b"\n".join(lines)):
        for number, line in enumerate(lines, start=1):
            if not _is_utf8(line):
                counts.bad_lines += 1
                counts.bad_bytes += len(line)
                counts.first_bad_lines.append((path, number))
    return counts


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
