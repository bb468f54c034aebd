"""The manager's calls: a sync server's port 6111 and a worker's own 6112.

Both offer the same calls; on a worker each does this worker's own part. GATHER alone is for
sync servers.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from trough import errors
from trough.executors.pool.encoder_pool import EncoderPool
from trough.metadata.schemas import Schemas
from trough.model import check_segment_id, segment_named
from trough.protocols.gather_service import Gatherer
from trough.protocols.http.gather import answer_gather, answer_gather_url
from trough.protocols.http.json_body import json_object
from trough.protocols.http.server import Request, Resource, as_json, as_text

#: What a segment's id may come as; which of these name one, the model knows.
_SEGMENT = {"segment": (str, int, float, bool)}


class Manager(Protocol):
    """Whoever carries the orders out; see :class:`trough.sync.MasterSyncController`."""

    @property
    def health(self) -> dict[str, Any]:
        """``ready``: whether it can serve; and what else a load balancer may want to see."""

    async def provision(self, segment: str, schema: str, client: str = "") -> dict[str, Any]: ...

    async def undo_provision(self, segment: str, client: str) -> None: ...

    async def promote(self, segment: str) -> dict[str, Any]: ...

    async def revert(self, segment: str, preview: bool) -> dict[str, Any]: ...

    async def delete(self, segment: str) -> None: ...

    async def status(self) -> dict[str, Any]: ...


class ManagerResource(Resource):
    """All paths of a manager's port.

    The paths are few and their names come from outside (a segment's id, a schema's name),
    so that a table of shapes is clearer than a tree of resources.

    :param gatherer: answers ``/gather``; None where that is not offered
    :param encoders: write its answers in other formats than JSON
    :param files_of: what a leader knows of a segment's files, for the other sync servers
    """

    def __init__(
        self,
        manager: Manager,
        schemas: Schemas,
        token: str = "",
        gatherer: Gatherer | None = None,
        files_of: Callable[[str], list[str] | None] | None = None,
        encoders: EncoderPool | None = None,
    ) -> None:
        super().__init__(token)
        self._encoders = encoders
        self._gatherer = gatherer
        self._files_of = files_of
        self._manager = manager
        self._schemas = schemas
        self._calls: dict[tuple[str, ...], Callable[..., Coroutine[Any, Any, Any]]] = {
            ("POST", "provision"): self._provision,
            ("POST",): self._provision_old,
            ("POST", "provision", "undo"): self._undo_provision,
            ("POST", "promote"): self._promote,
            ("POST", "revert"): self._revert,
            ("DELETE", "segment", "*"): self._delete,
            ("GET", "schema"): self._list_schemas,
            ("GET", "schema", "*"): self._get_schema,
            ("GET", "schema", "*", "sql"): self._get_schema_sql,
            ("PUT", "schema", "*"): self._put_schema,
            ("PUT", "schema", "*", "sql"): self._put_schema_sql,
            ("GET", "status"): self._status,
            ("GET", "health"): self._health,
        }
        if gatherer is not None:
            self._calls["POST", "gather"] = self._gather
            self._calls["GET", "gather"] = self._calls["HEAD", "gather"] = self._gather_url
        if files_of is not None:
            self._calls["GET", "segment", "*", "files"] = self._files

    def _authenticate(self, request: Request) -> None:
        # Whoever watches over the process need not hold a token.
        if request.path != b"/health":
            super()._authenticate(request)

    def handler(self, request: Request) -> Callable[[Request], None]:
        method = request.method.decode("ascii", "replace")
        method = "GET" if method == "HEAD" else method
        parts = _path_parts(request.path)
        for shape, call in self._calls.items():
            if shape[0] == method and _fits(shape[1:], parts):
                pairs = zip(shape[1:], parts, strict=True)
                names = [part for wanted, part in pairs if wanted == "*"]
                return partial(self._call, call, names)
        path = request.path.decode("utf-8", "replace")
        if allowed := {shape[0] for shape in self._calls if _fits(shape[1:], parts)}:
            request.setHeader(b"allow", ", ".join(sorted(allowed)).encode())
            raise errors.MethodNotAllowed(f"{method} is not for {path}")
        raise errors.NotFound(f"there is no {path} here")

    def _call(
        self, call: Callable[..., Coroutine[Any, Any, Any]], names: list[str], request: Request
    ) -> None:
        self.run(request, call(request, *names))

    # -- one method a call --------------------------------------------------------

    async def _provision(self, request: Request) -> Any:
        optional = {"schema", "provisioner"}
        body = json_object(request, {"segment"}, optional, _SEGMENT, ignore_others=True)
        segment, schema = segment_named(body["segment"]), body.get("schema", "default")
        return as_json(await self._manager.provision(segment, schema, body.get("provisioner", "")))

    async def _undo_provision(self, request: Request) -> Any:
        body = json_object(request, {"segment", "provisioner"}, set())
        await self._manager.undo_provision(body["segment"], body["provisioner"])
        return 204, b"", b""

    async def _provision_old(self, request: Request) -> Any:
        segment = as_text(request.body()).strip("\r\n")
        answer = await self._manager.provision(segment, "default")
        return 200, b"text/plain; charset=utf-8", str(answer["write_url"]).encode()

    async def _promote(self, request: Request) -> Any:
        body = json_object(request, {"segment"}, set(), _SEGMENT, ignore_others=True)
        return as_json(await self._manager.promote(segment_named(body["segment"])))

    async def _revert(self, request: Request) -> Any:
        body = json_object(request, {"segment"}, {"preview"}, {"preview": (bool,)})
        return as_json(await self._manager.revert(body["segment"], body.get("preview", False)))

    async def _delete(self, request: Request, segment: str) -> Any:
        await self._manager.delete(segment)
        return 204, b"", b""

    async def _files(self, request: Request, segment: str) -> Any:
        assert self._files_of is not None
        return as_json({"files": self._files_of(check_segment_id(segment)) or []})

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
                f"the path names the schema {name!r:.80} and the body {body['id']!r:.80}"
            )
        return await self._put(name, body["sql"])

    async def _put_schema_sql(self, request: Request, name: str) -> Any:
        try:
            sql = request.body().decode()
        except UnicodeDecodeError as reason:
            raise errors.BadSchema(f"the SQL is not UTF-8: {reason}") from reason
        return await self._put(name, sql)

    async def _put(self, name: str, sql: str) -> Any:
        return (201 if await self._schemas.put(name, sql) else 204), b"", b""

    async def _status(self, request: Request) -> Any:
        return as_json(await self._manager.status())

    async def _health(self, request: Request) -> Any:
        health = self._manager.health
        return as_json(health, 200 if health["ready"] else 503)


def _path_parts(path: bytes) -> list[str]:
    """The parts of a path; an escaped slash stays inside its part."""
    parts = [part for part in path.split(b"/") if part]
    return [as_text(unquote_to_bytes(part)) for part in parts]


def _fits(shape: tuple[str, ...], parts: list[str]) -> bool:
    return len(shape) == len(parts) and all(
        wanted in ("*", part) for wanted, part in zip(shape, parts, strict=True)
    )
