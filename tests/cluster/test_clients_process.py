"""Both clients and trough-load against real processes: two workers and a sync server."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import pytest_twisted
from places import SAMPLES
from processes import Machine, until_blocking
from towns import Found, settled
from twisted.internet import defer, threads

from trough import errors, model
from trough.client import TroughClient, TroughException, TroughOutcomeUnknown, TroughSegmentNotFound
from trough.load import main as load

CRAWL = """
CREATE TABLE crawled_url (
    id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp DATETIME, status_code INTEGER, size BIGINT,
    url VARCHAR(4000), mimetype VARCHAR(255), content_digest VARCHAR(255),
    is_duplicate INTEGER(1), warc_filename VARCHAR(255), warc_offset VARCHAR(255),
    host VARCHAR(255));
"""
DEDUP = """
create table dedup (digest_key varchar(100) primary key, url varchar(2100) not null,
                    date varchar(100) not null, id varchar(100));
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and two workers, ready, with two schemas."""
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        for process in (machine.sync("s1"), machine.worker("w1"), machine.worker("w2")):
            process.wait_ready()
        with TroughClient(machine.metadata_url) as client:
            client.register_schema("crawl", CRAWL)
            client.register_schema("warcprox-dedup-v1", DEDUP)
        yield machine


def readable(client, segment, copies=1):
    """Wait until so many workers serve a segment to readers."""

    def served():
        return [row for row in client.readable_segments() if row["segment"] == segment]

    until_blocking(lambda: len(served()) >= copies, f"{copies} copies of {segment}")


# -- the blocking client -------------------------------------------------------


def test_what_the_contract_says(client):
    """Write, read, promote, look up and delete a segment, as existing programs do."""
    values = ("it's \0 \\ é", 2**63 - 1, -1.5, None, True, bytearray(b"\xff\x00"))
    client.write("300001", "CREATE TABLE v (t, i, r, n, b, x)")
    client.write("300001", "INSERT INTO v VALUES (%s, %s, %s, %s, %s, %s)", values)
    readable(client, "300001")
    expected = dict(zip("tirnbx", [*values[:4], 1, b"\xff\x00"], strict=True))
    assert client.read("300001", "SELECT * FROM v WHERE t = %s", values[:1]) == [expected]
    assert "300001.sqlite" in client.promote("300001")["remote_path"]
    assert client.read_urls_for_regex("^3000")["300001"] == client.read_url("300001")
    assert client.schema_exists("crawl") and not client.schema_exists("none")
    assert {"name": "crawl"} in list(client.schemas())
    assert client.schema("crawl") == [{"crawl": CRAWL}]
    with pytest.raises(TroughException) as refused:
        client.read("300001", "DELETE FROM v")
    assert refused.value.returned_message.startswith("500 Server Error: ")
    assert refused.value.payload == b"DELETE FROM v"
    with pytest.raises(TroughException, match="none"):
        client.write("300002", "SELECT 1", schema_id="none")
    with pytest.raises(TroughSegmentNotFound):
        client.read("nowhere", "SELECT 1")
    with pytest.raises(TroughSegmentNotFound):
        client.delete_segment("nowhere")
    with pytest.raises(TroughException):
        client.register_schema("bad", "CREATE TABLE")


def test_the_shape_of_warcprox(client):
    """What warcprox does all day: batches of byte strings in, lists of keys looked up,
    from many threads, without a duplicate and without a loss."""
    insert = "insert or ignore into dedup (digest_key, url, date, id) values " + ",".join(
        ["(%s,%s,%s,%s)"] * 500
    )
    lookup = f"select * from dedup where digest_key in ({','.join(['%s'] * 500)})"

    def keys(batch):
        # Batches overlap by half, as the same pages are captured again.
        return [f"sha1:{batch * 250 + number}".encode() for number in range(500)]

    def store(batch):
        values = [v for key in keys(batch) for v in (key, b"http://a/it's", b"2026", b"<urn:1>")]
        client.write("__unspecified__", insert, values, "warcprox-dedup-v1")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(store, range(40)))
    readable(client, "__unspecified__")
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda b: client.read("__unspecified__", lookup, keys(b)), range(40)))
    assert [len(rows) for rows in found] == [500] * 40
    assert found[0][0]["url"] == "http://a/it's"
    [count] = client.read("__unspecified__", "select count(*) as n from dedup")
    assert count == {"n": 39 * 250 + 500}


def test_promotion_in_rounds(machine):
    """With an interval, what was written becomes a canonical copy by itself."""
    with TroughClient(machine.metadata_url, promotion_interval=0.2) as client:
        client.write("rounds", "CREATE TABLE t AS SELECT 1 AS a")
        path = machine.canonical / model.canonical_path("rounds")
        until_blocking(path.exists, "the canonical copy")
    with sqlite3.connect(path) as copy:
        assert copy.execute("SELECT a FROM t").fetchall() == [(1,)]


@pytest.mark.parametrize(("name", "columns"), [("iana.cdxj", 171), ("zipnum-sample.cdx", 114)])
def test_real_crawls_answer_as_sqlite3_does(machine, client, tmp_path, name, columns):
    """Real captures, loaded and promoted: the same answers as sqlite3 on the file."""
    if not (SAMPLES / name).exists():
        pytest.skip(f"no real crawl data: {SAMPLES / name} is not there")
    segment = name.partition(".")[0]
    arguments = ["-u", machine.metadata_url, "--segment", segment, "--schema", "crawl"]
    assert load.main([*arguments, str(SAMPLES / name)]) in (load.ALL_LOADED, load.SOME_SKIPPED)
    client.promote(segment)
    readable(client, segment)
    queries = (
        "SELECT * FROM crawled_url ORDER BY id",
        "SELECT host, status_code, count(*), sum(size) FROM crawled_url GROUP BY 1, 2",
        "SELECT count(*) AS n FROM crawled_url",
    )
    path = machine.canonical / model.canonical_path(segment)
    with sqlite3.connect(path) as file:
        file.row_factory = sqlite3.Row
        for query in queries:
            assert client.read(segment, query) == [dict(row) for row in file.execute(query)]
        assert file.execute(queries[-1]).fetchone()["n"] == columns


# -- the Twisted client --------------------------------------------------------


def segments(count, prefix):
    return [f"{prefix}{number}" for number in range(count)]


@pytest_twisted.ensureDeferred
async def test_the_cluster_writes_and_reads(cluster):
    """Writes go to the lock's holder, and a query answers for each segment."""
    names = segments(20, "many")
    for name in names:
        await cluster.write(name, "CREATE TABLE IF NOT EXISTS t (a, b)")
        assert (
            await cluster.write(name, "INSERT INTO t VALUES (?, ?), (2, x'ff')", [name, 1e999]) == 2
        )
    found = Found()
    query = cluster.query([*names, "nowhere"], "SELECT a, b FROM t", listener=found)
    tally = await settled(query.done)
    assert found.rows_of == {n: [[n, float("inf")], [2, b"\xff"]] for n in names}
    assert set(found.names_of.values()) == {("a", "b")}
    assert (tally.answered, tally.rows) == (20, 40)
    assert set(tally.failed) == {"nowhere"}
    with pytest.raises(errors.BadSql):
        await cluster.write(names[0], "INSERT INTO nothing VALUES (1)")
    assert (await cluster.status())["leader"]
    matched = [page async for page in cluster.matching("^many1")]
    assert sorted(name for page in matched for name in page) == [
        "many1",
        *segments(20, "many")[10:],
    ]


