"""An HTTP session whose blocking calls can be ended from another thread.

A thread that waits for a silent server checks no cancellation until the timeout is over. Timeouts
are long where a server may have to write gigabytes. :class:`AbortableSession` is an ordinary
session of *requests* that knows its sockets. :meth:`AbortableSession.abort` shuts them down, and a
call that waits on one fails at once. One session belongs to one thread. Other threads call `abort`
alone.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


class AbortableSession(requests.Session):
    """A session for one thread.

    Proxies that the environment names are not used: a crawler's environment often names the
    one that it crawls through. Certificates are those that it names.

    :param proxy: URL of the proxy to use, or None
    :param ca: file with the certificates of CAs, or None for those that the environment names
    :ivar before_request: called with the URL of each request, redirected ones too; may raise
    """

    def __init__(self, proxy: str | None = None, ca: str | None = None) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = (
            ca or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        )
        if proxy:
            self.proxies = {"http": proxy, "https": proxy}
        self.before_request: Callable[[str], None] | None = None
        self._switch = _Switch()
        adapter = _Adapter(self._switch)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def reset(self) -> None:
        """Make an aborted session usable again."""
        self._switch.off = False

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """See :meth:`requests.Session.send`, which follows redirects by calling this again."""
        if self.before_request is not None:
            self.before_request(request.url or "")
        return super().send(request, **options)

    def abort(self) -> None:
        """End what the session waits for, now and until :meth:`reset`, with an error."""
        self._switch.off = True
        for connection in list(self._switch.connections):
            _shut_down(connection)


class _Switch:
    """What the connections of a session share."""

    def __init__(self) -> None:
        self.off = False
        self.connections: weakref.WeakSet[HTTPConnection] = weakref.WeakSet()


def _shut_down(connection: HTTPConnection) -> None:
    connected = connection.sock
    if connected is not None:
        with contextlib.suppress(OSError):
            # Below TLS, whose own shutdown is not safe on another thread.
            socket.socket.shutdown(connected, socket.SHUT_RDWR)


class _Adapter(HTTPAdapter):
    """Has every connection that it makes obey the switch."""

    def __init__(self, switch: _Switch) -> None:
        self._switch = switch
        super().__init__()

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        switch = self._switch

        class Plain(HTTPConnection):
            def connect(self) -> None:
                _connect(self, super().connect, switch)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                _connect(self, super().connect, switch)

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}


def _connect(connection: HTTPConnection, connect: Callable[[], None], switch: _Switch) -> None:
    switch.connections.add(connection)
    connect()
    # An abort while there was no socket to shut down yet.
    if switch.off:
        connection.close()
        raise ConnectionAbortedError("aborted")
