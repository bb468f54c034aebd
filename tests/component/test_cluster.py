"""The Twisted client, against real registries and small real servers."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack

import pytest
import pytest_twisted
from line_servers import DIE, LineServer
from processes import free_ports
from towns import Found, Town, settled
from twisted.internet import defer, reactor
from twisted.internet.task import deferLater
from waiting import EXPECTED_WITHIN

from trough import errors, model
from trough.cluster_client import fan_out
from trough.cluster_client.client import Cluster
from trough.util.trace_context import CURRENT_TRACE


@pytest_twisted.async_yield_fixture
async def town(tmp_path):
    """A registry and a client of it."""
    town = Town(tmp_path)
    await town.cluster.open()
    yield town
    await town.cluster.close()


def answering(rows):
    """An answer function: these rows, by segment."""
    return lambda asked: asked.answer(rows)


# -- reading -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_each_worker_is_asked_once_for_all_of_its_segments(town):
    """Segments of two workers: two requests, and every row under its segment."""
    rows = {str(number): [number, number + 1] for number in range(100)}
    async with LineServer(reactor, answering(rows)) as one:
        async with LineServer(reactor, answering(rows)) as two:
            await town.worker("w1", one, *list(rows)[:60])
            await town.worker("w2", two, *list(rows)[60:])
            query, found = town.query([*rows, "1", "2"])
            tally = await settled(query.done)
    assert (len(one.asked), len(two.asked)) == (1, 1)
    assert sorted(one.asked[0].segments) == sorted(list(rows)[:60])
    assert found.rows_of == {s: [[value] for value in values] for s, values in rows.items()}
    assert set(found.names_of) == set(rows) and found.names_of["0"] == ("a",)
    assert (tally.segments, tally.answered, tally.rows, tally.failed) == (100, 100, 200, {})
    assert tally.complete


@pytest_twisted.ensureDeferred
async def test_a_worker_of_an_earlier_version_is_asked_without_the_trace(town):
    """One that knows it gets it; the other refuses, and is asked again without."""
    trace = f"00-{'a' * 32}-{'b' * 16}-01"

    def earlier(asked):
        if asked.query.trace:
            asked.say("ERR bad-request QUERY has no option trace= (it has seconds=, rows=)")
        else:
            asked.answer({"s": [1]})

    async with (
        LineServer(reactor, earlier) as old,
        LineServer(reactor, answering({"t": [2]})) as new,
    ):
        await town.worker("w1", old, "s")
        await town.worker("w2", new, "t")
        token = CURRENT_TRACE.set(trace.encode())
        try:
            query, found = town.query(["s", "t"])
        finally:
            CURRENT_TRACE.reset(token)
        assert (await settled(query.done)).complete
    assert found.rows_of == {"s": [[1]], "t": [[2]]}
    assert [each.query.trace for each in old.asked] == [trace, ""]
    assert new.asked[0].query.trace == trace


@pytest_twisted.ensureDeferred
async def test_connections_are_kept_and_shared(town):
    """Ten queries at once and ten more go over one connection."""
    async with LineServer(reactor, answering({"s": [1]})) as worker:
        await town.worker("w1", worker, "s")
        for _ in range(2):
            queries = [town.query(["s"])[0] for _ in range(10)]
            await settled(defer.gatherResults([query.done for query in queries]))
        assert len(worker.asked) == 20
        assert len(worker.connections) == 1


@pytest_twisted.ensureDeferred
async def test_parameters_and_limits_reach_the_worker(town):
    """Parameters, deadline and row limit go with the query."""
    async with LineServer(reactor, answering({"s": [1]})) as worker:
        await town.worker("w1", worker, "s")
        query, _ = town.query(["s"], "SELECT ?", ["it's", None], seconds=50, rows=7)
        await settled(query.done)
        arguments = worker.asked[0].query
        assert (arguments.sql, arguments.parameters, arguments.rows) == (
            "SELECT ?",
            ["it's", None],
            7,
        )
        assert 0 < arguments.seconds <= 50


@pytest_twisted.ensureDeferred
async def test_a_segment_nowhere_fails_alone(town):
    """What no worker serves fails by name; the others answer."""
    async with LineServer(reactor, answering({"s": [1]})) as worker:
        await town.worker("w1", worker, "s")
        query, found = town.query(["s", "gone"])
        tally = await settled(query.done)
    assert found.rows_of == {"s": [[1]]}
    assert isinstance(tally.failed["gone"], errors.NoSuchSegment)
    assert "gone" in str(found.failures["gone"])
    assert not tally.complete


@pytest_twisted.ensureDeferred
async def test_no_segments_is_an_empty_answer(town):
    """A query of nothing ends at once."""
    query, found = town.query([])
    assert (await settled(query.done)).complete
    assert found.events == []


@pytest_twisted.ensureDeferred
async def test_what_is_no_segment_id_is_refused(town):
    """A bad id is told before anything is asked."""
    with pytest.raises(errors.BadSegmentId):
        town.query(["s", "a/b"])


@pytest_twisted.ensureDeferred
async def test_a_bad_query_fails_as_a_whole(town):
    """What a worker refuses outright would be refused by every worker."""
    async with LineServer(reactor, lambda asked: asked.say("ERR bad-sql near x")) as worker:
        await town.worker("w1", worker, "s", "t")
        query, found = town.query(["s", "t"])
        with pytest.raises(errors.BadSql, match="near x"):
            await settled(query.done)
        assert found.events == []


@pytest_twisted.ensureDeferred
async def test_a_segment_that_fails_for_good_is_not_asked_again(town):
    """SQL that one segment refuses, or a deadline, is that segment's answer."""

    def answer(asked):
        asked.say("FAIL s bad-sql no such table: t", "FAIL t timeout too slow")
        asked.end()

    async with LineServer(reactor, answer) as one, LineServer(reactor, answer) as two:
        await town.worker("w1", one, "s", "t")
        await town.worker("w2", two, "s", "t", load=99)
        query, found = town.query(["s", "t"])
        await settled(query.done)
        assert isinstance(found.failures["s"], errors.BadSql)
        assert isinstance(found.failures["t"], errors.DeadlineExceeded)
        assert len(one.asked) + len(two.asked) == 1


