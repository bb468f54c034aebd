"""Bounds the answers that wait for slow clients, in all connections of a process together.

Each connection has bounds of its own. A thousand clients that do not read would still take a
gigabyte. So the connections that are full are known here. If their bytes are too many, those that
have been full longest without a pause are closed: a client that reads slowly takes something now
and then, and one that attacks does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

_log = Logger()

#: Bytes, where the settings do not say.
MAX_UNSENT = 64 << 20

#: Seconds between two looks while a connection is full, and seconds for which one is full at
#: least before it is closed. Beyond twice the limit none has that time.
LOOK, PATIENCE = 0.25, 2.0

#: Seconds between two entries in the log.
_LOG_EVERY = 60.0


class _Connection(Protocol):
    """What is needed of a connection."""

    def unread_bytes(self) -> int:
        """How many bytes wait for the other end."""

    def drop_unread(self) -> None:
        """Close it at once."""


def in_transport(transport: Any) -> int:
    """Bytes that a transport of TCP keeps, or the one below a transport of TLS."""
    transport = getattr(transport, "transport", transport)
    return len(getattr(transport, "dataBuffer", b"")) + getattr(transport, "_tempDataLen", 0)


class UnreadAnswers:
    """See the module.

    :param most: bytes
    """

    def __init__(self, clock: IReactorTime, most: int) -> None:
        self._clock = clock
        self._most = most
        #: Those that are full, and since when; the first one for longest.
        self._full: dict[_Connection, float] = {}
        self._next_look: IDelayedCall | None = None
        self._closed = 0
        self._log_after = 0.0

    def became_full(self, connection: _Connection) -> None:
        """A connection's transport takes no more for now."""
        self._full.setdefault(connection, self._clock.seconds())
        if self._next_look is None:
            self._next_look = self._clock.callLater(LOOK, self._look)

    def has_room(self, connection: _Connection) -> None:
        """It has taken all, or is gone."""
        self._full.pop(connection, None)

    def _look(self) -> None:
        self._next_look = None
        sizes = {connection: connection.unread_bytes() for connection in self._full}
        self._close_some(sum(sizes.values()), sizes.items())
        if self._full:
            self._next_look = self._clock.callLater(LOOK, self._look)

    def _close_some(self, total: int, sizes: Iterable[tuple[_Connection, int]]) -> None:
        now = self._clock.seconds()
        for connection, size in sizes:
            if total <= self._most:
                return
            if total <= 2 * self._most and now - self._full[connection] < PATIENCE:
                return
            total -= size
            del self._full[connection]
            connection.drop_unread()
            self._log(now)

    def _log(self, now: float) -> None:
        self._closed += 1
        if now < self._log_after:
            return
        self._log_after = now + _LOG_EVERY
        _log.warn(
            "more than {most} bytes of answers wait for clients that do not read them; {closed} "
            "connections were closed so far, those first that have taken nothing for longest. "
            "MAX_UNSENT allows more.",
            most=self._most,
            closed=self._closed,
        )
