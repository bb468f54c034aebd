"""What every metadata store promises, tried on each of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import pytest_twisted
from metadata_stores import (
    EmbeddedStores,
    Notices,
    assignment,
    candidate,
    copy,
    gathered,
    worker,
)
from twisted.internet.defer import Deferred, gatherResults
from waiting import until

from trough import errors
from trough.metadata import conditions
from trough.model import READ, WRITE, CanonicalCopy, Lock, Member, Schema

async_test = pytest_twisted.ensureDeferred


@pytest.fixture(params=["embedded", "rethinkdb"])
def stores(request, tmp_path):
    """One empty store of each kind."""
    if request.param == "rethinkdb":
        yield request.getfixturevalue("rethinkdb_stores")
        return
    embedded = EmbeddedStores(tmp_path)
    yield embedded
    pytest_twisted.blockon(Deferred.fromCoroutine(embedded.close()))


async def elected(store, name="s1"):
    """The leadership, taken."""
    return await store.campaign(candidate(name))


def at_once(*coroutines):
    """All of them, running side by side."""
    return gatherResults([Deferred.fromCoroutine(c) for c in coroutines], consumeErrors=True)


# -- life --------------------------------------------------------------------------


@async_test
async def test_opening_and_closing_twice_is_harmless(stores):
    """Both are idempotent."""
    store = await stores.open()
    await store.open()
    await store.close()
    await store.close()


@async_test
async def test_two_parts_of_a_process_open_one_store_at_once(stores):
    """Whoever awaited the opening can use the store, also if somebody else had begun it."""
    store = stores.make()
    stores.opened.append(store)

    async def open_and_use():
        await store.open()
        return await store.leader()

    assert list(await at_once(open_and_use(), open_and_use())) == [None, None]


@async_test
async def test_many_open_an_empty_store_at_once(stores):
    """Those who start together find one store, whoever made it."""
    opened = await at_once(*(stores.open() for _ in range(5)))
    await opened[0].put_schema(Schema("crawl", "create table t (a)"))
    assert {(await store.schema("crawl")).sql for store in opened} == {"create table t (a)"}


# -- leadership --------------------------------------------------------------------


@async_test
async def test_nobody_leads_at_first(stores):
    """An empty store has no leader."""
    assert await (await stores.open()).leader() is None


@async_test
async def test_campaign_takes_what_is_free_and_renews_what_one_has(stores):
    """Taking raises the generation, renewing keeps it, the others are told who leads."""
    one, other = await stores.open(), await stores.open()
    taken = await one.campaign(candidate("s1"))
    assert taken == replace(candidate("s1"), generation=1)
    assert await other.campaign(candidate("s2")) == taken
    assert await one.campaign(candidate("s1")) == taken
    assert await other.leader() == taken


@async_test
async def test_leadership_runs_out(stores):
    """A lease that is not renewed is nobody's, and the next generation takes it."""
    store = await stores.open()
    first = await store.campaign(candidate("s1"))
    await stores.age(first.ttl + 1)
    assert await store.leader() is None
    second = await store.campaign(candidate("s2"))
    assert (second.node, second.generation) == ("s2", first.generation + 1)
    assert await store.campaign(candidate("s1")) == second


@async_test
async def test_renewal_keeps_the_leadership_alive(stores):
    """A lease runs from its last renewal."""
    store = await stores.open()
    first = await store.campaign(candidate("s1"))
    for _ in range(3):
        await stores.age(first.ttl * 0.6)
        assert await store.campaign(candidate("s1")) == first


@async_test
async def test_a_lapsed_leader_that_takes_it_again_has_a_new_generation(stores):
    """What somebody decided while its lease had run out cannot pass for later."""
    store = await stores.open()
    first = await store.campaign(candidate("s1"))
    await stores.age(first.ttl + 1)
    assert (await store.campaign(candidate("s1"))).generation == first.generation + 1


@async_test
async def test_resigning_frees_the_leadership_at_once(stores):
    """The next one need not wait, and the generation is not used twice."""
    store = await stores.open()
    first = await store.campaign(candidate("s1"))
    await store.resign(first)
    assert await store.leader() is None
    assert (await store.campaign(candidate("s2"))).generation == first.generation + 1


@async_test
async def test_resigning_what_one_has_not_changes_nothing(stores):
    """Neither a former leader nor a former generation can take it away."""
    store = await stores.open()
    first = await store.campaign(candidate("s1"))
    await store.resign(first)
    await store.resign(first)
    second = await store.campaign(candidate("s1"))
    await store.resign(first)
    await store.resign(replace(second, identity="another"))
    assert await store.leader() == second


@async_test
async def test_one_of_many_candidates_wins(stores):
    """However many ask at once, they agree on one leader and one generation."""
    several = [await stores.open() for _ in range(4)]
    found = await at_once(
        *(store.campaign(candidate(f"s{i}-{j}")) for i, store in enumerate(several) for j in "abc")
    )
    assert len(set(found)) == 1
    assert found[0].generation == 1


# -- workers -----------------------------------------------------------------------


@async_test
async def test_a_registered_worker_is_found_with_all_its_fields(stores):
    """What a worker says about itself is what the others read."""
    store = await stores.open()
    await store.register_worker(worker("w1", cold_storage=True, load=1.25, replication=1))
    (found,) = await store.workers()
    assert found.first_heartbeat > 0
    assert replace(found, first_heartbeat=0.0, last_heartbeat=0.0) == worker(
        "w1", cold_storage=True, load=1.25, replication=1
    )


@async_test
async def test_workers_live_while_they_beat(stores):
    """A beat renews the row and its fields; without one the worker is gone."""
    store = await stores.open()
    for name in ("w2", "w1"):
        await store.register_worker(worker(name))
    await stores.age(20)
    assert await store.beat(worker("w1", load=9.0)) is True
    assert [w.node for w in await store.workers()] == ["w1", "w2"]
    await stores.age(20)
    (left,) = await store.workers()
    assert (left.node, left.load) == ("w1", 9.0)
    assert left.last_heartbeat > left.first_heartbeat


@async_test
async def test_a_second_worker_of_a_live_name_is_refused(stores):
    """Two machines configured alike do not take each other's place."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    other = worker("w1", identity="another")
    with pytest.raises(errors.NameTaken, match="w1"):
        await store.register_worker(other)
    with pytest.raises(errors.NameTaken):
        await store.beat(other)
    await store.register_worker(worker("w1"))
    await stores.age(31)
    await store.register_worker(other)
    with pytest.raises(errors.NameTaken):
        await store.beat(worker("w1"))


@async_test
async def test_one_of_two_workers_of_a_name_that_start_at_once_is_refused(stores):
    """Of those who register together, one gets the name."""
    several = [await stores.open() for _ in range(3)]

    async def attempt(store, identity):
        try:
            await store.register_worker(worker("w1", identity=identity))
            return await store.beat(worker("w1", identity=identity)) is not None
        except errors.NameTaken:
            return False

    won = await at_once(*(attempt(store, f"i{n}") for n, store in enumerate(several)))
    assert sum(won) == 1


@async_test
async def test_a_starting_worker_has_no_copies(stores):
    """What an earlier run published cannot be served yet."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1"), copy("a", "w1", WRITE)])
    await store.publish_copies([copy("a", "w11")])
    await store.register_worker(worker("w1"))
    assert {c.node for c in (await store.copies_of(["a"]))["a"]} == {"w11"}


