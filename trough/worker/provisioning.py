"""How a worker starts to write a segment.

It takes the write lock. Then it makes the newest canonical copy, or a new and empty one, ready to
be written to.

A provisioning that fails half-way leaves no lock behind. One that has begun is carried out, even
if the client is gone by then. Only one provisioning of a segment runs at a time. It waits for a
lock that is being given up.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from twisted.application import service
from twisted.internet.defer import Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.model import CanonicalCopy, Lock, check_segment_id, segment_word
from trough.util.waiting import ended, shielded
from trough.worker.replication import Replication
from trough.worker.shared import Shared
from trough.worker.write_locks import WriteLockManager

_log = Logger()


class Provisioning(service.Service):
    """The provisionings of one worker.

    :param write_url: where clients write
    :param may_begin: whether clients may be sent to this worker now
    :param replication: of writes, or None
    """

    def __init__(
        self,
        shared: Shared,
        writer: WriteLockManager,
        write_url: str,
        may_begin: Callable[[], bool],
        replication: Replication | None = None,
    ) -> None:
        self._replication = replication
        self._shared = shared
        self._writer = writer
        self._write_url = write_url
        self._may_begin = may_begin
        self._orders: set[Deferred[dict[str, object]]] = set()

    async def stopService(self) -> None:
        """Cancel what goes on, and wait for it."""
        super().stopService()
        orders = list(self._orders)
        for order in orders:
            order.cancel()
        await DeferredList(orders)

    async def provision(self, segment: str, schema: str, client: str = "") -> dict[str, object]:
        """Take the write lock and make the segment writable here. Idempotent.

        Cancelled, it goes on, and its result is not reported. A caller that stopped waiting could
        not know, for example, whether a lock that was just asked for has to be given back.

        :param schema: creates the tables if the segment is new
        :param client: a name under which the client may :meth:`undo` it
        :raises trough.errors.Moved: another worker has the lock
        """
        check_segment_id(segment)
        if self._shared.is_cold(segment) or self._shared.cold is not None:
            raise errors.cold_segment(segment)
        return await self.carry_out(segment, self._provision(segment, schema, client))

    async def undo(self, segment: str, client: str) -> None:
        """Remove a new segment into which nothing was stored, and give its lock back.

        :param client: the only one that provisioned the segment
        :raises trough.errors.Conflict: it is used, or others provisioned it, or that is not
            known any more; nothing is changed
        """
        check_segment_id(segment)
        await self.carry_out(segment, self._undo(segment, client))

    async def _undo(self, segment: str, client: str) -> dict[str, object]:
        shared = self._shared
        async with shared.turns.hold(segment):
            copy = shared.segments.get(segment)
            await shared.segments.discard_unused(segment, client)
            assert copy is not None  # or there was nothing to discard
            shared.publisher.withdraw(segment)
            if self._replication is not None:
                self._replication.end(segment)
            await self._writer.release(Lock(segment, shared.node, copy.entry.epoch))
        _log.info("{segment}: removed, nothing was stored in it", segment=segment)
        return {}

    async def take_again(self, segment: str) -> None:
        """As :meth:`provision`, of a segment that is there already.

        :raises trough.errors.NoWriteLock: it is not there any more
        """
        await self.carry_out(segment, self._provision(segment, None, ""))

    async def carry_out(
        self, segment: str, work: Coroutine[Any, Any, dict[str, object]]
    ) -> dict[str, object]:
        """Run `work` to its end, also where its client is gone by then."""
        order = Deferred.fromCoroutine(work)
        self._orders.add(order)
        ended(order).addCallback(lambda _: self._orders.discard(order))
        return await shielded(order, lambda result: _unheard(result, segment))

    async def _provision(self, segment: str, schema: str | None, client: str) -> dict[str, object]:
        shared = self._shared
        if not self._may_begin():
            # Also of what it writes: the client would be sent to a port that is being closed.
            raise errors.Unavailable(
                f"{shared.node} is being started or stopped", "provision again"
            )
        await self._writer.attentive()
        async with shared.turns.hold(segment):
            await self._writer.finish_giving_up(segment)
            copy = shared.segments.get(segment)
            if copy is None or not copy.writable:
                await self._become_writer(segment, await self._sql_of(segment, schema))
                shared.publisher.serve(segment, writable=True)
                await shared.publisher.published()
            copy = shared.segments.get(segment)
            if copy is not None and copy.provisioned_by is not None:
                copy.provisioned_by.add(client)
        return {
            "write_url": f"{self._write_url}?segment={segment_word(segment)}",
            "result": "success",
            "size": await shared.segments.size_of(segment),
            "schema": schema or "default",
        }

    async def _sql_of(self, segment: str, schema: str | None) -> str | errors.TroughError:
        """The SQL of a schema, or the reason why the segment may not be new. An existing segment
        needs no schema, even if clients name one.
        """
        if schema is None:
            return errors.NoWriteLock(
                f"segment {segment} is not there any more", "provision it with its schema"
            )
        try:
            return (await self._shared.metadata.schema(schema)).sql
        except errors.NoSuchSchema as unknown:
            return unknown

    async def _become_writer(self, segment: str, schema_sql: str | errors.TroughError) -> None:
        shared, segments = self._shared, self._shared.segments
        try:
            await self._clear_lock(segment)
            if segments.get(segment) is None:
                # Once it is locked, no worker answers for it until it is here.
                await self._fetch_newest(segment)
            if segments.get(segment) is None and isinstance(schema_sql, errors.TroughError):
                raise schema_sql
            disk = self._replication.disk if self._replication is not None else ""
            lock = await shared.metadata.take_lock(segment, shared.node, disk)
            self._check_mine(lock)
            await self._write_under(lock, schema_sql)
        except errors.NoSuchSegment as gone:
            raise _changes(segment, str(gone)) from gone
        finally:
            shared.look_at([segment])
        _log.info("{segment}: writable here, epoch {epoch}", segment=segment, epoch=lock.epoch)

    async def _write_under(self, lock: Lock, schema_sql: str | errors.TroughError) -> None:
        """Make a segment ready to be written to, or give its lock back.

        :param schema_sql: creates the tables if the segment is new; an error: it may not be
        """
        shared, segment = self._shared, lock.segment
        try:
            exists = await self._fetch_newest(segment)
            # That may have taken long, and operators free locks. What the store reports from
            # here on is later than this, and is checked below.
            shared.cluster.take_notice(lock)
            await self._check_still_held(lock)
            if exists:
                await shared.segments.make_writable(segment, lock.epoch)
            elif isinstance(schema_sql, errors.TroughError):
                raise schema_sql
            else:
                await shared.segments.create(segment, schema_sql, lock.epoch)
            if self._replication is not None:
                # Before the mark: a write that is not marked waits for it.
                await self._replication.begin_new(lock)
            self._writer.marks.taken(lock)
        except BaseException:
            await self._writer.release(lock)
            raise

    async def _clear_lock(self, segment: str) -> None:
        """Make sure that the lock which is taken next has an epoch that was never in use.

        A lock that is left over may have been given back without an answer, and the store may
        carry that out at any time. Or it may be the lock of a file which is aside by now.
        """
        left = await self._shared.metadata.lock_of(segment)
        if left is not None:
            self._check_mine(left)
            if self._replication is not None and self._replication.is_kept(left):
                raise errors.Unavailable(
                    f"segment {segment} is being taken over from another disk of {left.node}",
                    "provision it again in a moment",
                )
            await self._writer.release(left)

    def _check_mine(self, lock: Lock) -> None:
        if lock.node != self._shared.node:
            raise errors.Moved(f"segment {lock.segment} is being written on {lock.node}", lock.node)

    async def _check_still_held(self, lock: Lock) -> None:
        """Make sure that a lock was not taken away.

        :raises trough.errors.Unavailable: it was
        """
        try:
            await self._shared.metadata.check_lock(lock)
        except errors.Fenced as lost:
            raise errors.Unavailable(
                f"the write lock of segment {lock.segment} was lost while it was made ready: "
                f"{lost}",
                "provision the segment again",
            ) from lost

    async def _fetch_newest(self, segment: str) -> bool:
        """Have the newest canonical copy that is known of; whether there is one.

        With canonical storage away, what the leader saw at its last look is enough: a
        segment that it did not assign to anybody was not there, and a copy of what it saw
        may be written to. Nothing is fetched then, for that would only take long to fail.
        """
        segments = self._shared.segments
        copy = segments.get(segment)
        assigned = await self._shared.metadata.assignments_of_segment(segment)
        seen = max((row.canonical for row in assigned if row.modified), key=_version, default=None)
        known = seen or (copy.entry.canonical if copy is not None else None)
        try:
            found = await self._shared.storage.find(segment, known.path if known else None)
        except errors.Unavailable as reason:
            held = copy.entry.canonical.version if copy is not None else (0, 0)
            if seen is not None and seen.version > held:
                raise errors.Unavailable(
                    f"segment {segment} has to be fetched before it is written to: {reason}"
                ) from reason
            return copy is not None
        if found is not None:
            await segments.fetch(found)
        elif seen is not None:
            raise _changes(segment, f"it is not at {seen.path} any more")
        else:
            # Deleted, and this worker has not noticed yet: it is not to come back.
            self._shared.publisher.withdraw(segment)
            await segments.drop(segment)
        return found is not None


def _changes(segment: str, why: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"segment {segment} is being deleted, or moved: {why}",
        "provision it again in a moment; if its file was removed by hand, delete the segment",
    )


def _unheard(result: object, segment: str) -> None:
    """Report a failed provisioning whose client is gone."""
    if isinstance(result, Failure):
        _log.warn(
            "{segment}: not done, and nobody waits for it any more: {reason}",
            segment=segment,
            reason=result.value,
        )


def _version(copy: CanonicalCopy) -> tuple[int, int]:
    return copy.version
