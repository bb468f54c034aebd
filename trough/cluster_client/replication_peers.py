"""Sends a holder's orders to its followers, over the connections that servers keep."""

from __future__ import annotations

from trough.cluster_client.connection_pool import ConnectionPool
from trough.protocols.line.replication_verbs import format_order, parse_reply
from trough.replication.orders import Order, Reply


class ReplicationPeers:
    """See the module's text."""

    def __init__(self, connections: ConnectionPool) -> None:
        self._connections = connections

    async def send(self, address: str, order: Order) -> Reply:
        """Send an order to the line port at `address`, and return the follower's reply.

        :raises trough.errors.Unavailable: it cannot be reached
        :raises trough.errors.TroughError: it refuses, as an earlier Trough does
        """
        connection = await self._connections.to(address)
        verb, arguments = format_order(order)
        return parse_reply(await connection.request(verb, arguments))
