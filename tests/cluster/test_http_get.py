"""Queries as URLs, asked of real processes by clients that people use."""

import csv
import gzip
import io
import json
import os
import re
import shutil
import socket
import subprocess
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pyarrow.ipc
import pyarrow.parquet
import pytest
from processes import Machine, http, until_blocking, write
from waiting import GIVE_UP

ORIGIN = "https://notebook.example.org"
MANY = (
    "WITH RECURSIVE c(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM c LIMIT {})"
    " SELECT n, 'row ' || n AS t FROM c"
)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and two workers: ``kept`` is promoted, and written by nobody any more."""
    directory = tmp_path_factory.mktemp("get")
    with Machine(
        directory, MINIMUM_ASSIGNMENTS="1", WRITE_LOCK_IDLE="2", HTTP_ORIGINS=ORIGIN
    ) as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        write(
            machine.provision("s1", "kept")["write_url"],
            "CREATE TABLE t (id INTEGER, v); INSERT INTO t VALUES (1, 'a'), (2, NULL), (3, x'ff')",
        )
        machine.promote("s1", "kept")
        until_blocking(
            lambda: "etag" in get(machine, "kept", "SELECT 1")[1], "the lock to be given back"
        )
        machine.worker("w2").wait_ready()
        yield machine


def ask(url, headers=(), method="GET"):
    """Status, headers with names in lower case, and body."""
    request = Request(url, headers=dict(headers), method=method)
    with urlopen(request, timeout=GIVE_UP) as response:
        names = {name.lower(): value for name, value in response.headers.items()}
        return response.status, names, response.read()


def url_of(machine, segment, sql, worker="w1", **more):
    return (
        machine.url(worker, "READ_PORT") + "?" + urlencode({"segment": segment, "sql": sql, **more})
    )


def get(machine, segment, sql, headers=(), worker="w1", **more):
    return ask(url_of(machine, segment, sql, worker, **more), headers)


def gather_url(machine, **parameters):
    return machine.url("s1", "SYNC_SERVER_PORT") + "gather?" + urlencode(parameters)


def test_a_get_answers_what_a_post_does(machine):
    """To the byte, and the same in another format or by another worker."""
    sql = "SELECT * FROM t ORDER BY id"
    posted = http("POST", machine.url("w1", "READ_PORT") + "?segment=kept", sql.encode())
    status, headers, body = get(machine, "kept", sql)
    assert (status, body) == posted
    assert headers["content-type"] == "application/json"
    assert get(machine, "kept", sql, worker="w2")[2] == body
    for worker in ("w1", "w2"):
        _, headers, body = get(machine, "kept", sql, {"Accept": "text/csv"}, worker)
        assert headers["content-type"].startswith("text/csv")
        assert body == b"id,v\r\n1,a\r\n2,\r\n3,x'ff'\r\n"


def test_named_parameters_stand_in_the_url(machine):
    """As texts, or with their types in bind=; one that the SQL does not name is refused."""
    sql = "SELECT v FROM t WHERE id = :id"
    assert get(machine, "kept", sql, id="1")[2] == b'[{"v":"a"}]\n'
    assert get(machine, "kept", sql, **{":id": "1"})[2] == b'[{"v":"a"}]\n'
    assert get(machine, "kept", "SELECT typeof(?) k", bind="[1]")[2] == b'[{"k":"integer"}]\n'
    status, answer = http("GET", url_of(machine, "kept", sql, id="1", secnods="5"))
    assert status == 400
    assert b"secnods" in answer


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("segment=kept", b"no SQL"),
        ("sql=SELECT+1", b"no segment"),
        ("segment=kept&sql=DELETE+FROM+t", b"DELETE is not allowed"),
        ("segment=kept&sql=SELECT+1&format=xml", b"known: json, jsonl, csv"),
        ("segment=kept&sql=SELECT+1&sql=SELECT+2", b"given 2 times"),
        ("segment=kept&sql=SELECT+1&seconds=soon", b"seconds=soon"),
        ("segment=kept&sql=SELECT+%FF", b"not UTF-8"),
        ("segment=kept&format=csv&sql=SELECT+nosuch+FROM+t", b"no such column"),
    ],
)
def test_what_is_wrong_with_a_url_is_named(machine, query, reason):
    """A mistake costs one clear answer, without headers that belong to rows."""
    status, answer = http("GET", machine.url("w1", "READ_PORT") + "?" + query)
    assert status == 400
    assert reason in answer


def test_a_promoted_segment_has_a_tag(machine):
    """Who has the answer is not sent it again; each format has a tag of its own."""
    sql = "SELECT count(*) AS n FROM t"
    _, headers, _ = get(machine, "kept", sql)
    assert headers["cache-control"] == "public, no-cache"
    tag = headers["etag"]
    assert get(machine, "kept", sql, worker="w2")[1]["etag"] == tag
    assert get(machine, "kept", sql, format="csv")[1]["etag"] != tag
    assert http("GET", url_of(machine, "kept", sql), headers={"If-None-Match": tag})[0] == 304
    through_w2 = url_of(machine, "kept", sql, "w2")
    assert http("GET", through_w2, headers={"If-None-Match": tag})[0] == 304
    _, headers, _ = get(machine, "kept", "SELECT random()")
    assert "etag" not in headers
    assert headers["cache-control"] == "no-store"


def test_a_segment_that_is_written_has_no_tag(machine):
    """Its next answer may be another one."""
    write(machine.provision("s1", "written")["write_url"], "CREATE TABLE t (id)")
    _, headers, _ = get(machine, "written", "SELECT 1")
    assert "etag" not in headers
    assert headers["cache-control"] == "no-store"


def test_answers_are_compressed_for_who_asks(machine):
    """And the answer to a POST never is."""
    sql = MANY.format(20_000)
    accept = {"Accept-Encoding": "gzip"}
    for format_ in ("json", "csv"):
        _, plain_headers, plain = get(machine, "kept", sql, format=format_)
        _, headers, packed = get(machine, "kept", sql, accept, format=format_)
        assert headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain_headers
        assert gzip.decompress(packed) == plain
        assert len(packed) < len(plain) / 3
    posted = Request(machine.url("w1", "READ_PORT") + "?segment=kept", sql.encode(), accept)
    with urlopen(posted, timeout=GIVE_UP) as response:
        assert "content-encoding" not in response.headers


def test_large_answers_stream_in_every_format(machine):
    """60,000 rows, each there once."""
    sql, rows = MANY.format(60_000), 60_000
    read = list(
        csv.reader(io.TextIOWrapper(io.BytesIO(get(machine, "kept", sql, format="csv")[2])))
    )
    assert len(read) == rows + 1 and read[-1] == ["60000", "row 60000"]
    for format_ in ("jsonl", "tsv", "markdown"):
        assert get(machine, "kept", sql, format=format_)[2].count(b"\n") >= rows
    arrow = pyarrow.ipc.open_stream(get(machine, "kept", sql, format="arrow")[2]).read_all()
    assert arrow.column("n").to_pylist() == list(range(1, rows + 1))
    parquet = pyarrow.BufferReader(get(machine, "kept", sql, format="parquet")[2])
    assert pyarrow.parquet.read_table(parquet).equals(arrow)


def test_what_fails_in_the_middle_is_no_whole_answer(machine):
    """The connection ends without the last chunk."""
    sql = (
        "SELECT CASE WHEN n = 190000 THEN 'a text' ELSE n END AS n FROM ("
        + MANY.format(200_000)
        + ")"
    )
    status, reason = http("GET", url_of(machine, "kept", sql, format="arrow"))
    assert status == 0 or b"several types" in reason, reason


def test_a_reader_that_reads_nothing_costs_little_memory(machine):
    """A hundred megabytes of CSV that nobody reads are not computed yet, and take no memory."""
    url = url_of(machine, "kept", MANY.format(10_000_000), format="csv")
    port = int(machine.processes["w1"].settings["READ_PORT"])
    before = _memory(machine)
    with closing(socket.create_connection(("127.0.0.1", port), GIVE_UP)) as connection:
        path = "/?" + url.partition("?")[2]
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        # Another whole answer passes by meanwhile.
        assert len(get(machine, "kept", MANY.format(200_000), format="csv")[2]) > 3_000_000
        assert _memory(machine) - before < 64 << 20


def _memory(machine):
    """Bytes of the first worker's own process."""
    status = Path(f"/proc/{machine.processes['w1'].pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) << 10


def test_a_gather_is_a_url_too(machine):
    """Over a pattern or a list, in the formats of a read; JSON as the POST answers."""
    sql = "SELECT count(*) AS n FROM t"
    body = json.dumps({"sql": sql, "matching": "^kept$"}).encode()
    posted = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "gather", body)
    assert ask(gather_url(machine, sql=sql, matching="^kept$"))[::2] == posted
    assert ask(gather_url(machine, sql=sql, segments="kept", format="csv"))[2] == b"n\r\n3\r\n"
    packed = ask(
        gather_url(machine, sql=sql, segments="kept"), {"Accept-Encoding": "gzip, deflate"}
    )
    assert json.loads(gzip.decompress(packed[2])) == json.loads(posted[1])


