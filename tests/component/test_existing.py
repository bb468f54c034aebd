"""A pattern means every segment that exists: nothing is left out in silence."""

from __future__ import annotations

import pytest
import pytest_twisted
from line_servers import LineServer
from test_gather_driver import NAMES, Segments
from towns import Town, settled
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from trough import errors, model
from trough.cluster_client.existing import SetUnknown

COUNT = "SELECT count(*) FROM t"


@pytest_twisted.async_yield_fixture
async def town(tmp_path, monkeypatch):
    """A registry that knows all segments, twenty of them on one worker."""
    monkeypatch.setattr("trough.cluster_client.gather._PAUSE", 0.05)
    monkeypatch.setattr("trough.cluster_client.gather._PAUSE_FOR_COPIES", 0.05)
    town = Town(tmp_path)
    await town.cluster.open()
    async with LineServer(reactor, Segments().answer) as server:
        await town.worker("w1", server, *NAMES)
        await town.know()
        yield town
    await town.cluster.close()


def gather(town, pattern, **options):
    """The answer of COUNT, once it is there."""
    return settled(Deferred.fromCoroutine(town.cluster.gather(pattern, COUNT, **options)))


async def matching(town, pattern):
    """Ids, and whether there may be more."""
    found = []
    try:
        async for page in town.cluster.matching(pattern):
            found += page
    except SetUnknown:
        return sorted(found), True
    return sorted(found), False


@pytest_twisted.ensureDeferred
async def test_all_are_known_and_served(town):
    """Nothing is missing."""
    result = await gather(town, "^s")
    assert result.rows == [(200,)] and not result.missing
    assert await matching(town, "^s1") == ([s for s in sorted(NAMES) if s[1] == "1"], False)
    with pytest.raises(errors.NoSuchSegment, match=r"no segment matches '\^x'"):
        await gather(town, "^x")


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("kind", ["assigned", "locked", "unplaced"])
async def test_what_nobody_serves_is_missing(town, kind):
    """It is assigned to a worker that is dead, written by one, or was never placed."""
    leader = await town.metadata.campaign(model.Leader("sync", "sync", url="http://x/"))
    if kind == "assigned":
        lost = model.Assignment("s-lost", "w9", 0, "s-lost.sqlite", 1, 1)
        await town.metadata.change_assignments(leader, [lost], [])
    elif kind == "locked":
        await town.metadata.take_lock("s-lost", "w9")
    else:
        await town.know(unplaced=["s-lost"])
    with pytest.raises(errors.Unavailable, match=r"1 of 21 segments failed: s-lost: unavailable"):
        await gather(town, "^s")
    result = await gather(town, "^s", partial=True)
    assert result.rows == [(200,)] and list(result.missing) == ["s-lost"]
    with pytest.raises(errors.Unavailable, match="1 of 1 segment failed: s-lost"):
        await gather(town, "lost")
    assert (await gather(town, "^s1")).rows == [(110,)]


@pytest_twisted.ensureDeferred
async def test_a_set_that_is_not_known(town):
    """There may be others: refused, or said in a partial answer."""
    await town.know(known=False)
    assert await matching(town, "^s2") == (["s2"], True)
    with pytest.raises(errors.Unavailable, match="which segments there are is not known"):
        await gather(town, "^s")
    result = await gather(town, "^s", partial=True)
    assert result.rows == [(200,)] and list(result.missing) == ["*"]
    with pytest.raises(errors.Unavailable, match="which segments there are is not known"):
        await gather(town, "^x", partial=True)
    settled_again = gather(town, "^s")
    await town.know()
    assert (await settled_again).rows == [(200,)]


@pytest_twisted.ensureDeferred
async def test_a_set_that_changes_while_it_is_listed(town):
    """What a leader says meanwhile makes the list doubtful, and it is made again."""
    pages = town.cluster.matching("^s")
    await anext(pages)
    await town.know(unplaced=["t"])
    with pytest.raises(SetUnknown, match="while they were listed"):
        async for _ in pages:
            pass
    assert (await matching(town, "^[st]"))[1] is False


@pytest_twisted.ensureDeferred
async def test_before_a_leader_reports_its_scan(tmp_path):
    """Without a report the set is not known. A leader of the original system makes none."""
    town = Town(tmp_path)
    await town.cluster.open()
    assert await matching(town, "^s") == ([], True)
    await town.metadata.campaign(model.Leader("original", "o", url="http://x/"))
    assert await matching(town, "^s") == ([], True)
    await town.cluster.close()


@pytest_twisted.ensureDeferred
async def test_a_segment_that_is_being_provisioned_is_waited_for(town, monkeypatch):
    """Its lock is there a moment before its copy is."""
    await town.metadata.take_lock("s19", "w1")
    await town.metadata.withdraw_copies("w1", ["s19"], model.READ)
    unserved = town.cluster.unserved

    async def look(segments):
        found = await unserved(segments)
        await town.serve("w1", "s19")
        return found

    monkeypatch.setattr(town.cluster, "unserved", look)
    assert (await gather(town, "^s")).rows == [(200,)]


class Stale(Segments):
    """Segments some of which answer with a mark."""

    def __init__(self, **marks) -> None:
        super().__init__()
        self.marks = marks

    def _answer(self, asked, segment) -> bool:
        if segment in self.marks:
            asked.say(f"STATE {segment} {self.marks[segment]}")
        return super()._answer(asked, segment)


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("sql", [COUNT, "SELECT n FROM t"])
async def test_stale_segments_are_named(tmp_path, sql):
    """An answer with segments that are not of the present state says so, or is refused."""
    town = Town(tmp_path)
    await town.cluster.open()
    marks = {"s3": "last-promoted", "s5": "unconfirmed"}
    async with LineServer(reactor, Stale(**marks).answer) as server:
        await town.worker("w1", server, *NAMES)
        cluster = town.cluster
        result = await settled(Deferred.fromCoroutine(cluster.gather(["s3", "s5"], sql)))
        assert result.stale == marks and result.rows and not result.missing
        fresh = await settled(
            Deferred.fromCoroutine(cluster.gather(["s1"], sql, refuse_stale=True))
        )
        assert fresh.rows and not fresh.stale
        with pytest.raises(errors.Unavailable, match="last-promoted: s3; unconfirmed: s5") as no:
            asked = cluster.gather(["s1", "s3", "s5"], sql, refuse_stale=True)
            await settled(Deferred.fromCoroutine(asked))
        assert "2 of 3 segments did not answer their present state" in no.value.message
        found = await town.found(["s1", "s3"], sql="SELECT n FROM t")
        assert found.marks == {"s3": "last-promoted"}
    await town.cluster.close()


@pytest_twisted.ensureDeferred
async def test_a_mark_goes_with_the_answer_that_it_was_of(tmp_path):
    """A worker that dies after its STATE line leaves no mark where another answers."""
    town, stale = Town(tmp_path), Stale(s3="last-promoted")
    stale.dies_at = "s3"
    await town.cluster.open()
    async with LineServer(reactor, stale.answer) as one:
        await town.worker("w1", one, "s3")

        def answer(asked):
            stale.marks.clear()
            stale.answer(asked)

        async with LineServer(reactor, answer) as two:
            await town.worker("w2", two, "s3", load=9.0)
            result = await settled(Deferred.fromCoroutine(town.cluster.gather(["s3"], COUNT)))
            assert result.rows == [(10,)] and not result.stale
    await town.cluster.close()
