"""Mutual exclusion by key: one holder per key at a time; keys are independent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twisted.internet.defer import DeferredLock


class KeyedLock:
    """As many locks as there are keys in use; waiters are served in order."""

    def __init__(self) -> None:
        self._locks: dict[str, DeferredLock] = {}

    @asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[None]:
        """Hold the lock of `key` for the time of the context."""
        lock = self._locks.setdefault(key, DeferredLock())
        await lock.acquire()
        try:
            yield
        finally:
            lock.release()
            if not lock.locked and self._locks.get(key) is lock:
                del self._locks[key]

    def busy(self, key: str) -> bool:
        """Whether the lock of `key` is held."""
        return key in self._locks

    def __len__(self) -> int:
        return len(self._locks)
