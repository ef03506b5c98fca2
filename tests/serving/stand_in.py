"""A stand-in for TF Serving, for tests where no server binary can be installed.

It has the interface of TF Serving's PredictionService (gRPC, from tensorflow-serving-api) and of its
REST API, and runs the export by the C++ loader that TF Serving wraps (native.py). It has none of TF
Serving's batching, versions, monitoring or warm-up, and is no proof of those.

    python -m tests.serving.stand_in EXPORT/1 [NAME=EXPORT/1 ...]

prints the ports, as JSON, when it is ready. The first export is served as "electra".
"""

import json
import re
import sys
import threading
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from tests.serving.native import NativeModel, from_json, to_json

MODEL, VERSION = "electra", "1"
_PATH = re.compile(r"/v1/models/([^/:]+)(?:/versions/(\d+))?(:predict)?$")


class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
    """gRPC."""

    def __init__(self, models):
        self.models = models

    def Predict(self, request, context):
        spec = request.model_spec
        model = self.models.get(spec.name)
        if model is None or (spec.HasField("version") and str(spec.version.value) != VERSION):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no servable {spec.name}")
        try:
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            wanted = list(request.output_filter) or None
            outputs = model.run(spec.signature_name or "serving_default", inputs, wanted)
        except KeyError as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"no signature or output {error}")
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        answer = predict_pb2.PredictResponse()
        for key, value in outputs.items():
            answer.outputs[key].CopyFrom(tf.make_tensor_proto(value))
        return answer


class Handler(BaseHTTPRequestHandler):
    """REST, requests by column only."""

    models = None

    def do_GET(self):
        match = _PATH.match(self.path)
        if not match or match[1] not in self.models or match[3]:
            return self._answer(404, {"error": f"no servable at {self.path}"})
        status = {"version": VERSION, "state": "AVAILABLE", "status": {"error_code": "OK"}}
        return self._answer(200, {"model_version_status": [status]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match = _PATH.match(self.path)
        model = match and self.models.get(match[1])
        if not model or match[2] not in (None, VERSION) or not match[3]:
            return self._answer(404, {"error": f"no servable at {self.path}"})
        try:
            request = json.loads(body)
            inputs = {key: from_json(value) for key, value in request["inputs"].items()}
            outputs = model.run(request.get("signature_name", "serving_default"), inputs)
        except KeyError as error:
            return self._answer(400, {"error": f"no signature or input {error}"})
        except ValueError as error:
            return self._answer(400, {"error": str(error)})
        columns = {key: to_json(value) for key, value in outputs.items()}
        # TF Serving leaves out the name where there is one output only.
        return self._answer(
            200, {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
        )

    def _answer(self, code, content):
        body = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    named = [argument.split("=", 1) for argument in (f"{MODEL}={sys.argv[1]}", *sys.argv[2:])]
    models = {name: NativeModel(directory) for name, directory in named}
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    server = grpc.server(futures.ThreadPoolExecutor(8), options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(models), server)
    grpc_port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    Handler.models = models
    rest = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    print(json.dumps({"grpc": grpc_port, "rest": rest.server_address[1]}), flush=True)
    sys.stdin.read()  # until the test closes it


if __name__ == "__main__":
    main()
