"""Segments as the web console lists them: found by a pattern, a page at a time.

A search reads the ids of one page from an index. It counts further ids for half a second at most,
and then answers how many there are at least. So no turn of the reactor grows with the number of
segments. Only a few run at a time, each with a deadline.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.python.failure import Failure

from trough import errors
from trough.access.rights import Grant
from trough.cluster_client.existing import SetUnknown, existing
from trough.metadata import Metadata
from trough.model import COLD_RING, READ, Assignment, Copy, Lock
from trough.util.waiting import first_error

#: Searches at once, the seconds that each may take, and those of them for counting.
AT_ONCE, SECONDS, COUNTING = 2, 30.0, 0.5

#: Segments of one page, at most, and of how many the rows are read at the same time.
MOST, LOOK_UPS = 200, 8


class SegmentSearch:
    """Answers what segments there are.

    :param clock: the reactor, for deadlines
    """

    def __init__(self, metadata: Metadata, clock: Any) -> None:
        self._metadata = metadata
        self._clock = clock
        self._free = DeferredSemaphore(AT_ONCE)
        self._busy = DeferredSemaphore(LOOK_UPS)

    async def search(self, pattern: str, after: str, most: int, grant: Grant) -> dict[str, Any]:
        """A page of the segments in whose id `pattern` is found, in the order of their ids.

        :param after: the last id of the page before; empty for the first
        :param grant: segments that it is not for are left out
        :return: ``count`` of those that match, ``complete``: whether these are known to be all, the
            ``segments`` of the page, and ``next``: its last id where more follow
        :raises trough.errors.BadRequest: the pattern is no regular expression
        :raises trough.errors.DeadlineExceeded: it takes too long
        """
        late = errors.DeadlineExceeded(f"no answer within {SECONDS:g} s", "narrow the pattern")
        searching = Deferred.fromCoroutine(self._search(pattern, after, most, grant))
        return await searching.addTimeout(SECONDS, self._clock, lambda *_: Failure(late))

    async def _search(self, pattern: str, after: str, most: int, grant: Grant) -> dict[str, Any]:
        await self._free.acquire()
        try:
            found = await self._first(pattern or None, after, most + 1, grant)
            shown = found[:most]
            count, complete = await self._count(pattern or None, grant)
            return {
                "count": count,
                "complete": complete,
                "segments": await self._rows(shown),
                "next": shown[-1] if len(found) > most else None,
            }
        finally:
            self._free.release()

    async def _first(self, pattern: str | None, after: str, most: int, grant: Grant) -> list[str]:
        found: list[str] = []
        while True:
            page = await self._metadata.first_existing(pattern, after, most)
            found += [each for each in page if grant.limit is None or each in grant.limit]
            if len(found) >= most or len(page) < most:
                return found[:most]
            after = page[-1]

    async def _count(self, pattern: str | None, grant: Grant) -> tuple[int, bool]:
        """How many match, as far as they can be counted soon, and whether these are all."""
        end, count = self._clock.seconds() + COUNTING, 0
        try:
            async with aclosing(existing(self._metadata, pattern)) as pages:
                async for page in pages:
                    limit = grant.limit
                    count += len(page) if limit is None else sum(each in limit for each in page)
                    if self._clock.seconds() > end:
                        return count, False
        except SetUnknown:
            return count, False
        return count, True

    async def _rows(self, segments: list[str]) -> list[dict[str, Any]]:
        copies = await self._metadata.copies_of(segments) if segments else {}
        asking = [self._busy.run(self._known, segment) for segment in segments]
        known = await first_error(gatherResults(asking, consumeErrors=True))
        return [
            {**_row(segment, copies.get(segment, [])), **_version(assignments, lock)}
            for segment, (assignments, lock) in zip(segments, known, strict=True)
        ]

    def _known(self, segment: str) -> Deferred[tuple[list[Assignment], Lock | None]]:
        return Deferred.fromCoroutine(self._read(segment))

    async def _read(self, segment: str) -> tuple[list[Assignment], Lock | None]:
        assignments = await self._metadata.assignments_of_segment(segment)
        return assignments, await self._metadata.lock_of(segment)

    async def segment(self, segment: str) -> dict[str, Any]:
        """What the metadata store holds about one segment.

        :raises trough.errors.NoSuchSegment: nothing
        """
        copies = (await self._metadata.copies_of([segment])).get(segment, [])
        assignments, lock = await self._read(segment)
        if not (copies or lock or assignments):
            raise errors.NoSuchSegment(f"segment {segment} is assigned to no worker")
        return {
            **_row(segment, copies),
            **_version(assignments, lock),
            "lock": {"node": lock.node, "epoch": lock.epoch, "acquired_on": lock.acquired_on}
            if lock
            else None,
            "assignments": [
                {
                    "node": each.node,
                    "ring": each.ring,
                    "path": each.path,
                    "size": each.size,
                    "modified": each.modified / 1000,
                }
                for each in assignments
            ],
        }


def _row(segment: str, copies: list[Copy]) -> dict[str, Any]:
    return {
        "segment": segment,
        "copies": sorted({each.node for each in copies if each.role == READ}),
    }


def _version(assignments: Sequence[Assignment], lock: Lock | None) -> dict[str, Any]:
    """Which tier of workers holds it, the size and the time of its canonical copy, who writes it,
    and since when writes are in no canonical copy.

    Times are seconds since the epoch. None stands for what there is not, and 0 for a time that is
    not known.
    """
    newest = max(assignments, key=lambda each: each.modified, default=None)
    tier = None if newest is None else "cold" if newest.ring == COLD_RING else "hot"
    promoted = newest if newest is not None and newest.modified else None
    return {
        # Only hot segments are written; a new one is not assigned before it is promoted.
        "tier": "hot" if lock is not None else tier,
        "size": promoted and promoted.size,
        "version": promoted and promoted.modified / 1000,
        "writer": lock and lock.node,
        "unpromoted_since": None if lock is None or lock.is_clean else lock.dirty_since or 0,
    }