@async_test
async def test_withdrawing_removes_row_and_copies(stores):
    """A worker that stops leaves its assignments and locks, and nothing else."""
    store = await stores.open()
    leader = await elected(store)
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1"), copy("a", "w1", WRITE), copy("a", "w2")])
    await store.change_assignments(leader, [assignment("a", "w1")], [])
    lock = await store.take_lock("a", "w1")
    await store.withdraw_worker(worker("w1"))
    assert await store.workers() == []
    assert [c.node for c in (await store.copies_of(["a"]))["a"]] == ["w2"]
    assert [a.node for a in await store.assignments_of_segment("a")] == ["w1"]
    assert await store.lock_of("a") == lock
    await store.withdraw_worker(worker("w1"))


@async_test
async def test_a_worker_of_another_identity_cannot_withdraw(stores):
    """Only the worker itself takes its row away."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1")])
    await store.withdraw_worker(worker("w1", identity="another"))
    assert [w.node for w in await store.workers()] == ["w1"]
    assert "a" in await store.copies_of(["a"])


@async_test
async def test_draining_outlives_the_worker(stores):
    """A worker is to be emptied until somebody says otherwise."""
    store, other = await stores.open(), await stores.open()
    await store.set_draining("w1", True)
    await store.set_draining("w1", True)
    assert await other.draining() == {"w1"}
    await store.register_worker(worker("w1"))
    await store.register_worker(worker("w2"))
    await store.beat(worker("w1"))
    assert [(w.node, w.draining) for w in await other.workers()] == [("w1", True), ("w2", False)]
    await store.withdraw_worker(worker("w1"))
    assert await other.draining() == {"w1"}
    await store.set_draining("w1", False)
    await store.set_draining("never-was", False)
    assert await other.draining() == set()


@async_test
async def test_a_disk_counter_never_goes_back(stores):
    """It outlives the worker's row, and goes when the worker is forgotten."""
    store, other = await stores.open(), await stores.open()
    assert await store.disk_counter("w1") == 0
    await store.register_worker(worker("w1"))
    for counter in (3, 5, 4):
        await store.note_disk_counter("w1", counter)
    await store.note_disk_counter("w2", 1)
    assert await other.disk_counter("w1") == 5
    await store.withdraw_worker(worker("w1"))
    assert await other.disk_counter("w1") == 5
    await store.forget_worker("w1")
    assert (await other.disk_counter("w1"), await other.disk_counter("w2")) == (0, 1)


# -- reaping -----------------------------------------------------------------------


@async_test
async def test_reaping_removes_what_belonged_to_dead_workers(stores):
    """Rows and copies go; the living, and assignments and locks, stay."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.register_worker(worker("w2"))
    await store.publish_copies([copy(s, n) for s in "abc" for n in ("w1", "w2")])
    await store.take_lock("a", "w1")
    await stores.age(31)
    await store.beat(worker("w2"))
    leader = await elected(store)
    assert await store.reap(leader) == ["w1"]
    assert await store.reap(leader) == []
    await store.withdraw_worker(worker("w2"))
    # With no worker's row left, only a copy's own row could still show it.
    assert await store.copies_of("abc") == {}
    assert (await store.lock_of("a")).node == "w1"


@async_test
async def test_a_dead_worker_is_forgotten(stores):
    """Its row, copies, ring and draining go, whether or not it was reaped; its locks and
    assignments stay, and so does everything of others."""
    store, other = await stores.open(), await stores.open()
    for name in ("w1", "w2", "w3"):
        await store.register_worker(worker(name))
        await store.set_draining(name, True)
    await store.publish_copies([copy("a", n) for n in ("w1", "w2", "w3")])
    await store.take_lock("a", "w1")
    leader = await elected(store)
    await store.save_rings(leader, {"w1": 0, "w2": 1, "w3": 1}, {})
    await store.change_assignments(leader, [assignment("a", "w1")], [])
    await stores.age(31)
    leader = await elected(store)
    await store.beat(worker("w3"))
    await store.forget_worker("w1")
    assert await store.reap(leader) == ["w2"]
    await store.forget_worker("w2")
    assert await other.rings() == {"w3": 1}
    assert await other.draining() == {"w3"}
    await store.withdraw_worker(worker("w3"))
    # With no worker's row left, only a copy's own row could still show it.
    assert await other.copies_of(["a"]) == {}
    assert (await other.lock_of("a")).node == "w1"
    assert [each.node for each in await other.assignments_of_segment("a")] == ["w1"]
    for again in ("w1", "never-was"):
        await store.forget_worker(again)


@async_test
async def test_a_worker_that_is_alive_is_not_forgotten(stores):
    """Nothing of it is touched."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1")])
    await store.set_draining("w1", True)
    await store.save_rings(await elected(store), {"w1": 0}, {})
    with pytest.raises(errors.Conflict, match="w1 is alive"):
        await store.forget_worker("w1")
    assert await store.beat(worker("w1")) is True
    assert "a" in await store.copies_of(["a"])
    assert (await store.rings(), await store.draining()) == ({"w1": 0}, {"w1"})


@async_test
async def test_a_forgotten_worker_that_returns_is_a_new_one(stores):
    """It is welcome, and publishes everything again."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1")])
    await stores.age(31)
    await store.forget_worker("w1")
    assert await store.beat(worker("w1")) is False
    assert [each.node for each in await store.workers()] == ["w1"]
    assert await store.copies_of(["a"]) == {}


@async_test
async def test_a_reaped_worker_learns_it_from_its_next_beat(stores):
    """It is alive again, and knows that it has to publish everything again."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1")])
    await stores.age(31)
    await store.reap(await elected(store))
    assert await store.beat(worker("w1")) is False
    assert await store.copies_of(["a"]) == {}
    await store.publish_copies([copy("a", "w1")])
    assert await store.beat(worker("w1")) is True
    assert "a" in await store.copies_of(["a"])


