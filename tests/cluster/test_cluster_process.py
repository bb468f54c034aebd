"""Clusters of real processes on real engines: what an operator does to them, and what fails."""

import json
import signal
import sqlite3
import threading
import time
import urllib.parse
import urllib.request
from http.client import HTTPConnection

import pytest
from cluster_engines import PAIRS, Engines, open_engines, rethink_url
from cluster_nodes import Cluster, rows_of
from processes import http, read, until_blocking, write
from rethinkdb_server import r
from storages import DirectoryHand
from waiting import GIVE_UP

from trough.client import TroughClient
from trough.model import WRITE, canonical_path

COUNT = "SELECT count(*) AS n FROM t"


@pytest.fixture(scope="module", params=[PAIRS[0], PAIRS[-1]])
def common(request, tmp_path_factory):
    """Two sync servers and three workers, for all tests of one pair of engines.

    With one copy of each write: with more, no lock of a lost worker waits for an operator.
    """
    directory = tmp_path_factory.mktemp("cluster")
    engines = open_engines(request.param, directory, request)
    with Cluster(directory, engines, syncs=2, workers=3, WRITE_COPIES="1") as cluster:
        yield cluster


@pytest.fixture
def cluster(common):
    """All of them, ready."""
    return common.start()


def begin(cluster, segment):
    """A segment with one row, promoted and on two workers; its write URL."""
    url = cluster.provision("s1", segment)["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    cluster.promote("s1", segment)
    cluster.wait_for_copies(segment)
    return url


# -- write locks -----------------------------------------------------------------


def test_a_freed_lock_goes_to_another_worker_and_the_old_holder_is_fenced(cluster):
    """The dead holder's segment is read as last promoted, and says so; freed by an operator
    it is written elsewhere; the old holder comes back, keeps its unpromoted writes aside,
    and overwrites nothing."""
    url = begin(cluster, "freed")
    holder = cluster.holder(url)
    write(url, "INSERT INTO t VALUES (2)")
    cluster.processes[holder].kill()
    others = sorted(set(cluster.workers) - {holder})
    (other,) = cluster.readers("freed") - {holder}
    until_blocking(lambda: cluster.answers(other, "freed", COUNT, [{"n": 1}]), "the promoted state")
    assert _state_header(cluster.read_url(other, "freed")) == "last-promoted"

    cluster.wait_for_death(holder)
    refused = cluster.admin("free-lock", "freed")
    assert refused.returncode == 1 and "--yes" in refused.stderr
    assert "on the disk of" in refused.stdout
    assert cluster.admin("free-lock", "freed", "--yes").returncode == 0
    second = cluster.provision("s2", "freed")["write_url"]
    assert cluster.holder(second) in others
    write(second, "INSERT INTO t VALUES (3)")
    cluster.promote("s1", "freed")

    cluster.worker(holder).wait_ready()
    (aside,) = until_blocking(
        lambda: [name for name in cluster.status(holder)["aside"] if "freed" in name],
        "the file aside",
    )
    kept = cluster.directory / holder / "aside" / aside
    assert sorted(rows_of(kept, "SELECT n FROM t")) == [(1,), (2,)]
    assert cluster.order("promote", "freed")[0] == 200
    assert cluster.canonical_rows("freed", "SELECT n FROM t ORDER BY n") == [(1,), (3,)]
    write(url, "INSERT INTO t VALUES (4)")  # which is passed on to the new holder
    assert read(cluster.read_url(holder, "freed"), "SELECT sum(n) AS s FROM t") == [{"s": 8}]


def _state_header(url):
    with urllib.request.urlopen(urllib.request.Request(url, COUNT.encode())) as response:
        return response.headers["x-trough-state"]


#: Some seconds' work for an executor.
LONG_WRITE = (
    b"INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    b"WHERE i < 10000000) SELECT 6 FROM n WHERE i = 10000000"
)


