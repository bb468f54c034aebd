"""How a worker makes a state of a segment that it writes the canonical copy.

A consistent snapshot is published in the place of the version that the local copy began
as, and of no other one. What is being published is remembered before, so that a worker
that dies between the rename there and the note of it here knows its own copy again.

Refuses to know when there is something to promote, and what else happens to the segment
meanwhile (:mod:`trough.segments`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from trough import errors, local_files
from trough.catalogue import Entry
from trough.executors.pool import ExecutorPool, Target
from trough.files import checksum
from trough.model import CanonicalCopy
from trough.storage import Guard, Storage
from trough.threads import ThreadPoolService


class Promotion:
    """The promotions of one worker, one at a time for a segment.

    :param remember: has the catalogue remember an entry
    :param transfers: where those under way are shown, by segment id
    """

    def __init__(
        self,
        directory: Path,
        storage: Storage,
        pool: ExecutorPool,
        threads: ThreadPoolService,
        remember: Callable[[Entry], Awaitable[None]],
        transfers: dict[str, dict[str, object]],
    ) -> None:
        self._directory = directory
        self._storage = storage
        self._pool = pool
        self._threads = threads
        self._remember = remember
        self._transfers = transfers

    async def check_overwritten(self, entry: Entry) -> None:
        """Promotion replaces the version that the local copy began as, and no other one.

        :raises trough.errors.Conflict: there is a later one, which is not ours
        """
        found = await self._storage.find(entry.segment, entry.path)
        if found is None or found.version <= entry.canonical.version:
            return
        if not await self.adopt_own(entry, found):
            raise errors.Conflict(
                f"segment {entry.segment} has a canonical copy that its writer has not seen",
                "it was put there by somebody else; the worker will retire its own",
            )

    async def publish(self, target: Target, entry: Entry, guard: Guard) -> CanonicalCopy:
        """Publish the state of this moment.

        :param guard: awaited right before the publication takes effect
        """
        snapshot = local_files.snapshot_path(self._directory, entry.segment)
        try:
            await self._pool.snapshot(target, str(snapshot))
            # Remembered so that a canonical copy that is newer than ours can be told to
            # be our own, should we die between the rename there and the note of it here.
            entry.publishing = await self._threads.run(checksum, snapshot)
            await self._remember(entry)
            size = snapshot.stat().st_size
            transfer = local_files.Transfer(self._transfers, entry.segment, "publish", size)
            with transfer as progress:
                return await self._storage.publish(
                    snapshot, entry.segment, entry.path, guard, progress
                )
        finally:
            await self._threads.run(local_files.remove, str(snapshot))

    async def adopt_own(self, entry: Entry, canonical: CanonicalCopy) -> bool:
        """Take note of a newer canonical copy if it is what was being published here.

        :return: whether it is
        """
        if not entry.publishing:
            return False
        look = local_files.snapshot_path(self._directory, canonical.segment)
        try:
            found = await self._storage.fetch(canonical, look)
            same = await self._threads.run(checksum, look) == entry.publishing
        finally:
            await self._threads.run(local_files.remove, str(look))
        if same:
            entry.adopt(found)
            entry.publishing = ""
            await self._remember(entry)
        return same