# -- following segments --------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_moved_segment_is_followed(town):
    """A worker that says where a segment is now is believed, without a look-up."""
    async with LineServer(reactor, answering({"s": [1]})) as there:

        def answer(asked):
            asked.say('COLS t ["a"]', "DONE t 0", f"FAIL s moved w2 {there.address}")
            asked.end()

        async with LineServer(reactor, answer) as here:
            await town.worker("w1", here, "s", "t")
            found = await town.found(["s", "t"])
    assert found.rows_of == {"s": [[1]]}
    assert found.counts == {"s": 1, "t": 0}
    assert [asked.segments for asked in there.asked] == [("s",)]


@pytest_twisted.ensureDeferred
async def test_two_workers_that_name_each_other_are_not_asked_for_ever(town):
    """Moved here, moved there: after some tries the segment fails."""
    async with LineServer(reactor, lambda asked: moved(asked, "w2", two)) as one:
        async with LineServer(reactor, lambda asked: moved(asked, "w1", one)) as two:
            await town.worker("w1", one, "s")
            await town.worker("w2", two)
            found = await town.found(["s"])
            assert isinstance(found.failures["s"], errors.Moved)
            assert len(one.asked) + len(two.asked) == fan_out.MAX_TRIES


def moved(asked, node, server):
    """Answer that all segments are elsewhere."""
    for segment in asked.segments:
        asked.say(f"FAIL {segment} moved {node} {server.address}")
    asked.end()


@pytest.mark.parametrize("code", ["corrupt", "no-segment", "unavailable"])
@pytest_twisted.ensureDeferred
async def test_a_copy_that_cannot_be_read_is_read_elsewhere(town, code):
    """A copy that is damaged, gone or not ready is no reason to fail while another is."""

    def answer(asked):
        asked.say(f"FAIL s {code} whatever")
        asked.end()

    async with (
        LineServer(reactor, answer) as bad,
        LineServer(reactor, answering({"s": [1]})) as good,
    ):
        await town.worker("w1", bad, "s", load=0)
        await town.worker("w2", good, "s", load=5)
        found = await town.found(["s"], seconds=50)
    assert found.rows_of == {"s": [[1]]}
    assert len(bad.asked) == 1
    assert good.asked[0].query.seconds < bad.asked[0].query.seconds <= 50


