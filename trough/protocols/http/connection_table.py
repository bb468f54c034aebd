"""Limits the HTTP connections of a process, and picks the one that makes room for a new one.

All ports share the descriptors, and a process without a free one answers no client. So there is
one table for all HTTP ports. When it is full, the connection that has been idle longest is closed.
Connections that never sent a request go before those that did. Connections with a request under
way stay; if all are such, the new one is refused. This module has the rules only: connections
close themselves.
"""

from __future__ import annotations

import resource
from collections.abc import Callable
from itertools import chain, islice
from typing import Any, Protocol

from twisted.logger import Logger

from trough.protocols.address_limit import AddressLimit
from trough.util.addresses import network_of

_log = Logger()

#: The share of a process's descriptors that HTTP connections may take.
_SHARE = 2

#: Connections that are looked at to find one of an address; some milliseconds.
_LOOKED_AT = 1000

#: Seconds between two entries in the log about a full table.
_LOG_EVERY = 60.0


class _Connection(Protocol):
    """What the table needs of a connection."""

    #: Who is at the other end.
    client: str

    def make_room(self) -> None:
        """Close it now; it is idle, or is not served at all."""


class ConnectionTable:
    """The HTTP connections of a process.

    :param seconds: a clock that only counts
    :param most: connections; None: half of the descriptors that the process may have
    :param each: connections of one address; 0: any number. A new one replaces one of its own
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        most: int | None = None,
        each: int = 0,
    ) -> None:
        if most is None:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            most = max(files // _SHARE, 16)
        self.most = most
        self._addresses = AddressLimit(each, seconds)
        self._seconds = seconds
        self._all: set[_Connection] = set()
        # Both in the order in which they became idle.
        self._strangers: dict[_Connection, None] = {}
        self._idle: dict[_Connection, None] = {}
        self._log_after = 0.0
        self._closed = 0

    def __len__(self) -> int:
        return len(self._all)

    def joined(self, connection: _Connection) -> None:
        """Count a new connection; close another one, or it, if there is no room for it."""
        if not self._addresses.joined(connection.client) and not self._replaces(connection):
            connection.make_room()
            return
        if len(self._all) >= self.most:
            self._log_that_it_is_full()
            oldest = next(iter(self._strangers or self._idle), None)
            if oldest is None:
                self._addresses.left(connection.client)
                connection.make_room()
                return
            self.left(oldest)
            oldest.make_room()
        self._all.add(connection)
        self._strangers[connection] = None

    def _replaces(self, connection: _Connection) -> bool:
        """Close one of the same address that is idle; whether there is one."""
        wanted = network_of(connection.client)
        idle = islice(chain(self._strangers, self._idle), _LOOKED_AT)
        oldest = next((each for each in idle if network_of(each.client) == wanted), None)
        if oldest is None:
            return False
        self.left(oldest)
        oldest.make_room()
        return self._addresses.joined(connection.client)

    def began(self, connection: _Connection) -> None:
        """A request has come, at least its headers: the connection is not idle."""
        self._strangers.pop(connection, None)
        self._idle.pop(connection, None)

    def became_idle(self, connection: _Connection) -> None:
        """The request is answered."""
        if connection in self._all:
            self._idle[connection] = None

    def left(self, connection: _Connection) -> None:
        """The connection is gone; without effect on one that made room."""
        if connection in self._all:
            self._all.discard(connection)
            self._addresses.left(connection.client)
        self.began(connection)

    def _log_that_it_is_full(self) -> None:
        self._closed += 1
        now: Any = self._seconds()
        if now < self._log_after:
            return
        self._log_after = now + _LOG_EVERY
        _log.warn(
            "{most} HTTP connections, which is all: {closed} were closed or refused so far; "
            "idle ones make room for new ones. LimitNOFILE allows more.",
            most=self.most,
            closed=self._closed,
        )
