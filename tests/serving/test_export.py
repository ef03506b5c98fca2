"""python -m electra_keras.export: versions, what is in one, and bad use."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import time

import numpy as np
import pytest
from tensorflow_serving.apis import prediction_log_pb2

from electra_keras.console import UsageError, UserError
from electra_keras.directories import whole_directory
from electra_keras.serving import archive
from electra_keras.serving.encoding import choose_buckets
from electra_keras.text.vocabulary import Vocabulary
from tests.interop.models import random_model
from tests.runs import error_of, run
from tests.serving.native import NativeModel
from tests.serving.texts import BUCKETS

# isort: split
import tensorflow as tf

EXPORT = "electra_keras.export"


def warmup_logs(path):
    records = tf.data.TFRecordDataset(str(path / "assets.extra/tf_serving_warmup_requests"))
    return [prediction_log_pb2.PredictionLog.FromString(r.numpy()) for r in records]


def test_warmup_has_every_signature_and_bucket(export, native):
    """Read by TF Serving's own message definitions, and run."""
    seen = set()
    for log in warmup_logs(export.path):
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        assert not any(value.size == 0 for value in inputs.values())
        outputs = native.run(name, inputs)
        (servable,) = (s for s in export.servable.signatures if s.name == name)
        if "text" in inputs:
            encoded = export.servable.encoder.encode(
                inputs["text"], inputs.get("text_pair"), find_masks=name == "fill_mask"
            )
            length = encoded.input_ids.shape[1]
            assert not outputs["truncated"].any()
            assert name != "fill_mask" or outputs["length"] == [1]
        else:
            length = inputs["input_ids"].shape[1]
        seen.add((servable.name, length))
    assert seen == {(s.name, bucket) for s in export.servable.signatures for bucket in BUCKETS}


def test_a_version_holds_what_people_need_to_know(export):
    extra = export.path / "assets.extra"
    described = json.loads((extra / "export.json").read_text())
    assert described["serving_default"] == "replaced_tokens"
    assert described["sequence_buckets"] == BUCKETS
    assert described["signatures"]["embed"]["outputs"] == ["cls", "length", "mean", "truncated"]
    # Gradients are not stored; a name of one that is not there makes every loader warn.
    assert b"_gradient_op_type" not in (export.path / "saved_model.pb").read_bytes()
    vocabulary = Vocabulary.load(str(extra / "vocab.txt"))
    assert described["vocab_sha256"] == vocabulary.sha256
    assert [p.name for p in export.path.parent.iterdir()] == ["1"]
    size = sum(p.stat().st_size for p in export.path.rglob("*") if p.is_file())
    assert f"wrote {export.path}: {size / 1e6:.1f} MB" in export.stdout


def test_versions_follow_and_settings_are_said(export, native, tmp_path):
    (tmp_path / "7").mkdir()
    left = kill_in_the_middle_of(tmp_path, 9)
    samples = tmp_path / "samples.txt"
    samples.write_text("the cat\n\nsat on a mat\n")
    code, stdout, stderr = run(
        EXPORT, f"--model_dir={export.model_dir}", f"--export_dir={tmp_path}", "--quantize=int8",
        f"--sample_file={samples}", "--networks=discriminator",
    )  # fmt: skip
    assert code == 0, stderr
    assert (
        "difference from float32 on 2 texts" in stdout and "embed.mean: mean difference" in stdout
    )
    assert f"deleted {left}" in stdout and not left.exists()
    assert f"wrote {tmp_path / '8'}" in stdout and "fill_mask" not in stdout
    ours = NativeModel(tmp_path / "8")
    weights = "variables/variables.data-00000-of-00001"
    assert (tmp_path / "8" / weights).stat().st_size < 0.5 * (export.path / weights).stat().st_size
    text = {"text": ["the cat sat"]}
    difference = ours.run("embed", text)["mean"] - native.run("embed", text)["mean"]
    assert 0 < np.abs(difference).max() < 0.1


def test_bad_use_is_one_line(export, tmp_path):
    model, out = f"--model_dir={export.model_dir}", f"--export_dir={tmp_path / 'out'}"
    shutil.copytree(export.model_dir, tmp_path / "unfinished")
    shutil.rmtree(tmp_path / "unfinished" / "checkpoints")
    shutil.copytree(export.model_dir, tmp_path / "edited")
    vocabulary = tmp_path / "edited" / "vocab.txt"
    vocabulary.write_text(vocabulary.read_text().rstrip("\n").rpartition("\n")[0] + "\n")
    cases = [
        ([f"--model_dir={tmp_path / 'edited'}", out], 1, "vocab.txt has "),
        ([model, f"--export_dir={export.path.parent}", "--version=1"], 2, "exists already"),
        ([f"--model_dir={tmp_path / 'unfinished'}", out], 1, "has no checkpoints"),
    ]
    for flags, code, message in cases:
        got, line = error_of(EXPORT, *flags)
        assert got == code and message in line, line
    assert not (tmp_path / "out").exists()


