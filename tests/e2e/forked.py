"""A process that has imported everything, and forks one for each command that it reads.

Starting Python and its libraries takes seconds, the runs of the tests less: what is killed at a
random moment would be an import nearly always. A line of input is the arguments of a command and
the file for what it writes; a line of output is the id of a process that began, or what became of
it.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from commands import SMALL, environment


class Commands:
    """Runs commands of nnjit.run in forked processes of their own."""

    def __init__(self, cwd):
        self.cwd = cwd
        self._server = subprocess.Popen(
            [sys.executable, __file__],
            cwd=cwd,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self):
        assert self._server.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *error):
        self._server.stdin.close()
        self._server.stdout.close()
        self._server.wait(timeout=60)

    def run(self, *arguments, after=None, number=signal.SIGKILL):
        """Run a command; after so many seconds send it a signal.

        Returns the exit code, negative for a signal, and all that it wrote.
        """
        print(json.dumps(arguments), file=self._server.stdin, flush=True)
        pid = int(self._server.stdout.readline())
        timer = threading.Timer(after or 300, os.kill, (pid, number))
        timer.start()
        try:
            code = int(self._server.stdout.readline())
        finally:
            timer.cancel()
        return code, (Path(self.cwd) / "output").read_text()


def serve():
    """Run one command here, which imports everything, then fork for each line of input."""
    import nnjit.commands.resume
    from nnjit.run import main

    assert nnjit.commands.resume
    output = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.argv[1:] = [*SMALL, "tracking.root=warm", "hydra.run.dir=warm"]
    main()
    os.dup2(output, 1)
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            become(json.loads(line))
        print(pid, flush=True)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def become(arguments):
    """Turn this process into one that runs a command."""
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        sys.argv[1:] = arguments
        sys.modules["nnjit.run"].main()
        code = 0
    except SystemExit as error:
        code = error.code or 0
    except KeyboardInterrupt:  # so early that it was no run yet
        code = 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