@pytest_twisted.ensureDeferred
async def test_a_dead_worker_is_asked_around(town):
    """A worker that takes no connection costs a detour, once for all of its segments."""
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    rows = {str(number): [number] for number in range(50)}
    async with LineServer(reactor, answering(rows)) as alive:
        await town.worker("w1", dead, *rows, load=0)
        await town.worker("w2", alive, *rows, load=99)
        query, found = town.query(rows)
        tally = await settled(query.done)
        assert tally.complete
        assert 1 <= len(alive.asked) <= 2
        assert found.rows_of == {s: [values] for s, values in rows.items()}


@pytest_twisted.ensureDeferred
async def test_without_another_copy_the_reason_is_told(town):
    """The only worker is gone: the segment fails with what happened there."""
    dead = f"127.0.0.1:{free_ports(1)[0]}"
    await town.worker("w1", dead, "s")
    found = await town.found(["s"])
    assert isinstance(found.failures["s"], errors.Unavailable)
    assert dead in str(found.failures["s"])


# -- a worker that dies in the middle ------------------------------------------


def dying_after(*lines):
    """An answer function: these lines, then death; whole answers from then on never."""
    return lambda asked: asked.say(*lines, DIE)


@pytest_twisted.ensureDeferred
async def test_a_short_answer_cut_off_leaves_no_trace(town):
    """Rows of one batch are held back until their end: elsewhere they come once, and the
    listener never hears of the first attempt."""
    lines = ('COLS s ["a"]', "ROWS s [[1],[2]]", 'COLS t ["a"]', "ROWS t [[7]]", "DONE t 1")
    async with LineServer(reactor, dying_after(*lines)) as dying:
        async with LineServer(reactor, answering({"s": [1, 2, 3], "t": [7]})) as other:
            await town.worker("w1", dying, "s", "t", load=0)
            await town.worker("w2", other, "s", "t", load=99)
            query, found = town.query(["s", "t"])
            tally = await settled(query.done)
    assert found.rows_of == {"s": [[1], [2], [3]], "t": [[7]]}
    assert [asked.segments for asked in other.asked] == [("s",)]
    assert tally.restarted == 0
    assert found.events == [
        ("columns", "t"), ("rows", "t"), ("done", "t"),
        ("columns", "s"), ("rows", "s"), ("done", "s"),
    ]  # fmt: skip


@pytest_twisted.ensureDeferred
async def test_what_was_held_back_of_a_failed_attempt_is_dropped(town):
    """The other copy is newer, and empty: nothing of the first one is told."""
    lines = ('COLS s ["a"]', "ROWS s [[1]]", "FAIL s corrupt damaged", "END segments=1 failed=1")
    async with LineServer(reactor, lambda asked: asked.say(*lines)) as bad:
        async with LineServer(reactor, answering({"s": []})) as other:
            await town.worker("w1", bad, "s", load=0)
            await town.worker("w2", other, "s", load=99)
            found = await town.found(["s"])
    assert found.events == [("columns", "s"), ("done", "s")]


@pytest_twisted.ensureDeferred
async def test_each_restart_is_told_once(town):
    """A second attempt of which nothing was told yet can fail without another word."""
    attempts = [LONG, LONG[:2]]
    async with LineServer(reactor, lambda asked: asked.say(*attempts.pop(0), DIE)) as dying:
        async with LineServer(reactor, lambda asked: asked.say(*attempts.pop(0), DIE)) as other:
            await town.worker("w1", dying, "s", load=0)
            await town.worker("w2", other, "s", load=99)
            query, found = town.query(["s"])
            await found.happens("restarted", "s")
            attempts.append(('COLS s ["a"]', "ROWS s [[1]]", "DONE s 1"))
            tally = await settled(query.done)
    assert (tally.restarted, tally.answered) == (1, 1)
    assert found.rows_of == {"s": [[1]]}


