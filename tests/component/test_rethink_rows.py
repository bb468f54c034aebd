"""What existing clients find in RethinkDB, and what an original installation left there."""

from __future__ import annotations

import pytest
import pytest_twisted
from metadata_stores import Notices, assignment, candidate, copy, gathered, worker
from rethinkdb import RethinkDB
from twisted.internet import reactor

from trough import errors
from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.model import READ, WRITE, CanonicalCopy, Schema

r = RethinkDB()
async_test = pytest_twisted.ensureDeferred


@pytest.fixture
def stores(rethinkdb_stores):
    """An empty database."""
    return rethinkdb_stores


@pytest.fixture
def plain(stores):
    """A connection of the plain driver."""
    with stores.plain() as connection:
        yield connection


# -- what existing clients find ----------------------------------------------------


@async_test
async def test_an_existing_client_finds_a_copy_to_read(stores, plain):
    """Its very query gives the URL of the least loaded copy that is fresh by its own ttl."""
    store = await stores.open()
    await store.register_worker(worker("w1"))
    await store.publish_copies(
        [
            copy("300001", "w1", load=0.7, ttl=3600.0),
            copy("300001", "w2", load=0.2, ttl=3600.0),
            copy("300001", "w3", WRITE, load=0.1, ttl=3600.0),
            copy("300001", "w4", load=0.0, ttl=-5.0),
        ]
    )
    found = list(
        r.table("services")
        .get_all("300001", index="segment")
        .filter({"role": "trough-read"})
        .filter(lambda row: r.now().sub(row["last_heartbeat"]).lt(row["ttl"]))
        .order_by("load")
        .run(plain)
    )
    assert [row["url"] for row in found] == [
        "http://w2:6444/?segment=300001",
        "http://w1:6444/?segment=300001",
    ]
    first = found[0]
    assert first.keys() == {
        "id", "role", "segment", "node", "port", "url", "load", "ttl",
        "first_heartbeat", "last_heartbeat",
    }  # fmt: skip
    assert first["id"] == "trough-read:w2:300001"
    assert (first["role"], first["segment"], first["node"]) == ("trough-read", "300001", "w2")
    assert (first["port"], first["load"], first["ttl"]) == (6444, 0.2, 3600)
    assert first["first_heartbeat"].tzinfo is not None
    written = r.table("services").get("trough-write:w3:300001").run(plain)
    assert written["role"] == "trough-write"


@async_test
async def test_an_existing_client_finds_the_leader(stores, plain):
    """By the row's id, alive while its heartbeat is within its ttl, and dead once given back."""
    store = await stores.open()
    leader = await store.campaign(candidate("s1"))

    def alive():
        row = r.table("services").get("trough-sync-master")
        return r.branch(row["last_heartbeat"] > r.now() - row["ttl"], row, None).run(plain)

    row = alive()
    assert (row["url"], row["role"], row["port"]) == (
        "http://s1:6111/", "trough-sync-master", 6111,
    )  # fmt: skip
    assert row["generation"] == leader.generation
    await store.resign(leader)
    assert alive() is None


@async_test
async def test_a_workers_row_is_the_originals(stores, plain):
    """Found by id and by the index on role, with the fields that clients read."""
    store = await stores.open()
    await store.register_worker(worker("w1", available_bytes=123, cold_storage=True, load=1.5))
    (row,) = r.table("services").get_all("trough-nodes", index="role").run(plain)
    assert row["id"] == "trough-nodes:w1:None"
    assert (row["node"], row["available_bytes"], row["load"], row["cold_storage"]) == (
        "w1", 123, 1.5, True,
    )  # fmt: skip
    assert row["ttl"] == 30


@async_test
async def test_a_locks_row_is_the_originals(stores, plain):
    """Found by id and by the index on node."""
    store = await stores.open()
    lock = await store.take_lock("300001", "w1")
    (row,) = r.table("lock").get_all("w1", index="node").run(plain)
    assert row == r.table("lock").get("write:lock:300001").run(plain)
    assert (row["id"], row["segment"], row["node"]) == ("write:lock:300001", "300001", "w1")
    assert row["acquired_on"].timestamp() == pytest.approx(lock.acquired_on, abs=1e-3)
    await store.release_lock(lock)
    assert r.table("lock").count().run(plain) == 0