@async_test
async def test_a_worker_that_was_only_late_keeps_its_copies(stores):
    """Dead is not reaped: until somebody has cleared up, a beat brings everything back."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1")])
    await stores.age(31)
    assert await store.copies_of(["a"]) == {}
    assert await store.beat(worker("w1")) is True
    assert "a" in await store.copies_of(["a"])
    assert await store.reap(await elected(store)) == []


@async_test
async def test_only_the_leader_reaps(stores):
    """One that leads no more removes nothing."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1")])
    former = await elected(store)
    await store.resign(former)
    await stores.age(31)
    with pytest.raises(errors.NotLeader):
        await store.reap(former)
    assert await store.beat(worker("w1")) is True
    assert "a" in await store.copies_of(["a"])


@async_test
async def test_reaping_a_worker_with_many_copies(stores):
    """However many there were, all are gone."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy(f"{i}", "w1") for i in range(5000)])
    await stores.age(31)
    await store.reap(await elected(store))
    assert await gathered(store.segments_matching(None)) == []
    await store.beat(worker("w1"))
    assert await gathered(store.segments_matching(None)) == []


@async_test
async def test_a_pause_ends_by_itself(stores):
    """By the store's clock; another one replaces it, and 0 ends it."""
    store, other = await stores.open(), await stores.open()
    for node, seconds in (("w1", 9000.0), ("w2", 60.0), ("w3", 60.0), ("w3", 0.0)):
        await store.pause(node, seconds)
    before = await other.paused()
    assert set(before) == {"w1", "w2"}
    assert before["w1"] > before["w2"] > 0
    await store.pause("w1", 60.0)
    await store.pause("w2", 0.25)

    async def over():
        return set(await other.paused()) == {"w1"}

    await until(over, "the end of a pause")
    assert (await other.paused())["w1"] < before["w1"]


# -- copies ------------------------------------------------------------------------


@async_test
async def test_published_copies_are_found(stores):
    """In both roles, those asked for, the missing left out."""
    store, other = await stores.open(), await stores.open()
    await store.publish_copies([copy("a", "w1"), copy("a", "w1", WRITE), copy("b", "w2")])
    found = await other.copies_of(["a", "b", "c"])
    assert sorted(found) == ["a", "b"]
    assert [(c.role, c.node) for c in found["a"]] == [(READ, "w1"), (WRITE, "w1")]
    assert found["b"][0].url == copy("b", "w2").url
    assert found["b"][0].last_heartbeat > 0
    assert await other.copies_of([]) == {}


@async_test
async def test_copies_come_in_order(stores):
    """By role, then load, then worker; the load is the worker's present one."""
    store = await stores.open()
    await store.publish_copies(
        [
            copy("a", "w3", WRITE, load=0.0),
            copy("a", "w2", load=0.5),
            copy("a", "w1", load=0.5),
            copy("a", "w4", load=0.1),
        ]
    )
    found = (await store.copies_of(["a"]))["a"]
    assert [c.node for c in found] == ["w4", "w1", "w2", "w3"]
    await store.register_worker(worker("w5", load=0.0))
    await store.publish_copies([copy("a", "w5", load=7.0)])
    assert (await store.copies_of(["a"]))["a"][0].node == "w5"
    await store.beat(worker("w5", load=3.0))
    found = (await store.copies_of(["a"]))["a"]
    assert [(c.node, c.load) for c in found][3] == ("w5", 3.0)


@async_test
async def test_publishing_again_replaces(stores):
    """One row for a segment, worker and role; the first publication is remembered."""
    store = await stores.open()
    await store.publish_copies([copy("a", "w1")])
    await stores.age(10)
    before = (await store.copies_of(["a"]))["a"][0]
    await store.publish_copies([replace(copy("a", "w1"), url="http://new/")])
    (after,) = (await store.copies_of(["a"]))["a"]
    assert after.url == "http://new/"
    assert after.first_heartbeat == pytest.approx(before.first_heartbeat, abs=1e-3)
    assert after.last_heartbeat > before.last_heartbeat + 9


@async_test
async def test_copies_run_out_by_their_own_ttl(stores):
    """A row counts for its own ttl, as existing clients reckon."""
    store = await stores.open()
    await store.publish_copies([copy("a", "w1", ttl=100.0), copy("a", "w2", ttl=5.0)])
    await stores.age(50)
    assert [c.node for c in (await store.copies_of(["a"]))["a"]] == ["w1"]
    await stores.age(51)
    assert await store.copies_of(["a"]) == {}
    assert await gathered(store.segments_matching(None)) == []


@async_test
async def test_copies_die_with_their_worker(stores):
    """A worker whose row ran out serves nothing, whatever its copies' rows say."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a", "w1"), copy("b", "no-row")])
    await stores.age(31)
    assert await store.copies_of(["a", "b"]) == await store.copies_of(["b"]) != {}
    assert [c.segment for c in await gathered(store.segments_matching(None))] == ["b"]


@async_test
async def test_withdrawn_copies_are_gone(stores):
    """Those named, of that worker and role, and no others; asking twice is harmless."""
    store = await stores.open()
    everything = [copy(s, n, r) for s in "abc" for n in ("w1", "w2") for r in (READ, WRITE)]
    await store.publish_copies(everything)
    await store.withdraw_copies("w1", ["a", "b", "nowhere"], READ)
    await store.withdraw_copies("w1", ["a"], READ)
    found = await store.copies_of("abc")
    assert [(c.role, c.node) for c in found["a"]] == [(READ, "w2"), (WRITE, "w1"), (WRITE, "w2")]
    assert len(found["c"]) == 4


@async_test
async def test_segment_ids_differ_by_case(stores):
    """``A`` and ``a`` are two segments, for copies and locks."""
    store = await stores.open()
    await store.publish_copies([copy("A", "w1"), copy("a", "w2")])
    found = await store.copies_of(["a", "A"])
    assert found["A"][0].node == "w1"
    assert found["a"][0].node == "w2"
    assert (await store.take_lock("A", "w1")).node == "w1"
    assert (await store.take_lock("a", "w2")).node == "w2"


@async_test
async def test_the_longest_names_fit(stores):
    """An id and a worker's name as long as the rule allows can be published and locked."""
    store = await stores.open()
    segment, node = "s" * 64, "n" * 49
    await store.register_worker(worker(node))
    await store.publish_copies([copy(segment, node, WRITE)])
    await store.change_assignments(await elected(store), [assignment(segment, node)], [])
    assert (await store.take_lock(segment, node)).node == node
    assert (await store.copies_of([segment]))[segment][0].node == node