def test_a_gather_names_what_is_missing(machine):
    """In a header, where the format has no place for it; without partial=yes it fails."""
    asked = {"sql": "SELECT count(*) AS n FROM t", "segments": "kept,no such", "format": "csv"}
    status, headers, body = ask(gather_url(machine, **asked, partial="yes"))
    assert (status, body) == (200, b"n\r\n3\r\n")
    assert headers["x-trough-missing"] == "1"
    assert headers["x-trough-missing-segments"] == "no%20such"
    status, answer = http("GET", gather_url(machine, **asked))
    assert status == 503
    assert b"partial=yes" in answer


def test_pages_of_a_configured_origin_may_read(machine):
    """And others may not, nor may any of them write."""
    url = url_of(machine, "kept", "SELECT 1")
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    assert ask(url, headers)[1]["access-control-allow-origin"] == ORIGIN
    asks = {**headers, "Access-Control-Request-Method": "GET"}
    assert ask(url, asks, "OPTIONS")[0] == 204
    assert http("POST", url, b"SELECT 1", headers)[0] == 403
    for origin in ("https://evil.example", "null"):
        assert http("GET", url, headers={**headers, "Origin": origin})[0] == 403
    gathered = gather_url(machine, sql="SELECT 1", segments="kept")
    assert http("GET", gathered, headers={"Sec-Fetch-Site": "cross-site"})[0] == 403
    assert "access-control-allow-origin" not in ask(url)[1]


def test_wget_and_curl_fetch_a_file(machine, tmp_path):
    """What people type."""
    url = url_of(machine, "kept", "SELECT id FROM t", format="csv")
    for command in (["wget", "-q", "-O"], ["curl", "-s", "-f", "--compressed", "-o"]):
        if shutil.which(command[0]) is None:
            continue
        path = tmp_path / command[0]
        subprocess.run(
            [*command, str(path), url],
            check=True,
            timeout=GIVE_UP,
            env={**os.environ, "no_proxy": "*"},
        )
        assert path.read_bytes() == b"id\r\n1\r\n2\r\n3\r\n"


def test_pandas_reads_a_url(machine):
    """``pandas.read_csv(url)`` and ``read_parquet(url)``."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.read_csv(url_of(machine, "kept", MANY.format(1000), format="csv"))
    assert frame["n"].sum() == 500_500
    assert pandas.read_parquet(url_of(machine, "kept", MANY.format(1000), format="parquet")).equals(
        frame
    )
