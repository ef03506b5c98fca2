"""The client, against the stand-in for TF Serving (stand_in.py: no TF Serving binary is to be had)."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from electra_keras.serving import client
from electra_keras.serving.client import Client, ServingError
from tests.runs import REPOSITORY
from tests.serving import finetuned_models
from tests.serving.conftest import requests
from tests.serving.test_native import assert_same, expected
from tests.serving.texts import TEXTS

# One for each set of signatures; all exports are under test in test_finetuned.py.
FINETUNED = ("classify_pair", "regress", "answer", "tag")


@pytest.fixture(scope="module")
def ports(export, finetuned_exports):
    others = [f"{name}={finetuned_exports[name].path}" for name in FINETUNED]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.stand_in", str(export.path), *others],
        cwd=REPOSITORY,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.fixture(params=["http", "grpc"])
def url(request, ports):
    port = ports["rest"] if request.param == "http" else ports["grpc"]
    return f"{request.param}://127.0.0.1:{port}"


def test_every_signature(export, url):
    for signature, inputs in requests().items():
        answer = Client(url).predict(signature, **inputs)
        assert_same(answer, expected(export, signature, inputs))


@pytest.mark.parametrize("name", FINETUNED)
def test_every_signature_of_fine_tuned_models(finetuned_exports, url, name):
    for signature, inputs in finetuned_models.requests(name).items():
        answer = Client(url, model=name).predict(signature, **inputs)
        assert_same(answer, expected(finetuned_exports[name], signature, inputs))


def test_text_may_be_str_or_bytes_and_hold_a_lone_surrogate(url):
    asked = Client(url)
    text = asked.predict(text=["naïve", "\ud800 x"])
    raw = asked.predict(text=["naïve".encode(), b"\xed\xa0\x80 x"])
    assert text == raw
    assert text["tokens"][1][:2] == ["x", ""]


def test_no_texts_at_all(url):
    assert Client(url).predict("embed", text=[])["cls"] == []


def test_large_answers_and_requests(url):
    answer = Client(url).predict("embed_tokens", text=["a " * 2_000_000] * 2 + ["a b"] * 600)
    assert np.shape(answer["embeddings"]) == (602, 32, 64)
    assert answer["truncated"][:3] == [True, True, False]


def test_errors_are_one_line_that_says_what(url, ports):
    with pytest.raises(ServingError, match="nonsense"):
        Client(url).predict("nonsense", text=["a"])
    with pytest.raises(ServingError, match=r"replaced_tokens takes \['text'\]"):
        Client(url).predict("replaced_tokens", words=["a"])
    with pytest.raises(ServingError, match="other"):
        Client(url, model="other").predict(text=["a"])
    with pytest.raises(ServingError):
        Client(url, version=7).predict(text=["a"])
    with pytest.raises(ServingError, match="between 0 and 1499"):
        Client(url).predict("embed_ids", input_ids=[[1500]], input_mask=[[1]], segment_ids=[[0]])
    closed = url.rsplit(":", 1)[0] + ":1"
    with pytest.raises(ServingError, match=r"127\.0\.0\.1:1"):
        Client(closed, timeout=5).predict(text=["a"])
    with pytest.raises(ServingError, match="expected http"):
        Client("localhost:8501")


def test_version_and_status(ports):
    asked = Client(f"http://127.0.0.1:{ports['rest']}", version=1)
    assert asked.predict(text=["a"])["length"] == [1]
    assert Client(asked.url).status()[0]["state"] == "AVAILABLE"
    with pytest.raises(ServingError, match="http"):
        Client(f"grpc://127.0.0.1:{ports['grpc']}").status()


def test_command_line(url, capsys):
    assert client.main([f"--url={url}", "--signature=replaced_tokens", "a b", "c"]) == 0
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["length"], second["length"]) == (2, 1)
    pair = [f"--url={url}", "--signature=replaced_tokens_pair", "--text_pair=b", "a"]
    assert client.main(pair) == 0
    assert json.loads(capsys.readouterr().out)["text_index"][:2] == [0, 1]
    question = [f"--url={url}", "--model=answer", "--question=where", TEXTS[4]]
    assert client.main(question) == 0
    answer = json.loads(capsys.readouterr().out)
    assert TEXTS[4][answer["start"] : answer["end"]] == answer["answer"] != ""
    assert client.main([f"--url={url}", "--signature=x", "a"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    for bad in ([*pair, "c"], [*question, "c"], [*question, "--text_pair=b"]):
        with pytest.raises(SystemExit) as stopped:
            client.main(bad)
        assert stopped.value.code == 2


def test_answers_are_utf8_whatever_the_locale(monkeypatch):
    monkeypatch.setattr(Client, "predict", lambda *_, **__: {"words": [["\u65e5", "\ud800"]]})
    output = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", output)
    assert client.main(["a"]) == 0
    output.flush()
    assert json.loads(output.buffer.getvalue().decode()) == {"words": ["\u65e5", "\ud800"]}


def test_the_command_sends_bytes_as_they_are(url):
    """Of a process with a strict standard input; what is not UTF-8 counts as one code point."""
    command = [sys.executable, "-m", "electra_keras.serving.client", f"--url={url}"]
    environment = os.environ | {"PYTHONIOENCODING": "utf-8:strict"}
    for arguments, stdin in (([b"a\xff b"], b""), ([], b"a\xff b\n")):
        result = subprocess.run(
            [*command, *arguments],
            input=stdin,
            capture_output=True,
            cwd=REPOSITORY,
            env=environment,
        )
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["starts"][:2] == [0, 3]


def test_rest_needs_neither_tensorflow_nor_this_library(ports, tmp_path):
    """The file is copied away and run by itself."""
    copy = tmp_path / "client.py"
    copy.write_bytes((REPOSITORY / "electra_keras/serving/client.py").read_bytes())
    command = (
        f"import sys; sys.modules['tensorflow'] = sys.modules['numpy'] = None; import client; \
sys.exit(client.main(['--url=http://127.0.0.1:{ports['rest']}', {TEXTS[0]!r}]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", command], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["tokens"][0] == "the"
    grpc = command.replace("http://", "grpc://")
    result = subprocess.run(
        [sys.executable, "-c", grpc], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.returncode == 1 and "pip install tensorflow-serving-api" in result.stderr