@async_test
async def test_segments_matching_finds_by_pattern(stores):
    """The pattern is searched for anywhere in the id; None means all; only role READ."""
    store = await stores.open()
    ids = ["300001", "300002", "ait-seed-1", "__unspecified__", "a.b"]
    await store.publish_copies([copy(s, n) for s in ids for n in ("w1", "w2")])
    await store.publish_copies([copy("writable-only", "w1", WRITE)])

    async def matching(pattern):
        return sorted((c.segment, c.node) for c in await gathered(store.segments_matching(pattern)))

    def both(*segments):
        return [(s, n) for s in sorted(segments) for n in ("w1", "w2")]

    assert await matching(None) == both(*ids)
    assert await matching("") == both(*ids)
    assert await matching("^3000") == both("300001", "300002")
    assert await matching("seed") == both("ait-seed-1")
    assert await matching(r"a\.b") == both("a.b")
    assert await matching("(?i)SEED|b$") == both("ait-seed-1", "a.b")
    assert await matching("nothing-like-it") == []


@async_test
async def test_a_pattern_that_is_none_is_refused(stores):
    """The reason and the pattern are named."""
    store = await stores.open()
    await store.publish_copies([copy("a", "w1")])
    for pattern in ("(", "*", "[a"):
        with pytest.raises(errors.BadRequest, match="regular expression"):
            await gathered(store.segments_matching(pattern))


@async_test
async def test_many_copies_are_found_again(stores):
    """Pages leave out nothing and repeat nothing."""
    store = await stores.open()
    await store.publish_copies([copy(f"{i:05}", f"w{i % 3}") for i in range(7001)])
    found = await gathered(store.segments_matching(None))
    assert sorted(c.segment for c in found) == [f"{i:05}" for i in range(7001)]
    found = await gathered(store.segments_matching("9$"))
    assert len(found) == 700
    assert len(await store.copies_of([f"{i:05}" for i in range(7001)])) == 7001


@async_test
async def test_matching_can_be_given_up(stores):
    """A caller who has seen enough closes the iteration, and the store still closes."""
    store = await stores.open()
    await store.publish_copies([copy(f"{i:05}", "w1") for i in range(5000)])
    for pattern in (None, "0"):
        pages = store.segments_matching(pattern)
        assert await anext(pages)
        await pages.aclose()


# -- which segments there are ------------------------------------------------------


@async_test
async def test_segments_exist_whether_or_not_they_can_be_read(stores):
    """Assigned, locked, served, or in storage without a worker: each once; no others."""
    store = await stores.open()
    leader = await elected(store)
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("a-served", "w1"), copy("a-both", "w1")])
    await store.publish_copies([copy("a-of-nobody", "w2")])
    await store.publish_copies([copy("a-written", "w1", WRITE)])
    put = [assignment("a-assigned", "w1"), assignment("a-both", "w1")]
    await store.change_assignments(leader, [*put, assignment("a-assigned", "w2")], [])
    await store.take_lock("a-locked", "w9")
    await store.release_lock(await store.take_lock("a-released", "w9"))
    await store.save_inventory(leader, True, ["a-unplaced", "b-unplaced", "a-both"])

    async def existing(pattern):
        found = await gathered(store.existing(pattern))
        assert len(found) == len(set(found))
        return sorted(found)

    every = ["a-assigned", "a-both", "a-locked", "a-of-nobody", "a-served", "a-unplaced"]
    assert await existing("^a-") == every
    assert await existing(None) == [*every, "b-unplaced"]
    assert await existing("placed$|lock") == ["a-locked", "a-unplaced", "b-unplaced"]
    assert await existing("^a-(un|both)") == ["a-both", "a-unplaced"]
    assert await existing("^a-locked") == ["a-locked"]
    assert await existing("^b") == ["b-unplaced"]
    assert await existing("^c") == []
    await stores.age(31)
    assert "a-served" not in await existing(None)
    with pytest.raises(errors.BadRequest, match="regular expression"):
        await existing("(")


@async_test
async def test_many_segments_exist(stores):
    """Pages leave out nothing and repeat nothing, with a range of an index and without."""
    store = await stores.open()
    leader = await elected(store)
    ids = [f"{i:05}" for i in range(4501)]
    for start in range(0, len(ids), 500):
        put = [assignment(s, n) for s in ids[start : start + 500] for n in ("w1", "w2")]
        await store.change_assignments(leader, put, [])
    await store.take_lock("02500x", "w1")
    assert sorted(await gathered(store.existing(None))) == sorted([*ids, "02500x"])
    assert sorted(await gathered(store.existing("^0250"))) == sorted([*ids[2500:2510], "02500x"])
    assert len(await gathered(store.existing("9$"))) == 450
    pages = store.existing(None)
    assert await anext(pages)
    await pages.aclose()


@async_test
async def test_the_first_segments_that_exist(stores):
    """In the order of their ids, from any place on; assigned, locked, unplaced or served."""
    store = await stores.open()
    leader = await elected(store)
    ids = [f"{i:05}" for i in range(700)]
    for start in range(0, len(ids), 500):
        put = [assignment(s, n) for s in ids[start : start + 500] for n in ("w1", "w2")]
        await store.change_assignments(leader, put, [])
    await store.take_lock("00500x", "w1")
    await store.take_lock("00000-locked", "w1")
    await store.save_inventory(leader, True, ["00001-new"])
    every = sorted([*ids, "00500x", "00000-locked", "00001-new"])
    assert await store.first_existing(None, "", 5) == every[:5]
    assert await store.first_existing(None, "00499", 3) == ["00500", "00500x", "00501"]
    assert await store.first_existing(None, every[-2], 10) == every[-1:]
    assert await store.first_existing(None, "9", 10) == []
    assert await store.first_existing("^0050", "", 3) == ["00500", "00500x", "00501"]
    assert await store.first_existing("^0050", "00500", 2) == ["00500x", "00501"]
    assert await store.first_existing("^0050", "0", 1) == ["00500"]
    assert await store.first_existing("9$", "00010", 2) == ["00019", "00029"]
    assert await store.first_existing("nowhere", "", 2) == []
    with pytest.raises(errors.BadRequest, match="regular expression"):
        await store.first_existing("(", "", 1)


@async_test
async def test_whether_all_segments_are_known(stores):
    """Not before a leader says so; each word of a leader is told from the one before; one that
    leads no more says nothing."""
    store = await stores.open()
    assert not (await store.inventory()).known
    former = await elected(store)
    first = await store.save_inventory(former, True, [])
    assert first == await store.inventory() and first.known
    second = await store.save_inventory(former, False, ["a"])
    assert second == await store.inventory() and not second.known
    assert second.change > first.change
    await store.resign(former)
    with pytest.raises(errors.NotLeader):
        await store.save_inventory(former, True, [])
    assert await store.inventory() == second
    again = await store.save_inventory(await elected(store, "s2"), True, [])
    assert again.known and again.change > second.change


# -- write locks -------------------------------------------------------------------