@pytest_twisted.ensureDeferred
async def test_orders(cluster, machine):
    """Promote and delete by way of the sync server's line protocol."""
    await cluster.put_schema(model.Schema("s", "CREATE TABLE t (a);"))
    assert (await cluster.schema("s")).sql == "CREATE TABLE t (a);"
    await cluster.write("ordered", "INSERT INTO t VALUES (1)", schema="s")
    with pytest.raises(errors.LockHeld):
        await cluster.delete("ordered")
    promoted = await cluster.promote("ordered")
    assert promoted["remote_path"] == str(machine.canonical / model.canonical_path("ordered"))
    with pytest.raises(errors.NotFound):
        await cluster.delete("nowhere")


@pytest_twisted.ensureDeferred
async def test_an_endless_query_can_be_cancelled(cluster):
    """A cancelled query ends on the worker, which then answers as quickly as ever."""
    await cluster.write("endless", "CREATE TABLE t (a)")
    endless = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT n FROM c"
    found = Found()
    query = cluster.query(["endless"], endless, listener=found)
    await found.happens("rows", "endless")
    query.cancel()
    with pytest.raises(errors.Cancelled):
        await settled(query.done)
    again = Found()
    await settled(cluster.query(["endless"], "SELECT 1", listener=again).done)
    assert again.rows_of == {"endless": [[1]]}


