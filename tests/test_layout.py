"""Imports go one way, and FLAGS stay in the mains (design: layout)."""

import ast
import re

import pytest

from tests.runs import REPOSITORY

# A module may import from its own layer and from layers of a lower number.
LAYERS = {
    "console": 0,
    "flagfiles": 0,
    "directories": 0,
    "files": 0,
    "tensor_bundle": 0,
    "config": 1,
    "options": 1,
    "text": 2,
    "modeling": 2,
    "data": 3,
    "pretraining": 3,
    "training": 4,
    "interop": 5,
    "tasks": 5,
    "serving": 6,
    "models": 6,
}
MAINS = 9
MODULES = sorted((REPOSITORY / "electra_keras").rglob("*.py"))
TOOLS = sorted((REPOSITORY / "data_tools").glob("*.py"))


def layer(parts):
    """The layer of a module path such as ("electra_keras", "data", "records")."""
    return LAYERS.get(parts[1], MAINS) if len(parts) > 1 else 0


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_go_down(path):
    own = layer(path.relative_to(REPOSITORY).with_suffix("").parts)
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "electra_keras":
            assert layer(parts) <= own, f"{path} imports {name}"
        assert parts[0] != "data_tools", f"{path} imports {name}"


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_tools_use_text_and_data_only(path):
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "electra_keras" and len(parts) > 2:
            assert parts[1] in ("console", "config", "files", "text", "data"), (
                f"{path} imports {name}"
            )


@pytest.mark.parametrize("path", [*MODULES, *TOOLS], ids=lambda path: path.stem)
def test_modules_are_short_and_flags_stay_in_the_mains(path):
    text = path.read_text()
    assert text.count("\n") <= 400
    is_main = "run_main(main)" in text or path.name in ("flags.py", "console.py")
    if not is_main:
        assert not re.search(r"\bFLAGS\b|flags\.DEFINE", text), f"{path} uses flags"


def test_no_code_is_loaded_from_disk():
    for path in [*MODULES, *TOOLS]:
        assert not re.search(r"\bpickle\b|allow_pickle=True|\beval\(|\bexec\(", path.read_text())
