"""Writes one version of an exported model: a directory that appears whole or not at all."""

import itertools
import json
import os
import re
import shutil
import socket
import time
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from electra_keras.console import UsageError, UserError, reason
from electra_keras.directories import whole_directory
from electra_keras.serving import warmup
from electra_keras.serving.signatures import Servable, checked

# Besides the weights: graphs, the tokenizer's tables and the vocabulary.
_GRAPH_BYTES = 32_000_000
# Of all texts of a request together: some seconds on a CPU.
MAX_TEXT_BYTES = 1_000_000
# As `_incomplete` writes them, with host and process; earlier ones have no host.
_INCOMPLETE = re.compile(r"\.incomplete-\d+-(?:([\w.]+)-)?(\d+)")
# After so long without a write a directory is given up, whoever began it.
_STALE_SECONDS = 24 * 3600
# One token in every vocabulary, be it [UNK]; words of it fill a bucket exactly.
_ONE_TOKEN = "中"


def choose_version(export_dir: Path, version: int | None) -> int:
    """Returns the version to write: the one that is asked for, or the next one.

    Raises:
        UsageError: it exists already.
    """
    if version is None:
        taken = [int(path.name) for path in _children(export_dir) if path.name.isdecimal()]
        return max(taken, default=0) + 1
    if os.path.lexists(export_dir / str(version)):
        raise UsageError(
            f"--version={version}: {export_dir / str(version)} exists already; versions are never "
            "overwritten, leave the flag out for the next one"
        )
    return version


def _children(export_dir: Path) -> list[Path]:
    if os.path.lexists(export_dir) and not export_dir.is_dir():
        raise UsageError(f"--export_dir={export_dir} is not a directory")
    return list(export_dir.iterdir()) if export_dir.is_dir() else []


def remove_leftovers(export_dir: Path) -> list[Path]:
    """Deletes what killed exports left in a directory; returns what that was.

    Left alone is what may still be written: by a process of this host that lives, or by another host's
    in the last hours.
    """
    removed = []
    for path in sorted(_children(export_dir)):
        match = _INCOMPLETE.fullmatch(path.name)
        if match and path.is_dir() and not _is_being_written(path, match[1], int(match[2])):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
    return removed


def _is_being_written(path: Path, host: str | None, process: int) -> bool:
    if host == _host():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is another user's
    try:
        times = [file.stat().st_mtime for file in (path, *path.rglob("*"))]
    except OSError:  # a file went away meanwhile
        return True
    return time.time() - max(times) < _STALE_SECONDS


def _host() -> str:
    return re.sub(r"[^\w.]", "_", socket.gethostname())


def _incomplete(export_dir: Path, version: int) -> Path:
    """Returns where this process writes a version; the name is no number, see `write_version`."""
    return export_dir / f".incomplete-{version}-{_host()}-{os.getpid()}"


def check_space(export_dir: Path, layers: list[keras.layers.Layer]) -> None:
    """Refuses what would not fit.

    Raises:
        UserError: the disk is too full.
    """
    needed = sum(v.shape.num_elements() * v.dtype.size for v in _variables(layers)) + _GRAPH_BYTES
    parent = next(path for path in export_dir.absolute().parents if path.exists())
    free = shutil.disk_usage(export_dir if export_dir.exists() else parent).free
    if free < needed:
        raise UserError(
            f"cannot write {export_dir}: an export takes up to {needed / 1e6:.0f} MB, and "
            f"{free / 1e6:.0f} MB are free"
        )


def write_version(
    servable: Servable, export_dir: Path, version: int, max_text_bytes: int = MAX_TEXT_BYTES
) -> Path:
    """Writes `<export_dir>/<version>/`; returns its path.

    It is written beside, under a name that is no number, which TF Serving does not take for a
    version, and then renamed.

    Raises:
        UserError: it cannot be written; nothing is left of it.
    """
    final = export_dir / str(version)
    temporary = _incomplete(export_dir, version)
    try:
        with whole_directory(final, temporary):
            _save(servable, temporary, max_text_bytes)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"cannot write {final}: {reason(error)}") from error
    return final


def _save(servable: Servable, directory: Path, max_text_bytes: int) -> None:
    root = tf.Module(name="electra")
    # Bare variables: of the Keras layers an export needs nothing else.
    root.weights = _variables(servable.layers)
    functions = {}
    for signature in servable.signatures:
        inputs = {
            key: tf.TensorSpec(spec.shape, spec.dtype, name=key)
            for key, spec in signature.inputs.items()
        }
        function = tf.function(checked(signature, max_text_bytes), autograph=False)
        functions[signature.name] = function.get_concrete_function(**inputs)
    functions["serving_default"] = functions[servable.default]
    # Gradients would be traced and stored, and need ops of their own.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(root, str(directory), signatures=functions, options=options)
    _forget_custom_gradients(directory)

    extra = directory / "assets.extra"
    extra.mkdir()
    warmup.write_requests(extra / warmup.FILE, warmup_requests(servable))
    servable.vocabulary.save(str(extra / "vocab.txt"))
    described = {
        **servable.settings,
        "sequence_buckets": servable.encoder.buckets,
        "serving_default": servable.default,
        "max_text_bytes": max_text_bytes if any(s.reads_all for s in servable.signatures) else None,
        "signatures": {
            s.name: {
                "inputs": list(s.inputs),
                "outputs": sorted(functions[s.name].structured_outputs),
            }
            for s in servable.signatures
        },
    }
    (extra / "export.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")


def _forget_custom_gradients(directory: Path) -> None:
    """Removes the names of gradients that are not stored, of which every loader would warn."""
    path = directory / "saved_model.pb"
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in (meta_graph.graph_def for meta_graph in saved.meta_graphs):
        nodes = [graph.node, *(function.node_def for function in graph.library.function)]
        for node in itertools.chain.from_iterable(nodes):
            node.attr.pop("_gradient_op_type", None)
    path.write_bytes(saved.SerializeToString(deterministic=True))
    # Of the file as it was; loaders do without.
    (directory / "fingerprint.pb").unlink(missing_ok=True)


def warmup_requests(servable: Servable) -> list[tuple[str, dict]]:
    """Returns a request for each signature and bucket, shortest first, with the signature's name."""
    return [
        (signature.name, signature.request([" ".join([_ONE_TOKEN] * max(1, bucket - 3))]))
        for signature in servable.signatures
        for bucket in servable.encoder.buckets
    ]


def _variables(layers: list[keras.layers.Layer]) -> list[tf.Variable]:
    """Returns the TensorFlow variables of layers, each once."""
    found = {id(v): v.value for layer in layers for v in layer.variables}
    return list(found.values())


def describe_size(version: Path) -> str:
    """Returns how large an export is, and of what."""
    sizes = {path: path.stat().st_size for path in version.rglob("*") if path.is_file()}
    weights = sum(size for path, size in sizes.items() if path.parent.name == "variables")
    graph = sizes[version / "saved_model.pb"]
    return (
        f"{sum(sizes.values()) / 1e6:.1f} MB: weights {weights / 1e6:.1f} MB, graph and tokenizer "
        f"{graph / 1e6:.1f} MB"
    )
