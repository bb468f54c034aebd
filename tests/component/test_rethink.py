"""RethinkDB as it fails: connections, hosts, passwords, failovers, tables made twice."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_twisted
from metadata_stores import Notices, assignment, candidate, copy, gathered, worker
from processes import free_ports
from rethinkdb import RethinkDB
from rethinkdb import errors as reql
from rethinkdb_server import RethinkServer, RethinkStores
from twisted.internet import reactor
from twisted.internet.defer import Deferred, fail, gatherResults
from twisted.internet.threads import deferToThread
from twisted.protocols.portforward import ProxyFactory
from waiting import until

from trough import errors
from trough.metadata import Replicas, StoreUser
from trough.metadata.open import open_metadata
from trough.metadata.open_blocking import open_blocking
from trough.metadata.rethinkdb.blocking import BlockingRethink
from trough.metadata.rethinkdb.connection import RethinkConnection
from trough.metadata.rethinkdb.store import RethinkMetadata
from trough.metadata.rethinkdb.tables import duplicates
from trough.metadata.rethinkdb.terms import TABLES
from trough.metadata.rethinkdb.watch import FeedError, FeedReader
from trough.metadata.url import RethinkAddress
from trough.model import Schema

r = RethinkDB()
async_test = pytest_twisted.ensureDeferred


@pytest.fixture
def stores(rethinkdb_stores):
    """An empty database on the common server."""
    return rethinkdb_stores


@pytest.fixture
def silent_host():
    """A host that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()


class Proxy:
    """Passes everything on, until it is told to cut all connections."""

    def __init__(self, host: tuple[str, int]) -> None:
        factory = ProxyFactory(*host)
        factory.protocol = lambda: self._remember(ProxyFactory.protocol())
        self._connections: list = []
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.host = ("127.0.0.1", self._listening.getHost().port)

    def _remember(self, connection):
        self._connections.append(connection)
        return connection

    def cut(self) -> None:
        connections, self._connections = self._connections, []
        for connection in connections:
            if connection.transport is not None:
                connection.transport.abortConnection()

    async def close(self) -> None:
        self.cut()
        await self._listening.stopListening()


@pytest.fixture
def proxy(rethinkdb_server):
    """A proxy to the common server."""
    made = Proxy(rethinkdb_server.host)
    yield made
    pytest_twisted.blockon(Deferred.fromCoroutine(made.close()))


# -- connections -------------------------------------------------------------------


@async_test
async def test_nobody_there_is_unavailable(stores):
    """The hosts and the reason are named."""
    (port,) = free_ports(1)
    address = RethinkAddress((("127.0.0.1", port), ("::1", port)), "d")
    store = RethinkMetadata(address, reactor, deadline=1.0)
    with pytest.raises(errors.Unavailable, match=rf"127\.0\.0\.1:{port}.*refused"):
        await store.open()
    with pytest.raises(errors.Unavailable, match=rf"\[::1\]:{port}"):
        await store.leader()
    await store.close()
    blocking = BlockingRethink(address)
    with pytest.raises(errors.Unavailable, match=rf"127\.0\.0\.1:{port}"):
        blocking.leader()


@async_test
async def test_a_silent_host_is_unavailable(silent_host):
    """A host that accepts and says nothing does not hold up its callers for ever."""
    store = RethinkMetadata(RethinkAddress((silent_host,), "d"), reactor, deadline=0.3)
    with pytest.raises(errors.Unavailable):
        await store.open()
    await store.close()


@async_test
async def test_the_next_host_is_tried(stores, silent_host, monkeypatch):
    """One live host among dead and silent ones is found."""
    monkeypatch.setattr("trough.metadata.rethinkdb.cluster.CONNECT", 2.0)
    monkeypatch.setattr("trough.metadata.rethinkdb.blocking.CONNECT", 2.0)
    stores.address = RethinkAddress(
        (("127.0.0.1", free_ports(1)[0]), silent_host, stores.server.host), stores.address.database
    )
    store = await stores.open()
    assert await store.schemas() == ["default"]
    blocking = stores.open_blocking()
    assert (await deferToThread(blocking.schemas)) == ["default"]


@async_test
async def test_an_ipv6_address_is_reached(stores):
    """RethinkDB always listens on loopback's IPv6 address too."""
    url = f"rethinkdb://[::1]:{stores.server.port}/{stores.address.database}"
    store = open_metadata(url, reactor)
    stores.opened.append(store)
    await store.open()
    assert await store.schemas() == ["default"]
    blocking = open_blocking(url)
    assert blocking.schemas() == ["default"]
    blocking.close()