@async_test
async def test_a_lock_is_taken_once(stores):
    """The first one has it, the next one is told who; asking again keeps the epoch."""
    store, other = await stores.open(), await stores.open()
    assert await store.lock_of("a") is None
    lock = await store.take_lock("a", "w1")
    assert (lock.segment, lock.node) == ("a", "w1")
    assert lock.epoch >= 1
    assert lock.acquired_on > 0
    assert await other.take_lock("a", "w2") == lock
    assert await store.take_lock("a", "w1") == lock
    assert await other.lock_of("a") == lock


@async_test
async def test_one_of_many_takes_a_lock(stores):
    """All who ask at once are told the same holder and epoch."""
    several = [await stores.open() for _ in range(4)]
    found = await at_once(
        *(s.take_lock("a", f"w{i}{j}") for i, s in enumerate(several) for j in range(4))
    )
    assert len(set(found)) == 1


@async_test
async def test_epochs_grow_for_ever(stores):
    """Each new owner has a greater epoch, after releases and after the segment was forgotten."""
    store = await stores.open()
    epochs = []
    for node in ("w1", "w2", "w1"):
        lock = await store.take_lock("a", node)
        epochs.append(lock.epoch)
        await store.release_lock(lock)
        await store.forget_segment("a")
        assert await store.lock_of("a") is None
    assert epochs == sorted(set(epochs))


@async_test
async def test_a_lock_that_changed_hands_is_fenced(stores):
    """Whoever holds an older epoch is refused and can release nothing."""
    store = await stores.open()
    old = await store.take_lock("a", "w1")
    await store.check_lock(old)
    await store.release_lock(old)
    with pytest.raises(errors.Fenced, match="released"):
        await store.check_lock(old)
    await store.release_lock(old)
    new = await store.take_lock("a", "w1")
    for refused in (old, replace(new, node="w2"), replace(new, epoch=new.epoch + 1)):
        with pytest.raises(errors.Fenced):
            await store.check_lock(refused)
        with pytest.raises(errors.Fenced):
            await store.release_lock(refused)
    await store.check_lock(new)
    await store.release_lock(Lock("never-locked", "w1", 1))


@async_test
async def test_a_lock_names_its_followers(stores):
    """Without followers unless it is changed; a change is found by all, and by watchers."""
    store, other = await stores.open(), await stores.open()
    plain = await store.take_lock("plain", "w1")
    assert (plain.disk, plain.revision, plain.followers) == ("", 0, frozenset())
    lock = await store.take_lock("a", "w1", "disk1")
    assert (lock.holder, lock.revision, lock.followers) == (Member("w1", "disk1"), 0, frozenset())
    followers = frozenset({Member("w3", "disk3"), Member("w2", "disk2")})
    notices = Notices()
    store.watch_locks(notices)
    wanted = replace(lock, revision=1, followers=followers)
    assert await other.change_lock(lock, wanted) == wanted
    assert await store.lock_of("a") == wanted
    assert await store.locks("w1") == [wanted, plain]
    await notices.until(lambda all_: any(wanted in n.held for n in all_))
    await store.check_lock(lock)


@async_test
async def test_a_lock_is_changed_only_as_it_was_read(stores):
    """In holder, disk, epoch, revision and followers; else the present lock is returned."""
    store = await stores.open()
    first = await store.take_lock("a", "w1", "disk1")
    second = replace(first, revision=1, followers=frozenset({Member("w2", "disk2")}))
    wanted = replace(second, revision=2, followers=frozenset())
    assert await store.change_lock(first, wanted) == wanted
    for late in (
        first,
        replace(wanted, node="w2"),
        replace(wanted, disk="disk2"),
        replace(wanted, epoch=wanted.epoch + 1),
        replace(wanted, followers=second.followers),
    ):
        assert await store.change_lock(late, second) == wanted
    await store.release_lock(first)
    assert await store.change_lock(wanted, second) is None
    assert await store.lock_of("a") is None
    again = await store.take_lock("a", "w2")
    assert (again.disk, again.revision, again.followers) == ("", 0, frozenset())


@async_test
async def test_one_of_many_takes_over(stores):
    """Of all callers that read the same row, one changes it. Each learns which one."""
    several = [await stores.open() for _ in range(4)]
    lock = await several[0].take_lock("a", "w0", "disk")
    offers = [
        replace(lock, node=f"w{i}", disk=f"disk{i}", epoch=lock.epoch + 1 + i, revision=1)
        for i in range(1, 5)
    ]
    found = await at_once(*(s.change_lock(lock, o) for s, o in zip(several, offers, strict=True)))
    winners = {replace(each, acquired_on=lock.acquired_on) for each in found}
    assert len(winners) == 1
    assert winners <= set(offers)


@async_test
async def test_who_takes_over_has_a_dirty_lock_and_later_epochs_are_greater(stores):
    """As if the lock was taken; a lock that is taken after its release has a greater epoch."""
    store = await stores.open()
    lock = await store.take_lock("a", "w1", "disk1")
    await store.mark_clean([await store.lock_of("a")])
    taken = replace(lock, node="w2", disk="disk2", epoch=lock.epoch + 7, revision=1)
    found = await store.change_lock(lock, taken)
    assert found is not None and not found.is_clean
    assert found.acquired_on >= lock.acquired_on
    with pytest.raises(errors.Fenced):
        await store.check_lock(lock)
    await store.release_lock(found)
    assert (await store.take_lock("a", "w3")).epoch > found.epoch


@async_test
async def test_a_lock_is_dirty_until_it_is_marked_clean(stores):
    """And again from the next mark on; a lock that changed hands begins dirty."""
    store, other = await stores.open(), await stores.open()
    lock = await store.take_lock("a", "w1")
    assert lock.dirty_since > 0
    assert not lock.is_clean
    await store.mark_clean([lock])
    assert (await other.lock_of("a")).is_clean
    assert (await other.locks("w1"))[0].is_clean
    again = replace(lock, dirty_since=lock.acquired_on + 7.5)
    await store.mark_dirty(again)
    assert (await other.lock_of("a")).dirty_since == again.dirty_since
    await store.mark_clean([again])
    await store.release_lock(lock)
    assert (await other.take_lock("a", "w1")).dirty_since > 0


@async_test
async def test_a_late_mark_changes_nothing(stores):
    """Of an earlier period of writing, of a lock that is another one's, and of no lock."""
    store = await stores.open()
    old = await store.take_lock("a", "w1")
    dirty = replace(old, dirty_since=old.acquired_on + 7.5)
    await store.mark_dirty(dirty)
    await store.mark_clean([old, replace(dirty, node="w2"), replace(dirty, epoch=99)])
    await store.mark_clean([Lock("never-locked", "w1", 1, 0.0, 5.0)])
    assert (await store.lock_of("a")).dirty_since == dirty.dirty_since
    assert await store.lock_of("never-locked") is None
    for refused in (replace(dirty, epoch=99), replace(dirty, node="w2"), Lock("b", "w1", 1)):
        with pytest.raises(errors.Fenced):
            await store.mark_dirty(replace(refused, dirty_since=1.0))
    assert (await store.lock_of("a")).dirty_since == dirty.dirty_since


