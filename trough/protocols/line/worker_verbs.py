"""What a worker answers over the line protocol: QUERY, WRITE and STATUS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.access.many_segments import check_many
from trough.access.rights import ADMIN, PEER, READ, WRITE
from trough.executors.pool.pool import LINES, Outcome
from trough.executors.pool.task_pool import TaskPool
from trough.metadata.patterns import matching
from trough.model import Copy, segment_word
from trough.protocols.line.arguments import (
    QueryArguments,
    WriteArguments,
    checked_ids,
    parse_no_arguments,
    parse_query_arguments,
    parse_word,
    parse_write_arguments,
)
from trough.protocols.line.framing import LineRequest
from trough.protocols.line.kept_reply import KeptReply
from trough.protocols.line.replies import QueryReply, Reply, Verb, WriteReply, table
from trough.replication.choice import is_able
from trough.util.slices import SLICE, in_slices
from trough.util.trace_context import sampled
from trough.worker.queries import LocalRead, QueryService

_log = Logger()


#: See :meth:`trough.cluster_client.write_peers.WritePeers.pass_on`.
PassOn = Callable[[str, WriteArguments, float], Coroutine[Any, Any, int]]


class WorkerVerbs:
    """The verbs of one worker.

    :param tasks: where patterns are matched
    :param pass_on: sends a write to the line port at an address, with a limit in seconds, and
        returns how many rows changed; None: writes for other workers are refused
    """

    def __init__(
        self, queries: QueryService, tasks: TaskPool, pass_on: PassOn | None = None
    ) -> None:
        self._queries = queries
        self._tasks = tasks
        self._pass_on = pass_on

    def table(self) -> dict[str, Verb]:
        """The verbs by name, as the server takes them."""
        return table(
            Verb(
                "QUERY",
                "<id>,<id>...|~<pattern> [seconds=N] [rows=N] [keep=yes] [tests=JSON] "
                "[merge=RULES] [trace=ID] [bind=JSON] <SQL>",
                "asks one SELECT of each of the segments",
                self._query,
                "1 QUERY 300001,300002 SELECT count(*) FROM crawled_url",
                needs=READ | PEER,
            ),
            Verb(
                "WRITE",
                "<id> [seconds=N] [bind=JSON] [passed=yes] <SQL>",
                "runs SQL in one transaction; answers once it is on disk",
                self._write,
                "1 WRITE 300001 INSERT INTO crawled_url (url) VALUES ('http://example.com/')",
                needs=WRITE | PEER,
                act="write",
            ),
            Verb(
                "STATUS",
                "",
                "what this worker holds and does",
                self._status,
                "1 STATUS",
                needs=ADMIN | PEER,
            ),
            Verb(
                "UNCHANGED",
                "<version>",
                "whether the segments of a QUERY would answer as they did",
                self._unchanged,
                "1 UNCHANGED 0123456789abcdef-1",
                needs=READ | PEER,
            ),
        )

    def _query(self, request: LineRequest, reply: Reply) -> Awaitable[None] | None:
        arguments = parse_query_arguments(request)
        if arguments.trace:
            _log_trace(arguments)
        segments, queries = arguments.segments, self._queries
        if len(segments) > SLICE:
            return self._query_long(arguments, reply)
        grant = reply.connection.grant
        if grant.limit is not None:
            grant.check_segments(segments)
        # Where a read has to wait, `local` has no answer either.
        if len(segments) == 1 and (reading := queries.local(segments[0])) is not None:
            self._read(arguments, [reading], reply, QueryReply(reply))
            return None
        if queries.has_to_wait:
            return self._wait(arguments, reply)
        return self._answer(arguments, reply)

    async def _query_long(self, arguments: QueryArguments, reply: Reply) -> None:
        """A list of segments that is too long for one turn of the reactor."""
        arguments.segments = await checked_ids(arguments.segments)
        await check_many(reply.connection.grant, arguments.segments)
        if self._queries.has_to_wait:
            await self._queries.wait()
        await self._query_many(arguments, reply)

    async def _query_many(self, arguments: QueryArguments, reply: Reply) -> None:
        readings = await in_slices(self._queries.all_local, arguments.segments)
        if len(readings) < len(arguments.segments):
            await self._query_in_parts(arguments, readings, reply)
        else:
            self._read(arguments, readings, reply, QueryReply(reply))

    async def _wait(self, arguments: QueryArguments, reply: Reply) -> None:
        await self._queries.wait()
        answering = self._answer(arguments, reply)
        if answering is not None:
            await answering

    def _answer(self, arguments: QueryArguments, reply: Reply) -> Awaitable[None] | None:
        if arguments.pattern is not None:
            return self._query_matching(arguments, reply)
        segments = arguments.segments
        readings = self._queries.all_local(segments)
        if len(readings) < len(segments):
            return self._query_in_parts(arguments, readings, reply)
        self._read(arguments, readings, reply, QueryReply(reply))
        return None

    def _read(
        self,
        arguments: QueryArguments,
        readings: list[LocalRead],
        reply: Reply,
        receiver: QueryReply,
    ) -> None:
        limits = self._queries.limits(arguments.seconds, arguments.rows, reply.connection.client)
        targets = []
        for reading in readings:
            target = reading.target
            targets.append(target)
            if reading.mark:
                reply.line("STATE", segment_word(target.segment), reading.mark)
        if arguments.keep and self._queries.results.is_on:
            reply.follow(
                KeptReply(self._queries, arguments, limits, targets, reply, receiver=receiver)
            )
            return
        reply.follow(
            self._queries.read(
                targets,
                arguments.sql,
                arguments.parameters,
                limits,
                LINES,
                reply.tag,
                receiver,
                merge=arguments.merge,
            )
        )

    async def _query_matching(self, arguments: QueryArguments, reply: Reply) -> None:
        """Ask all segments of this worker that match, and report those that cannot be read here
        now. Other workers name theirs."""
        names = self._queries.all_names()
        matched = await matching(self._tasks, arguments.pattern or "", names)
        await check_many(reply.connection.grant, matched, found=True)
        if matched:
            await self._query_many(replace(arguments, segments=tuple(matched)), reply)
        else:
            QueryReply(reply).finished(Outcome())

    async def _query_in_parts(
        self, arguments: QueryArguments, readings: list[LocalRead], reply: Reply
    ) -> None:
        """Ask the segments that are here, and name the places of the others."""
        here = {reading.target.segment for reading in readings}
        missing = [segment for segment in arguments.segments if segment not in here]
        cold = await in_slices(self._cold, missing)
        receiver = QueryReply(reply, bool(readings) + len(cold) + 1)
        if readings:
            self._read(arguments, readings, reply, receiver)
        fetched = set(cold)
        others = [each for each in missing if each not in fetched]
        # Beside the cold ones, which a silent metadata store is not to hold up.
        rest = Deferred.fromCoroutine(self._rest(others, arguments, reply, receiver))
        for segment in cold:
            await self._read_cold(segment, arguments, reply, receiver)
        await rest

    def _cold(self, segments: Sequence[str]) -> list[str]:
        return [segment for segment in segments if self._queries.is_cold(segment)]

    async def _rest(
        self, segments: list[str], arguments: QueryArguments, reply: Reply, receiver: QueryReply
    ) -> None:
        """Ask local copies whose writer cannot be reached, and name the places of the others."""
        await self._queries.arrived(segments)
        await self._queries.try_holders(segments)
        readable_here = self._queries.all_local(segments)
        here = {reading.target.segment for reading in readable_here}
        try:
            await self._say_where([each for each in segments if each not in here], receiver)
        finally:
            if readable_here:
                self._read(arguments, readable_here, reply, receiver)
            else:
                receiver.finished(Outcome())

    async def _read_cold(
        self, segment: str, arguments: QueryArguments, reply: Reply, receiver: QueryReply
    ) -> None:
        """Fetch one cold segment, if need be, and ask it."""
        try:
            target = await self._queries.bring(segment)
        except errors.TroughError as failure:
            receiver.fail(segment, failure)
            receiver.finished(Outcome())
            return
        limits = self._queries.limits(arguments.seconds, arguments.rows, reply.connection.client)
        if mark := self._queries.cold_mark:
            reply.line("STATE", segment_word(segment), mark)
        reply.follow(
            self._queries.read_cold(
                target,
                arguments.sql,
                arguments.parameters,
                limits,
                LINES,
                reply.tag,
                receiver,
            )
        )

    async def _say_where(self, missing: list[str], receiver: QueryReply) -> None:
        if not missing:
            return
        reason: errors.TroughError | None = None
        try:
            copies = await self._queries.copies_elsewhere(missing)
        except errors.Unavailable as failure:
            copies, reason = {}, failure

        def fail(some: Sequence[str]) -> tuple[()]:
            for segment in some:
                receiver.fail(segment, reason or self._where(segment, copies.get(segment)))
            return ()

        await in_slices(fail, missing)

    def _where(self, segment: str, copy: Copy | None) -> errors.TroughError:
        if copy is None:
            return self._queries.absence(segment)
        worker = self._queries.worker.cluster.workers.get(copy.node)
        line = worker.line if worker is not None else ""
        return errors.Moved(f"{copy.node} {line}".strip(), copy.node, line)

    def _write(self, request: LineRequest, reply: Reply) -> Awaitable[None] | None:
        arguments = parse_write_arguments(request)
        reply.about(segment=arguments.segment, sql=arguments.sql)
        reply.connection.grant.check_segment(arguments.segment)
        if self._queries.writers.is_here(arguments.segment):
            self._write_here(arguments, reply)
            return None
        return self._write_late(arguments, reply)

    async def _write_late(
        self, arguments: WriteArguments, reply: Reply, again: bool = True
    ) -> None:
        """Pass a write on to the lock's holder, or take the lock again and write here.

        :param again: whether a write that is refused here for want of the lock comes back
        """
        holder = await self._queries.writers.find(arguments.segment)
        # No write may circle between workers, and one of an earlier version knows no mark for it.
        if holder is None or arguments.passed or self._pass_on is None or not is_able(holder):
            self._write_here(arguments, reply, again)
            return
        seconds = self._queries.limits(arguments.seconds, None, reply.connection.client).seconds
        question = self._pass_on(holder.line, arguments, seconds)
        cluster = self._queries.worker.cluster
        try:
            reply.written(await cluster.while_alive(holder.node, question))
        except CancelledError as failure:  # before the write was sent
            if holder.node in cluster.workers:
                raise
            raise errors.NoWriteLock(
                f"worker {holder.node} holds the write lock of segment {arguments.segment}, and "
                "is dead",
                "provision the segment again",
            ) from failure

    def _write_again(self, arguments: WriteArguments, reply: Reply) -> None:
        """Find the holder for a write that waited here while its segment was handed over."""

        def failed(failure: Failure) -> None:
            error = failure.value
            if not isinstance(error, errors.TroughError):
                _log.failure("a write could not be passed on", failure)
                error = errors.TroughError("WRITE failed", "the server's log has the reason")
            reply.error(error)

        routing = Deferred.fromCoroutine(self._write_late(arguments, reply, again=False))
        routing.addErrback(failed)

    def _write_here(self, arguments: WriteArguments, reply: Reply, again: bool = True) -> None:
        limits = self._queries.limits(arguments.seconds, None, reply.connection.client)
        comes_back = again and not arguments.passed
        receiver = WriteReply(
            reply, partial(self._write_again, arguments, reply) if comes_back else None
        )
        receiver.job = self._queries.write(
            arguments.segment, arguments.sql, arguments.parameters, limits, receiver
        )
        reply.follow(receiver.job)

    async def _unchanged(self, request: LineRequest, reply: Reply) -> None:
        word = parse_word(request, "the version")
        grant = reply.connection.grant
        if grant.limit is not None:
            await check_many(grant, self._queries.remembered(word), found=True)
        marks = await self._queries.unchanged(word)

        def state(some: Sequence[tuple[str, str]]) -> tuple[()]:
            for segment, mark in some:
                reply.line("STATE", segment_word(segment), mark)
            return ()

        await in_slices(state, list((marks or {}).items()))
        reply.ok(unchanged=marks is not None)

    async def _status(self, request: LineRequest, reply: Reply) -> None:
        parse_no_arguments(request)
        reply.ok(await self._queries.worker.status())


def _log_trace(arguments: QueryArguments) -> None:
    """Log a query that belongs to a request that its client traces and samples."""
    if (ids := sampled(arguments.trace)) is not None:
        text = "trace {trace}, span {span}: QUERY of {segments} segments"
        number = len(arguments.segments) if arguments.pattern is None else "the matching"
        _log.info(text, **ids, segments=number)
