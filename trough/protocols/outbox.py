"""What a connection sends, in front of a transport that may have enough.

Twisted's transports collect what is written in one turn of the reactor and send it at
once; what they leave to whoever writes is to stop in time. An outbox promises that bytes
leave in the order in which they were sent, that nothing is handed to a transport that has
enough, and that its owner is told when more than `mark` bytes pile up behind one and when
they are gone. It refuses to drop anything: piling up ends when the owner stops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class Outbox:
    """In front of one transport, of which it is the producer.

    :param mark: bytes
    :param crowded: called when more than `mark` bytes wait, at each further one too
    :param drained: called when the transport has taken all that waited
    :ivar unsent: bytes that wait for the transport
    :ivar full: whether the transport has enough for now
    """

    __slots__ = ("_crowded", "_drained", "_mark", "_transport", "_waiting", "full", "unsent")

    def __init__(
        self,
        transport: Any,
        mark: int,
        crowded: Callable[[], None],
        drained: Callable[[], None],
    ) -> None:
        self.full = False
        self.unsent = 0
        self._transport = transport
        self._mark = mark
        self._crowded = crowded
        self._drained = drained
        self._waiting: list[bytes] = []
        transport.registerProducer(self, True)

    def send(self, data: bytes) -> None:
        """Send `data`, as soon as there is room."""
        if not self.full:
            self._transport.write(data)
            return
        self._waiting.append(data)
        self.unsent += len(data)
        if self.unsent > self._mark:
            self._crowded()

    def close(self) -> None:
        """Hand over everything; nothing may be sent afterwards."""
        self._hand_over()
        self._transport.unregisterProducer()

    def abandon(self) -> None:
        """The transport is gone, and whatever waits for it."""
        self.full = True
        self.unsent = 0
        self._waiting.clear()

    def _hand_over(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        self.unsent = 0
        if data:
            self._transport.write(data)

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self.full = True

    def resumeProducing(self) -> None:
        """The transport has room."""
        self.full = False
        self._hand_over()
        self._drained()

    def stopProducing(self) -> None:
        """The transport is gone; its protocol is told by `connectionLost`."""
        self.full = True
