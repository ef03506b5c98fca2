"""Flags and flagfiles: what overrides what, what they can hold, and --help."""

import itertools
import json
import re
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from electra_keras import flagfiles
from electra_keras import flags as option_flags
from tests.runs import REPOSITORY, error_of, run


@pytest.fixture(scope="module")
def parse():
    """A function that returns what tests/show_options.py prints of arguments."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.show_options"],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def parse(*arguments):
        process.stdin.write(json.dumps(["--task=classification", *arguments]) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield parse
    process.stdin.close()
    process.wait(timeout=60)


@pytest.fixture
def options(parse):
    """A function that returns the options, those given, and a flagfile that reproduces them."""

    def options(*arguments):
        shown = parse(*arguments)
        assert "code" not in shown, shown
        return tuple(shown.values())

    return options


def write(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return f"--flagfile={path}"


# --- what overrides what --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "then", "gone"),
    [
        ("--warmup_ratio=0.1", "--warmup_steps=50", ["warmup_ratio"]),
        ("--warmup_steps=50", "--warmup_ratio=0.1", ["warmup_steps"]),
        ("--train_steps=50", "--num_train_epochs=2", ["train_steps"]),
        ("--num_train_epochs=2", "--train_steps=50", ["num_train_epochs"]),
        ("--dev_file=a.tsv", "--dev_share=0.1", ["dev_file"]),
        ("--dev_share=0.1", "--dev_file=a.tsv", ["dev_share"]),
        ("--train_file=a.tsv --dev_file=b.tsv", "--data_dir=c", ["train_file", "dev_file"]),
        ("--multi_label", "--regression", ["multi_label"]),
        ("--regression", "--multi_label=true", ["regression"]),
        ("--class_weights=balanced", "--regression", ["class_weights"]),
        ("--freeze=6 --unfreeze_epochs=1", "--unfreeze_steps=9", ["unfreeze_epochs"]),
        ("--freeze=6 --unfreeze_steps=1", "--lora_rank=8", ["freeze", "unfreeze_steps"]),
        ("--lora_rank=8 --lora_alpha=16", "--freeze=encoder", ["lora_rank", "lora_alpha"]),
    ],
)
def test_flags_behind_a_flagfile_override_it(tmp_path, parse, options, first, then, gone):
    flagfile = write(tmp_path / "a.cfg", *first.split())
    values, named, _ = options(flagfile, *then.split())
    assert not {values[name] for name in gone} - {None, False, "none"}
    assert not set(gone) & set(named)
    assert then.lstrip("-").partition("=")[0] in named
    # And a flagfile behind them, or one behind another.
    behind = write(tmp_path / "b.cfg", *then.split())
    assert options(*first.split(), behind)[:2] == options(flagfile, behind)[:2] == (values, named)
    # In one place it is a contradiction; or is so to the data, or both mean something.
    if "data_dir" not in then and "class_weights" not in first:
        assert parse(*first.split(), *then.split())["code"] == 2
        assert parse(write(tmp_path / "c.cfg", *first.split(), *then.split()))["code"] == 2


def test_flags_of_a_command_itself(tmp_path):
    """Of export; it ends at what is missing."""
    flagfile = write(tmp_path / "a.cfg", "--precision=mixed_bfloat16", "--model_dir=m")
    export = ("electra_keras.export", flagfile, f"--export_dir={tmp_path}", "--quantize=int8")
    code, line = error_of(*export)
    assert code != 2 and "leave --precision out" not in line
    code, line = error_of(*export, "--precision=mixed_bfloat16")
    assert code == 2 and "leave --precision out" in line


def test_what_does_not_contradict_stays(tmp_path, options):
    flagfile = write(tmp_path / "a.cfg", "--data_dir=a", "--multi_label", "--warmup_ratio=0.1")
    values, *_ = options(flagfile, "--train_file=b", "--noregression", "--seed=3")
    assert (values["data_dir"], values["train_file"]) == ("a", "b")
    assert values["multi_label"] and values["warmup_ratio"] == 0.1
    # The same flag: the last one; and a flag between two flagfiles.
    other = write(tmp_path / "b.cfg", "--seed=5", "--warmup_steps=7")
    values, *_ = options(flagfile, "--seed=3", other, "--warmup_ratio=0.2")
    assert (values["seed"], values["warmup_steps"], values["warmup_ratio"]) == (5, None, 0.2)


def test_an_empty_value_unsets_a_flag(tmp_path, parse, options):
    flagfile = write(
        tmp_path / "a.cfg",
        "--warmup_ratio=0.1",
        "--dev_share=0.1",
        "--train_steps=5",
        "--tpu=local",
    )
    values, named, again = options(
        flagfile, "--warmup_ratio=", "--dev_share=", "--train_steps=", "--tpu="
    )
    for name in ("warmup_ratio", "dev_share", "train_steps", "tpu"):
        assert values[name] is None and name not in named and f"--{name}=" not in again
    # One whose empty value means something.
    values, named, again = options("--no_label=")
    assert values["no_label"] == "" and "no_label" in named and "\n--no_label=\n" in again
    error = parse("--seed=")
    assert error["code"] == 2 and "--seed=" in error["message"]


# --- what flagfiles hold ----------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=[]), max_size=20))
@example("\t")
@example(" a\n--seed=3\r\n#")
@example('"')
@example('"a"')
@example("a\u2028b\x85\x1c")
@example("\udcff.tsv")
@example("#//")
def test_any_text_comes_back(tmp_path_factory, value):
    if any(
        "\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff"
        for a, b in itertools.pairwise(value)
    ):
        return  # two halves of one character are that character, as everywhere in JSON
    path = tmp_path_factory.getbasetemp() / "any.cfg"
    path.write_bytes(f"# help\n--name={flagfiles.quote(value)}\n--other=1\n".encode())
    assert flagfiles.read(path) == [f"--name={value}", "--other=1"]


def test_a_run_with_odd_values_is_reproduced(tmp_path, options):
    odd = {
        "label_separator": " \t", "text_columns": 'a,"b"', "label_column": "#\nx ", "data_dir": '"d"',
        "train_file": " x/ü[1]\u2028.tsv", "init_from": "C:\\new\\table", "model_dir": "",
    }  # fmt: skip
    values, _, flagfile = options(*(f"--{name}={value}" for name, value in odd.items()))
    assert {name: values[name] for name in odd} == odd | {"model_dir": None}
    (tmp_path / "flags.cfg").write_text(flagfile, encoding="utf-8")
    again, _, same = options(f"--flagfile={tmp_path / 'flags.cfg'}")
    assert (again, same) == (values, flagfile)


def test_how_lines_are_read(tmp_path):
    path = tmp_path / "a.cfg"
    path.write_bytes(
        b'\xef\xbb\xbf# first\r\n\r\n  --a=1 \r\n// second\n--b="\\t"\n--c="x\n--d=x"\n--e="a"b"\n-f'
    )
    assert flagfiles.read(path) == ["--a=1", "--b=\t", '--c="x', '--d=x"', '--e="a"b"', "-f"]


def test_flags_of_earlier_runs_keep_their_spaces(tmp_path):
    """They were written without quotes, and read by `evaluate` as they stand."""
    write(tmp_path / "flags.cfg", "# Between the labels.", "--label_separator=, ", "--seed=3")
    assert option_flags.flagfile_values(tmp_path / "flags.cfg") == {
        "label_separator": ", ",
        "seed": "3",
    }
    assert flagfiles.read(tmp_path / "flags.cfg") == ["--label_separator=,", "--seed=3"]


def test_flagfiles_in_flagfiles(tmp_path):
    write(tmp_path / "inner.cfg", "--b=2", "--a=3")
    outer = write(tmp_path / "outer.cfg", "--a=1", f"--flagfile={tmp_path}/inner.cfg", "--b=4")
    arguments = ["--x=0", outer, "--c", "5", "-flagfile", str(tmp_path / "inner.cfg"), "--", outer]
    assert flagfiles.expand(arguments) == [
        ("--x=0", 0), ("--a=1", 1), ("--b=2", 2), ("--a=3", 2), ("--b=4", 1),
        ("--c", 0), ("5", 0), ("--b=2", 3), ("--a=3", 3), ("--", 0), (outer, 0),
    ]  # fmt: skip


def test_flagfiles_that_cannot_be_read_are_one_line(tmp_path, parse):
    (tmp_path / "latin.cfg").write_bytes(b"--seed=1\n# \xe4\n")
    write(tmp_path / "self.cfg", f"--flagfile={tmp_path}/./self.cfg")
    for i in range(1500):
        write(tmp_path / f"{i}.cfg", f"--flagfile={tmp_path}/{i + 1}.cfg")
    for name, message in (
        ("latin.cfg", "latin.cfg, line 2: not UTF-8; save the file as UTF-8"),
        ("self.cfg", "self.cfg names itself"),
        ("0.cfg", "0.cfg: flagfiles that name others, more than 20 deep"),
        ("none.cfg", "cannot read the flagfile "),
        ("", "cannot read the flagfile "),
    ):
        error = parse(f"--flagfile={tmp_path / name}")
        assert error["code"] == 2 and message in error["message"]
        assert error["message"].startswith("error: ") and error["message"].count("\n") == 1
    assert "--flagfile is given without a path" in parse("--flagfile")["message"]


# --- --help -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("electra_keras.train", ["hidden_size", "data_dir", "[no]fresh", "best_metric"]),
        ("electra_keras.finetune", ["task", "freeze", "num_train_epochs", "warmup_steps"]),
        ("electra_keras.evaluate", ["model_dir", "eval_batches", "[no]json", "dev_file"]),
        ("electra_keras.predict", ["model_dir", "submission_dir", "input", "glue_dir"]),
        ("electra_keras.export", ["model_dir", "export_dir"]),
        ("electra_keras.convert", ["from", "to", "input"]),
        ("data_tools.build_vocab", ["input", "vocab_size"]),
    ],
)
def test_help_lists_the_flags_of_a_command(command, names):
    code, stdout, stderr = run(command, "--help")
    assert code == 0, stderr
    for name in names:
        assert stdout.count(f"\n  --{name}: ") == 1, name
    assert command.split(".")[1] in stdout.splitlines()[0] or command in stdout
    # TensorFlow's and absl's own are none of them.
    assert "--logtostderr" not in stdout and "--only_check_args" not in stdout
    groups = re.findall(r"^\S.*:\n  --", stdout, re.MULTILINE)
    assert len(groups) == {"train": 3, "finetune": 3, "evaluate": 2, "predict": 2}.get(
        command.split(".")[1], 1
    )