@async_test
async def test_an_assignments_row_is_the_originals(stores, plain):
    """Found by id and by the index on segment; the path is whole, as the original's."""
    store = RethinkMetadata(stores.address, reactor, locate="/trough/{}".format)
    await store.open()
    leader = await store.campaign(candidate("s1"))
    await store.change_assignments(leader, [assignment("300001", "w1", size=7, ring=2)], [])
    (row,) = r.table("assignment").get_all("300001", index="segment").run(plain)
    assert row.pop("assigned_on").tzinfo is not None
    assert row == {
        "id": "w1:300001",
        "node": "w1",
        "segment": "300001",
        "remote_path": "/trough/300001.sqlite",
        "path": "300001.sqlite",
        "bytes": 7,
        "modified": 1,
        "hash_ring": 2,
        "generation": leader.generation,
    }
    (found,) = await store.assignments_of_segment("300001")
    assert found.path == "300001.sqlite"
    await store.announce_version(CanonicalCopy("300001", "moved/300001.sqlite", 8, 2))
    (row,) = r.table("assignment").get_all("300001", index="segment").run(plain)
    assert (row["remote_path"], row["path"]) == (
        "/trough/moved/300001.sqlite",
        "moved/300001.sqlite",
    )
    await store.close()


@async_test
async def test_a_schemas_row_is_the_originals(stores, plain):
    """Name and SQL, nothing else; the default one is there."""
    store = await stores.open()
    await store.put_schema(Schema("crawl", "create table t (a)"))
    assert list(r.table("schema").order_by("id").run(plain)) == [
        {"id": "crawl", "sql": "create table t (a)"},
        {"id": "default", "sql": ""},
    ]


# -- what an original installation left ---------------------------------------------


@async_test
async def test_the_originals_workers_and_copies_are_used(stores, plain):
    """Rows without our fields count as what they say."""
    store = await stores.open()
    times = {"first_heartbeat": r.now(), "last_heartbeat": r.now()}
    r.table("services").insert(
        [
            {
                "id": "trough-nodes:old:None", "role": "trough-nodes", "node": "old",
                "segment": None, "ttl": 40, "load": 0.5, "available_bytes": 99,
                "cold_storage": None, **times,
            },
            {
                "id": "trough-read:old:a", "role": "trough-read", "node": "old", "segment": "a",
                "url": "http://old:6444/?segment=a", "port": 6444, "ttl": 40, "load": 0.9, **times,
            },
        ]
    ).run(plain)  # fmt: skip
    (found,) = await store.workers()
    assert (found.node, found.line, found.identity, found.cold_storage) == ("old", "", "", False)
    assert found.available_bytes == 99
    ((url, load),) = [(c.url, c.load) for c in (await store.copies_of(["a"]))["a"]]
    assert (url, load) == ("http://old:6444/?segment=a", 0.5)
    assert [c.role for c in await gathered(store.segments_matching("a"))] == [READ]
    await stores.age(41)
    assert await store.workers() == []
    assert await store.reap(await store.campaign(candidate("s1"))) == ["old"]
    assert r.table("services").count().run(plain) == 1


@async_test
async def test_the_originals_leader_is_waited_for(stores, plain):
    """A master of the original leads until its row runs out; generations begin then."""
    store = await stores.open()
    r.table("services").insert(
        {
            "id": "trough-sync-master", "role": "trough-sync-master", "url": "http://old:6111/",
            "node": "old", "ttl": 40, "first_heartbeat": r.now(), "last_heartbeat": r.now(),
        }
    ).run(plain)  # fmt: skip
    assert (await store.leader()).url == "http://old:6111/"
    assert (await store.campaign(candidate("s1"))).node == "old"
    await stores.age(41)
    leader = await store.campaign(candidate("s1"))
    assert (leader.node, leader.generation) == ("s1", 1)


