"""Says that a worker still waits for others: TensorFlow does so without a word, for an hour."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator, Sequence

# A process of its own: TensorFlow waits with the interpreter's lock held, so no thread could speak.
# It ends with its parent.
_REMINDER = """
import os, socket, sys, time
interval, *addresses = sys.argv[1:]
parent, begun = os.getppid(), time.monotonic()
while True:
    time.sleep(float(interval))
    if os.getppid() != parent:
        break
    silent = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError):
            silent.append(address)
    missing = "no answer from " + ", ".join(silent) if silent else "all of them answer"
    seconds = round(time.monotonic() - begun)
    print(
        time.strftime("%H:%M:%S"), "W still waiting for the other workers after",
        f"{seconds // 60}m{seconds % 60:02d}s: {missing}", file=sys.stderr, flush=True,
    )
"""


@contextlib.contextmanager
def reminders(addresses: Sequence[str], interval: float = 60) -> Iterator[None]:
    """Writes a line to stderr every `interval` seconds, until the block ends.

    Args:
        addresses: host:port of the workers; those that do not answer are named.
        interval: in seconds.
    """
    process = subprocess.Popen([sys.executable, "-c", _REMINDER, str(interval), *addresses])
    try:
        yield
    finally:
        process.kill()
        process.wait()
