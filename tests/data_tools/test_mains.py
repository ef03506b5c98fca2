"""Runs the commands as a user does, each in a process of its own."""

import bz2
import gzip
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from electra_keras.data.records import (
    RecordsError,
    find_records,
    parse_batch,
    read_metadata,
    read_serialized,
    scan_file,
)
from electra_keras.text.tokenizer import Tokenizer, basic_tokenize
from electra_keras.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from tests.runs import run as forked

ROOT = Path(__file__).parents[2]
SENTENCES = [
    "The generator proposes a word, and the discriminator says whether it was replaced.",
    "Ein Café in München öffnete um 8:30 Uhr.",
    "She sells sea shells by the sea shore; nobody buys them in winter!",
    "Replaced token detection learns from all tokens.",
    "中文 and English in one line (with brackets).",
    "Whoever reads this far has nothing better to do.",
]


def command(module, *args):
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    arguments = [sys.executable, "-m", f"data_tools.{module}", *map(str, args)]
    return arguments, dict(cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def run(module, *args, code=0, **options):
    arguments, common = command(module, *args)
    done = subprocess.run(
        arguments, stdout=subprocess.PIPE, timeout=120, check=False, **common, **options
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def error_of(done):
    """The one line that tells a user what is wrong."""
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


def text(documents, start=0):
    lines = []
    for document in range(start, start + documents):
        for k in range(1 + document % 5):
            lines.append(SENTENCES[(document + k) % len(SENTENCES)] + f" {document % 97}")
        lines.append("")
    return "\n".join(lines)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a.txt").write_text("\ufeff" + text(400), encoding="utf-8", newline="\r\n")
    (folder / "b.txt.gz").write_bytes(gzip.compress(text(300, 400).encode()))
    (folder / "c.txt").write_bytes(b"A line that is \xff not UTF-8.\n")
    return folder


@pytest.fixture(scope="module")
def vocab_file(corpus):
    """Also what build_vocab prints, on its attribute."""
    path = corpus / "vocab.txt"
    run("build_vocab", f"--input={corpus}/?.txt*", f"--output={path}", "--vocab_size=190")
    return path


@pytest.fixture(scope="module")
def data_set(corpus, vocab_file):
    path = corpus / "out"
    path.with_name("out.log").write_text(
        json.dumps(build(corpus, vocab_file, path, "--validation_fraction=0.2").__dict__)
    )
    return path


def build(corpus, vocab_file, output, *flags, code=0, **options):
    return run(
        "build_pretraining_data",
        f"--input={corpus}/?.txt*",
        f"--vocab_file={vocab_file}",
        f"--output_dir={output}",
        "--max_seq_length=32",
        *flags,
        code=code,
        **options,
    )


def test_vocabulary(corpus, vocab_file):
    vocabulary = Vocabulary.load(str(vocab_file))
    assert len(vocabulary) == 190
    assert vocabulary.tokens[:5] == SPECIAL_TOKENS
    # No entry that the tokenizer cannot produce.
    for token in vocabulary.tokens[5:]:
        assert basic_tokenize(token.removeprefix("##")) == [token.removeprefix("##")]
    ids = Tokenizer(vocabulary).tokenize([t.removeprefix("##") for t in vocabulary.tokens[5:]])
    words = [t for t in vocabulary.tokens[5:] if not t.startswith("##")]
    found = {i for row in ids.to_list() for i in row}
    assert {vocabulary.ids[word] for word in words} <= found
    assert {"中", "the"} <= set(words)
    # A second run, with the files' hash tables in another order, gives the same bytes.
    other = vocab_file.with_name("again.txt")
    done = run("build_vocab", f"--input={corpus}/?.txt*", f"--output={other}", "--vocab_size=190")
    assert other.read_bytes() == vocab_file.read_bytes()
    assert "190 entries" in done.stdout


def test_vocabulary_of_too_little_text(corpus, vocab_file):
    path = vocab_file.with_name("large.txt")
    done = run(
        "build_vocab",
        f"--input={corpus}/a.txt",
        f"--output={path}",
        "--vocab_size=30000",
        "--num_unused_tokens=2",
        "--nolower_case",
    )
    vocabulary = Vocabulary.load(str(path))
    assert vocabulary.tokens[5:7] == ("[unused0]", "[unused1]")
    assert f"only {len(vocabulary)} of 30000" in done.stderr
    assert "München" in vocabulary.ids and "The" in vocabulary.ids


def test_data_set(data_set, corpus, vocab_file):
    done = json.loads(data_set.with_name("out.log").read_text())
    assert "c.txt, line 1: not UTF-8" in done["stderr"]
    metadata = read_metadata(str(data_set))
    assert (metadata.max_seq_length, metadata.source_files) == (32, 3)
    assert metadata.splits["train"].documents + metadata.splits["validation"].documents == 701
    assert metadata.vocab_sha256 == Vocabulary.load(str(data_set / "vocab.txt")).sha256
    for split in ("train", "validation"):
        records = find_records(str(data_set), split)
        scans = [scan_file(path, "", 32) for path in records.files]
        assert tuple(scan.examples for scan in scans) == records.examples_per_file
        assert f"{split}: {metadata.splits[split].documents:,} documents" in done["stdout"]
    # Entropies, from the records and the definition.
    vocabulary = Vocabulary.load(str(vocab_file))
    counts = {}
    for split in ("train", "validation"):
        counts[split] = Counter()
        for path in find_records(str(data_set), split).files:
            ids = parse_batch(list(read_serialized(path, "")), 32)["input_ids"].numpy()
            counts[split].update(ids.ravel().tolist())
        for token in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"):
            del counts[split][vocabulary.ids[token]]
    train, held_out = counts["train"], counts["validation"]
    entropy = -sum(n / train.total() * math.log(n / train.total()) for n in train.values())
    assert metadata.unigram_entropy == pytest.approx(entropy)
    total = train.total() + len(vocabulary) - 4
    loss = -sum(n * math.log((train[i] + 1) / total) for i, n in held_out.items())
    expected = loss / held_out.total()
    assert metadata.validation_unigram_cross_entropy == pytest.approx(expected)
    # Nothing is left beside it.
    assert not list(corpus.glob("*incomplete*"))


def test_workers_make_no_difference(data_set, corpus, vocab_file, tmp_path):
    build(corpus, vocab_file, tmp_path / "out", "--validation_fraction=0.2", "--workers=2")
    names = sorted(p.name for p in data_set.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "out").iterdir())
    for name in names:
        assert (data_set / name).read_bytes() == (tmp_path / "out" / name).read_bytes(), name


def test_gzip_and_drop_overflow(corpus, vocab_file, tmp_path):
    done = build(corpus, vocab_file, tmp_path / "out", "--compression=gzip", "--drop_overflow")
    assert "--drop_overflow lost" in done.stdout
    records = find_records(str(tmp_path / "out"))
    assert records.compression == "GZIP"
    assert scan_file(records.files[0], "GZIP", 32).examples == records.examples_per_file[0]


@pytest.mark.parametrize(
    "flags, code, message",
    [
        (["--nolower_case", "--strip_accents"], 2, "--strip_accents works only with"),
        (["--strict"], 1, "c.txt, line 1: not UTF-8"),
    ],
)
def test_mistakes_end_in_one_line(corpus, vocab_file, tmp_path, flags, code, message):
    done = build(corpus, vocab_file, tmp_path / "out", *flags, code=code)
    assert message in error_of(done)
    assert not list(tmp_path.iterdir())


def test_full_disk(corpus, vocab_file, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = build(corpus, vocab_file, tmp_path / "out", code=1, preexec_fn=limit)
    assert "cannot write" in error_of(done)
    assert not list(tmp_path.iterdir())


def start_long_build(vocab_file, folder):
    """Starts a build by two workers, and waits until they are in the middle of it."""
    (folder / "a.txt").write_text(text(2000) * 40, encoding="utf-8")
    arguments, common = command(
        "build_pretraining_data",
        f"--input={folder}/a.txt",
        f"--vocab_file={vocab_file}",
        f"--output_dir={folder}/out",
        "--workers=2",
    )
    process = subprocess.Popen(
        arguments,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
        # A suite that was started in the background would pass on that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **common,
    )
    deadline = time.monotonic() + 60
    while not list(folder.glob("out.incomplete-*/part-*")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.02)
    return process


def members(session):
    """The processes of a session that are alive."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            alive.append(int(stat.parent.name))
    return alive


def wait_until_gone(session):
    deadline = time.monotonic() + 20
    while members(session):
        assert time.monotonic() < deadline, members(session)
        time.sleep(0.05)


def test_kill_in_the_middle(corpus, vocab_file, tmp_path):
    process = start_long_build(vocab_file, tmp_path)
    assert len(members(process.pid)) >= 3
    process.kill()
    process.wait()
    wait_until_gone(process.pid)  # workers notice that their parent is gone
    assert not (tmp_path / "out").exists()
    left = list(tmp_path.glob("out.incomplete-*"))
    assert len(left) == 1
    for source in (tmp_path / "out", tmp_path / "out*", tmp_path / "*" / "*"):
        with pytest.raises(RecordsError):
            find_records(str(source))
    done = build(corpus, vocab_file, tmp_path / "out")
    assert f"removed {left[0]}, left by a run that was killed" in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "out"]
    assert find_records(str(tmp_path / "out")).num_examples > 500


def test_interrupt_in_the_middle(vocab_file, tmp_path):
    process = start_long_build(vocab_file, tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    stderr = process.communicate(timeout=30)[1]
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    wait_until_gone(process.pid)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_termination_leaves_nothing(tmp_path):
    program = """
import os, signal
from data_tools.output_directory import OutputDirectory
from electra_keras import console

def main():
    with OutputDirectory("out", False) as output:
        open(os.path.join(output.temporary, "part"), "w").close()
        os.kill(os.getpid(), signal.SIGTERM)

console.run_main(main)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (143, b"")
    assert not list(tmp_path.iterdir())


def test_a_set_for_evaluation_alone(corpus, vocab_file, tmp_path):
    arguments = [f"--input={corpus}/a.txt", f"--vocab_file={vocab_file}", "--max_seq_length=32"]
    module = "data_tools.build_pretraining_data"
    code, stdout, stderr = forked(
        module, *arguments, f"--output_dir={tmp_path}/out", "--validation_fraction=1"
    )
    assert code == 0, stderr
    assert "validation: 400 documents" in stdout and "train: " not in stdout
    metadata = read_metadata(str(tmp_path / "out"))
    assert list(metadata.splits) == ["validation"]
    assert find_records(str(tmp_path / "out"), "validation").num_examples > 300
    with pytest.raises(
        RecordsError, match="lists no train split: it was built for evaluation alone"
    ):
        find_records(str(tmp_path / "out"))
    # The loss of token frequencies alone is that of the set itself, as it is for the other split.
    code, _, stderr = forked(module, *arguments, f"--output_dir={tmp_path}/train")
    assert code == 0, stderr
    entropy = read_metadata(str(tmp_path / "train")).unigram_entropy
    assert metadata.unigram_entropy == pytest.approx(entropy, rel=0.01)
    assert metadata.validation_unigram_cross_entropy is None
    code, stdout, stderr = forked("data_tools.inspect_records", f"--data={tmp_path}/out")
    assert code == 0, stderr
    assert "all records are good" in stdout


@pytest.mark.parametrize("name", ["out[1]", "{a,b}*?", "a\nb ", "~"])
def test_odd_names(vocab_file, tmp_path, name):
    folder = tmp_path / f"in {name}"
    folder.mkdir()
    (folder / f"{name}.txt").write_text(text(300), encoding="utf-8")
    vocabulary = folder / f"{name} vocab"
    for module, *arguments in (
        (
            "build_vocab",
            f"--input={folder}/{name}.txt",
            f"--output={vocabulary}",
            "--vocab_size=190",
        ),
        (
            "build_pretraining_data",
            f"--input={folder}/*.txt",
            f"--vocab_file={vocabulary}",
            f"--output_dir={folder}/{name}",
            "--max_seq_length=32",
        ),
        ("inspect_records", f"--data={folder}/{name}"),
    ):
        code, stdout, stderr = forked(f"data_tools.{module}", *arguments)
        assert code == 0, stderr
    assert "all records are good" in stdout
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [f"{name}.txt", vocabulary.name, name]
    )


@pytest.mark.parametrize("module", ["build_vocab", "build_pretraining_data"])
def test_both_tools_treat_bad_bytes_alike(vocab_file, tmp_path, module):
    (tmp_path / "a.txt").write_bytes(text(100).encode() + "größer\n".encode("latin-1"))
    (tmp_path / "b.txt").write_bytes("Vögel und Dächer\n".encode("latin-1") * 100)
    (tmp_path / "c.txt").write_bytes(bz2.compress(b"text"))
    outputs = {
        "build_vocab": [f"--output={tmp_path}/out", "--vocab_size=200"],
        "build_pretraining_data": [
            f"--output_dir={tmp_path}/out",
            f"--vocab_file={vocab_file}",
            "--overwrite",
        ],
    }

    def build(name, *flags):
        arguments = [f"--input={tmp_path}/{name}.txt", *outputs[module], *flags]
        code, _, stderr = forked(f"data_tools.{module}", *arguments)
        return code, stderr

    code, stderr = build("b", "--max_bad_share=1")
    assert code == 0 and "100 lines were not UTF-8" in stderr
    code, stderr = build("a")
    assert code == 0 and "1 lines were not UTF-8; --strict stops at the first" in stderr
    code, stderr = build("a", "--strict")
    assert code == 1 and "a.txt, line 400: not UTF-8 (invalid start byte" in stderr
    code, stderr = build("b")
    assert code == 1 and "100 of 101 lines" in stderr and "--max_bad_share=1" in stderr
    code, stderr = build("c")
    assert code == 1 and "c.txt is packed with bzip2: unpack it first" in stderr


# --- inspect_records ---


def test_inspection_of_good_and_damaged_data(data_set, vocab_file, tmp_path):
    metadata = read_metadata(str(data_set))
    done = run("inspect_records", f"--data={data_set}", "--num_examples=1")
    assert f"{metadata.splits['train'].examples:,} examples of 32" in done.stdout
    assert "validation: " in done.stdout and "[CLS] " in done.stdout
    assert "all records are good" in done.stdout

    # One byte in the middle of a shard, of which metadata.json can know nothing.
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in data_set.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    shard = copy / metadata.splits["train"].shards[0].name
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    done = run("inspect_records", f"--data={copy}", code=1)
    readable = scan_file(str(shard), "", 32).damaged_at
    assert readable > 10
    assert f"WRONG {shard}, record {readable}: cut off or corrupt" in done.stdout


def test_inspection_names_wrong_records(vocab_file, tmp_path):
    import tensorflow as tf

    from electra_keras.data.records import serialize_example

    vocabulary = Vocabulary.load(str(vocab_file))
    cls, sep, size = vocabulary.cls_id, vocabulary.sep_id, len(vocabulary)
    good = ([cls, 9, sep, 0], [1, 1, 1, 0], [0, 0, 0, 0])
    wrong = [
        (([cls, size, sep, 0], good[1], good[2]), "input_ids outside"),
        ((good[0], [1, 2, 1, 0], good[2]), "input_mask is not 0 or 1"),
        (([cls, 9, 0, sep], [1, 1, 0, 1], good[2]), "input_mask is not ones and then zeros"),
        (([9, 9, sep, 0], good[1], good[2]), "the first token is not [CLS]"),
        (([cls, 9, 9, 0], good[1], good[2]), "the last token is not [SEP]"),
        (([cls, 9, sep, 7], good[1], good[2]), "tokens other than [PAD] in padding"),
        (([cls, 0, sep, 0], good[1], good[2]), "[PAD] among the tokens"),
        ((good[0], good[1], [0, 2, 2, 0]), "segment_ids are not 0 or 1"),
        ((good[0], good[1], [0, 0, 0, 1]), "segment_ids in padding are not 0"),
        ((good[0], good[1], [1, 0, 0, 0]), "segment_ids go back"),
        (([cls], [1], [0]), "no tf.train.Example with features of length 4"),
    ]
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        writer.write(serialize_example(*good))
        for values, _ in wrong:
            writer.write(serialize_example(*values))
            writer.write(serialize_example(*good))
    arguments = [f"--data={tmp_path}/a.tfrecord", f"--vocab_file={vocab_file}"]
    done = run("inspect_records", *arguments, code=1)
    for number, (_, message) in enumerate(wrong):
        assert f"a.tfrecord, record {1 + 2 * number}: {message}" in done.stdout
    named = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert all(int(line.split("record ")[1].split(":")[0]) % 2 for line in named)


# --- extract_wikipedia ---

PAGE = """<page><title>{title}</title><ns>{ns}</ns><id>1</id>{extra}<revision><id>2</id>
<text>{text}</text></revision></page>"""
ARTICLE = """{{Infobox|name={{nested|x}}
|y=z}}
'''Alan Turing''' ({{IPA|x}}; born 1912) was a [[mathematician|British mathematician]] and a
[[Logic|logician]].&lt;ref name="a"&gt;Not this.&lt;/ref&gt; He wrote ''On Computable Numbers''.

[[File:Turing.jpg|thumb|A [[photograph]] of [him].]] The machine is {{convert|5|m|ft}} long
&amp;amp; wide.

{| class="wikitable"
|-
| A cell. || Another cell that should not be there.
|}
== Heading that goes. ==
* A list item that is long enough to be a sentence, and goes.
The [http://example.org/ linked words] stay, and so does the case of ''NASA''.

== References ==
Nothing after that heading is wanted, not even a whole sentence.
[[Category:Logicians]]"""


def test_extracting_prose_from_a_dump(tmp_path):
    pages = [
        PAGE.format(title="Alan Turing", ns=0, extra="", text=ARTICLE),
        PAGE.format(title="Talk:Alan", ns=1, extra="", text="A talk page has sentences. " * 5),
        PAGE.format(
            title="Turing", ns=0, extra='<redirect title="x"/>', text="#REDIRECT [[Alan Turing]]"
        ),
        PAGE.format(title="Short", ns=0, extra="", text="This is a short article indeed."),
        PAGE.format(title="B", ns=0, extra="", text="The second article has one sentence. " * 4),
    ]
    xml = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/"><siteinfo/>'
        + "".join(pages)
        + "</mediawiki>"
    )
    dump, output = tmp_path / "d.xml.bz2", tmp_path / "d.txt"
    dump.write_bytes(bz2.compress(xml.encode()))
    arguments = [f"--dump={dump}", f"--output={output}", "--min_article_characters=100"]
    done = run("extract_wikipedia", *arguments)
    assert "2 articles" in done.stdout
    assert output.read_text().split("\n") == [
        "Alan Turing (born 1912) was a British mathematician and a logician. He wrote On "
        "Computable Numbers.",
        "The machine is 5 m long & wide.",
        "The linked words stay, and so does the case of NASA.",
        "",
        ("The second article has one sentence. " * 4).strip(),
        "",
    ]
    dump.write_bytes(dump.read_bytes()[:-20])
    output.unlink()
    assert "truncated" in error_of(run("extract_wikipedia", *arguments, code=1))
    dump.write_bytes(b"no bzip2")
    assert "no bzip2 file" in error_of(run("extract_wikipedia", *arguments, code=1))
    assert [p.name for p in tmp_path.iterdir()] == ["d.xml.bz2"]
