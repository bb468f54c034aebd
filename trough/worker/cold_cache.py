"""Cold segments on a worker: read from canonical storage, without a local copy to keep.

Either canonical storage is mounted, and a segment's file is read where it lies; or it is
fetched into a bounded cache when somebody asks for it. Of the cache it is promised that
queries which want one segment at the same time fetch it once, that a file in use stays,
that the least recently used go first, and that a segment larger than the whole cache is
refused with that reason.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Target
from trough.model import CanonicalCopy
from trough.storage import Storage
from trough.util.keyed_lock import KeyedLock
from trough.util.threads import ThreadPoolService
from trough.worker import local_files

_log = Logger()


@dataclass(slots=True)
class _Cached:
    """A file in the cache, and how many queries use it.

    :ivar wanted: the version that was known when it was fetched; news may come late
    """

    target: Target
    wanted: tuple[int, int]
    version: tuple[int, int]
    size: int
    users: int = 0


class ColdSegments:
    """The cold segments of one worker.

    :param directory: of the cache; emptied at the start
    :param capacity: bytes that the cache may take
    :param mounted: gives a segment's path where canonical storage is mounted, or None
    """

    def __init__(
        self,
        directory: Path,
        capacity: int,
        mounted: Callable[[str], str | None],
        storage: Storage,
        pool: ExecutorPool,
        threads: ThreadPoolService,
    ) -> None:
        self._directory = directory
        self._capacity = capacity
        self._mounted = mounted
        self._storage = storage
        self._pool = pool
        self._threads = threads
        self._known: dict[str, CanonicalCopy] = {}
        self._cached: OrderedDict[str, _Cached] = OrderedDict()
        #: By path, files of earlier versions that queries under way still use.
        self._replaced: dict[str, _Cached] = {}
        #: By path, files that nobody uses, and that take up room until they are removed.
        self._going: dict[str, _Cached] = {}
        self._removing = KeyedLock()
        self._fetching = KeyedLock()
        self._reserved = 0
        self._generations = itertools.count(1)
        self._counts = {"hits": 0, "fetches": 0, "evictions": 0}

    async def open(self) -> None:
        """Empty the cache of an earlier run."""
        await self._threads.run(local_files.empty, self._directory)

    # -- which segments there are ---------------------------------------------------

    def learn(self, copy: CanonicalCopy) -> None:
        """This worker answers for the segment, whose canonical copy is `copy`."""
        self._known[copy.segment] = copy

    def forget(self, segment: str) -> None:
        """This worker answers for the segment no longer."""
        self._known.pop(segment, None)

    def discard(self, segment: str) -> None:
        """The file of a segment in the cache is damaged, or gone: fetch it for the next query."""
        cached = self._cached.pop(segment, None)
        if cached is not None:
            self._retire(cached)

    def __contains__(self, segment: str) -> bool:
        return segment in self._known

    def status(self) -> dict[str, Any]:
        """Counters for people; JSON-able."""
        return {
            "segments": len(self._known),
            "cached": len(self._cached),
            "bytes": self._reserved,
            "capacity": self._capacity,
            **self._counts,
        }

    # -- reading -------------------------------------------------------------------

    async def bring(self, segment: str) -> Target:
        """A file that can be queried now; :meth:`done` has to be called afterwards.

        :raises trough.errors.LimitExceeded: the segment is larger than the cache
        :raises trough.errors.Unavailable: there is no room, for all of it is in use, or
            canonical storage is away
        """
        copy = self._known[segment]
        path = self._mounted(segment)
        if path is not None:
            return Target(segment, path, copy.modified, False)
        async with self._fetching.hold(segment):
            cached = self._cached.get(segment)
            if cached is not None and copy.version in (cached.wanted, cached.version):
                cached.wanted = copy.version
                self._counts["hits"] += 1
            else:
                cached = await self._fetch(copy)
            self._cached.move_to_end(segment)
            cached.users += 1
            return cached.target

    def done(self, target: Target) -> None:
        """A query of a target that :meth:`bring` returned has ended."""
        cached = self._cached.get(target.segment)
        if cached is not None and cached.target is target:
            cached.users -= 1
            return
        replaced = self._replaced.get(target.path)
        if replaced is not None:
            replaced.users -= 1
            if not replaced.users:
                self._retire(replaced)

    async def _fetch(self, copy: CanonicalCopy) -> _Cached:
        if copy.size > self._capacity:
            raise errors.LimitExceeded(
                f"segment {copy.segment} has {copy.size} bytes, and the cache for cold segments "
                f"holds {self._capacity}",
                "raise COLD_CACHE_BYTES, or mount canonical storage (COLD_STORAGE_PATH)",
            )
        await self._make_room(copy)
        # Taken before the transfer, so that two of them do not count on the same room.
        self._reserved += copy.size
        try:
            # A name of its own: what removes an earlier file may come to it only later.
            number = next(self._generations)
            destination = self._directory / f"{copy.segment}.{number}.sqlite"
            found = await self._storage.fetch(copy, destination)
        except BaseException:
            self._reserved -= copy.size
            raise
        self._reserved += found.size - copy.size
        self._counts["fetches"] += 1
        target = Target(copy.segment, str(destination), number, False)
        older = self._cached.get(copy.segment)
        cached = self._cached[copy.segment] = _Cached(
            target, copy.version, found.version, found.size
        )
        if older is not None:
            self._retire(older)
        return cached

    async def _make_room(self, copy: CanonicalCopy) -> None:
        while self._reserved + copy.size > self._capacity:
            if self._going:
                await self._remove(next(iter(self._going.values())))
                continue
            victim = next((name for name, each in self._cached.items() if not each.users), None)
            if victim is None:
                raise errors.Unavailable(
                    f"no room for cold segment {copy.segment}: all of the cache is in use",
                    "ask again when other queries have ended",
                )
            cached = self._cached.pop(victim)
            self._counts["evictions"] += 1
            self._going[cached.target.path] = cached

    def _retire(self, cached: _Cached) -> None:
        """Remove a file that is of no use any more, once no query uses it."""
        path = cached.target.path
        if cached.users:
            self._replaced[path] = cached
            return
        self._replaced.pop(path, None)
        self._going[path] = cached
        Deferred.fromCoroutine(self._remove(cached)).addErrback(_not_removed, path)

    async def _remove(self, cached: _Cached) -> None:
        path = cached.target.path
        async with self._removing.hold(path):
            if path in self._going:
                # The room is free only when the executors have let go of the file.
                await self._pool.forget(cached.target.segment)
                await self._threads.run(local_files.remove, path)
                del self._going[path]
                self._reserved -= cached.size


def _not_removed(failure: Failure, path: str) -> None:
    _log.warn("{path}: stays until room is needed: {reason}", path=path, reason=failure.value)
