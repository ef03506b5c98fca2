"""Requests to stop: signals and the time limit."""

import os
import signal
import sys
import time
import types


class EvaluationStopped(Exception):
    """Raised inside an evaluation when the workers have voted to stop."""


class StopRequest:
    """Collects requests to stop at the next step, from SIGINT, SIGTERM and a time limit.

    A second Ctrl-C ends the process at once.

    Args:
        max_minutes: time limit, or None.

    Attributes:
        exit_code: 0 for the time limit, 128 + the signal's number for a signal.
    """

    def __init__(self, max_minutes: float | None = None) -> None:
        self.deadline = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.exit_code = 0
        self._signal: int | None = None

    def __enter__(self) -> "StopRequest":
        self._previous = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: types.FrameType | None) -> None:
        if self._signal is not None and number == signal.SIGINT:
            print("\nstopped at once; the last checkpoint stands", file=sys.stderr, flush=True)
            os._exit(128 + number)
        self._signal = number
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        print(
            f"\n{name}: saving after this step; Ctrl-C again stops at once",
            file=sys.stderr,
            flush=True,
        )

    @property
    def vote(self) -> float:
        """This process's vote: 0 to go on, 1 for its time limit, 1000 for a signal."""
        return 1000.0 if self._signal is not None else float(self.reason is not None)

    def exit_code_after(self, votes: float) -> int:
        """Returns the exit code when the votes of all processes add up to `votes`.

        A process that got no signal itself ends as one that did, lest it pass for finished.
        """
        return self.exit_code or (128 + signal.SIGTERM if votes >= 1000 else 0)

    @property
    def reason(self) -> str | None:
        """Why to stop, or None to go on."""
        if self._signal is not None:
            return signal.Signals(self._signal).name
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return "--max_runtime"
        return None