@async_test
async def test_the_originals_locks_get_an_epoch(stores, plain):
    """By whoever looks at one first, once, and the next owner's is greater."""
    store = await stores.open()
    r.table("lock").insert(
        [
            {"id": f"write:lock:{s}", "segment": s, "node": "old", "acquired_on": r.now()}
            for s in "abc"
        ]
    ).run(plain)
    looked = await store.lock_of("a")
    taken = await store.take_lock("b", "w1")
    assert (looked.node, taken.node) == ("old", "old")
    assert looked.epoch >= 1
    assert await store.lock_of("a") == looked
    assert [lock.epoch >= 1 for lock in await store.locks()] == [True] * 3
    await store.check_lock(looked)
    await store.release_lock(looked)
    assert (await store.take_lock("a", "w1")).epoch > looked.epoch


@async_test
async def test_a_lock_watcher_is_told_of_the_originals_locks(stores, plain):
    """A lock without an epoch is given one, and then told."""
    store = await stores.open()
    row = {"id": "write:lock:a", "segment": "a", "node": "old", "acquired_on": r.now()}
    r.table("lock").insert(row).run(plain)
    notices = Notices()
    store.watch_locks(notices)
    await notices.until(lambda all_: any(x.segment == "a" for n in all_ for x in n.held))
    held = [lock for notice in notices.all for lock in notice.held]
    assert (held[0].node, held[0].epoch >= 1) == ("old", True)


@async_test
async def test_the_originals_assignments_are_used(stores, plain):
    """Without generation, version or our names of rings; a plan replaces them."""
    store = await stores.open()
    r.table("assignment").insert(
        {
            "id": "w1:a", "node": "w1", "segment": "a", "remote_path": "/tmp/a.sqlite",
            "bytes": 5, "hash_ring": "first-ring", "assigned_on": r.now(),
        }
    ).run(plain)  # fmt: skip
    (found,) = await store.assignments_of_segment("a")
    assert (found.path, found.size, found.modified, found.ring, found.generation) == (
        "a.sqlite", 5, 0, 0, 0,
    )  # fmt: skip
    leader = await store.campaign(candidate("s1"))
    await store.change_assignments(leader, [assignment("a", "w1", ring=1)], [])
    (found,) = await store.assignments_of_segment("a")
    assert (found.path, found.ring, found.generation) == ("a.sqlite", 1, leader.generation)


@async_test
async def test_a_rows_generation_never_goes_back(stores, plain):
    """What a later leader decided stays, even if an earlier one's check had passed."""
    store = await stores.open()
    leader = await store.campaign(candidate("s1"))
    await store.change_assignments(leader, [assignment("a", "w1", size=1)], [])
    r.table("assignment").get("w1:a").update({"generation": leader.generation + 1}).run(plain)
    await store.change_assignments(leader, [assignment("a", "w1", size=2)], [])
    await store.change_assignments(leader, [], [("w1", "a")])
    (found,) = await store.assignments_of_segment("a")
    assert (found.size, found.generation) == (1, leader.generation + 1)


@async_test
async def test_a_pattern_that_only_python_takes_is_refused(stores):
    """RethinkDB matches by RE2, and says what it does not know."""
    store = await stores.open()
    await store.publish_copies([copy("a", "w1")])
    for pattern in (r"(?=a)", r"(a)\1"):
        with pytest.raises(errors.BadRequest, match="regular expression"):
            await gathered(store.segments_matching(pattern))


@async_test
async def test_an_epoch_goes_to_the_owner_that_was_seen(stores, plain):
    """A taker that died before its lock had an epoch leaves one that works."""
    store = await stores.open()
    before = await store.take_lock("a", "w1")
    await store.release_lock(before)
    r.table("lock").insert(
        {"id": "write:lock:a", "segment": "a", "node": "w2", "acquired_on": r.now(), "claim": "x"}
    ).run(plain)
    taken = await store.take_lock("a", "w3")
    assert (taken.node, taken.epoch) == ("w2", before.epoch + 1)