LONG = ('COLS s ["a"]', "ROWS s [[1],[2]]", "ROWS s [[3]]")


@pytest_twisted.ensureDeferred
async def test_rows_told_already_are_restarted(town):
    """Where rows were told, the listener is told that they are void, then all of them."""
    async with LineServer(reactor, dying_after(*LONG)) as dying:
        async with LineServer(reactor, answering({"s": [1, 2, 3, 4]})) as other:
            await town.worker("w1", dying, "s", load=0)
            await town.worker("w2", other, "s", load=99)
            query, found = town.query(["s"])
            tally = await settled(query.done)
    assert found.rows_of == {"s": [[1], [2], [3], [4]]}
    assert (tally.restarted, tally.rows) == (1, 4)
    assert found.events.count(("restarted", "s")) == 1


@pytest_twisted.ensureDeferred
async def test_a_listener_that_cannot_forget_gets_no_row_twice(town):
    """Rows that went out for good: the segment fails, rather than repeat them."""
    async with LineServer(reactor, dying_after(*LONG)) as dying:
        async with LineServer(reactor, answering({"s": [1, 2, 3, 4]})) as other:
            await town.worker("w1", dying, "s", load=0)
            await town.worker("w2", other, "s", load=99)
            query, found = town.query(["s"], listener=Found(forgets=False))
            await settled(query.done)
    assert found.rows_of == {"s": [[1], [2], [3]]}
    assert isinstance(found.failures["s"], errors.Unavailable)
    assert other.asked == []


@pytest_twisted.ensureDeferred
async def test_what_is_held_back_is_bounded(town, monkeypatch):
    """Of very many segments that have begun and not ended, the oldest are told."""
    monkeypatch.setattr(fan_out, "HELD_BATCHES", 3)
    names = [f"s{number}" for number in range(10)]

    def answer(asked):
        for name in names:
            asked.say(f'COLS {name} ["a"]', f"ROWS {name} [[1]]")
        asked.say("FAIL nowhere no-segment really")

    async with LineServer(reactor, answer) as worker:
        await town.worker("w1", worker, *names)
        query, found = town.query(names)
        await found.happens("rows", "s6")
        assert [segment for event, segment in found.events if event == "rows"] == names[:7]
        query.cancel()
        with pytest.raises(errors.Cancelled):
            await settled(query.done)


class Unreliable:
    """Answers in small batches, interleaved, one a turn; dies, or refuses, at random."""

    def __init__(self, rows, chance) -> None:
        self._rows = rows
        self._chance = chance

    def __call__(self, asked):
        if asked.verb != "QUERY":
            return
        lines = {segment: self._answer(segment) for segment in asked.segments}
        self._go_on(asked, lines)

    def _answer(self, segment):
        rows = self._rows[segment]
        yield f'COLS {segment} ["a"]'
        for start in range(0, len(rows), 2):
            batch = ",".join(f"[{row}]" for row in rows[start : start + 2])
            if self._chance.random() < 0.03:
                yield f"FAIL {segment} corrupt the file is damaged"
                return
            yield f"ROWS {segment} [{batch}]"
        yield f"DONE {segment} {len(rows)}"

    def _go_on(self, asked, lines):
        if self._chance.random() < 0.005:
            asked.say(DIE)
        elif lines:
            segment = self._chance.choice(list(lines))
            line = next(lines[segment], None)
            if line is None:
                del lines[segment]
            else:
                asked.say(line)
            reactor.callLater(0, self._go_on, asked, lines)
        else:
            asked.end()


