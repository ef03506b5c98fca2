"""The weights of a Hugging Face directory as named tensors: safetensors, and old files of PyTorch."""

import collections
import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from electra_keras.console import UserError, reason
from electra_keras.interop.json_files import check_regular, field, read_json
from electra_keras.interop.tensors import Tensors

# Of the part that lists a file's tensors: about 200 bytes each.
_MAX_LIST_BYTES = 4_000_000


def open_tensors(directory: Path) -> Tensors:
    """Opens the weights: safetensors, in one file or several, or else old files of PyTorch."""
    formats = {"model.safetensors": _open_safetensors, "pytorch_model.bin": _open_pytorch}
    for name, opened in formats.items():
        index = directory / f"{name}.index.json"
        if (directory / name).exists():
            check_regular(directory / name)
            return opened([directory / name], str(directory / name))
        if index.exists():
            return opened(_shards(index), str(directory))
    others = sorted(p.name for p in directory.glob("*.h5")) + sorted(
        p.name for p in directory.glob("*.msgpack")
    )
    raise UserError(
        f"{directory} has neither model.safetensors nor pytorch_model.bin"
        + (f"; {', '.join(others)} cannot be read" if others else "")
    )


def _shards(index: Path) -> list[Path]:
    """Returns the files that an index names.

    Raises:
        UserError: it names none, or one that is not there.
    """
    names = set(map(str, field(read_json(index), "weight_map", dict, index, {}).values()))
    if not names:
        raise UserError(f"{index} names no files in weight_map")
    files = [index.parent / name for name in sorted(names)]
    for path in files:
        if path.parent != index.parent or not path.is_file():
            raise UserError(f"{index} names {path.name}, which is not there")
    return files


def _require_new(names: Iterable[str], before: Mapping[str, object], path: Path) -> None:
    """Checks that no tensor of a file was in those before it.

    Raises:
        UserError: one was, so that nobody knows which of the two is meant.
    """
    for name in names:
        if name in before:
            raise UserError(f"{path} holds {name}, which another of the model's files holds too")


def _open_safetensors(files: Sequence[Path], where: str) -> Tensors:
    from safetensors import safe_open

    readers: dict[str, Callable[[], np.ndarray]] = {}
    shapes = {}
    for path in files:
        _check_header(path)
        try:
            opened = safe_open(path, framework="numpy")
            names = list(opened.keys())
            _require_new(names, readers, path)
            for name in names:
                shapes[name] = tuple(opened.get_slice(name).get_shape())
                readers[name] = lambda opened=opened, name=name: opened.get_tensor(name)
        except UserError:
            raise
        except Exception as error:  # SafetensorError, OSError
            raise UserError(f"{path} cannot be read: {reason(error)}") from error
    return Tensors(where, shapes, lambda name: readers[name]())


def _check_header(path: Path) -> None:
    """Checks that no name stands twice in a safetensors header: which tensor it means is not told.

    Raises:
        UserError: one does. What else may be wrong is for the library to say.
    """
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = file.read(size) if size <= path.stat().st_size else b"{}"
        json.loads(header, object_pairs_hook=lambda pairs: _unique(pairs, path))
    except (OSError, ValueError, RecursionError):
        return


def _unique(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    names = collections.Counter(name for name, _ in pairs)
    if twice := next((name for name, count in names.items() if count > 1), None):
        raise UserError(f"{path}: {twice} stands twice in its header")
    return dict(pairs)


def _check_packing(path: Path) -> None:
    """Checks that a file of PyTorch unpacks to no more than tensors need.

    Raises:
        UserError: it is packed, or describes more than any model has.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return  # damaged: for PyTorch to say
    for entry in entries:
        if entry.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path}: {entry.filename} is compressed, which PyTorch never does")
        if entry.filename.endswith(".pkl") and entry.file_size > _MAX_LIST_BYTES:
            raise UserError(
                f"{path}: {entry.filename} has {entry.file_size / 1e6:.1f} MB, more than tensors need"
            )


def _open_pytorch(files: Sequence[Path], where: str) -> Tensors:
    """Reads files of PyTorch with its loader for tensors alone, which runs no code."""
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{where} needs PyTorch to be read: pip install -r requirements-convert.txt"
        ) from error
    state = {}
    for path in files:
        _check_packing(path)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                part = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # UnpicklingError, RuntimeError, EOFError
            # Its message is long, and tells how to run the code.
            code = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise UserError(
                f"{path} holds something other than tensors (GLOBAL {code[1]}), which is refused"
                if code
                else f"{path} cannot be read: it is damaged, or no file of tensors"
            ) from error
        if not isinstance(part, dict) or not all(
            isinstance(name, str) and isinstance(t, torch.Tensor) for name, t in part.items()
        ):
            raise UserError(f"{path} does not hold tensors by name")
        _require_new(part, state, path)
        state |= part
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}

    def get(name: str) -> np.ndarray:
        tensor = state[name].detach()
        if tensor.dtype == torch.bfloat16:  # which PyTorch does not turn into an array
            return tensor.view(torch.int16).numpy().view(tf.bfloat16.as_numpy_dtype)
        return tensor.numpy()

    return Tensors(where, shapes, get)