def test_a_holder_that_was_stopped_and_resumed_is_fenced(cluster):
    """Its lock was freed meanwhile, and the segment written and promoted elsewhere: what was
    sent to it while it was stopped is refused, what it had begun is not called done, its
    unpromoted writes go aside, and nothing is overwritten."""
    url = begin(cluster, "stopped")
    holder = cluster.holder(url)
    write(url, "INSERT INTO t VALUES (2)")
    under_way = _sent(url, LONG_WRITE)
    until_blocking(lambda: cluster.status(holder)["executors"]["writes"], "a write under way")
    cluster.processes[holder].signal(signal.SIGSTOP)
    try:
        cluster.wait_for_death(holder)
        freed = cluster.admin("free-lock", "stopped", "--yes")
        assert freed.returncode == 0, freed.stderr
        second = cluster.provision("s2", "stopped")["write_url"]
        assert cluster.holder(second) != holder
        write(second, "INSERT INTO t VALUES (3)")
        cluster.promote("s1", "stopped")
        late_write = _sent(url, b"INSERT INTO t VALUES (4)")
        manager = cluster.url(holder, "SYNC_LOCAL_PORT") + "promote"
        late_promotion = _sent(manager, b'{"segment": "stopped"}')
    finally:
        cluster.processes[holder].signal(signal.SIGCONT)
    response = under_way.getresponse()
    assert response.status == 503 and b"keeps aside" in response.read()
    passed_on = late_write.getresponse().status
    assert passed_on in (200, 503)
    assert late_promotion.getresponse().status in (409, 503)
    (aside,) = until_blocking(
        lambda: [name for name in cluster.status(holder)["aside"] if "stopped" in name],
        "the file aside",
    )
    kept = cluster.directory / holder / "aside" / aside
    assert sorted(rows_of(kept, "SELECT n FROM t")) == [(1,), (2,), (6,)]
    write(url, "INSERT INTO t VALUES (5)")  # which is passed on to the new holder
    assert cluster.canonical_rows("stopped", "SELECT n FROM t ORDER BY n") == [(1,), (3,)]
    # Once, or not at all: within a minute, one line of a cause stands for all segments.
    said = [line for line in cluster.processes[holder].lines if "stopped: no longer" in line]
    assert len(said) < 2, said
    assert cluster.provision("s1", "stopped")["write_url"] == second
    total = [{"s": 13 if passed_on == 200 else 9}]
    until_blocking(
        lambda: cluster.answers(holder, "stopped", "SELECT sum(n) AS s FROM t", total),
        "the present state through the former holder",
    )


COMMITS = {
    "file": "trough.storage.directory.backend:DirectoryBackend.commit",
    "webhdfs": "trough.storage.hdfs.backend:HdfsBackend.commit",
}


def test_a_promotion_that_stood_still_after_it_was_permitted_overwrites_nothing(cluster):
    """Stopped between the look at its lock and the rename, and resumed when the segment is
    written and promoted elsewhere, it is refused."""
    name = cluster.workers[0]
    cluster.processes[name].stop()
    commit = COMMITS[cluster.storage_url.partition(":")[0]]
    stopped = cluster.worker_killed_at(name, commit, "stopped").wait_ready()
    manager = cluster.url(name, "SYNC_LOCAL_PORT")
    status, answer = http("POST", f"{manager}provision", b'{"segment": "late"}')
    assert status == 200, answer
    write(json.loads(answer)["write_url"], "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    promotion = _sent(f"{manager}promote", b'{"segment": "late"}')
    until_blocking(lambda: stopped.stands_still, "the standstill")
    cluster.wait_for_death(name)
    assert cluster.admin("free-lock", "late", "--yes").returncode == 0
    second = cluster.provision("s1", "late")["write_url"]
    write(second, "CREATE TABLE t (n); INSERT INTO t VALUES (2)")
    cluster.promote("s1", "late")
    # A permission ends when others may take the lock, however short the time to live is.
    stopped.signal(signal.SIGCONT)
    response = promotion.getresponse()
    assert response.status in (409, 503), response.read()
    assert cluster.canonical_rows("late", "SELECT n FROM t") == [(2,)]
    until_blocking(lambda: cluster.status(name)["aside"], "the file aside")
    stopped.kill()


def _sent(url, body):
    """A connection on which a POST has been sent, and not been answered yet."""
    parts = urllib.parse.urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=GIVE_UP)
    connection.request("POST", f"{parts.path}?{parts.query}", body)
    return connection