def test_buckets():
    config = random_model().config  # of 20 positions, trained at 20
    assert choose_buckets(config, None) == [16, 20]
    assert choose_buckets(config, ["4", "16", "20"]) == [4, 16, 20]
    long = dataclasses.replace(config.discriminator, max_position_embeddings=512)
    config = dataclasses.replace(config, discriminator=long, generator=long, max_seq_length=128)
    assert choose_buckets(config, None) == [16, 32, 64, 128]
    for wanted in (["8", "4"], ["8", "8"], ["8", "513"], ["3"], ["x"], ["-8"], []):
        with pytest.raises(UsageError, match="ascending"):
            choose_buckets(config, wanted)


def one_signature(servable):
    """All weights, and a graph that is written in a moment."""
    signatures = [s for s in servable.signatures if s.name == "embed_ids"]
    return dataclasses.replace(servable, signatures=signatures, default="embed_ids")


@pytest.mark.parametrize("existed", [True, False])
def test_a_disk_that_fills_up_leaves_nothing(export, tmp_path, existed):
    """Files may not grow over 100 kB, which is an error of the write, as a full disk is."""
    out = tmp_path / "out" if existed else tmp_path / "new" / "out"
    if existed:
        out.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
    try:
        with pytest.raises(UserError, match=f"cannot write {out / '1'}"):
            archive.write_version(one_signature(export.servable), out, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.rglob("*")] == (["out"] if existed else [])


def kill_in_the_middle_of(export_dir, version):
    """Kills a process while it writes a version; returns what it leaves."""
    process = os.fork()
    if process == 0:
        with whole_directory(export_dir / str(version), archive._incomplete(export_dir, version)):
            (archive._incomplete(export_dir, version) / "saved_model.pb").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(process, 0)
    (left,) = export_dir.glob(f".incomplete-{version}-*-{process}")
    assert (left / "saved_model.pb").exists()
    return left


def test_what_a_killed_export_left_is_deleted_and_nothing_else(tmp_path):
    left = kill_in_the_middle_of(tmp_path, 4)
    mine, other, earlier, old = (
        tmp_path / f".incomplete-{name}"
        for name in (f"5-{archive._host()}-{os.getpid()}", "6-elsewhere-1", "7-1", "8-elsewhere-1")
    )
    for path in (mine, other, earlier, old):
        path.mkdir()
        (path / "saved_model.pb").write_text("half")
    (tmp_path / ".incomplete").mkdir()
    (tmp_path / "3").mkdir()
    for path in (old / "saved_model.pb", old):
        os.utime(path, (0, time.time() - 25 * 3600))
    # Written to again, though it was begun long ago.
    os.utime(other, (0, 0))
    assert archive.remove_leftovers(tmp_path) == [left, old]
    kept = {mine, other, earlier, tmp_path / ".incomplete", tmp_path / "3"}
    assert set(tmp_path.iterdir()) == kept
    assert archive.remove_leftovers(tmp_path / "new") == []


def test_a_disk_without_room_is_seen_before(export, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 10**6))
    with pytest.raises(UserError, match="and 1 MB are free"):
        archive.check_space(tmp_path / "new" / "export", export.servable.layers)


def test_choice_of_versions(tmp_path):
    assert archive.choose_version(tmp_path / "new", None) == 1
    for name in ("1", "12", "x", ".incomplete-40-7"):
        (tmp_path / name).mkdir()
    assert archive.choose_version(tmp_path, None) == 13
    assert archive.choose_version(tmp_path, 5) == 5
    with pytest.raises(UsageError, match="never overwritten"):
        archive.choose_version(tmp_path, 12)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a directory"):
        archive.choose_version(tmp_path / "file", None)


def test_a_version_that_appears_meanwhile_is_not_overwritten(export, tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_text("another's")
    with pytest.raises(UserError, match="cannot write"):
        archive.write_version(one_signature(export.servable), tmp_path, 1)
    assert [p.name for p in tmp_path.rglob("*")] == ["1", "saved_model.pb"]
