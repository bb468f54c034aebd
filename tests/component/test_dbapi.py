"""What trough.dbapi does when servers fail: real sockets, a server that answers as told."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from waiting import EXPECTED_WITHIN, until

from trough import dbapi


async def in_thread(call):
    """The result of a function that blocks."""
    return await deferToThread(call).addTimeout(EXPECTED_WITHIN, reactor)


def connected(server):
    return dbapi.connect(f"trough://{server.address}/a")


def verbs(server):
    return [asked.verb for asked in server.asked]


@pytest_twisted.ensureDeferred
async def test_a_write_whose_answer_is_lost_is_not_sent_again():
    """Nobody knows whether it is on disk."""
    async with LineServer(reactor, lambda asked: asked.say(DIE)) as server:

        def write():
            with connected(server) as connection, pytest.raises(dbapi.OutcomeUnknown) as raised:
                connection.execute("DELETE FROM t")
            return raised.value.code

        assert await in_thread(write) == "outcome-unknown"
        assert verbs(server) == ["WRITE"]


@pytest_twisted.ensureDeferred
async def test_many_writes_whose_answers_are_lost_are_not_sent_again():
    """Though some were answered."""

    def answer(asked):
        asked.say(DIE if len(server.asked) == 4 else "OK changes=1 ms=1")

    async with LineServer(reactor, answer) as server:

        def write():
            with connected(server) as connection, pytest.raises(dbapi.OutcomeUnknown):
                connection.cursor().executemany(
                    "DELETE FROM t WHERE a = ?", [[n] for n in range(9)]
                )

        await in_thread(write)
        assert len(server.asked) == 9


@pytest_twisted.ensureDeferred
async def test_parameters_that_cannot_be_sent_are_no_unknown_outcome():
    """Nothing was sent, and the connection goes on."""
    async with LineServer(reactor, lambda asked: asked.say("OK changes=1 ms=1")) as server:

        def write():
            with connected(server) as connection:
                with pytest.raises(dbapi.ProgrammingError, match="64"):
                    connection.execute("DELETE FROM t WHERE a = ?", [1 << 70])
                return connection.execute("DELETE FROM t WHERE a = ?", [1]).rowcount

        assert await in_thread(write) == 1
        assert len(server.asked) == 1


@pytest_twisted.ensureDeferred
async def test_rows_that_were_given_out_are_not_asked_for_again():
    """A part of an answer ends with an error, and is never completed by another one."""

    def answer(asked):
        asked.say('COLS a ["x"]', "ROWS a [[1],[2]]", DIE)

    async with LineServer(reactor, answer) as server:

        def read():
            with connected(server) as connection:
                cursor = connection.execute("SELECT x FROM t")
                found = [cursor.fetchone(), cursor.fetchone()]
                with pytest.raises(dbapi.OperationalError) as raised:
                    cursor.fetchone()
                return found, raised.value.code, cursor.rowcount

        assert await in_thread(read) == ([(1,), (2,)], "unavailable", -1)
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

        def read():
            with connected(server) as connection:
                return connection.execute("SELECT x FROM t").fetchall()

        assert await in_thread(read) == [(1,)]


@pytest_twisted.ensureDeferred
async def test_a_connection_that_was_closed_meanwhile_is_replaced():
    """Before a write is sent on it."""
    async with LineServer(reactor, lambda asked: asked.say("OK changes=1 ms=1")) as server:
        connection = await in_thread(lambda: connected(server))
        await in_thread(lambda: connection.execute("DELETE FROM t"))
        idle = connection._servers._idle.take(server.address)
        connection._servers.give_back(idle)
        server.die()
        await until(lambda: not idle.is_idle(), "the end to arrive", EXPECTED_WITHIN)
        cursor = await in_thread(lambda: connection.execute("DELETE FROM t"))
        assert cursor.rowcount == 1
        assert len(server.asked) == 2
        connection.close()


@pytest_twisted.ensureDeferred
async def test_cancel_ends_the_statement_and_nothing_else():
    """The server is asked to end it; the same connection serves the next statement."""
    began = threading.Event()

    def answer(asked):
        if asked.verb == "CANCEL":
            server.asked[0].say("ERR cancelled it was cancelled")
            asked.say("OK cancelled=1")
        elif began.is_set():
            asked.answer({"a": [1]})
        else:
            began.set()

    async with LineServer(reactor, answer) as server:

        def read():
            with connected(server) as connection:
                cursor = connection.cursor()
                cancelling = threading.Thread(
                    target=lambda: began.wait(EXPECTED_WITHIN) and cursor.cancel()
                )
                cancelling.start()
                with pytest.raises(dbapi.OperationalError) as raised:
                    cursor.execute("SELECT x FROM t")
                cancelling.join()
                return raised.value.code, cursor.execute("SELECT x FROM t").fetchall()

        assert await in_thread(read) == ("cancelled", [(1,)])
        assert verbs(server) == ["QUERY", "CANCEL", "QUERY"]
        assert len(server.connections) == 1


@pytest_twisted.ensureDeferred
async def test_cursors_do_not_wait_for_each_other():
    """A result that is half read keeps its own connection."""

    def answer(asked):
        asked.say('COLS a ["x"]', "ROWS a [[1]]")
        if "whole" in asked.sql:
            asked.say("ROWS a [[2]]", "DONE a 2")
            asked.end()

    async with LineServer(reactor, answer) as server:

        def read():
            with connected(server) as connection:
                half = connection.execute("SELECT half")
                whole = connection.execute("SELECT whole")
                found = half.fetchone(), whole.fetchall(), whole.rowcount
                half.close()
                return found

        assert await in_thread(read) == ((1,), [(1,), (2,)], 2)


@pytest_twisted.ensureDeferred
async def test_there_are_no_transactions():
    """And nothing pretends that there are."""
    async with LineServer(reactor, lambda asked: asked.say("OK changes=1 ms=1")) as server:

        def write():
            with connected(server) as connection:
                connection.rollback()
                connection.executemany = connection.cursor().executemany
                assert connection.executemany("DELETE FROM t WHERE a = ?", [[1], [2]]).rowcount == 2
                with pytest.raises(dbapi.NotSupportedError, match="2 writes"):
                    connection.rollback()
                connection.execute("DELETE FROM t")
                connection.commit()
                connection.rollback()
                with pytest.raises(dbapi.NotSupportedError):
                    connection.autocommit = False
                with pytest.raises(dbapi.NotSupportedError, match="RETURNING"):
                    connection.execute("DELETE FROM t RETURNING a")

        await in_thread(write)


@pytest_twisted.ensureDeferred
async def test_what_is_closed_is_not_used():
    """Nor is a result that there is not."""
    async with LineServer(reactor, lambda asked: asked.say("OK changes=1 ms=1")) as server:

        def use():
            connection = connected(server)
            cursor = connection.cursor()
            with pytest.raises(dbapi.InterfaceError, match="no result"):
                cursor.fetchone()
            cursor.close()
            with pytest.raises(dbapi.InterfaceError, match="cursor"):
                cursor.execute("SELECT 1")
            connection.close()
            with pytest.raises(dbapi.InterfaceError, match="connection"):
                connection.cursor()

        await in_thread(use)


def test_the_drivers_import_no_twisted():
    """Nor a server: a program that only asks starts at once."""
    script = "import sys, trough.dbapi, trough.aio; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ran.stdout.split())
    assert "trough.drivers.routing" in loaded
    assert not loaded & {"twisted", "trough.worker", "trough.cluster_client", "rethinkdb"}
