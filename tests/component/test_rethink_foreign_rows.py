"""Rows in RethinkDB that Trough did not write: no such row stops a server or a tool."""

from __future__ import annotations

import pytest
import pytest_twisted
from metadata_stores import Notices, assignment, candidate, copy, gathered, worker
from rethinkdb import RethinkDB
from waiting import until

from trough import errors
from trough.model import READ, CanonicalCopy, Lock

r = RethinkDB()
async_test = pytest_twisted.ensureDeferred

#: Values that may stand where text, a number or a time belongs.
WRONG = [None, True, -5, 1.5, 10**20, "", "a/b", "\n", "x" * 500, [], ["a"], {}, {"a": 1}]


def foreign(table: str, now) -> list[dict]:
    """Rows of every wrong shape, with keys where the right ones are looked for, too."""
    good = {
        "services": {"role": READ, "segment": "s", "node": "w9", "url": "u", "load": 0, "ttl": 99},
        "lock": {"segment": "s", "node": "w9", "epoch": 1, "acquired_on": now},
        "assignment": {"segment": "s", "node": "w9", "hash_ring": 0, "bytes": 1, "modified": 1},
        "schema": {"sql": "create table t (a)"},
    }[table]
    if table == "services":
        good |= {"first_heartbeat": now, "last_heartbeat": now, "identity": "i", "load": 0.5}
    prefix = {"services": "trough-read:w9:", "lock": "write:lock:", "assignment": "w9:"}
    rows: list[dict] = [{"id": value} for value in (5, 0, False, [1], "bare", "", "~", "\uffff")]
    key = prefix.get(table, "")
    for field in good:
        rows.append({"id": f"{key}no-{field}", **{k: v for k, v in good.items() if k != field}})
        for number, value in enumerate(WRONG):
            rows.append({"id": f"{key}{field}-{number}", **good, field: value})
            if table == "services":
                bad = {"id": f"trough-nodes:{field}-{number}:None", **good, field: value}
                rows.append({**bad, "role": "trough-nodes"})
    return rows


@pytest.fixture
def stores(rethinkdb_stores):
    """An empty database."""
    return rethinkdb_stores


@pytest.fixture
def plain(stores):
    """A connection of the plain driver."""
    with stores.plain() as connection:
        yield connection


async def spoilt(stores, plain):
    """A store whose tables are full of foreign rows, beside some good ones."""
    store = await stores.open()
    leader = await store.campaign(candidate("s1"))
    await store.register_worker(worker("w1"))
    await store.publish_copies([copy("good", "w1")])
    await store.change_assignments(leader, [assignment("good", "w1")], [])
    lock = await store.take_lock("good", "w1")
    for table in ("services", "lock", "assignment", "schema"):
        done = r.table(table).insert(foreign(table, r.now())).run(plain)
        assert not done["errors"], done
    return store, leader, lock


@async_test
async def test_reading_passes_over_foreign_rows(stores, plain):
    """Every look-up answers with what is Trough's, and with nothing else."""
    store, _, lock = await spoilt(stores, plain)
    blocking = stores.open_blocking()
    assert [each.node for each in await store.workers()][-1] == "w1"
    assert blocking.workers()[-1].node == "w1"
    assert await store.locks() == [lock]
    assert blocking.locks() == [lock]
    assert [each.segment for each in await gathered(store.assignments())] == ["good"]
    assert [each.segment for each in await gathered(store.assignments("w9"))] == []
    found = await store.copies_of(["good", "s", "5", "a/b", "\n"])
    assert {segment: [each.node for each in copies] for segment, copies in found.items()} == {
        "good": ["w1"]
    }
    assert [each.segment for each in await gathered(store.segments_matching(None))] == ["good"]
    assert [each.segment for each in await gathered(store.segments_matching("oo"))] == ["good"]
    assert [each.segment for each in blocking.segments_matching("oo|true|1")] == ["good"]
    assert "default" in await store.schemas()
    with pytest.raises(errors.NoSuchSchema, match="has no SQL text"):
        await store.schema("sql-2")


@async_test
async def test_changes_pass_over_foreign_rows(stores, plain):
    """So a leader's round and a worker's heartbeat go on."""
    store, leader, lock = await spoilt(stores, plain)
    assert (await store.campaign(candidate("s1"))).generation == leader.generation
    await store.reap(leader)
    assert await store.beat(worker("w1"))
    await store.announce_version(CanonicalCopy("good", "good.sqlite", 7, 7))
    (seen,) = await store.assignments_of_segment("good")
    assert seen.modified == 7
    await store.release_lock(lock)
    await store.forget_segment("good")
    assert await store.assignments_of_segment("good") == []


