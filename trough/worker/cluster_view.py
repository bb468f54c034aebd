"""What a worker knows of the other workers: who lives, and who has which write lock.

The metadata store reports both, with some delay.
"""

from __future__ import annotations

import math
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

from trough.metadata import LockChanges
from trough.model import Lock, Worker

T = TypeVar("T")


class ClusterView:
    """See the module's text.

    :ivar locks: every write lock in the cluster, by segment
    :ivar workers: the living workers, by name
    :ivar renewed_at: when the last heartbeat of this worker that succeeded was sent, by the
        reactor's clock
    """

    def __init__(self, myself: Worker) -> None:
        self._node = myself.node
        self.locks: dict[str, Lock] = {}
        self.workers: dict[str, Worker] = {myself.node: myself}
        self.renewed_at = -math.inf
        #: What other workers are asked, by their names.
        self._asked: dict[str, set[Deferred[Any]]] = {}

    def set_workers(self, workers: Iterable[Worker]) -> None:
        """These live, and no others."""
        self.workers = {worker.node: worker for worker in workers}
        for node in self._asked.keys() - self.workers.keys():
            for asking in tuple(self._asked[node]):
                asking.cancel()

    def while_alive(self, node: str, question: Coroutine[Any, Any, T]) -> Deferred[T]:
        """Ask another worker, and cancel the question when that worker is dead.

        A worker that hangs keeps its connections, and so would a question to it. Its heartbeats
        end, too.
        """
        asking = Deferred.fromCoroutine(question)
        if asking.called:
            return asking
        asked = self._asked.setdefault(node, set())
        asked.add(asking)

        def ended(result: T) -> T:
            asked.discard(asking)
            if not asked and self._asked.get(node) is asked:
                del self._asked[node]
            return result

        return asking.addBoth(ended)

    def update(self, changes: LockChanges) -> set[str]:
        """Take over what changed.

        :return: segments whose lock may have changed
        """
        touched = {lock.segment for lock in changes.held} | set(changes.released)
        if changes.full:
            touched |= self.locks.keys()
            self.locks = {}
        for lock in changes.held:
            self.locks[lock.segment] = lock
        for segment in changes.released:
            self.locks.pop(segment, None)
        return touched

    def take_notice(self, lock: Lock) -> None:
        """Note a lock before the metadata store reports it, unless a later one is known."""
        known = self.locks.get(lock.segment)
        if known is None or known.epoch < lock.epoch:
            self.locks[lock.segment] = lock

    def forget(self, lock: Lock) -> None:
        """Note that a lock was given back, unless a later one is known."""
        known = self.locks.get(lock.segment)
        if known is not None and known.node == lock.node and known.epoch <= lock.epoch:
            del self.locks[lock.segment]

    def holder_elsewhere(self, segment: str) -> Worker | None:
        """The live worker, other than this one, that holds the write lock."""
        lock = self.locks.get(segment)
        if lock is None or lock.node == self._node:
            return None
        return self.workers.get(lock.node)
