"""Buffers what a connection sends, in front of a transport that may be full.

Bytes that are sent while a batch of requests or answers is worked through leave together at its
end. They bypass the transport where that holds nothing. Twisted's transports collect bytes as
well. But each write to a transport costs as much as a small reply, and it sends only when the
reactor reports that the socket is writable. Twisted asks the writer to pause only when
much is buffered. This buffer keeps the order of the bytes, and passes nothing to a transport that
is full. It notifies its owner when more than `mark` bytes wait for the transport, and when they
are gone. It drops nothing: the amount grows until the owner stops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from trough.protocols.peer import encrypts
from trough.util.flush_batch import FlushBatch

#: Bytes that are not kept back until the end of a batch.
_ENOUGH = 1 << 16


@implementer(IPushProducer)
class WriteBuffer:
    """In front of one transport, of which it is the producer.

    :param flush_batch: knows where a batch ends
    :param mark: bytes
    :param crowded: called when more than `mark` bytes wait, at each further one too
    :param drained: called when the transport has taken all that waited
    :param stalled: called when the transport has enough for now
    :ivar unsent: bytes that wait for the transport, and those of `queued`
    :ivar queued: bytes that others keep until they may be sent here
    :ivar full: whether the transport has enough for now
    """

    __slots__ = (
        *("_flush_batch", "_crowded", "_drained", "_empty", "_kept", "_mark", "_stalled"),
        *("_transport", "_waiting", "_write_some", "full", "queued", "unsent"),
    )

    def __init__(
        self,
        transport: Any,
        flush_batch: FlushBatch,
        mark: int,
        crowded: Callable[[], None],
        drained: Callable[[], None],
        *,
        stalled: Callable[[], None] = lambda: None,
    ) -> None:
        self.full = False
        self.unsent = self.queued = 0
        self._transport = transport
        self._flush_batch = flush_batch
        self._mark = mark
        self._crowded = crowded
        self._drained = drained
        self._stalled = stalled
        self._waiting: list[bytes] = []
        #: Bytes of those that wait for nothing but the end of the batch.
        self._kept = 0
        # Passes bytes to the kernel; past a transport that encrypts they would be plain.
        self._write_some: Callable[[bytes], Any] | None = (
            None if encrypts(transport) else getattr(transport, "writeSomeData", None)
        )
        #: Whether the transport is known to hold nothing, so that bytes may pass it by. It
        #: reports that it has sent all only after it was full.
        self._empty = True
        transport.registerProducer(self, True)

    def send(self, data: bytes) -> None:
        """Send `data`, as soon as there is room."""
        if self.full:
            self._waiting.append(data)
            self.unsent += len(data)
            if self.unsent > self._mark:
                self._crowded()
        elif self._flush_batch.under_way or self._write_some is not None:
            if not self._kept:
                self._flush_batch.at_end(self.flush)
            self._waiting.append(data)
            self._kept += len(data)
            if self._kept > _ENOUGH:
                self.flush()
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Send what is kept for the end of the batch."""
        if self._kept:
            self._hand_over()

    def close(self) -> None:
        """Pass everything to the transport; nothing may be sent afterwards."""
        self._hand_over()
        self._transport.unregisterProducer()

    def abandon(self) -> None:
        """The transport is gone, and with it the bytes that wait for it."""
        self.full = True
        self.unsent = self._kept = self.queued = 0
        self._waiting.clear()

    def _hand_over(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self.unsent = self.queued
        self._kept = 0
        if data and self._empty and self._write_some is not None:
            written = self._write_some(data)
            if written == len(data):
                return
            self._empty = False
            # Of a lost connection, which is no number, the transport finds out as well.
            data = data[written:] if isinstance(written, int) else data
        if data:
            self._transport.write(data)

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self.full = True
        self.unsent += self._kept
        self._kept = 0
        self._stalled()

    def resumeProducing(self) -> None:
        """The transport has room."""
        self.full = False
        self._empty = True
        self._hand_over()
        self._drained()

    def stopProducing(self) -> None:
        """The transport is gone; its protocol gets `connectionLost`."""
        self.full = True