@pytest.fixture
def unhurried(request, tmp_path):
    """Three workers, of which a dead one is taken for alive for ten minutes."""
    engines = open_engines(PAIRS[0], tmp_path, request)
    with Cluster(tmp_path, engines, syncs=1, workers=3, WORKER_TTL="600") as cluster:
        yield cluster.start()


def test_a_dead_holder_is_not_waited_for(unhurried):
    """Long before it counts as dead, whoever cannot connect to a lock's holder answers, or
    has answered, as last promoted, and says so, over HTTP and the line protocol; when the
    holder is back, its state is read again."""
    cluster = unhurried
    url = begin(cluster, "orphan")
    write(url, "INSERT INTO t VALUES (2)")
    holder = cluster.holder(url)
    (other,) = cluster.readers("orphan") - {holder}
    (third,) = set(cluster.workers) - {holder, other}
    for worker in (other, third):
        assert read(cluster.read_url(worker, "orphan"), COUNT) == [{"n": 2}]
        assert "moved" in cluster.say(worker, f"1 QUERY orphan {COUNT}")[0]
    cluster.processes[holder].kill()
    for worker in (other, third):
        assert read(cluster.read_url(worker, "orphan"), COUNT) == [{"n": 1}]
        assert _state_header(cluster.read_url(worker, "orphan")) == "last-promoted"
    assert cluster.say(other, f"1 QUERY orphan {COUNT}")[:4] == [
        "1 STATE orphan last-promoted",
        '1 COLS orphan ["n"]',
        "1 ROWS orphan [[1]]",
        "1 DONE orphan 1",
    ]
    (moved, _) = cluster.say(third, f"1 QUERY orphan {COUNT}")
    assert moved.startswith(f"1 FAIL orphan moved {other} ")
    with TroughClient(cluster.metadata_url) as client:
        assert client.read("orphan", COUNT) == [{"n": 1}]

    cluster.worker(holder).wait_ready()
    for worker in (other, third):
        until_blocking(lambda w=worker: cluster.answers(w, "orphan", COUNT, [{"n": 2}]), "news")


# -- placement ---------------------------------------------------------------------


def test_a_restart_within_the_grace_copies_nothing(cluster):
    """A worker that was killed comes back with the very files that it had."""
    for number in range(5):
        begin(cluster, f"kept-{number}")
    victim = max(cluster.workers, key=lambda name: len(_files(cluster, name, "kept-")))
    before = _files(cluster, victim, "kept-")
    assert before
    cluster.processes[victim].kill()
    until_blocking(
        lambda: not any(victim in cluster.readers(f"kept-{n}") for n in range(5)),
        "its copies to vanish",
    )
    cluster.worker(victim).wait_ready()
    for number in range(5):
        cluster.wait_for_copies(f"kept-{number}")
    assert _files(cluster, victim, "kept-") == before


def _files(cluster, worker, prefix):
    """Inode of every local copy that is only read: another one after each fetch. Of segments
    with this prefix: those of other tests may be fetched meanwhile."""
    folder = cluster.directory / worker / "segments"
    found = {path.name: path.stat().st_ino for path in folder.rglob(f"{prefix}*.sqlite")}
    for writable in cluster.status(worker)["writable"]:
        found.pop(f"{writable['segment']}.sqlite", None)
    return found


@pytest.fixture(params=[PAIRS[0], PAIRS[-1]])
def steady(request, tmp_path):
    """Three workers, none of which is taken for dead because the machine is busy."""
    engines = open_engines(request.param, tmp_path, request)
    with Cluster(tmp_path, engines, syncs=1, workers=3, WORKER_TTL="600") as cluster:
        yield cluster.start()


def test_a_drained_worker_ends_up_empty_with_every_segment_copied_all_the_time(steady):
    """While a worker is drained, at no look does a segment have fewer than two copies. What
    nobody promoted is promoted."""
    cluster = steady
    segments = [f"drained-{number}" for number in range(12)]
    for segment in segments:
        write(begin(cluster, segment), "INSERT INTO t VALUES (2)")
    watch = _Watch(cluster, segments, least=2)
    drained = cluster.holder(cluster.provision("s1", segments[0])["write_url"])
    try:
        result = cluster.admin("drain", "--promote", drained)
        assert result.returncode == 0, result.stderr
        assert " promoted, 0 not." in result.stdout
        until_blocking(lambda: cluster.status(drained)["segments"] == 0, "an empty worker")
    finally:
        looks = watch.stop()
    assert watch.too_few == [] and looks > 0
    (reader, *_) = cluster.readers(segments[0])
    assert cluster.answers(reader, segments[0], "SELECT count(*) AS n FROM t", [{"n": 2}])
    assert "draining" in cluster.admin("workers").stdout
    assert cluster.admin("undrain", drained).returncode == 0


