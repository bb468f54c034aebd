"""Which worker to ask for which segment: answers of the metadata store, kept for a while.

The router looks segments up in pages, several at once. It looks up each segment, and the list of
workers, at most once in a while. So a stream of queries costs the store next to nothing. If a
segment moved meanwhile, the worker that is asked in vain reports it. The router chooses between
copies by the workers' load and by this client's requests under way to each. It does not know how a
worker is asked.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from trough.metadata import Metadata
from trough.model import READ, WRITE, Copy, Worker
from trough.util.background_refresh import BackgroundRefresh
from trough.util.slices import in_slices

#: Segments that one look-up asks for, and look-ups under way at once.
PAGE = 2000
PAGES_AT_ONCE = 4

#: Seconds that a look-up is remembered. Stale ones cost a detour, never a wrong answer.
COPIES_SECONDS = 30.0
WORKERS_SECONDS = 5.0

#: Seconds after a look-up of the workers in which it is not repeated for one that is unknown.
UNKNOWN_SECONDS = 0.5

#: Seconds that the store may take where what is remembered would do.
PATIENCE_SECONDS = 2.0

#: Segments that are remembered, at most; some 50 MB.
REMEMBERED = 200_000


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """A worker, as one that asks it needs to know it.

    :ivar line: ``host:port`` of the line protocol; empty for a worker of an original installation
    """

    node: str
    line: str


#: When a segment was looked up, and its copies.
_Known = dict[str, tuple[float, Sequence[Copy]]]


class SegmentRouter:
    """Finds workers for segments.

    :param clock: the reactor, as a rule
    """

    def __init__(self, metadata: Metadata, clock: Any) -> None:
        self._metadata = metadata
        self._clock = clock
        self._copies: _Known = {}
        self._workers: dict[str, Worker] = {}
        self._workers_at = -math.inf
        self._patience = BackgroundRefresh(PATIENCE_SECONDS, clock)
        self._asked: Counter[str] = Counter()

    async def find(
        self, segments: Iterable[str], avoid: Mapping[str, Collection[str]] | None = None
    ) -> dict[str, WorkerAddress]:
        """Where each segment is to be read; those without any copy are left out.

        :param avoid: for each segment that was asked for in vain, where; such segments are
            looked up again, and asked for elsewhere if there is another copy
        :raises trough.errors.Unavailable: the metadata store does not answer, and has never
            answered for all of them
        """
        avoid = avoid or {}
        segments = list(segments)
        for segment in avoid:
            self.forget(segment)
        known = await self._with_workers(self._look_up(segments), force=bool(avoid))
        chosen, nodes = await self._choose(known, segments, avoid)
        # One that began after the last look-up would be taken for a worker of the original system.
        if nodes.keys() - self._workers.keys() and self._age_of_workers() > UNKNOWN_SECONDS:
            await self._refresh_workers(force=True)

        def places(some: Sequence[tuple[str, str]]) -> Iterator[tuple[str, WorkerAddress]]:
            for segment, node in some:
                yield segment, self.place_of(node)

        return dict(await in_slices(places, chosen))

    async def _choose(
        self, known: _Known, segments: Sequence[str], avoid: Mapping[str, Collection[str]]
    ) -> tuple[list[tuple[str, str]], Counter[str]]:
        """The worker to ask for each segment that has one, and for how many each is asked."""
        chosen: Counter[str] = Counter()

        def choose(some: Sequence[str]) -> Iterator[tuple[str, str]]:
            for segment in some:
                _, copies = known.get(segment, (0.0, ()))
                copy = self._best(copies, avoid.get(segment, ()), chosen)
                if copy is not None:
                    chosen[copy.node] += 1
                    yield segment, copy.node

        return await in_slices(choose, segments), chosen

    async def copies(self, segments: Iterable[str]) -> dict[str, list[Copy]]:
        """The copies of each segment that can be read, as the store has them now."""
        segments = list(segments)
        for segment in segments:
            self.forget(segment)
        # Who asks where segments are asks them next, and may be far away.
        known = await self._with_workers(self._look_up(segments, insist=True))
        return {
            segment: [copy for copy in known[segment][1] if copy.role == READ]
            for segment in segments
            if segment in known
        }

    async def unserved(self, segments: Sequence[str]) -> list[str]:
        """Those of `segments` that no live worker has a copy of, as far as is known: others
        may have lost it in the last seconds.

        :raises trough.errors.Unavailable: the metadata store does not answer
        """
        known = await self._look_up(segments)
        nobody: tuple[float, Sequence[Copy]] = (0.0, ())
        return [
            segment
            for segment in segments
            if not any(copy.role == READ for copy in known.get(segment, nobody)[1])
        ]

    def asked(self, node: str, segments: int) -> None:
        """Count a request to a worker for so many segments."""
        self._asked[node] += segments

    def answered(self, node: str, segments: int) -> None:
        """Count that a worker is done with so many of them."""
        self._asked[node] -= segments

    def forget(self, segment: str) -> None:
        """Look the segment up again the next time."""
        if segment in self._copies:
            self._copies[segment] = (-math.inf, self._copies[segment][1])

    def place_of(self, node: str, line: str = "") -> WorkerAddress:
        """The worker of this name.

        :param line: its address where the store does not know the worker (yet)
        """
        worker = self._workers.get(node)
        return WorkerAddress(node, worker.line if worker is not None else line)

    async def worker(self, node: str) -> Worker | None:
        """A live worker's row, looked up if it is not known."""
        await self._refresh_workers(force=node not in self._workers)
        return self._workers.get(node)

    async def _with_workers(
        self, looking_up: Coroutine[Any, Any, _Known], force: bool = False
    ) -> _Known:
        """Look something up, and meanwhile the workers, if they are not known; what was found."""
        both: list[Deferred[Any]] = [
            Deferred.fromCoroutine(looking_up),
            Deferred.fromCoroutine(self._refresh_workers(force)),
        ]
        results: list[tuple[bool, Any]] = await DeferredList(both, consumeErrors=True)
        for succeeded, result in results:
            if not succeeded:
                raise result.value
        known: _Known = results[0][1]
        return known

    async def _refresh_workers(self, force: bool) -> None:
        if force or self._age_of_workers() > WORKERS_SECONDS:
            await self._renewed(self._look_for_workers, bool(self._workers))

    def _age_of_workers(self) -> float:
        return float(self._clock.seconds() - self._workers_at)

    async def _look_for_workers(self) -> None:
        now = self._clock.seconds()
        self._workers = {worker.node: worker for worker in await self._metadata.workers()}
        self._workers_at = now

    async def _renewed(
        self, look_up: Callable[[], Coroutine[Any, Any, None]], remembered: bool
    ) -> None:
        """Look up, unless the store is away and what is `remembered` will do."""
        if not remembered:
            await look_up()
        else:
            await self._patience.give(look_up, self._metadata.absence is not None)

    async def _look_up(self, segments: Sequence[str], insist: bool = False) -> _Known:
        """Look up what is not known, or not for sure.

        :param insist: on a present answer of the store, or :class:`trough.errors.Unavailable`
        :return: what is known of these segments, and of others
        """
        now = self._clock.seconds()
        known = self._copies
        unknown = [s for s in segments if s not in known or now - known[s][0] > COPIES_SECONDS]
        if len(known) + len(unknown) > REMEMBERED:
            # Others that look up now go on with what they began with.
            known = self._copies = {}
            unknown = list(segments)
        flush_batch = PAGE * PAGES_AT_ONCE
        for start in range(0, len(unknown), flush_batch):
            wanted = unknown[start : start + flush_batch]
            remembered = not insist and all(segment in known for segment in wanted)
            await self._renewed(partial(self._look_up_pages, wanted, now, known), remembered)
        return known

    async def _look_up_pages(self, segments: Sequence[str], now: float, known: _Known) -> None:
        under_way = [
            Deferred.fromCoroutine(self._look_up_page(segments[start : start + PAGE], now, known))
            for start in range(0, len(segments), PAGE)
        ]
        results: list[tuple[bool, Any]] = await DeferredList(under_way, consumeErrors=True)
        for succeeded, result in results:
            if not succeeded:
                raise result.value

    async def _look_up_page(self, page: Sequence[str], now: float, known: _Known) -> None:
        found = await self._metadata.copies_of(page)
        for segment in page:
            if segment in found:
                known[segment] = (now, found[segment])
            else:
                known.pop(segment, None)

    def _best(
        self, copies: Sequence[Copy], avoid: Collection[str], chosen: Mapping[str, int]
    ) -> Copy | None:
        """The copy that is likely to answer soonest, if there is one.

        :param chosen: for how many segments each worker was chosen just now
        """
        readable = [copy for copy in copies if copy.role == READ]
        if len(readable) < 2:
            return readable[0] if readable else None
        readable = [copy for copy in readable if copy.node not in avoid] or readable
        # What is being written is newest where it is written.
        writers = {copy.node for copy in copies if copy.role == WRITE}
        fresh = [copy for copy in readable if copy.node in writers]

        def expected_wait(copy: Copy) -> float:
            worker = self._workers.get(copy.node)
            load = worker.load if worker is not None else copy.load
            waiting = self._asked[copy.node] + chosen.get(copy.node, 0)
            return (1 + load) * (1 + waiting)

        return min(fresh or readable, key=expected_wait)
