"""A worker's segments: the local copies, and everything that changes one.

Promises:

* A copy is published to the rest of the worker only when it is whole.
* A write is answered after it is on disk. Before the first write, the catalogue records that the
  segment may hold writes which no canonical copy has.
* No unpromoted write is ever deleted, only moved into ``aside/``.
* Changes to one segment run one after the other. Different segments do not wait for each other.

This module does not know which copies there should be (:mod:`trough.worker.controller`), and how
to query them (:mod:`trough.worker.queries`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from trough import errors
from trough.executors.pool.pool import ExecutorPool, ReadLimits, Receiver, Target
from trough.model import CanonicalCopy, canonical_path
from trough.storage import Guard, Storage
from trough.util.job import Job
from trough.util.keyed_lock import KeyedLock
from trough.util.threads import ThreadPoolService
from trough.util.waiting import Waiters
from trough.worker import local_files
from trough.worker.catalogue import Entry
from trough.worker.disk_counter import DiskCounter
from trough.worker.fetch_batches import FetchBatches
from trough.worker.local_copies import LocalCopies, LocalCopy
from trough.worker.promotion import Promotion
from trough.worker.quarantine import Quarantine
from trough.worker.threaded_catalogue import AsyncCatalogue
from trough.worker.transfers import Transfers

#: Has other processes know that a copy may hold unpromoted writes.
Announce = Callable[[LocalCopy], Awaitable[None]]


class Segments(service.Service):
    """All local copies of one worker.

    :param directory: the worker's data directory
    :param threads: for work on files
    :param catalogue_thread: a pool of one thread, for what is remembered
    :param snapshots: for states that are being promoted, emptied at the start; None: in `directory`
    :param now: seconds, by the clock that measures the time since the last write
    """

    def __init__(
        self,
        directory: Path,
        storage: Storage,
        pool: ExecutorPool,
        threads: ThreadPoolService,
        catalogue_thread: ThreadPoolService,
        *,
        now: Callable[[], float],
        snapshots: Path | None = None,
    ) -> None:
        self._directory = directory
        self._storage = storage
        self._pool = pool
        self._threads = threads
        self._catalogue_thread = catalogue_thread
        self._now = now
        self._copies = LocalCopies()
        #: The local copy of a segment, or None.
        self.get = self._copies.get
        self._busy = KeyedLock()
        #: Segments that are being put here, with the reads that wait for that.
        self._arriving: dict[str, Waiters[None]] = {}
        self._generations = itertools.count(1)
        self._catalogue = AsyncCatalogue(directory, catalogue_thread)
        self.disk_counter = DiskCounter(directory, catalogue_thread)
        self.transfers = Transfers(monotonic)
        self._snapshots = snapshots or directory / "snapshots"
        self._promotion = Promotion(
            self._snapshots, storage, pool, threads, self._catalogue.put, transfers=self.transfers
        )
        self._batches = FetchBatches(directory, storage, threads, self._catalogue)
        self._aside = Quarantine(directory, self._copies, pool, threads, self._catalogue.forget)

    # -- life ------------------------------------------------------------------

    @property
    def are_new(self) -> bool:
        """Whether nothing was ever kept in the data directory; until :meth:`load`."""
        return self._catalogue.is_new

    async def load(self) -> None:
        """Open the catalogue, and match it with the files that are there.

        Left-overs of a crash are removed. A file that differs from the catalogue is fetched again
        if it was only read, and moved aside if it may hold writes.
        """
        await self._catalogue_thread.run(local_files.empty, self._snapshots)
        await self._catalogue.open(self._take_up)

    def _take_up(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._copies.put(LocalCopy(entry, self._new_target(entry), self._now()))

    async def close(self) -> None:
        """Close the catalogue."""
        await self._catalogue.close()

    # -- what there is ---------------------------------------------------------

    def __len__(self) -> int:
        return len(self._copies)

    def __iter__(self) -> Iterator[str]:
        return iter(self._copies)

    def writable(self) -> list[Entry]:
        """Entries of the segments that this worker writes."""
        return [copy.entry for copy in self._copies.writable()]

    def used_bytes(self) -> int:
        """Bytes that the copies take, as of when each was installed or promoted."""
        return self._copies.bytes

    def aside(self) -> list[str]:
        """Names of the files that were moved aside with unpromoted writes in them."""
        return self._aside.names()

    async def aside_sizes(self) -> dict[str, int]:
        """Bytes of each file that was moved aside, by name."""
        return await self._threads.run(local_files.aside_sizes, self._directory)

    async def delete_aside(self, name: str) -> None:
        """Remove a file that was moved aside."""
        path = local_files.aside_path(self._directory, name)
        await self._threads.run(local_files.remove, path)

    async def size_of(self, *segments: str) -> int:
        """Bytes that the local copies take by now; 0 without any."""
        copies = [self._copies.get(segment) for segment in segments]
        paths = [copy.target.path for copy in copies if copy is not None]
        return await self._threads.run(local_files.size_on_disk, *paths)

    # -- read copies -----------------------------------------------------------

    async def fetch(self, wanted: CanonicalCopy) -> None:
        """Fetch the version that was reported, or the one that is there by now.

        :param wanted: as its reporter saw it; a version older than the one held may be a late
            report, or a file that was put back from a backup
        :raises trough.errors.LockHeld: this worker writes the segment
        :raises trough.errors.NoSuchSegment: there is no canonical copy any more
        """
        async with self._busy.hold(wanted.segment):
            await self._fetch(wanted)

    async def fetch_again(self, damaged: LocalCopy) -> None:
        """Replace a copy that is only read by the canonical one, if it was not meanwhile."""
        segment = damaged.entry.segment
        async with self._busy.hold(segment):
            if self._copies.get(segment) is not damaged or damaged.writable:
                return
            self._copies.remove(segment)
            try:
                await self._fetch(damaged.entry.canonical)
            except errors.DiskFull:
                # The next try has the room that the damaged file takes.
                await self._threads.run(local_files.remove, damaged.target.path)
                raise
            finally:
                self._let_go(segment)

    async def _fetch(self, wanted: CanonicalCopy) -> None:
        segment = wanted.segment
        copy = self._copies.get(segment)
        if copy is not None:
            if copy.writable:
                raise errors.LockHeld(f"segment {segment} is being written here")
            held = copy.entry.canonical.version
            if wanted.version < held:
                wanted = await self._present(wanted)
            if wanted.version == held:
                return
        if copy is None and self._batches.takes(wanted):
            entry = await self._batches.fetch(wanted, self._fetch_alone)
            if self._copies.get(segment) is None:
                self._copies.put(LocalCopy(entry, self._new_target(entry), self._now()))
            return
        await self._fetch_alone(wanted)
        if copy is not None:
            self._let_go(segment)

    async def _fetch_alone(self, wanted: CanonicalCopy) -> Entry:
        segment = wanted.segment
        destination = local_files.path_of(self._directory, segment)
        await self._threads.run(local_files.check_room_for_copy, destination, wanted.size)
        await self._threads.run(local_files.make_way, destination)
        with self.transfers.under_way(segment, "fetch", wanted.size) as progress:
            got = await self._storage.fetch(wanted, destination, progress)
        entry = Entry(segment, got.path)
        entry.adopt(got)
        await self._take_over(entry, destination)
        return entry

    async def _take_over(self, entry: Entry, path: Path) -> None:
        """Have the file that has come to lie at `path` as the copy."""
        await self._identify(entry)
        copy = LocalCopy(entry, self._new_target(entry), self._now())
        replaces = self._copies.get(entry.segment) is not None
        if replaces:
            # Even if the catalogue cannot be written: the earlier file is not there any more.
            self._copies.put(copy)
        try:
            await self._catalogue.put(entry)
        except errors.TroughError:
            # A file that the catalogue has no room for is unknown, and takes the room that a
            # later try needs.
            if not replaces:
                await self._threads.run(local_files.remove, path)
            raise
        self._copies.put(copy)

    async def _present(self, wanted: CanonicalCopy) -> CanonicalCopy:
        found = await self._storage.find(wanted.segment, wanted.path)
        if found is None:
            raise errors.NoSuchSegment(f"segment {wanted.segment} has no canonical copy any more")
        return found

    def _let_go(self, segment: str) -> None:
        """Have executors close the file that was replaced: its room is not free before.

        No caller waits for that, because a query on it may take its time.
        """
        closing = self._pool.forget(segment)
        # A pool that stops closes all that it has.
        closing.addErrback(lambda failure: failure.trap(errors.Unavailable))

    async def drop(self, segment: str) -> None:
        """Delete the local copy, unless it may hold unpromoted writes.

        :raises trough.errors.LockHeld: this worker writes the segment
        """
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None:
                return
            if copy.writable:
                raise errors.LockHeld(f"segment {segment} is being written here")
            self._copies.remove(segment)
            try:
                await self._pool.forget(segment)
                await self._threads.run(local_files.remove, copy.target.path)
            except BaseException:
                # It stays known, or its file would never be removed.
                self._copies.put(copy)
                raise
            await self._catalogue.forget(segment)

    # -- becoming writable, and back -------------------------------------------

    async def create(self, segment: str, schema_sql: str, epoch: int) -> None:
        """Begin a segment that has no canonical copy, writable under the lock `epoch`.

        :raises trough.errors.BadSchema: SQLite refuses `schema_sql`; nothing is left
        """
        async with self._busy.hold(segment):
            if self._copies.get(segment) is not None:
                raise errors.Conflict(f"segment {segment} has a local copy already")
            # The entry comes first: a file without one is swept as a left-over.
            entry = Entry(segment, canonical_path(segment), epoch=epoch, unpromoted=True)
            entry.dirty_since = time.time()
            await self._catalogue.put(entry)
            target = self._new_target(entry)
            try:
                await self._threads.run(local_files.make_way, Path(target.path))
                await self._pool.create(target, schema_sql)
            except BaseException:
                await self._threads.run(local_files.remove, target.path)
                await self._catalogue.forget(segment)
                raise
            copy = LocalCopy(entry, target, self._now())
            copy.provisioned_by = set()
            self._copies.put(copy)

    async def discard_unused(self, segment: str, client: str) -> None:
        """Remove a new segment that only `client` provisioned and that has had no write.

        :raises trough.errors.Conflict: it is anything else; nothing is changed
        """
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None or not copy.is_unused_but_by(client):
                raise errors.Conflict(
                    f"segment {segment} is not known to be new and unused here",
                    "only a segment that one client provisioned and nobody wrote to is removed",
                )
            # Nothing is waited for in between, so no write can be accepted meanwhile.
            copy.writes.closed = True
            try:
                # The entry goes first: a file without one is swept as a left-over.
                await self._catalogue.forget(segment)
            except BaseException:
                copy.writes.closed = False
                raise
            self._copies.remove(segment)
            await self._pool.forget(segment)
            await self._threads.run(local_files.remove, copy.target.path)

    async def make_writable(self, segment: str, epoch: int) -> None:
        """Let the local copy be written, under the lock `epoch`.

        :raises trough.errors.NoSuchSegment: there is no local copy
        :raises trough.errors.LockHeld: it is being written already
        """
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None:
                raise errors.NoSuchSegment(f"segment {segment} has no local copy here")
            if copy.writable:
                raise errors.LockHeld(f"segment {segment} is being written here already")
            entry = replace(copy.entry, epoch=epoch)
            await self._catalogue.put(entry)
            target = self._new_target(entry)
            await self._pool.make_writable(target)
            self._copies.put(LocalCopy(entry, target, self._now()))

    async def begin_log(self, segment: str) -> Path:
        """Have the writes of a segment that is written here be replicated; the path of its file.

        :raises trough.errors.NoWriteLock: it is not written here
        """
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None or not copy.writable:
                raise errors.NoWriteLock(f"segment {segment} is not written here any more")
            await self._pool.begin_log(copy.target)
            return Path(copy.target.path)

    async def checkpoint_log(self, copy: LocalCopy, position: int) -> None:
        """See :meth:`trough.executors.pool.pool.ExecutorPool.checkpoint_log`."""
        await self._pool.checkpoint_log(copy.target, position)

    async def raise_epoch(self, segment: str, epoch: int) -> None:
        """Note that a segment is written under a later epoch of the same lock."""
        copy = self._copies.get(segment)
        if copy is not None and copy.writable and copy.entry.epoch < epoch:
            copy.entry.epoch = epoch
            await self._catalogue.put(copy.entry)

    async def install_followed(
        self,
        segment: str,
        epoch: int,
        canonical: CanonicalCopy | None,
        place: Callable[[Path], object],
    ) -> None:
        """Write a segment from what this worker has followed, under the lock `epoch`.

        Writes to it wait until the caller ends their pause.

        :param canonical: what the next promotion replaces; None: it was never promoted
        :param place: puts the database at a path; blocks. Called again after a crash
        :raises trough.errors.LockHeld: it is being written already
        """
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is not None and copy.writable:
                raise errors.LockHeld(f"segment {segment} is being written here already")
            entry = Entry(segment, canonical_path(segment), epoch=epoch, unpromoted=True)
            if canonical is not None:
                entry.adopt(canonical)
            entry.dirty_since = time.time()
            if copy is not None:
                self._copies.remove(segment)
                await self._pool.forget(segment)
            target = self._new_target(entry)
            # The old file goes first, and then comes the entry: so a restart in between finds
            # either nothing, or a new file that has an entry and is not swept.
            await self._threads.run(local_files.remove, target.path)
            await self._catalogue.put(entry)
            await self._place(target, place)
            await self._identify(entry)
            installed = LocalCopy(entry, target, self._now())
            installed.paused = True
            self._copies.put(installed)

    @contextmanager
    def arriving(self, segment: str) -> Iterator[None]:
        """Reads of a segment that is not here wait for the end of the context: it is being put
        here, in the place of the local copy."""
        arrival = self._arriving.setdefault(segment, Waiters())
        try:
            yield
        finally:
            if self._arriving.pop(segment, None) is arrival:
                arrival.fire(None)

    def is_arriving(self, segment: str) -> bool:
        """Whether a segment is being put here."""
        return segment in self._arriving

    async def arrived(self, segments: Iterable[str]) -> bool:
        """Return once none of the segments is being put here; whether one was."""
        arriving = self._arriving
        found = [arriving[segment] for segment in segments if segment in arriving]
        for arrival in found:
            await arrival.wait()
        return bool(found)

    async def put_followed(self, copy: LocalCopy, place: Callable[[Path], object]) -> None:
        """Do the last step of :meth:`install_followed` again, after a crash in it."""
        async with self._busy.hold(copy.entry.segment):
            await self._pool.forget(copy.entry.segment)
            await self._place(copy.target, place)

    async def _place(self, target: Target, place: Callable[[Path], object]) -> None:
        await self._threads.run(local_files.make_way, Path(target.path))
        await self._threads.run(place, Path(target.path))
        await self._pool.make_writable(target)

    async def discard(self, copy: LocalCopy) -> None:
        """Remove a written copy, all of which another worker has. None of its writes has an
        executor; those that wait for their turn are refused."""
        segment = copy.entry.segment
        copy.writes.closed = True
        async with self._busy.hold(segment):
            if self._copies.get(segment) is not copy:
                return
            # The entry goes first: a file without one is swept as a left-over.
            await self._catalogue.forget(segment)
            self._copies.remove(segment)
            await self._pool.forget(segment)
            await self._threads.run(local_files.remove, copy.target.path)

    def refuse_writes(self, segment: str, epoch: int) -> None:
        """Take no more writes under the lock of `epoch`: the segment is to be retired."""
        copy = self._copies.get(segment)
        if copy is not None and copy.entry.epoch == epoch:
            copy.writes.closed = True

    async def retire(self, segment: str) -> str | None:
        """Stop writing the segment, and keep it as a copy that is only read.

        No write is taken from this call on, even where it fails: it is to be called again.
        Writes that are in no canonical copy are moved aside first, in a file of their
        own, and the local copy goes with them: what is left would be neither the
        canonical state nor a complete one. A damaged copy goes there as well.

        :return: the name of the file in ``aside/``, or None where nothing went there
        """
        copy = self._copies.get(segment)
        if copy is not None:
            # Before anything is waited for: a promotion under way may take hours, and no
            # write that comes meanwhile may be answered under a lock that is lost.
            copy.writes.closed = True
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None or not copy.writable:
                return None
            copy.writes.closed = True
            await copy.writes.settled()
            if copy.entry.unpromoted:
                return await self._aside.put(copy, "writes that were never promoted")
            try:
                await self._pool.retire(copy.target)
            except errors.CorruptSegment:
                return await self._aside.put(copy, "a damaged copy, all of it promoted")
            await self._install(replace(copy.entry, epoch=0))
            return None

    # -- what was moved aside ----------------------------------------------------

    async def compare_aside(
        self, name: str, canonical: CanonicalCopy
    ) -> dict[str, dict[str, int | None]]:
        """How the tables of a file aside differ from those of the canonical copy."""
        fetched = local_files.snapshot_path(self._snapshots, f"{name}.canonical")
        kept = local_files.snapshot_path(self._snapshots, f"{name}.aside")
        result = kept.with_suffix(".json")
        try:
            await self._storage.fetch(canonical, fetched)
            await self._copy_aside(name, kept)
            await self._pool.compare(str(kept), str(fetched), str(result))
            return await self._threads.run(local_files.read_json, result)
        finally:
            for path in (fetched, kept, result):
                await self._threads.run(local_files.remove, path)

    async def put_back(self, segment: str, name: str, announce: Announce) -> None:
        """Have a file aside as the present state of a segment that is written here.

        :param announce: see :meth:`note_dirty`

        :raises trough.errors.Conflict: the segment has writes that are not promoted
        :raises trough.errors.CorruptSegment: the file is damaged; nothing is changed
        """
        kept = local_files.snapshot_path(self._snapshots, f"{name}.aside")
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None or not copy.writable or copy.writes.closed:
                raise errors.NoWriteLock(f"segment {segment} is not written here any more")
            try:
                await self._copy_aside(name, kept)
                await self._pool.check(Target(segment, str(kept), 0, False))
                copy.writes.suspended = True
                await self._replace_written(copy, kept, announce)
            finally:
                copy.writes.suspended = False
                await self._threads.run(local_files.remove, kept)

    async def _copy_aside(self, name: str, destination: Path) -> None:
        source = str(local_files.aside_path(self._directory, name))
        await self._threads.run(local_files.make_room_for_snapshot, destination, source)
        # It may have a write-ahead log beside it.
        await self._pool.snapshot(Target(name, source, 0, True), str(destination))

    async def _replace_written(self, copy: LocalCopy, file: Path, announce: Announce) -> None:
        """Put a database in the place of a written copy, to which no writes come meanwhile."""
        entry = copy.entry
        await copy.writes.settled()
        if entry.unpromoted and not copy.is_new_and_unused:
            raise errors.Conflict(
                f"segment {entry.segment} has writes that are not promoted",
                "promote or revert it first",
            )
        # As before any write: what comes next is in no canonical copy.
        await self._note_dirty(copy, announce)
        await self._pool.retire(copy.target)
        await self._pool.forget(entry.segment)
        destination = local_files.path_of(self._directory, entry.segment)
        try:
            await self._threads.run(local_files.replace_copy, file, destination)
        except BaseException:
            await self._pool.make_writable(copy.target)
            raise
        target = self._new_target(entry)
        await self._pool.make_writable(target)
        replacing = LocalCopy(entry, target, self._now())
        if copy.replicated is None:
            replacing.marked = copy.marked
        else:
            copy.replicated.close()  # what is written next begins another log
        await self._identify(entry)
        self._copies.put(replacing)

    # -- writing and promoting -------------------------------------------------

    def submit(
        self,
        target: Target,
        sql: str | bytes,
        parameters: Any,
        limits: ReadLimits,
        receiver: Receiver,
    ) -> Job:
        """Hand a write to an executor; only :mod:`trough.worker.writing` knows when it may.

        See :meth:`trough.executors.pool.pool.ExecutorPool.write`.
        """
        return self._pool.write(target, sql, parameters, limits, receiver)

    async def note_dirty(self, copy: LocalCopy, announce: Announce) -> None:
        """Return once it is noted that the copy may hold unpromoted writes.

        All that come until then wait together: none may be on disk before.

        :param announce: awaited first: has other processes know it, and sets ``marked``
        """
        waiting: Deferred[None] = Deferred()
        copy.noting.append(waiting)
        if len(copy.noting) == 1:
            Deferred.fromCoroutine(self._note_dirty(copy, announce)).addBoth(self._noted, copy)
        await waiting

    async def _note_dirty(self, copy: LocalCopy, announce: Announce) -> None:
        # All that is dirty in the catalogue has to be dirty in the metadata store, too.
        await announce(copy)
        entry = copy.entry
        if not entry.unpromoted:
            entry.unpromoted, entry.dirty_since = True, time.time()
            try:
                await self._catalogue.put(entry)
            except BaseException:
                entry.unpromoted = False
                raise

    def _noted(self, result: Failure | None, copy: LocalCopy) -> None:
        waiting, copy.noting = copy.noting, []
        for each in waiting:
            each.callback(result)

    async def promote(self, segment: str, guard: Guard) -> CanonicalCopy:
        """Publish the present state as the segment's canonical copy.

        A second promotion of a segment waits for the first, and has nothing to do if
        nothing was written since.

        :param guard: awaited right before the publication takes effect
        :raises trough.errors.NoWriteLock: this worker does not write the segment
        """
        async with self._busy.hold(segment):
            copy = self._copies.get(segment)
            if copy is None or not copy.writable:
                raise errors.NoWriteLock(
                    f"this worker does not hold the write lock of segment {segment}",
                    "only a segment that is being written can be promoted: provision it",
                )
            entry = copy.entry
            if not entry.unpromoted and not await self._promotion.is_missing(entry):
                return entry.canonical
            await self._promotion.check_overwritten(entry)
            # Only writes that were answered before the snapshot are surely in it.
            mark = copy.writes.started if copy.writes.idle else None
            began = time.time()
            published = await self._promotion.publish(copy.target, entry, guard)
            entry.adopt(published)
            entry.file_size = published.size
            self._copies.put(copy)
            entry.publishing = ""
            entry.unpromoted = mark is None or mark != copy.writes.started
            entry.dirty_since = began if entry.unpromoted else 0.0
            await self._catalogue.put(entry)
            return published

    async def is_overwritten(self, wanted: CanonicalCopy) -> bool:
        """Whether the canonical copy of a segment that is written here was replaced from outside.

        :param wanted: has its path; its version may be out of date
        """
        async with self._busy.hold(wanted.segment):
            copy = self._copies.get(wanted.segment)
            if copy is None or not copy.writable:
                return False
            return await self._promotion.is_overwritten(copy.entry, wanted.path)

    # -- inside ----------------------------------------------------------------

    def _new_target(self, entry: Entry) -> Target:
        path = local_files.path_text(self._directory, entry.segment)
        return Target(entry.segment, path, next(self._generations), entry.writable)

    async def _install(self, entry: Entry) -> None:
        await self._identify(entry)
        await self._catalogue.put(entry)
        self._copies.put(LocalCopy(entry, self._new_target(entry), self._now()))

    async def _identify(self, entry: Entry) -> None:
        path = local_files.path_text(self._directory, entry.segment)
        entry.file_size, entry.file_modified = await self._threads.run(local_files.identify, path)