@pytest_twisted.ensureDeferred
async def test_a_paused_query_goes_on_where_it_stopped(cluster):
    """Of a paused query's many rows some have come; after the pause, all of them, once."""
    await cluster.write("long", "CREATE TABLE t (a)")
    sql = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 300000) "
        "SELECT n FROM c"
    )
    found = Found()
    query = cluster.query(["long"], sql, listener=found)
    await found.happens("rows", "long")
    query.pause()
    assert len(found.rows_of.get("long", [])) < 300_000
    query.resume()
    await settled(query.done)
    assert found.rows_of["long"] == [[n] for n in range(1, 300_001)]


@pytest_twisted.ensureDeferred
async def test_a_worker_killed_in_the_middle_costs_no_row(machine, cluster, client):
    """kill -9 of a worker under a query: every segment's rows come, each once."""
    names = segments(40, "dropped")
    for name in names:
        drop(machine.canonical, name)
    for name in names:
        await threads.deferToThread(readable, client, name, 2)
    # Long enough to be cut off, with rows of the segment that no other has.
    sql = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 20000) "
        "SELECT a, n FROM t, c"
    )
    found = Found()
    query = cluster.query(names, sql, listener=found)
    killed = machine.processes["w2"]
    first = await first_row(found, names)
    assert first in names
    killed.kill()
    tally = await settled(query.done)
    try:
        assert tally.failed == {}
        for name in names:
            assert found.rows_of[name] == [[name, n] for n in range(1, 20_001)]
    finally:
        machine.worker("w2").wait_ready()


def drop(canonical, name):
    """Put a segment into canonical storage, by hand."""
    canonical.mkdir(exist_ok=True)
    unfinished = canonical / f".{name}.sqlite"
    with contextlib.closing(sqlite3.connect(unfinished)) as database:
        database.execute(f"CREATE TABLE t AS SELECT '{name}' AS a")
    unfinished.rename(canonical / f"{name}.sqlite")


def first_row(found, names):
    """The segment of which rows come first."""
    waiting = [found.happens("rows", name).addCallback(lambda _, n=name: n) for name in names]
    first = defer.DeferredList(waiting, fireOnOneCallback=True)

    def done(result):
        for deferred in waiting:
            deferred.addErrback(lambda _: None)
            deferred.cancel()
        return result[0]

    return first.addCallback(done)


def test_writes_are_what_the_client_says_whoever_dies(tmp_path, monkeypatch):
    """kill -9 of the only worker under many writers: what was answered is there, once;
    what failed is not there; what is unknown is there once or not at all."""
    monkeypatch.setattr("trough.client.QUERY_SECONDS", 60.0)
    unanswered = []
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        with TroughClient(machine.metadata_url) as client:
            client.write("s", "CREATE TABLE t (a INTEGER)")
            outcomes, enough = {}, threading.Event()

            def write_many(first):
                for number in range(first, first + 60):
                    try:
                        client.write("s", "INSERT INTO t VALUES (%s)", (number,))
                        outcomes[number] = "answered"
                    except TroughOutcomeUnknown as error:
                        outcomes[number] = "unknown"
                        if "no answer in" in str(error):
                            unanswered.append(str(error))
                    except TroughException:
                        outcomes[number] = "failed"
                    if len(outcomes) >= 100:
                        enough.set()

            with ThreadPoolExecutor(8) as pool:
                writing = [pool.submit(write_many, first * 1000) for first in range(8)]
                assert enough.wait(60)
                machine.processes["w1"].kill()
                machine.worker("w1").wait_ready()
                for each in writing:
                    each.result()
            client.write("s", "INSERT INTO t VALUES (-1)")
            readable(client, "s")
            rows = [row["a"] for row in client.read("s", "SELECT a FROM t")]
    assert unanswered == [], "a live worker forgot a write"
    assert len(rows) == len(set(rows)), "a row was written twice"
    said = {kind: {n for n, k in outcomes.items() if k == kind} for kind in set(outcomes.values())}
    assert said["answered"] <= set(rows)
    assert not said.get("failed", set()) & set(rows)
    assert set(rows) - {-1} <= said["answered"] | said.get("unknown", set())
    assert len(said["answered"]) < len(outcomes), "nothing was cut off"


def test_no_thread_is_left_behind(machine):
    """A client that was closed leaves no thread of its own, promoter included."""
    client = TroughClient(machine.metadata_url, promotion_interval=0.01)
    client.close()
    until_blocking(
        lambda: "TroughClient-promoter" not in {t.name for t in threading.enumerate()},
        "the promoter's end",
    )
