"""``python -m nnjit.ui``: serves MLflow's pages for the store."""

import socket
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import ConfigError, TrackingError
from ..reporting.messages import one_line_errors, one_line_warnings
from ..runtime.secrets import without_passwords
from .arguments import key_values, store_options

if TYPE_CHECKING:
    from ..tracking.store import Store

USAGE = """\
Serve MLflow's pages for the store, with columns and charts of the main results.

  python -m nnjit.ui
  python -m nnjit.ui run=latest
  python -m nnjit.ui root=elsewhere/runs port=8080

run=     the address of this run too: an id or its first digits, or latest
port=    port to listen on (default: 5000, or the next one that is free)
host=    address to listen on (default: 127.0.0.1, only this machine)
root=    folder of the store (default: runs)
uri=     address of another store; for a running server, only the addresses are printed

Ctrl-C ends it.
"""
_KEYS = ("run", "port", "host", "root", "uri")
_PORT, _TRIES = 5000, 20


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
            from ..tracking.store import Store

            _print_pages(Store.existing(uri), uri.rstrip("/"), options)
            return
        host = options.get("host", "127.0.0.1")
        try:
            _serve(uri, host, choose_port(host, options.get("port")), options)
        except KeyboardInterrupt:
            raise SystemExit(0) from None  # Ctrl-C is the normal end


def choose_port(host: str, port_option: str | None) -> int:
    """Return the port of the option, or else the first free one.

    Raises
    ------
    ConfigError
        If it is no valid port, or taken.
    """
    if port_option is not None:
        if not port_option.isdecimal() or not 0 < int(port_option) < 1 << 16:
            raise ConfigError(f"port={port_option} is no port: choose one from 1 to 65535")
        if not _is_free(host, int(port_option)):
            raise ConfigError(f"port={port_option} is taken or not allowed: choose another")
        return int(port_option)
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
    """Start the server, print the addresses of the pages, and wait until the server ends."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    address = f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
    from ..tracking.server import serving
    from ..tracking.store import Store

    store = Store.existing(uri)
    if store.uri != uri:
        print("the store cannot be written: the pages show what it holds now")
    with serving(store.uri, host, port) as server:
        server.wait_for_answer(address)
        _print_pages(store, address, options)
        print("Ctrl-C ends it", flush=True)
        server.wait_for_end()


def _print_pages(store: "Store", server: str, options: Mapping[str, str]) -> None:
    from ..tracking import views

    server = without_passwords(server)
    newest = store.runs(most=1)
    if not newest:
        raise TrackingError("the store has no run yet: python -m nnjit.run makes one")
    experiment = newest[0].experiment_id
    store.save_view(experiment, views.RESULTS)
    print(f"runs     {views.view_page(server, experiment, views.RESULTS)}")
    print(f"charts   {views.view_page(server, experiment, views.RESULTS, charts=True)}")
    if "run" in options:
        run = store.run(options["run"])
        print(f"run      {views.run_page(server, run.experiment_id, run.id)}")
    sys.stdout.flush()
