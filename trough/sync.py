"""MasterSyncController: what a sync server does for its clients, and the election.

Three or more sync servers stand for election; the leader plans where copies go
(:mod:`trough.leader.term`). Every sync server carries out requests of clients by itself, and no
client needs to know the leader. This is safe because each action that must happen once, above all
taking a write lock, is a conditional change in the metadata store.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough import errors
from trough.leader.cluster_status import ClusterStatus
from trough.leader.lock_holders import LockHolders
from trough.leader.term import Leadership
from trough.metadata import Metadata
from trough.model import READ, Leader, Worker, canonical_path, check_segment_id, segment_word
from trough.protocols.http.manager_client import PROMOTION_TIMEOUT, ManagerClient
from trough.storage import Storage
from trough.util.periodic import Periodic
from trough.util.trouble_log import Section, TroubleLog

_log = Logger()

_REFUSED = "provisionings refused"

#: A bit less than the seconds that existing clients wait for provisioning.
PROVISION_TIMEOUT = 590.0

#: Seconds for the leader to report what it knows.
LEADER_TIMEOUT = 5.0

#: Seconds without the metadata store that make no server unready, however short its lease.
HICCUP = 10.0


class MasterSyncController(service.MultiService):
    """One sync server.

    :param myself: this server as a candidate for leadership
    :param leadership: what it does while it leads
    :param is_cold: whether a segment belongs to the cold tier
    :param election_cycle: seconds between renewals of the candidacy
    :param holder_wait: seconds that an order waits for a lock's holder that is away
    """

    def __init__(
        self,
        myself: Leader,
        metadata: Metadata,
        storage: Storage,
        leadership: Leadership,
        peers: ManagerClient,
        *,
        is_cold: Callable[[str], bool],
        election_cycle: float,
        holder_wait: float,
        clock: IReactorTime,
    ) -> None:
        super().__init__()
        self.myself = myself
        self.metadata = metadata
        self.storage = storage
        self.leadership = leadership
        self.leader: Leader | None = None
        self._peers = peers
        self._is_cold = is_cold
        self._opened = False
        self._clock = clock
        self._heard = clock.seconds()
        self._overview = ClusterStatus(metadata, clock)
        self._holders = LockHolders(metadata, holder_wait, clock)
        self._troubles = TroubleLog(clock)
        Periodic("election", election_cycle, self._campaign, clock).setServiceParent(self)

    # -- leadership ------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether this server knows the leader, and so can serve.

        The metadata store's last answer is valid for as long as a lease, and no longer. A short
        failure of the store makes no difference.
        """
        heard = self._clock.seconds() - self._heard
        return self.leader is not None and heard <= max(self.myself.ttl, HICCUP)

    @property
    def health(self) -> dict[str, Any]:
        """What ``/health`` answers."""
        stopped = self.leadership.stopped if self.leads else ""
        if stopped:
            return {"ready": False, "reason": stopped}
        return {"ready": self.ready}

    @property
    def leads(self) -> bool:
        """Whether this server leads."""
        return self.leader is not None and self.leader.identity == self.myself.identity

    async def _campaign(self) -> None:
        before = self.leader
        asked = self._clock.seconds()
        try:
            if not self._opened:
                await self.metadata.open()
                self._opened = True
                for name, work in (
                    ("opening canonical storage", self._open_storage),
                    ("looking who lives", self._overview.look),
                ):
                    Periodic(name, self.myself.ttl, work, self._clock).setServiceParent(self)
            self.leader = await self.metadata.campaign(
                replace(self.myself, trouble=self.leadership.trouble)
            )
            self._heard = asked
        except errors.Unavailable:
            # A lease that could not be renewed ends by our own clock at the latest.
            if self.leads and asked - self.leadership.renewed > self.myself.ttl:
                self.leader = None
                self.leadership.end()
            raise
        if self.leads:
            self.leadership.begin_or_go_on(self.leader, asked)
        else:
            self.leadership.end()
        if before is None or before.generation != self.leader.generation:
            _log.info(
                "generation {generation}: {node} leads",
                generation=self.leader.generation,
                node=self.leader.node,
            )

    async def _open_storage(self) -> None:
        await self.storage.open()

    async def stopService(self) -> None:
        """Stop planning, then give the leadership back."""
        self.leadership.end()
        await super().stopService()
        await self.leadership.ended()
        if self.leads and self.leader is not None:
            try:
                await self.metadata.resign(self.leader)
            except errors.TroughError as failure:
                _log.warn("could not resign: {failure}", failure=failure)

    # -- orders: provisioning ---------------------------------------------------

    async def provision(
        self, segment: str, schema: str = "default", client: str = ""
    ) -> dict[str, Any]:
        """Have one worker write `segment`; the same one if there is one already.

        Chosen is the lock's holder, which is waited for while it is restarted, else the least
        loaded worker that has a copy, else the least loaded one.

        :param client: a name under which the client may :meth:`undo_provision`
        :return: ``write_url``, ``result``, ``size`` (bytes), ``schema``
        :raises trough.errors.ColdSegment: it is in the cold tier
        :raises trough.errors.NoSuchSchema: nothing was locked or created
        :raises trough.errors.HolderLost: the lock's holder is not alive
        """
        try:
            return await self._provision(segment, schema, client)
        except errors.HolderLost as lost:
            self._troubles.report(Section.WORKER_DIES, _REFUSED, lost)
            raise
        except errors.Unavailable as reason:
            if not isinstance(reason, errors.Cancelled):
                self._troubles.report(Section.ORDERS, _REFUSED, reason)
            raise

    async def _provision(self, segment: str, schema: str, client: str) -> dict[str, Any]:
        check_segment_id(segment)
        if self._is_cold(segment):
            raise errors.cold_segment(segment)
        while (holder := await self._holders.holder_of(segment)) is not None:
            try:
                answer = await self._provision_on(holder, segment, schema, client)
            except errors.Unavailable:
                # Killed, and alive by its row; or being started, or stopped.
                if not self._holders.may_wait(holder.node):
                    raise
                await self._holders.pause()
            else:
                self._holders.found(holder.node)
                return answer
        workers = {worker.node: worker for worker in await self.metadata.workers()}
        await self._check_not_elsewhere(segment)
        failure: errors.TroughError = errors.Unavailable(
            "no worker is alive that could be given the segment"
        )
        for worker in await self._candidates(segment, workers):
            try:
                return await self._provision_on(worker, segment, schema, client)
            except errors.Moved as moved:
                holder = workers.get(moved.node)
                if holder is None:
                    raise
                return await self._provision_on(holder, segment, schema, client)
            except errors.Unavailable as reason:
                what = f"provisionings that {worker.node} could not carry out"
                self._troubles.report(Section.ORDERS, what, f"{segment}: {reason}")
                failure = reason
        raise failure

    async def _check_not_elsewhere(self, segment: str) -> None:
        """A worker looks for a segment where it is assigned, or at its default path: one that
        lies elsewhere, and is not assigned yet, it would take for a new one.

        :raises trough.errors.Unavailable: such is this segment
        """
        files = await self._files_of(segment)
        if not files or files[-1] == canonical_path(segment):
            return
        if not await self.metadata.assignments_of_segment(segment):
            raise errors.Unavailable(
                f"segment {segment} lies at {files[-1]} and is not assigned to a worker yet",
                "provision it again in a moment",
            )

    async def _files_of(self, segment: str) -> list[str]:
        """All files of a segment, as far as the leader knows and can be asked."""
        leader = self.leader
        if leader is None or self.leads:
            return self.leadership.files_of(segment) or []
        try:
            answer = await self._peers.call(
                "GET", f"{leader.url}segment/{segment_word(segment)}/files", seconds=LEADER_TIMEOUT
            )
        except errors.TroughError as reason:
            _log.warn(
                "{node} does not say where files are: {reason}", node=leader.node, reason=reason
            )
            return []
        return [str(path) for path in answer.get("files", ())]

    async def _candidates(self, segment: str, workers: dict[str, Worker]) -> list[Worker]:
        hot = {node: worker for node, worker in workers.items() if not worker.cold_storage}
        copies = (await self.metadata.copies_of([segment])).get(segment, [])
        having = {copy.node for copy in copies if copy.role == READ}
        found = sorted(
            hot.values(),
            key=lambda worker: (
                worker.draining,
                worker.node not in having,
                worker.load,
                -worker.available_bytes,
                worker.node,
            ),
        )
        if having & hot.keys():
            return found
        chosen = await self._less_burdened(found)
        return chosen + [worker for worker in found if worker not in chosen]

    async def _less_burdened(self, workers: list[Worker]) -> list[Worker]:
        """One or none of the workers that may take a new segment.

        Of two chosen at random, the one with fewer write locks, or else with more room. Loads are
        as old as the last heartbeats: by these alone, all segments of a burst went to one worker.
        """
        able = [each for each in workers if not each.draining and each.available_bytes > 0]
        pair = random.sample(able, min(2, len(able)))
        ranked = [
            (await self.metadata.count_locks(each.node), -each.available_bytes, each.node)
            for each in pair
        ]
        return [each for each in pair if each.node == min(ranked)[2]] if pair else []

    async def _provision_on(
        self, worker: Worker, segment: str, schema: str, client: str
    ) -> dict[str, Any]:
        body = {"segment": segment, "schema": schema, **({"provisioner": client} if client else {})}
        url = f"{worker.manager_url}provision"
        return await self._peers.call("POST", url, body, PROVISION_TIMEOUT)

    async def undo_provision(self, segment: str, client: str) -> None:
        """Have the lock's holder remove a new segment into which nothing was stored.

        :param client: the only one that provisioned the segment
        :raises trough.errors.Conflict: it is used, or others provisioned it
        """
        holder = await self._holder(segment)
        body = {"segment": segment, "provisioner": client}
        await self._peers.call("POST", f"{holder.manager_url}provision/undo", body)

    async def _holder(self, segment: str) -> Worker:
        """The worker that writes a segment.

        :raises trough.errors.NoWriteLock: there is none
        """
        holder = await self._holders.holder_of(check_segment_id(segment))
        if holder is None:
            raise errors.NoWriteLock(
                f"nobody writes segment {segment}", "what can be read is its last promoted state"
            )
        return holder

    # -- orders: promotion and deletion -----------------------------------------

    async def promote(self, segment: str) -> dict[str, Any]:
        """Have the lock's holder publish the segment's state as its canonical copy.

        A segment without a writer has nothing to promote: its canonical copy is the answer.

        :raises trough.errors.NoSuchSegment: it is neither written nor in storage
        :raises trough.errors.ColdSegment: it is in the cold tier
        """
        check_segment_id(segment)
        if self._is_cold(segment):
            raise errors.cold_segment(segment)
        lock = await self.metadata.lock_of(segment)
        if lock is None:
            assigned = await self.metadata.assignments_of_segment(segment)
            path = assigned[0].path if assigned else None
            found = await self.storage.find(segment, path)
            if found is None:
                raise errors.NoSuchSegment(f"segment {segment} has no write lock and no copy")
            return {"remote_path": self.storage.location(found.path)}
        holder = await self._holders.holder_of(segment)
        if holder is None:
            raise errors.Unavailable(
                f"segment {segment} was given up by {lock.node} just now", "promote it again"
            )
        return await self._peers.call(
            "POST", f"{holder.manager_url}promote", {"segment": segment}, PROMOTION_TIMEOUT
        )

    async def revert(self, segment: str, preview: bool = False) -> dict[str, Any]:
        """Have the lock's holder return a segment to its last promoted state.

        See :meth:`trough.worker.reverting.Reverting.revert`.

        :raises trough.errors.NoWriteLock: no worker writes it, so it is in that state
        """
        holder = await self._holder(segment)
        body = {"segment": segment, "preview": preview}
        url = f"{holder.manager_url}revert"
        # It fetches the canonical copy, which takes as long as it takes a provisioning.
        return await self._peers.call("POST", url, body, PROVISION_TIMEOUT)

    async def delete(self, segment: str) -> None:
        """Remove a segment everywhere: canonical copy, local copies, rows.

        :raises trough.errors.LockHeld: it has a write lock
        :raises trough.errors.NoSuchSegment: it is nowhere
        """
        check_segment_id(segment)
        await self._check_unlocked(segment, "a segment can be deleted once nobody writes it")
        assigned = await self.metadata.assignments_of_segment(segment)
        copies = (await self.metadata.copies_of([segment])).get(segment, [])
        paths = await self._files_of(segment)
        paths.append(assigned[0].path if assigned else canonical_path(segment))
        found = [await self.storage.find(segment, path) for path in dict.fromkeys(paths)]
        files = [copy for copy in found if copy is not None]
        if not files and not copies and not assigned:
            raise errors.NoSuchSegment(f"segment {segment} is nowhere")
        # The canonical copy first: after a failure from here on, the leader and the workers
        # find the segment gone and finish the deletion. Of several files the latest
        # version comes last, or the leader would find the segment in another one.
        for copy in sorted(files, key=lambda copy: copy.version):
            # The search may have taken seconds, and a promotion may have happened since.
            await self._check_unlocked(segment, "it was provisioned while it was to be deleted")
            await self.storage.delete(copy)
        # A worker that writes it by now still has it, and is found by what it published.
        await self.metadata.forget_segment(segment)
        holding = {copy.node for copy in copies} | {row.node for row in assigned}
        await self._delete_on(segment, holding)

    async def _check_unlocked(self, segment: str, hint: str) -> None:
        lock = await self.metadata.lock_of(segment)
        if lock is not None:
            raise errors.LockHeld(f"segment {segment} is locked for writing by {lock.node}", hint)

    async def _delete_on(self, segment: str, nodes: set[str]) -> None:
        workers = [worker for worker in await self.metadata.workers() if worker.node in nodes]
        calls = [
            Deferred.fromCoroutine(
                self._peers.call("DELETE", f"{worker.manager_url}segment/{segment_word(segment)}")
            )
            for worker in workers
        ]
        results: list[tuple[bool, Any]] = await DeferredList(calls, consumeErrors=True)
        for worker, (success, result) in zip(workers, results, strict=True):
            if not success and not result.check(errors.NoSuchSegment):
                _log.warn(
                    "{segment}: not yet deleted on {node}: {reason}",
                    segment=segment,
                    node=worker.node,
                    reason=result.value,
                )

    # -- status -------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """What this server knows of the cluster, whether or not the metadata store
        answers now; JSON-able."""
        told = await self._overview.status()
        leader = self.leader if self.ready else None
        return {
            "role": "sync",
            "node": self.myself.node,
            "ready": self.ready,
            "leads": self.ready and self.leads,
            "leader": leader.node if leader else None,
            "leader_url": leader.url if leader else None,
            "generation": leader.generation if leader else None,
            **told,
            "storage": self.storage.status(),
            "leadership": self.leadership.status(),
        }
