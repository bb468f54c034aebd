"""What a sync server does while it leads: scan, plan, and carry the plan out.

One :class:`LeaderTerm` is one term of leadership, with its own generation. It reads everything at
its beginning and forgets it at its end. It promises to change nothing once its lease may have
ended: it stops by its own clock, and the store checks with each change that it still leads.

If canonical storage or the metadata store is away, that delays a round and nothing else. Work that
takes long for millions of segments runs on a thread. Meanwhile this server answers, and renews its
lease.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.leader.dead_workers import DeadWorkers
from trough.leader.placement.planner import Plan, Planner
from trough.leader.server_clocks import ServerClocks
from trough.leader.storage_scan import MOST_SKIPPED, StorageScan, report_skipped
from trough.metadata import LockChanges, Metadata, Watch
from trough.model import READ, CanonicalCopy, Leader, Lock
from trough.storage import Changes, Listing, Storage
from trough.tls import TlsFiles
from trough.util.periodic import Periodic
from trough.util.threads import ThreadPoolService
from trough.util.trouble_log import Section, TroubleLog
from trough.util.wording import counted

_log = Logger()

#: Seconds for which failing rounds are not reported: most failures pass.
HICCUP = 10.0

#: Steps that are planned, and written, at once.
STEPS = 500

#: Plans that are carried out in one round, at most: news come between rounds.
PLANS = 50

#: Segments of which each one's lock is asked for; of more, all locks are read.
FEW = 20

#: Seconds for which a round waits for a look at canonical storage. The first look at
#: millions of files takes longer, and one at a silent server; rounds go on meanwhile.
LOOK_SECONDS = 2.0

#: When more than this share of all segments, and more than this many, are missing from
#: canonical storage at once, a lost mount is likelier than so many deletions.
DOUBTED_SHARE = 0.1
DOUBTED_COUNT = 100


_LOST = "very many segments are missing from canonical storage, and their loss is doubted"


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings for placement; times in seconds.

    :ivar moves_per_second: copies that may move to another worker
    :ivar listing: between two scans of changed directories
    :ivar full_listing: between two scans of every directory; also how long a sudden loss of very
        many segments is doubted
    :ivar reap: between two removals of what belonged to dead workers
    """

    copies_for: Callable[[str], int]
    is_cold: Callable[[str], bool]
    rings: int
    grace: float = 300.0
    moves_per_second: float = 100.0
    listing: float = 1.0
    full_listing: float = 21600.0
    reap: float = 5.0


class Leadership:
    """Begins a reign when this server is elected, and ends it.

    :param threads: where plans are made
    :param tls: with which workers are asked whether they live
    :ivar renewed: when the lease was last asked for with success, by `clock`
    """

    def __init__(
        self,
        metadata: Metadata,
        storage: Storage,
        policy: Policy,
        threads: ThreadPoolService,
        clock: IReactorTime,
        *,
        tls: TlsFiles | None = None,
    ) -> None:
        self.renewed = 0.0
        self._tls = tls or TlsFiles()
        self._metadata = metadata
        self._storage = storage
        self._policy = policy
        self._threads = threads
        self._clock = clock
        self._reign: LeaderTerm | None = None
        self._ending: list[Deferred[None]] = []

    def begin_or_go_on(self, leader: Leader, renewed: float) -> None:
        """This server leads, as of `renewed`."""
        self.renewed = renewed
        if self._reign is not None and self._reign.leader.generation != leader.generation:
            self.end()
        if self._reign is None:
            self._reign = LeaderTerm(
                leader,
                self._metadata,
                self._storage,
                self._policy,
                self._threads,
                is_over=self._is_over,
                clock=self._clock,
                tls=self._tls,
            )
            self._reign.begin()

    def _is_over(self) -> bool:
        reign = self._reign
        return reign is None or self._clock.seconds() - self.renewed > reign.leader.ttl

    def end(self) -> None:
        """This server leads no more. Idempotent."""
        if self._reign is not None:
            reign, self._reign = self._reign, None
            ending = maybeDeferred(reign.end)
            self._ending.append(ending)
            ending.addBoth(lambda _: self._ending.remove(ending))

    async def ended(self) -> None:
        """Return once nothing goes on any more."""
        await DeferredList(list(self._ending))

    def files_of(self, segment: str) -> list[str] | None:
        """Paths of all files of a segment in canonical storage, as of the last look, the one
        that counts last; None while this server does not lead, or has not looked yet."""
        return self._reign.files_of(segment) if self._reign is not None else None

    @property
    def stopped(self) -> str:
        """Why this leader's rounds fail, for longer than a hiccup; or empty."""
        return self._reign.stopped if self._reign is not None else ""

    @property
    def trouble(self) -> str:
        """What an operator has to look at, and the section of the guide; or empty."""
        return self._reign.trouble if self._reign is not None else ""

    def status(self) -> dict[str, Any] | None:
        """Counters for people; None while this server does not lead."""
        return self._reign.status() if self._reign is not None else None


