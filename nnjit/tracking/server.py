"""Runs MLflow's server, which shows a store as web pages."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from typing import IO, final

from ..errors import TrackingError
from ..runtime import guard as guard_module

_PATIENCE = 60.0  # seconds that the server may take to answer
_GRACE = 5.0  # seconds that the guard may take to end the server


@final
class Server:
    """A started server."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self._process, self._output = process, output

    def wait_for_answer(self, address: str) -> None:
        """Return when the server answers; TrackingError if it does not."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise TrackingError(f"MLflow's server did not start: {self._last_line()}")
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(f"{address}/health", timeout=5) as answer,
            ):
                if answer.status == 200:
                    return
            time.sleep(0.1)
        raise TrackingError(f"MLflow's server did not answer at {address} for {_PATIENCE:.0f} s")

    def wait_for_end(self) -> None:
        """Wait for the server; TrackingError when it ends, which it should not."""
        self._process.wait()
        raise TrackingError(f"the server has ended: {self._last_line()}")

    def _last_line(self) -> str:
        self._output.seek(0)
        text = self._output.read().decode(errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        return next((line for line in reversed(lines) if line), "it said nothing")


@contextlib.contextmanager
def serving(uri: str, host: str, port: int) -> Iterator[Server]:
    """Start MLflow's server under a guard, which ends it when this process ends."""
    # One worker and no queue of jobs are enough for one user. The address of the store may contain
    # a password: it is passed in the environment, since all users can see arguments.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": os.environ.get("MLFLOW_DISABLE_TELEMETRY", "true"),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    guard = [sys.executable, guard_module.__file__]
    command = [*guard, sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    with tempfile.TemporaryDirectory() as folder, open(f"{folder}/log", "w+b") as output:
        server = subprocess.Popen(
            [*command, "--host", host, "--port", str(port)],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Server(server, output)
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_GRACE)
    server.kill()
    server.wait()
