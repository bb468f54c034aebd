"""Fetches small segments in batches: one flush of a directory and one commit for many.

A fetch that comes alone is not delayed. Those that come while one is under way wait for its end
and go together. The order of a single fetch holds for all of a batch: the files are on disk under
their names before the catalogue records them. A crash leaves files without an entry, which the
next start removes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet.defer import Deferred

from trough import errors
from trough.model import CanonicalCopy
from trough.storage import Storage
from trough.util.threads import ThreadPoolService
from trough.worker import local_files
from trough.worker.catalogue import Entry
from trough.worker.threaded_catalogue import AsyncCatalogue

#: Bytes of a segment that goes with others: for a larger one, its bytes are what takes the time.
SMALL = 1 << 20

#: Batches under way at once: one reads and writes while the disk flushes the other.
_AT_ONCE = 2

_Outcome = Entry | errors.TroughError


class FetchBatches:
    """The first fetches of one worker.

    :param directory: the worker's data directory
    :param threads: for work on files
    """

    def __init__(
        self,
        directory: Path,
        storage: Storage,
        threads: ThreadPoolService,
        catalogue: AsyncCatalogue,
    ) -> None:
        self._directory = directory
        self._storage = storage
        self._threads = threads
        self._catalogue = catalogue
        self._waiting: list[tuple[CanonicalCopy, Deferred[Entry]]] = []
        self._running = 0

    def takes(self, wanted: CanonicalCopy) -> bool:
        """Whether :meth:`fetch` is for this one."""
        return self._storage.batch > 1 and wanted.size <= SMALL

    async def fetch(
        self, wanted: CanonicalCopy, alone: Callable[[CanonicalCopy], Awaitable[Entry]]
    ) -> Entry:
        """Fetch a segment that this worker has no copy of; the entry, as the catalogue has it.

        :param alone: fetches one segment
        :raises trough.errors.TroughError: as :meth:`trough.worker.segments.Segments.fetch`
        """
        if not self._running:
            self._running += 1
            try:
                return await alone(wanted)
            finally:
                self._ended()
        waiting: Deferred[Entry] = Deferred()
        self._waiting.append((wanted, waiting))
        return await waiting

    def _ended(self) -> None:
        self._running -= 1
        while self._waiting and self._running < _AT_ONCE:
            batch = self._waiting[: self._storage.batch]
            del self._waiting[: len(batch)]
            # One that was cancelled meanwhile is not fetched.
            batch = [each for each in batch if not each[1].called]
            if batch:
                self._running += 1
                Deferred.fromCoroutine(self._run(batch)).addBoth(self._batch_ended, batch)

    def _batch_ended(
        self, outcomes: object, batch: list[tuple[CanonicalCopy, Deferred[Entry]]]
    ) -> None:
        results = outcomes if isinstance(outcomes, list) else [outcomes] * len(batch)
        for (_, waiting), outcome in zip(batch, results, strict=True):
            if waiting.called:
                continue
            if isinstance(outcome, Entry):
                waiting.callback(outcome)
            else:
                waiting.errback(outcome)
        self._ended()

    async def _run(self, batch: list[tuple[CanonicalCopy, Deferred[Entry]]]) -> list[_Outcome]:
        wanted = [(copy, local_files.path_of(self._directory, copy.segment)) for copy, _ in batch]
        refused = await self._threads.run(_make_ready, wanted)
        ready = [each for each in wanted if each[0].segment not in refused]
        fetched = await self._storage.fetch_many(ready) if ready else []
        outcomes: dict[str, _Outcome] = dict(refused)
        entries = []
        for (copy, _), got in zip(ready, fetched, strict=True):
            if isinstance(got, CanonicalCopy):
                entry = outcomes[copy.segment] = Entry(copy.segment, got.path)
                entry.adopt(got)
                entries.append(entry)
            else:
                outcomes[copy.segment] = got
        if entries:
            await self._record(entries)
        return [outcomes[copy.segment] for copy, _ in batch]

    async def _record(self, entries: list[Entry]) -> None:
        paths = [local_files.path_of(self._directory, entry.segment) for entry in entries]
        identities = await self._threads.run(_identify, paths)
        for entry, identity in zip(entries, identities, strict=True):
            entry.file_size, entry.file_modified = identity
        try:
            await self._catalogue.put(*entries)
        except errors.TroughError:
            # Files that the catalogue has no room for are unknown, and take the room that a
            # later try needs.
            await self._threads.run(_remove, paths)
            raise


def _make_ready(wanted: list[tuple[CanonicalCopy, Path]]) -> dict[str, errors.TroughError]:
    """Make way for all that there is room for; why there is none for the others."""
    refused: dict[str, errors.TroughError] = {}
    needed = 0
    for copy, destination in wanted:
        try:
            local_files.check_room_for_copy(destination, needed + copy.size)
            local_files.make_way(destination)
        except errors.TroughError as error:
            refused[copy.segment] = error
        else:
            needed += copy.size
    return refused


def _identify(paths: list[Path]) -> list[tuple[int, int]]:
    return [local_files.identify(str(path)) for path in paths]


def _remove(paths: list[Path]) -> None:
    for path in paths:
        local_files.remove(path)