@async_test
async def test_marks_are_told_to_no_watcher(stores):
    """Each worker watches all locks, and would hear of each dirty segment of every other."""
    store, notices = await stores.open(), Notices()
    lock = await store.take_lock("a", "w1")
    watch = store.watch_locks(notices)
    await notices.until(bool)
    await store.mark_clean([lock])
    await store.mark_dirty(replace(lock, dirty_since=5.0))
    await store.take_lock("b", "w1")
    await notices.until(lambda told: len(told) > 1)
    watch.stop()
    assert [held.segment for notice in notices.all[1:] for held in notice.held] == ["b"]


@async_test
async def test_clean_locks_of_a_worker_are_released(stores):
    """Dirty ones stay, and so do those of other workers; only a leader does it."""
    store = await stores.open()
    leader = await elected(store)
    taken = {}
    for segment, node in (("a", "w1"), ("b", "w1"), ("c", "w1"), ("d", "w2")):
        taken[segment] = await store.take_lock(segment, node)
    await store.mark_clean([taken["a"], taken["c"], taken["d"]])
    with pytest.raises(errors.NotLeader):
        await store.release_clean_locks(replace(leader, generation=99), "w1")
    assert await store.release_clean_locks(leader, "w1") == ["a", "c"]
    assert await store.release_clean_locks(leader, "w1") == []
    assert [lock.segment for lock in await store.locks()] == ["b", "d"]
    with pytest.raises(errors.Fenced):
        await store.mark_dirty(replace(taken["a"], dirty_since=5.0))


@async_test
async def test_locks_are_listed_by_worker(stores):
    """All of them, or one worker's; by segment."""
    store = await stores.open()
    taken = [await store.take_lock(s, n) for s, n in (("b", "w1"), ("a", "w1"), ("c", "w2"))]
    assert await store.locks() == [taken[1], taken[0], taken[2]]
    assert await store.locks("w1") == [taken[1], taken[0]]
    assert await store.locks("w3") == []


@async_test
async def test_locks_are_counted(stores):
    """Those that are held, and no longer those that were given back."""
    store = await stores.open()
    assert await store.count_locks() == 0
    taken = [await store.take_lock(s, n) for s, n in (("b", "w1"), ("a", "w1"), ("c", "w2"))]
    assert await store.count_locks() == 3
    assert [await store.count_locks(node) for node in ("w1", "w2", "w3")] == [2, 1, 0]
    await store.release_lock(taken[0])
    assert await store.count_locks() == 2


@async_test
async def test_lock_watchers_are_told_everything_first_and_changes_then(stores):
    """A watch begins with all there is, and follows takings and releases in order."""
    store, other = await stores.open(), await stores.open()
    kept = await store.take_lock("kept", "w1")
    notices = Notices()
    watch = store.watch_locks(notices)
    await notices.until(lambda all_: all_)
    assert notices.all[0].full
    assert list(notices.all[0].held) == [kept]
    lock = await other.take_lock("a", "w2")
    await notices.until(lambda all_: any(lock in n.held for n in all_))
    await other.release_lock(lock)
    await notices.until(lambda all_: any("a" in n.released for n in all_[1:]))
    again = await store.take_lock("a", "w3")
    await notices.until(lambda all_: any(again in n.held for n in all_))
    assert not any(n.full for n in notices.all[1:])
    watch.stop()
    watch.stop()
    seen = len(notices.all)
    await store.take_lock("b", "w1")
    after = Notices()
    store.watch_locks(after)
    await after.until(lambda all_: all_)
    assert len(notices.all) == seen
    assert {x.segment for x in after.all[0].held} == {"a", "b", "kept"}


# -- assignments -------------------------------------------------------------------


@async_test
async def test_assignments_are_stored_with_the_leaders_generation(stores):
    """All fields come back, by worker, by segment and in all."""
    store = await stores.open()
    leader = await elected(store)
    one = assignment("a", "w1", ring=2, path="dir/a.sqlite", size=1 << 40, modified=1700000000123)
    two, three = assignment("a", "w2"), assignment("b", "w1")
    await store.change_assignments(leader, [one, two, three], [])
    found = await store.assignments_of_segment("a")
    assert [a.node for a in found] == ["w1", "w2"]
    assert found[0].assigned_on > 0
    assert replace(found[0], assigned_on=0.0) == replace(one, generation=leader.generation)
    assert sorted(a.segment for a in await gathered(store.assignments("w1"))) == ["a", "b"]
    assert len(await gathered(store.assignments())) == 3
    assert await gathered(store.assignments("w")) == []
    assert await store.assignments_of_segment("nowhere") == []


@async_test
async def test_a_plan_removes_and_replaces(stores):
    """Removing what is not there is harmless, putting replaces."""
    store = await stores.open()
    leader = await elected(store)
    await store.change_assignments(leader, [assignment("a", "w1"), assignment("b", "w1")], [])
    await store.change_assignments(
        leader, [assignment("b", "w1", size=9)], [("w1", "a"), ("w9", "zz")]
    )
    (left,) = await gathered(store.assignments())
    assert (left.segment, left.size) == ("b", 9)


@async_test
async def test_what_is_put_stays_even_if_it_is_removed_too(stores):
    """A plan that says both about one row means the row to be there."""
    store = await stores.open()
    leader = await elected(store)
    await store.change_assignments(leader, [assignment("a", "w1")], [("w1", "a")])
    await store.change_assignments(leader, [assignment("a", "w1", size=3)], [("w1", "a")])
    assert [a.size for a in await store.assignments_of_segment("a")] == [3]


@async_test
async def test_a_copy_published_twice_in_one_go_is_one(stores):
    """The later one counts."""
    store = await stores.open()
    await store.publish_copies([copy("a", "w1", load=1.0), copy("a", "w1", load=2.0)])
    assert [c.load for c in (await store.copies_of(["a"]))["a"]] == [2.0]


@async_test
async def test_plans_of_former_leaders_are_refused(stores):
    """Nothing of them is carried out: not led, another's turn, ran out."""
    store = await stores.open()
    former = await elected(store, "s1")
    await store.change_assignments(former, [assignment("a", "w1")], [])
    await stores.age(former.ttl + 1)
    with pytest.raises(errors.NotLeader):
        await store.change_assignments(former, [assignment("b", "w1")], [("w1", "a")])
    leader = await elected(store, "s2")
    for refused in (former, replace(leader, generation=former.generation), candidate("s9")):
        with pytest.raises(errors.NotLeader):
            await store.change_assignments(refused, [assignment("b", "w1")], [("w1", "a")])
        with pytest.raises(errors.NotLeader):
            await store.save_rings(refused, {"w1": 0}, {})
    assert [a.segment for a in await gathered(store.assignments())] == ["a"]
    assert await store.rings() == {}


