"""What every command shares: errors that end in one line, logging to stderr, progress lines."""

import io
import logging
import os
import re
import signal
import sys
import tempfile
import textwrap
import time
import types
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging

from electra_keras import flagfiles


def _import_tensorflow_quietly() -> None:
    """Imports TensorFlow without the lines its libraries print while they load, at any log level.

    They are held back in a temporary file, and shown where the import fails.
    """
    # TensorFlow reads this when it is first imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


_import_tensorflow_quietly()


class UserError(Exception):
    """A mistake in the user's input: shown as one line, without a traceback; exit code 1."""

    exit_code = 1


class UsageError(UserError):
    """A mistake in the command line or in a configuration; exit code 2."""

    exit_code = 2


# For a flag those that it takes the place of, where it stands behind them in another place: a flagfile
# and what is typed behind it.
OVERRIDES: dict[str, set[str]] = {}
_HELP = ("--help", "-help", "-h", "-?")


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        arguments = flagfiles.expand(argv[1:])
        if any(argument.text in _HELP for argument in arguments):
            _print_help(argv[0])
            sys.exit(0)
        remaining = flags.FLAGS([argv[0], *(argument.text for argument in arguments)])
    except (flags.Error, ValueError) as error:
        _fail(UsageError(str(error)))
    except OSError as error:
        _fail(UsageError(f"cannot read the flagfile {error.filename}: {error.strerror}"))
    if len(remaining) > 1:
        _fail(UsageError(f"unexpected argument {remaining[1]!r}: every option is a --flag=value"))
    _drop_overridden(arguments)
    _expand_home()
    return remaining


def _drop_overridden(arguments: list[flagfiles.Argument]) -> None:
    """Takes back what a flagfile sets and a later flag of another name replaces."""
    last: dict[str, tuple[int, int]] = {}
    for place, (text, source) in enumerate(arguments):
        name = text.lstrip("-").partition("=")[0]
        last[name if name in flags.FLAGS else name.removeprefix("no")] = (place, source)
    given = {
        name
        for name in last
        if name in flags.FLAGS and flags.FLAGS[name].value != flags.FLAGS[name].default
    }
    for name in given:
        for other in OVERRIDES.get(name, set()) & given:
            if last[other][0] < last[name][0] and last[other][1] != last[name][1]:
                flags.FLAGS[other].unparse()


def _print_help(program: str) -> None:
    """Prints what a command is for, and its flags in the groups that they are defined in."""
    groups: dict[str, list[flags.Flag]] = {}
    for flag in flags.FLAGS.get_key_flags_for_module(program):
        groups.setdefault(flags.FLAGS.find_module_defining_flag(flag.name), []).append(flag)
    lines = [str(sys.modules["__main__"].__doc__).strip()]
    for group, members in groups.items():
        lines += ["", "Flags:" if group == program else f"{group}:"]
        for flag in members:
            default = "" if flag.default_as_str is None else f" (default: {flag.default_as_str})"
            name = f"--[no]{flag.name}" if flag.boolean else f"--{flag.name}"
            text = " ".join(flag.help.split()) + default
            lines += textwrap.wrap(
                text, 96, initial_indent=f"  {name}: ", subsequent_indent=" " * 6
            )
    lines += [
        "",
        "--flagfile=PATH reads flags from a file, one a line; flags behind it override it.",
    ]
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        _stop_reading()


def _stop_reading() -> None:
    """Ends the process, as whoever reads its output has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes stdout once more
    sys.exit(1)


# The names that flags of paths have, or of patterns by comma.
_PATH_FLAG = re.compile(r"(^|_)(dir|files?|from|input|output|data|dump)$")


def _expand_home() -> None:
    """Replaces "~" at the beginning of paths: a shell leaves it alone behind `--flag=`."""

    def expand(text: str) -> str:
        return re.sub(
            r"(^|,\s*)(~[^/,]*)(?=[/,]|$)", lambda m: m[1] + os.path.expanduser(m[2]), text
        )

    for name in filter(_PATH_FLAG.search, flags.FLAGS):
        flag = flags.FLAGS[name]
        if isinstance(flag.value, str):
            flag.value = expand(flag.value)
        elif isinstance(flag.value, list):
            flag.value = [expand(item) for item in flag.value]


def _fail(error: UserError) -> None:
    message = " ".join(str(error).split())
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)


def run_main(main: Callable[[], int | None]) -> None:
    """Parses the flags, runs `main()` and turns its errors into one line and an exit code.

    Exit codes: 0 success, 1 failure (`UserError`), 2 usage (`UsageError`, bad flags),
    130 interrupted from the keyboard, 143 terminated (SIGTERM).
    """

    def guarded(_: list[str]) -> None:
        absl_logging.use_absl_handler()
        absl_logging.get_absl_handler().setFormatter(
            logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S")
        )
        absl_logging.get_absl_handler().addFilter(_is_ours_or_important)
        absl_logging.set_verbosity(absl_logging.INFO)
        logging.getLogger("tensorflow").setLevel(logging.WARNING)
        signal.signal(signal.SIGTERM, _terminate)
        try:
            exit_code = main() or 0
            sys.stdout.flush()
            sys.exit(exit_code)
        except UserError as error:
            _fail(error)
        except BrokenPipeError:
            _stop_reading()
        except OSError as error:  # no right to a file, a name that is too long, ...
            where = f"{error.filename}: " if error.filename else ""
            _fail(UserError(f"{where}{reason(error)}"))
        except UnicodeError as error:
            _fail(UserError(f"text that cannot be read or written: {reason(error)}"))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.exit(130)
        except Exception as error:
            if not is_of_other_worker(error):
                raise
            _fail(lost_worker(error))

    if isinstance(sys.stdout, io.TextIOWrapper):
        # Whatever the locale; half a character (a lone surrogate) is printed as an escape.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    app.run(guarded, flags_parser=_parse_flags)


def _terminate(number: int, _: types.FrameType | None) -> None:
    """Ends the process as an error does, so that nothing half-written is left; the next at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _is_ours_or_important(record: logging.LogRecord) -> bool:
    """Drops TensorFlow's own chatter, such as a line per checkpoint shard."""
    return record.levelno >= logging.WARNING or "site-packages" not in record.pathname


