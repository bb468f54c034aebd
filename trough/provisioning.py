"""How a worker comes to write a segment: it takes the write lock, and makes the newest
canonical copy, or a new and empty one, ready to be written to.

What fails half-way leaves no lock behind that was not there before. One provisioning of a
segment goes on at a time; a lock that is being given up is waited for.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from twisted.logger import Logger

from trough import errors
from trough.keyed_lock import KeyedLock
from trough.model import CanonicalCopy, Lock, check_segment_id

if TYPE_CHECKING:
    from trough.worker import LocalSyncController

_log = Logger()


class Provisioning:
    """The provisionings of one worker.

    :param worker: whose segments, metadata store and storage these are
    """

    def __init__(self, worker: LocalSyncController) -> None:
        self._worker = worker
        self._under_way = KeyedLock()

    def busy(self, segment: str) -> bool:
        """Whether a segment is being provisioned."""
        return self._under_way.busy(segment)

    def alone(self, segment: str) -> AbstractAsyncContextManager[None]:
        """Keep a segment from being provisioned for as long as the context lasts."""
        return self._under_way.hold(segment)

    async def provision(self, segment: str, schema: str) -> dict[str, object]:
        """Take the write lock and make the segment writable here. Idempotent.

        :param schema: creates the tables if the segment is new
        :raises trough.errors.Moved: another worker has the lock
        """
        worker = self._worker
        check_segment_id(segment)
        if worker.is_cold(segment) or worker.myself.cold_storage:
            raise errors.ColdSegment(
                f"segment {segment} belongs to the cold tier, which is never writable"
            )
        await worker.writer.attentive()
        async with self.alone(segment):
            await worker.writer.finish_giving_up(segment)
            copy = worker.segments.get(segment)
            if copy is None or not copy.writable:
                sql = (await worker.metadata.schema(schema)).sql
                await self._become_writer(segment, sql)
                worker.publisher.serve(segment, writable=True)
                await worker.publisher.published()
                copy = worker.segments.get(segment)
        return {
            "write_url": f"{worker.myself.write_url}?segment={segment}",
            "result": "success",
            "size": copy.entry.file_size if copy is not None else 0,
            "schema": schema,
        }

    async def _become_writer(self, segment: str, schema_sql: str) -> None:
        worker, segments = self._worker, self._worker.segments
        if worker.loaded and not worker.registered:
            raise errors.Unavailable(
                f"{worker.myself.node} is being started or stopped", "provision again"
            )
        held = worker.locks.get(segment)
        lock = await worker.metadata.take_lock(segment, worker.myself.node)
        if lock.node != worker.myself.node:
            raise errors.Moved(f"segment {segment} is being written on {lock.node}", lock.node)
        try:
            await self._fetch_newest(segment)
            # That may have taken long, and operators free locks. What the store tells from
            # here on is later than this, and is looked at below.
            worker.locks[segment] = lock
            await self._check_still_held(lock)
            if segments.get(segment) is not None:
                await segments.make_writable(segment, lock.epoch)
            else:
                await segments.create(segment, schema_sql, lock.epoch)
        except BaseException:
            if held is None or held.epoch != lock.epoch:
                await worker.writer.release(lock)
            raise
        worker.reconciler.look_at([segment])
        _log.info("{segment}: writable here, epoch {epoch}", segment=segment, epoch=lock.epoch)

    async def _check_still_held(self, lock: Lock) -> None:
        """Make sure that a lock was not taken away.

        :raises trough.errors.Unavailable: it was
        """
        try:
            await self._worker.metadata.check_lock(lock)
        except errors.Fenced as lost:
            raise errors.Unavailable(
                f"the write lock of segment {lock.segment} was lost while it was made ready: "
                f"{lost}",
                "provision the segment again",
            ) from lost

    async def _fetch_newest(self, segment: str) -> None:
        """Have the newest canonical copy that is known of, if the segment is not new.

        With canonical storage away, what the leader saw at its last look is enough: a
        segment that it did not assign to anybody was not there, and a copy of what it saw
        may be written to. Nothing is fetched then, for that would only take long to fail.
        """
        assigned = await self._worker.metadata.assignments_of_segment(segment)
        seen = max((row.canonical for row in assigned if row.modified), key=_version, default=None)
        try:
            found = await self._worker.storage.find(segment, seen.path if seen else None)
        except errors.Unavailable as reason:
            copy = self._worker.segments.get(segment)
            held = copy.entry.canonical.version if copy is not None else (0, 0)
            if seen is not None and seen.version > held:
                raise errors.Unavailable(
                    f"segment {segment} has to be fetched before it is written to: {reason}"
                ) from reason
            return
        if found is not None:
            await self._worker.segments.fetch(found)


def _version(copy: CanonicalCopy) -> tuple[int, int]:
    return copy.version