class _Watch:
    """Looks again and again how many copies there are."""

    def __init__(self, cluster, segments, least):
        self.too_few = []
        self._cluster, self._segments, self._least = cluster, segments, least
        self._looks = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self):
        while not self._over.is_set():
            found = self._cluster.store.copies_of(self._segments)
            for segment in self._segments:
                readers = [copy for copy in found.get(segment, []) if copy.role != WRITE]
                if len(readers) < self._least:
                    self.too_few.append((segment, readers))
            self._looks += 1

    def stop(self):
        self._over.set()
        self._thread.join()
        return self._looks


def test_a_promotion_is_readable_on_the_other_copy_soon(cluster, record_property):
    """Promoted on one worker, the copy of another one follows by a notice; how fast is told."""
    url = begin(cluster, "soon")
    holder = cluster.holder(url)
    (other,) = cluster.readers("soon") - {holder}
    path = cluster.directory / other / "segments" / canonical_path("soon")
    taken = []
    for number in range(5):
        write(url, "INSERT INTO t VALUES (2)")
        cluster.promote("s1", "soon")
        began = time.monotonic()
        until_blocking(
            lambda want=number + 2: rows_of(path, "SELECT count(*) FROM t") == [(want,)],
            "the promoted version on the other worker",
        )
        taken.append(time.monotonic() - began)
    record_property("seconds_to_other_copy", max(taken))
    print(f"promotion to the other copy: {', '.join(f'{t:.2f}' for t in taken)} s")


def test_files_that_come_and_go_by_hand_do_so_for_readers(cluster, tmp_path, record_property):
    """A file that somebody puts into canonical storage is readable through every worker, is
    replaced when it is, and gone when it is; how soon it was readable is told."""
    _put(cluster.hand, tmp_path, "by-hand", 100)
    began = time.monotonic()
    readers = cluster.wait_for_copies("by-hand")
    taken = time.monotonic() - began
    record_property("seconds_to_readable", taken)
    print(f"put by hand, on two workers after {taken:.2f} s")
    length = "SELECT length(n) AS n FROM t"
    for worker in cluster.workers:
        assert cluster.answers(worker, "by-hand", length, [{"n": 100}])
    _put(cluster.hand, tmp_path, "by-hand", 200)
    for reader in readers:
        until_blocking(
            lambda name=reader: cluster.answers(name, "by-hand", length, [{"n": 200}]),
            "the file that replaced it",
        )
    cluster.hand.remove(canonical_path("by-hand"))
    for worker in cluster.workers:
        until_blocking(
            lambda name=worker: (
                http("POST", cluster.read_url(name, "by-hand"), b"SELECT 1")[0] == 404
            ),
            "the end of the segment",
        )
    assert cluster.readers_by_disk("by-hand") == []


# -- the cold tier ------------------------------------------------------------------


@pytest.fixture
def cold(request, tmp_path):
    """A cluster with one hot and one cold worker, and cold segments of 40 kB and more."""
    engines = open_engines(PAIRS[0], tmp_path, request)
    for number in range(4):
        _put(engines.hand, tmp_path, f"cold-{number}", 30_000)
    _put(engines.hand, tmp_path, "cold-big", 300_000)
    rules = '[{match: "^cold-", cold: true}]'
    with Cluster(tmp_path, engines, syncs=1, workers=1, COLD_SEGMENTS=rules) as cluster:
        cluster.start()
        cluster.worker("c1", RUN_AS_COLD_STORAGE_NODE="true", COLD_CACHE_BYTES="100000")
        cluster.processes["c1"].wait_ready()
        for number in range(4):
            cluster.wait_for_copies(f"cold-{number}", 1)
        cluster.wait_for_copies("cold-big", 1)
        yield cluster


