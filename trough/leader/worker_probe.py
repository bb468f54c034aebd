"""Asks a worker itself whether it is alive.

The metadata store judges by its own clock, and a clock can be wrong: one RethinkDB server that was
20 s ahead had living workers taken for dead. Before a lock is freed its holder is asked, and before
all workers are taken for dead at once they are, by the line protocol: its greeting tells the
worker's name to each client that connects.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from trough.metadata import Metadata
from trough.model import line_host_and_port
from trough.tls import TlsFiles
from trough.tls.client import ClientTls

#: Seconds for a worker to greet.
PATIENCE = 3.0


async def answers(
    metadata: Metadata, node: str, clock: Any, tls: TlsFiles, peers: bool = False
) -> str:
    """Where the worker `node` greets; empty where it does not, within some seconds.

    :param clock: the reactor
    :param peers: whether a process of the cluster asks, and no tool
    """
    row = await metadata.worker(node)
    line = row.line if row is not None else ""
    try:
        host, port, encrypted = line_host_and_port(line)
    except ValueError:
        return ""
    endpoint = ClientTls(tls, clock, peers=peers).endpoint(clock, host, port, PATIENCE, encrypted)
    try:
        protocol: Any = await endpoint.connect(Factory.forProtocol(_Greeted))
        words = await protocol.greeting.addTimeout(PATIENCE, clock)
    except CancelledError:
        raise
    except (Exception, TimeoutError):  # Twisted's connection errors share no base
        return ""
    protocol.transport.abortConnection()
    return line if words[:1] == ["TROUGH"] and words[2:4] == ["worker", node] else ""


class _Greeted(LineOnlyReceiver):
    """Keeps the first line."""

    delimiter = b"\n"

    def __init__(self) -> None:
        self.greeting: Deferred[list[str]] = Deferred()

    def lineReceived(self, line: bytes) -> None:
        if not self.greeting.called:
            self.greeting.callback(line.decode("utf-8", "replace").split(" "))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.greeting.called:
            self.greeting.errback(reason)
