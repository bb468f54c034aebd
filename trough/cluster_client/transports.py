"""How a worker is asked: over the line protocol, or over HTTP if it serves nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from trough import errors
from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.interfaces import QueryHandle, QueryRequest, WorkerClient
from trough.cluster_client.router import Route, WorkerAddress
from trough.protocols.line.client import LineConnection
from trough.protocols.line.query_replies import QueryListener
from trough.protocols.line.values import Parameters

if TYPE_CHECKING:
    from trough.protocols.http.client import HttpClient


class LineSource:
    """A worker that serves the line protocol."""

    def __init__(self, connection: LineConnection) -> None:
        self._connection = connection

    def query(
        self, routes: Mapping[str, Route], question: QueryRequest, listener: QueryListener
    ) -> QueryHandle:
        return self._connection.query(
            routes,
            question.sql,
            question.parameters,
            listener=listener,
            seconds=question.seconds,
            rows=question.rows,
            keep=question.keep,
        )


class HttpSource:
    """A worker that serves HTTP only."""

    def __init__(self, http: HttpClient, node: str) -> None:
        self._http = http
        self._node = node

    def query(
        self, routes: Mapping[str, Route], question: QueryRequest, listener: QueryListener
    ) -> QueryHandle:
        refuse_parameters(self._node, question.parameters)
        urls = {segment: route.url for segment, route in routes.items()}
        return self._http.query(urls, question.sql, question.rows, listener)


class Workers:
    """Workers by place; see :class:`trough.cluster_client.interfaces.WorkerClientFactory`.

    :param http: called at the first worker that serves HTTP only
    """

    def __init__(self, links: ConnectionPool, http: Callable[[], HttpClient]) -> None:
        self._links = links
        self._http = http

    async def source(self, place: WorkerAddress) -> WorkerClient:
        """A connection to this worker.

        :raises trough.errors.Unavailable: there is none to be had
        """
        if place.line:
            return LineSource(await self._links.to(place.line))
        return HttpSource(self._http(), place.node)

    async def close(self) -> None:
        """Close the connections of the line protocol. Idempotent."""
        await self._links.close()


def refuse_parameters(node: str, parameters: Parameters | None) -> None:
    """Refuse what a worker that serves HTTP only cannot answer.

    :raises trough.errors.BadRequest: there are parameters
    """
    if parameters:
        raise errors.BadRequest(
            f"{node} speaks HTTP alone, which has no parameters", "write the values into the SQL"
        )
