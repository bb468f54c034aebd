"""What trough.aio does when servers fail: real sockets, a server that answers as told."""

from __future__ import annotations

import asyncio
import threading

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from waiting import EXPECTED_WITHIN

from trough import aio, errors
from trough.aio.stream import open_stream
from trough.tls import TlsFiles


async def in_asyncio(server, body):
    """What a coroutine function does with a connection, in a loop of a thread."""

    async def run():
        async with asyncio.timeout(EXPECTED_WITHIN):
            async with await aio.connect(f"trough://{server.address}/a") as connection:
                return await body(connection)

    call = deferToThread(lambda: asyncio.run(run()))
    return await call.addTimeout(2 * EXPECTED_WITHIN, reactor)


def verbs(server):
    return [asked.verb for asked in server.asked]


@pytest_twisted.ensureDeferred
async def test_a_write_whose_answer_is_lost_is_not_sent_again():
    """Nobody knows whether it is on disk."""
    async with LineServer(reactor, lambda asked: asked.say(DIE)) as server:

        async def write(connection):
            with pytest.raises(errors.OutcomeUnknown):
                await connection.write("DELETE FROM t")

        await in_asyncio(server, write)
        assert verbs(server) == ["WRITE"]


@pytest_twisted.ensureDeferred
async def test_rows_that_were_given_out_are_not_asked_for_again():
    """A part of an answer ends with an error, and is never completed by another one."""

    def answer(asked):
        asked.say('COLS a ["x"]', "ROWS a [[1],[2]]", DIE)

    async with LineServer(reactor, answer) as server:

        async def read(connection):
            found = []
            with pytest.raises(errors.Unavailable):
                async for row in await connection.query("SELECT x FROM t"):
                    found.append(row)
            return found

        assert await in_asyncio(server, read) == [(1,), (2,)]
        assert verbs(server) == ["QUERY"]


@pytest_twisted.ensureDeferred
async def test_a_read_without_rows_so_far_is_asked_again():
    """By a connection that dies before the first one."""

    def answer(asked):
        if len(server.asked) == 1:
            asked.say('COLS a ["x"]', DIE)
        else:
            asked.answer({"a": [1]})

    async with LineServer(reactor, answer) as server:

        async def read(connection):
            return await (await connection.query("SELECT x FROM t")).fetchall()

        assert await in_asyncio(server, read) == [(1,)]


@pytest_twisted.ensureDeferred
async def test_a_task_that_is_cancelled_ends_its_query():
    """Its connection is closed, which ends the query on the server; others go on."""

    began = threading.Event()

    def answer(asked):
        if "endless" in asked.sql:
            began.set()
        else:
            asked.answer({"a": [1]})

    async with LineServer(reactor, answer) as server:

        async def read(connection):
            endless = asyncio.create_task(connection.query("SELECT endless"))
            assert await asyncio.to_thread(began.wait, EXPECTED_WITHIN)
            endless.cancel()
            with pytest.raises(asyncio.CancelledError):
                await endless
            return await (await connection.query("SELECT x FROM t")).fetchall()

        assert await in_asyncio(server, read) == [(1,)]
        assert len(server.connections) == 2


@pytest_twisted.ensureDeferred
async def test_tasks_share_a_connection_object():
    """Each statement has a socket of its own while it runs."""

    def answer(asked):
        waiting.append(asked)
        if len(waiting) == 5:
            for each in waiting:
                each.answer({"a": [len(each.sql)]})

    waiting = []
    async with LineServer(reactor, answer) as server:

        async def read(connection):
            async def one(number):
                result = await connection.query("SELECT " + "x" * number)
                return (await result.fetchall())[0][0]

            return await asyncio.gather(*map(one, range(5)))

        assert await in_asyncio(server, read) == [7, 8, 9, 10, 11]


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_is_given_up():
    """It is pinged first."""
    async with LineServer(reactor, lambda asked: None) as server:

        async def wait():
            stream = await open_stream(server.address, None, TlsFiles(), silence=0.05)
            with pytest.raises(errors.Unavailable, match="silent"):
                async for _ in stream.ask(lambda tag: tag + b" QUERY a SELECT 1\n"):
                    pass
            stream.close()

        call = deferToThread(lambda: asyncio.run(wait()))
        await call.addTimeout(EXPECTED_WITHIN, reactor)
        assert "PING" in verbs(server)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:x"])
def test_an_address_where_nobody_answers(address):
    """One error, whatever is wrong."""
    with pytest.raises(errors.Unavailable, match="cannot connect"):
        asyncio.run(open_stream(address, None, TlsFiles()))
