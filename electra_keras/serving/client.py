"""Asks a model that TF Serving serves, over REST or gRPC.

    python -m electra_keras.serving.client --url=http://localhost:8501 "A text." "Another text."
    python -m electra_keras.serving.client --url=grpc://localhost:8500 --signature=fill_mask "A [MASK]."
    python -m electra_keras.serving.client --model=squad --question="Who sat?" "The cat sat on the mat."

REST needs nothing but Python, and this file nothing else of the library, so it can be copied. gRPC needs
`pip install tensorflow-serving-api==2.21.0`.
"""

import argparse
import base64
import importlib.util
import io
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

Values = dict[str, Any]
_INSTALL = "gRPC needs tensorflow-serving-api: pip install tensorflow-serving-api==2.21.0"


class ServingError(Exception):
    """The server cannot be reached, or refuses a request; says why in one line."""


class Client:
    """A model on a server.

    Args:
        url: `http://HOST:8501` (also https) for REST, `grpc://HOST:8500` for gRPC.
        model: the name that it is served under.
        version: a version, or None for the newest.
        timeout: seconds to wait for an answer.

    Example:
        client = Client("http://localhost:8501")
        client.predict(text=["The cat sat on the mat."])["probabilities"]
        client.predict("fill_mask", text=["Paris is the [MASK] of France."])["tokens"]
    """

    def __init__(
        self, url: str, model: str = "electra", version: int | None = None, timeout: float = 60
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https", "grpc") or not parts.netloc:
            raise ServingError(f"{url}: expected http://HOST:PORT, https://... or grpc://HOST:PORT")
        self.url, self.model, self.version, self.timeout = url.rstrip("/"), model, version, timeout
        self._grpc = _Grpc(parts.netloc) if parts.scheme == "grpc" else None

    def predict(self, signature: str = "serving_default", **inputs: Any) -> Values:
        """Returns what a signature answers.

        Args:
            signature: its name.
            inputs: a list per input; text as str or bytes (which need not be UTF-8), ids as ints.

        Returns:
            nested lists by output, the batch first; text as str.

        Raises:
            ServingError: no answer, or an error as answer.
        """
        if self._grpc is not None:
            return self._grpc.predict(self, signature, inputs)
        body = {
            "signature_name": signature,
            "inputs": {key: _to_json(value) for key, value in inputs.items()},
        }
        # In this format, by column, an answer names its outputs once and not for every row.
        return self._rest(":predict", json.dumps(body).encode())["outputs"]

    def status(self) -> list[Values]:
        """Returns the state of the model's versions, over REST."""
        if self._grpc is not None:
            raise ServingError("status is read over REST: give an http:// URL")
        return self._rest("")["model_version_status"]

    def _rest(self, suffix: str, body: bytes | None = None) -> Values:
        version = "" if self.version is None else f"/versions/{self.version}"
        url = f"{self.url}/v1/models/{urllib.parse.quote(self.model)}{version}{suffix}"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode("utf-8", "replace")
            try:
                text = json.loads(text)["error"]
            except (ValueError, KeyError, TypeError):
                text = text or error.reason
            raise ServingError(f"{url}: {error.code}: {text}") from error
        except (OSError, ValueError) as error:
            raise ServingError(f"{url}: {getattr(error, 'reason', None) or error}") from error


class _Grpc:
    """The same over gRPC; the packages it needs are imported here only."""

    def __init__(self, address: str) -> None:
        # Looked for first: TensorFlow, which it imports, takes seconds to load.
        if importlib.util.find_spec("tensorflow_serving") is None:
            raise ServingError(_INSTALL)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            import grpc
            import tensorflow as tf
            from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
        except ImportError as error:
            raise ServingError(f"{_INSTALL} ({error})") from error
        self._errors, self._tf, self._messages = grpc.RpcError, tf, predict_pb2
        # Embeddings of many tokens are more than gRPC's default of 4 MB.
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        channel = grpc.insecure_channel(address, options)
        self._service = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def predict(self, client: Client, signature: str, inputs: Values) -> Values:
        tf, request = self._tf, self._messages.PredictRequest()
        request.model_spec.name = client.model
        request.model_spec.signature_name = signature
        if client.version is not None:
            request.model_spec.version.value = client.version
        for key, value in inputs.items():
            text = all(isinstance(leaf, str | bytes) for leaf in _leaves(value))
            tensor = tf.make_tensor_proto(_to_bytes(value), tf.string if text else tf.int32)
            request.inputs[key].CopyFrom(tensor)
        try:
            answer = self._service.Predict(request, client.timeout)
        except self._errors as error:
            raise ServingError(f"{client.url}: {error.code().name}: {error.details()}") from error
        return {key: _to_text(tf.make_ndarray(value)) for key, value in answer.outputs.items()}


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _to_json(value: Any) -> Any:
    """Returns a value as TF Serving's JSON has it: what is not UTF-8 goes in base 64."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:  # a lone surrogate
            return _to_json(_to_bytes(value))
        return value
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return [_to_json(item) for item in value] if isinstance(value, Sequence) else value


def _to_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_to_bytes(item) for item in value]
    return value


def _to_text(array: Any) -> Any:
    """Returns a numpy array as nested lists, with bytes as str."""

    def decoded(value: Any) -> Any:
        if isinstance(value, list):
            return [decoded(item) for item in value]
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    return decoded(array.tolist())


def _arguments(values: Sequence[str]) -> list[bytes]:
    """Returns arguments of the command line as they were typed."""
    return [os.fsencode(value) for value in values]


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the answer to each text as a line of JSON; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://localhost:8501", help="http://... or grpc://...")
    parser.add_argument("--model", default="electra", help="name that the model is served under")
    parser.add_argument("--version", type=int, help="default: the newest")
    parser.add_argument("--signature", default="serving_default")
    parser.add_argument("--text_pair", action="append", help="once for each text")
    parser.add_argument(
        "--question", action="append", help="once for each text, in which the answer is looked for"
    )
    parser.add_argument("text", nargs="*", help="default: the lines of the standard input")
    options = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")  # whatever the locale
    # As bytes: Python's str would make three of one that is not UTF-8.
    texts = _arguments(options.text) or sys.stdin.buffer.read().splitlines()
    inputs = {"text": texts}
    if options.text_pair:
        inputs["text_pair"] = _arguments(options.text_pair)
    if options.question:
        if options.text_pair:
            parser.error("--question and --text_pair are of different models: give one")
        inputs = {"question": _arguments(options.question), "context": texts}
    for key, values in inputs.items():
        if len(values) != len(texts):
            parser.error(f"{len(texts)} texts need as many --{key}")
    try:
        client = Client(options.url, options.model, options.version)
        outputs = client.predict(options.signature, **inputs)
    except ServingError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    for row in range(len(texts)):
        answer = {key: values[row] for key, values in outputs.items()}
        print(json.dumps(answer, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    sys.exit(main())
