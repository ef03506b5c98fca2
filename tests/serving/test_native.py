"""Exports run without Python's TensorFlow, and equal what Python computes."""

import base64
import json
import os
import subprocess
import sys
from concurrent import futures

import numpy as np
import pytest
from tensorflow.python.saved_model import loader_impl

from tests.runs import REPOSITORY
from tests.serving.conftest import requests
from tests.serving.texts import BUCKETS, TEXTS

# isort: split
import tensorflow as tf


def to_json(value):
    if isinstance(value, list):
        return [to_json(item) for item in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def run_python(code_or_args, stdin="", timeout=120):
    result = subprocess.run(
        [sys.executable, *code_or_args],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=REPOSITORY,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def computed(export, signature, inputs):
    """What the signature's function gives in Python, eagerly, before any export."""
    servable = export.servable
    name = servable.default if signature == "serving_default" else signature
    (found,) = (s for s in servable.signatures if s.name == name)
    tensors = {key: tf.constant(inputs[key], spec.dtype) for key, spec in found.inputs.items()}
    return {key: value.numpy() for key, value in found.function(**tensors).items()}


_EXPECTED = {}


def expected(export, signature, inputs):
    """The same of nested lists, computed once for each request."""
    name = export.servable.default if signature == "serving_default" else signature
    request = (export.path, name, repr(inputs))
    if request not in _EXPECTED:
        _EXPECTED[request] = computed(export, signature, inputs)
    return _EXPECTED[request]


def assert_same(outputs, reference):
    assert set(outputs) == set(reference)
    for key, wanted in reference.items():
        got = outputs[key]
        if wanted.dtype == object:
            assert got == np.vectorize(bytes.decode, otypes=[object])(wanted).tolist(), key
        elif wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, atol=1e-5, err_msg=key)
        else:
            np.testing.assert_array_equal(got, wanted, err_msg=key)


@pytest.fixture(scope="module")
def native_answers(export):
    """Every signature's answer from a process that never imports Python's TensorFlow."""
    lines = [
        json.dumps({"signature": name, "inputs": {key: to_json(v) for key, v in inputs.items()}})
        for name, inputs in requests().items()
    ]
    answers = run_python(["-m", "tests.serving.native", str(export.path)], "\n".join(lines))
    *answers, imported = map(json.loads, answers)
    assert imported == {"imported": []}
    return dict(zip(requests(), answers, strict=True))


def test_all_signatures_are_there(export):
    signatures = loader_impl.parse_saved_model(str(export.path)).meta_graphs[0].signature_def
    assert set(signatures) - {"__saved_model_init_op"} == set(requests())
    for name in requests():
        assert f"  {name}(" in export.stdout or name == "serving_default"


@pytest.mark.parametrize("signature", requests())
def test_the_cpp_loader_gives_what_python_gives(export, native_answers, signature):
    reference = expected(export, signature, requests()[signature])
    assert_same(native_answers[signature], reference)


def test_replaced_tokens_says_where_and_how_long(native_answers):
    answer = native_answers["serving_default"]
    assert answer["truncated"] == [False, False, False, False, True, False]
    assert answer["length"][1] == answer["length"][5] == 0
    assert answer["length"][4] == BUCKETS[-1] - 2
    length = answer["length"][0]
    pieces = answer["tokens"][0]
    spans = [
        TEXTS[0][start:end]
        for start, end in zip(answer["starts"][0], answer["ends"][0], strict=True)
    ]
    assert [p.removeprefix("##") for p in pieces[:length]] == [s.lower() for s in spans[:length]]
    assert all(0 < p < 1 for p in answer["probabilities"][0][:length])
    assert set(pieces[length:]) == {""} and set(answer["probabilities"][0][length:]) == {0.0}


def test_bytes_that_are_not_utf8_count_as_one_character_each(native_answers):
    decoded = TEXTS[3].decode("utf-8", "replace")
    answer = native_answers["serving_default"]
    word = decoded.index("broken")
    assert word in answer["starts"][3] and word + len("broken") in answer["ends"][3]


def test_an_empty_pair_is_a_single_text(native_answers):
    single, pair = native_answers["replaced_tokens"], native_answers["replaced_tokens_pair"]
    # Its partner is white space.
    length = single["length"][0]
    assert pair["tokens"][0] == single["tokens"][0]
    np.testing.assert_allclose(
        pair["probabilities"][0][:length], single["probabilities"][0][:length], atol=1e-5
    )
    assert set(pair["text_index"][0]) == {0}
    assert set(pair["text_index"][2]) == {0, 1}


def test_fill_mask_finds_the_typed_masks_only(native_answers):
    answer = native_answers["fill_mask"]
    assert answer["length"] == [2, 0, 0, 0]
    assert (answer["starts"][0], answer["ends"][0]) == ([4, 22], [10, 28])
    assert answer["truncated"] == [False, False, False, True]
    for row in answer["probabilities"][0]:
        assert row == sorted(row, reverse=True) and 0 < sum(row) < 1
    assert native_answers["fill_mask_ids"]["positions"] == [[2, 0], [1, 3]]


def test_ids_answer_as_text_does(export, native_answers):
    """The ids that the encoder makes of a text give the text's own answer."""
    encoded = export.servable.encoder.encode(tf.constant(requests()["embed"]["text"]))
    ids = {key: getattr(encoded, key) for key in ("input_ids", "input_mask", "segment_ids")}
    by_ids = computed(export, "embed_ids", ids)
    for key in ("cls", "mean"):
        np.testing.assert_allclose(native_answers["embed"][key], by_ids[key], atol=1e-5)


def test_many_callers_get_what_one_gets(native):
    """Eight threads on one session, with texts of all lengths and errors between them."""
    asked = [(name, inputs) for name, inputs in requests().items()] * 6
    bad = {"input_ids": [[-1]], "input_mask": [[1]], "segment_ids": [[0]]}

    def ask(request):
        with pytest.raises(ValueError, match="input_ids must be between"):
            native.run("embed_ids", bad)
        return native.run(*request)

    single = [ask(request) for request in asked]
    with futures.ThreadPoolExecutor(8) as pool:
        for one, other in zip(single, pool.map(ask, asked), strict=True):
            for key, value in one.items():
                if value.dtype.kind == "f":
                    np.testing.assert_allclose(other[key], value, atol=1e-6)
                else:
                    assert (other[key] == value).all()


TEXT_OPS = {"FastWordpieceTokenizeWithOffsets", "NormalizeUTF8"}


def nodes_of(export):
    """The graph, and all its nodes, those of functions included."""
    graph = loader_impl.parse_saved_model(str(export.path)).meta_graphs[0].graph_def
    return graph, [*graph.node, *(n for f in graph.library.function for n in f.node_def)]


def test_stock_ops_only(export):
    """None that needs Python, XLA, or the ICU data that TF Serving lacks."""
    graph, nodes = nodes_of(export)
    ops = {node.op for node in nodes}
    # Two are tensorflow-text's; the others were known to TensorFlow alone (see below).
    assert {op for op in ops if op in TEXT_OPS} == TEXT_OPS
    assert not {op for op in ops if "PyFunc" in op or "Xla" in op or "CaseFold" in op}
    compiled = [n.name for n in nodes if n.attr["_XlaMustCompile"].b]
    assert not compiled  # TF Serving refuses those unless it is started for them
    for function in graph.library.function:
        assert not function.attr["_XlaMustCompile"].b, function.signature.name


def test_runs_where_this_library_cannot_be_imported(export, native_answers):
    """With TensorFlow and tensorflow-text alone (which import Keras, their own dependency).

    And but for two ops of tensorflow-text, with TensorFlow alone.
    """
    code = """
import json, sys
for name in ("electra_keras", "keras_hub", "keras_nlp"):
    sys.modules[name] = None  # an import of it fails
import tensorflow as tf
from tensorflow.python.framework import op_def_registry
print(json.dumps([op for op in json.loads(sys.argv[3]) if op_def_registry.get(op) is None]))
import tensorflow_text
model = tf.saved_model.load(sys.argv[1])
answer = model.signatures["serving_default"](text=tf.constant(json.loads(sys.argv[2])))
print(json.dumps(answer["probabilities"].numpy().tolist()))
"""
    text = json.dumps([TEXTS[0], TEXTS[1]])
    ops = json.dumps(sorted({node.op for node in nodes_of(export)[1]}))
    unknown, line = run_python(["-c", code, str(export.path), text, ops])
    assert set(json.loads(unknown)) == TEXT_OPS
    wanted = native_answers["serving_default"]["probabilities"][:2]
    np.testing.assert_allclose(np.array(json.loads(line)), np.array(wanted)[:, :16], atol=1e-5)
