"""Runs commands of the library in forks of a process that has imported TensorFlow already.

The import is most of what a short command takes. A fork has arguments, output, exit code, environment
and `__main__` of its own, as the command would have; only what TensorFlow reads of the environment while
it is imported is that of the start. Nothing may compute in the process itself, or forks would lack
TensorFlow's threads.

    python -m tests.forked

reads a JSON object a line (module, arguments, environment, stdout and stderr: paths) and prints the exit
code of each.
"""

import json
import os
import runpy
import sys
import traceback


def main():
    import electra_keras.console  # noqa: F401  (sets TensorFlow's log level)

    # isort: split
    import keras  # noqa: F401
    import tensorflow_text  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        process = os.fork()
        if process == 0:
            os._exit(run(**json.loads(line)))
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def run(module, arguments, environment, stdout, stderr):
    """Runs a command in this process; returns its exit code."""
    for number, path in enumerate((os.devnull, stdout, stderr)):
        os.dup2(os.open(path, os.O_RDWR), number)
    # The other has read what is meant for the parent.
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stopped:
        code = stopped.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    main()
