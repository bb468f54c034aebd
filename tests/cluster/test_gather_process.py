"""GATHER on real processes, asked in all four ways: the Twisted client, the line protocol,
HTTP and the blocking client. What it has to answer is what sqlite3 says about the union."""

from __future__ import annotations

import base64
import json
import sqlite3

import pytest
import pytest_twisted
from processes import Machine, http, until_blocking
from towns import settled
from twisted.internet import defer, protocol, reactor, threads
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

from trough import errors
from trough.client import TroughClient, TroughException
from trough.cluster_client.client import Cluster
from trough.cluster_client.gather import AT_ONCE
from trough.metadata.open import open_metadata
from trough.protocols.line.client import connect

NAMES = [f"g{number}" for number in range(6)]
TABLE = "CREATE TABLE page (host TEXT, size INTEGER, score REAL, digest BLOB)"
QUERIES = [
    "SELECT host, count(*), sum(size), avg(score) FROM page GROUP BY host ORDER BY 2 DESC, 1",
    "SELECT host, size FROM page WHERE size > 40 ORDER BY size DESC, host LIMIT 7 OFFSET 2",
    "SELECT DISTINCT host, digest FROM page ORDER BY 1, 2",
    "SELECT a.host, count(*) AS n FROM page AS a JOIN page AS b USING (size) GROUP BY 1 "
    "HAVING n > 1 ORDER BY 1",
    "SELECT count(*), max(size), min(host), total(score) FROM page WHERE host IS NULL",
    "SELECT 9e999 AS infinite, x'00ff' AS bytes, NULL AS missing",
    "SELECT size FROM page WHERE size > 1000000",
]


def rows_of(number):
    """The rows of one segment; the last one has none."""
    if number == len(NAMES) - 1:
        return []
    hosts = ["a.example", "b.example", None, 'quo"te\n']
    return [
        (hosts[(number + row) % 4], number * 10 + row, row / 8, bytes([row % 3]))
        for row in range(12)
    ]


@pytest.fixture(scope="module")
def union():
    """One database with the rows of all segments."""
    database = sqlite3.connect(":memory:", check_same_thread=False)
    database.execute(TABLE)
    for number in range(len(NAMES)):
        database.executemany("INSERT INTO page VALUES (?, ?, ?, ?)", rows_of(number))
    return database


def _written(value):
    """A value as the client takes it: bytes would be a text."""
    return bytearray(value) if isinstance(value, bytes) else value


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and two workers with the segments."""
    with Machine(tmp_path_factory.mktemp("gather"), MINIMUM_ASSIGNMENTS="1") as machine:
        for process in (machine.sync("s1"), machine.worker("w1"), machine.worker("w2")):
            process.wait_ready()
        with TroughClient(machine.metadata_url) as client:
            client.register_schema("pages", TABLE)
            for number, name in enumerate(NAMES):
                rows = rows_of(number)
                sql = "INSERT INTO page VALUES " + ",".join(["(%s,%s,%s,%s)"] * len(rows))
                values = [_written(value) for row in rows for value in row]
                # The empty segment has its table and nothing in it.
                client.write(name, sql if rows else "DELETE FROM page", values, "pages")
            until_blocking(
                lambda: set(NAMES) <= {row["segment"] for row in client.readable_segments()},
                "all segments readable",
            )
        yield machine


@pytest_twisted.async_yield_fixture
async def line(machine):
    """A connection to the sync server's line protocol."""
    port = int(machine.processes["s1"].settings["SYNC_LINE_PORT"])
    connection = await connect(TCP4ClientEndpoint(reactor, "127.0.0.1", port), reactor)
    yield connection
    await connection.close()


def post(machine, **body):
    """Status and decoded answer of POST /gather."""
    url = machine.url("s1", "SYNC_SERVER_PORT") + "gather"
    status, answer = http("POST", url, json.dumps(body).encode())
    return status, json.loads(answer)


