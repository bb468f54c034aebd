"""Cold segments on a worker: read from canonical storage, without a local copy to keep.

If canonical storage is mounted, a segment's file is read in place. Otherwise a query fetches it
into a bounded cache. The cache promises:

* Queries which want one segment at the same time fetch it once.
* A file in use stays.
* The least recently used files are removed first.
* A query waits for room for some seconds.
* A segment larger than the whole cache is refused with that reason.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Target
from trough.model import CanonicalCopy
from trough.storage import Storage
from trough.util.keyed_lock import KeyedLock
from trough.util.threads import ThreadPoolService
from trough.util.waiting import Waiters, shielded
from trough.worker import local_files
from trough.worker.storage_watch import SILENT, StorageWatch

_log = Logger()

#: Seconds for which a query waits until there is room in the cache: others end, and a fetch of a
#: small segment takes 50 ms.
LONGEST_WAIT = 10.0

#: Seconds for which a damaged version is not fetched again: the damage may be here, after all.
DAMAGED = 600.0


@dataclass(slots=True)
class _Cached:
    """A file in the cache, and how many queries use it.

    :ivar wanted: the version that was known when it was fetched; it may be out of date
    """

    target: Target
    wanted: tuple[int, int]
    version: tuple[int, int]
    size: int
    checksum: str
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
        *,
        threads: ThreadPoolService,
        clock: IReactorTime,
    ) -> None:
        self._directory = directory
        self._capacity = capacity
        self._mounted = mounted
        self._pool = pool
        self._threads = threads
        self._clock = clock
        #: By segment, the version that was found to be damaged, as it was known and as it was
        #: fetched; and when.
        self._damaged: dict[str, tuple[tuple[tuple[int, int], ...], float]] = {}
        #: Queries that wait for room, in order.
        self._room: Waiters[None] = Waiters()
        self._looking_at_mount = False
        self._known: dict[str, CanonicalCopy] = {}
        #: What is known of canonical storage.
        self.storage = StorageWatch(storage, self._known.values, clock)
        self._cached: OrderedDict[str, _Cached] = OrderedDict()
        #: By path, files of earlier versions that queries under way still use.
        self._replaced: dict[str, _Cached] = {}
        #: By path, files that no query uses, and that take up room until they are removed.
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

    def canonical(self, segment: str) -> CanonicalCopy | None:
        """The canonical copy of a segment, as this worker knows it."""
        return self._known.get(segment)

    def discard(self, segment: str) -> None:
        """The file of a segment in the cache is damaged, or gone: fetch it for the next query.

        But where the file is what was fetched, canonical storage has it so: it would be fetched
        for each query, and be damaged.
        """
        cached = self._cached.pop(segment, None)
        if cached is not None:
            cached.users += 1  # the judge, who looks at the file
            self._replaced[cached.target.path] = cached
            judging = Deferred.fromCoroutine(self._judge(cached))
            judging.addErrback(_not_removed, cached.target.path)

    async def _judge(self, cached: _Cached) -> None:
        """Remember a version that is damaged in canonical storage, and remove a damaged file."""
        segment = cached.target.segment
        async with self._fetching.hold(segment):
            try:
                _, content = await self._threads.run(
                    local_files.size_and_checksum, Path(cached.target.path)
                )
            except (OSError, errors.TroughError):
                content = ""
            if content and content == cached.checksum:
                versions = (cached.wanted, cached.version)
                self._damaged[segment] = (versions, self._clock.seconds())
                _log.error("{segment}: its canonical copy is damaged", segment=segment)
            self.done(cached.target)

    def __contains__(self, segment: str) -> bool:
        return segment in self._known

    def status(self) -> dict[str, Any]:
        """Counters for people; JSON-able."""
        return {
            "segments": len(self._known),
            "cached": len(self._cached),
            "bytes": self._reserved,
            "capacity": self._capacity,
            "waiting": len(self._room),
            "storage_away": self.storage.away or None,
            **self._counts,
        }

    # -- reading -------------------------------------------------------------------

    async def bring(self, segment: str) -> Target:
        """A file that can be queried now; :meth:`done` has to be called afterwards.

        :raises trough.errors.Unavailable: there is no room, for all of it is in use, or the segment
            is larger than the cache; or canonical storage is away
        """
        copy = self._known[segment]
        path = self._mounted(segment)
        if path is not None:
            await self._check_mounted(segment, path)
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
            if not cached.users:
                self._room.fire(None)
            return
        replaced = self._replaced.get(target.path)
        if replaced is not None:
            replaced.users -= 1
            if not replaced.users:
                self._retire(replaced)

    def _check_not_damaged(self, copy: CanonicalCopy) -> None:
        versions, at = self._damaged.get(copy.segment, ((), 0.0))
        if copy.version not in versions or self._clock.seconds() - at > DAMAGED:
            self._damaged.pop(copy.segment, None)
            return
        raise errors.CorruptSegment(
            f"the canonical copy of cold segment {copy.segment} is damaged",
            "put a whole file in its place; it is fetched again as soon as its version differs",
        )

    async def _fetch(self, copy: CanonicalCopy) -> _Cached:
        self._check_not_damaged(copy)
        if copy.size > self._capacity:
            # The cache of another cold worker may be larger.
            raise errors.Unavailable(
                f"segment {copy.segment} has {copy.size} bytes, and the cache for cold segments "
                f"holds {self._capacity}",
                "raise COLD_CACHE_BYTES, or mount canonical storage (COLD_STORAGE_PATH)",
            )
        self.storage.check(copy.segment)
        await self._make_room(copy)
        # Taken before the transfer, so that two of them do not count on the same room.
        self._reserved += copy.size
        try:
            # A name of its own: what removes an earlier file may come to it only later.
            number = next(self._generations)
            destination = self._directory / f"{copy.segment}.{number}.sqlite"
            found = await self.storage.fetch(copy, destination)
        except errors.DiskFull as full:
            self._reserved -= copy.size
            self._room.fire(None)
            # Another cold worker may have room.
            raise errors.Unavailable(
                f"cold segment {copy.segment}: {full.message}", full.hint
            ) from full
        except BaseException:
            self._reserved -= copy.size
            self._room.fire(None)
            raise
        self._reserved += found.size - copy.size
        self._counts["fetches"] += 1
        target = Target(copy.segment, str(destination), number, False)
        older = self._cached.get(copy.segment)
        cached = self._cached[copy.segment] = _Cached(
            target, copy.version, found.version, found.size, found.checksum
        )
        if older is not None:
            self._retire(older)
        return cached

    async def _make_room(self, copy: CanonicalCopy) -> None:
        ends = self._clock.seconds() + LONGEST_WAIT
        while self._reserved + copy.size > self._capacity:
            if self._going:
                await self._remove(next(iter(self._going.values())))
                continue
            victim = next((name for name, each in self._cached.items() if not each.users), None)
            if victim is None:
                await self._wait_for_room(copy, ends - self._clock.seconds())
                continue
            cached = self._cached.pop(victim)
            self._counts["evictions"] += 1
            self._going[cached.target.path] = cached

    async def _wait_for_room(self, copy: CanonicalCopy, seconds: float) -> None:
        """Wait until a file is used no more, or has gone."""
        try:
            await self._room.wait().addTimeout(max(0.0, seconds), self._clock)
        except TimeoutError:
            raise errors.Unavailable(
                f"no room for cold segment {copy.segment}: all of the cache is in use, for "
                f"{LONGEST_WAIT:g} s",
                "ask again when other queries have ended",
            ) from None

    async def _check_mounted(self, segment: str, path: str) -> None:
        """Refuse what cannot be read where it is mounted; another cold worker may have it.

        :raises trough.errors.Unavailable: the file is not there, or the mount hangs
        """
        hangs = errors.Unavailable(
            f"cold segment {segment}: {path} does not answer", "is canonical storage mounted?"
        )
        if self._looking_at_mount and self.storage.away:
            raise hangs  # one thread that waits in the kernel is enough
        self._looking_at_mount = True
        looking = self._threads.run(local_files.is_there, path)
        looking.addBoth(self._looked_at_mount)
        try:
            there = await shielded(looking).addTimeout(SILENT, self._clock)
        except TimeoutError:
            self.storage.note(str(hangs))
            raise hangs from None
        if not there:
            raise errors.Unavailable(f"cold segment {segment} is not at {path}")

    def _looked_at_mount(self, result: bool) -> bool:
        self._looking_at_mount = False
        self.storage.note("")
        return result

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
                # The room is free only when the executors have closed the file.
                await self._pool.forget(cached.target.segment)
                await self._threads.run(local_files.remove, path)
                del self._going[path]
                self._reserved -= cached.size
                self._room.fire(None)


def _not_removed(failure: Failure, path: str) -> None:
    _log.warn("{path}: stays until room is needed: {reason}", path=path, reason=failure.value)