@async_test
async def test_many_assignments_are_found_again(stores):
    """Pages leave out nothing and repeat nothing."""
    store = await stores.open()
    leader = await elected(store)
    for start in range(0, 6000, 500):
        await store.change_assignments(
            leader, [assignment(f"{i:05}", f"w{i % 2}") for i in range(start, start + 500)], []
        )
    found = await gathered(store.assignments())
    assert sorted(a.segment for a in found) == [f"{i:05}" for i in range(6000)]
    assert len(await gathered(store.assignments("w1"))) == 3000


@async_test
async def test_a_later_version_is_announced_to_all_assignments(stores):
    """Later ones count, others are ignored, and nothing is assigned by it."""
    store = await stores.open()
    leader = await elected(store)
    await store.change_assignments(
        leader, [assignment("a", n, modified=1000, size=10) for n in ("w1", "w2")], []
    )

    async def versions():
        return {a.canonical for a in await store.assignments_of_segment("a")}

    later = CanonicalCopy("a", "elsewhere/a.sqlite", 5, 2000)
    await store.announce_version(later)
    assert await versions() == {later}
    await store.announce_version(CanonicalCopy("a", "old.sqlite", 99, 1999))
    await store.announce_version(CanonicalCopy("a", "smaller.sqlite", 4, 2000))
    assert await versions() == {later}
    larger = CanonicalCopy("a", "elsewhere/a.sqlite", 6, 2000)
    await store.announce_version(larger)
    assert await versions() == {larger}
    await store.announce_version(CanonicalCopy("b", "b.sqlite", 1, 1))
    assert await store.assignments_of_segment("b") == []


@async_test
async def test_a_forgotten_segment_leaves_nothing(stores):
    """Assignments and copies of that segment go, others stay."""
    store = await stores.open()
    leader = await elected(store)
    await store.change_assignments(leader, [assignment(s, n) for s in "ab" for n in "xy"], [])
    await store.publish_copies([copy(s, n, r) for s in "ab" for n in "xy" for r in (READ, WRITE)])
    await store.forget_segment("a")
    await store.forget_segment("nowhere")
    assert await store.assignments_of_segment("a") == []
    assert sorted(await store.copies_of("ab")) == ["b"]
    assert len(await store.assignments_of_segment("b")) == 2


@async_test
async def test_a_plan_from_before_a_deletion_does_not_bring_the_segment_back(stores):
    """A later look may: the segment was made again. Others of the plan are not held up."""
    store, other = await stores.open(), await stores.open()
    leader = await elected(store)
    await store.change_assignments(leader, [assignment("a", "w1"), assignment("b", "w1")], [])
    seen = await store.deletions()
    await other.forget_segment("a")
    plan = [assignment(segment, "w2") for segment in ("b", "a", "c")]
    assert await store.change_assignments(leader, plan, [("w1", "b")], seen) == ["a"]
    assert await store.assignments_of_segment("a") == []
    left = await gathered(store.assignments())
    assert sorted((a.segment, a.node) for a in left) == [("b", "w2"), ("c", "w2")]
    later = await store.deletions()
    assert later > seen
    assert await store.change_assignments(leader, plan, [], later) == []
    assert len(await store.assignments_of_segment("a")) == 1


@async_test
async def test_a_deletion_that_failed_holds_nothing_up(stores):
    """Somebody writes the segment: it goes on to be assigned."""
    store = await stores.open()
    leader = await elected(store)
    await store.take_lock("a", "x")
    seen = await store.deletions()
    with pytest.raises(errors.LockHeld):
        await store.forget_segment("a")
    assert await store.change_assignments(leader, [assignment("a", "w1")], [], seen) == []


@async_test
async def test_a_plan_from_before_very_many_deletions_is_refused(stores, monkeypatch):
    """Not all of them are remembered; nothing of the plan is carried out."""
    monkeypatch.setattr(conditions, "DELETIONS", 2)
    store = await stores.open()
    leader = await elected(store)
    seen = await store.deletions()
    for segment in ("a", "b"):
        await store.forget_segment(segment)
    put = [assignment("a", "w1"), assignment("z", "w1")]
    assert await store.change_assignments(leader, put, [], seen) == ["a"]
    await store.forget_segment("c")
    with pytest.raises(errors.Conflict, match="2 segments were deleted"):
        await store.change_assignments(leader, put, [("w1", "z")], seen)
    assert len(await store.assignments_of_segment("z")) == 1


@async_test
async def test_a_segment_that_is_written_is_not_forgotten(stores):
    """Its writer has just published it, and would not do so again for half a day."""
    store = await stores.open()
    leader = await elected(store)
    lock = await store.take_lock("a", "x")
    await store.change_assignments(leader, [assignment("a", "x")], [])
    await store.publish_copies([copy("a", "x", role) for role in (READ, WRITE)])
    with pytest.raises(errors.LockHeld, match=r"locked for writing by x.*promote it"):
        await store.forget_segment("a")
    assert len(await store.assignments_of_segment("a")) == 1
    assert len((await store.copies_of("a"))["a"]) == 2
    await store.release_lock(lock)
    await store.forget_segment("a")
    assert await store.copies_of("a") == {}


@async_test
async def test_a_worker_is_told_of_its_assignments(stores):
    """First all there is, then what is new, has a later version, or is gone; no others'."""
    store, other = await stores.open(), await stores.open()
    leader = await elected(store)
    await store.change_assignments(leader, [assignment("a", "w1"), assignment("b", "w2")], [])
    notices = Notices()
    watch = store.watch_assignments("w1", notices)
    await notices.until(lambda all_: all_)
    assert notices.all[0].full
    assert [a.segment for a in notices.all[0].changed] == ["a"]

    await other.change_assignments(leader, [assignment("c", "w1"), assignment("d", "w2")], [])
    await notices.until(lambda all_: any(a.segment == "c" for n in all_ for a in n.changed))
    await other.announce_version(CanonicalCopy("a", "a.sqlite", 7, 7000))
    await notices.until(lambda all_: any(a.modified == 7000 for n in all_ for a in n.changed))
    await other.change_assignments(leader, [], [("w1", "c"), ("w2", "d")])
    await notices.until(lambda all_: any("c" in n.removed for n in all_))
    await other.forget_segment("a")
    await notices.until(lambda all_: any("a" in n.removed for n in all_))
    assert not any(n.full for n in notices.all[1:])
    told = {a.segment for n in notices.all for a in n.changed}
    told |= {s for n in notices.all for s in n.removed}
    assert told == {"a", "c"}
    watch.stop()


