"""The manifest of a checkpoint, by which a damaged one is known, and the state beside its arrays."""

import json
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from electra_keras.config import matches
from electra_keras.console import UserError, reason
from electra_keras.files import sync_tree

MANIFEST = "manifest.json"
# In state.json: 1, or nothing, where the checkpoint has no manifest.
STATE_VERSION = 2


def seal(checkpoint: Path) -> None:
    """Writes the manifest, size and CRC-32 of every file, and syncs the whole checkpoint to disk."""
    files = {
        path.name: {"size": path.stat().st_size, "crc32": _checksum(path)}
        for path in sorted(checkpoint.iterdir())
    }
    (checkpoint / MANIFEST).write_text(_to_text(files), encoding="utf-8")
    sync_tree(checkpoint)


def damage(checkpoint: Path) -> str | None:
    """Returns what is wrong with a checkpoint's files, or None where it is whole.

    One without a manifest, as earlier versions wrote them, is looked at for missing files and an
    impossible state only.
    """
    try:
        files = _read(checkpoint)
        for name, expected in files.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != expected["size"]:
                return f"{name} has {path.stat().st_size} bytes of {expected['size']}"
            if _checksum(path) != expected["crc32"]:
                return f"{name} has another checksum"
        state = read_state(checkpoint)
        if not files and state.get("version", 1) >= STATE_VERSION:
            return f"{MANIFEST} is missing"
        parts = ["weights"] if state.get("converted") else ["weights", "optimizer"]
        for part in parts:
            if not (checkpoint / f"{part}.index").is_file():
                return f"{part}.index is missing"
    except (OSError, UserError) as error:
        return reason(error)
    return None


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _to_text(files: dict[str, dict[str, int]]) -> str:
    return json.dumps({"files": files}, indent=1) + "\n"


def _read(checkpoint: Path) -> dict[str, dict[str, int]]:
    """Returns the manifest's files; an empty dictionary where there is no manifest."""
    path = checkpoint / MANIFEST
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        files = json.loads(text)["files"]
        entries = {
            name: {key: int(f[key]) for key in ("size", "crc32")} for name, f in files.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        entries, text = {}, ""
    if not entries or _to_text(entries) != text:  # written so, by nobody else
        raise UserError(f"{MANIFEST} is damaged")
    return entries


# --- state.json --------------------------------------------------------------------------------


def _is_count(value: Any) -> bool:
    return matches(value, int) and value >= 0


def _is_amount(value: Any) -> bool:
    return matches(value, float) and math.isfinite(value) and value >= 0


def _is_window(value: Any) -> bool:
    return isinstance(value, list) and all(matches(v, float) and math.isfinite(v) for v in value)


def _is_best(value: Any) -> bool:
    return value is None or (
        isinstance(value, dict)
        and _is_count(value.get("step"))
        and all(number is None or type(number) in (int, float) for number in value.values())
    )


# Which values can be, by name; all must be there.
_FIELDS: dict[str, Callable[[Any], bool]] = {"step": _is_count, "best": _is_best}
_TRAINED_FIELDS: dict[str, Callable[[Any], bool]] = {
    "window": _is_window,
    "window_steps": _is_count,
    "watch": lambda value: value is None or isinstance(value, dict),
}
# Checkpoints of earlier versions have none of these.
_LATER_FIELDS: dict[str, Callable[[Any], bool]] = {
    "version": _is_count,
    "stale_evaluations": _is_count,
    "seconds": _is_amount,
    "evaluation_due": lambda value: isinstance(value, bool),
    "records": lambda value: value is None or isinstance(value, str),
}


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Returns the state that was saved with a checkpoint.

    A trained checkpoint's has `step`, `best` (metrics and step, or None), `window` and `window_steps`
    (see `Trainer`), `watch`; a converted one's has `step`, `best` and `converted`.

    Raises:
        UserError: it cannot be read, or has a missing or impossible value.
    """
    path = checkpoint / "state.json"
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(state, dict):
        raise UserError(f"{path} is not the state of a run")
    needed = dict(_FIELDS)
    if state.get("converted") is not True:
        needed |= _TRAINED_FIELDS
    for name, is_possible in needed.items():
        if name not in state:
            raise UserError(f"{path} is not the state of a run: {name} is missing")
        if not is_possible(state[name]):
            raise UserError(f"{path}: impossible {name}: {_short(state[name])}")
    for name, is_possible in _LATER_FIELDS.items():
        if name in state and not is_possible(state[name]):
            raise UserError(f"{path}: impossible {name}: {_short(state[name])}")
    if checkpoint.name.startswith("step-") and checkpoint.name != f"step-{state['step']:08d}":
        raise UserError(f"{path}: impossible step for this directory: {state['step']}")
    return state


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