@pytest_twisted.ensureDeferred
async def test_no_row_is_lost_or_told_twice_whoever_dies(town):
    """Workers that die and fail at random: each segment has its rows once, or failed."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rows = {f"s{number}": list(range(chance.randrange(9))) for number in range(60)}
    restarted = answered = 0
    async with AsyncExitStack() as stack:
        for number in range(3):
            server = LineServer(reactor, Unreliable(rows, chance))
            await stack.enter_async_context(server)
            held = [s for place, s in enumerate(rows) if place % 3 != number]
            await town.worker(f"w{number}", server, *held)
        for _ in range(12):
            query, found = town.query(rows)
            tally = await settled(query.done)
            assert set(found.counts) | set(found.failures) == set(rows)
            for segment in found.counts:
                assert found.rows_of.get(segment, []) == [[row] for row in rows[segment]]
            assert (tally.answered, tally.failed) == (len(found.counts), found.failures)
            restarted += tally.restarted
            answered += tally.answered
    assert restarted > 0, "nothing ever went wrong"
    assert answered > 0, "everything always went wrong"


# -- the caller's hand ---------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_cancelling_reaches_the_worker(town):
    """A cancelled query is cancelled on the worker, and the listener hears no more."""
    cancelled = defer.Deferred()
    first = []

    def answer(asked):
        if asked.verb == "CANCEL":
            cancelled.callback(asked.words)
            first[0].say("ROWS s [[2]]", "ERR cancelled by the client")
        else:
            first.append(asked)
            asked.say('COLS s ["a"]', "ROWS s [[1]]", "ROWS s [[1]]")

    async with LineServer(reactor, answer) as worker:
        await town.worker("w1", worker, "s")
        query, found = town.query(["s"])
        await found.happens("rows", "s")
        heard = len(found.events)
        query.cancel()
        with pytest.raises(errors.Cancelled):
            await settled(query.done)
        assert await settled(cancelled) == [first[0].request.tag]
        assert len(found.events) <= heard + 1


@pytest_twisted.ensureDeferred
async def test_a_listener_that_raises_ends_the_query(town):
    """What the listener raises is what the query fails with, and workers stop."""

    class Full(Found):
        def rows(self, segment, rows):
            raise OSError("disk full")

    async with LineServer(reactor, answering({"s": [1]})) as worker:
        await town.worker("w1", worker, "s")
        query, _ = town.query(["s"], listener=Full())
        with pytest.raises(OSError, match="disk full"):
            await settled(query.done)


@pytest_twisted.ensureDeferred
async def test_a_pause_leaves_the_listener_alone(town):
    """While paused nothing is told; after, everything, in order."""
    asked_for = []

    def answer(asked):
        asked_for.append(asked)
        asked.say('COLS s ["a"]', "ROWS s [[1]]", "ROWS s [[2]]")

    async with LineServer(reactor, answer) as worker:
        await town.worker("w1", worker, "s")
        query, found = town.query(["s"])
        await found.happens("rows", "s")
        await deferLater(reactor, 0)  # out of the middle of being told
        query.pause()
        heard = list(found.events)
        asked_for[0].say("ROWS s [[3]]", "DONE s 3")
        asked_for[0].end()
        # Another connection's round trip: whatever was sent before has arrived.
        other = Cluster(town.metadata, reactor)
        echo = other.query(["s"], "SELECT", listener=Found())
        await settled(_begun(worker, 2))
        assert found.events == heard
        query.resume()
        await settled(query.done)
        assert found.rows_of == {"s": [[1], [2], [3]]}
        echo.cancel()
        worker.die()
        with pytest.raises(errors.Cancelled):
            await settled(echo.done)
        await other._links.close()


def _begun(server, requests):
    """Fires when a server has been asked so often."""
    deferred = defer.Deferred()

    def look():
        if len(server.asked) >= requests:
            deferred.callback(None)
        else:
            reactor.callLater(0.01, look)

    look()
    return deferred


@pytest_twisted.ensureDeferred
async def test_a_worker_that_ignores_the_deadline_is_given_up(town, monkeypatch):
    """Past deadline and grace, what has not answered fails; what has, stays answered."""
    monkeypatch.setattr(fan_out, "GRACE_SECONDS", 0.1)

    def answer(asked):
        if asked.verb == "QUERY":
            asked.say('COLS s ["a"]', "DONE s 0")

    async with LineServer(reactor, answer) as worker:
        await town.worker("w1", worker, "s", "t")
        query, found = town.query(["s", "t"], seconds=3.0)
        tally = await settled(query.done)
        assert isinstance(tally.failed["t"], errors.DeadlineExceeded)
        assert found.counts == {"s": 0}


# -- choosing copies -----------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_copies_share_the_work_by_load(town):
    """Two idle workers get half each; a loaded one gets its smaller share."""
    rows = {str(number): [number] for number in range(300)}
    async with LineServer(reactor, answering(rows)) as one:
        async with LineServer(reactor, answering(rows)) as two:
            await town.worker("w1", one, *rows, load=1.0)
            await town.worker("w2", two, *rows, load=3.0)
            await town.found(rows)
            shares = (len(one.asked[0].segments), len(two.asked[0].segments))
    assert sum(shares) == 300
    assert shares[0] == pytest.approx(200, abs=5)


@pytest_twisted.ensureDeferred
async def test_a_segment_being_written_is_read_where_it_is_written(town):
    """The lock's holder has the newest rows, however loaded it is."""
    async with LineServer(reactor, answering({"s": [1]})) as holder:
        async with LineServer(reactor, answering({"s": [0]})) as other:
            await town.worker("w1", holder, "s", load=50)
            await town.serve("w1", "s", role=model.WRITE)
            await town.worker("w2", other, "s", load=0)
            assert (await town.found(["s"])).rows_of == {"s": [[1]]}


