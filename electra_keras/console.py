"""What every command shares: errors that end in one line, logging to stderr, progress lines."""

import logging
import os
import re
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable

from absl import app, flags
from absl import logging as absl_logging


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


def _parse_flags(argv: list[str]) -> list[str]:
    try:
        remaining = flags.FLAGS(argv)
    except (flags.Error, OSError) as error:  # OSError: an unreadable flagfile
        _fail(UsageError(str(error)))
    if len(remaining) > 1:
        _fail(UsageError(f"unexpected argument {remaining[1]!r}: every option is a --flag=value"))
    return remaining


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
        except BrokenPipeError:  # whoever reads our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes stdout once more
            sys.exit(1)
        except OSError as error:  # no right to a file, a name that is too long, ...
            where = f"{error.filename}: " if error.filename else ""
            _fail(UserError(f"{where}{reason(error)}"))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
            sys.exit(130)

    app.run(guarded, flags_parser=_parse_flags)


def _terminate(number: int, _: types.FrameType | None) -> None:
    """Ends the process as an error does, so that nothing half-written is left; the next at once."""
    signal.signal(number, signal.SIG_DFL)
    sys.exit(128 + number)


def _is_ours_or_important(record: logging.LogRecord) -> bool:
    """Drops TensorFlow's own chatter, such as a line per checkpoint shard."""
    return record.levelno >= logging.WARNING or "site-packages" not in record.pathname


def reason(error: BaseException) -> str:
    """Returns what an exception says in one line, without what TensorFlow puts around it."""
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    lines = str(text).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\]$", "", lines[0])


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
