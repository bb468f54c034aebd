"""LocalSyncController: makes a worker hold the segments that are assigned to it.

It watches its own assignments and the write locks. For each segment it compares the target state
with the actual state. It fetches a copy that is missing or old. It retires a writable copy whose
lock is lost or whose canonical copy was replaced from outside this worker. It deletes a copy that
enough other workers hold. It also does this worker's part of provisioning, promotion and deletion.

The worker goes on serving without the metadata store or canonical storage. Reports
and work that failed meanwhile are done when they are back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.metadata import AssignmentChanges, LockChanges, Metadata, Watch
from trough.model import Lock, Worker, check_segment_id
from trough.storage import Storage
from trough.util.keyed_lock import KeyedLock
from trough.util.log_digest import LogDigest
from trough.util.periodic import Periodic
from trough.util.trouble_log import Section, TroubleLog
from trough.util.wording import counted
from trough.worker.auto_promotion import AutoPromotion
from trough.worker.cluster_view import ClusterView
from trough.worker.cold_cache import ColdSegments
from trough.worker.confirmation import Confirmation
from trough.worker.disk_counter import check_disk
from trough.worker.failed_promotions import FailedPromotions
from trough.worker.look_scheduler import LookScheduler
from trough.worker.provisioning import Provisioning
from trough.worker.publisher import Publisher
from trough.worker.reconciler import Reconciler
from trough.worker.refusals import Refusals
from trough.worker.repair import Repair
from trough.worker.replication import Replication
from trough.worker.reverting import Reverting
from trough.worker.segments import Segments
from trough.worker.shared import Shared
from trough.worker.status import status_of
from trough.worker.storage_watch import INTERVAL
from trough.worker.timing import Timing
from trough.worker.unpromoted import Unpromoted, Waiting
from trough.worker.write_locks import WriteLockManager

_log = Logger()

#: Batches of small segments that are under way or wait; two are fetched at once.
FETCH_BATCHES = 3

#: Seconds between two attempts to reach what is away at the start.
RETRY = 1.0


class LocalSyncController(service.MultiService):
    """The part of a worker that decides; one a process.

    :param myself: the worker's row, as it is at the start
    :param measure: gives the load and the free bytes of the moment
    :param is_cold: whether a segment belongs to the cold tier
    :param refuse: called with the reason if this worker must not run at all
    :param executors: the status of the processes that run SQL
    :param copy_ttl: seconds, of the row of a copy
    :param cold: the cold segments, on a worker that answers for those and no others
    :param replicate: makes what replicates writes; called with a function for locks that are
        taken over; None: nothing does
    """

    def __init__(
        self,
        myself: Worker,
        metadata: Metadata,
        storage: Storage,
        segments: Segments,
        timing: Timing,
        *,
        measure: Callable[[], tuple[float, int]],
        is_cold: Callable[[str], bool],
        refuse: Callable[[errors.TroughError], None],
        executors: Callable[[], dict[str, Any]],
        copy_ttl: float,
        cold: ColdSegments | None,
        clock: IReactorTime,
        replicate: Callable[[Shared, Worker, Callable[[Lock], None]], Replication] | None = None,
    ) -> None:
        super().__init__()
        self.myself = myself
        self.metadata = metadata
        self.storage = storage
        self.segments = segments
        #: Whether the copies are loaded, and whether others know of this worker.
        self.loaded = False
        self.registered = False
        #: Whether the store has had the rows of all copies that there were at the start.
        self.published = False
        self._publishing: Deferred[None] | None = None
        self._measure = measure
        self.is_cold = is_cold
        self.cold = cold
        self._refuse = refuse
        self.executors = executors
        #: The status of the answers that are kept.
        self.result_cache: Callable[[], dict[str, int]] = dict
        self._clock = clock
        #: When the metadata store took the last heartbeat, in seconds since the epoch.
        self.beaten: float | None = None
        self._timing = timing
        self.troubles = TroubleLog(clock)
        self.refusals = Refusals(self.troubles)
        self.failed_promotions = FailedPromotions(segments, self.refusals)
        self.confirmation = Confirmation(metadata, timing.heartbeat, clock)
        self._watches: list[Watch] = []
        self._starting: Deferred[None] | None = None
        self.publisher = Publisher(
            metadata, myself.node, myself.read_url, myself.write_url, copy_ttl, clock=clock
        )
        self.cluster = ClusterView(myself)
        self.turns = KeyedLock()
        self.looks = LookScheduler(
            segments, self.refusals, timing.retry, clock, FETCH_BATCHES * storage.batch
        )
        shared = Shared(
            node=myself.node,
            metadata=metadata,
            storage=storage,
            segments=segments,
            publisher=self.publisher,
            refusals=self.refusals,
            cluster=self.cluster,
            turns=self.turns,
            look_at=self.looks.look_at,
            is_cold=is_cold,
            cold=cold,
            digest=LogDigest(clock.seconds),
        )
        self.replication = (
            replicate(shared, myself, lambda lock: self.writer.marks.taken(lock))
            if replicate
            else None
        )
        self.writer = WriteLockManager(shared, timing, myself.ttl, self.replication, clock)
        self.reconciler = Reconciler(shared, self.writer, clock)
        self.looks.begin(self.reconciler.look)
        self._repair = Repair(shared, self.writer, clock.seconds)
        self.provisioning = Provisioning(
            shared,
            self.writer,
            myself.write_url,
            lambda: self.registered or not self.loaded,
            self.replication,
        )
        self.provisioning.setServiceParent(self)
        self._reverting = Reverting(shared, self.writer, self.provisioning)
        self._auto_promotion = AutoPromotion(
            segments, self.promote, lambda: self.ready, timing.promote_after, clock
        )
        self.unpromoted = Unpromoted(segments, lambda: self.loaded, timing.promote_after, clock)
        self._heartbeat = Periodic("heartbeat", timing.heartbeat, self._beat, clock)

    # -- life ------------------------------------------------------------------

    def startService(self) -> None:
        super().startService()
        self._starting = Deferred.fromCoroutine(self._start())
        self._starting.addErrback(self._start_failed)

    async def _start(self) -> None:
        await self._load()
        # Before locks under which this disk has nothing could be given back.
        await self._until_it_works("metadata store", self._check_disk)
        if self.replication is not None:
            self.replication.admit(self.myself)
        self.writer.setServiceParent(self)
        await self._until_it_works("metadata store", self._look_who_lives)
        await self._register()
        self._begin_services()
        await self._until_it_works("canonical storage", self.storage.open)
        _log.info(
            "{node}: serving {segments}",
            node=self.myself.node,
            segments=counted(len(self.segments), "segment"),
            count=len(self.segments),
        )

    async def _load(self) -> None:
        """Load what this disk has, and serve it."""
        if self.segments.are_new:
            await self._until_it_works("metadata store", self._check_disk)
        # An operator who frees space on a full disk need not start this worker, too.
        await self._until_it_works("local data", self.segments.load)
        if self.cold is not None:
            await self.cold.open()
            Periodic(
                "looking for canonical storage", INTERVAL, self.cold.storage.look, self._clock
            ).setServiceParent(self)
        self.loaded = True
        self.confirmation.loaded()
        for segment in self.segments:
            copy = self.segments.get(segment)
            if copy is not None:
                self.publisher.serve(segment, copy.writable)

    async def _register(self) -> None:
        """Watch the write locks, and announce this worker."""
        # Before the registration, which takes long where many copies were published: reads
        # wait for the first notice of this watch.
        self._watches = [self.metadata.watch_locks(self._locks_changed)]
        self.confirmation.watching(self._watches)
        await self._until_it_works(
            "registration", lambda: self.metadata.register_worker(self.myself)
        )
        self.registered = True
        if self.replication is not None:
            await self.replication.take_overs.open()
            self.replication.setServiceParent(self)

    def _begin_services(self) -> None:
        """Begin what runs from now on: publication, fetching, heartbeats, promotion."""
        self.publisher.setServiceParent(self)
        self._publishing = Deferred.fromCoroutine(self._publish_all())
        self.looks.setServiceParent(self)
        self.reconciler.setServiceParent(self)
        self._heartbeat.setServiceParent(self)
        comparing = Periodic(
            "full comparison", self._timing.full, self.reconciler.everything, self._clock
        )
        comparing.setServiceParent(self)
        self._auto_promotion.setServiceParent(self)
        self.unpromoted.setServiceParent(self)
        self._watches.append(
            self.metadata.watch_assignments(self.myself.node, self._assignments_changed)
        )

    async def _publish_all(self) -> None:
        """Wait until the copies from before the restart are published, and then count as ready."""
        with suppress(errors.Cancelled):
            await self.publisher.published()
            self.published = True

    async def _check_disk(self) -> None:
        await self.metadata.open()
        identity = await check_disk(
            self.segments.disk_counter, self.metadata, self.myself, self.segments.are_new
        )
        self.myself = replace(self.myself, identity=identity)

    def _start_failed(self, failure: Any) -> None:
        if not self.running:
            return
        if failure.check(errors.TroughError):
            self._refuse(failure.value)
        else:
            _log.failure("worker could not start", failure=failure)
            self._refuse(errors.TroughError(f"the worker could not start: {failure.value}"))

    async def _until_it_works(self, name: str, attempt: Callable[[], Any]) -> None:
        said = False
        while True:
            try:
                await attempt()
            except errors.Unavailable as reason:
                if not said:
                    _log.warn("{name} is away: {reason}", name=name, reason=reason)
                    said = True
                await self._pause(RETRY)
            else:
                return

    def _pause(self, seconds: float) -> Deferred[None]:
        pause: Deferred[None] = Deferred(lambda _: call.cancel())
        call = self._clock.callLater(seconds, pause.callback, None)
        return pause

    async def sign_off(self) -> None:
        """Announce that this worker stops serving, while it still serves; before it stops.

        Clients that have just looked it up still find it. The other workers notice it: each of
        them reads the list of live workers once every heartbeat.
        """
        if not self.registered:
            return
        if self.replication is not None:
            await self.replication.handing_over.all()
        self.registered = False
        # Whichever of these went on would put its row back.
        for publishing in (self._heartbeat, self.publisher):
            await maybeDeferred(publishing.disownServiceParent)
        try:
            await self.metadata.withdraw_worker(self.myself)
        except errors.TroughError as failure:
            _log.warn("could not sign off: {failure}", failure=failure)
            return
        if set(self.cluster.workers) - {self.myself.node}:
            await self._pause(self._timing.heartbeat)

    async def stopService(self) -> None:
        """Stop what runs unasked; :meth:`sign_off` comes first."""
        for watch in self._watches:
            watch.stop()
        # From here on this service does not run, and a start that is cancelled is no failure.
        stopped = super().stopService()
        if self._starting is not None:
            self._starting.cancel()
        await stopped
        await self.segments.close()

    async def _beat(self) -> None:
        load, available = self._measure()
        waiting = self.unpromoted.waiting()
        self.myself = replace(
            self.myself,
            load=load,
            available_bytes=available,
            trouble=self._trouble(waiting),
            unpromoted=waiting.count,
            unpromoted_bytes=self.unpromoted.bytes if waiting.count else 0,
            unpromoted_since=waiting.oldest,
        )
        self.publisher.load = load
        now, asked = time.time(), self._clock.seconds()
        published = await self.metadata.beat(self.myself)
        self.beaten = now
        self.cluster.renewed_at = asked
        if not published:
            _log.warn(
                "{node}: was taken for dead; publishing all copies again", node=self.myself.node
            )
            self.publisher.serve_all_again()
        await self._look_who_lives()
        self.confirmation.heard(asked)

    def _trouble(self, waiting: Waiting) -> str:
        """What an operator has to look at, and the section of the guide; or empty."""
        late = self.reconciler.late.trouble
        if late:
            self.troubles.remind(Section.TOO_FEW_COPIES, late)
        aside = len(self.segments.aside())
        files = counted(aside, "file")
        found = [
            aside and Section.QUARANTINE.add_to(f"{files} of unpromoted writes in aside/"),
            self.failed_promotions.trouble,
            late and Section.TOO_FEW_COPIES.add_to(late),
            self.cold is not None
            and self.cold.storage.away
            and Section.STORAGE.add_to("canonical storage is away"),
            self.unpromoted.trouble(waiting, time.time()),
            self.replication is not None and self.replication.trouble(),
        ]
        return "; ".join(str(each) for each in found if each)

    async def _look_who_lives(self) -> None:
        self.cluster.set_workers(await self.metadata.workers())

    # -- what the metadata store reports ---------------------------------------

    def _locks_changed(self, changes: LockChanges) -> None:
        touched = self.cluster.update(changes)
        if self.replication is not None:
            self.replication.take_overs.locks_changed(changes)
        for lock in changes.held:
            copy = self.segments.get(lock.segment)
            if copy is None or self._is_raised(lock):
                continue
            if lock.epoch > copy.entry.epoch > 0:
                # Epochs only grow: there is nothing to be asked about that.
                self.segments.refuse_writes(lock.segment, copy.entry.epoch)
        if changes.full:
            touched |= {entry.segment for entry in self.segments.writable()}
        # Of all locks in the cluster only those on this worker's copies matter.
        self.looks.look_at(s for s in touched if self.segments.get(s) is not None)
        if changes.full:
            self.confirmation.locks_complete()

    def _is_raised(self, lock: Lock) -> bool:
        """Whether this worker itself may have raised the epoch of a lock."""
        return self.replication is not None and self.replication.is_own(lock)

    def _assignments_changed(self, changes: AssignmentChanges) -> None:
        self.reconciler.assignments_changed(changes)

    # -- this worker's part of what sync servers order -------------------------

    async def provision(self, segment: str, schema: str, client: str = "") -> dict[str, object]:
        """See :meth:`trough.worker.provisioning.Provisioning.provision`."""
        return await self.provisioning.provision(segment, schema, client)

    async def undo_provision(self, segment: str, client: str) -> None:
        """See :meth:`trough.worker.provisioning.Provisioning.undo`."""
        await self.provisioning.undo(segment, client)

    async def revert(self, segment: str, preview: bool = False) -> dict[str, object]:
        """See :meth:`trough.worker.reverting.Reverting.revert`."""
        return await self._reverting.revert(segment, preview)

    async def promote(self, segment: str) -> dict[str, object]:
        """See :meth:`trough.worker.write_locks.WriteLockManager.promote`.

        :raises trough.errors.CorruptSegment: the local copy is damaged, and aside by now
        """
        if self.is_cold(segment):
            raise errors.cold_segment(segment)
        try:
            return await self.writer.promote(segment)
        except errors.TroughError as reason:
            self.failed_promotions.note(segment, reason)
            if isinstance(reason, errors.CorruptSegment):
                await self.damaged([segment])
            raise

    async def delete(self, segment: str) -> None:
        """Forget the local copy of a segment that is being deleted.

        :raises trough.errors.LockHeld: it has a write lock, of any worker
        :raises trough.errors.NoSuchSegment: it is not here
        """
        check_segment_id(segment)
        lock = await self.metadata.lock_of(segment)
        if lock is not None:
            raise errors.LockHeld(f"segment {segment} is locked for writing by {lock.node}")
        if self.segments.get(segment) is None:
            raise errors.NoSuchSegment(f"segment {segment} has no copy on {self.myself.node}")
        async with self.turns.hold(segment):
            await self.segments.drop(segment)
            self.publisher.withdraw(segment)

    # -- how it is ---------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether this worker serves its copies, and others know of it and of all of them."""
        return self.loaded and self.registered and self.published

    @property
    def health(self) -> dict[str, Any]:
        """Whether it is ready; and what is amiss: ``state``, the mark that its answers carry,
        and, of a cold worker, why canonical storage is away."""
        state = self.confirmation.state if self.ready else None
        away = self.cold.storage.away if self.cold is not None else ""
        return {
            "ready": self.ready,
            **({"state": state} if state else {}),
            **({"storage_away": away} if away else {}),
        }

    async def status(self) -> dict[str, Any]:
        """See :func:`trough.worker.status.status_of`."""
        return status_of(self, self._clock)

    # -- what it does unasked ---------------------------------------------------

    async def damaged(self, segments: Iterable[str]) -> None:
        """See :meth:`trough.worker.repair.Repair.replace`."""
        await self._repair.replace(segments)