@pytest_twisted.ensureDeferred
async def test_a_hundred_thousand_segments(town):
    """Very many segments are found, asked for in one request a worker, and answered."""
    names = [str(300000 + number) for number in range(100_000)]

    def answer(asked):
        asked.say(*(f'COLS {s} ["a"]\n{asked.request.tag} DONE {s} 0' for s in asked.segments))
        asked.end()

    async with LineServer(reactor, answer) as one, LineServer(reactor, answer) as two:
        await town.worker("w1", one, *names[::2])
        await town.worker("w2", two, *names[1::2])
        query, found = town.query(names)
        tally = await settled(query.done)
        assert tally.answered == len(found.counts) == 100_000
        assert (len(one.asked), len(two.asked)) == (1, 1)
        await town.know()
        pages = [page async for page in town.cluster.matching("^3000")]
        assert sorted(name for page in pages for name in page) == names[:100]
        assert len(await town.cluster.where([*names[:5000], "gone"])) == 5000


# -- while the metadata store is away -------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_one_query_found_is_not_forgotten_for_another(town, monkeypatch):
    """Two queries at once for more segments than are remembered: both find all of theirs."""
    monkeypatch.setattr("trough.cluster_client.router.REMEMBERED", 30)
    monkeypatch.setattr("trough.cluster_client.router.PAGE", 1)
    monkeypatch.setattr("trough.cluster_client.router.PAGES_AT_ONCE", 1)
    rows = {f"s{number}": [number] for number in range(100)}
    async with LineServer(reactor, answering(rows)) as worker:
        await town.worker("w1", worker, *rows)
        names = list(rows)
        one, found = town.query(names[:60])
        await town.found(names[60:61])
        assert not one.done.called
        another = await town.found(names[61:])
        await settled(one.done)
    assert found.rows_of.keys() == set(names[:60]) and not found.failures
    assert another.rows_of.keys() == set(names[61:]) and not another.failures


@pytest_twisted.ensureDeferred
async def test_what_is_known_of_segments_outlives_the_store(town, monkeypatch):
    """Whatever was looked up is asked for and written to, however old, while the store is
    away; what never was cannot be found."""
    monkeypatch.setattr("trough.cluster_client.router.COPIES_SECONDS", 0.0)
    monkeypatch.setattr("trough.cluster_client.router.WORKERS_SECONDS", 0.0)
    async with (
        LineServer(reactor, answering({"s": [1], "t": [2]})) as two,
        LineServer(reactor, lambda asked: asked.say("OK changes=1")) as holder,
        LineServer(reactor, Sync(town, "w3")) as sync,
    ):
        await town.lead(sync)
        await town.worker("w2", two, "s", "t", load=9)
        await town.worker("w3", holder)
        async with LineServer(reactor, answering({"s": [1]})) as one:
            await town.worker("w1", one, "s", load=0)
            assert (await town.found(["s", "t"])).rows_of == {"s": [[1]], "t": [[2]]}
            assert await town.cluster.write("x", "DELETE FROM t") == 1
            await town.metadata.close()
            assert (await town.found(["s", "t"])).rows_of == {"s": [[1]], "t": [[2]]}
            assert await town.cluster.write("x", "DELETE FROM t") == 1
        # Of a worker that dies now, other copies are known.
        assert (await town.found(["s", "t"])).rows_of == {"s": [[1]], "t": [[2]]}
        unknown = (await town.found(["u"])).failures["u"]
        assert isinstance(unknown, errors.Unavailable)
        with pytest.raises(errors.Unavailable):
            await town.cluster.where(["s"])
        assert (await town.found(["s"])).rows_of == {"s": [[1]]}


