"""Finds the worker that holds a write lock, and waits for one that is being restarted.

Existing clients drop the batch whose provisioning is refused, and wait for minutes for an
answer. A worker is gone from the metadata store from the moment it signs off, or its TTL after
it was killed, and is back some seconds later. So an order waits for it. One that stays away
makes only the first orders wait: the time counts from when it was first missed.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from trough import errors
from trough.metadata import Metadata
from trough.model import Lock, Worker

#: Seconds between two looks for a holder that is away.
LOOK = 0.5


class LockHolders:
    """The holders of write locks, as one sync server knows them.

    :param patience: seconds that a holder may be away before orders for it are refused
    """

    def __init__(self, metadata: Metadata, patience: float, clock: IReactorTime) -> None:
        self._metadata = metadata
        self._patience = patience
        self._clock = clock
        #: When each worker that is away was missed first.
        self._missed: dict[str, float] = {}

    async def holder_of(self, segment: str) -> Worker | None:
        """The live worker that holds the lock of `segment`, or None if nobody holds it.

        :raises trough.errors.HolderLost: it is not alive, and did not come back in time
        """
        while True:
            lock = await self._metadata.lock_of(segment)
            if lock is None:
                return None
            workers = {worker.node: worker for worker in await self._metadata.workers()}
            if lock.node in workers:
                return workers[lock.node]
            if not self.may_wait(lock.node):
                raise _lost(lock)
            await self.pause()

    def found(self, node: str) -> None:
        """A worker has answered."""
        self._missed.pop(node, None)

    def may_wait(self, node: str) -> bool:
        """Note that a worker is away; whether it is still worth waiting for."""
        now = self._clock.seconds()
        return now - self._missed.setdefault(node, now) < self._patience

    async def pause(self) -> None:
        """Wait until it is worth looking again."""
        await deferLater(self._clock, LOOK)


def _lost(lock: Lock) -> errors.HolderLost:
    return errors.HolderLost(
        f"segment {lock.segment} is locked for writing by {lock.node}, which is not alive",
        "start that worker again, or give up what it did not promote: "
        f"trough-admin free-lock {lock.segment}",
    )
