"""Requests over http and https only, ended where a server is too slow."""

import contextlib
import http.client
import socket
import threading
import urllib.request
from functools import partial
from types import TracebackType
from typing import IO, Any
from urllib.parse import urlsplit

from ..errors import DataError

_SLOWEST = 1000  # bytes a second


class Watch:
    """Cuts its connections when less than a kilobyte a second comes in; a context manager.

    A time limit on each read does not end a server that sends a byte now and then, in its headers
    or after them.

    Attributes
    ----------
    received : int
        Bytes of the body so far; whoever reads it counts them here.
    was_slow : bool
        Whether it has cut a connection.
    """

    def __init__(self, timeout: float) -> None:
        self.received, self.was_slow = 0, False
        self.timeout = timeout
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        for connection in self._sockets:
            connection.close()

    def add(self, connection: socket.socket) -> None:
        """Watch a connection."""
        # A duplicate, as TLS takes the socket over. Shutting one down ends both.
        self._sockets.append(connection.dup())

    def why(self) -> str:
        """Return the reason that it gives for an end."""
        return f"less than {_SLOWEST} bytes a second came in {self.timeout:g} s"

    def _look(self) -> None:
        before = 0
        while not self._ended.wait(self.timeout):
            now = self.received
            if now - before < _SLOWEST * self.timeout:
                self.was_slow = True
                for connection in list(self._sockets):
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                return
            before = now


class _Connection(http.client.HTTPConnection):
    watch: Watch

    def connect(self) -> None:
        super().connect()
        self.watch.add(self.sock)


class _SecureConnection(http.client.HTTPSConnection, _Connection):
    """In this order its plain socket is watched before TLS begins on it."""


class _Handler(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(self._watched, _Connection), req)

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(partial(self._watched, _SecureConnection), req)

    def _watched(self, kind: type[_Connection], host: str, **options: Any) -> _Connection:
        connection = kind(host, **options)
        connection.watch = self._watch
        return connection


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        check_address(newurl)
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise DataError(f"{req.full_url} leads from https to {newurl}: name an https address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_address(url: str) -> None:
    """Raise DataError unless an address is of http or https, and names a server."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        sound = False
    if not sound:
        raise DataError(f"{url} cannot be fetched (it is no http or https address)")


def request(url: str, headers: dict[str, str], watch: Watch) -> Any:
    """Return the answer to a GET request, a context manager; it may be redirected.

    Raises
    ------
    DataError
        If it leads to anything but http and https, or from https to http.
    urllib.error.HTTPError, OSError, http.client.HTTPException
        If there is no answer, or one that tells an error.
    """
    check_address(url)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        _Handler(watch),
        _Redirects(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.HTTPDefaultErrorHandler(),
    ):
        opener.add_handler(handler)
    return opener.open(urllib.request.Request(url, headers=headers), timeout=watch.timeout)
