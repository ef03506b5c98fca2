"""Parses flags of fine-tuning as a command does, and prints what came of them, for tests.

    python -m tests.show_options

reads a list of arguments a line, as JSON, and prints an object for each: the options, those given and a
flagfile that reproduces them, or the code and the message of the error.
"""

import contextlib
import dataclasses
import io
import json
import sys

from absl import flags

from electra_keras import console
from electra_keras import flags as option_flags
from electra_keras.tasks.adaptation import AdaptationOptions
from electra_keras.tasks.options import FineTuningOptions, TaskOptions

OPTIONS = (TaskOptions, AdaptationOptions, FineTuningOptions)


def show(arguments):
    for name in flags.FLAGS:
        flags.FLAGS[name].unparse()  # what the list before gave
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            console._parse_flags(["command", *arguments])
        groups = [option_flags.read(options) for options in OPTIONS]
    except SystemExit as stopped:
        return {"code": stopped.code, "message": stderr.getvalue()}
    except console.UsageError as error:
        return {"code": 2, "message": str(error)}
    return {
        "values": {k: v for group in groups for k, v in dataclasses.asdict(group).items()},
        "given": sorted(name for options in OPTIONS for name in option_flags.given(options)),
        "flagfile": option_flags.to_flagfile(*groups),
    }


if __name__ == "__main__":
    for cls in OPTIONS:
        option_flags.define(cls)
    for line in sys.stdin:
        print(json.dumps(show(json.loads(line))), flush=True)