@async_test
async def test_only_workers_are_buried(stores, plain):
    """Rows without a heartbeat count as expired, whatever is in the place of the name."""
    store, leader, _ = await spoilt(stores, plain)
    await store.register_worker(worker("gone", ttl=0.001))
    dead = [
        {"id": f"trough-nodes:dead-{number}:None", "role": "trough-nodes", "node": value}
        for number, value in enumerate([*WRONG, "another", "gone"])
    ]
    r.table("services").insert(dead).run(plain)

    async def is_buried():
        return "gone" in await store.reap(leader)

    await until(is_buried, "the end of the worker's row")
    assert await store.reap(leader) == []
    kept = r.table("services").get_all(*[row["id"] for row in dead]).run(plain)
    assert sorted(kept, key=lambda row: row["id"]) == sorted(dead, key=lambda row: row["id"])


@async_test
async def test_watchers_hear_of_no_foreign_row(stores, plain):
    """Neither at the beginning nor of a later change."""
    store, _, lock = await spoilt(stores, plain)
    locks, assignments = Notices(), Notices()
    watches = [store.watch_locks(locks), store.watch_assignments("w9", assignments)]
    await locks.until(lambda all: any(each.full for each in all))
    await assignments.until(lambda all: any(each.full for each in all))
    assert locks.all[0].held == [lock]
    assert assignments.all[0].changed == []
    for table, key in (("lock", "write:lock:no-node"), ("assignment", "w9:no-node")):
        r.table(table).get(key).update({"more": 1}).run(plain)
        r.table(table).get(key).delete().run(plain)
    other = await store.take_lock("other", "w1")
    await locks.until(lambda all: other in all[-1].held)
    assert [each for notice in locks.all for each in notice.held] == [lock, other]
    for watch in watches:
        watch.stop()


@async_test
async def test_a_foreign_row_in_the_place_of_a_lock_is_named(stores, plain):
    """Nobody waits for ever for a lock that nobody can take."""
    store = await stores.open()
    for number, row in enumerate([{}, {"segment": "s", "node": 5}, {"segment": "t", "node": "w1"}]):
        key = f"write:lock:s{number}"
        r.table("lock").insert({"id": key, **row}).run(plain)
        for asking in (store.take_lock(f"s{number}", "w1"), store.lock_of(f"s{number}")):
            with pytest.raises(errors.Conflict, match=f"{key}.*is no write lock"):
                await asking


@async_test
async def test_numbers_are_the_segments_that_their_text_names(stores, plain):
    """The original stored a number where a client had sent one."""
    store = await stores.open()
    leader = await store.campaign(candidate("s1"))
    await store.register_worker(worker("w1"))
    now = {"first_heartbeat": r.now(), "last_heartbeat": r.now()}
    row = {"segment": 300123, "node": "w1"}
    r.table("lock").insert({"id": "write:lock:300123", **row, "acquired_on": r.now()}).run(plain)
    r.table("assignment").insert(
        {"id": "w1:300123", **row, "remote_path": "/trough/300/300123.sqlite", "bytes": 1}
    ).run(plain)
    r.table("services").insert(
        {"id": "trough-read:w1:300123", **row, **now, "role": READ, "url": "u", "ttl": 99}
    ).run(plain)
    lock = await store.lock_of("300123")
    assert lock == Lock("300123", "w1", 1, lock.acquired_on)
    assert [each.segment for each in await store.locks("w1")] == ["300123"]
    assert [each.node for each in (await store.copies_of(["300123"]))["300123"]] == ["w1"]
    matching = await gathered(store.segments_matching("^3001"))
    assert [each.segment for each in matching] == ["300123"]
    (assigned,) = await store.assignments_of_segment("300123")
    assert (assigned.path, assigned.size) == ("300/300123.sqlite", 1)
    await store.announce_version(CanonicalCopy("300123", "300/300123.sqlite", 7, 7))
    assert (await store.assignments_of_segment("300123"))[0].modified == 7
    await store.release_lock(lock)
    await store.change_assignments(leader, [], [("w1", "300123")])
    assert await store.assignments_of_segment("300123") == []
    await store.forget_segment("300123")
    assert await store.copies_of(["300123"]) == {}


@async_test
async def test_existing_segments_are_those_of_trough(stores, plain):
    """No foreign row is taken for a segment, and none hides one."""
    store, *_ = await spoilt(stores, plain)
    blocking = stores.open_blocking()
    for pattern in (None, "o", "^good$"):
        assert await gathered(store.existing(pattern)) == ["good"]
        assert list(blocking.existing(pattern)) == ["good"]
