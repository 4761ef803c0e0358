"""Runs a command; when standard input closes, ends it and every process that it started.

A parent starts ``python guard.py COMMAND...`` with a pipe as standard input. The system closes the
pipe however the parent ends, kill -9 included. The guard leads a process group. It imports nothing
of nnjit, so that it starts at once.
"""

import os
import signal
import subprocess
import sys
import threading
import time

_GRACE = 0.3  # seconds that the command may take to end: a server has nothing to save


def main() -> None:
    """Run the command and wait for its end."""
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # `_end` sends it to the whole group
    threading.Thread(target=_watch, args=(command,), daemon=True).start()
    command.wait()
    _end(command, "SIGKILL")  # what it started may outlive it


def _watch(command: "subprocess.Popen[bytes]") -> None:
    sys.stdin.buffer.read()
    _end(command, "SIGTERM")
    time.sleep(_GRACE)
    _end(command, "SIGKILL")


def _end(command: "subprocess.Popen[bytes]", name: str) -> None:
    """Send a signal to the group, or to the command alone where there are no groups."""
    if hasattr(os, "killpg"):
        os.killpg(0, getattr(signal, name))
    else:
        command.terminate()


if __name__ == "__main__":
    main()
