"""The blocking client, against real registries and real small servers."""

import asyncio
import datetime
import json
import subprocess
import sys
import threading

import pytest
import pytest_twisted
from processes import free_ports
from towns import say_known
from twisted.internet import defer, reactor, threads
from waiting import EXPECTED_WITHIN
from web_servers import ClosingServer, HastyServer, WebServer

from trough import model
from trough.client import TroughClient, TroughException, TroughOutcomeUnknown, TroughSegmentNotFound
from trough.metadata.sqlite.store import SqliteMetadata


class Cluster:
    """A real registry in which a test writes down the servers that it runs."""

    def __init__(self, path) -> None:
        self.url = f"sqlite://{path}/registry.db"
        self.metadata = SqliteMetadata(path / "registry.db", reactor)
        self._clients = []

    async def lead(self, url: str) -> None:
        """Make a server at `url` the leader."""
        leader = model.Leader("sync", url, url=url, ttl=3600.0)
        former = await self.metadata.leader()
        if former is not None:
            await self.metadata.resign(former)
        await self.metadata.campaign(leader)

    async def serve(self, segment: str, *urls: str) -> None:
        """Publish copies of `segment`, the least loaded worker's first."""
        copies = [
            model.Copy(segment, f"w{place}", model.READ, url, load=float(place))
            for place, url in enumerate(urls)
        ]
        await self.metadata.publish_copies(copies)

    def client(self, **options) -> TroughClient:
        """A client of this cluster, that is closed after the test."""
        client = TroughClient(self.url, **options)
        self._clients.append(client)
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        await self.metadata.close()


@pytest_twisted.async_yield_fixture
async def cluster(tmp_path):
    """A registry, and clients of it."""
    cluster = Cluster(tmp_path)
    await cluster.metadata.open()
    yield cluster
    await cluster.close()


def rows(*found, status=200, **headers):
    """An answer function that always answers these rows."""
    return lambda *asked: (status, json.dumps(found).encode())


def away(call, *arguments, **options):
    """Call a blocking function on another thread, while the reactor serves it."""
    return threads.deferToThread(call, *arguments, **options).addTimeout(EXPECTED_WITHIN, reactor)


async def failing(exception, call, *arguments):
    """The exception of this kind that a call ends with."""
    with pytest.raises(exception) as caught:
        await away(call, *arguments)
    return caught.value


# -- reading -------------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_read_posts_the_sql_and_answers_dicts(cluster):
    """A read is one POST of the filled-in SQL to the copy's URL, and gives dicts."""
    async with WebServer(reactor, rows({"a": 1, "b": None})) as worker:
        await cluster.serve("300001", f"{worker.url}?segment=300001")
        found = await away(
            cluster.client().read, "300001", "SELECT * FROM t WHERE u = %s", ("it's",)
        )
        assert found == [{"a": 1, "b": None}]
        assert worker.requests == [
            ("POST", "/?segment=300001", b"SELECT * FROM t WHERE u = 'it''s'")
        ]


@pytest_twisted.ensureDeferred
async def test_what_json_has_no_word_for_comes_back_as_python_has_it(cluster):
    """BLOBs are bytes and infinities floats, while a text column named blob stays one."""
    body = b'[{"x": {"blob":"AP8="}, "r": -9e999, "blob": "AP8=", "n": 9223372036854775807}]'
    async with WebServer(reactor, lambda *asked: (200, body)) as worker:
        await cluster.serve("s", worker.url)
        assert await away(cluster.client().read, "s", "SELECT 1") == [
            {"x": b"\x00\xff", "r": float("-inf"), "blob": "AP8=", "n": 2**63 - 1}
        ]


@pytest_twisted.ensureDeferred
async def test_connections_are_kept(cluster):
    """One thread's reads go over one connection."""
    async with WebServer(reactor, rows()) as worker:
        await cluster.serve("s", worker.url)
        client = cluster.client()
        for _ in range(5):
            await away(client.read, "s", "SELECT 1")
        assert len(worker.requests) == 5
        assert len(worker.resource.connections) == 1


@pytest_twisted.ensureDeferred
async def test_a_connection_that_the_server_closed_is_not_used_again(cluster):
    """A server that dropped its idle connections is asked over a new one, once."""
    async with WebServer(reactor, rows({"a": 1})) as worker:
        await cluster.serve("s", worker.url)
        client = cluster.client()
        await away(client.read, "s", "SELECT 1")
        await worker.drop_connections()
        assert await away(client.read, "s", "SELECT 2") == [{"a": 1}]
        assert [body for _, _, body in worker.requests] == [b"SELECT 1", b"SELECT 2"]


