"""Rows too large to be sent at once, over the line protocol: real executors, real sockets."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import pytest
import pytest_twisted
from executor_site import Listener, Site, site
from twisted.internet.defer import gatherResults
from waiting import until

from trough import errors

ROW = "SELECT printf('%.*c', {}, 'y') || (SELECT max(b) FROM t)"

#: More than the kernel keeps for a connection.
TOO_LARGE = 20_000_000


def a_row(number: int, size: int) -> list[Any]:
    """What ROW gives for the segment with this number."""
    return [["y" * size + str(number)]]


async def midway(here: Site) -> Any:
    """The server's side of the only connection, once it sends a large line that nobody reads."""
    (server,) = here.factory._connections
    await until(lambda: server._large.is_sending and server._outbox.full, "a line to be midway")
    return server


@pytest_twisted.ensureDeferred
async def test_large_rows_and_small_ones_come_whole(tmp_path: Path) -> None:
    """Of many queries on one connection; no line stands in the middle of another one."""
    async with site(tmp_path) as here:
        several = Listener()
        segments = [f"s{number}" for number in range(6)]
        calls = [here.connection.query(segments, ROW.format(2_000_000), listener=several).done]
        single, small = [Listener() for _ in range(3)], [Listener() for _ in range(100)]
        for number, listener in enumerate(small):
            sql = "SELECT max(b) FROM t"
            calls.append(here.connection.query([f"s{number % 20}"], sql, listener=listener).done)
            if number % 40 == 0:
                large = single[number // 40]
                sql = ROW.format(3_000_000 + number)
                calls.append(here.connection.query(["s7"], sql, listener=large).done)
        summaries = await gatherResults(calls)
        assert all(each.complete for each in summaries)
        for number in range(6):
            assert several.rows_of[f"s{number}"] == a_row(number, 2_000_000)
        for number, listener in enumerate(single):
            assert listener.rows_of["s7"] == a_row(7, 3_000_000 + 40 * number)
        for number, listener in enumerate(small):
            assert listener.rows_of[f"s{number % 20}"] == [[number % 20]]


@pytest_twisted.ensureDeferred
async def test_a_large_row_that_nobody_reads_stays_in_the_executor(tmp_path: Path) -> None:
    """Two of them on one connection, and the answers behind them, take a few MiB here."""
    async with site(tmp_path) as here:
        here.connection.transport.pauseProducing()
        listeners = [Listener(), Listener(), Listener()]
        calls = [
            here.connection.query(["s1", "s2"], ROW.format(TOO_LARGE), listener=listeners[0]),
            here.connection.query(["s3"], ROW.format(TOO_LARGE), listener=listeners[1]),
            here.connection.query(["s4"], "SELECT 1", listener=listeners[2]),
        ]
        server = await midway(here)
        other, quick = await here.connect(), Listener()
        for number in range(20):
            await other.query([f"s{number}"], "SELECT 1", listener=quick).done
        assert quick.ends == {f"s{number}": 1 for number in range(20)}
        assert server._outbox.unsent < 4 << 20
        await other.close()
        here.connection.transport.resumeProducing()
        await gatherResults([call.done for call in calls])
        assert listeners[0].rows_of["s1"] == a_row(1, TOO_LARGE)
        assert listeners[0].rows_of["s2"] == a_row(2, TOO_LARGE)
        assert listeners[1].rows_of["s3"] == a_row(3, TOO_LARGE)
        assert listeners[2].rows_of["s4"] == [[1]]
        assert not server._large.is_sending
        assert not server.jobs_paused


@pytest_twisted.ensureDeferred
async def test_requests_behind_a_large_row_are_bounded(tmp_path: Path) -> None:
    """A peer that reads nothing and goes on asking is not read from any more."""
    async with site(tmp_path) as here:
        here.connection.transport.pauseProducing()
        here.connection.query(["s1"], ROW.format(TOO_LARGE), listener=Listener())
        server = await midway(here)
        here.connection.transport.write(b"".join(b"p%d HELP\n" % n for n in range(20_000)))
        await until(lambda: not server._reading, "the server to stop reading")
        assert server._outbox.unsent < 8 << 20


@pytest.mark.parametrize("how", ["cancelled", "killed"])
@pytest_twisted.ensureDeferred
async def test_half_a_large_row_ends_its_connection(tmp_path: Path, how: str) -> None:
    """The rest does not come, and nothing else may come in its place. Executors are free."""
    async with site(tmp_path) as here:
        call = here.connection.query(["s1"], ROW.format(TOO_LARGE), listener=Listener())
        waiting = here.connection.query(["s2"], ROW.format(TOO_LARGE), listener=Listener())
        here.connection.transport.pauseProducing()
        await midway(here)
        if how == "cancelled":
            call.cancel()
        else:
            for executor in here.pool.status()["executors"]:
                if executor["queries"]:
                    os.kill(executor["pid"], signal.SIGKILL)
        await until(lambda: not here.factory._connections, "the connection to be cut")
        here.connection.transport.resumeProducing()
        for each in (call, waiting):
            with pytest.raises((errors.Unavailable, errors.Cancelled)):
                await each.done
        await until(lambda: not here.reading(), "the executors to be free")
        other, quick = await here.connect(), Listener()
        await other.query(["s1"], "SELECT 1", listener=quick).done
        assert quick.ends == {"s1": 1}
        await other.close()


@pytest_twisted.ensureDeferred
async def test_a_large_row_may_be_late(tmp_path: Path) -> None:
    """One that waits behind another until its deadline fails, and the connection stays."""
    async with site(tmp_path) as here:
        here.connection.transport.pauseProducing()
        first, late = Listener(), Listener()
        calls = [here.connection.query(["s1"], ROW.format(TOO_LARGE), listener=first)]
        await midway(here)
        calls.append(
            here.connection.query(["s2"], ROW.format(3_000_000), listener=late, seconds=0.5)
        )
        (server,) = here.factory._connections
        await until(lambda: len(server._requests) == 2, "the second one to arrive")
        await until(lambda: len(server._requests) == 1, "the second one to end")
        here.connection.transport.resumeProducing()
        await gatherResults([call.done for call in calls])
        assert first.rows_of["s1"] == a_row(1, TOO_LARGE)
        assert isinstance(late.ends["s2"], errors.DeadlineExceeded)


@pytest_twisted.ensureDeferred
async def test_many_clients_that_read_nothing_are_bounded_together(tmp_path: Path) -> None:
    """Those that were first are cut; one that reads all the time gets its rows."""
    async with site(tmp_path, most_unsent=1 << 20) as here:
        (reading,) = here.factory._connections
        stalled = [await here.connect() for _ in range(8)]
        calls = []
        for number, connection in enumerate(stalled):
            connection.transport.pauseProducing()
            connection.transport.getHandle().setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
            sql = ROW.format(8_000_000)
            calls.append(connection.query([f"s{number}"], sql, listener=Listener()))
        await until(lambda: len(here.factory._connections) < 8, "some to be cut")

        def unread() -> int:
            return sum(each.unread_bytes() for each in here.factory._connections)

        await until(lambda: unread() <= 1 << 20, "the rest to be little")
        assert reading in here.factory._connections
        large = Listener()
        await here.connection.query(["s1"], ROW.format(3_000_000), listener=large).done
        assert large.rows_of["s1"] == a_row(1, 3_000_000)
        for call, connection in zip(calls, stalled, strict=True):
            call.done.addErrback(lambda _: None)
            await connection.close()