def _put(hand, directory, segment, size):
    path = directory / "made.sqlite"
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (n)")
        database.execute("INSERT INTO t VALUES (zeroblob(?))", (size,))
    database.close()
    hand.put_whole(canonical_path(segment), path.read_bytes())


def test_cold_segments_are_read_through_a_bounded_cache(cold):
    """Fetched when asked for, once for many that ask together; the least recently used one
    goes first, and one that is larger than the cache is refused with that reason."""
    many = [threading.Thread(target=_count, args=(cold, "cold-0")) for _ in range(8)]
    for thread in many:
        thread.start()
    for thread in many:
        thread.join()
    assert _cache(cold)["fetches"] == 1 and _cache(cold)["hits"] == 7
    for segment in ("cold-1", "cold-0", "cold-2"):
        _count(cold, segment)
    assert (_cache(cold)["fetches"], _cache(cold)["evictions"]) == (3, 1)
    _count(cold, "cold-0")  # stayed, for cold-1 was the least recently used
    assert _cache(cold)["fetches"] == 3
    assert _cache(cold)["bytes"] <= _cache(cold)["capacity"]
    status, answer = http("POST", cold.read_url("c1", "cold-big"), COUNT.encode())
    assert status == 503 and b"COLD_CACHE_BYTES" in answer
    assert sum(path.stat().st_size for path in (cold.directory / "c1/cold").iterdir()) <= 100_000


def test_cold_segments_are_read_where_they_are_mounted(cold):
    """With a mounted path nothing is fetched, and no segment is too large."""
    cold.processes["c1"].stop()
    mounted = f"{cold.directory}/canonical/{{prefix}}/{{segment_id}}.sqlite"
    cold.worker("c1", RUN_AS_COLD_STORAGE_NODE="true", COLD_STORAGE_PATH=mounted).wait_ready()
    cold.wait_for_copies("cold-big", 1)
    _count(cold, "cold-big")
    assert _cache(cold)["fetches"] == 0


def test_cold_segments_cannot_be_provisioned(cold):
    """400, with the reason, and nothing has changed; others are answered by the hot worker."""
    status, answer = cold.order("provision", "cold-1")
    assert status == 400 and "cold tier" in answer
    assert cold.store.locks() == [] and cold.copies("cold-1", WRITE) == []
    # A worker that is asked for what another one holds answers all the same.
    assert read(cold.read_url("w1", "cold-1"), COUNT) == [{"n": 1}]
    assert cold.holder(cold.provision("s1", "warm")["write_url"]) == "w1"


def _count(cluster, segment):
    assert read(cluster.read_url("c1", segment), COUNT) == [{"n": 1}]


def _cache(cluster):
    return cluster.status("c1")["cold"]


# -- RethinkDB fails ------------------------------------------------------------------


@pytest.fixture
def on_three(rethinkdb_cluster, tmp_path):
    """Two sync servers and two workers on three RethinkDB servers."""
    engines = Engines(rethink_url(*rethinkdb_cluster), DirectoryHand(tmp_path / "canonical"))
    with Cluster(tmp_path, engines, syncs=2, workers=2) as cluster:
        yield cluster.start()


def _primary(servers, cluster, table):
    """The server that decides about a table."""
    with servers[0].connect() as connection:
        database = cluster.metadata_url.rpartition("/")[2]
        status = r.db(database).table(table).status().run(connection)
    name = status["shards"][0]["primary_replicas"][0]
    return next(server for server in servers if server.name == name)


def _until_done(attempt, what):
    """Seconds until an order is carried out."""
    began = time.monotonic()
    until_blocking(attempt, what)
    return time.monotonic() - began


