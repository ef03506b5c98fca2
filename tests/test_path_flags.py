"""Flags of paths, in every command."""

import dataclasses
import re

import pytest
from absl import flags

from electra_keras import console, options
from electra_keras.tasks import options as task_options
from tests.runs import REPOSITORY


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return str(tmp_path)


def parse(monkeypatch, **values):
    """Returns the values of flags of these names after the command line was parsed."""
    parsed = flags.FlagValues()
    for name, value in values.items():
        define = flags.DEFINE_list if isinstance(value, list) else flags.DEFINE_string
        define(name, None, "", flag_values=parsed)
    monkeypatch.setattr(flags, "FLAGS", parsed)
    given = {n: ",".join(v) if isinstance(v, list) else v for n, v in values.items()}
    console._parse_flags(["x", *(f"--{name}={value}" for name, value in given.items())])
    return {name: parsed[name].value for name in values}


@pytest.mark.parametrize(
    "name",
    ["input", "output", "output_dir", "vocab_file", "train_files", "init_from", "data", "dump"],
)
def test_home_is_expanded_in_paths(monkeypatch, home, name):
    assert parse(monkeypatch, **{name: "~/a/~b"}) == {name: f"{home}/a/~b"}
    assert parse(monkeypatch, **{name: "~"}) == {name: home}
    assert parse(monkeypatch, **{name: "~/a*,x, ~/b"}) == {name: f"{home}/a*,x, {home}/b"}
    assert parse(monkeypatch, **{name: "./~/a"}) == {name: "./~/a"}
    assert parse(monkeypatch, **{name: "x~,y/~"}) == {name: "x~,y/~"}


def test_home_is_expanded_in_lists_and_nowhere_else(monkeypatch, home):
    assert parse(monkeypatch, input=["~/a", "b"]) == {"input": [f"{home}/a", "b"]}
    assert parse(monkeypatch, label_separator="~", task="~/x") == {
        "label_separator": "~",
        "task": "~/x",
    }


def test_every_flag_of_a_path_has_a_name_that_tells_so():
    """By their help: a new one under another name would make a directory named "~"."""
    helps = {}
    for cls in (*vars(options).values(), *vars(task_options).values()):
        if dataclasses.is_dataclass(cls):
            strings = [f for f in dataclasses.fields(cls) if "str" in str(f.type)]
            helps |= {f.name: f.metadata["help"] for f in strings if f.metadata}
    for path in [*REPOSITORY.glob("electra_keras/*.py"), *REPOSITORY.glob("data_tools/*.py")]:
        defined = re.findall(r'DEFINE_(?:string|list)\(\s*"(\w+)",[^"]+"([^"]+)"', path.read_text())
        helps |= dict(defined)
    no_paths = {
        "checkpoint",
        "model_size",
        "networks",
        "profile_steps",
        "separator",
        "split",
        "tag_scheme",
    }
    words = re.compile(r"directory|files?\b|globs?|vocabulary|preset", re.I)
    paths = {name for name, text in helps.items() if words.search(text)} - no_paths
    assert {"model_dir", "vocab_file", "output", "init_from"} <= paths
    assert not [name for name in paths if not console._PATH_FLAG.search(name)]