@pytest.mark.parametrize("sql", QUERIES)
@pytest_twisted.ensureDeferred
async def test_all_four_ways_say_what_sqlite_says(sql, machine, client, cluster, line, union):
    """Grouped, sorted, limited, joined, empty: the same rows and names everywhere."""
    cursor = union.execute(sql)
    names, expected = [column[0] for column in cursor.description], cursor.fetchall()

    result = await settled(defer.Deferred.fromCoroutine(cluster.gather("^g", sql)))
    assert (list(result.names), [tuple(row) for row in result.rows]) == (names, expected)
    assert not result.missing

    answer = await settled(line.command("GATHER", ",".join(NAMES), sql))
    assert answer.lines[0] == ("COLS", f"* {json.dumps(names, separators=(',', ':'))}")
    said = [row for word, rest in answer.lines[1:] for row in json.loads(rest.removeprefix("* "))]
    assert {word for word, _ in answer.lines[1:]} <= {"ROWS"}
    assert [tuple(map(_value, row)) for row in said] == expected
    told = {**answer.fields, "ms": 0}
    assert told == {
        "segments": 6, "missing": 0, "rows": len(expected), "ms": 0, "complete": "yes",
    }  # fmt: skip

    status, document = await threads.deferToThread(post, machine, matching="^g", sql=sql)
    assert status == 200
    assert document["columns"] == names and document["missing"] == {}
    assert [tuple(map(_value, row)) for row in document["rows"]] == expected

    rows = await threads.deferToThread(client.gather, NAMES, sql.replace("%", "%%"))
    assert rows == [dict(zip(names, row, strict=True)) for row in expected]


def _value(value):
    """A value of SQLite from its JSON."""
    return base64.b64decode(value["blob"]) if isinstance(value, dict) else value


@pytest_twisted.ensureDeferred
async def test_a_segment_that_fails(machine, client, cluster, line):
    """Without `partial` there is no answer but the list; with it, the rest and the list."""
    sql, names = "SELECT count(*) AS n FROM page", [*NAMES, "nowhere"]
    reason = "1 of 7 segments failed: nowhere: no-segment"
    # Each is told of the option by the name that it has there.
    with pytest.raises(errors.Unavailable, match=rf"{reason}.* \(partial=True answers"):
        await settled(defer.Deferred.fromCoroutine(cluster.gather(names, sql)))
    with pytest.raises(errors.Unavailable, match=rf"{reason}.* \(partial=yes answers"):
        await settled(line.command("GATHER", ",".join(names), sql))
    status, document = await threads.deferToThread(post, machine, segments=names, sql=sql)
    assert (status, document["code"]) == (503, "unavailable")
    assert reason in document["error"] and "(partial: true answers" in document["error"]
    with pytest.raises(TroughException, match=reason) as refused:
        await threads.deferToThread(client.gather, names, sql)
    assert refused.value.code == "unavailable"

    result = await settled(defer.Deferred.fromCoroutine(cluster.gather(names, sql, partial=True)))
    assert [tuple(row) for row in result.rows] == [(60,)]
    assert isinstance(result.missing["nowhere"], errors.NoSuchSegment)
    answer = await settled(line.command("GATHER", ",".join(names), sql, partial="yes"))
    assert [word for word, _ in answer.lines] == ["COLS", "ROWS", "MISS"]
    assert answer.lines[-1][1].startswith("nowhere no-segment ")
    assert (answer.fields["missing"], answer.fields["complete"]) == (1, "no")
    status, document = await threads.deferToThread(
        post, machine, segments=names, sql=sql, partial=True
    )
    assert (status, document["rows"]) == (200, [[60]])
    assert document["missing"]["nowhere"]["code"] == "no-segment"
    assert await threads.deferToThread(client.gather, names, sql, partial=True) == [{"n": 60}]