def test_a_cluster_outlives_one_and_two_of_three_rethinkdb_servers(
    on_three,
    rethinkdb_cluster,
    record_property,
):
    """One killed: everything goes on after a failover. Two killed: reads and writes of what
    is there go on. Both back: everything heals by itself."""
    cluster, servers = on_three, rethinkdb_cluster
    url = begin(cluster, "old")
    first = _primary(servers, cluster, "lock")
    first.kill()
    seconds = _until_done(
        lambda: cluster.order("provision", "new")[0] == 200, "provisioning after a failover"
    )
    record_property("failover_seconds", seconds)
    print(f"provisioning after a RethinkDB server was killed: {seconds:.2f} s")
    write(url, "INSERT INTO t VALUES (2)")
    until_blocking(lambda: cluster.order("promote", "old")[0] == 200, "promotion")
    assert cluster.canonical_rows("old", "SELECT count(*) FROM t") == [(2,)]

    second = next(server for server in servers if server is not first)
    second.kill()
    write(url, "INSERT INTO t VALUES (3)")
    for worker in cluster.workers:
        assert read(cluster.read_url(worker, "old"), COUNT) == [{"n": 3}]
    assert cluster.copies("old") != []

    first.start(*[server for server in servers if server not in (first, second)])
    second.start(*[server for server in servers if server is not second])
    until_blocking(lambda: cluster.order("promote", "old")[0] == 200, "promotion")
    assert cluster.canonical_rows("old", "SELECT count(*) FROM t") == [(3,)]
    until_blocking(lambda: cluster.order("provision", "newer")[0] == 200, "provisioning")
    cluster.wait_for_copies("old")
    cluster.wait_for_leader()


def test_workers_serve_through_a_total_loss_of_rethinkdb(on_three, rethinkdb_cluster):
    """All three killed: reads and writes of what workers hold go on; once back, everything
    goes on, and what was written meanwhile is promoted."""
    cluster, servers = on_three, rethinkdb_cluster
    url = begin(cluster, "held")
    for server in servers:
        server.kill()
    write(url, "INSERT INTO t VALUES (2)")
    for worker in cluster.readers_by_disk("held"):
        assert read(cluster.read_url(worker, "held"), COUNT) == [{"n": 2}]
    # Fewer seconds than RethinkDB is waited for where nobody waits for an answer.
    status, answer = http("POST", cluster.read_url("w1", "nowhere"), b"SELECT 1", seconds=20.0)
    assert status == 503 and b"nowhere" in answer
    assert any("unavailable" in line for line in cluster.say("w1", "1 QUERY nowhere SELECT 1"))
    servers[0].start()
    servers[1].start(servers[0])
    servers[2].start(servers[0], servers[1])
    until_blocking(lambda: cluster.order("promote", "held")[0] == 200, "promotion")
    assert cluster.canonical_rows("held", "SELECT count(*) FROM t") == [(2,)]
    until_blocking(lambda: cluster.order("provision", "newer")[0] == 200, "provisioning")
    cluster.wait_for_copies("held")


# -- HDFS fails ------------------------------------------------------------------------


def _kill(server):
    server.kill()


def _freeze(server):
    server.freeze()


def _bring_back(hdfs, server):
    if server.running:
        server.thaw()
    else:
        server.start()
    hdfs.wait()


