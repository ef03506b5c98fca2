"""Every flagfile is understood by its command: no unknown flag, no impossible combination."""

import subprocess
import sys

import pytest

from tests.runs import REPOSITORY

CHECK = """
import sys
import electra_keras.console
import electra_keras.{main} as main
from absl import flags
from electra_keras import flags as option_flags
for path in sys.argv[1:]:
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS.get_flags_for_module(main):
        flags.FLAGS[name.name].unparse()
    flags.FLAGS(["main", "--task=RTE"][: 1 + {needs_task}] + ["--flagfile=" + path])
    for options in {options}:
        option_flags.read(options)
"""


@pytest.mark.parametrize(
    ("main", "pattern", "options"),
    [
        ("train", "configs/*.cfg", "(main.ModelOptions, main.DataOptions, main.TrainingOptions)"),
        (
            "finetune",
            "configs/finetune/*.cfg",
            "(main.TaskOptions, main.AdaptationOptions, main.FineTuningOptions)",
        ),
    ],
)
def test_flagfiles_are_understood(main, pattern, options):
    paths = sorted(map(str, REPOSITORY.glob(pattern)))
    assert len(paths) > 3
    code = CHECK.format(main=main, options=options, needs_task=int(main == "finetune"))
    process = subprocess.run(
        [sys.executable, "-c", code, *paths],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("configs/**/*.cfg")), ids=lambda p: p.stem)
def test_flagfiles_begin_with_their_command(path):
    comment = path.read_text().split("\n--")[0]
    assert "\n#   python -m electra_keras." in comment or "\n#   bash quick" in comment
