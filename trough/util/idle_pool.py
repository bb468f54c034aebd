"""Connections that any number of threads share, one at a time each.

A connection is opened when all others are in use, is closed when it turned out to be
broken, and is never carried over a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar

from trough import errors


class Closable(Protocol):
    """What can be pooled."""

    def close(self) -> None:
        """Release it."""


T = TypeVar("T", bound=Closable)


class IdlePool(Generic[T]):
    """Connections that wait for their next user.

    :param open_one: makes a connection; blocking
    """

    def __init__(self, open_one: Callable[[], T]) -> None:
        self._open_one = open_one
        self._guard = threading.Lock()
        self._idle: list[T] = []
        self._process = os.getpid()
        self._closed = False

    @contextmanager
    def borrowed(self) -> Iterator[T]:
        """A connection for the time of a ``with``; closed where that ends with
        :class:`trough.errors.Unavailable`, and kept otherwise."""
        connection = self._take()
        try:
            yield connection
        except errors.Unavailable:
            connection.close()
            raise
        except BaseException:
            self._give_back(connection)
            raise
        self._give_back(connection)

    def close(self) -> None:
        """Close all connections, those in use when they come back. Idempotent."""
        self._leave_behind()
        with self._guard:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _leave_behind(self) -> None:
        """After a fork: the connections belong to the parent, and a thread that held the
        guard does not exist here to release it."""
        if self._process != os.getpid():
            self._guard, self._idle, self._process = threading.Lock(), [], os.getpid()

    def _take(self) -> T:
        self._leave_behind()
        with self._guard:
            if self._idle:
                return self._idle.pop()
        return self._open_one()

    def _give_back(self, connection: T) -> None:
        with self._guard:
            if not self._closed and self._process == os.getpid():
                self._idle.append(connection)
                return
        connection.close()
