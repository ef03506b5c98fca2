import bz2
import codecs
import gzip
import lzma
import os
import random

import pytest

from data_tools import text_files
from data_tools.text_files import (
    MAX_LINE_BYTES,
    Part,
    TextCounts,
    TextError,
    find_files,
    is_blank,
    line_number,
    read_batches,
    read_lines,
    split_files,
)
from data_tools.text_formats import check_files


def test_bom_crlf_and_gzip(tmp_path):
    content = "\ufeffOne.\r\n\r\nTwo.".encode()
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "b.gz").write_bytes(gzip.compress(content))
    expected = [b"One.\r\n", b"\r\n", b"Two."]
    assert list(read_lines(Part(str(tmp_path / "a.txt")))) == expected
    assert list(read_lines(Part(str(tmp_path / "b.gz")))) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("seed", range(12))
def test_parts_hold_every_document_once(tmp_path, seed, end):
    rng = random.Random(seed)
    documents = [
        [f"{d}.{k} " + "x" * rng.randint(0, 30) for k in range(rng.randint(1, 5))]
        for d in range(rng.randint(1, 30))
    ]
    blanks = [" \t", "", "\u3000"]
    text = "\ufeff" + end * rng.randint(0, 2)
    for document in documents:
        text += "".join(line + end for line in document)
        text += "".join(rng.choice(blanks) + end for _ in range(rng.randint(1, 3)))
    path = tmp_path / "a.txt"
    path.write_text(text[: len(text) - rng.randint(0, 1) * len(end)], newline="")
    size = path.stat().st_size
    for part_bytes in (size, size // 3 + 1, 50, 7, 1):
        found = []
        for part in split_files([str(path)], part_bytes, at_blank_lines=True):
            inside = False
            for number, line in enumerate(read_lines(part)):
                if is_blank(line):
                    inside = False
                    continue
                if not inside:
                    found.append([])
                inside = True
                found[-1].append(line.decode().rstrip("\r\n"))
                in_file = path.read_bytes().split(b"\n")[line_number(part, number) - 1]
                assert in_file.decode().strip("\r\ufeff") == found[-1][-1]
        assert found == documents


def test_gzip_and_undivided_files_are_one_part(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a b c\n\n" * 100))
    (tmp_path / "b.txt").write_bytes(b"a b c\n\n" * 100)
    assert len(split_files([str(tmp_path / "a.gz")], 10, at_blank_lines=True)) == 1
    assert len(split_files([str(tmp_path / "b.txt")], 10, at_blank_lines=False)) == 1
    assert len(split_files([str(tmp_path / "b.txt")], 10, at_blank_lines=True)) == 70


@pytest.mark.parametrize("unit", ["wort ", "ж", "中😀"])
def test_endless_lines_come_in_pieces_that_lose_nothing(tmp_path, unit):
    content = (unit * (300_000 // len(unit.encode()))).encode()
    path = tmp_path / "a.txt"
    path.write_bytes(content + b"\nend")
    lines = list(read_lines(Part(str(path))))
    assert b"".join(lines) == content + b"\nend"
    assert max(map(len, lines)) <= 2 * MAX_LINE_BYTES
    assert len(lines) > 3
    for line in lines:
        line.decode()  # no character was cut
    if unit == "wort ":
        assert all(set(line.split()) <= {b"wort", b"end"} for line in lines)


@pytest.mark.parametrize(
    "line",
    ["", " \n", "\x1c", "\u00a0\r\n", "\u3000 \u2028", "\ufeff\n", " \ufeff\u00a0", "\u00a0\ufeff"],
)
def test_blank_lines(line):
    assert is_blank(line.encode())
    assert not is_blank((line + "x").encode())


def test_errors_name_the_file(tmp_path):
    def fails(part, message):
        with pytest.raises(TextError, match=message):
            list(read_lines(Part(str(tmp_path / part))))

    whole = gzip.compress(random.Random(0).randbytes(10_000))
    (tmp_path / "cut.gz").write_bytes(whole[:5000])
    (tmp_path / "flip.gz").write_bytes(whole[:5000] + b"x" + whole[5001:])
    (tmp_path / "junk.gz").write_bytes(b"\x1f\x8b not gzip")
    fails("cut.gz", r"cut\.gz is a damaged gzip file")
    fails("flip.gz", r"flip\.gz")
    fails("junk.gz", r"junk\.gz")
    fails("none", "cannot read .*none: No such file")
    with pytest.raises(TextError, match="no files match"):
        find_files(f"{tmp_path}/*.txt")
    with pytest.raises(TextError, match="is a directory"):
        find_files(str(tmp_path))
    with pytest.raises(TextError, match="no input files"):
        find_files(",")


def test_find_files_sorts_and_knows_each_once(tmp_path):
    for name in ("b.txt", "a.txt", "c.txt"):
        (tmp_path / name).write_text("x")
    found = find_files(f"{tmp_path}/*.txt, {tmp_path}/a*")
    assert found == [f"{tmp_path}/{name}.txt" for name in "abc"]


@pytest.mark.parametrize(
    "name",
    ["a[1].txt", "a*.txt", "a?.txt", "{a,b}.txt", "a,b.txt", " a .txt ", "a\nb.txt", "[!a]"],
)
def test_a_path_that_exists_is_taken_as_it_is(tmp_path, name):
    for other in ("a1.txt", "ab.txt", "a.txt", "b"):
        (tmp_path / other).write_text("x")
    (tmp_path / name).write_text("x")
    assert find_files(f"{tmp_path}/{name}") == [f"{tmp_path}/{name}"]
    assert find_files(f"{tmp_path}/b,{tmp_path}/{name},") == sorted(
        [f"{tmp_path}/b", f"{tmp_path}/{name}"]
    )


@pytest.mark.parametrize("name", ["run[1]", "a,b", "*", "d,[x] ?"])
def test_directories_of_a_pattern_are_taken_as_they_are(tmp_path, name):
    for directory in (name, "run1", "a", "b"):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "t1.txt").write_text("x")
    assert find_files(f"{tmp_path}/{name}/t[1].*") == [f"{tmp_path}/{name}/t1.txt"]
    both = find_files(f"{tmp_path}/run?/*.txt,{tmp_path}/{name}/*")
    assert f"{tmp_path}/{name}/t1.txt" in both and f"{tmp_path}/run1/t1.txt" in both


def test_a_file_is_read_once_however_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    assert find_files(f"a.txt,./a.*,{tmp_path}/a.txt") == ["a.txt"]


def test_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(TextError, match=r"a\.txt is a pipe or a device"):
        find_files(f"{tmp_path}/*.txt")


def test_names_within_the_corpus(tmp_path):
    for name in ("wiki/AA/1", "wiki/AB/1", "2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")

    def names(*files):
        parts = split_files([f"{tmp_path}/{file}" for file in files], 100, at_blank_lines=True)
        return [part.name for part in parts]

    assert names("wiki/AA/1", "wiki/AB/1") == ["AA/1", "AB/1"]
    assert names("2", "wiki/AA/1") == ["2", "wiki/AA/1"]
    assert names("wiki/AB/1") == ["1"]
    assert names("wiki/../wiki/AB/1", "wiki/AB/../AA/1") == ["AB/1", "AA/1"]


# --- Bad bytes ---

GERMAN = "Über den Dächern hörte man Vögel; grün und schön.\n" * 40
RUSSIAN = "Над крышами пели птицы, и было тихо.\n" * 40


@pytest.mark.parametrize(
    "content, message",
    [
        (GERMAN.encode("utf-16"), "is UTF-16 text: convert it"),
        (codecs.BOM_UTF16_BE + RUSSIAN.encode("utf-16-be"), "is UTF-16 text: convert it"),
        (GERMAN.encode("utf-32"), "is UTF-32 text: convert it"),
        (GERMAN.encode("utf-16-le"), "holds zero bytes"),
        (RUSSIAN.encode("utf-16-be"), "holds zero bytes"),
        (bz2.compress(GERMAN.encode()), "is packed with bzip2: unpack it"),
        (bz2.compress(b""), "is packed with bzip2: unpack it"),
        (lzma.compress(GERMAN.encode()), "is packed with xz: unpack it"),
        (lzma.compress(b"x", lzma.FORMAT_ALONE), "is packed with lzma: unpack it"),
        (b"\x28\xb5\x2f\xfd\x04\x00", "is packed with zstd: unpack it"),
        (b"PK\x03\x04" + b"\x14\0" * 20, "is a zip archive or office document"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "is a 7z archive"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "is a PDF document"),
        (b"{\\rtf1\\ansi text}", "is an RTF document"),
        (b"a.txt".ljust(257, b"\0") + b"ustar\0", "is a tar archive"),
        (random.Random(0).randbytes(10_000), "holds zero bytes"),
        (
            GERMAN.encode("latin-1"),
            "line 1: not UTF-8, and so are 40 of 4[01] lines, 100% of the text",
        ),
        (RUSSIAN.encode("cp1251"), "line 1: not UTF-8, and so are 40 of 4[01] lines"),
        (b"caf\xe9", "line 1: not UTF-8, and so are 1 of 1 lines"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_what_is_no_utf8_is_named(tmp_path, content, message, pack):
    path = tmp_path / "a.txt"
    path.write_bytes(pack(content))
    with pytest.raises(TextError, match=message) as error:
        check_files([str(path)], 0.05)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        GERMAN.encode(),
        GERMAN.encode("utf-8-sig"),
        GERMAN.replace("\n", "\r").encode(),
        ("中" * 100_000).encode(),
        (GERMAN * 40).encode() + b"\0",
        GERMAN.encode() + b"\xe9\n",
        "BZh und PK sind Abkürzungen.\n".encode(),
        b"PAR1 ORC Obj",
    ],
)
def test_utf8_passes(tmp_path, content):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    check_files([str(path)], 0.05)


def test_line_ends_that_are_none_are_named(tmp_path, caplog):
    path = tmp_path / "a.txt"
    path.write_bytes(GERMAN.replace("\n", "\r\n").encode() + b"\r\r")
    check_files([str(path)], 0.05)
    assert not caplog.text
    path.write_bytes(GERMAN.replace("\n", "\r").encode())
    check_files([str(path)], 0.05)
    assert f"{path} ends its lines with CR alone" in caplog.text


def test_the_share_of_bad_lines_is_that_of_all_files(tmp_path):
    (tmp_path / "a").write_bytes(GERMAN.encode())
    (tmp_path / "b").write_bytes(b"\xe9t\xe9\n" * 30)
    files = [f"{tmp_path}/a", f"{tmp_path}/b"]
    check_files(files, 0.05)
    with pytest.raises(TextError, match="30 of 72 lines, 4% of the text"):
        check_files(files, 0.03)


def test_batches_are_small_and_bad_lines_counted_in_little_memory(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xe9\n" * 200_000)
    counts = TextCounts()
    sizes = [len(batch) for batch in read_batches(Part(str(path)), counts, strict=False)]
    assert sum(sizes) == counts.bad_lines == counts.lines == 200_000
    assert max(sizes) <= 1 << 16
    assert counts.first_bad_lines == [(str(path), line) for line in (1, 2, 3)]


def test_a_gzip_bomb_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_MIN_BYTES_FOR_RATIO", 1_000_000)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(b"\n" * 10_000_000))
    counts = TextCounts()
    with pytest.raises(TextError, match=r"a\.gz unpacks to more than 500 times its size"):
        list(read_batches(Part(str(path)), counts, strict=False))
    assert counts.lines < 6_000_000