# -- servers of the original system --------------------------------------------


@pytest_twisted.ensureDeferred
async def test_an_original_worker_is_not_asked(town):
    """It serves HTTP only: its segments fail with what to do, and others answer."""
    async with LineServer(reactor, answering({"other": [5]})) as worker:
        await town.worker("w1", "", "s")
        await town.worker("w2", worker, "other")
        found = await town.found(["s", "other"])
    assert found.rows_of == {"other": [[5]]}
    assert isinstance(found.failures["s"], errors.Unavailable)
    assert "w1 serves no line protocol" in str(found.failures["s"])
    assert "upgraded as a whole" in str(found.failures["s"])


@pytest_twisted.ensureDeferred
async def test_another_copy_answers_for_an_original_worker(town):
    """A segment with a copy elsewhere is read there."""
    async with LineServer(reactor, answering({"s": [1]})) as other:
        await town.worker("w1", "", "s", load=0)
        await town.worker("w2", other, "s", load=99)
        assert (await town.found(["s"])).rows_of == {"s": [[1]]}


@pytest_twisted.ensureDeferred
async def test_an_original_worker_is_not_written_to(town):
    """The write was not sent, so it is certain that nothing was written."""
    async with LineServer(reactor, Sync(town, "w1")) as sync:
        await town.lead(sync)
        await town.worker("w1", "")
        with pytest.raises(errors.Unavailable, match="upgraded as a whole"):
            await town.cluster.write("s", "DELETE FROM t")
        with pytest.raises(errors.Unavailable, match="w1 serves no line protocol"):
            await town.cluster.worker_status("w1")


@pytest_twisted.ensureDeferred
async def test_an_original_leader_is_not_asked(town):
    """Its row names no address of the line protocol."""
    await town.metadata.campaign(model.Leader("sync", "id", url="http://127.0.0.1:1/", ttl=60.0))
    with pytest.raises(errors.Unavailable, match="sync leads without the line protocol"):
        await town.cluster.promote("s")


# -- writing -------------------------------------------------------------------


class Sync:
    """Answers like a sync server: gives each provisioned segment's lock to a node."""

    def __init__(self, town, *nodes) -> None:
        self._town = town
        self._nodes = list(nodes)

    def __call__(self, asked):
        assert asked.verb == "PROVISION"
        defer.Deferred.fromCoroutine(self._provision(asked))

    async def _provision(self, asked):
        segment = asked.words[0]
        lock = await self._town.metadata.lock_of(segment)
        if lock is not None and len(self._nodes) > 1:
            await self._town.metadata.release_lock(lock)
            self._nodes.pop(0)
        await self._town.metadata.take_lock(segment, self._nodes[0])
        workers = {worker.node: worker for worker in await self._town.metadata.workers()}
        url = workers[self._nodes[0]].write_url if self._nodes[0] in workers else "http://gone/"
        asked.say(f'OK {{"result":"success","write_url":"{url}?segment={segment}"}}')


@pytest_twisted.ensureDeferred
async def test_write_provisions_once_and_follows_the_lock(town):
    """The first write provisions; the next one goes straight to the holder."""
    async with LineServer(reactor, lambda asked: asked.say("OK changes=2 ms=1")) as holder:
        async with LineServer(reactor, Sync(town, "w1")) as sync:
            await town.lead(sync)
            await town.worker("w1", holder)
            for _ in range(2):
                assert await town.cluster.write("s", "INSERT", [1], schema="crawl") == 2
            assert [asked.words for asked in sync.asked] == [["s", "schema=crawl"]]
            assert [asked.write.parameters for asked in holder.asked] == [[1], [1]]


