"""What a sync server answers over the line protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trough import errors
from trough.access import rights
from trough.access.many_segments import check_many
from trough.cluster_client.existing import existing
from trough.gather.errors import SegmentsFailed
from trough.metadata.schemas import Schemas
from trough.model import READ, Copy, Worker, segment_word
from trough.protocols.gather_service import Gatherer
from trough.protocols.line.arguments import (
    checked_ids,
    parse_gather_arguments,
    parse_no_arguments,
    parse_provision_arguments,
    parse_put_schema_arguments,
    parse_revert_arguments,
    parse_segment_argument,
    parse_where_arguments,
    parse_word,
)
from trough.protocols.line.framing import LineRequest
from trough.protocols.line.replies import Reply, Verb, table
from trough.sql.rows import names_json
from trough.sync import MasterSyncController
from trough.util.slices import in_slices


class SyncVerbs:
    """The verbs of one sync server."""

    def __init__(
        self, controller: MasterSyncController, schemas: Schemas, gatherer: Gatherer
    ) -> None:
        self._controller = controller
        self._schemas = schemas
        self._gatherer = gatherer

    def table(self) -> dict[str, Verb]:
        """The verbs by name, as the server takes them."""
        return table(
            Verb("WHERE", "<id>,<id>...|~<pattern>", "which workers can be asked for segments",
                 self._where, "1 WHERE ~^3000", needs=rights.READ | rights.PEER),
            Verb("GATHER", "<id>,<id>...|~<pattern> [partial=yes] [within=yes] [stale=refuse] "
                 "[seconds=N] [bind=JSON] <SQL>",
                 "answers one SELECT as if the segments were one database",
                 self._gather, "1 GATHER ~^3000 SELECT host, count(*) FROM crawled_url GROUP BY 1",
                 needs=rights.READ),
            Verb("PROVISION", "<id> [schema=NAME]", "makes a segment writable on one worker",
                 self._provision, "1 PROVISION 300001 schema=default",
                 needs=rights.PROVISION | rights.PEER, act="provision"),
            Verb("PROMOTE", "<id>", "makes a written segment's state its canonical copy",
                 self._promote, "1 PROMOTE 300001",
                 needs=rights.PROMOTE | rights.PEER, act="promote"),
            Verb("REVERT", "<id> [preview=yes]", "gives up what was written since the promotion",
                 self._revert, "1 REVERT 300001 preview=yes",
                 needs=rights.DELETE | rights.PEER, act="revert"),
            Verb("DELETE", "<id>", "removes a segment everywhere, for ever",
                 self._delete, "1 DELETE 300001", needs=rights.DELETE | rights.PEER, act="delete"),
            Verb("SCHEMAS", "", "names of all schemas", self._list, "1 SCHEMAS",
                 needs=rights.EVERY_RIGHT),
            Verb("SCHEMA", "<name>", "the SQL of a schema", self._get, "1 SCHEMA default",
                 needs=rights.EVERY_RIGHT),
            Verb("PUT-SCHEMA", "<name> <SQL>", "adds or replaces a schema", self._put,
                 "1 PUT-SCHEMA hosts CREATE TABLE host (name TEXT)",
                 needs=rights.SCHEMA, act="put-schema"),
            Verb("STATUS", "", "who leads, and which workers live", self._status, "1 STATUS",
                 needs=rights.ADMIN | rights.PEER),
        )  # fmt: skip

    async def _where(self, request: LineRequest, reply: Reply) -> None:
        segments, pattern = parse_where_arguments(request)
        grant = reply.connection.grant
        metadata = self._controller.metadata
        workers = {worker.node: worker for worker in await metadata.workers()}
        if pattern is not None:
            count = 0
            async for page in existing(metadata, pattern):
                await check_many(grant, page, found=True)
                found = await metadata.copies_of(page)
                await reply.ready()
                count += sum(_say_where(reply, page, found, workers))
        else:
            segments = await checked_ids(segments)
            await check_many(grant, segments)
            found = await metadata.copies_of(segments)
            count = sum(
                await in_slices(lambda some: _say_where(reply, some, found, workers), segments)
            )
        reply.end(copies=count, ms=reply.milliseconds)

    async def _gather(self, request: LineRequest, reply: Reply) -> None:
        arguments = parse_gather_arguments(request)
        arguments.segments = await checked_ids(arguments.segments)

        async def send(names: tuple[str, ...], rows: str) -> None:
            if rows:
                reply.line("ROWS", "*", f"[{rows}]")
            else:
                reply.line("COLS", "*", names_json(names))
            await reply.ready()

        try:
            answered = await self._gatherer.gather(arguments, send, reply.connection.grant)
        except SegmentsFailed as failed:
            failed.offer("partial=yes")
            raise

        def miss(some: Sequence[tuple[str, errors.TroughError]]) -> tuple[()]:
            for segment, error in some:
                reply.miss(segment, error)
            return ()

        def mark(some: Sequence[tuple[str, str]]) -> tuple[()]:
            for segment, state in some:
                reply.line("STATE", segment, state)
            return ()

        await in_slices(miss, list(answered.missing.items()))
        await in_slices(mark, list(answered.stale.items()))
        reply.end(
            segments=answered.segments,
            missing=len(answered.missing),
            rows=answered.rows,
            ms=reply.milliseconds,
            complete=not answered.missing,
            **({"stale": len(answered.stale)} if answered.stale else {}),
        )

    async def _provision(self, request: LineRequest, reply: Reply) -> None:
        segment, schema = parse_provision_arguments(request)
        reply.about(segment=segment)
        reply.connection.grant.check_segment(segment)
        reply.ok(await self._controller.provision(segment, schema))

    async def _promote(self, request: LineRequest, reply: Reply) -> None:
        segment = parse_segment_argument(request)
        reply.about(segment=segment)
        reply.connection.grant.check_segment(segment)
        reply.ok(await self._controller.promote(segment))

    async def _revert(self, request: LineRequest, reply: Reply) -> None:
        segment, preview = parse_revert_arguments(request)
        reply.about(segment=segment)
        reply.connection.grant.check_segment(segment)
        reply.ok(await self._controller.revert(segment, preview))

    async def _delete(self, request: LineRequest, reply: Reply) -> None:
        segment = parse_segment_argument(request)
        reply.about(segment=segment)
        reply.connection.grant.check_segment(segment)
        await self._controller.delete(segment)
        reply.ok()

    async def _list(self, request: LineRequest, reply: Reply) -> None:
        parse_no_arguments(request)
        reply.ok(await self._schemas.names())

    async def _get(self, request: LineRequest, reply: Reply) -> None:
        schema = await self._schemas.get(parse_word(request, "the name"))
        reply.ok({"id": schema.id, "sql": schema.sql})

    async def _put(self, request: LineRequest, reply: Reply) -> None:
        name, sql = parse_put_schema_arguments(request)
        reply.about(schema=name, sql=sql)
        reply.ok(created=int(await self._schemas.put(name, sql)))

    async def _status(self, request: LineRequest, reply: Reply) -> None:
        parse_no_arguments(request)
        reply.ok(await self._controller.status())


def _say_where(
    reply: Reply,
    segments: Sequence[str],
    found: Mapping[str, Sequence[Copy]],
    workers: dict[str, Worker],
) -> list[int]:
    """Name the copies of each segment, or report that there is none; how many each has."""
    counts = []
    for segment in segments:
        copies = found.get(segment, ())
        counts.append(len(copies))
        for copy in copies:
            _say(reply, copy, workers)
        if not copies:
            reply.line("NONE", segment_word(segment))
    return counts


def _say(reply: Reply, copy: Copy, workers: dict[str, Worker]) -> None:
    worker = workers.get(copy.node)
    line = worker.line if worker is not None and worker.line else "-"
    role = "read" if copy.role == READ else "write"
    reply.line("COPY", segment_word(copy.segment), copy.node, line, copy.url, role)
