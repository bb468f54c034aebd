"""Checks quickly whether a metadata store can be reached.

The stores themselves wait and retry, as servers must. A person who mistyped a host needs the
error at once.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import DeferredList
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.protocol import Factory, Protocol

from trough import errors
from trough.cli import metadata_url
from trough.metadata.url import RethinkAddress, SqliteAddress, host_and_port

#: Seconds within which one of the hosts must accept a connection.
CONNECT_SECONDS = 4.0


async def check_reachable(address: SqliteAddress | RethinkAddress, reactor: Any) -> None:
    """Look for the registry's file, or for one host that accepts connections.

    :raises trough.errors.Unavailable: naming the file, or every host with its reason
    """
    if isinstance(address, SqliteAddress):
        metadata_url.check_file(address)
    else:
        await _check_hosts(address, reactor)


async def _check_hosts(address: RethinkAddress, reactor: Any) -> None:
    attempts = [
        HostnameEndpoint(reactor, host, port, timeout=CONNECT_SECONDS).connect(
            Factory.forProtocol(_Probe)
        )
        for host, port in address.hosts
    ]
    results: Any = await DeferredList(attempts, consumeErrors=True)
    if any(succeeded for succeeded, _ in results):
        return
    reasons = [
        f"{host_and_port(host, port)}: {failure.getErrorMessage().rstrip('.')}"
        for (host, port), (_, failure) in zip(address.hosts, results, strict=True)
    ]
    raise errors.Unavailable(f"{address}: no server answers: {'; '.join(reasons)}")


class _Probe(Protocol):
    """Connects, then closes the connection."""

    def connectionMade(self) -> None:
        self.transport.loseConnection()  # type: ignore[union-attr]