@pytest.mark.parametrize("refusal", ["ERR no-lock it is not mine", "ERR moved w2 127.0.0.1:1"])
@pytest_twisted.ensureDeferred
async def test_a_write_refused_for_want_of_the_lock_is_repeated(town, refusal):
    """Refused, nothing was written: provision again, and write there."""
    async with LineServer(reactor, lambda asked: asked.say(refusal)) as former:
        async with LineServer(reactor, lambda asked: asked.say("OK changes=1")) as holder:
            async with LineServer(reactor, Sync(town, "w1", "w2")) as sync:
                await town.lead(sync)
                await town.worker("w1", former)
                await town.worker("w2", holder)
                assert await town.cluster.write("s", "INSERT") == 1
                assert len(former.asked) == len(holder.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_write_without_an_answer_is_not_repeated(town):
    """The holder dies over a write: unknown, and nobody writes it twice."""
    async with LineServer(reactor, lambda asked: asked.say(DIE)) as holder:
        async with LineServer(reactor, Sync(town, "w1")) as sync:
            await town.lead(sync)
            await town.worker("w1", holder)
            with pytest.raises(errors.OutcomeUnknown):
                await town.cluster.write("s", "INSERT")
            assert len(holder.asked) == 1


@pytest_twisted.ensureDeferred
async def test_a_write_that_is_wrong_is_refused_once(town):
    """Bad SQL is the caller's, and not tried elsewhere."""
    async with LineServer(reactor, lambda asked: asked.say("ERR bad-sql near x")) as holder:
        async with LineServer(reactor, Sync(town, "w1")) as sync:
            await town.lead(sync)
            await town.worker("w1", holder)
            with pytest.raises(errors.BadSql):
                await town.cluster.write("s", "INSER")
            assert len(holder.asked) == len(sync.asked) == 1


# -- the sync server -----------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_orders_to_the_sync_server(town):
    """Promotion, deletion, schemas and status are the protocol's verbs."""
    answers = {
        "PROMOTE": 'OK {"remote_path":"300/300001.sqlite"}',
        "DELETE": "ERR locked it has a write lock",
        "PUT-SCHEMA": "OK created=1",
        "STATUS": 'OK {"leader":"sync"}',
    }
    async with LineServer(reactor, lambda asked: asked.say(answers[asked.verb])) as sync:
        await town.lead(sync)
        cluster = town.cluster
        assert (await cluster.promote("300001"))["remote_path"] == "300/300001.sqlite"
        with pytest.raises(errors.LockHeld):
            await cluster.delete("300001")
        await cluster.put_schema(model.Schema("crawl", "CREATE TABLE t (a);"))
        assert await cluster.status() == {"leader": "sync"}
        await town.metadata.put_schema(model.Schema("crawl", "CREATE TABLE t (a);"))
        assert await cluster.schemas() == ["crawl", "default"]
        assert (await cluster.schema("crawl")).sql == "CREATE TABLE t (a);"


@pytest_twisted.ensureDeferred
async def test_a_lost_leader_is_waited_for(town, monkeypatch):
    """While nobody takes orders, an order waits for whoever leads next."""
    monkeypatch.setattr("trough.cluster_client.client.FAILOVER_PAUSE", 0.02)
    monkeypatch.setattr("trough.cluster_client.client.FAILOVER_SECONDS", EXPECTED_WITHIN)

    async def lead_next():
        await town.lead(next_one)

    def lose(asked):
        asked.say(DIE)
        defer.Deferred.fromCoroutine(lead_next())

    async with LineServer(reactor, lose) as lost:
        async with LineServer(reactor, lambda asked: asked.say('OK {"a":1}')) as next_one:
            await town.lead(lost)
            assert await town.cluster.promote("s") == {"a": 1}
            assert len(lost.asked) >= 1


@pytest_twisted.ensureDeferred
async def test_nobody_leads(town, monkeypatch):
    """With no sync server at all, an order fails after a while and says so."""
    monkeypatch.setattr("trough.cluster_client.client.FAILOVER_SECONDS", 0.0)
    with pytest.raises(errors.Unavailable, match="no sync server leads"):
        await town.cluster.promote("s")
