"""Connections to workers, by their addresses."""

from __future__ import annotations

from collections.abc import Sequence

from trough import errors
from trough.cluster_client.connection_pool import ConnectionPool
from trough.cluster_client.interfaces import QueryHandle, QueryRequest, WorkerClient
from trough.cluster_client.router import WorkerAddress
from trough.protocols.line.client import LineConnection
from trough.protocols.line.query_replies import QueryListener

#: What to do about a server whose row names no address of the line protocol.
UPGRADE = "it is of an original installation, which has to be upgraded as a whole"


class LineSource:
    """A worker, asked over a connection of the line protocol."""

    def __init__(self, connection: LineConnection) -> None:
        self._connection = connection

    def query(
        self, segments: Sequence[str], question: QueryRequest, listener: QueryListener
    ) -> QueryHandle:
        return self._connection.query(
            segments,
            question.sql,
            question.parameters,
            listener=listener,
            seconds=question.seconds,
            rows=question.rows,
            keep=question.keep,
            tests=question.tests,
            encoded=question.encoded,
            trace=question.trace,
            merge=question.merge,
        )


class Workers:
    """Workers by address; see :class:`trough.cluster_client.interfaces.WorkerClientFactory`."""

    def __init__(self, links: ConnectionPool) -> None:
        self._links = links

    async def source(self, place: WorkerAddress) -> WorkerClient:
        """A connection to this worker, to ask it for segments.

        :raises trough.errors.Unavailable: there is none to be had
        """
        return LineSource(await self._links.for_queries(_line_of(place)))

    async def connection(self, place: WorkerAddress) -> LineConnection:
        """A connection to this worker.

        :raises trough.errors.Unavailable: there is none to be had
        """
        return await self._links.to(_line_of(place))

    async def close(self) -> None:
        """Close the connections. Idempotent."""
        await self._links.close()


def _line_of(place: WorkerAddress) -> str:
    if not place.line:
        raise errors.Unavailable(f"{place.node} serves no line protocol", UPGRADE)
    return place.line
