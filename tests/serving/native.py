"""Runs a SavedModel by TensorFlow's own C++ loader, without Python's TensorFlow.

TF Serving wraps this loader. Of the installed package only the shared libraries are used, through the
C API and ctypes; numpy is all that is imported. A test instrument, and the engine of the stand-in
server: for production there is TF Serving.

    python -m tests.serving.native EXPORT/1 ... < requests.json

reads {"signature": ..., "inputs": {...}} objects, one a line, and writes the answers as JSON lines; of
several exports, "export" says which is asked, from 0.
"""

import base64
import ctypes as c
import json
import os
import sys
import sysconfig
from pathlib import Path

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_PACKAGES = Path(sysconfig.get_paths()["purelib"])
# The ops of tensorflow-text that exports use; TF Serving has all of them linked in.
_TEXT_OPS = ("_normalize_ops.so", "_fast_wordpiece_tokenizer.so")
_STRING = 7
_DTYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}  # by TF_DataType
_NUMBERS = {np.dtype(dtype): number for number, dtype in _DTYPES.items()}
_TSTRING_BYTES = 24


class _Output(c.Structure):
    _fields_ = (("operation", c.c_void_p), ("index", c.c_int))


class _Buffer(c.Structure):
    _fields_ = (("data", c.c_void_p), ("length", c.c_size_t), ("deallocator", c.c_void_p))


def _fields(data):
    """Yields (number, value) of the fields of a protocol buffer; values of length 0-2^64 or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        elif kind == 2:
            size = varint()
            value, at = data[at : at + size], at + size
        else:
            size = {1: 8, 5: 4}[kind]
            value, at = data[at : at + size], at + size
        yield key >> 3, value


def _tensor_infos(signature, field):
    """Returns key -> (tensor name, TF_DataType) of a SignatureDef's inputs (1) or outputs (2)."""
    infos = {}
    for entry in (value for number, value in _fields(signature) if number == field):
        pair = dict(_fields(entry))
        info = dict(_fields(pair[2]))
        infos[bytes(pair[1]).decode()] = (bytes(info[1]).decode(), info[2])
    return infos


class _Library:
    """TensorFlow's C API."""

    def __init__(self):
        tensorflow = _PACKAGES / "tensorflow"
        self._libraries = [
            c.CDLL(str(tensorflow / f"libtensorflow_{name}.so.2"), mode=c.RTLD_GLOBAL)
            for name in ("framework", "cc")
        ]
        pointer, size, text = c.c_void_p, c.c_size_t, c.c_char_p
        for name, result, *arguments in (
            ("TF_NewStatus", pointer),
            ("TF_DeleteStatus", None, pointer),
            ("TF_GetCode", c.c_int, pointer),
            ("TF_Message", text, pointer),
            ("TF_NewGraph", pointer),
            ("TF_NewSessionOptions", pointer),
            ("TF_SetConfig", None, pointer, text, size, pointer),
            ("TF_LoadLibrary", pointer, text, pointer),
            (
                "TF_LoadSessionFromSavedModel", pointer, pointer, pointer, text, c.POINTER(text),
                c.c_int, pointer, c.POINTER(_Buffer), pointer,
            ),
            ("TF_GraphOperationByName", pointer, pointer, text),
            ("TF_AllocateTensor", pointer, c.c_int, c.POINTER(c.c_int64), c.c_int, size),
            ("TF_DeleteTensor", None, pointer),
            ("TF_TensorData", pointer, pointer),
            ("TF_TensorByteSize", size, pointer),
            ("TF_TensorType", c.c_int, pointer),
            ("TF_NumDims", c.c_int, pointer),
            ("TF_Dim", c.c_int64, pointer, c.c_int),
            ("TF_StringInit", None, pointer),
            ("TF_StringCopy", None, pointer, text, size),
            ("TF_StringDealloc", None, pointer),
            ("TF_StringGetDataPointer", pointer, pointer),
            ("TF_StringGetSize", size, pointer),
            (
                "TF_SessionRun", None, pointer, pointer, c.POINTER(_Output), c.POINTER(pointer), c.c_int,
                c.POINTER(_Output), c.POINTER(pointer), c.c_int, pointer, c.c_int, pointer, pointer,
            ),
        ):  # fmt: skip
            function = self._find(name)
            function.restype, function.argtypes = result, arguments
            setattr(self, name.removeprefix("TF_"), function)

    def _find(self, name):
        for library in self._libraries:
            if hasattr(library, name):
                return getattr(library, name)
        raise OSError(f"TensorFlow has no {name}")

    def call(self, function, *arguments):
        """Calls a function whose last argument is a status.

        Raises:
            ValueError: with TensorFlow's message.
        """
        status = self.NewStatus()
        try:
            result = function(*arguments, status)
            if self.GetCode(status):
                raise ValueError(self.Message(status).decode("utf-8", "replace"))
            return result
        finally:
            self.DeleteStatus(status)

    def to_tensor(self, array):
        """Makes a tensor of an array; strings come as bytes in an array of objects."""
        dims = (c.c_int64 * array.ndim)(*array.shape)
        if array.dtype != object:
            array = np.ascontiguousarray(array)
            number = _NUMBERS[array.dtype]
            tensor = self.AllocateTensor(number, dims, array.ndim, array.nbytes)
            c.memmove(self.TensorData(tensor), array.ctypes.data, array.nbytes)
            return tensor
        tensor = self.AllocateTensor(_STRING, dims, array.ndim, _TSTRING_BYTES * array.size)
        data = self.TensorData(tensor)
        for i, text in enumerate(array.ravel()):
            self.StringInit(data + _TSTRING_BYTES * i)
            self.StringCopy(data + _TSTRING_BYTES * i, text, len(text))
        return tensor

    def delete_input(self, tensor):
        """Deletes what `to_tensor` made; TensorFlow does not free the strings of such tensors."""
        if self.TensorType(tensor) == _STRING:
            data = self.TensorData(tensor)
            for at in range(0, self.TensorByteSize(tensor), _TSTRING_BYTES):
                self.StringDealloc(data + at)
        self.DeleteTensor(tensor)

    def to_array(self, tensor):
        shape = [self.Dim(tensor, i) for i in range(self.NumDims(tensor))]
        kind, data = self.TensorType(tensor), self.TensorData(tensor)
        count = int(np.prod(shape))
        if kind == _STRING:
            flat = np.empty(count, object)
            for i in range(count):
                at = data + _TSTRING_BYTES * i
                flat[i] = c.string_at(self.StringGetDataPointer(at), self.StringGetSize(at))
            return flat.reshape(shape)
        dtype = np.dtype(_DTYPES[kind])
        content = c.string_at(data, count * dtype.itemsize) if count else b""
        return np.frombuffer(content, dtype).reshape(shape)


