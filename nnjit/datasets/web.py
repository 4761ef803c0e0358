"""Requests over http and https only, which end if the server is too slow."""

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
    """Closes its connections if they receive less than a kilobyte a second; a context manager.

    A timeout of each read would not end a request to a server that sends a byte now and then, in
    its headers or after them.

    Attributes
    ----------
    received : int
        Bytes of the body so far; the reader of the body must update it.
    was_slow : bool
        Whether it has closed a connection.
    """

    def __init__(self, timeout: float) -> None:
        self.received, self.was_slow = 0, False
        self.timeout = timeout
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

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
        # A duplicate, since TLS takes over the socket. Shutting one down ends both.
        self._sockets.append(connection.dup())

    def why(self) -> str:
        """Return the reason for which it closes connections."""
        return f"less than {_SLOWEST} bytes a second came in {self.timeout:g} s"

    def _run(self) -> None:
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
    """With this order of bases the plain socket is watched before TLS begins."""


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
    """Raise DataError unless the address has the scheme http or https and a host name."""
    try:
        address = urlsplit(url)
        valid = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        valid = False
    if not valid:
        raise DataError(f"{url} cannot be fetched (it is no http or https address)")


def request(url: str, headers: dict[str, str], watch: Watch) -> Any:
    """Return the response to a GET request, a context manager; redirects are followed.

    Raises
    ------
    DataError
        If a redirect leads to another scheme than http and https, or from https to http.
    urllib.error.HTTPError, OSError, http.client.HTTPException
        If there is no response, or one with an error status.
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
