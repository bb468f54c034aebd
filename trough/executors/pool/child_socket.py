"""The front's end of the socket to an executor.

A stream transport for the reactor, reduced to what this connection needs. It sends bytes at
once as far as the kernel takes them, without a turn of the reactor between. It reads in large
portions. It does not interpret the bytes.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import main
from twisted.internet.interfaces import IReadWriteDescriptor
from twisted.python.failure import Failure
from zope.interface import implementer

_RECEIVE_SIZE = 1 << 18


@implementer(IReadWriteDescriptor)
class ChildSocket:
    """The front's end of the socket; writes at once what the kernel takes at once.

    :param received: called with some bytes
    :param lost: called once, after the last bytes
    """

    def __init__(
        self,
        reactor: Any,
        connection: socket.socket,
        received: Callable[[bytes], None],
        lost: Callable[[], None],
    ) -> None:
        connection.setblocking(False)
        self._reactor = reactor
        self._socket = connection
        self._received = received
        self._lost = lost
        # One for all reads: the C library would map a new one of that size each time.
        self._buffer = memoryview(bytearray(_RECEIVE_SIZE))
        self._unsent: list[memoryview] = []
        self._closed = False
        reactor.addReader(self)

    def fileno(self) -> int:
        return -1 if self._closed else self._socket.fileno()

    def logPrefix(self) -> str:
        return "executor"

    def write(self, data: bytes) -> None:
        """Send bytes, now or as soon as the other end takes them."""
        if self._closed:
            return
        view = memoryview(data)
        if not self._unsent:
            view = view[self._send(view) :]
            if not view:
                return
            self._reactor.addWriter(self)
        self._unsent.append(view)

    def _send(self, view: memoryview) -> int:
        try:
            return self._socket.send(view)
        except BlockingIOError:
            return 0
        except OSError:
            # The other end is gone, which reading finds out after its last words.
            return len(view)

    def doRead(self) -> Any:
        try:
            size = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return None
        except OSError:
            size = 0
        if not size:
            return main.CONNECTION_DONE
        self._received(bytes(self._buffer[:size]))
        return None

    def drain(self) -> None:
        """Read what the other end sent before it ended."""
        while not self._closed and self.doRead() is None and self._has_more():
            pass

    def _has_more(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def doWrite(self) -> None:
        while self._unsent:
            view = self._unsent[0]
            sent = self._send(view)
            if sent < len(view):
                self._unsent[0] = view[sent:]
                return
            del self._unsent[0]
        self._reactor.removeWriter(self)

    def connectionLost(self, reason: Failure) -> None:
        if not self._closed:
            self.close()
            self._lost()

    def close(self) -> None:
        """Close it; the executor ends when it sees that."""
        if not self._closed:
            self._reactor.removeReader(self)
            self._reactor.removeWriter(self)
            self._closed = True
            self._socket.close()