@pytest.mark.parametrize(
    ("part", "fail"), [("namenode", _kill), ("datanode", _kill), ("namenode", _freeze)]
)
def test_a_cluster_works_on_while_hdfs_is_away(common, hdfs, part, fail):
    """Reads, writes and provisioning go on without NameNode or DataNode, dead or silent; a
    promotion is refused with the reason; once back, it reaches canonical storage and the
    other copy."""
    if not common.storage_url.startswith("webhdfs:"):
        pytest.skip("this pair of engines has no HDFS")
    cluster = common.start()
    segment = f"without-{part}{fail.__name__}"
    url = begin(cluster, segment)
    (other,) = cluster.readers(segment) - {cluster.holder(url)}
    server = getattr(hdfs, part)
    fail(server)
    try:
        write(url, "INSERT INTO t VALUES (2)")
        assert read(cluster.read_url(other, segment), COUNT) == [{"n": 2}]
        for each in (f"new-{segment}", f"newer-{segment}"):
            fresh = cluster.provision("s1", each)["write_url"]
            write(fresh, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        status, answer = cluster.order("promote", segment)
        assert status == 503, answer
        print(answer)
    finally:
        _bring_back(hdfs, server)
    until_blocking(lambda: cluster.order("promote", segment)[0] == 200, "promotion")
    until_blocking(lambda: cluster.order("promote", f"new-{segment}")[0] == 200, "promotion")
    assert cluster.canonical_rows(segment, "SELECT count(*) FROM t") == [(2,)]
    cluster.wait_for_copies(f"new-{segment}")
    path = cluster.directory / other / "segments" / canonical_path(segment)
    until_blocking(lambda: rows_of(path, "SELECT count(*) FROM t") == [(2,)], "the other copy")
    until_blocking(
        lambda: not [name for name in cluster.hand.names() if not name.endswith(".sqlite")],
        "the removal of unfinished uploads",
    )


# -- settings ----------------------------------------------------------------------------


# -- an original installation -------------------------------------------------------------


@pytest.mark.parametrize("pair", PAIRS[1:])
def test_an_original_installation_is_taken_over(tmp_path, request, pair):
    """Its tables and its files are used as they are: rows without our fields, absolute
    paths, rings by name, workers that are gone, a lock without an epoch."""
    cluster = Cluster(tmp_path, open_engines(pair, tmp_path, request), 1, 2, MOVE_GRACE="1")
    for segment in ("300001", "300002"):
        _put(cluster.hand, tmp_path, segment, 100)
    server = request.getfixturevalue("rethinkdb_server")
    with server.connect() as connection:
        _write_original_tables(connection, cluster)
    with cluster:
        cluster.start()
        for segment in ("300001", "300002"):
            readers = cluster.wait_for_copies(segment)
            assert readers == {"w1", "w2"}
            assert all(cluster.answers(name, segment, COUNT, [{"n": 1}]) for name in readers)
        assert cluster.store.schema("crawl").sql == "CREATE TABLE crawl (n)"
        url = cluster.provision("s1", "300001")["write_url"]
        write(url, "INSERT INTO t VALUES (2)")
        cluster.promote("s1", "300001")
        assert cluster.canonical_rows("300001", "SELECT count(*) FROM t") == [(2,)]
        with server.connect() as connection:
            found = r.db(cluster.metadata_url.rpartition("/")[2]).table("assignment")
            assert {row["remote_path"] for row in found.run(connection)} == {
                f"{cluster.hand.root}/{canonical_path(segment)}" for segment in ("300001", "300002")
            }
        # The lock of a worker that is gone is respected until an operator frees it.
        status, answer = cluster.order("provision", "300002")
        assert status == 503 and "free-lock" in answer
        assert cluster.admin("free-lock", "300002", "--yes").returncode == 0
        write(cluster.provision("s1", "300002")["write_url"], "INSERT INTO t VALUES (3)")
        assert cluster.canonical_rows("300002", "SELECT count(*) FROM t") == [(1,)]


def _write_original_tables(connection, cluster):
    """As the original's own code leaves them."""
    database = cluster.metadata_url.rpartition("/")[2]
    r.db_create(database).run(connection)
    for table in ("services", "schema", "lock", "assignment"):
        r.db(database).table_create(table).run(connection)
    beat = {"first_heartbeat": r.now() - 9000, "last_heartbeat": r.now() - 5000, "ttl": 2.0}
    node = {"node": "old-1", "host": "old-1", "pid": 7, "load": 0.1, "heartbeat_interval": 0.6}
    rows = {
        "schema": [{"id": "default", "sql": ""}, {"id": "crawl", "sql": "CREATE TABLE crawl (n)"}],
        "lock": [
            {"id": "write:lock:300002", "node": "old-1", "segment": "300002"}
            | {"acquired_on": r.now() - 5000}
        ],
        "assignment": [
            {
                "id": f"old-1:{segment}",
                "node": "old-1",
                "segment": segment,
                "assigned_on": r.now() - 9000,
                "remote_path": f"{cluster.hand.root}/{canonical_path(segment)}",
                "bytes": 8192,
                "hash_ring": "ring-0",
            }
            for segment in ("300001", "300002")
        ],
        "services": [
            {"id": "trough-sync-master", "role": "trough-sync-master", "port": 6111}
            | {"url": "http://old-1:6111/"} | node | beat,
            {"id": "trough-nodes:old-1:None", "role": "trough-nodes", "segment": None}
            | {"available_bytes": 10**9} | node | beat,
            {"id": "trough-read:old-1:300001", "role": "trough-read", "segment": "300001"}
            | {"port": 6444, "url": "http://old-1:6444/?segment=300001"} | node | beat,
        ],
    }  # fmt: skip
    for table, values in rows.items():
        r.db(database).table(table).insert(values).run(connection)
