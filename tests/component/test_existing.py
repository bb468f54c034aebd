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
    with pytest.raises(errors.Unavailable, match="1 of 1 segments failed: s-lost"):
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
async def test_before_any_leader_and_with_an_original_one(tmp_path):
    """Without a word of any leader the set is not known, unless an original one leads."""
    town = Town(tmp_path)
    await town.cluster.open()
    assert await matching(town, "^s") == ([], True)
    await town.metadata.campaign(model.Leader("original", "o", url="http://x/"))
    assert await matching(town, "^s") == ([], False)
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
