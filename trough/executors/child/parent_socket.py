"""A child's end of the socket to its parent.

It collects messages and sends them one frame at a time. Sending waits for the parent, which
always reads. Credit bounds the bytes on the way. The child ends when the parent ends, even in the
middle of its work.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from trough.executors.ipc import (
    MOST_ENTRIES,
    FrameParser,
    Message,
    ParentFrameParser,
    child_frame,
)

Received = TypeVar("Received")
Sent = TypeVar("Sent")

_RECEIVE_SIZE = 1 << 18

#: Bytes of answers after which they are sent though more are to come.
_SEND_SIZE = 1 << 17


class ParentSocket(Generic[Received, Sent]):
    """The socket, its messages, and what is to be sent.

    :param connection: a blocking stream socket
    :param parser: of what the parent sends
    :param frame: makes a frame of messages
    """

    def __init__(
        self,
        connection: socket.socket,
        parser: FrameParser[Received],
        frame: Callable[[list[Sent]], bytes],
    ) -> None:
        self._socket = connection
        # One for all reads: the C library would map a new one of that size each time.
        self._buffer = memoryview(bytearray(_RECEIVE_SIZE))
        self._parser = parser
        self._frame = frame
        self._outgoing: list[Sent] = []
        self._size = 0

    def send(self, message: Sent, size: int = 0) -> None:
        """Send a message soon; `size` is about how many bytes it has."""
        self._outgoing.append(message)
        self._size += size
        if self._size > _SEND_SIZE:
            self.flush()

    def flush(self) -> None:
        """Send everything that was to be sent soon."""
        if not self._outgoing:
            return
        outgoing = self._outgoing
        starts = range(0, len(outgoing), MOST_ENTRIES)
        frames = [self._frame(outgoing[start : start + MOST_ENTRIES]) for start in starts]
        # Not before: there may have been no memory for the frames.
        self._outgoing, self._size = [], 0
        try:
            for frame in frames:
                self._socket.sendall(frame)
        except OSError:
            _end_with_the_parent()

    def receive(self) -> Sequence[Received]:
        """The messages that are here now, possibly none."""
        return self._receive(socket.MSG_DONTWAIT)

    def wait(self, seconds: float | None) -> Sequence[Received]:
        """As :meth:`receive`, but wait for some bytes, for so long at most."""
        if seconds is not None:
            select.select([self._socket], [], [], max(seconds, 0.0))
            return self.receive()
        return self._receive(0)

    def parse_again(self) -> Sequence[Received]:
        """The messages of what is here, after there was no memory for them."""
        return self._parser.receive_data(b"")

    def _receive(self, flags: int) -> Sequence[Received]:
        try:
            size = self._socket.recv_into(self._buffer, 0, flags)
        except BlockingIOError:
            return ()
        except OSError:
            size = 0
        if not size:
            _end_with_the_parent()
        return self._parser.receive_data(bytes(self._buffer[:size]))


class TupleSocket(ParentSocket[Message, Message]):
    """The same for messages whose values have any type.

    :param connection: a blocking stream socket
    """

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection, ParentFrameParser(), child_frame)


def _end_with_the_parent() -> None:
    # Not an exception: it would have to find its way through SQLite. What is not
    # committed is rolled back by the next one to open the segment.
    os._exit(0)
