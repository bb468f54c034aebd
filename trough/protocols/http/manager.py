"""The manager's calls: a sync server's port 6111 and a worker's own 6112.

Both offer the same calls; on a worker each does this worker's own part. GATHER alone is for
sync servers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import unquote_to_bytes

from trough import errors
from trough.access.gate import Gate
from trough.access.rights import (
    ADMIN,
    DELETE,
    EVERY_RIGHT,
    PEER,
    PROMOTE,
    PROVISION,
    READ,
    SCHEMA,
    Grant,
)
from trough.executors.pool.encoder_pool import EncoderPool
from trough.metadata.schemas import Schemas
from trough.metrics.history import History
from trough.metrics.totals import RequestTotals
from trough.model import check_segment_id, segment_named
from trough.protocols.gather_service import Gatherer
from trough.protocols.http.console import answer_file, redirect_to_console
from trough.protocols.http.gather import answer_gather, answer_gather_url
from trough.protocols.http.headers import TRACE_HEADER
from trough.protocols.http.json_body import json_object
from trough.protocols.http.log_in import (
    about_client,
    check_session_origin,
    log_in,
    log_out,
    session_grant,
)
from trough.protocols.http.orders import AsideOrders, Manager
from trough.protocols.http.request import Request, as_json, as_text
from trough.protocols.http.resource import Resource
from trough.protocols.http.url_query import url_options
from trough.protocols.line.arguments import parse_rows
from trough.protocols.segment_search import MOST, SegmentSearch
from trough.util.quoting import quoted
from trough.util.trace_context import CURRENT_TRACE

#: What a segment's id may come as; which of these name one, the model knows.
_SEGMENT = {"segment": (str, int, float, bool)}


#: What a route needs that serves everybody.
OPEN = 0


@dataclass(frozen=True, slots=True)
class Route:
    """One call.

    :ivar needs: rights of which the client has to have one; :data:`OPEN`: it needs no token
    :ivar act: what the audit log calls it; empty: it changes nothing
    """

    call: Callable[..., Coroutine[Any, Any, Any]]
    needs: int
    act: str = ""


class ManagerResource(Resource):
    """All paths of a manager's port.

    The paths are few and their names come from outside (a segment's id, a schema's name),
    so that a table of shapes is clearer than a tree of resources.

    :param gatherer: answers ``/gather``; None where that is not offered
    :param encoders: write its answers in other formats than JSON
    :param totals: requests that were counted, for ``/metrics``
    :param search: finds segments for the web console; None where that is not offered
    :param aside: what a worker does with the files that it keeps aside; None on a sync server
    :param history: numbers of the last hour, for ``/history``
    :param files_of: what a leader knows of a segment's files, for the other sync servers
    """

    def __init__(
        self,
        manager: Manager,
        schemas: Schemas,
        gate: Gate | None = None,
        gatherer: Gatherer | None = None,
        files_of: Callable[[str], list[str] | None] | None = None,
        *,
        encoders: EncoderPool | None = None,
        totals: RequestTotals | None = None,
        search: SegmentSearch | None = None,
        aside: AsideOrders | None = None,
        history: History | None = None,
    ) -> None:
        super().__init__(gate)
        self._encoders = encoders
        self._segments = search
        self._totals = totals or RequestTotals()
        self._aside = aside
        self._history = history or History(dict, lambda: 0.0)
        self._gatherer = gatherer
        self._files_of = files_of
        self._manager = manager
        self._schemas = schemas
        self._routes = {
            ("POST", "provision"): Route(self._provision, PROVISION | PEER, "provision"),
            ("POST",): Route(self._provision_old, PROVISION | PEER, "provision"),
            ("POST", "provision", "undo"): Route(
                self._undo_provision, PROVISION | PEER, "undo-provision"
            ),
            ("POST", "promote"): Route(self._promote, PROMOTE | PEER, "promote"),
            ("POST", "revert"): Route(self._revert, DELETE | PEER, "revert"),
            ("DELETE", "segment", "*"): Route(self._delete, DELETE | PEER, "delete"),
            ("GET", "schema"): Route(self._list_schemas, EVERY_RIGHT),
            ("GET", "schema", "*"): Route(self._get_schema, EVERY_RIGHT),
            ("GET", "schema", "*", "sql"): Route(self._get_schema_sql, EVERY_RIGHT),
            ("PUT", "schema", "*"): Route(self._put_schema, SCHEMA, "put-schema"),
            ("PUT", "schema", "*", "sql"): Route(self._put_schema_sql, SCHEMA, "put-schema"),
            ("GET", "status"): Route(self._status, ADMIN | PEER),
            ("GET", "health"): Route(self._health, OPEN),
            ("GET", "metrics"): Route(self._metrics, ADMIN | PEER),
            ("GET", "history"): Route(self._past_hour, ADMIN | PEER),
            ("GET",): Route(self._root, OPEN),
            ("GET", "console"): Route(self._console, OPEN),
            ("GET", "console", "*"): Route(self._console, OPEN),
            ("GET", "console", "vendor", "*"): Route(self._vendored, OPEN),
            ("POST", "session"): Route(self._log_in, EVERY_RIGHT, "log-in"),
            ("DELETE", "session"): Route(self._log_out, EVERY_RIGHT, "log-out"),
        }
        if search is not None:
            self._routes["GET", "segments"] = Route(self._search, READ)
            self._routes["GET", "segments", "*"] = Route(self._segment, READ)
        if gatherer is not None:
            self._routes["POST", "gather"] = Route(self._gather, READ)
            self._routes["GET", "gather"] = Route(self._gather_url, READ)
            self._routes["HEAD", "gather"] = Route(self._gather_url, READ)
        if files_of is not None:
            self._routes["GET", "segment", "*", "files"] = Route(self._files, PEER)
        if aside is not None:
            self._routes |= {
                ("GET", "aside"): Route(self._list_aside, ADMIN),
                ("GET", "aside", "*", "compare"): Route(self._compare_aside, ADMIN),
                ("POST", "aside", "put-back"): Route(self._put_back_aside, ADMIN),
                ("DELETE", "aside", "*"): Route(self._delete_aside, ADMIN),
            }

    @property
    def routes(self) -> Mapping[tuple[str, ...], Route]:
        """All calls by method and path, in which a star stands for a name."""
        return self._routes

    def _grant(self, request: Request) -> Grant | None:
        if request.grant is None:
            request.grant = session_grant(request, self.gate)
        return super()._grant(request)

    def _authenticate(self, request: Request) -> None:
        route, _ = self._find(request)
        # A monitor of the process needs no token, and the page on which people log in neither.
        if route is not None and route.needs == OPEN:
            return
        if request.requestHeaders.hasHeader(b"cookie") and session_grant(request, self.gate):
            check_session_origin(request)
        super()._authenticate(request)

    def verb_of(self, request: Request) -> str:
        first = request.path.decode("ascii", "replace").strip("/").partition("/")[0]
        if not first and request.method == b"POST":
            return "provision"
        return first if any(shape[1:2] == (first,) for shape in self._routes) else "other"

    def handler(self, request: Request) -> Callable[[Request], None]:
        route, names = self._find(request)
        if route is not None:
            if route.needs != OPEN:
                request.allowed.check(route.needs)
            return partial(self._call, route, names)
        parts, path = _path_parts(request.path), request.path.decode("utf-8", "replace")
        if allowed := {shape[0] for shape in self._routes if _fits(shape[1:], parts)}:
            request.setHeader(b"allow", ", ".join(sorted(allowed)).encode())
            method = request.method.decode("ascii", "replace")
            raise errors.MethodNotAllowed(f"{method} is not for {path}")
        raise errors.NotFound(f"there is no {path} here")

    def _find(self, request: Request) -> tuple[Route | None, list[str]]:
        """The route of a request, and the names in its path."""
        method = request.method.decode("ascii", "replace")
        method = "GET" if method == "HEAD" else method
        parts = _path_parts(request.path)
        for shape, route in self._routes.items():
            if shape[0] == method and _fits(shape[1:], parts):
                pairs = zip(shape[1:], parts, strict=True)
                return route, [part for wanted, part in pairs if wanted == "*"]
        return None, []

    def _call(self, route: Route, names: list[str], request: Request) -> None:
        work = route.call(request, *names)
        work = _noted(request, route.act, work) if route.act else work
        trace = CURRENT_TRACE.set(request.getHeader(TRACE_HEADER) or b"")
        try:
            self.run(request, work)
        finally:
            CURRENT_TRACE.reset(trace)

    # -- one method a call --------------------------------------------------------

    async def _provision(self, request: Request) -> Any:
        optional = {"schema", "provisioner"}
        body = json_object(request, {"segment"}, optional, _SEGMENT, ignore_others=True)
        segment, schema = _segment(request, body), body.get("schema", "default")
        return as_json(await self._manager.provision(segment, schema, body.get("provisioner", "")))

    async def _undo_provision(self, request: Request) -> Any:
        body = json_object(request, {"segment", "provisioner"}, set())
        await self._manager.undo_provision(_segment(request, body), body["provisioner"])
        return 204, b"", b""

    async def _provision_old(self, request: Request) -> Any:
        segment = as_text(request.body()).strip("\r\n")
        request.tell(segment=segment)
        request.allowed.check_segment(segment)
        answer = await self._manager.provision(segment, "default")
        return 200, b"text/plain; charset=utf-8", str(answer["write_url"]).encode()

    async def _promote(self, request: Request) -> Any:
        body = json_object(request, {"segment"}, set(), _SEGMENT, ignore_others=True)
        return as_json(await self._manager.promote(_segment(request, body)))

    async def _revert(self, request: Request) -> Any:
        body = json_object(request, {"segment"}, {"preview"}, {"preview": (bool,)})
        segment = _segment(request, body)
        return as_json(await self._manager.revert(segment, body.get("preview", False)))

    async def _delete(self, request: Request, segment: str) -> Any:
        request.tell(segment=segment)
        request.allowed.check_segment(segment)
        await self._manager.delete(segment)
        return 204, b"", b""

    async def _files(self, request: Request, segment: str) -> Any:
        assert self._files_of is not None
        return as_json({"files": self._files_of(check_segment_id(segment)) or []})

    async def _list_aside(self, request: Request) -> Any:
        return as_json({"files": await self._asides.list()})

    async def _compare_aside(self, request: Request, name: str) -> Any:
        return as_json(await self._asides.compare(name))

    async def _put_back_aside(self, request: Request) -> Any:
        return as_json(await self._asides.put_back(json_object(request, {"name"}, set())["name"]))

    async def _delete_aside(self, request: Request, name: str) -> Any:
        await self._asides.delete(name)
        return 204, b"", b""

    @property
    def _asides(self) -> AsideOrders:
        assert self._aside is not None
        return self._aside

    async def _gather(self, request: Request) -> None:
        assert self._gatherer is not None
        await answer_gather(request, self._gatherer)

    async def _gather_url(self, request: Request) -> None:
        assert self._gatherer is not None and self._encoders is not None
        await answer_gather_url(request, self._gatherer, self._encoders)

    async def _list_schemas(self, request: Request) -> Any:
        return as_json(await self._schemas.names())

    async def _get_schema(self, request: Request, name: str) -> Any:
        schema = await self._schemas.get(name)
        return as_json({"id": schema.id, "sql": schema.sql})

    async def _get_schema_sql(self, request: Request, name: str) -> Any:
        schema = await self._schemas.get(name)
        return 200, b"application/sql; charset=utf-8", schema.sql.encode()

    async def _put_schema(self, request: Request, name: str) -> Any:
        body = json_object(request, {"id", "sql"}, set())
        if body["id"] != name:
            raise errors.BadSchema(
                f"the path names the schema {quoted(name, 80)}, and the body "
                f"{quoted(body['id'], 80)}"
            )
        return await self._put(request, name, body["sql"])

    async def _put_schema_sql(self, request: Request, name: str) -> Any:
        try:
            sql = request.body().decode()
        except UnicodeDecodeError as reason:
            raise errors.BadSchema(f"the SQL is not UTF-8: {reason}") from reason
        return await self._put(request, name, sql)

    async def _put(self, request: Request, name: str, sql: str) -> Any:
        request.tell(schema=name, sql=sql)
        return (201 if await self._schemas.put(name, sql) else 204), b"", b""

    async def _status(self, request: Request) -> Any:
        return as_json({**await self._full_status(), "requests": self._totals.status()})

    async def _full_status(self) -> dict[str, Any]:
        status = await self._manager.status()
        if self._gatherer is not None:
            status["gather"] = self._gatherer.status()
        return status

    async def _root(self, request: Request) -> None:
        redirect_to_console(request)

    async def _console(self, request: Request, name: str = "") -> Any:
        if name == "server.json":
            role = "worker" if self._gatherer is None else "sync"
            about = about_client(request, self.gate, self._grant(request))
            return as_json({"role": role, **about})
        return answer_file(request, name)

    async def _vendored(self, request: Request, name: str) -> None:
        answer_file(request, f"vendor/{name}")

    async def _log_in(self, request: Request) -> Any:
        return await log_in(request, self.gate)

    async def _log_out(self, request: Request) -> Any:
        return await log_out(request, self.gate)

    async def _search(self, request: Request) -> Any:
        assert self._segments is not None
        given = url_options(request, frozenset({"matching", "after", "limit"}))
        most = min(parse_rows(given.get("limit", "50")) or MOST, MOST)
        after = given.get("after", "")
        found = self._segments.search(given.get("matching", ""), after, most, request.allowed)
        return as_json(await found)

    async def _segment(self, request: Request, segment: str) -> Any:
        assert self._segments is not None
        request.allowed.check_segment(check_segment_id(segment))
        return as_json(await self._segments.segment(segment))

    async def _metrics(self, request: Request) -> Any:
        # Loaded when it is asked for: most processes are scraped, and clients import this.
        from trough.metrics.exposition import CONTENT_TYPE, exposition

        return 200, CONTENT_TYPE, exposition(await self._full_status(), self._totals)

    async def _past_hour(self, request: Request) -> Any:
        return as_json(self._history.status())

    async def _health(self, request: Request) -> Any:
        health = self._manager.health
        return as_json(health, 200 if health["ready"] else 503)


async def _noted(request: Request, act: str, work: Coroutine[Any, Any, Any]) -> Any:
    """Do `work`, and record in the audit log how it ended."""
    about: dict[str, object] = {}
    request.about, outcome = about, "unknown"
    try:
        answer = await work
        outcome = "ok"
        return answer
    except errors.TroughError as error:
        outcome = error.code
        raise
    finally:
        request.note(act, outcome, **about)


def _segment(request: Request, body: Mapping[str, Any]) -> str:
    """The segment that a body names, if the client's token is for it.

    :raises trough.errors.Forbidden: it is not
    """
    segment = segment_named(body["segment"])
    request.tell(segment=segment)
    request.allowed.check_segment(segment)
    return segment


def _path_parts(path: bytes) -> list[str]:
    """The parts of a path; an escaped slash stays inside its part."""
    parts = [part for part in path.split(b"/") if part]
    return [as_text(unquote_to_bytes(part)) for part in parts]


def _fits(shape: tuple[str, ...], parts: list[str]) -> bool:
    return len(shape) == len(parts) and all(
        wanted in ("*", part) for wanted, part in zip(shape, parts, strict=True)
    )
