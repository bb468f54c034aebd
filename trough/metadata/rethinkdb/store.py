"""The metadata store of a cluster: RethinkDB.

Decisions (leadership, locks, schemas, plans) are conditional writes with hard durability on a
majority. Heartbeats and copies are soft writes in batches. If a table has lost its majority, reads
go on from the remaining servers: nothing can be renewed then, so the last state counts as the
present one. The terms are in :mod:`trough.metadata.rethinkdb.reads` and
:mod:`trough.metadata.rethinkdb.writes`, the rows in :mod:`trough.metadata.rethinkdb.rows`. This
module knows in which order and how the terms run, and what their answers mean.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from rethinkdb import errors as reql
from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults
from twisted.logger import Logger

from trough import errors
from trough.executors.pool.task_pool import TaskPool
from trough.metadata import (
    AssignmentChanges,
    ForeignRow,
    LockChanges,
    Metadata,
    Replicas,
    StoreOutage,
    StoreUser,
    Watch,
    conditions,
    patterns,
)
from trough.metadata.rethinkdb import reads, rows
from trough.metadata.rethinkdb import writes as changes
from trough.metadata.rethinkdb.cluster import Ambiguous, Missing, RethinkCluster
from trough.metadata.rethinkdb.foreign import foreign_rows
from trough.metadata.rethinkdb.tables import make_tables, weak_tables
from trough.metadata.rethinkdb.terms import DURABLE, FROZEN, PRESENT, SOFT, STRICT, RethinkRefused
from trough.metadata.rethinkdb.users import make_users
from trough.metadata.rethinkdb.watch import FeedWatch
from trough.metadata.url import RethinkAddress
from trough.model import (
    READ,
    WRITE,
    Assignment,
    CanonicalCopy,
    Copy,
    Inventory,
    Leader,
    Lock,
    Schema,
    Worker,
)
from trough.util.waiting import first_error

_log = Logger()

T = TypeVar("T")

#: Rows of a write, and segments of a look-up. RethinkDB works on one portion in one go,
#: and everything else on the connection waits for some milliseconds.
PORTION = 400
#: Rows that are read at once.
PAGE = 2000
#: Portions under way at once.
AT_ONCE = 4
#: One worker may hold more locks than RethinkDB's arrays hold elements by default.
MANY = {"array_limit": 10_000_000}


class RethinkMetadata(Metadata):
    """The database at `address`.

    :param ready: whether it counts as open only once its tables can be written to
    :param locate: where a path of canonical storage is, for those who read assignments
    :param tasks: where patterns are compiled; None: in processes of its own
    :param options: see :class:`RethinkCluster`
    """

    def __init__(
        self,
        address: RethinkAddress,
        reactor: Any,
        ready: bool = True,
        locate: rows.Locate = str,
        tasks: TaskPool | None = None,
        **options: float,
    ) -> None:
        self._ready = ready
        self._locate = locate
        self._tasks = tasks or TaskPool(reactor)
        self._owns_tasks = tasks is None
        self._cluster = RethinkCluster(address, reactor, **options)
        self._watches: list[FeedWatch] = []
        self._incarnations: dict[str, str] = {}

    # -- life ------------------------------------------------------------------

    async def open(self) -> None:
        self._cluster.start()
        if self._ready:
            await make_tables(self._cluster)
        else:
            # A tool saves a round trip: it looks for tables once it misses one.
            self._cluster.unchecked = True
            await self._cluster.connected(self._cluster.deadline)

    async def close(self) -> None:
        for watch in self._watches:
            watch.stop()
        if self._owns_tasks:
            await self._tasks.close()
        await self._cluster.stop()

    def foreign_rows(self) -> AsyncIterator[ForeignRow]:
        return foreign_rows(self._run)

    @property
    def absence(self) -> StoreOutage | None:
        return self._cluster.absence

    async def make_users(self, users: Sequence[StoreUser], new_passwords: bool) -> set[str]:
        await make_tables(self._cluster, self._ready)  # rights are granted for each of them
        return await make_users(self._cluster, users, new_passwords)

    async def _look(self, term: Callable[..., Any], *args: Any) -> Any:
        """Ask for the present state, or else the last state that could be read."""
        try:
            return await self._run(term(PRESENT, *args), patient=False)
        except RethinkRefused:
            return await self._run(term(FROZEN, *args))

    async def _decide(self, term: Any) -> Any:
        return _checked(await self._run(term, DURABLE))

    async def _note(self, term: Any) -> Any:
        return _checked(await self._run(term, SOFT))

    async def _run(
        self, term: Any, options: Mapping[str, Any] | None = None, patient: bool = True
    ) -> Any:
        try:
            return await self._cluster.run(term, options, patient=patient)
        except Ambiguous:
            # Somebody's tables came in sight after ours had been made.
            await make_tables(self._cluster)
            return await self._cluster.run(term, options, patient=patient)
        except Missing:
            self._cluster.unchecked = False
            await make_tables(self._cluster, self._ready)
            return await self._cluster.run(term, options, patient=patient)

    async def _as_leader(self, leader: Leader, change: Any) -> Any:
        answer = await self._decide(change)
        if answer["done"] is None:
            conditions.refuse_other_leader(rows.leader(answer["leader"]), leader)
        return answer["done"]

    async def _each(
        self, function: Callable[[Any], Coroutine[Any, Any, Any]], values: Sequence[Any]
    ) -> list[Any]:
        """Call `function` with portions of `values`, some at once."""
        gate = DeferredSemaphore(AT_ONCE)
        portions = [values[start : start + PORTION] for start in range(0, len(values), PORTION)]
        running = [gate.run(function, portion) for portion in portions]
        return await first_error(gatherResults(running, consumeErrors=True))

    # -- leadership ------------------------------------------------------------

    async def campaign(self, candidate: Leader) -> Leader:
        row = await self._decide(changes.campaign(candidate))
        leader = rows.leader(row)
        assert leader is not None, "somebody leads after a campaign"
        return leader

    async def leader(self) -> Leader | None:
        return rows.leader(await self._look(reads.leading))

    async def resign(self, leader: Leader) -> None:
        await self._decide(changes.resign(leader))

    # -- workers ---------------------------------------------------------------

    async def register_worker(self, worker: Worker) -> None:
        row = await self._decide(changes.start_worker(worker, _new_name()))
        conditions.refuse_other_worker(rows.worker(row), worker)
        await self._remove_copies(worker.node)
        await self.beat(worker)

    async def beat(self, worker: Worker) -> bool:
        row = await self._note(changes.beat(worker, _new_name()))
        conditions.refuse_other_worker(rows.worker(row), worker)
        before = self._incarnations.get(worker.node)
        self._incarnations[worker.node] = row["incarnation"]
        return row["incarnation"] == before

    async def withdraw_worker(self, worker: Worker) -> None:
        await self._decide(changes.retire_worker(worker))
        await self._remove_copies(worker.node)
        await self._decide(changes.remove_marked(worker.node))

    async def workers(self) -> list[Worker]:
        return rows.workers(await self._look(reads.workers))

    async def worker(self, node: str) -> Worker | None:
        row = await self._run(reads.last_row(node))
        return None if row is None else rows.worker(row, ())

    async def set_draining(self, node: str, draining: bool) -> None:
        await self._decide(changes.set_draining(node, draining))

    async def pause(self, node: str, seconds: float) -> None:
        await self._decide(changes.pause(node, seconds))

    async def paused(self) -> dict[str, float]:
        return dict(await self._run(reads.paused()))

    async def weak_tables(self) -> dict[str, Replicas]:
        try:
            found = await self._run(reads.replicas(self._cluster.address.database))
        except errors.BadSettings:
            return {}  # this user may not look; everything else of a status it may
        return weak_tables(found["servers"], found["tables"])

    async def draining(self) -> set[str]:
        return set(await self._look(reads.draining))

    async def clock_offsets(self) -> dict[str, float]:
        return await self._cluster.clock_offsets()

    async def reap(self, leader: Leader, slack: float = 0.0) -> list[str]:
        dead = await self._as_leader(leader, changes.as_leader(leader, changes.mark_dead(slack)))
        reaped = []
        for node in sorted(dead):
            await self._remove_copies(node, leader)
            if (await self._decide(changes.remove_marked(node)))["deleted"]:
                reaped.append(node)
        return reaped

    async def forget_worker(self, node: str) -> None:
        conditions.refuse_live_worker(node, await self._decide(changes.mark_lost(node)))
        await self._remove_copies(node)
        await self._decide(changes.remove_marked(node))
        await self.set_draining(node, False)
        await self._decide(changes.forget_place(node))
        await self._decide(changes.forget_disk_counter(node))

    async def note_disk_counter(self, node: str, counter: int) -> None:
        await self._note(changes.note_disk_counter(node, counter))

    async def disk_counter(self, node: str) -> int:
        return int(await self._run(reads.disk_counter(node)))

    async def _remove_copies(self, node: str, leader: Leader | None = None) -> None:
        for role in (READ, WRITE):
            removed = PORTION
            while removed:
                remove = changes.remove_copies_of_marked(node, role, PORTION)
                if leader is None:
                    removed = await self._note(remove)
                else:
                    removed = await self._as_leader(leader, changes.as_leader(leader, remove))

    # -- copies ----------------------------------------------------------------

    async def publish_copies(self, copies: Sequence[Copy]) -> None:
        await self._each(lambda portion: self._note(changes.publish_copies(portion)), copies)

    async def withdraw_copies(self, node: str, segments: Collection[str], role: str) -> None:
        await self._each(
            lambda portion: self._note(changes.withdraw_copies(node, portion, role)), list(segments)
        )

    async def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        portions = await self._each(
            lambda portion: self._look(reads.copies_of, portion), list(segments)
        )
        return rows.by_segment(row for portion in portions for row in portion)

    async def segments_matching(self, pattern: str | None) -> AsyncIterator[list[Copy]]:
        await self._try_pattern(pattern)
        states = rows.worker_states(await self._look(reads.worker_states))
        last: str | None = ""
        while last is not None:
            answer = await self._look(reads.readable_page, pattern, last, PAGE)
            last = answer["last"]
            page = rows.living_copies(answer["rows"], states)
            if page:
                yield page

    async def _try_pattern(self, pattern: str | None) -> None:
        if pattern is None:
            return
        await patterns.check(self._tasks, pattern)
        try:
            await self._run(reads.try_pattern(pattern))
        except reql.ReqlQueryLogicError as error:
            raise conditions.bad_pattern(pattern, error.message) from error

    # -- which segments there are ------------------------------------------------

    async def existing(self, pattern: str | None) -> AsyncIterator[list[str]]:
        await self._try_pattern(pattern)
        seen: set[str] = set()
        living = rows.worker_states(await self._look(reads.worker_states))
        for part in reads.existing_ranges(pattern):
            states = living if part.of_copies else {}
            last, more = None, True
            while more:
                answer = await self._run(reads.existing_page(part, pattern, last, PAGE))
                last, more = answer["last"], answer["last"] is not None
                if page := rows.new_ids(answer["rows"], states, seen):
                    yield page
        unplaced = [{"segment": each} for each in await self._run(reads.unplaced(pattern))]
        if page := rows.new_ids(unplaced, {}, seen):
            yield page

    async def first_existing(self, pattern: str | None, after: str, most: int) -> list[str]:
        await self._try_pattern(pattern)
        living = rows.worker_states(await self._look(reads.worker_states))
        unplaced = [{"segment": each} for each in await self._run(reads.unplaced(pattern))]
        found = set(rows.new_ids(unplaced, {}, set()))
        for each in reads.existing_ranges(pattern):
            part = reads.beginning_after(each, after)
            states = living if part.of_copies else {}
            # Each range is in the order of ids, so no more than `most` of one can be needed.
            ids: set[str] = set()
            last, more = None, True
            while more and len(ids) < most:
                answer = await self._run(reads.existing_page(part, pattern, last, PAGE))
                last, more = answer["last"], answer["last"] is not None
                new = rows.new_ids(answer["rows"], states, set())
                ids.update(segment for segment in new if segment > after)
            found |= ids
        return sorted(segment for segment in found if segment > after)[:most]

    async def inventory(self) -> Inventory:
        return rows.inventory(await self._run(reads.inventory()))

    async def save_inventory(
        self, leader: Leader, known: bool, unplaced: Collection[str]
    ) -> Inventory:
        change = changes.save_inventory(leader, known, unplaced)
        return rows.inventory(await self._as_leader(leader, change))

    # -- write locks -----------------------------------------------------------

    async def take_lock(self, segment: str, node: str, disk: str = "") -> Lock:
        lock = None
        while lock is None:
            # None: it changed hands while it was looked at.
            row = await self._decide(changes.take_lock(segment, node, disk, _new_name()))
            rows.refuse_foreign_lock(row)
            lock = rows.lock(row)
        return lock

    async def change_lock(self, expected: Lock, wanted: Lock) -> Lock | None:
        row = await self._decide(changes.change_lock(expected, wanted))
        rows.refuse_foreign_lock(row)
        return rows.lock(row)

    async def lock_of(self, segment: str) -> Lock | None:
        while True:
            row = await self._decide(changes.lock_of(segment))
            rows.refuse_foreign_lock(row)
            if row is None or "epoch" in row:
                return rows.lock(row)

    async def locks(self, node: str | None = None) -> list[Lock]:
        found = []
        if node is not None:
            found = await self._run(reads.locks_of_worker(node), MANY)
        else:
            async for page in self._pages(reads.locks_page):
                found += page
        places = [(row, rows.locked(row)) for row in found]
        completed = [
            rows.lock(row) or await self.lock_of(place[0]) for row, place in places if place
        ]
        return sorted(
            (lock for lock in completed if lock is not None and node in (None, lock.node)),
            key=lambda lock: lock.segment,
        )

    async def count_locks(self, node: str | None = None) -> int:
        return await self._run(reads.count_locks(node))

    async def release_lock(self, lock: Lock) -> None:
        left = rows.lock(await self._decide(changes.release_lock(lock)))
        if left is not None:
            conditions.refuse_other_lock(left, lock)

    async def check_lock(self, lock: Lock) -> None:
        conditions.refuse_other_lock(await self.lock_of(lock.segment), lock)

    async def mark_dirty(self, lock: Lock) -> None:
        left = rows.lock(await self._decide(changes.mark_dirty(lock)))
        conditions.refuse_other_lock(left, lock)

    async def mark_clean(self, locks: Sequence[Lock]) -> None:
        await self._each(lambda portion: self._note(changes.mark_clean(portion)), locks)

    async def release_clean_locks(self, leader: Leader, node: str) -> list[str]:
        released: list[str] = []
        while True:
            done = await self._as_leader(leader, changes.release_clean_locks(leader, node, PORTION))
            found = [rows.locked(change["old_val"]) for change in done.get("changes", ())]
            released += [place[0] for place in found if place is not None]
            if not done["deleted"]:
                return sorted(released)

    def watch_locks(self, listener: Callable[[LockChanges], None]) -> Watch:
        def told(full: bool, new: Sequence[rows.Row], gone: Sequence[rows.Row]) -> None:
            # One that has no epoch yet is told when it gets it: a moment later, unless its
            # taker died or was of an original installation.
            held = [lock for lock in map(rows.lock, new) if lock is not None]
            released = [place[0] for place in map(rows.locked, gone) if place is not None]
            if full:
                for row in new:
                    place = rows.locked(row)
                    if place is not None and rows.lock(row) is None:
                        self._complete(place[0])
            if full or held or released:
                listener(LockChanges(full, held, released))

        return self._watch(reads.watch_locks(), told)

    def _complete(self, segment: str) -> None:
        completing = Deferred.fromCoroutine(self.lock_of(segment))
        completing.addErrback(
            lambda failure: _log.warn(
                "no epoch yet for the lock of {segment}: {error}",
                segment=segment,
                error=failure.value,
            )
        )

    # -- assignments -----------------------------------------------------------

    async def assignments(self, node: str | None = None) -> AsyncIterator[list[Assignment]]:
        async for page in self._pages(reads.assignments_page, PRESENT, node):
            yield rows.assignments(page)

    async def _pages(self, term: Callable[..., Any], *args: Any) -> AsyncIterator[list[rows.Row]]:
        last = ""
        while page := await self._run(term(*args, last, PAGE)):
            yield page
            last = page[-1]["id"]

    async def assignments_of_segment(self, segment: str) -> list[Assignment]:
        found = await self._look(reads.assignments_of_segment, segment)
        return sorted(rows.assignments(found), key=lambda assignment: assignment.node)

    async def change_assignments(
        self,
        leader: Leader,
        put: Sequence[Assignment],
        remove: Sequence[tuple[str, str]],
        seen: int | None = None,
    ) -> list[str]:
        change = changes.change_assignments(leader, put, remove, self._locate, seen)
        done = await self._as_leader(leader, change)
        if "last" in done:
            conditions.refuse_forgotten_deletions(int(done["last"]), seen or 0)
        for result in done.values():
            _checked(result)
        return sorted(set(done["deleted"]).intersection(row.segment for row in put))

    async def deletions(self) -> int:
        return int(await self._run(reads.last_deletion()))

    async def announce_version(self, copy: CanonicalCopy) -> None:
        await self._decide(changes.announce_version(copy, self._locate))

    async def forget_segment(self, segment: str) -> None:
        holder = await self._decide(changes.forget_assignments(segment))
        holder = holder or await self._note(changes.forget_copies(segment))
        conditions.refuse_written(segment, holder)

    def watch_assignments(self, node: str, listener: Callable[[AssignmentChanges], None]) -> Watch:
        def told(full: bool, new: Sequence[rows.Row], gone: Sequence[rows.Row]) -> None:
            removed = [each.segment for each in rows.assignments(gone)]
            listener(AssignmentChanges(full, rows.assignments(new), removed))

        return self._watch(reads.watch_assignments(node), told)

    def _watch(self, term: Any, told: Callable[..., None]) -> Watch:
        watch = FeedWatch(self._cluster, term, told)
        self._watches = [other for other in self._watches if not other.running.called]
        self._watches.append(watch)
        return watch

    # -- the shape of the cluster ----------------------------------------------

    async def rings(self) -> dict[str, int]:
        # A worker that is not among them was removed: an old answer will not do.
        return dict(await self._run(reads.rings(STRICT)))

    async def save_rings(
        self, leader: Leader, rings: Mapping[str, int], known: Mapping[str, int]
    ) -> None:
        saved = await self._as_leader(leader, changes.save_rings(leader, rings, known))
        conditions.refuse_other_rings(saved, rings)

    # -- schemas ---------------------------------------------------------------

    async def schemas(self) -> list[str]:
        return sorted(await self._look(reads.schemas))

    async def schema(self, name: str) -> Schema:
        return rows.schema(await self._look(reads.schema, name), name)

    async def put_schema(self, schema: Schema) -> bool:
        conditions.refuse_other_default(schema)
        return (await self._decide(changes.put_schema(schema)))["inserted"] > 0


def _checked(answer: Any) -> Any:
    """The answer to a write, which contains its failure and does not raise it."""
    if isinstance(answer, dict) and answer.get("errors"):
        raise errors.Unavailable(f"RethinkDB: {answer.get('first_error')}")
    return answer


def _new_name() -> str:
    return uuid.uuid4().hex
