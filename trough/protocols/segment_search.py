"""Segments as the web console lists them: found by a pattern, a page at a time.

A search reads the ids of one page from an index. It counts further ids for a second at most, and
then answers how many there are at least. So no turn of the reactor grows with the number of
segments. Only a few run at a time, each with a deadline.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from trough import errors
from trough.access.rights import Grant
from trough.cluster_client.existing import SetUnknown, existing
from trough.metadata import Metadata
from trough.model import READ, WRITE, Copy

#: Searches at once, the seconds that each may take, and those of them for counting.
AT_ONCE, SECONDS, COUNTING = 2, 30.0, 1.0

#: Segments of one page, at most.
MOST = 200


class SegmentSearch:
    """Answers what segments there are.

    :param clock: the reactor, for deadlines
    """

    def __init__(self, metadata: Metadata, clock: Any) -> None:
        self._metadata = metadata
        self._clock = clock
        self._free = DeferredSemaphore(AT_ONCE)

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
        return [_row(segment, copies.get(segment, [])) for segment in segments]

    async def segment(self, segment: str) -> dict[str, Any]:
        """What the metadata store holds about one segment.

        :raises trough.errors.NoSuchSegment: nothing
        """
        copies = (await self._metadata.copies_of([segment])).get(segment, [])
        lock = await self._metadata.lock_of(segment)
        assignments = await self._metadata.assignments_of_segment(segment)
        if not (copies or lock or assignments):
            raise errors.NoSuchSegment(f"segment {segment} is assigned to no worker")
        return {
            **_row(segment, copies),
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
    writers = sorted({each.node for each in copies if each.role == WRITE})
    return {
        "segment": segment,
        "copies": sorted({each.node for each in copies if each.role == READ}),
        "writer": writers[0] if writers else None,
    }