@async_test
async def test_an_assignment_that_comes_back_is_told(stores):
    """Removed and put again ends as put, whatever was told in between."""
    store = await stores.open()
    leader = await elected(store)
    await store.change_assignments(leader, [assignment("a", "w1")], [])
    notices = Notices()
    store.watch_assignments("w1", notices)
    await notices.until(lambda all_: all_)
    await store.change_assignments(leader, [], [("w1", "a")])
    await store.change_assignments(leader, [assignment("a", "w1", size=5)], [])
    await notices.until(lambda all_: any(a.size == 5 for n in all_ for a in n.changed))
    known = {}
    for notice in notices.all:
        if notice.full:
            known = {}
        known.update({a.segment: a.size for a in notice.changed})
        for segment in notice.removed:
            known.pop(segment, None)
    assert known == {"a": 5}


@async_test
async def test_a_failing_listener_does_not_end_its_watch(stores):
    """One notice that its listener chokes on is logged, and the next one comes."""
    store = await stores.open()
    notices = Notices()

    def listener(notice):
        notices(notice)
        raise ValueError("this listener always fails")

    store.watch_locks(listener)
    await notices.until(lambda all_: all_)
    lock = await store.take_lock("a", "w1")
    await notices.until(lambda all_: any(lock in n.held for n in all_))


# -- the shape of the cluster ------------------------------------------------------


@async_test
async def test_rings_are_replaced_as_a_whole(stores):
    """What is saved last is what there is."""
    store, other = await stores.open(), await stores.open()
    assert await store.rings() == {}
    leader = await elected(store)
    await store.save_rings(leader, {"w1": 0, "w2": 1}, {})
    assert await other.rings() == {"w1": 0, "w2": 1}
    await store.save_rings(leader, {"w2": 0}, {"w1": 0, "w2": 1})
    assert await other.rings() == {"w2": 0}
    await store.save_rings(leader, {}, {"w2": 0})
    assert await other.rings() == {}


@async_test
async def test_rings_that_somebody_changed_are_not_replaced(stores):
    """A worker that was forgotten since they were looked at would get its place again; one
    who says the same twice, for want of an answer, is told that it is done."""
    store = await stores.open()
    leader = await elected(store)
    with pytest.raises(errors.Conflict, match="rings"):
        await store.save_rings(leader, {"w1": 0, "w3": 1}, {"w1": 0})
    assert await store.rings() == {}
    both = {"w1": 0, "w2": 1}
    for _ in range(2):
        await store.save_rings(leader, both, {})
    await store.forget_worker("w1")
    with pytest.raises(errors.Conflict, match="rings"):
        await store.save_rings(leader, {**both, "w3": 0}, both)
    assert await store.rings() == {"w2": 1}


# -- schemas -----------------------------------------------------------------------


@async_test
async def test_the_default_schema_always_exists_and_is_empty(stores):
    """It is there from the beginning, and cannot be given tables."""
    store = await stores.open()
    assert await store.schemas() == ["default"]
    assert await store.schema("default") == Schema("default", "")
    assert await store.put_schema(Schema("default", "")) is False
    with pytest.raises(errors.BadSchema, match="default"):
        await store.put_schema(Schema("default", "create table t (a)"))
    assert await store.schema("default") == Schema("default", "")


@async_test
async def test_schemas_are_added_and_replaced(stores):
    """Whether one is new is told; names come sorted; a missing one is named."""
    store, other = await stores.open(), await stores.open()
    text = "create table caf\u00e9 (a); -- \U0001f600 'quoted' \"twice\"\n"
    assert await store.put_schema(Schema("zeta", text)) is True
    assert await store.put_schema(Schema("alpha", "x")) is True
    assert await store.put_schema(Schema("alpha", "y")) is False
    assert await other.schemas() == ["alpha", "default", "zeta"]
    assert await other.schema("zeta") == Schema("zeta", text)
    assert (await other.schema("alpha")).sql == "y"
    with pytest.raises(errors.NoSuchSchema, match="nope"):
        await other.schema("nope")


# -- the blocking side -------------------------------------------------------------


@async_test
async def test_the_blocking_side_reads_the_same(stores):
    """A program without Twisted finds what the servers find."""
    store = await stores.open()
    leader = await elected(store)
    await store.register_worker(worker("w1", load=0.25))
    await store.publish_copies([copy("a", "w1"), copy("b", "w1"), copy("b", "w1", WRITE)])
    await store.put_schema(Schema("crawl", "create table t (a)"))
    lock = await store.take_lock("b", "w1")
    blocking = stores.open_blocking()
    assert blocking.leader() == leader
    assert blocking.workers() == await store.workers()
    assert blocking.copies_of(["a", "b", "c"]) == await store.copies_of(["a", "b", "c"])
    assert [c.segment for c in blocking.segments_matching("b|z")] == ["b"]
    assert list(blocking.existing("^b")) == ["b"]
    assert not blocking.inventory().known
    assert sorted(c.segment for c in blocking.segments_matching(None)) == ["a", "b"]
    assert blocking.locks() == blocking.locks("w1") == [lock]
    assert blocking.schemas() == ["crawl", "default"]
    assert blocking.schema("crawl").sql == "create table t (a)"
    with pytest.raises(errors.NoSuchSchema):
        blocking.schema("nope")
    with pytest.raises(errors.BadRequest):
        list(blocking.segments_matching("("))


# -- what servers report -------------------------------------------------------------


@async_test
async def test_a_servers_trouble_is_kept_as_long_as_it_reports_it(stores):
    """The leader's with its lease, a worker's with its heartbeat."""
    store = await stores.open()
    for trouble in ("rounds fail", ""):
        assert (await store.campaign(replace(candidate("s1"), trouble=trouble))).trouble == trouble
        assert (await store.leader()).trouble == trouble
        waiting = {"unpromoted": 3, "unpromoted_bytes": 4096, "unpromoted_since": 1.5}
        sent = worker("w1", trouble=trouble, **(waiting if trouble else {}))
        await store.beat(sent)
        (found,) = await store.workers()
        assert all(getattr(found, field) == getattr(sent, field) for field in waiting)
        assert [each.trouble for each in await store.workers()] == [trouble]


@async_test
async def test_the_blocking_side_knows_what_cannot_be_read(stores):
    """A segment that is written or assigned, also by a worker that is away; no other one."""
    store = await stores.open()
    leader = await elected(store)
    await store.take_lock("written", "w9")
    await store.release_lock(await store.take_lock("released", "w9"))
    await store.change_assignments(leader, [assignment("assigned", "w9")], [])
    await store.publish_copies([copy("served", "w9")])
    blocking = stores.open_blocking()
    asked = ("assign", "assigned", "released", "served", "written", "written2")
    assert [name for name in asked if blocking.is_known(name)] == ["assigned", "written"]