@async_test
async def test_a_lost_connection_is_made_again(stores, proxy):
    """What was pending is asked again, and nothing waits for ever."""
    stores.address = RethinkAddress((proxy.host,), stores.address.database)
    store = await stores.open()
    for _ in range(3):
        pending = [Deferred.fromCoroutine(store.schemas()) for _ in range(20)]
        proxy.cut()
        assert await gatherResults(pending) == [["default"]] * 20
    lock = await store.take_lock("a", "w1")
    pending = Deferred.fromCoroutine(store.take_lock("a", "w1"))
    proxy.cut()
    assert await pending == lock


@async_test
async def test_a_watch_outlives_its_connection(stores, proxy):
    """After the connection is back everything is reported again, what was missed included."""
    store = await stores.open()
    stores.address = RethinkAddress((proxy.host,), stores.address.database)
    watching = await stores.open()
    leader = await store.campaign(candidate("s1"))
    await store.change_assignments(leader, [assignment(s, "w1") for s in "ab"], [])
    assignments, locks = Notices(), Notices()
    watching.watch_assignments("w1", assignments)
    watching.watch_locks(locks)
    await assignments.until(lambda all_: all_)
    await locks.until(lambda all_: all_)
    proxy.cut()
    await store.change_assignments(leader, [assignment("c", "w1")], [("w1", "a")])
    await assignments.until(lambda all_: sum(n.full for n in all_) == 2)
    again = [n for n in assignments.all if n.full][1]
    assert {a.segment for a in again.changed} >= {"b"}
    await assignments.until(lambda all_: any(a.segment == "c" for n in all_[1:] for a in n.changed))
    await locks.until(lambda all_: sum(n.full for n in all_) == 2)
    lock = await store.take_lock("z", "w1")
    await locks.until(lambda all_: any(lock in n.held for n in all_))


@async_test
async def test_a_closed_store_refuses(stores):
    """A call after closing fails at once, one under way too."""
    store = await stores.open()
    pending = Deferred.fromCoroutine(store.schemas())
    await store.close()
    for refused in (pending, store.schemas()):
        with pytest.raises(errors.Unavailable):
            await refused


@async_test
async def test_a_stopped_server_is_given_up(own_server):
    """A server that neither answers nor closes is noticed by its silence."""
    address = RethinkAddress((own_server.host,), "d")
    store = RethinkMetadata(address, reactor, ping=0.2)
    await store.open()
    notices = Notices()
    store.watch_locks(notices)
    await notices.until(lambda all_: all_)
    own_server.signal(signal.SIGSTOP)
    impatient = RethinkMetadata(address, reactor, deadline=0.5)
    with pytest.raises(errors.Unavailable):
        await impatient.open()
    await impatient.close()
    pending = Deferred.fromCoroutine(store.take_lock("a", "w1"))
    own_server.signal(signal.SIGCONT)
    assert (await pending).node == "w1"
    await notices.until(lambda all_: any(x.segment == "a" for n in all_ for x in n.held))
    await store.close()


@async_test
async def test_a_restarted_server_is_found_again(own_server):
    """Killed and started again: pending calls and watches go on, soft writes apart."""
    store = RethinkMetadata(RethinkAddress((own_server.host,), "d"), reactor)
    await store.open()
    blocking = BlockingRethink(RethinkAddress((own_server.host,), "d"))
    assert blocking.schemas() == ["default"]
    lock = await store.take_lock("a", "w1")
    notices = Notices()
    store.watch_locks(notices)
    await notices.until(lambda all_: all_)
    own_server.kill()
    with pytest.raises(errors.Unavailable):
        blocking.schemas()
    pending = Deferred.fromCoroutine(store.lock_of("a"))
    await deferToThread(own_server.start)
    assert await pending == lock
    await notices.until(lambda all_: sum(n.full for n in all_) == 2)
    assert list(notices.all[-1].held) == [lock]
    assert blocking.schemas() == ["default"]
    blocking.close()
    await store.close()


@async_test
async def test_a_blocking_client_gives_up_on_silence(own_server, monkeypatch):
    """The plain driver would wait for ever."""
    store = RethinkMetadata(RethinkAddress((own_server.host,), "d"), reactor)
    await store.open()
    await store.close()
    blocking = BlockingRethink(RethinkAddress((own_server.host,), "d"))
    assert blocking.schemas() == ["default"]
    monkeypatch.setattr("trough.metadata.rethinkdb.blocking._Instance.seconds", 0.3)
    monkeypatch.setattr("trough.metadata.rethinkdb.blocking.CONNECT", 0.3)
    own_server.signal(signal.SIGSTOP)
    with pytest.raises(errors.Unavailable):
        await deferToThread(blocking.schemas)
    own_server.signal(signal.SIGCONT)
    monkeypatch.undo()
    assert (await deferToThread(blocking.schemas)) == ["default"]


