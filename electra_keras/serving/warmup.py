"""The requests that TF Serving runs when it loads a version, before it answers any.

`assets.extra/tf_serving_warmup_requests` is a TFRecord of PredictionLog messages (tensorflow_serving/
apis/prediction_log.proto). Only three small messages are needed, so they are written here by their
field numbers, and an export needs no tensorflow-serving-api; a test reads them with it.
"""

from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from electra_keras.serving.signatures import Request

FILE = "tf_serving_warmup_requests"


def write_requests(path: Path, requests: Iterable[tuple[str, Request]]) -> int:
    """Writes warm-up requests, each with its signature's name; returns how many."""
    count = 0
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, request in requests:
            writer.write(prediction_log(signature, request))
            count += 1
    return count


def prediction_log(signature: str, request: Request) -> bytes:
    """Returns the serialized PredictionLog of one request."""
    model_spec = _field(3, signature.encode())  # ModelSpec.signature_name
    inputs = b"".join(
        # PredictRequest.inputs, a map: entries of key = 1 and value = 2
        _field(2, _field(1, key.encode()) + _field(2, _tensor(value)))
        for key, value in request.items()
    )
    predict_request = _field(1, model_spec) + inputs
    return _field(6, _field(1, predict_request))  # PredictionLog.predict_log, PredictLog.request


def _tensor(value: object) -> bytes:
    return tf.make_tensor_proto(value).SerializeToString()


def _field(number: int, content: bytes) -> bytes:
    """Returns a field of wire type 2 (length-delimited)."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    """Returns a number in base 128, lowest digits first, the high bit set on all but the last."""
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])
