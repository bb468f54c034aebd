"""Compares the clocks of RethinkDB's servers, which decide what is alive.

Each server writes and judges times by its own clock. One that is ahead by more than a worker's TTL
takes living workers for dead. NTP keeps clocks together; this finds out where it does not run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.internet.defer import Deferred, DeferredList

from trough.metadata.rethinkdb.connection import RethinkConnection
from trough.metadata.rethinkdb.terms import r

#: Seconds for one server's answer.
PATIENCE = 3.0


async def offset_of(connection: RethinkConnection, wall_clock: Callable[[], float]) -> float:
    """Seconds by which a server's clock is ahead of ours; exact to half of a round trip."""
    best, offset = float("inf"), 0.0
    for _ in range(3):
        asked = wall_clock()
        server = await connection.ask(r.now().to_epoch_time(), PATIENCE)
        took = wall_clock() - asked
        if took < best:
            best, offset = took, server - asked - took / 2
    return offset


async def offsets(
    asking: Mapping[str, Deferred[float]],
) -> dict[str, float]:
    """The offsets of those servers that answer, relative to the one in the middle."""
    results: list[tuple[bool, float]] = await DeferredList(
        list(asking.values()), consumeErrors=True
    )
    found = {
        server: offset
        for server, (succeeded, offset) in zip(asking, results, strict=True)
        if succeeded
    }
    middle = sorted(found.values())[len(found) // 2] if found else 0.0
    return {server: offset - middle for server, offset in found.items()}