class NativeModel:
    """A SavedModel in a session of its own; `run` may be called from several threads.

    Args:
        directory: a version of an export.
        threads: of TensorFlow's pools; 0 for as many as there are cores.

    Attributes:
        signatures: name -> (inputs, outputs), each key -> (tensor name, TF_DataType).
    """

    def __init__(self, directory, threads=0):
        self._library = library = _Library()
        for name in _TEXT_OPS:
            path = _PACKAGES / "tensorflow_text/python/ops" / name
            library.call(library.LoadLibrary, str(path).encode())
        options, self._graph, meta_graph = (
            library.NewSessionOptions(),
            library.NewGraph(),
            _Buffer(),
        )
        # ConfigProto: intra_op_parallelism_threads = 2, inter_op_parallelism_threads = 5
        config = bytes([2 << 3, threads, 5 << 3, threads])
        library.call(library.SetConfig, options, config, len(config))
        self._session = library.call(
            library.LoadSessionFromSavedModel, options, None, str(directory).encode(),
            (c.c_char_p * 1)(b"serve"), 1, self._graph, c.byref(meta_graph),
        )  # fmt: skip
        self.signatures = {}
        for number, entry in _fields(memoryview(c.string_at(meta_graph.data, meta_graph.length))):
            if number == 5:  # MetaGraphDef.signature_def
                pair = dict(_fields(entry))
                name = bytes(pair[1]).decode()
                if not name.startswith("__"):  # __saved_model_init_op
                    self.signatures[name] = (_tensor_infos(pair[2], 1), _tensor_infos(pair[2], 2))

    def _output(self, name):
        operation, index = name.rsplit(":", 1)
        return _Output(
            self._library.GraphOperationByName(self._graph, operation.encode()), int(index)
        )

    def run(self, signature, inputs, outputs=None):
        """Answers a request.

        Args:
            signature: its name.
            inputs: arrays or nested lists by key; strings as bytes or str.
            outputs: keys that are wanted; default: all.

        Returns:
            arrays by key; strings as bytes in arrays of objects.

        Raises:
            KeyError: no such signature, or no such output.
            ValueError: an input is missing or of another type, or TensorFlow's own error.
        """
        specs, results = self.signatures[signature]
        if set(inputs) != set(specs):
            raise ValueError(f"{signature} takes {sorted(specs)}, not {sorted(inputs)}")
        arrays = {key: _as_array(inputs[key], kind) for key, (_, kind) in specs.items()}
        keys = list(results) if outputs is None else list(outputs)
        library = self._library
        given = [library.to_tensor(array) for array in arrays.values()]
        returned = (c.c_void_p * len(keys))()
        try:
            library.call(
                library.SessionRun, self._session, None,
                (_Output * len(specs))(*[self._output(name) for name, _ in specs.values()]),
                (c.c_void_p * len(given))(*given), len(given),
                (_Output * len(keys))(*[self._output(results[key][0]) for key in keys]),
                returned, len(keys), None, 0, None,
            )  # fmt: skip
            return {
                key: library.to_array(tensor) for key, tensor in zip(keys, returned, strict=True)
            }
        finally:
            for tensor in given:
                library.delete_input(tensor)
            for tensor in filter(None, returned):
                library.DeleteTensor(tensor)


def _as_array(values, kind):
    if kind != _STRING:
        return np.asarray(values, _DTYPES[kind])
    array = np.asarray(values, object)
    flat = [text.encode() if isinstance(text, str) else text for text in array.ravel()]
    result = np.empty(array.size, object)
    result[:] = flat
    return result.reshape(array.shape)


def from_json(value):
    """Turns {"b64": ...}, which stands for bytes in TF Serving's JSON, into bytes, at any depth."""
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    return [from_json(item) for item in value] if isinstance(value, list) else value


def to_json(array):
    """Turns an array into nested lists; strings as text."""
    if array.dtype == object:
        array = np.frompyfunc(lambda text: text.decode("utf-8"), 1, 1)(array)
    return array.tolist()


def main():
    models = [NativeModel(directory) for directory in sys.argv[1:]]
    for line in sys.stdin:
        request = json.loads(line)
        inputs = {key: from_json(value) for key, value in request["inputs"].items()}
        outputs = models[request.get("export", 0)].run(request["signature"], inputs)
        answer = {key: to_json(array) for key, array in outputs.items()}
        print(json.dumps(answer), flush=True)
    python_tensorflow = [m for m in sys.modules if m.split(".")[0] in ("tensorflow", "keras")]
    print(json.dumps({"imported": python_tensorflow}))


if __name__ == "__main__":
    main()
