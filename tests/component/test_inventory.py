"""A leader says when the store tells of all segments, and never too early."""

import pytest_twisted
import test_leadership
from waiting import until

from trough.leader.placement import decisions

house = test_leadership.house


async def existing(house):
    """Ids of all segments that the store tells of."""
    return sorted([each async for page in house.metadata.existing(None) for each in page])


async def known(house):
    """Whether a leader says that these are all."""
    return (await house.metadata.inventory()).known


def listened(house, monkeypatch):
    """What a leader does in the store, in its order: words on the inventory, and segments that
    it assigns."""
    done = []
    save, change = house.metadata.save_inventory, house.metadata.change_assignments

    async def save_inventory(leader, known, unplaced):
        done.append((known, sorted(unplaced)))
        return await save(leader, known, unplaced)

    async def change_assignments(leader, put, remove, seen):
        done.extend(sorted({row.segment for row in put}))
        return await change(leader, put, remove, seen)

    monkeypatch.setattr(house.metadata, "save_inventory", save_inventory)
    monkeypatch.setattr(house.metadata, "change_assignments", change_assignments)
    return done


@pytest_twisted.ensureDeferred
async def test_known_once_all_are_assigned(house, monkeypatch):
    """Not before the first look, nor while what it found is being assigned."""
    await house.open("w1", "w2")
    done = listened(house, monkeypatch)
    house.put("300001")
    house.put("300002")
    assert not await known(house)
    await house.lead()
    await until(lambda: known(house), "all to be known")
    assert done == [(False, []), "300001", "300002", (True, [])]
    assert await existing(house) == ["300001", "300002"]


@pytest_twisted.ensureDeferred
async def test_a_new_file_makes_the_set_unknown_for_a_moment(house, monkeypatch):
    """Until it is assigned; a new version of one that is known does not, nor one that is
    written."""
    await house.open("w1", "w2")
    house.put("300001")
    await house.lead()
    await until(lambda: known(house), "all to be known")
    done = listened(house, monkeypatch)
    await house.metadata.take_lock("300002", "w1")
    house.put("300002")
    house.put("300001", b"another version")
    await until(lambda: house.assigned("300002"), "the written one to be assigned")
    await until(lambda: "300001" in done, "the new version to be told")
    assert [word for word in done if not isinstance(word, str)] == []
    done.clear()
    house.put("300003")
    await until(lambda: (True, []) in done, "all to be known again")
    assert done == [(False, []), "300003", (True, [])]


@pytest_twisted.ensureDeferred
async def test_what_nobody_can_take_is_named(house, monkeypatch):
    """Without workers, and without one for cold segments; no longer when there are some."""
    await house.open()
    house.put("300001")
    house.put("cold1")
    await house.lead()
    await until(lambda: known(house), "all to be known")
    assert await existing(house) == ["300001", "cold1"]
    assert not await house.assigned("300001")
    done = listened(house, monkeypatch)
    await house.join("w1")
    await until(lambda: (True, ["cold1"]) in done, "a worker to take what it can")
    assert await existing(house) == ["300001", "cold1"]


@pytest_twisted.ensureDeferred
async def test_too_many_that_nobody_can_take(house, monkeypatch):
    """They are not named one by one: the set is not known."""
    monkeypatch.setattr(decisions, "UNPLACED", 1)
    await house.open()
    house.put("300001")
    house.put("300002")
    await house.lead()
    await until(lambda: house.leadership.status()["rounds"] > 1, "some rounds")
    assert not await known(house)
    await house.join("w1")
    await until(lambda: known(house), "all to be known")


@pytest_twisted.ensureDeferred
async def test_a_new_leader_does_not_make_it_unknown(house, monkeypatch):
    """What one leader said holds on after it, until another one finds something new."""
    await house.open("w1", "w2")
    house.put("300001")
    await house.lead()
    await until(lambda: known(house), "all to be known")
    house.leadership.end()
    await house.leadership.ended()
    await house.metadata.resign(await house.metadata.leader())
    assert await known(house)
    done = listened(house, monkeypatch)
    await house.lead()
    await until(lambda: house.leadership.status()["rounds"] > 1, "the new leader's rounds")
    assert (False, []) not in done and await known(house)
    house.put("300002")
    await until(lambda: "300002" in done, "a new segment to be assigned")
    assert done.index((False, [])) < done.index("300002")


@pytest_twisted.ensureDeferred
async def test_a_deleted_segment_exists_no_more(house):
    """Once its file is gone and the leader has seen it."""
    await house.open("w1")
    house.put("300001")
    await house.lead()
    await until(lambda: house.assigned("300001"), "an assignment")
    house.hand.remove("300/300001.sqlite")

    async def gone():
        return not await existing(house)

    await until(gone, "the segment to be gone")
    assert await known(house)