# What TensorFlow puts in front of the line that says what is wrong: where in the graph, and in the code.
_BEFORE_CAUSE = re.compile(
    r"Graph execution error:|in user code:|Detected at node|Node: |<stack traces|File \"|Traceback |"
    r"\[\[|(\d+ r|R)oot error"
)
# And around what that line says.
_AROUND_CAUSE = re.compile(
    r"^\(\d+\) [A-Z_]+:\s+|^(\{\{.*?\}\}\s*)+|\s*(\[\[.*?\]\])?\s*\[Op:\w+\]( name:.*)?$|"
    r"Error in user-defined function passed to \S+ transformation with iterator: \S+: "
)


def reason(error: BaseException) -> str:
    """Returns what an exception says in one line, without what TensorFlow puts around it.

    An error in a graph comes with a page of places; the line that names the cause is behind them.
    """
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    lines = [line.strip() for line in str(text).strip().splitlines()]
    behind_places = (
        line
        for line, before in zip(lines, ["", *lines], strict=False)
        # A place may be followed by its line of code.
        if line and not _BEFORE_CAUSE.match(line) and not before.startswith('File "')
    )
    cause = next(behind_places, lines[0] if lines else type(error).__name__)
    for _ in range(3):  # one around the other
        cause = _AROUND_CAUSE.sub("", cause).strip()
    return cause or type(error).__name__


def is_of_other_worker(error: Exception) -> bool:
    """Whether an error is TensorFlow's about another worker, which has stopped or is out of reach."""
    import tensorflow as tf

    lost = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.DeadlineExceededError)
    aborted = isinstance(error, tf.errors.OpError) and "Collective ops is aborted" in str(error)
    return aborted or isinstance(error, lost)


def lost_worker(error: Exception) -> UserError:
    """Returns what such an error means, for a person."""
    return UserError(
        f"another worker has stopped or cannot be reached, see its log ({reason(error)}); start all "
        "workers again to continue"
    )


def format_duration(seconds: float) -> str:
    """Returns `seconds` as `12s`, `3m05s` or `2h07m`."""
    seconds = round(max(0.0, seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


class ProgressLine:
    """One line on stderr that is rewritten in place; silent when stderr is not a terminal.

    Args:
        total: how many units make the whole, or None where that is not known.
        unit: what is counted, in the plural ("examples").
        start: units that were done before (a resumed run); they do not count for the rate.
        interval: the least time between two updates, in seconds.
    """

    def __init__(
        self, total: float | None, unit: str, start: float = 0, interval: float = 0.5
    ) -> None:
        self.total, self.unit, self.start, self.interval = total, unit, start, interval
        self.started = time.monotonic()
        self._last_update = 0.0
        self._width = 0
        self.enabled = sys.stderr.isatty()

    def update(self, done: float, note: str = "") -> None:
        """Shows `done` units of the total, the rate, the time left, and `note`."""
        now = time.monotonic()
        if not self.enabled or now - self._last_update < self.interval:
            return
        self._last_update = now
        rate = (done - self.start) / max(now - self.started, 1e-9)
        text = f"{done:,.0f}"
        if self.total:
            text += f"/{self.total:,.0f} {self.unit} ({done / self.total:.0%})"
        else:
            text += f" {self.unit}"
        text += f"  {rate:,.1f}/s"
        if self.total and rate > 0:
            text += f"  ETA {format_duration((self.total - done) / rate)}"
        text = f"{text}  {note}" if note else text
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def clear(self) -> None:
        """Removes the line, so that other output starts in an empty one."""
        if self.enabled and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
            self._last_update = 0.0