@async_test
async def test_many_threads_share_one_blocking_store(stores):
    """Each call finds a connection of its own."""
    store = await stores.open()
    await store.publish_copies([copy(f"{i}", "w1") for i in range(100)])
    blocking = stores.open_blocking()

    def look_up(number):
        segment = f"{number % 100}"
        return blocking.copies_of([segment])[segment][0].segment == segment

    def all_of_them():
        with ThreadPoolExecutor(8) as threads:
            return all(threads.map(look_up, range(300)))

    assert await deferToThread(all_of_them)


# -- users -------------------------------------------------------------------------


@async_test
async def test_user_and_password(tmp_path):
    """The right ones work, other than ASCII too; wrong ones are refused at once and named."""
    password = "caf\u00e9 \u2615"
    server = RethinkServer("locked", tmp_path, "--initial-password", password)
    server.start()
    try:
        right = RethinkAddress((server.host,), "d", "admin", password)
        store = RethinkMetadata(right, reactor)
        await store.open()
        assert await store.schemas() == ["default"]
        await store.close()
        blocking = BlockingRethink(right)
        assert blocking.schemas() == ["default"]
        blocking.close()

        wrong = RethinkAddress((server.host,), "d", "admin", "guess")
        store = RethinkMetadata(wrong, reactor)
        with pytest.raises(errors.BadSettings, match="password"):
            await store.open()
        with pytest.raises(errors.BadSettings):
            await store.leader()
        await store.close()
        with pytest.raises(errors.BadSettings, match="password"):
            BlockingRethink(wrong).leader()
    finally:
        server.kill()


# -- tables ------------------------------------------------------------------------


def listed(connection, database):
    """Names of all tables, those made twice as often as they were."""
    config = r.db("rethinkdb").table("table_config").filter({"db": database})
    return sorted(config["name"].run(connection))


@async_test
async def test_everything_is_made_once(rethinkdb_server):
    """Six that open a new store together leave one of each table, with its indexes."""
    stores = RethinkStores(rethinkdb_server, database="made_together")
    with stores.server.connect() as connection:
        if "made_together" in r.db_list().run(connection):
            r.db_drop("made_together").run(connection)
        await gatherResults([Deferred.fromCoroutine(stores.open()) for _ in range(6)])
        assert listed(connection, "made_together") == sorted(TABLES)
        for name, indexes in TABLES.items():
            found = r.db("made_together").table(name).index_list().run(connection)
            assert set(found) == set(indexes)
        for store in stores.opened:
            assert await store.schemas() == ["default"]
        await stores.close()
        r.db_drop("made_together").run(connection)


@async_test
async def test_everything_is_made_once_through_different_servers(rethinkdb_cluster):
    """Servers learn of each other's databases and tables with a delay: still one of each."""
    through = [RethinkStores(server, database="d") for server in rethinkdb_cluster * 2]
    opened = await gatherResults([Deferred.fromCoroutine(stores.open()) for stores in through])
    await opened[0].put_schema(Schema("crawl", "x"))
    assert [(await store.schema("crawl")).sql for store in opened] == ["x"] * 6
    with rethinkdb_cluster[0].connect() as connection:
        assert listed(connection, "d") == sorted(TABLES)
        assert [name for name in r.db_list().run(connection) if name.startswith("d")] == ["d"]
    for stores in through:
        await stores.close()


def make_twice(server, database, name):
    """Two tables of one name, which RethinkDB does when it is asked at once."""
    with server.connect() as connection:
        for _ in range(50):
            barrier = threading.Barrier(4)

            def make(barrier=barrier):
                with server.connect() as own:
                    barrier.wait()
                    # It may be seen to be there already, as it should.
                    with contextlib.suppress(r.ReqlOpFailedError):
                        r.db(database).table_create(name).run(own)

            with ThreadPoolExecutor(4) as threads:
                for made in [threads.submit(make) for _ in range(4)]:
                    made.result()
            if listed(connection, database).count(name) > 1:
                return
            r.db(database).table_drop(name).run(connection)
    pytest.fail("RethinkDB no longer makes tables twice: this guard can go")


