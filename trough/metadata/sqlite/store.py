"""The metadata store of one machine: an SQLite file that all its processes open.

Each process writes on one thread and reads on a few others, so the reactor never waits for a disk.
Decisions (leadership, locks, schemas, assignments) are on disk before they are answered. What is
repeated anyway (heartbeats, copies) is not waited for. The queries and changes themselves are in
:mod:`trough.metadata.sqlite.reads` and :mod:`trough.metadata.sqlite.writes`. This module knows on
which thread each runs, and in which portions.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred, DeferredLock

from trough import errors
from trough.metadata import AssignmentChanges, LockChanges, Metadata, Watch, conditions
from trough.metadata.sqlite import reads
from trough.metadata.sqlite import writes as changes
from trough.metadata.sqlite.database import Clock, Database, DatabasePool
from trough.metadata.sqlite.regex import existing_pages, matching_pages
from trough.metadata.sqlite.watch import Watcher, assignment_source, lock_changes
from trough.model import Assignment, CanonicalCopy, Copy, Inventory, Leader, Lock, Schema, Worker
from trough.util.threads import ThreadPoolService

if TYPE_CHECKING:
    from trough.executors.pool.task_pool import TaskPool

T = TypeVar("T")

#: Rows of a page, and of a portion of a long change: some 10 ms of work, so that
#: nobody who waits for the file or the thread waits for long.
PORTION = 2000


class SqliteMetadata(Metadata):
    """The registry at `path`.

    :param clock: seconds since the epoch, the same on all processes
    :param tasks: where patterns are matched; None: in processes of its own
    :param is_tool: whether it is opened by a tool, which upgrades no registry that servers use
    """

    def __init__(
        self,
        path: Path,
        reactor: Any,
        clock: Clock = time.time,
        tasks: TaskPool | None = None,
        is_tool: bool = False,
    ) -> None:
        self._path = path
        self._is_tool = is_tool
        self._clock = clock
        self._writing = ThreadPoolService("registry-write", 1, reactor)
        self._reading = ThreadPoolService("registry-read", 2, reactor)
        self._given_tasks = tasks
        self._owns_tasks = tasks is None
        self._reactor = reactor
        self._is_open = False
        self._was_opened = False
        self._opening = DeferredLock()

    # -- life ------------------------------------------------------------------

    def _tasks(self) -> TaskPool:
        if self._given_tasks is None:
            # Imported late: a short query of the shell names no pattern.
            from trough.executors.pool.task_pool import TaskPool

            self._given_tasks = TaskPool(self._reactor)
        return self._given_tasks

    async def open(self) -> None:
        # Worker and sync server of one process both open the store that they share;
        # the second one has to find it open, and not being opened.
        await self._opening.run(lambda: Deferred.fromCoroutine(self._open()))

    async def _open(self) -> None:
        if self._is_open:
            return
        for threads in (self._writing, self._reading):
            threads.startService()
        try:
            self._database = await self._writing.run(
                Database, self._path, True, self._clock, in_use=not self._is_tool
            )
        except BaseException:
            await self._stop_threads()
            raise
        self._databases = DatabasePool(self._path, self._clock)
        self._watcher = Watcher(
            lambda: Database(self._path, clock=self._clock), self._reading, self._reactor
        )
        self._is_open = self._was_opened = True

    async def close(self) -> None:
        if not self._is_open:
            return
        await self._watcher.stop()
        await self._stop_threads()
        self._database.close()
        self._databases.close()

    async def _stop_threads(self) -> None:
        self._is_open = False
        if self._owns_tasks and self._given_tasks is not None:
            await self._given_tasks.close()
        for threads in (self._reading, self._writing):
            await threads.stopService()

    def _check_open(self) -> None:
        # A client may be faster than the start of the process that it asks. What comes
        # after the end is refused by the threads.
        if not self._was_opened:
            raise errors.Unavailable(f"the registry {self._path} is not open")

    async def _read(self, function: Callable[..., T], *args: Any) -> T:
        self._check_open()
        return await self._reading.run(self._databases.read, function, *args)

    async def _decide(self, function: Callable[..., T], *args: Any) -> T:
        self._check_open()
        return await self._writing.run(self._database.change, True, function, *args)

    async def _note(self, function: Callable[..., T], *args: Any) -> T:
        self._check_open()
        return await self._writing.run(self._database.change, False, function, *args)

    # -- leadership ------------------------------------------------------------

    async def campaign(self, candidate: Leader) -> Leader:
        present = await self._read(reads.leader)
        if present is not None and present.identity != candidate.identity:
            # Candidates that wait must not make the leader wait for the file.
            return present
        return await self._decide(changes.campaign, candidate)

    async def leader(self) -> Leader | None:
        return await self._read(reads.leader)

    async def resign(self, leader: Leader) -> None:
        await self._decide(changes.resign, leader)

    # -- workers ---------------------------------------------------------------

    async def register_worker(self, worker: Worker) -> None:
        await self._decide(changes.start_worker, worker)
        await self._remove_copies(worker.node, None)
        await self._decide(changes.beat, worker)

    async def beat(self, worker: Worker) -> bool:
        return await self._note(changes.beat, worker)

    async def withdraw_worker(self, worker: Worker) -> None:
        await self._note(changes.retire_worker, worker.node, worker.identity)
        await self._remove_copies(worker.node, None)
        await self._note(changes.remove_marked, worker.node)

    async def workers(self) -> list[Worker]:
        return await self._read(reads.workers)

    async def worker(self, node: str) -> Worker | None:
        return await self._read(reads.last_row, node)

    async def set_draining(self, node: str, draining: bool) -> None:
        await self._decide(changes.set_draining, node, draining)

    async def pause(self, node: str, seconds: float) -> None:
        await self._decide(changes.pause, node, seconds)

    async def paused(self) -> dict[str, float]:
        return await self._read(reads.paused)

    async def draining(self) -> set[str]:
        return await self._read(reads.draining)

    async def reap(self, leader: Leader, slack: float = 0.0) -> list[str]:
        # One machine has one clock: there is no slack.
        reaped = []
        for node in await self._decide(changes.mark_dead, leader):
            await self._remove_copies(node, leader)
            if await self._note(changes.remove_marked, node):
                reaped.append(node)
        return reaped

    async def forget_worker(self, node: str) -> None:
        await self._decide(changes.mark_lost, node)
        await self._remove_copies(node, None)
        await self._note(changes.remove_marked, node)
        await self._decide(changes.forget_place, node)

    async def note_disk_counter(self, node: str, counter: int) -> None:
        await self._note(changes.note_disk_counter, node, counter)

    async def disk_counter(self, node: str) -> int:
        return await self._read(reads.disk_counter, node)

    async def _remove_copies(self, node: str, leader: Leader | None) -> None:
        while await self._note(changes.remove_copies_of_marked, node, PORTION, leader):
            pass

    # -- copies ----------------------------------------------------------------

    async def publish_copies(self, copies: Sequence[Copy]) -> None:
        for portion in _portions(copies):
            await self._note(changes.publish_copies, portion)

    async def withdraw_copies(self, node: str, segments: Collection[str], role: str) -> None:
        for portion in _portions(list(segments)):
            await self._note(changes.withdraw_copies, node, portion, role)

    async def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        found: dict[str, list[Copy]] = {}
        for portion in _portions(list(segments)):
            found.update(await self._read(reads.copies_of, portion))
        return found

    def segments_matching(self, pattern: str | None) -> AsyncIterator[list[Copy]]:
        if pattern is None:
            return self._pages(reads.readable_page, conditions.matcher(None))
        return matching_pages(self._tasks(), self._path, pattern, PORTION)

    async def _pages(
        self, function: Callable[..., Any], *args: Any, first: Any = ("", "")
    ) -> AsyncIterator[list[Any]]:
        place = first
        while place is not None:
            page, place = await self._read(function, *args, place, PORTION)
            if page:
                yield page

    # -- which segments there are ------------------------------------------------

    def existing(self, pattern: str | None) -> AsyncIterator[list[str]]:
        if pattern is None:
            every = conditions.matcher(None)
            return self._pages(reads.existing_page, every, ("", None), first="")
        return existing_pages(self._tasks(), self._path, pattern, PORTION)

    async def first_existing(self, pattern: str | None, after: str, most: int) -> list[str]:
        if pattern is None:
            every = conditions.matcher(None)
            page, _ = await self._read(reads.existing_page, every, ("", None), after, most)
            return list(page)
        found: list[str] = []
        pages = existing_pages(self._tasks(), self._path, pattern, PORTION, after)
        async with aclosing(pages):
            async for page in pages:
                found += page
                if len(found) >= most:
                    break
        return found[:most]

    async def inventory(self) -> Inventory:
        return await self._read(reads.inventory)

    async def save_inventory(
        self, leader: Leader, known: bool, unplaced: Collection[str]
    ) -> Inventory:
        return await self._decide(changes.save_inventory, leader, known, list(unplaced))

    # -- write locks -----------------------------------------------------------

    async def take_lock(self, segment: str, node: str, disk: str = "") -> Lock:
        return await self._decide(changes.take_lock, segment, node, disk)

    async def change_lock(self, expected: Lock, wanted: Lock) -> Lock | None:
        return await self._decide(changes.change_lock, expected, wanted)

    async def lock_of(self, segment: str) -> Lock | None:
        return await self._read(reads.lock_of, segment)

    async def locks(self, node: str | None = None) -> list[Lock]:
        return await self._read(reads.locks, node)

    async def count_locks(self, node: str | None = None) -> int:
        return await self._read(reads.count_locks, node)

    async def release_lock(self, lock: Lock) -> None:
        await self._decide(changes.release_lock, lock)

    async def check_lock(self, lock: Lock) -> None:
        conditions.refuse_other_lock(await self._read(reads.lock_of, lock.segment), lock)

    async def mark_dirty(self, lock: Lock) -> None:
        await self._decide(changes.mark_dirty, lock)

    async def mark_clean(self, locks: Sequence[Lock]) -> None:
        for portion in _portions(locks):
            await self._note(changes.mark_clean, portion)

    async def release_clean_locks(self, leader: Leader, node: str) -> list[str]:
        released: list[str] = []
        while True:
            some = await self._decide(changes.release_clean_locks, leader, node, PORTION)
            released += some
            if len(some) < PORTION:
                return released

    def watch_locks(self, listener: Callable[[LockChanges], None]) -> Watch:
        return self._watcher.add(lock_changes, listener)

    # -- assignments -----------------------------------------------------------

    def assignments(self, node: str | None = None) -> AsyncIterator[list[Assignment]]:
        return self._pages(reads.assignments_page, node)

    async def assignments_of_segment(self, segment: str) -> list[Assignment]:
        return await self._read(reads.assignments_of_segment, segment)

    async def change_assignments(
        self,
        leader: Leader,
        put: Sequence[Assignment],
        remove: Sequence[tuple[str, str]],
        seen: int | None = None,
    ) -> list[str]:
        return await self._decide(changes.change_assignments, leader, put, remove, seen)

    async def deletions(self) -> int:
        return await self._read(reads.deletions)

    async def announce_version(self, copy: CanonicalCopy) -> None:
        await self._decide(changes.announce_version, copy)

    async def forget_segment(self, segment: str) -> None:
        await self._decide(changes.forget_segment, segment)

    def watch_assignments(self, node: str, listener: Callable[[AssignmentChanges], None]) -> Watch:
        return self._watcher.add(assignment_source(node), listener)

    # -- the shape of the cluster ----------------------------------------------

    async def rings(self) -> dict[str, int]:
        return await self._read(reads.rings)

    async def save_rings(
        self, leader: Leader, rings: Mapping[str, int], known: Mapping[str, int]
    ) -> None:
        await self._decide(changes.save_rings, leader, dict(rings), dict(known))

    # -- schemas ---------------------------------------------------------------

    async def schemas(self) -> list[str]:
        return await self._read(reads.schemas)

    async def schema(self, name: str) -> Schema:
        return await self._read(reads.schema, name)

    async def put_schema(self, schema: Schema) -> bool:
        return await self._decide(changes.put_schema, schema)


def _portions(rows: Sequence[T]) -> list[Sequence[T]]:
    return [rows[start : start + PORTION] for start in range(0, len(rows), PORTION)]
