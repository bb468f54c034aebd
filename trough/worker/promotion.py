"""How a worker makes a state of a segment that it writes the canonical copy.

A consistent snapshot is published in the place of the version that the local copy began
as, and of no other one. What is being published is remembered before, so that a worker
that dies between the rename there and the note of it here knows its own copy again; and it
is remembered until one promotion succeeded, for storage may carry out a rename that it did
not answer when the next promotion is under way.

Refuses to know when there is something to promote, and what else happens to the segment
meanwhile (:mod:`trough.worker.segments`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Target
from trough.model import CanonicalCopy
from trough.storage import Guard, Storage
from trough.util.clocks import elapsed
from trough.util.threads import ThreadPoolService
from trough.worker import local_files
from trough.worker.catalogue import Entry
from trough.worker.transfers import Transfers

#: Promotions that were begun, and did not succeed, whose contents are remembered.
REMEMBERED = 16


class Promotion:
    """The promotions of one worker, one at a time for a segment.

    :param snapshots: a directory for states that are being promoted
    :param remember: has the catalogue remember an entry
    :param transfers: shows those under way, and counts the others
    """

    def __init__(
        self,
        snapshots: Path,
        storage: Storage,
        pool: ExecutorPool,
        threads: ThreadPoolService,
        remember: Callable[[Entry], Awaitable[None]],
        *,
        transfers: Transfers,
    ) -> None:
        self._snapshots = snapshots
        self._storage = storage
        self._pool = pool
        self._threads = threads
        self._remember = remember
        self._transfers = transfers

    async def is_overwritten(self, entry: Entry, path: str) -> bool:
        """Whether the file at `path` in canonical storage is one that this worker has not
        seen; it may be an older one, put back from a backup.

        What this worker itself was publishing is taken note of, and so is the content that it
        began with, under another time.
        """
        found = await self._storage.find(entry.segment, path)
        if found is None or found.version == entry.canonical.version:
            return False
        return not await self._adopt_own(entry, found)

    async def is_missing(self, entry: Entry) -> bool:
        """Whether the canonical copy is known to be gone: deleted when its writer came."""
        try:
            return await self._storage.find(entry.segment, entry.path) is None
        except errors.Unavailable:
            return False

    async def check_overwritten(self, entry: Entry) -> None:
        """Promotion replaces the version that the local copy began as, and no other one.

        :raises trough.errors.Conflict: there is another one, which is not ours
        """
        if await self.is_overwritten(entry, entry.path):
            raise _unseen(entry)

    async def publish(self, target: Target, entry: Entry, guard: Guard) -> CanonicalCopy:
        """Publish the state of this moment.

        :param guard: awaited right before the publication takes effect
        :raises trough.errors.Conflict: another version has come to lie there meanwhile
        :raises trough.errors.CorruptSegment: the local copy is damaged
        """

        async def still_ours() -> float:
            # The upload may have taken long.
            began = elapsed()
            found = await self._storage.find(entry.segment, entry.path)
            if found is not None and found.version != entry.canonical.version:
                raise _unseen(entry)
            asked = elapsed()
            return asked - began + await guard()

        snapshot = local_files.snapshot_path(self._snapshots, entry.segment)
        await self._threads.run(local_files.make_room_for_snapshot, snapshot, target.path)
        try:
            await self._pool.snapshot(target, str(snapshot))
            # Damaged pages are copied like any others, over the last whole copy that there is.
            await self._pool.check(Target(target.segment, str(snapshot), 0, False))
            # Remembered so that this worker recognizes a newer canonical copy as its own, if it
            # dies between the rename there and the note of it here.
            size, content = await self._threads.run(local_files.size_and_checksum, snapshot)
            earlier = [each for each in entry.publishing.split() if each != content]
            entry.publishing = " ".join([*earlier, content][-REMEMBERED:])
            await self._remember(entry)
            with self._transfers.under_way(entry.segment, "publish", size) as progress:
                return await self._storage.publish(
                    snapshot, entry.segment, entry.path, still_ours, progress
                )
        finally:
            await self._threads.run(local_files.remove, str(snapshot))

    async def _adopt_own(self, entry: Entry, found: CanonicalCopy) -> bool:
        known = {*entry.publishing.split(), entry.checksum} - {""}
        # To know the content of a large file costs its transfer.
        if not known or (not entry.publishing and found.size != entry.size):
            return False
        look = local_files.snapshot_path(self._snapshots, entry.segment)
        try:
            found = await self._storage.fetch(found, look)
            _, content = await self._threads.run(local_files.size_and_checksum, look)
        finally:
            await self._threads.run(local_files.remove, str(look))
        if content not in known:
            return False
        entry.adopt(found)
        await self._remember(entry)
        return True


def _unseen(entry: Entry) -> errors.Conflict:
    return errors.Conflict(
        f"segment {entry.segment} has a canonical copy that its writer has not seen",
        "it was put there by somebody else; the worker will retire its own",
    )