@async_test
async def test_a_tool_makes_tables_once_it_misses_one(rethinkdb_server):
    """It looks for none before, which would take a round trip; and makes users of an empty
    RethinkDB."""
    with rethinkdb_server.connect() as connection:
        for number, first in enumerate(
            (
                lambda store: store.workers(),
                lambda store: store.make_users([StoreUser("reader", "secret", False)], False),
            )
        ):
            database = f"unmade_{number}"
            url = str(RethinkAddress((rethinkdb_server.host,), database))
            tool = open_metadata(url, reactor, patience=60.0)
            await tool.open()
            assert database not in r.db_list().run(connection)
            await first(tool)
            assert listed(connection, database) == sorted(TABLES)
            assert await tool.schemas() == ["default"]
            await tool.close()


@async_test
async def test_what_rethinkdb_calls_an_internal_error_may_pass(stores, monkeypatch):
    """It says so where no server of a table can be reached."""
    store, ask = await stores.open(), RethinkConnection.ask
    failures = [reql.ReqlInternalError("none of the servers were accessible", None, [])]

    def failing(connection, *args):
        if failures:
            return fail(failures.pop())
        return ask(connection, *args)

    monkeypatch.setattr(RethinkConnection, "ask", failing)
    assert await store.paused() == {}
    assert not failures


@async_test
async def test_tables_with_too_few_replicas_are_known(rethinkdb_cluster):
    """Those that were restored with one, and all of them while a server is dead."""
    servers = rethinkdb_cluster
    address = RethinkAddress(tuple(server.host for server in servers), "d")
    store = RethinkMetadata(address, reactor)
    await store.open()
    await until(lambda: weak(store, {}), "three replicas of each table")
    with servers[0].connect(db="d") as connection:
        r.table("lock").reconfigure(shards=1, replicas=1).run(connection)
        await until(lambda: weak(store, {"lock": Replicas(1, 1, 3)}), "the weak table")
        r.table("lock").reconfigure(shards=1, replicas=3).run(connection)
    await until(lambda: weak(store, {}), "three replicas again")
    servers[2].kill()
    dead = dict.fromkeys(TABLES, Replicas(2, 3, 3))
    await until(lambda: weak(store, dead), "the loss of a server")
    await store.close()


async def weak(store, expected):
    """Whether these are the weak tables."""
    return await store.weak_tables() == expected


@async_test
async def test_tables_made_twice_are_cleared_up(rethinkdb_server):
    """One keeps the name; of the others the empty ones go. A store that is open notices."""
    stores = RethinkStores(rethinkdb_server, database="made_twice")
    with stores.server.connect() as connection:
        if "made_twice" in r.db_list().run(connection):
            r.db_drop("made_twice").run(connection)
        r.db_create("made_twice").run(connection)
        await deferToThread(make_twice, stores.server, "made_twice", "lock")
        store = await stores.open()
        assert listed(connection, "made_twice") == sorted(TABLES)
        assert (await store.take_lock("a", "w1")).node == "w1"

        r.db("made_twice").table_drop("lock").run(connection)
        await deferToThread(make_twice, stores.server, "made_twice", "lock")
        assert (await store.take_lock("b", "w2")).node == "w2"
        assert listed(connection, "made_twice") == sorted(TABLES)
        await stores.close()
        r.db_drop("made_twice").run(connection)


def test_who_keeps_a_name():
    """Everybody comes to the same answer, in whatever order the rows come."""
    first, second, third = ({"name": "t", "id": id_} for id_ in "123")
    other = {"name": "u", "id": "0"}
    assert duplicates([third, other, first, second]) == [second, third]
    assert duplicates([first, other]) == []


# -- failover ----------------------------------------------------------------------


def has_primary(connection, name):
    """The server that has a table's primary replica, waited for."""
    r.table(name).wait(wait_for="all_replicas_ready").run(connection)
    return r.table(name).status()["shards"][0]["primary_replicas"][0].run(connection)