@pytest_twisted.ensureDeferred
async def test_parameters_and_joins_within_segments(machine, client, line):
    """Values reach the segments, and `within` keeps their rows apart."""
    joined = "SELECT count(*) AS n FROM page AS a JOIN page AS b USING (size) WHERE size >= {}"
    expected = sum(
        1 for number in range(5) for a in rows_of(number) for b in rows_of(number)
        if a[1] == b[1] >= 20
    )  # fmt: skip
    answer = await settled(
        line.command("GATHER", "~^g", joined.format("?"), within="yes", bind="[20]")
    )
    assert answer.lines[1] == ("ROWS", f"* [[{expected}]]")
    status, document = await threads.deferToThread(
        post, machine, matching="^g", sql=joined.format(":least"), within=True,
        parameters={"least": 20}, seconds=30,
    )  # fmt: skip
    assert (status, document.get("rows")) == (200, [[expected]])
    rows = await threads.deferToThread(client.gather, "^g", joined.format("%s"), (20,), within=True)
    assert rows == [{"n": expected}]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"sql": "SELECT 1"}, 400, "bad-request"),
        ({"sql": "SELECT 1", "segments": []}, 400, "bad-request"),
        ({"sql": "SELECT 1", "segments": "g1"}, 400, "bad-request"),
        ({"sql": "SELECT 1", "segments": ["a/b"]}, 400, "bad-name"),
        ({"sql": "SELECT 1", "segments": [1.5]}, 400, "bad-name"),
        ({"sql": "SELECT 1", "segments": [True]}, 400, "bad-name"),
        ({"sql": "SELECT 1", "segments": ["g1"], "matching": "g"}, 400, "bad-request"),
        ({"sql": "SELECT 1", "matching": "("}, 400, "bad-request"),
        ({"sql": "SELECT 1", "matching": "^none"}, 404, "no-segment"),
        ({"sql": "SELECT 1", "matching": "g", "partial": "yes"}, 400, "bad-request"),
        ({"sql": "SELECT 1", "matching": "g", "seconds": True}, 400, "bad-request"),
        ({"sql": "SELECT 1", "matching": "g", "seconds": 0}, 400, "bad-request"),
        ({"sql": "SELECT 1", "matching": "g", "parameters": [[]]}, 400, "bad-request"),
        ({"sql": "SELECT '\ud800'", "matching": "g"}, 400, "bad-request"),
        ({"sql": "SELECT nonsense FROM page", "matching": "^g"}, 400, "bad-sql"),
        ({"sql": "DELETE FROM page", "matching": "^g"}, 400, None),
        ({"sql": "SELECT 1", "matching": "g", "surprise": 1}, 400, "bad-request"),
    ],
)
def test_what_http_refuses(body, status, code, machine):
    """Each mistake is told by its code, and none is a server's error."""
    answered, document = post(machine, **body)
    assert answered == status, document
    assert code in (None, document["code"])


def test_workers_do_not_gather(machine):
    """A worker's own port has no such path."""
    status, _ = http("POST", machine.url("w1", "SYNC_LOCAL_PORT") + "gather", b"{}")
    assert status == 404


ENDLESS = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c, page"
)
LONG = (
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c LIMIT 60000) "
    "SELECT n, printf('%0500d', n) FROM c"
)


HUGE = "length(hex(zeroblob(400000000)))"


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT {HUGE}",
        f"SELECT {HUGE} FROM page",
        f"SELECT max(a.size), {HUGE} FROM page AS a JOIN page AS b USING (host)",
        f"SELECT count(*) FROM page WHERE _segment <> {HUGE}",
        "SELECT host FROM page WHERE length(hex(zeroblob(length(_segment) * 200000000))) > 0",
    ],
)
def test_a_query_that_needs_more_memory_than_it_may_have_is_refused(sql, machine):
    """Wherever it would be computed: on the sync server, or on a worker."""
    status, document = post(machine, matching="^g", sql=sql)
    assert (status, document["code"]) == (400, "limit")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT size, printf('%.*c', 90000000, 'y') AS x FROM page WHERE size % 10 = 0",
        "SELECT size, zeroblob(20000000) AS x FROM page WHERE size % 10 = 0",
        "SELECT printf('%.*c', 90000000, 'y') AS x",
        "SELECT group_concat(x) FROM (SELECT printf('%.*c', 3000000, 'y') AS x FROM page "
        "WHERE size % 10 = 0)",
    ],
)
def test_rows_that_are_too_large_are_refused(sql, machine):
    """Those of segments, and those of the answer. The error says what to do."""
    status, document = post(machine, matching="^g", sql=sql)
    assert (status, document["code"]) == (400, "limit")
    assert "cut long values with substr()" in document["error"]


def test_a_segment_with_a_row_that_is_too_large_may_be_missing(machine):
    """The others answer, and rows of several MB pass."""
    segments = [name for number, name in enumerate(NAMES) if rows_of(number)]
    size = "3000000 + 9000000 * (size = 20)"
    sql = f"SELECT _segment, printf('%.*c', {size}, 'y') AS x FROM page WHERE size % 10 = 0"
    status, document = post(machine, segments=segments, sql=sql, partial=True)
    assert status == 200, document
    assert sorted(document["missing"]) == segments[1:3]
    found = sorted((row[0], len(row[1])) for row in document["rows"])
    assert found == [(segment, 3_000_000) for segment in (segments[0], *segments[3:]) for _ in "12"]


