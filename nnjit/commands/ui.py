"""``python -m nnjit.ui``: MLflow's pages on the project's store, in one command."""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from ..errors import ConfigError, TrackingError
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime import guard as guard_module
from .arguments import key_values, store_options

USAGE = """\
Open MLflow's pages on the store, with columns and charts that show what matters.

  python -m nnjit.ui
  python -m nnjit.ui run=latest
  python -m nnjit.ui root=elsewhere/runs port=8080

run=     the address of this run too: an id or its first digits, or latest
port=    port to listen on (default: 5000, or the next one that is free)
host=    address to listen on (default: 127.0.0.1, this machine alone)
root=    folder of the store (default: runs)
uri=     address of a store elsewhere; of a server that runs already, only the pages are printed

Ctrl-C ends it.
"""
_KEYS = ("run", "port", "host", "root", "uri")
_PORT, _TRIES = 5000, 20
_PATIENCE = 60.0  # seconds that the server may take to answer
_GRACE = 5.0  # seconds that its guard may take to end it


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if set(arguments) & {"-h", "--help"}:
        print(USAGE, end="")
        return
    with one_line_errors(), one_line_warnings():
        options = dict(key_values(arguments, _KEYS))
        uri = store_options(options)
        if uri.startswith(("http://", "https://")):
            _print_pages(uri, uri.rstrip("/"), options)
            return
        host = options.get("host", "127.0.0.1")
        try:
            _serve(uri, host, choose_port(host, options.get("port")), options)
        except KeyboardInterrupt:
            raise SystemExit(0) from None  # that is how it ends


def choose_port(host: str, wanted: str | None) -> int:
    """Return the port that was asked for, or else the first free one.

    Raises
    ------
    ConfigError
        Where it is no port, or taken.
    """
    if wanted is not None:
        if not wanted.isdecimal() or not 0 < int(wanted) < 1 << 16:
            raise ConfigError(f"port={wanted} is no port: choose one from 1 to 65535")
        if not _is_free(host, int(wanted)):
            raise ConfigError(f"port={wanted} is taken or not allowed: choose another")
        return int(wanted)
    for port in range(_PORT, _PORT + _TRIES):
        if _is_free(host, port):
            return port
    raise ConfigError(f"no port from {_PORT} to {_PORT + _TRIES - 1} is free: add port=PORT")


def _is_free(host: str, port: int) -> bool:
    try:
        kind = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind[0], kind[1]) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(kind[4])
    except socket.gaierror:
        raise ConfigError(f"host={host} is no address of this machine: try 127.0.0.1") from None
    except OSError:
        return False
    return True


def _serve(uri: str, host: str, port: int, options: Mapping[str, str]) -> None:
    """Print the pages when the server answers, and stay until it ends."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    uri = _check_store(uri)
    with _server(uri, host, port) as (server, output):
        _wait(server, output, address)
        _print_pages(uri, address, options)
        print("Ctrl-C ends it", flush=True)
        server.wait()
        raise TrackingError(f"the server has ended: {_last_line(output)}")


def _check_store(uri: str) -> str:
    """Return the address to open: of a copy, where there is no leave to write."""
    from ..tracking import open_existing, readable

    open_existing(uri)
    if readable(uri) != uri:
        print("the store cannot be written: the pages show what it holds now")
    return readable(uri)


@contextlib.contextmanager
def _server(uri: str, host: str, port: int) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start MLflow's server under a guard, which ends it when this process does."""
    # One process and no queue of jobs: a dozen would serve one person no better. The address of
    # the store may hold a password, and arguments are there for all to see.
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
            yield server, output
        finally:
            _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    assert server.stdin is not None
    server.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(_GRACE)
    server.kill()
    server.wait()


def _wait(server: subprocess.Popen[bytes], output: IO[bytes], address: str) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        if server.poll() is not None:
            raise TrackingError(f"MLflow's server did not start: {_last_line(output)}")
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{address}/health", timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.1)
    raise TrackingError(f"MLflow's server did not answer at {address} for {_PATIENCE:.0f} s")


def _last_line(output: IO[bytes]) -> str:
    output.seek(0)
    lines = [line.strip() for line in output.read().decode(errors="replace").splitlines()]
    return next((line for line in reversed(lines) if line), "it said nothing")


def _print_pages(uri: str, server: str, options: Mapping[str, str]) -> None:
    from ..tracking import find_run, open_existing, query, views
    from ..tracking.address import without_passwords

    _, client = open_existing(uri)
    server = without_passwords(server)
    newest = query.search_runs(client, most=1)
    if not newest:
        raise TrackingError("the store has no run yet: python -m nnjit.run makes one")
    experiment = newest[0].experiment_id
    views.save_view(client, experiment, views.RESULTS)
    print(f"runs     {views.view_page(server, experiment, views.RESULTS)}")
    print(f"charts   {views.view_page(server, experiment, views.RESULTS, charts=True)}")
    if "run" in options:
        info = find_run(client, options["run"]).info
        print(f"run      {views.run_page(server, info.experiment_id, info.run_id)}")
    sys.stdout.flush()