@pytest_twisted.ensureDeferred
async def test_a_dead_worker_is_read_around(cluster):
    """With one worker gone, the other copy answers, and is remembered."""
    (dead,) = free_ports(1)
    async with WebServer(reactor, rows({"a": 1})) as worker:
        await cluster.serve("s", f"http://127.0.0.1:{dead}/", worker.url)
        client = cluster.client()
        assert await away(client.read, "s", "SELECT 1") == [{"a": 1}]
        assert client.read_url("s") == worker.url


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n[{"], ids=["silent", "cut off"]
)
@pytest_twisted.ensureDeferred
async def test_a_read_without_a_whole_answer_is_asked_elsewhere(cluster, said):
    """A worker that dies over a read, before or amid the answer, is read around."""
    async with ClosingServer(reactor, said) as dying, WebServer(reactor, rows({"a": 1})) as other:
        await cluster.serve("s", dying.url, other.url)
        assert await away(cluster.client().read, "s", "SELECT 1") == [{"a": 1}]
        assert len(dying.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_remembered_url_that_went_stale_is_looked_up_anew(cluster):
    """A worker that lost its copy answers an error; the present copy is found and asked."""
    gone = []

    def answer(*asked):
        if gone:
            return 500, b"500 Server Error: no such file\n"
        return 200, b"[]"

    async with WebServer(reactor, answer) as old, WebServer(reactor, rows({"a": 1})) as new:
        await cluster.serve("s", old.url)
        client = cluster.client()
        assert await away(client.read, "s", "SELECT 1") == []
        gone.append(True)
        await cluster.serve("s", new.url)
        assert await away(client.read, "s", "SELECT 1") == [{"a": 1}]


@pytest_twisted.ensureDeferred
async def test_bad_sql_is_asked_once_and_told(cluster):
    """The caller's mistake is not repeated, and the exception has all there is to know."""
    refusal = b'500 Server Error: near "SELEC": syntax error\n'
    async with WebServer(reactor, lambda *asked: (400, refusal)) as worker:
        await cluster.serve("s", worker.url)
        error = await failing(TroughException, cluster.client().read, "s", "SELEC")
        assert error.payload == b"SELEC"
        assert error.returned_message == refusal.decode()
        assert "400" in str(error) and worker.url in str(error)
        assert len(worker.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_segment_nowhere_is_not_found(cluster):
    """No copy: TroughSegmentNotFound, naming the segment."""
    for call in (cluster.client().read_url, lambda name: cluster.client().read(name, "SELECT 1")):
        error = await failing(TroughSegmentNotFound, call, "300404")
        assert "300404" in str(error)


@pytest_twisted.ensureDeferred
async def test_an_answer_that_is_not_json_is_an_error(cluster):
    """A response of status 200 whose array has no end is no result."""
    async with WebServer(reactor, lambda *asked: (200, b'[{"a": 1},')) as worker:
        await cluster.serve("s", worker.url)
        await failing(TroughException, cluster.client().read, "s", "SELECT 1")


@pytest_twisted.ensureDeferred
async def test_async_read_runs_on_asyncio(cluster):
    """Several async_reads of one asyncio loop answer what read answers."""
    async with WebServer(reactor, rows({"a": 1})) as worker:
        await cluster.serve("s", worker.url)
        client = cluster.client()

        async def several():
            return await asyncio.gather(*(client.async_read("s", "SELECT 1") for _ in range(8)))

        assert await away(asyncio.run, several()) == [[{"a": 1}]] * 8


@pytest_twisted.ensureDeferred
async def test_a_read_waits_while_the_only_worker_restarts(cluster):
    """A crawler takes a failed read for an empty one; this segment is known to be written."""
    client, looked = cluster.client(), defer.Deferred()
    client.failover_pause = 0.05
    client.failover_seconds = EXPECTED_WITHIN
    await cluster.metadata.take_lock("s", "w0")
    find = client.read_url

    def noticed(segment):
        try:
            return find(segment)
        finally:
            reactor.callFromThread(lambda: looked.called or looked.callback(None))

    client.read_url = noticed
    async with WebServer(reactor, rows({"a": 1})) as worker:
        asking = away(client.read, "s", "SELECT 1")
        await looked
        await cluster.serve("s", f"http://127.0.0.1:{free_ports(1)[0]}/")  # as it stops
        await cluster.serve("s", worker.url)
        assert await asking == [{"a": 1}]


# -- writing -------------------------------------------------------------------


class Sync:
    """Answers like a sync server: provisions to the next of some URLs."""

    def __init__(self, *write_urls) -> None:
        self.write_urls = list(write_urls)

    def __call__(self, method, uri, body):
        assert (method, uri) == ("POST", "/provision")
        url = self.write_urls.pop(0) if len(self.write_urls) > 1 else self.write_urls[0]
        return 200, json.dumps({"write_url": url, "result": "success"}).encode()


@pytest_twisted.ensureDeferred
async def test_write_provisions_once_and_posts(cluster):
    """The first write provisions with the schema, the next ones go straight there."""
    async with WebServer(reactor, lambda *asked: (200, b"OK\n")) as worker:
        async with WebServer(reactor, Sync(worker.url)) as sync:
            await cluster.lead(sync.url)
            client = cluster.client()
            for value in (1, 2):
                await away(client.write, "s", "INSERT INTO t VALUES (%s)", (value,), "crawl")
            assert [json.loads(body) for _, _, body in sync.requests] == [
                {"segment": "s", "schema": "crawl"}
            ]
            assert [body for _, _, body in worker.requests] == [
                b"INSERT INTO t VALUES (1)",
                b"INSERT INTO t VALUES (2)",
            ]


@pytest.mark.parametrize(
    "refusal",
    [
        (503, b"500 Server Error: whatever\n", ("x-trough-error", "no-lock")),
        (500, b"500 Server Error: cannot write. There is no write lock set, or ...\n"),
    ],
    ids=["by code", "original"],
)
@pytest_twisted.ensureDeferred
async def test_a_write_refused_for_want_of_the_lock_is_repeated_at_the_holder(cluster, refusal):
    """Refused with no lock, nothing was written: provision again, write there."""
    async with WebServer(reactor, lambda *asked: refusal) as former:
        async with WebServer(reactor, lambda *asked: (200, b"OK\n")) as holder:
            async with WebServer(reactor, Sync(former.url, holder.url)) as sync:
                await cluster.lead(sync.url)
                await away(cluster.client().write, "s", "INSERT INTO t VALUES (1)")
                assert len(former.requests) == len(holder.requests) == 1
                assert len(sync.requests) == 2


@pytest.mark.parametrize("answer", [b"<p>Welcome!", b"[]", b"{}", b'{"write_url": null}'])
@pytest_twisted.ensureDeferred
async def test_an_answer_that_no_sync_server_gives(cluster, answer):
    """As something between may give it: told by the exception that callers catch."""
    async with WebServer(reactor, lambda *asked: (200, answer)) as sync:
        await cluster.lead(sync.url)
        error = await failing(TroughException, cluster.client().write, "s", "SELECT 1")
    assert "unexpected response 200" in str(error)
    assert error.returned_message == answer.decode()


@pytest_twisted.ensureDeferred
async def test_a_write_that_was_never_sent_is_repeated(cluster):
    """A worker that takes no connection has written nothing: ask for the holder again."""
    (dead,) = free_ports(1)
    async with WebServer(reactor, lambda *asked: (200, b"OK\n")) as holder:
        async with WebServer(reactor, Sync(f"http://127.0.0.1:{dead}/", holder.url)) as sync:
            await cluster.lead(sync.url)
            await away(cluster.client().write, "s", "INSERT INTO t VALUES (1)")
            assert len(holder.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_write_without_an_answer_is_not_repeated(cluster):
    """No answer: it may be on disk. The caller is told, and nobody writes twice."""
    async with ClosingServer(reactor) as dying:
        async with WebServer(reactor, Sync(dying.url)) as sync:
            await cluster.lead(sync.url)
            error = await failing(
                TroughOutcomeUnknown, cluster.client().write, "s", "INSERT INTO t VALUES (1)"
            )
            assert error.payload == b"INSERT INTO t VALUES (1)"
            assert len(dying.requests) == 1


@pytest_twisted.ensureDeferred
async def test_a_write_does_not_meet_the_closing_of_a_kept_connection(cluster):
    """A server that drops idle connections makes no write's outcome unknown."""
    async with WebServer(reactor, lambda *asked: (200, b"OK\n")) as worker:
        async with WebServer(reactor, Sync(worker.url)) as sync:
            await cluster.lead(sync.url)
            client = cluster.client()
            for value in (1, 2):
                await away(client.write, "s", "INSERT INTO t VALUES (%s)", (value,))
                await worker.drop_connections()
            assert len(worker.requests) == 2


@pytest_twisted.ensureDeferred
async def test_a_write_cut_off_on_its_way_is_known_not_to_have_happened(cluster):
    """A server that closes before it had the whole body cannot have carried it out."""
    async with HastyServer(reactor) as hasty:
        async with WebServer(reactor, Sync(hasty.url)) as sync:
            await cluster.lead(sync.url)
            sql = "INSERT INTO t VALUES ('" + "x" * 32_000_000 + "')"
            error = await failing(TroughException, cluster.client().write, "s", sql)
    assert not isinstance(error, TroughOutcomeUnknown)
    assert "nothing was written" in str(error)
    assert len(str(error)) < 1000
    assert hasty.connections == 2


@pytest_twisted.ensureDeferred
async def test_a_refused_write_raises_and_forgets_the_url(cluster):
    """A write that is not SQL is not repeated; the next write asks where to go again."""
    async with WebServer(reactor, lambda *asked: (400, b"500 Server Error: no\n")) as worker:
        async with WebServer(reactor, Sync(worker.url)) as sync:
            await cluster.lead(sync.url)
            client = cluster.client()
            for _ in range(2):
                error = await failing(TroughException, client.write, "s", "INSERT INTO")
                assert not isinstance(error, TroughOutcomeUnknown)
                assert error.returned_message == "500 Server Error: no\n"
            assert len(worker.requests) == len(sync.requests) == 2


@pytest_twisted.ensureDeferred
async def test_values_that_do_not_fit_change_nothing(cluster):
    """A template with too few values is refused before anything is sent or provisioned."""
    async with WebServer(reactor, Sync("http://127.0.0.1:1/")) as sync:
        await cluster.lead(sync.url)
        error = await failing(
            TroughException, cluster.client().write, "s", "INSERT INTO t VALUES (%s, %s)", (1,)
        )
        assert "one %s for each value" in str(error)
        assert sync.requests == []


def test_a_value_that_sql_has_no_text_for_is_refused_as_the_original_does():
    """With the exception that callers know."""
    assert TroughClient.sql_value("it's") == "'it''s'"
    for value in (object(), 2**63):
        with pytest.raises(TroughException):
            TroughClient.sql_value(value)


@pytest_twisted.ensureDeferred
async def test_the_shape_of_warcprox(cluster):
    """Inserts of 500 rows of 4 byte strings and IN lists of 500, from many threads at once."""
    stored, lock = [], threading.Lock()

    def answer(method, uri, body):
        with lock:
            stored.append(body)
        return (200, b"OK\n") if body.startswith(b"insert") else (200, b"[]")

    template = "insert or ignore into dedup (digest_key, url, date, id) values " + ",".join(
        ["(%s,%s,%s,%s)"] * 500
    )
    values = [b"sha1:AAAA", b"http://example.com/it's", b"2026-01-01T00:00:00Z", b"<urn:uuid:1>"]
    lookup = "select * from dedup where digest_key in (" + ",".join(["%s"] * 500) + ")"
    keys = dict.fromkeys(f"sha1:{number}".encode() for number in range(500)).keys()
    async with WebServer(reactor, answer) as worker:
        async with WebServer(reactor, Sync(worker.url)) as sync:
            await cluster.lead(sync.url)
            await cluster.serve("__unspecified__", worker.url)
            client = cluster.client()
            calls = []
            for _ in range(10):
                calls.append(
                    away(client.write, "__unspecified__", template, values * 500, "dedup-v1")
                )
                calls.append(away(client.read, "__unspecified__", lookup, keys))
            await defer.gatherResults(calls, consumeErrors=True)
    inserts = [body for body in stored if body.startswith(b"insert")]
    assert len(inserts) == len(stored) - len(inserts) == 10
    assert inserts[0].count(b"('sha1:AAAA','http://example.com/it''s','2026") == 500


@pytest_twisted.ensureDeferred
async def test_the_token_is_shown_to_every_server(cluster, monkeypatch):
    """AUTH_TOKEN of the environment reaches servers through an unmodified program."""
    monkeypatch.setenv("AUTH_TOKEN", "open-sesame")
    async with ClosingServer(reactor, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]") as worker:
        await cluster.serve("s", worker.url)
        await away(cluster.client().read, "s", "SELECT 1")
        assert b"\r\nAuthorization: Bearer open-sesame\r\n" in worker.requests[0]


# -- the sync server -----------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_a_lost_leader_is_waited_for(cluster):
    """While the leader's place is empty or its server gone, a write waits for the next."""
    client = cluster.client()
    client.failover_pause = 0.05
    client.failover_seconds = EXPECTED_WITHIN
    looked = defer.Deferred()
    ask = client.segment_manager_url

    def noticed():
        try:
            return ask()
        finally:
            reactor.callFromThread(lambda: looked.called or looked.callback(None))

    client.segment_manager_url = noticed
    async with WebServer(reactor, Sync("http://127.0.0.1:9/")) as sync:
        await cluster.lead(f"http://127.0.0.1:{free_ports(1)[0]}/")
        asked = away(client.write_url, "s")
        await looked
        await cluster.lead(sync.url)
        assert await asked == "http://127.0.0.1:9/"


@pytest_twisted.ensureDeferred
async def test_no_leader_is_an_error_after_a_while(cluster):
    """Nobody leads: segment_manager_url says so at once, an order after its patience."""
    client = cluster.client()
    client.failover_seconds = 0
    await failing(TroughException, client.segment_manager_url)
    error = await failing(TroughException, client.write, "s", "INSERT INTO t VALUES (1)")
    assert "no healthy trough-sync-master" in str(error)


@pytest_twisted.ensureDeferred
async def test_a_server_that_does_not_lead_may_redirect(cluster):
    """A redirect that keeps the method is followed, body and all."""
    async with WebServer(reactor, Sync("http://127.0.0.1:9/")) as leader:
        there = ("location", f"{leader.url}provision")
        async with WebServer(reactor, lambda *asked: (307, b"", there)) as other:
            await cluster.lead(other.url)
            assert await away(cluster.client().write_url, "s") == "http://127.0.0.1:9/"


@pytest_twisted.ensureDeferred
async def test_orders_to_the_sync_server(cluster):
    """Promotion, deletion and schemas are the calls and statuses of the contract."""
    answers = {
        ("POST", "/promote"): (200, b'{"remote_path": "/x/s.sqlite"}'),
        ("DELETE", "/segment/s"): (204, b""),
        ("DELETE", "/segment/nowhere"): (404, b"{}"),
        ("DELETE", "/segment/locked"): (400, b'{"error": "locked"}'),
        ("GET", "/schema/crawl"): (200, b"{}"),
        ("GET", "/schema/none"): (404, b"{}"),
        ("GET", "/schema/a%2Fb%3F"): (404, b"{}"),
        ("PUT", "/schema/crawl/sql"): (201, b""),
        ("PUT", "/schema/bad/sql"): (400, b'{"error": "syntax"}'),
    }
    async with WebServer(reactor, lambda method, uri, body: answers[method, uri]) as sync:
        await cluster.lead(sync.url)
        client = cluster.client()
        assert client.segment_manager_url() == sync.url
        assert (await away(client.promote, "s"))["remote_path"] == "/x/s.sqlite"
        assert await away(client.delete_segment, "s") is None
        await failing(TroughSegmentNotFound, client.delete_segment, "nowhere")
        assert "locked" in str(await failing(TroughException, client.delete_segment, "locked"))
        assert await away(client.schema_exists, "crawl") is True
        assert await away(client.schema_exists, "none") is False
        assert await away(client.schema_exists, "a/b?") is False
        await away(client.register_schema, "crawl", "CREATE TABLE t (a);")
        assert sync.requests[-1][2] == b"CREATE TABLE t (a);"
        await failing(TroughException, client.register_schema, "bad", "CREATE")


# -- the metadata store --------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_what_the_registry_tells(cluster):
    """Readable segments, URLs by pattern and schemas have the original's shapes."""
    await cluster.serve("300001", "http://a/", "http://b/")
    await cluster.serve("300002", "http://c/")
    await cluster.serve("x", "http://d/")
    await cluster.metadata.put_schema(model.Schema("crawl", "CREATE TABLE t (a);"))
    client = cluster.client()
    assert client.read_urls_for_regex("^3000") == {"300001": "http://a/", "300002": "http://c/"}
    found = list(client.readable_segments())
    assert sorted(row["segment"] for row in found) == ["300001", "300001", "300002", "x"]
    assert set(found[0]) == {"segment", "url", "first_heartbeat", "last_heartbeat"}
    assert found[0]["last_heartbeat"].tzinfo is datetime.UTC
    assert [row["segment"] for row in client.readable_segments(regex="x$")] == ["x"]
    assert {"name": "crawl"} in list(client.schemas())
    assert client.schema("crawl") == [{"crawl": "CREATE TABLE t (a);"}]
    assert client.schema("none") is None
    with pytest.raises(TroughException):
        client.read_urls_for_regex("(")


@pytest_twisted.ensureDeferred
async def test_a_pattern_leaves_nothing_out_in_silence(cluster, caplog):
    """What exists and cannot be read is logged, and on demand an error."""
    await cluster.serve("300001", "http://a/")
    await cluster.metadata.take_lock("300002", "w9")
    await say_known(cluster.metadata)
    client = cluster.client()
    urls = {"300001": "http://a/"}
    assert client.read_urls_for_regex("^3000") == urls
    assert "1 segment of '^3000' cannot be read now: 300002" in caplog.text
    with pytest.raises(TroughException, match="cannot be read now: 300002"):
        client.read_urls_for_regex("^3000", strict=True)
    caplog.clear()
    assert client.read_urls_for_regex("1$", strict=True) == urls
    assert not caplog.text
    assert [row["segment"] for row in client.readable_segments()] == ["300001"]
    assert "cannot be read now: 300002" in caplog.text
    await say_known(cluster.metadata, False)
    with pytest.raises(TroughException, match="there may be more segments that match '1\\$'"):
        client.read_urls_for_regex("1$", strict=True)


def test_a_url_that_means_no_store_is_refused_at_once():
    """The constructor connects to nothing, and yet refuses what can never work."""
    with pytest.raises(TroughException, match="mysql"):
        TroughClient("mysql://host/database")
    for url in (None, b"sqlite:///registry.db", ""):  # of a setting that is missing, say
        with pytest.raises(TroughException, match="not a metadata store's URL"):
            TroughClient(url)
    TroughClient("sqlite:///nowhere/at/all/registry.db").close()


def test_a_registry_that_is_not_there_is_an_error_of_the_client():
    """What the metadata store raises is a TroughException to callers."""
    with TroughClient("sqlite:///nowhere/at/all/registry.db") as client:
        with pytest.raises(TroughException, match="registry"):
            client.read("s", "SELECT 1")


def test_importing_the_client_loads_no_twisted_and_no_server():
    """Programs that write to Trough get neither a reactor nor servers into memory."""
    code = (
        "import sys, trough.client; "
        "print(*sorted(name for name in sys.modules if name.startswith(('twisted', 'trough'))))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    assert not [name for name in found if name.startswith("twisted")]
    assert not {
        "trough.worker.controller",
        "trough.sync",
        "trough.worker.queries",
        "trough.settings",
    } & set(found)


# -- promotion -----------------------------------------------------------------


@pytest_twisted.ensureDeferred
async def test_the_promotion_thread_promotes_what_was_written(cluster):
    """With an interval, each segment written to is promoted, again after a failure."""
    promoted = defer.DeferredQueue()

    first = []

    def sync(method, uri, body):
        if uri == "/provision":
            return 200, json.dumps({"write_url": worker.url}).encode()
        promoted.put(json.loads(body)["segment"])
        if not first:
            first.append(True)
            return 503, b"storage is away"
        return 200, b"{}"

    async with WebServer(reactor, lambda *asked: (200, b"OK\n")) as worker:
        async with WebServer(reactor, sync) as leader:
            await cluster.lead(leader.url)
            client = cluster.client(promotion_interval=0.05)
            await away(client.write, "s", "INSERT INTO t VALUES (1)")
            for _ in range(2):  # the first one fails
                assert await promoted.get().addTimeout(EXPECTED_WITHIN, reactor) == "s"
            names = {thread.name for thread in threading.enumerate() if thread.daemon}
            assert "TroughClient-promoter" in names