@pytest_twisted.ensureDeferred
async def test_it_can_be_cancelled_and_has_a_deadline(line, machine):
    """CANCEL and `seconds` end what would never end, and the server goes on."""
    running = line.command("GATHER", "~^g", ENDLESS)
    running.cancel()
    with pytest.raises((errors.Cancelled, defer.CancelledError)):
        await settled(running)
    with pytest.raises(errors.DeadlineExceeded):
        await settled(line.command("GATHER", "~^g", ENDLESS, seconds="0.5"))
    status, document = await threads.deferToThread(
        post, machine, matching="^g", sql=ENDLESS, seconds=0.5
    )
    assert (status, document["code"]) == (503, "timeout")
    answer = await settled(line.command("GATHER", "~^g", "SELECT count(*) FROM page"))
    assert answer.lines[1] == ("ROWS", "* [[60]]")


@pytest_twisted.ensureDeferred
async def test_long_final_steps_hold_up_no_other_answer(line):
    """With all turns taken by what never ends, and more of it waiting, others are answered."""
    endless = [line.command("GATHER", "~^g", ENDLESS) for _ in range(AT_ONCE + 2)]
    ended = defer.gatherResults(endless, consumeErrors=True)
    for _ in range(3):
        answer = await settled(line.command("GATHER", "~^g", "SELECT count(*) FROM page"))
        assert answer.lines[1] == ("ROWS", "* [[60]]")
    for running in endless:
        running.cancel()
    with pytest.raises(defer.FirstError):
        await settled(ended)


def test_a_long_answer_over_http_streams(machine, client):
    """Thirty megabytes, far more than is held, arrive whole and in order."""
    rows = client.gather("^g0", LONG, None)
    assert [row["n"] for row in rows] == list(range(1, 60_001))
    assert len(json.dumps(rows)) > 30_000_000


class Lazy(protocol.Protocol):
    """Reads nothing until it is told to."""

    def __init__(self):
        self.heard = []
        self.ended = defer.Deferred()

    def connectionMade(self):
        self.transport.pauseProducing()

    def dataReceived(self, data):
        self.heard.append(data)
        if b"\nt END " in b"".join(self.heard[-2:]) and not self.ended.called:
            self.ended.callback(None)


@pytest_twisted.ensureDeferred
async def test_a_reader_that_is_slow_gets_all(machine, line):
    """Others are answered while it does not read; then every row comes, once."""
    port = int(machine.processes["s1"].settings["SYNC_LINE_PORT"])
    lazy = await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Lazy())
    lazy.transport.write(f"t GATHER g0 {LONG}\n".encode())
    for _ in range(3):
        answer = await settled(line.command("GATHER", "~^g", "SELECT count(*) FROM page"))
        assert answer.lines[1] == ("ROWS", "* [[60]]")
    assert lazy.heard == []
    lazy.transport.resumeProducing()
    await settled(lazy.ended)
    lines = b"".join(lazy.heard).decode().split("\n")
    found = [
        row[0] for each in lines if each.startswith("t ROWS * ") for row in json.loads(each[9:])
    ]
    assert found == list(range(1, 60_001))
    lazy.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_a_client_that_closes_cancels_what_it_gathers(machine):
    """Closing ends an endless final step, its thread included."""
    cluster = Cluster(open_metadata(machine.metadata_url, reactor), reactor)
    await cluster.open()
    running = defer.Deferred.fromCoroutine(cluster.gather(NAMES, ENDLESS))
    reported = defer.Deferred()
    running.addErrback(lambda failure: reported.callback(failure.value))
    await settled(defer.Deferred.fromCoroutine(cluster.gather(NAMES, "SELECT 1")))
    await settled(defer.Deferred.fromCoroutine(cluster.close()))
    assert isinstance(await settled(reported), errors.Cancelled | defer.CancelledError)
    with pytest.raises(errors.Cancelled):
        await settled(defer.Deferred.fromCoroutine(cluster.gather(NAMES, "SELECT 1")))