@async_test
async def test_a_cluster_loses_servers_one_by_one(rethinkdb_cluster):
    """One of three: all goes on. Two: reading goes on. All back: it heals by itself."""
    servers = {server.name: server for server in rethinkdb_cluster}
    stores = RethinkStores(*rethinkdb_cluster)
    store = await stores.open()
    leader = await store.campaign(candidate("s1", ttl=3600.0))
    await store.register_worker(worker("w1", ttl=3600.0))
    await store.publish_copies([copy("a", "w1")])
    lock = await store.take_lock("a", "w1")
    impatient = RethinkMetadata(stores.address, reactor, deadline=15.0)
    await impatient.open()
    notices = Notices()
    store.watch_locks(notices)
    await notices.until(lambda all_: all_)
    with stores.plain() as connection:
        config = r.table("lock").config().run(connection)
        assert len(config["shards"][0]["replicas"]) == 3
        for name in TABLES:
            primary = await deferToThread(has_primary, connection, name)
        primary = await deferToThread(has_primary, connection, "lock")

    servers.pop(primary).kill()
    assert await store.take_lock("a", "w2") == lock
    second = await store.take_lock("b", "w1")
    await store.check_lock(second)
    await store.change_assignments(leader, [assignment("a", "w1")], [])
    assert await store.campaign(candidate("s1", ttl=3600.0)) == leader
    assert await store.beat(worker("w1", ttl=3600.0)) is True
    await notices.until(lambda all_: any(second in n.held for n in all_))

    servers.popitem()[1].kill()
    assert sorted(await store.copies_of(["a"])) == ["a"]
    assert [c.segment for c in await gathered(store.segments_matching("a"))] == ["a"]
    assert [w.node for w in await store.workers()] == ["w1"]
    assert await store.schemas() == ["default"]
    blocking = stores.open_blocking()
    found = await deferToThread(blocking.copies_of, ["a"])
    assert sorted(found) == ["a"]
    asked = [
        Deferred.fromCoroutine(question)
        for question in (
            impatient.take_lock("c", "w1"),
            impatient.campaign(candidate("s2")),
            impatient.check_lock(lock),
        )
    ]
    for refused in asked:
        with pytest.raises(errors.Unavailable):
            await refused
    await impatient.close()

    (left,) = servers.values()
    for server in rethinkdb_cluster:
        if server is not left:
            await deferToThread(server.start, left)
    third = await store.take_lock("c", "w1")
    await notices.until(lambda all_: any(third in n.held for n in all_))
    assert await store.lock_of("a") == lock
    assert await store.put_schema(Schema("crawl", "x")) is True
    assert (await store.leader()).node == "s1"
    await stores.close()


# -- feeds, without I/O --------------------------------------------------------------


def read(*batches):
    """What a reader tells of a feed's batches."""
    told = []
    reader = FeedReader(lambda *notice: told.append(notice))
    for batch in batches:
        reader.documents(list(batch))
    return told


def change(old, new):
    """One document of a feed."""
    return {
        "old_val": old and {"id": old[0], "v": old[1]},
        "new_val": new and {"id": new[0], "v": new[1]},
    }


INITIAL = {"state": "initializing"}
READY = {"state": "ready"}


def test_a_feed_begins_with_everything():
    """Nothing is told before the initial state is whole; then all of it at once."""
    assert read([INITIAL, {"new_val": {"id": "a", "v": 1}}]) == []
    (notice,) = read([INITIAL, {"new_val": {"id": "a", "v": 1}}], [READY])
    assert notice == (True, [{"id": "a", "v": 1}], [])
    assert read([INITIAL, READY]) == [(True, [], [])]


def test_changes_during_the_initial_state_count():
    """A row that was changed or removed meanwhile is told as it is then."""
    initial = [{"new_val": {"id": key, "v": 1}} for key in "abc"]
    (notice,) = read(
        [INITIAL, *initial], [change(("a", 1), ("a", 2)), change(("b", 1), None)], [READY]
    )
    assert notice == (True, [{"id": "a", "v": 2}, {"id": "c", "v": 1}], [])


def test_changes_come_after():
    """What is new, changed and gone; the last word on a row counts."""
    first, second = read(
        [INITIAL, READY],
        [change(None, ("a", 1)), change(("b", 1), None), change(("a", 1), ("a", 2))],
    )
    assert first == (True, [], [])
    assert second == (False, [{"id": "a", "v": 2}], [{"id": "b", "v": 1}])
    *_, last = read([INITIAL, READY, change(None, ("a", 1)), change(("a", 1), None)])
    assert last == (False, [], [{"id": "a", "v": 1}])
    *_, last = read([INITIAL, READY, change(("a", 1), None), change(None, ("a", 2))])
    assert last == (False, [{"id": "a", "v": 2}], [])


def test_a_feed_with_gaps_is_given_up():
    """RethinkDB says so in a document, and goes on as if nothing were missing."""
    with pytest.raises(FeedError, match="skipped 17"):
        read([INITIAL, READY], [{"error": "Changefeed cache over array size limit, skipped 17"}])


@pytest_twisted.ensureDeferred
async def test_clocks_of_servers_of_one_machine_agree(rethinkdb_cluster):
    """Each server that answers is asked; one that does not is left out."""
    address = RethinkAddress(tuple(server.host for server in rethinkdb_cluster), "d")
    store = RethinkMetadata(address, reactor)
    await store.open()
    offsets = await store.clock_offsets()
    assert len(offsets) == 3 and all(abs(offset) < 1 for offset in offsets.values())
    rethinkdb_cluster[2].kill()
    assert len(await store.clock_offsets()) == 2
    await store.close()
