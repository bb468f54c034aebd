"""The Twisted client: queries a whole Trough as if it were one server.

The client finds segments through the metadata store. It keeps connections to the workers and to
the sync server that leads. Callers name segments and never workers.

A read follows its segments from worker to worker (see :mod:`trough.cluster_client.fan_out`). The
client repeats a write only when it is certain that the write was not carried out. It raises
:class:`trough.errors.OutcomeUnknown` if the write may have been carried out.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from trough import errors
from trough.access.tokens import Credential
from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.existing import SegmentSet, existing
from trough.cluster_client.fan_out import FanOut
from trough.cluster_client.interfaces import (
    FanOutListener,
    QueryRequest,
    QueryStats,
    WorkerClientFactory,
)
from trough.cluster_client.router import SegmentRouter, WorkerAddress
from trough.cluster_client.transports import UPGRADE, Workers
from trough.metadata import Metadata
from trough.model import (
    Copy,
    Leader,
    Schema,
    Worker,
    check_segment_id,
    segment_of_word,
    segment_word,
)
from trough.protocols.line.client import LineConnection
from trough.protocols.line.values import Parameters
from trough.sql.column_filters import FilterTest
from trough.util.bounded_lru import BoundedLru
from trough.util.trace_context import current_trace

if TYPE_CHECKING:
    from trough.cluster_client.gather import Gathers
    from trough.cluster_client.gather_driver import GatherResult, Receive
    from trough.tls.client import ClientTls

__all__ = ["Cluster", "FanOut", "FanOutListener", "QueryStats"]

#: Seconds to wait for a sync server to lead again after the last leader was lost, and
#: between two looks for it.
FAILOVER_SECONDS = 15.0
FAILOVER_PAUSE = 0.5

#: Segments whose lock's holder is remembered, at most.
MAX_HOLDERS = 100_000

# A write refused in one of these ways was not carried out, and another worker, or the
# same one after provisioning again, would take it.
_HOLDER_IS_ELSEWHERE = (errors.NoWriteLock, errors.Moved, errors.Fenced, errors.NoSuchSegment)


class Cluster:
    """All workers and sync servers that a metadata store knows.

    :param metadata: opened and closed by this
    :param credential: to prove to servers that ask for it
    :param tls: whom to trust; None: the CAs of the system
    :param gather_memory: bytes that SQLite may use in the process of each GATHER; None: as
        :mod:`trough.cluster_client.gather_process` has it
    :param kept_answers: bytes of answers of GATHERs that are kept, 0 for none; None: as
        :mod:`trough.cluster_client.kept_answers` has it
    """

    def __init__(
        self,
        metadata: Metadata,
        reactor: Any,
        credential: Credential | None = None,
        gather_memory: int | None = None,
        kept_answers: int | None = None,
        *,
        tls: ClientTls | None = None,
    ) -> None:
        self.metadata = metadata
        self._reactor = reactor
        self._tls = tls
        self._links = ConnectionPool(reactor, credential, tls)
        self._credential = credential
        self._gather_memory = gather_memory
        self._kept_answers = kept_answers
        self._closed = False
        self._made_gathers: Gathers | None = None
        self._workers = Workers(self._links)
        self._routes = SegmentRouter(metadata, reactor)
        #: By segment, the worker that holds its lock.
        self._holders: BoundedLru[str, str] = BoundedLru(MAX_HOLDERS)

    # A short query of the shell must not wait for the import of what it does not use.

    def _gathers(self) -> Gathers:
        if self._made_gathers is None:
            from trough.cluster_client.gather import Gathers, row_bounded_workers
            from trough.cluster_client.gather_process import MEMORY
            from trough.cluster_client.kept_answers import MOST

            if self._closed:
                raise errors.Cancelled("this client was closed")
            self._made_gathers = Gathers(
                self,
                row_bounded_workers(self._reactor, self._credential, self._tls),
                self._reactor,
                MEMORY if self._gather_memory is None else self._gather_memory,
                MOST if self._kept_answers is None else self._kept_answers,
            )
        return self._made_gathers

    @property
    def asked_workers(self) -> list[str]:
        """Addresses of servers that were asked, and that there are connections to."""
        return self._links.used

    def begin_connecting(self, addresses: Iterable[str]) -> None:
        """Begin to connect to servers that are likely to be asked."""
        for address in addresses:
            self._links.begin(address)

    async def open(self) -> None:
        """Connect to the metadata store; servers are connected to as they are needed.

        :raises trough.errors.Unavailable: it cannot be reached
        """
        await self.metadata.open()

    async def close(self) -> None:
        """Close all connections; requests under way fail. Idempotent."""
        self._closed = True
        if self._made_gathers is not None:
            await self._made_gathers.close()
        await self._links.close()
        await self.metadata.close()

    # -- reading ---------------------------------------------------------------

    def query(
        self,
        segments: Iterable[str],
        sql: str,
        parameters: Parameters | None = None,
        *,
        listener: FanOutListener,
        seconds: float | None = None,
        rows: int | None = None,
        over: WorkerClientFactory | None = None,
        keep: bool = False,
        tests: Sequence[FilterTest] = (),
        encoded: bool = False,
        merge: str = "",
    ) -> FanOut:
        """Send one query to each of these segments.

        :param segments: any number; one named twice is asked once
        :param parameters: for the places of the statement
        :param listener: receives what is found, as it is found
        :param seconds: the deadline, or None for each worker's own
        :param rows: most rows of one segment, or None
        :param over: connections to use; None: those that all queries share, so that a
            paused query makes the others wait as well
        :param keep: whether workers may keep the answers, and answer from kept ones
        :param tests: with `keep`: a segment that fails one of these has no rows, and a worker
            that knows that does not open it
        :param encoded: the listener takes rows as JSON, and decodes them itself
        :return: the query under way: ``done``, ``tally``, ``cancel()``, ``pause()``,
            ``resume()``
        :raises trough.errors.BadSegmentId: one of `segments` cannot be a segment's id
        """
        unique = list(dict.fromkeys(segments))
        for segment in unique:
            check_segment_id(segment)
        trace = current_trace()
        question = QueryRequest(
            sql, parameters, seconds, rows, keep, tuple(tests), encoded, trace, merge
        )
        sources = over or self._workers
        return FanOut(unique, question, listener, self._routes, sources, clock=self._reactor)

    async def gather(
        self,
        segments: Iterable[str] | re.Pattern[str] | SegmentSet,
        sql: str,
        parameters: Parameters | None = None,
        *,
        partial: bool = False,
        within: bool = False,
        seconds: float | None = None,
        receive: Receive | None = None,
        refuse_stale: bool = False,
        when_long: Callable[[], None] | None = None,
        each: bool = False,
    ) -> GatherResult:
        """Answer one SELECT as if the tables of these segments were one.

        :param segments: ids, or a regular expression, as a text or compiled, that is
            searched for in the ids of all that exist
        :param partial: answer from the segments that do not fail, and from those that are
            known; :data:`trough.cluster_client.existing.UNKNOWN` is missing where there
            may be others
        :param within: rows of different segments never meet
        :param seconds: the deadline for all of it, or None
        :param receive: takes the names of the columns and some rows, at least once; the
            workers pause while what it returns is waited for. Without it, the rows are
            in the result
        :param refuse_stale: whether to fail where a segment did not answer its present state
        :param when_long: called once, if it needs much processor time
        :param each: each segment answers by itself, with `receive`; see
            :mod:`trough.cluster_client.each_segment`
        :return: ``names``, ``rows``, ``missing``: the segments that failed, and why; and
            ``stale``: those that did not answer their present state, with their marks
        :raises trough.errors.TroughError: there is no exact answer, or segments failed
        """
        return await self._gathers().run(
            segments,
            sql,
            parameters,
            partial=partial,
            within=within,
            seconds=seconds,
            receive=receive,
            refuse_stale=refuse_stale,
            when_long=when_long,
            each=each,
        )

    def gather_status(self) -> dict[str, int]:
        """Counts of GATHERs; see :meth:`trough.cluster_client.gather.Gathers.status`."""
        return self._gathers().status()

    def warm_gathers(self) -> None:
        """Start the process of the first GATHER now, which takes half a second."""
        self._gathers().processes.warm()

    def matching(self, pattern: str | re.Pattern[str] | None) -> AsyncIterator[list[str]]:
        """Pages of the ids of all segments that exist in which `pattern` is found, whether
        or not they can be read now; each once.

        :raises trough.cluster_client.existing.SetUnknown: behind the last page: there may
            be more, as the leader has not looked through canonical storage yet
        :raises trough.errors.BadRequest: it is no regular expression
        """
        text = pattern.pattern if isinstance(pattern, re.Pattern) else pattern
        return existing(self.metadata, text)

    async def unserved(self, segments: Sequence[str]) -> list[str]:
        """See :meth:`trough.cluster_client.router.SegmentRouter.unserved`."""
        return await self._routes.unserved(segments)

    async def unchanged(self, place: WorkerAddress, word: str) -> dict[str, str] | None:
        """Whether a worker would answer a QUERY as it did when it sent this word.

        :return: the marks that its answers would carry now, by segment; None: it would not
        :raises trough.errors.TroughError: the worker does not answer that
        """
        connection = await self._workers.connection(place)
        answer = await connection.command("UNCHANGED", word)
        if answer.fields.get("unchanged") != "yes":
            return None
        told = (text.partition(" ") for name, text in answer.lines if name == "STATE")
        return {segment_of_word(segment): mark for segment, _, mark in told}

    async def where(self, segments: Iterable[str]) -> dict[str, list[Copy]]:
        """The copies that can be read of each segment, the least loaded worker's first;
        segments without any are left out."""
        return await self._routes.copies(segments)

    # -- writing ---------------------------------------------------------------

    async def write(
        self,
        segment: str,
        sql: str,
        parameters: Parameters | None = None,
        *,
        schema: str = "default",
        seconds: float | None = None,
    ) -> int:
        """Run SQL that changes a segment, in one transaction, on the worker that holds
        its write lock. Provisions the segment if no worker holds the lock.

        :param schema: what a new segment is created from
        :return: how many rows changed
        :raises trough.errors.OutcomeUnknown: it may have happened or not
        :raises trough.errors.TroughError: it did not happen
        """
        check_segment_id(segment)
        for last in (False, True):
            holder = self._holders.get(segment) or await self._provisioned(segment, schema)
            try:
                return await self._write_at(holder, segment, sql, parameters, seconds)
            except errors.OutcomeUnknown:
                self._holders.pop(segment)
                raise
            except (*_HOLDER_IS_ELSEWHERE, errors.Unavailable) as error:
                self._holders.pop(segment)
                if last or not _may_go_elsewhere(error):
                    raise
        raise AssertionError("the second try returns or raises")

    async def _provisioned(self, segment: str, schema: str) -> str:
        await self.provision(segment, schema)
        lock = await self.metadata.lock_of(segment)
        if lock is None:
            raise errors.NoWriteLock(
                f"segment {segment} was provisioned, and its lock is gone again", "try again"
            )
        self._holders.put(segment, lock.node)
        return lock.node

    async def _write_at(
        self,
        holder: str,
        segment: str,
        sql: str,
        parameters: Parameters | None,
        seconds: float | None,
    ) -> int:
        if await self._routes.worker(holder) is None:
            raise errors.HolderLost(
                f"{holder}, which holds the write lock of {segment}, is not alive"
            )
        connection = await self._workers.connection(self._routes.place_of(holder))
        answer = await connection.write(segment, sql, parameters, seconds=seconds)
        return int(answer.fields.get("changes", 0))

    # -- what sync servers do --------------------------------------------------

    async def provision(self, segment: str, schema: str = "default") -> dict[str, Any]:
        """Make a segment writable on one worker; the same one, if there is one already.

        :return: ``write_url``, ``result``, ``size``, ``schema``
        """
        check_segment_id(segment)
        return await self._order(
            lambda line: line.command("PROVISION", segment_word(segment), schema=schema),
        )

    async def promote(self, segment: str) -> dict[str, Any]:
        """Make a written segment's present state its canonical copy.

        :return: among others ``remote_path``
        """
        check_segment_id(segment)
        return await self._order(
            lambda line: line.command("PROMOTE", segment_word(segment)),
        )

    async def published(self, segment: str) -> tuple[int, int]:
        """Bytes of a segment that its promotion has published, and all of them; zeros while no
        transfer is under way.

        :raises trough.errors.TroughError: nobody tells that
        """
        lock = await self.metadata.lock_of(segment)
        if lock is None:
            raise errors.NoWriteLock(f"no worker writes segment {segment}")
        transfers = (await self.worker_status(lock.node)).get("transfers", {})
        row = transfers.get(segment, {})
        return int(row.get("bytes", 0)), int(row.get("of", 0))

    async def revert(self, segment: str, preview: bool = False) -> dict[str, Any]:
        """Return a written segment to its last promoted state; discarded writes are kept aside.

        :param preview: change nothing, and only return what would be discarded
        :return: see :meth:`trough.worker.reverting.Reverting.revert`
        :raises trough.errors.NoWriteLock: no worker writes it
        """
        check_segment_id(segment)
        if not preview:
            self._holders.pop(segment)
        return await self._order(
            lambda line: line.command("REVERT", segment, preview="yes" if preview else "no"),
            repeat=False,  # a second one would give up what was written since the first
        )

    async def delete(self, segment: str) -> None:
        """Delete a segment everywhere, permanently.

        :raises trough.errors.NotFound: it is nowhere
        :raises trough.errors.LockHeld: it has a write lock
        """
        check_segment_id(segment)
        self._routes.forget(segment)
        self._holders.pop(segment)
        await self._order(
            lambda line: line.command("DELETE", segment_word(segment)),
            repeat=False,  # a second one would not find what the first one deleted
        )

    async def put_schema(self, schema: Schema) -> None:
        """Add a schema, or replace the one of its name.

        :raises trough.errors.BadSchema: its SQL is not valid
        """
        await self._order(
            lambda line: line.command("PUT-SCHEMA", schema.id, schema.sql),
        )

    async def status(self) -> dict[str, Any]:
        """What the leading sync server knows of the cluster."""
        return await self._order(lambda line: line.command("STATUS"))

    async def schemas(self) -> list[str]:
        """Names of all schemas, sorted."""
        return await self.metadata.schemas()

    async def schema(self, name: str) -> Schema:
        """One schema.

        :raises trough.errors.NoSuchSchema: there is none of this name
        """
        return await self.metadata.schema(name)

    async def workers(self) -> list[Worker]:
        """All live workers, by name."""
        return await self.metadata.workers()

    async def worker_status(self, node: str) -> dict[str, Any]:
        """What one worker holds and does.

        :raises trough.errors.NotFound: no live worker has this name
        """
        if await self._routes.worker(node) is None:
            raise errors.NotFound(f"no live worker {node}")
        connection = await self._workers.connection(self._routes.place_of(node))
        return (await connection.command("STATUS")).document

    async def _order(
        self,
        ask: Callable[[LineConnection], Deferred[Any]],
        repeat: bool = True,
    ) -> Any:
        """Ask the sync server that leads, waiting for one while a lost one is replaced.

        :param repeat: whether to ask again where the connection was lost meanwhile
        """
        deadline = self._reactor.seconds() + FAILOVER_SECONDS
        while True:
            try:
                return await self._ask_leader(await self._leader(), ask, repeat)
            except _LeaderAway as away:
                if self._reactor.seconds() >= deadline:
                    raise away.error from away
            await deferLater(self._reactor, FAILOVER_PAUSE)

    async def _leader(self) -> Leader:
        leader = await self.metadata.leader()
        if leader is None:
            raise _LeaderAway(errors.Unavailable("no sync server leads now"))
        return leader

    async def _ask_leader(
        self,
        leader: Leader,
        ask: Callable[[LineConnection], Deferred[Any]],
        repeat: bool,
    ) -> Any:
        if not leader.line:
            raise errors.Unavailable(f"{leader.node} leads without the line protocol", UPGRADE)
        try:
            connection = await self._links.to(leader.line)
        except errors.Unavailable as error:
            raise _LeaderAway(error) from error
        try:
            return (await ask(connection)).document
        except errors.Unavailable as error:
            # Requests fail before the connection calls itself closed, in one turn.
            await deferLater(self._reactor, 0)
            if repeat and connection.closed.called:
                raise _LeaderAway(error) from error
            raise


class _LeaderAway(Exception):
    """No sync server leads, or the one that does takes no connection or lost it."""

    def __init__(self, error: errors.TroughError) -> None:
        super().__init__(str(error))
        self.error = error


def _may_go_elsewhere(error: errors.TroughError) -> bool:
    """Whether a write that failed so is worth provisioning again for."""
    final = (errors.DeadlineExceeded, errors.DiskFull, errors.Cancelled)
    return not isinstance(error, final)
