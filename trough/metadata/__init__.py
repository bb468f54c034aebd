"""The interface of the metadata store.

The store publishes the leader, the living workers, the copies that they serve, write locks,
assignments and schemas. Callers deal with these, and never with tables, SQL or ReQL.

For every call:

* it can fail with :class:`trough.errors.Unavailable`, and then a change may or may
  not have happened; each change is idempotent, so asking again is safe;
* a conditional change is atomic in the store, and fails with a leaf of
  :class:`trough.errors.Conflict` where the condition does not hold;
* only the store's clock decides what is alive. Expired rows are not returned, even while they
  exist.

All methods are coroutines on the reactor's thread, except the two ``watch_`` ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from trough import errors
from trough.model import Assignment, CanonicalCopy, Copy, Inventory, Leader, Lock, Schema, Worker


class UserRefused(errors.BadSettings):
    """The store refuses the user: a wrong password, or a right that the user lacks."""


@dataclass(frozen=True, slots=True)
class AssignmentChanges:
    """What a watcher of assignments receives.

    :ivar full: `changed` is everything, and all else that was known is gone; always so for the
        first notice and after a reconnect
    :ivar changed: assignments that are new or have another canonical version
    :ivar removed: ids of segments that are no longer assigned
    """

    full: bool
    changed: Sequence[Assignment] = ()
    removed: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class LockChanges:
    """What a watcher of write locks receives; see :class:`AssignmentChanges`."""

    full: bool
    held: Sequence[Lock] = ()
    released: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class StoreOutage:
    """A store that does not answer.

    :ivar reason: why, in one line that names the servers
    :ivar since: seconds, by the reactor's clock
    """

    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class Replicas:
    """Copies of a table on the store's servers.

    :ivar ready: those that are up to date
    :ivar all: those that are configured
    :ivar wanted: those that there should be, given the number of servers
    """

    ready: int
    all: int
    wanted: int


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """A row that Trough did not write, cannot use and passes over.

    :ivar table: where it is
    :ivar key: its primary key
    :ivar reason: why it is passed over
    """

    table: str
    key: str
    reason: str


class Watch(ABC):
    """A running watch.

    :ivar outdated_since: since when changes may have been missed: seconds by the reactor's clock,
        until the first notice and after a loss of the store; None while every change arrives.
        Each read looks at it
    """

    outdated_since: float | None

    @abstractmethod
    def stop(self) -> None:
        """End it; the listener is not called any more. Idempotent."""


@dataclass(frozen=True, slots=True)
class StoreUser:
    """A user of a metadata store.

    :ivar writes: whether as a server; clients read
    """

    name: str
    password: str = field(repr=False)
    writes: bool = False


class Metadata(ABC):
    """A metadata store; see the module's text for what all calls promise."""

    # -- life ------------------------------------------------------------------

    @abstractmethod
    async def open(self) -> None:
        """Connect, and create what is missing. Idempotent.

        :raises trough.errors.Unavailable: the store cannot be reached
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop all watches and release every resource. Idempotent."""

    def foreign_rows(self) -> AsyncIterator[ForeignRow]:
        """Rows that this store passes over; a store of Trough's own has none."""
        return _nothing()

    @property
    def absence(self) -> StoreOutage | None:
        """Why no call is answered now, as far as that is known without asking; None: not
        known of. On any thread, at once: calls themselves wait for a store to come back.
        """
        return None

    async def clock_offsets(self) -> dict[str, float]:
        """By how many seconds the clock of each of the store's servers is ahead of the others;
        empty where one clock decides."""
        return {}

    async def make_users(self, users: Sequence[StoreUser], new_passwords: bool) -> set[str]:
        """Make users of the store, with the permissions that each needs; one that is there gets
        the permissions. Whoever opened the store has to be allowed to.

        :param new_passwords: whether one that is there gets the new password, too
        :return: the names of those whose password is the given one now
        :raises trough.errors.BadRequest: this store has no users
        :raises trough.errors.BadSettings: this user may not make others
        """
        raise errors.BadRequest(
            "an embedded registry has no users", "whoever may open its file may use it"
        )

    async def weak_tables(self) -> dict[str, Replicas]:
        """Tables with fewer replicas than they should have, by name; empty where a store has
        none."""
        return {}

    # -- leadership ------------------------------------------------------------

    @abstractmethod
    async def campaign(self, candidate: Leader) -> Leader:
        """Take the leadership if it is free, renew it if `candidate` has it.

        Free is: never taken, given back, or not renewed for its ttl. Taking it
        raises the generation by one; renewing keeps it.

        :param candidate: its ``generation`` is ignored
        :return: the present leader; that is the candidate if ``identity`` is its own
        """

    @abstractmethod
    async def leader(self) -> Leader | None:
        """The present leader, or None."""

    @abstractmethod
    async def resign(self, leader: Leader) -> None:
        """Give the leadership back, so that the next one need not wait for the ttl.

        Without effect where `leader` (identity and generation) leads no more.
        """

    # -- workers ---------------------------------------------------------------

    @abstractmethod
    async def register_worker(self, worker: Worker) -> None:
        """Announce a worker that starts: copies that an earlier run of it published
        are gone, since it serves none yet.

        :raises trough.errors.NameTaken: a live row of this name has another identity
        """

    @abstractmethod
    async def beat(self, worker: Worker) -> bool:
        """Renew a worker's row: one write, however much the worker holds.

        Writes the whole row again if it was removed meanwhile.

        :return: whether all that it published is still there; False: some or all of it was
            removed, and everything has to be published again
        :raises trough.errors.NameTaken: a live row of this name has another identity
        """

    @abstractmethod
    async def withdraw_worker(self, worker: Worker) -> None:
        """Remove the row and all copies of a worker that stops. Its assignments
        and locks stay."""

    @abstractmethod
    async def workers(self) -> list[Worker]:
        """All live workers, by name. `draining` is as :meth:`set_draining` left it."""

    @abstractmethod
    async def worker(self, node: str) -> Worker | None:
        """The row that a worker wrote last, whether or not it counts as alive, or None. For a
        caller that then asks the worker itself."""

    @abstractmethod
    async def set_draining(self, node: str, draining: bool) -> None:
        """Record that a worker is to be emptied, or no longer; outlives its restarts."""

    @abstractmethod
    async def draining(self) -> set[str]:
        """Names of the workers that are to be emptied, alive or not."""

    @abstractmethod
    async def pause(self, node: str, seconds: float) -> None:
        """Have a worker's copies not moved for so long, alive or not; 0: no longer."""

    @abstractmethod
    async def paused(self) -> dict[str, float]:
        """Until when the copies of which workers are not moved, in seconds since the epoch;
        what is over is left out."""

    @abstractmethod
    async def reap(self, leader: Leader, slack: float = 0.0) -> list[str]:
        """Remove rows and copies of every worker whose own row ran out.

        :param slack: seconds by which the servers' clocks may differ
        :return: names of the workers reaped
        :raises trough.errors.NotLeader: `leader` leads no more; nothing was removed
        """

    @abstractmethod
    async def forget_worker(self, node: str) -> None:
        """Remove the records of a worker that will not return: its row, its copies, its place
        on a ring, its disk's counter, and that it was to be emptied. Its locks stay for an operator
        to free, and its assignments for the leader to move.

        Idempotent; without effect on an unknown worker.

        :raises trough.errors.Conflict: it is alive; nothing was removed
        """

    @abstractmethod
    async def note_disk_counter(self, node: str, counter: int) -> None:
        """Remember the number that a worker's disk has by now; see
        :mod:`trough.worker.disk_counter`. A number that is not greater than the one known is
        ignored. Soft: it may be lost when the store loses its power."""

    @abstractmethod
    async def disk_counter(self, node: str) -> int:
        """The greatest number that was noted for a worker, alive or not; 0 for none."""

    # -- copies ----------------------------------------------------------------

    @abstractmethod
    async def publish_copies(self, copies: Sequence[Copy]) -> None:
        """Publish that these can be served now. Batched by the store; replaces rows of the same
        segment, worker and role."""

    @abstractmethod
    async def withdraw_copies(self, node: str, segments: Collection[str], role: str) -> None:
        """Withdraw what `node` published of these in `role`."""

    @abstractmethod
    async def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        """The copies that can be served now, in both roles.

        A copy is alive while its own row is and, where its worker has a row, while
        that one is too; its load is then that worker's present one. Within a
        segment by role, then load, then worker.
        Segments without a copy are left out.
        """

    @abstractmethod
    def segments_matching(self, pattern: str | None) -> AsyncIterator[list[Copy]]:
        """Pages of all live copies in role READ whose segment id matches.

        :param pattern: a regular expression that is searched for in the id, or None
            for every segment. RethinkDB takes those that its RE2 takes as well: no
            looking around, no back-references. A page is not ordered, and what is published or
            withdrawn meanwhile may or may not be seen.
        :raises trough.errors.BadRequest: the pattern is no regular expression
        """

    # -- which segments there are ------------------------------------------------

    @abstractmethod
    def existing(self, pattern: str | None) -> AsyncIterator[list[str]]:
        """Pages of the ids of all segments that exist and match, each once: those that are
        assigned, locked, in canonical storage without a worker that takes them, or served.

        Also segments that cannot be read now. A segment that exists from the beginning to the end
        is found, whatever changes meanwhile. The answer is complete only if :meth:`inventory` is
        known, and the same before and after. For a pattern that begins with ``^`` and some letters,
        only that part of an index is read.

        :param pattern: see :meth:`segments_matching`
        :raises trough.errors.BadRequest: the pattern is no regular expression
        """

    @abstractmethod
    async def first_existing(self, pattern: str | None, after: str, most: int) -> list[str]:
        """The first ids of :meth:`existing`, in their order.

        It reads no more of an index than it needs to find that many.

        :param after: ids before this one, and it, are left out; empty: none is
        :param most: how many
        :raises trough.errors.BadRequest: the pattern is no regular expression
        """

    @abstractmethod
    async def inventory(self) -> Inventory:
        """The leader's last record of whether the store lists all segments."""

    @abstractmethod
    async def save_inventory(
        self, leader: Leader, known: bool, unplaced: Collection[str]
    ) -> Inventory:
        """Record whether the store lists all segments.

        :param unplaced: segments in canonical storage that no worker can take at present;
            some thousands at most
        :raises trough.errors.NotLeader: `leader` leads no more; nothing was changed
        """

    # -- write locks -----------------------------------------------------------

    @abstractmethod
    async def take_lock(self, segment: str, node: str, disk: str = "") -> Lock:
        """Take the write lock for `node`, unless a worker has it.

        :param disk: of the worker, if it is going to replicate the segment
        :return: the lock as it is now; its ``node`` is the holder. A new lock's epoch is greater
            than any that this segment ever had.
        """

    @abstractmethod
    async def change_lock(self, expected: Lock, wanted: Lock) -> Lock | None:
        """Change holder, epoch, revision and followers of a lock, in one conditional write on
        the whole row. Without effect unless all of these are as in `expected`.

        Another holder has the lock from now on, and dirty. Its epoch is the least that the lock
        may get when it is taken next, less one.

        :return: the lock as it is then: as `wanted` if it was changed, now or by an earlier call;
            None: it was released
        """

    @abstractmethod
    async def lock_of(self, segment: str) -> Lock | None:
        """The write lock of `segment`, whether or not its holder lives."""

    @abstractmethod
    async def locks(self, node: str | None = None) -> list[Lock]:
        """All write locks, or those of one worker, by segment."""

    @abstractmethod
    async def count_locks(self, node: str | None = None) -> int:
        """How many write locks there are, or one worker has; none of them is read for that."""

    @abstractmethod
    async def release_lock(self, lock: Lock) -> None:
        """Give up a lock. Without effect where it is gone already.

        :raises trough.errors.Fenced: the segment's lock now has another holder or epoch
        """

    @abstractmethod
    async def check_lock(self, lock: Lock) -> None:
        """Assure, with the strictest read that the store has, that `lock` is in force.

        :raises trough.errors.Fenced: it is gone, or has another holder or epoch
        """

    @abstractmethod
    async def mark_dirty(self, lock: Lock) -> None:
        """Remember on disk that there may be unpromoted writes under `lock`, from its
        ``dirty_since`` on. To be done before the first of them is acknowledged. A lock is dirty
        from its taking on; watchers are not told of marks.

        :raises trough.errors.Fenced: it is not in force
        """

    @abstractmethod
    async def mark_clean(self, locks: Sequence[Lock]) -> None:
        """Remember that everything under these locks is promoted.

        Without effect on a lock whose ``dirty_since`` is another one by now: so a call that is
        carried out late, after the next :meth:`mark_dirty`, does no harm.
        """

    @abstractmethod
    async def release_clean_locks(self, leader: Leader, node: str) -> list[str]:
        """Release the locks of a worker that is dead, as far as they are marked clean.

        :return: the segments whose locks were released
        :raises trough.errors.NotLeader: `leader` leads no more; nothing was changed
        """

    @abstractmethod
    def watch_locks(self, listener: Callable[[LockChanges], None]) -> Watch:
        """Call `listener` with the locks there are, and then with every change,
        within a second of it; in order, on the reactor's thread."""

    # -- assignments -----------------------------------------------------------

    @abstractmethod
    def assignments(self, node: str | None = None) -> AsyncIterator[list[Assignment]]:
        """Pages of all assignments, or of one worker's."""

    @abstractmethod
    async def assignments_of_segment(self, segment: str) -> list[Assignment]:
        """All assignments of one segment, by worker."""

    @abstractmethod
    async def change_assignments(
        self,
        leader: Leader,
        put: Sequence[Assignment],
        remove: Sequence[tuple[str, str]],
        seen: int | None = None,
    ) -> list[str]:
        """Carry out a part of a plan: some hundreds of rows a call.

        A segment that was deleted after the leader looked for its file is not assigned again.
        Where both happen at once on RethinkDB, its row may be there for a millisecond.

        :param put: to add, or to replace where the same worker has the segment;
            stored with the leader's generation
        :param remove: pairs of worker and segment
        :param seen: what :meth:`deletions` answered before that look; None: nothing of `put` can
            have been deleted
        :return: segments of `put` that were not assigned, because they were deleted since
        :raises trough.errors.NotLeader: `leader` leads no more; nothing was changed
        :raises trough.errors.Conflict: so many were deleted since that not all are remembered;
            nothing was changed
        """

    @abstractmethod
    async def deletions(self) -> int:
        """The number of the last deletion of a segment; grows with each, see
        :meth:`forget_segment`."""

    @abstractmethod
    async def announce_version(self, copy: CanonicalCopy) -> None:
        """Announce a new canonical copy to every worker that the segment is assigned to.

        Any process may do that. A version that is not later than the known one is ignored.
        """

    @abstractmethod
    async def forget_segment(self, segment: str) -> None:
        """Remove all assignments and copies of a segment that was deleted, and remember that
        for :meth:`change_assignments`.

        :raises trough.errors.LockHeld: somebody writes it; what he published stays
        """

    @abstractmethod
    def watch_assignments(self, node: str, listener: Callable[[AssignmentChanges], None]) -> Watch:
        """As :meth:`watch_locks`, for the assignments of one worker."""

    # -- the shape of the cluster ----------------------------------------------

    @abstractmethod
    async def rings(self) -> dict[str, int]:
        """Which worker is on which hash ring, dead workers included."""

    @abstractmethod
    async def save_rings(
        self, leader: Leader, rings: Mapping[str, int], known: Mapping[str, int]
    ) -> None:
        """Replace what :meth:`rings` answers, as long as that is `known`.

        :raises trough.errors.NotLeader: `leader` leads no more; nothing was changed
        :raises trough.errors.Conflict: it is something else by now, as after
            :meth:`forget_worker`; nothing was changed
        """

    # -- schemas ---------------------------------------------------------------

    @abstractmethod
    async def schemas(self) -> list[str]:
        """Names of all schemas, sorted; ``default`` is always among them."""

    @abstractmethod
    async def schema(self, name: str) -> Schema:
        """One schema.

        :raises trough.errors.NoSuchSchema: no schema has this name
        """

    @abstractmethod
    async def put_schema(self, schema: Schema) -> bool:
        """Add or replace a schema, whose SQL the caller has tried.

        :return: whether it is new
        :raises trough.errors.BadSchema: other SQL than none for ``default``
        """


async def _nothing() -> AsyncIterator[ForeignRow]:
    return
    yield
