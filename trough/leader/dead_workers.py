"""What a leader removes of workers that are dead: their published copies, and their clean locks.

Only the metadata store's clock decides what is alive, and a clock can be wrong. So a sudden loss is
doubted: when all workers seem to die at once the leader asks them, and takes nothing away while one
of them answers.

A lock is clean if everything written under it is promoted. Nothing is lost when the next writer
goes on from there, so the leader releases the clean locks of a worker that was killed once its TTL
is over, and of one that signed off and did not come back within its TTL. A worker that comes back
later cannot write under such a lock (:mod:`trough.worker.dirty_marks`). All others are a person's
to free.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from trough.leader import worker_probe
from trough.leader.server_clocks import ServerClocks
from trough.metadata import Metadata
from trough.model import Leader, Lock, Worker
from trough.tls import TlsFiles
from trough.util.trouble_log import Section, TroubleLog

_log = Logger()

#: Seconds after which a worker that this leader never saw alive counts as gone for good.
UNSEEN_TTL = 60.0


class DeadWorkers:
    """See the module's text.

    :ivar doubted: workers that answer although the metadata store has all of them for dead
    """

    def __init__(
        self,
        leader: Leader,
        metadata: Metadata,
        clocks: ServerClocks,
        troubles: TroubleLog,
        clock: IReactorTime,
        *,
        tls: TlsFiles,
    ) -> None:
        self.doubted: list[str] = []
        self._leader = leader
        self._metadata = metadata
        self._clocks = clocks
        self._troubles = troubles
        self._tls = tls
        self._clock = clock
        self._alive: dict[str, float] = {}
        #: Those that went all at once, until they were asked.
        self._suspicious: list[str] = []
        #: When the clean locks of workers that are gone are released, by name.
        self._due: dict[str, float] = {}

    def see_locks(self, locks: Iterable[Lock], now: float) -> None:
        """Take in who holds locks, at the beginning; after :meth:`see`."""
        for node in {lock.node for lock in locks} - self._alive.keys():
            self._due.setdefault(node, now + UNSEEN_TTL)

    def see(self, workers: Collection[Worker], now: float) -> None:
        """Take in which workers live now."""
        alive = {worker.node: worker.ttl for worker in workers}
        if self._alive and not alive:
            self._suspicious = sorted(self._alive)
        elif alive:
            self._suspicious = []
        for node in self._alive.keys() - alive.keys():
            self._due.setdefault(node, now + self._alive[node])
        for node in alive:
            self._due.pop(node, None)
        self._alive = alive

    async def remove(self) -> None:
        """Remove what dead workers published, and release their clean locks.

        :raises trough.errors.NotLeader: this server leads no more
        """
        slack = await self._clocks.slack()
        self.doubted = await self._answering()
        if self.doubted:
            self._troubles.report(Section.CLOCKS, "removals of all workers doubted", self.doubt)
            return
        now = self._clock.seconds()
        for node in await self._metadata.reap(self._leader, slack):
            _log.warn(
                "{node}: is dead; its copies are no longer published; see the guide, *{section}*",
                node=node,
                section=Section.WORKER_DIES.value,
            )
            self._due[node] = now
        for node in [node for node, due in self._due.items() if due <= now]:
            await self._release_clean_locks(node)

    async def _answering(self) -> list[str]:
        """Of the workers that seem to have died at once, those that answer."""
        asked = self._suspicious
        answers = [
            Deferred.fromCoroutine(
                worker_probe.answers(self._metadata, node, self._clock, self._tls, peers=True)
            )
            for node in asked
        ]
        results = await DeferredList(answers, fireOnOneErrback=True, consumeErrors=True)
        found = [node for node, (_, line) in zip(asked, results, strict=True) if line]
        if not found:
            self._suspicious = []
        return found

    @property
    def doubt(self) -> str:
        """Which workers answer although they count as dead; or empty."""
        if not self.doubted:
            return ""
        return (
            "the metadata store has all workers for dead at once, but these answer: "
            f"{', '.join(self.doubted)}: do the clocks of its servers agree?"
        )

    async def _release_clean_locks(self, node: str) -> None:
        released = await self._metadata.release_clean_locks(self._leader, node)
        self._due.pop(node, None)
        if released:
            _log.info(
                "{node}: is gone; write locks of it that are released: {count}, for all that was "
                "written under them is promoted",
                node=node,
                count=len(released),
            )
