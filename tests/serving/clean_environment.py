"""Runs an export in a fresh virtual environment that has TensorFlow and tensorflow-text, and no more.

    python -m tests.serving.clean_environment EXPORT/1 ...

Needs pip and its index, so it is no test of the suite (which blocks the import of the library instead).
Every signature is asked by Python's loader there and by the C++ loader here; the answers must agree.
"""

import base64
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.serving.native import NativeModel

_INSIDE = """
import base64, importlib.util, json, sys
import numpy as np
import tensorflow as tf
import tensorflow_text

for name in ("electra_keras", "keras_hub", "keras_nlp", "tensorflow_serving"):
    assert importlib.util.find_spec(name) is None, name
models = [tf.saved_model.load(path) for path in sys.argv[1:]]
for line in sys.stdin:
    number, name, texts = json.loads(line)
    function = models[number].signatures[name]
    specs = function.structured_input_signature[1]
    if "input_ids" in specs:
        request = {key: tf.constant([[2, 4, 3]] if key == "input_ids" else [[1, 1, 1]]) for key in specs}
    else:
        request = {key: tf.constant([base64.b64decode(text) for text in texts]) for key in specs}
    for key, value in sorted(function(**request).items()):
        value = value.numpy()
        if value.dtype == object:
            value = np.vectorize(bytes.decode, otypes=[object])(value)
        print(json.dumps([number, name, key, value.tolist()]))
"""


def main() -> int:
    exports = [Path(argument).resolve() for argument in sys.argv[1:]]
    requirements = (Path(__file__).parents[2] / "requirements.txt").read_text()
    packages = re.findall(r"^tensorflow(?:-text)?==\S+", requirements, re.MULTILINE)
    texts = [b"The cat [MASK] on the mat.", b"", b"\xffna\xc3\xafve \xe4\xb8\xad", b"a " * 3000]
    ours, lines = {}, []
    for number, export in enumerate(exports):
        model = NativeModel(export)
        for name, (inputs, _) in model.signatures.items():
            ids = {key: [[2, 4, 3]] if key == "input_ids" else [[1, 1, 1]] for key in inputs}
            request = ids if "input_ids" in inputs else {key: texts for key in inputs}
            ours[number, name] = model.run(name, request)
            encoded = [base64.b64encode(text).decode() for text in texts]
            lines.append(json.dumps([number, name, encoded]))
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        python = f"{directory}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        result = subprocess.run(
            [python, "-I", "-c", _INSIDE, *map(str, exports)], input="\n".join(lines), cwd=directory,
            check=True, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
    differences = []
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(answers) == sum(len(outputs) for outputs in ours.values())
    for number, name, key, value in answers:
        here = ours[number, name][key]
        if here.dtype == object:
            assert np.vectorize(bytes.decode, otypes=[object])(here).tolist() == value, (name, key)
        else:
            differences.append(np.abs(np.asarray(value, np.float64) - here).max(initial=0))
    largest = max(differences)
    print(f"{', '.join(packages)}: {len(ours)} signatures, largest difference {largest:.2g}")
    return int(largest > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
