"""A connection between two processes that a test can cut: a TCP relay on the loopback."""

from __future__ import annotations

import contextlib
import socket
import threading

_BYTES = 1 << 16


class CutLink:
    """Relays connections to a server, until :meth:`cut`.

    :param host: address of the server
    :ivar host: address to connect to instead
    """

    def __init__(self, host: tuple[str, int]) -> None:
        self._server = host
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.host: tuple[str, int] = self._listening.getsockname()[:2]
        self._lock = threading.Lock()
        self._is_cut = False
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End all connections, and let none through until :meth:`mend`."""
        with self._lock:
            self._is_cut = True
            for each in self._sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        """Cut, and listen no more."""
        self.cut()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._relay(connection)

    def _relay(self, connection: socket.socket) -> None:
        try:
            server = socket.create_connection(self._server, 10)
        except OSError:
            connection.close()
            return
        server.settimeout(None)
        pair = (connection, server)
        with self._lock:
            if self._is_cut:
                for each in pair:
                    each.close()
                return
            self._sockets.update(pair)
        left = [2]
        for source, target in (pair, pair[::-1]):
            threading.Thread(target=self._copy, args=(source, target, left), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, left: list[int]) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_BYTES):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        with self._lock:
            left[0] -= 1
            if not left[0]:
                for each in (source, target):
                    self._sockets.discard(each)
                    each.close()