class LeaderTerm:
    """One term of leadership.

    :param is_over: whether the lease may have ended
    """

    def __init__(
        self,
        leader: Leader,
        metadata: Metadata,
        storage: Storage,
        policy: Policy,
        threads: ThreadPoolService,
        *,
        is_over: Callable[[], bool],
        clock: IReactorTime,
        tls: TlsFiles,
    ) -> None:
        self.leader = leader
        self._metadata = metadata
        self._storage = storage
        self._policy = policy
        self._threads = threads
        self._is_over = is_over
        self._clock = clock
        self._planner: Planner | None = None
        self._placement: dict[str, object] | None = None
        self._rings: dict[str, int] = {}
        # What this leader stored last, if it stored anything; see _save_inventory().
        self._inventory: tuple[list[str] | None] | None = None
        self._lock_news: list[LockChanges] = []
        self._watch: Watch | None = None
        self._listing: Listing | None = None
        self._looking: StorageScan | None = None
        # Number of the last deletion in the store before the look under way began, and before
        # the one that was taken in last: what that found may have been deleted since.
        self._deletions = self._seen_deletions = 0
        self._looked_fully = float("-inf")
        self._reaped = float("-inf")
        self._clocks = ServerClocks(metadata, clock)
        self._troubles = TroubleLog(clock)
        self._dead = DeadWorkers(leader, metadata, self._clocks, self._troubles, clock, tls=tls)
        self._storage_away = False
        self._doubted_since: float | None = None
        self._few = 0
        self._few_since: float | None = None
        self._allowance = 0.0
        self._allowed_at = clock.seconds()
        self._counts = dict.fromkeys(
            ("rounds", "refused", "assignments_put", "assignments_removed", "moves"), 0
        )
        self._rounds = Periodic("leading", policy.listing, self._round, clock)

    def begin(self) -> None:
        """Start the rounds."""
        self._rounds.startService()

    async def end(self) -> None:
        """Stop, and wait for the round under way to have stopped."""
        if self._watch is not None:
            self._watch.stop()
        await maybeDeferred(self._rounds.stopService)
        if self._looking is not None:
            await self._looking.end()

    def files_of(self, segment: str) -> list[str] | None:
        """See :meth:`Leadership.files_of`."""
        return self._storage.files_of(segment, self._listing) if self._listing else None

    @property
    def stopped(self) -> str:
        """See :meth:`Leadership.stopped`."""
        failing = self._rounds.failing
        if failing is None or self._clock.seconds() - failing[0] < HICCUP:
            return ""
        return f"the leader's rounds fail, and nothing is assigned: {failing[1]}"

    @property
    def trouble(self) -> str:
        """See :meth:`Leadership.trouble`."""
        cold = self._planner.cold_trouble if self._planner is not None else ""
        found = {
            Section.ROUNDS: self.stopped,
            Section.STORAGE: "canonical storage is away" if self._storage_away else "",
            Section.LOST_FILES: _LOST if self._doubted_since is not None else "",
            Section.TOO_FEW_COPIES: self._too_few_copies(),
            Section.COLD_WORKERS: cold,
            Section.CLOCKS: self._dead.doubt,
        }
        return "; ".join(section.add_to(text) for section, text in found.items() if text)

    def _too_few_copies(self) -> str:
        """What has had too few copies for longer than a missing worker is waited for."""
        if self._few_since is None or self._clock.seconds() - self._few_since < self._policy.grace:
            return ""
        return (
            f"{counted(self._few, 'segment')} with too few copies, or none that a worker could take"
        )

    def _count_few(self, planner: Planner, now: float) -> None:
        self._few = planner.lost_copies + planner.homeless
        if not self._few:
            self._few_since = None
        elif self._few_since is None:
            self._few_since = now

    def _remind(self, planner: Planner) -> None:
        """Log what lasts and has no line where it begins."""
        for section, trouble in (
            (Section.TOO_FEW_COPIES, self._too_few_copies()),
            (Section.COLD_WORKERS, planner.cold_trouble),
        ):
            if trouble:
                self._troubles.remind(section, trouble)

    def status(self) -> dict[str, Any]:
        """Counters for people; JSON-able."""
        return {
            "generation": self.leader.generation,
            "stopped": self.stopped or None,
            **self._counts,
            "skipped_files": dict(islice(self._listing.skipped.items(), MOST_SKIPPED))
            if self._listing
            else {},
            "storage_away": self._storage_away,
            "doubting_a_loss": self._doubted_since is not None,
            "clocks_differ_by": self._clocks.spread,
            "placement": self._placement,
        }

    # -- a round -------------------------------------------------------------------

    async def _round(self) -> None:
        try:
            await self._look_and_plan()
        except errors.NotLeader:
            self._counts["refused"] += 1
            raise
        except CancelledError:
            raise
        except Exception as reason:  # one that nobody expected stops the rounds as well
            if self.stopped:
                self._troubles.report(Section.ROUNDS, "rounds failed", reason)
            raise

    async def _look_and_plan(self) -> None:
        self._check_lease()
        planner = self._planner or await self._learn()
        now = self._clock.seconds()
        workers = await self._metadata.workers()
        if now - self._reaped >= self._policy.reap:
            planner.pause(await self._metadata.paused())
        planner.see_workers(workers, now)
        self._dead.see(workers, now)
        if now - self._reaped >= self._policy.reap:
            await self._reap(planner)
        self._take_in_locks(planner, now)
        await self._look(planner, now)
        await self._carry_out(planner)
        if self._listing is not None and planner.settled:
            await self._save_inventory(planner.unplaced())
        self._count_few(planner, now)
        self._remind(planner)
        self._placement = planner.status()
        self._counts["rounds"] += 1

    def _check_lease(self) -> None:
        if self._is_over():
            raise errors.NotLeader("the lease of this leader may have ended")

    async def _learn(self) -> Planner:
        """Read what the store knows, at the beginning of a reign."""
        policy, now = self._policy, self._clock.seconds()
        self._rings = await self._metadata.rings()
        # The assignments that are read below were there later than these deletions.
        self._seen_deletions = await self._metadata.deletions()
        planner = Planner(
            policy.copies_for, policy.is_cold, policy.rings, policy.grace, self._rings
        )
        planner.pause(await self._metadata.paused())
        workers = await self._metadata.workers()
        planner.see_workers(workers, now)
        self._dead.see(workers, now)
        async for page in self._metadata.assignments():
            planner.see_assignments(page, now)
        if self._watch is None:
            self._watch = self._metadata.watch_locks(self._lock_news.append)
        locks = await self._metadata.locks()
        planner.see_locks(locks, now, whole=True)
        self._dead.see_locks(locks, now)
        self._planner = planner
        return planner

    async def _reap(self, planner: Planner) -> None:
        await self._dead.remove()
        await self._see_forgotten(planner)
        self._reaped = self._clock.seconds()

    async def _see_forgotten(self, planner: Planner) -> None:
        """An operator takes a worker that will not return off its ring, in the store."""
        stored = await self._metadata.rings()
        for node in sorted(self._rings.keys() - stored.keys()):
            _log.info("{node}: was forgotten; its copies move now", node=node)
            planner.forget(node)
        self._rings = stored

    def _take_in_locks(self, planner: Planner, now: float) -> None:
        news, self._lock_news[:] = list(self._lock_news), []
        for changes in news:
            held: list[Lock] = list(changes.held)
            planner.see_locks(held, now, changes.released, whole=changes.full)

    # -- looking at canonical storage -------------------------------------------------

    async def _look(self, planner: Planner, now: float) -> None:
        """Take in what a look at canonical storage finds, if it has come to its end."""
        if self._looking is None:
            self._deletions = await self._metadata.deletions()
            full = now - self._looked_fully >= self._policy.full_listing
            self._looking = StorageScan(self._storage, self._listing, full, self._clock)
        look = self._looking
        if not await look.ends_within(LOOK_SECONDS):
            return
        self._looking = None
        if look.away is not None:
            # Planning goes on with what is known; a worker may have come or gone.
            self._storage_away = True
            self._troubles.report(Section.STORAGE, "looks at canonical storage failed", look.away)
            return
        self._storage_away = False
        changes = look.changes()
        if self._is_doubtful(planner, await self._lost(planner, changes), now):
            return
        if look.full:
            self._looked_fully = now
        await self._learn_locks(planner, changes.present, now)
        if await self._threads.run(planner.has_new, changes.present):
            # Before any of them is assigned: in between the store has some of them and not all.
            await self._save_inventory(None)
        whole = self._listing is None
        await self._threads.run(planner.see_canonical, changes.present, changes.gone, whole)
        self._seen_deletions = self._deletions
        report_skipped(self._listing, changes.listing)
        self._listing = changes.listing

    async def _save_inventory(self, unplaced: list[str] | None) -> None:
        """Record in the store whether it lists all segments.

        :param unplaced: segments in canonical storage that no worker can take; None: they, or
            the segments to be assigned, are not known or too many
        """
        if self._inventory is None or self._inventory[0] != unplaced:
            self._check_lease()
            known = unplaced is not None
            await self._metadata.save_inventory(self.leader, known, unplaced or ())
            self._inventory = (unplaced,)

    async def _learn_locks(
        self, planner: Planner, copies: Collection[CanonicalCopy], now: float
    ) -> None:
        """Find out who writes segments whose files are new.

        A new segment's file can be seen before the news of the lock under which it was made,
        and would be placed elsewhere than where it already is.
        """
        if len(copies) > FEW:
            planner.see_locks(await self._metadata.locks(), now)
            return
        found = [await self._metadata.lock_of(copy.segment) for copy in copies]
        planner.see_locks([lock for lock in found if lock is not None], now)

    async def _lost(self, planner: Planner, changes: Changes) -> int:
        """How many of the segments that are known of are missing from canonical storage.

        Counted one by one at the first look: another cluster's storage may hold as many.
        """
        if self._listing is not None:
            return len(changes.gone)
        return await self._threads.run(planner.missing_from, changes.present)

    def _is_doubtful(self, planner: Planner, lost: int, now: float) -> bool:
        """Whether so much is gone that it is not believed yet."""
        known = int(str(planner.status()["segments"]))
        if lost <= max(DOUBTED_COUNT, known * DOUBTED_SHARE):
            self._doubted_since = None
            return False
        if self._doubted_since is None:
            self._doubted_since = now
        self._troubles.report(
            Section.LOST_FILES,
            "looks doubted",
            f"{lost} of {known} segments are missing from canonical storage at once; nothing is "
            f"deleted for {self._policy.full_listing:g} s: is it mounted, and the right one?",
        )
        return now - self._doubted_since < self._policy.full_listing

    # -- carrying out -------------------------------------------------------------------

    async def _carry_out(self, planner: Planner) -> None:
        now = self._clock.seconds()
        # At most ten seconds' worth is saved up, so that a long pause makes no burst.
        rate = self._policy.moves_per_second
        saved = self._allowance + rate * (now - self._allowed_at)
        self._allowance, self._allowed_at = min(saved, max(1.0, rate * 10)), now
        for _ in range(PLANS):
            live = await self._published(planner.in_question(STEPS))
            allowance = max(0, int(self._allowance))
            plan = await self._threads.run(planner.plan, now, allowance, live, STEPS)
            try:
                await self._save_rings(planner)
                deleted = await self._apply(plan)
            except Exception:
                planner.failed(plan)
                raise
            self._allowance -= plan.moves
            if deleted:
                # Tried again until a later look shows whether they are there once more.
                planner.failed(Plan([row for row in plan.put if row.segment in deleted]))
            if deleted or not plan.more:
                return

    async def _published(self, segments: list[str]) -> dict[str, list[str]]:
        if not segments:
            return {}
        found = await self._metadata.copies_of(segments)
        return {
            segment: [copy.node for copy in found.get(segment, ()) if copy.role == READ]
            for segment in segments
        }

    async def _save_rings(self, planner: Planner) -> None:
        if planner.rings != self._rings:
            # Before they are replaced: somebody may have been forgotten meanwhile. In the
            # moment in between, the store refuses, and the next round looks again.
            await self._see_forgotten(planner)
            await self._metadata.save_rings(self.leader, planner.rings, self._rings)
            self._rings = planner.rings

    async def _apply(self, plan: Plan) -> list[str]:
        """Write a plan; answers with segments that were deleted since the last look."""
        if not plan.put and not plan.remove:
            return []
        self._check_lease()
        deleted = await self._metadata.change_assignments(
            self.leader, plan.put, plan.remove, self._seen_deletions
        )
        self._counts["assignments_put"] += len(plan.put)
        self._counts["assignments_removed"] += len(plan.remove)
        self._counts["moves"] += plan.moves
        return deleted
