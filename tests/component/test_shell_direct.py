"""Queries of a script, on a connection that blocks: real registry, real servers."""

from __future__ import annotations

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from shell_desk import Desk
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from waiting import EXPECTED_WITHIN

from trough import errors
from trough.metadata.open_blocking import open_blocking
from trough.protocols.line.blocking import BlockingConnection
from trough.shell.cluster.direct import DirectRemote
from trough.shell.session import Columns, Done, Failed, MoreRows, Restarted
from trough.tls import TlsFiles

WHOLE = [("COLS a", '["x"]'), ("ROWS a", "[[1],[2]]"), ("DONE a", "2")]


def lines(*parts):
    return [" ".join(part) for part in parts]


class Direct:
    """A shell's way to a cluster, as a script has it.

    :ivar wholes: how often the whole client was made
    """

    def __init__(self, desk, token=None) -> None:
        self.wholes = 0
        self._desk = desk
        url = f"sqlite://{desk.path}/registry.db"
        self.remote = DirectRemote(open_blocking(url), token, TlsFiles(), self._whole)

    def _whole(self):
        self.wholes += 1
        return self._desk.remote

    async def asked(self, *segments, forgets=True):
        """What happens in a query, without the waiting."""

        def ask():
            with self.remote.query(segments, "SELECT x FROM t", forgets=forgets) as query:
                return [event for event in query.events(0.05) if event is not None]

        return await deferToThread(ask).addTimeout(EXPECTED_WITHIN, reactor)


@pytest_twisted.async_yield_fixture
async def desk(tmp_path):
    desk = Desk(tmp_path)
    await desk.cluster.open()
    yield desk
    await desk.cluster.close()


def kinds(events):
    return [type(event) for event in events]


@pytest_twisted.ensureDeferred
async def test_one_segment_needs_no_reactor(desk):
    """Its worker is asked, several times on one connection; the whole client is not made."""
    async with LineServer(reactor, lambda asked: asked.answer({"a": [1, 2]})) as server:
        await desk.worker("w1", server, "a")
        direct = Direct(desk)
        for _ in range(3):
            events = await direct.asked("a")
            assert kinds(events) == [Columns, MoreRows, Done]
            assert events[1].rows == [[1], [2]]
        assert [copy.node for copy in direct.remote.copies(["a", "b"])["a"]] == ["w1"]
        assert direct.wholes == 0
        assert len(server.connections) == 1
        direct.remote._leave()


@pytest_twisted.ensureDeferred
async def test_several_segments_are_the_whole_clients(desk):
    """And so is everything after them."""
    async with LineServer(reactor, lambda asked: asked.answer({"a": [1], "b": [2]})) as server:
        await desk.worker("w1", server, "a", "b")
        direct = Direct(desk)
        assert kinds(await direct.asked("a", "b")).count(Done) == 2
        assert kinds(await direct.asked("a")) == [Columns, MoreRows, Done]
        assert direct.wholes == 1


@pytest.mark.parametrize("cut", range(4))
@pytest_twisted.ensureDeferred
async def test_a_server_that_dies_is_replaced(desk, cut):
    """Wherever the answer was cut off, the shell shows a whole one, once."""

    def answer(asked):
        first = len(server.asked) == 1
        parts = lines(*WHOLE)
        asked.say(*parts[:cut] if first else parts)
        if first and cut < 3:
            asked.say(DIE)
        else:
            asked.end()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a")
        direct = Direct(desk)
        assert kinds(await direct.asked("a")) == [Columns, MoreRows, Done]
        assert direct.wholes == (cut < 3)
        direct.remote._leave()


@pytest.mark.parametrize("forgets", [True, False])
@pytest_twisted.ensureDeferred
async def test_rows_that_were_shown_are_taken_back_or_the_segment_fails(desk, forgets):
    """An answer that was partly told before its server died is never told twice."""

    def answer(asked):
        if len(server.asked) == 1:
            asked.say('COLS a ["x"]', "ROWS a [[1]]", "ROWS a [[2]]", DIE)
        else:
            asked.answer({"a": [1, 2]})

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a")
        found = kinds(await Direct(desk).asked("a", forgets=forgets))
    again = [Restarted, Columns, MoreRows, Done] if forgets else [Failed]
    assert found == [Columns, MoreRows, MoreRows, *again]


@pytest_twisted.ensureDeferred
async def test_a_segment_that_fails(desk):
    """An error of the SQL is told as it came; one that may pass is asked elsewhere."""
    says = ["FAIL a bad-sql no such table: t"]

    def answer(asked):
        asked.say(*says)
        asked.end()

    async with LineServer(reactor, answer) as server:
        await desk.worker("w1", server, "a")
        direct = Direct(desk)
        [failed] = await direct.asked("a")
        assert isinstance(failed, Failed) and failed.error.message == "no such table: t"
        assert direct.wholes == 0
        says[0] = "FAIL a no-segment it has moved"
        [failed] = await direct.asked("a")
        assert isinstance(failed.error, errors.NoSuchSegment)
        assert direct.wholes == 1


@pytest_twisted.ensureDeferred
async def test_a_segment_that_nobody_serves(desk):
    """The whole client may know a cold worker for it, and has the right words if not."""
    direct = Direct(desk)
    [failed] = await direct.asked("nowhere")
    assert isinstance(failed.error, errors.NoSuchSegment) and direct.wholes == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_silent_is_given_up():
    """It is pinged first; and whoever waits gets a turn meanwhile."""
    async with LineServer(reactor, lambda asked: None) as server:

        def wait():
            connection = BlockingConnection(server.address, silence=0.05)
            steps = connection.query(["a"], "SELECT 1", None, None, 0.01)
            try:
                assert next(steps) is None
                with pytest.raises(errors.Unavailable, match="silent"):
                    list(steps)
            finally:
                connection.close()

        await deferToThread(wait).addTimeout(EXPECTED_WITHIN, reactor)
        assert "PING" in [asked.verb for asked in server.asked]


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:x", "nothing"])
def test_an_address_where_nobody_answers(address):
    """One error, whatever is wrong."""
    with pytest.raises(errors.Unavailable, match="cannot connect"):
        BlockingConnection(address)
