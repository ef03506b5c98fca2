import gzip
import random

import pytest

from data_tools.text_files import (
    MAX_LINE_BYTES,
    Part,
    TextError,
    find_files,
    is_blank,
    line_number,
    read_lines,
    split_files,
)


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
