"""HTTP as anybody may send it, to real processes: odd requests get one clear answer each,
and no answer is ever taken for another request's."""

import json
import socket
from contextlib import closing

import pytest
from processes import Machine, http, read, until_blocking, write
from waiting import GIVE_UP

SQL = b"SELECT n FROM t WHERE n = 1"
ROWS = b'[{"n":1}]\n'


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and a worker, ready, with one segment of one row."""
    directory = tmp_path_factory.mktemp("http")
    with Machine(directory, MINIMUM_ASSIGNMENTS="1", MAX_WRITE_BODY="65536") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        url = machine.provision("s1", "odd")["write_url"]
        write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        yield machine


def _said(machine, key, request):
    """Everything that a server says to some bytes until it closes the connection."""
    port = int(machine.processes["w1"].settings[key])
    with closing(socket.create_connection(("127.0.0.1", port), GIVE_UP)) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            return answer.read()


def _request(*headers, target=b"/?segment=odd", body=SQL):
    """A request after which the connection ends."""
    lines = [b"POST %s HTTP/1.1" % target, b"Connection: close", *headers, b"", body]
    return b"\r\n".join(lines)


LENGTH = b"Content-Length: %d" % len(SQL)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/sql;charset=utf-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "nonsense",
    ],
)
def test_sql_is_sql_whatever_its_content_type(machine, content_type):
    """curl -d says that it sends a form: the text is read as it is, in reads and writes."""
    headers = {"Content-Type": content_type}
    url = machine.provision("s1", "odd")["write_url"]
    sql = b"UPDATE t SET n = 1 WHERE n = 1 AND '&segment=other' = '&segment=other'"
    assert http("POST", url, sql, headers) == (200, b"OK\n")
    assert http("POST", machine.url("w1", "READ_PORT") + "?segment=odd", SQL, headers) == (
        200,
        ROWS,
    )
    body = json.dumps({"segment": "odd"}).encode()
    sync = machine.url("s1", "SYNC_SERVER_PORT")
    assert http("POST", sync + "provision?why=because", body, headers)[0] == 200


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (_request(b"Host: x", LENGTH), 200, ROWS),
        (_request(LENGTH, target=b"/?segment=%6fdd"), 200, ROWS),
        (_request(LENGTH, target=b"http://w1:6444/?segment=odd"), 200, ROWS),
        (_request(b"Host: odd.example.org", LENGTH, target=b"/"), 200, ROWS),
        (
            _request(b"Transfer-Encoding: chunked", body=b"1b\r\n" + SQL + b"\r\n0\r\n\r\n"),
            200,
            ROWS,
        ),
        (_request(b"Expect: 100-continue", LENGTH), 100, ROWS),
        (_request(LENGTH, target=b"/?segment=odd&rows=0"), 200, ROWS),
        (_request(LENGTH, target=b"/"), 400, b"no segment is named"),
        (_request(LENGTH, target=b"/?segment="), 400, b"not a segment id"),
        (_request(LENGTH, target=b"/?segment=odd%00"), 400, b"not a segment id"),
        (_request(LENGTH, target=b"/?segment=o%2Fd"), 400, b"not a segment id"),
        (_request(LENGTH, target=b"/?segment=odd&segment=odd"), 400, b"given 2 times"),
        (_request(LENGTH, target=b"/?segment=odd&why=1"), 400, b"unknown parameters: why"),
        (_request(LENGTH, target=b"/?segment=odd&rows=1_0"), 400, b"rows=1_0"),
        (_request(LENGTH, target=b"/?segment=odd&rows=-1"), 400, b"rows=-1"),
        (_request(LENGTH, target=b"/?segment=odd&seconds=nan"), 400, b"seconds=nan"),
        (_request(LENGTH, target=b"/?segment=odd&seconds=0"), 400, b"seconds=0"),
        (_request(b"Host: odd.a", b"Host: other.a", LENGTH, target=b"/"), 400, b"two Host headers"),
        (_request(b"Content-Length: 3", LENGTH), 400, b""),
        (_request(b"Content-Length: -1"), 400, b""),
        (
            _request(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"0\r\n\r\n"),
            400,
            b"",
        ),
        (_request(b"Transfer-Encoding: chunked", body=b"what\r\n"), 400, b""),
        (
            b"OPTIONS /?segment=odd HTTP/1.1\r\nConnection: close\r\n\r\n",
            405,
            b"Allow: GET, HEAD, POST\r\n",
        ),
        (b"HEAD /?segment=odd HTTP/1.1\r\nConnection: close\r\n\r\n", 400, b"X-Trough-Error"),
        (b"hello\r\n\r\n", 400, b""),
    ],
)
def test_one_request_gets_one_answer(machine, request_, status, reason):
    """Whoever sends what can be meant in two ways gets neither, and is told so."""
    answer = _said(machine, "READ_PORT", request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status) and reason in answer
    assert answer.count(b"HTTP/1.1") == (2 if status == 100 else 1)


@pytest.mark.parametrize(
    "target", [b"/schema", b"http://w1:6112/schema", b"http://w1:6112//schema"]
)
def test_a_request_may_name_the_whole_url(machine, target):
    """As HTTP has it for whoever goes through a proxy."""
    request = b"GET %s HTTP/1.1\r\nConnection: close\r\n\r\n" % target
    answer = _said(machine, "SYNC_LOCAL_PORT", request)
    assert answer.startswith(b"HTTP/1.1 200 ") and b'"default"' in answer


def test_requests_in_a_row_are_answered_in_a_row(machine):
    """Pipelined on one connection: each has its own answer, wrong ones included."""
    good = b"POST /?segment=odd HTTP/1.1\r\n%s\r\n\r\n%s" % (LENGTH, SQL)
    wrong = b"POST /?segment=odd HTTP/1.1\r\nContent-Length: 3\r\n\r\nbad"
    answer = _said(machine, "READ_PORT", good + wrong + good + _request(LENGTH))
    statuses = [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"400", b"200", b"200"]


ENDLESS = b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
MEGABYTES = (
    b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000) "
    b"SELECT i, printf('%.*c', 500, 'x') AS x FROM n"
)


def _kept(sql):
    """A request after which the connection goes on."""
    return b"POST /?segment=odd HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(sql), sql)


@pytest.mark.parametrize("last", [_kept(SQL), _request(LENGTH), _kept(MEGABYTES)])
def test_who_has_asked_may_end_his_side(machine, last):
    """As a script does that pipes its requests into nc: each is answered whole."""
    port = int(machine.processes["w1"].settings["READ_PORT"])
    with closing(socket.create_connection(("127.0.0.1", port), GIVE_UP)) as connection:
        connection.sendall(_kept(SQL) + last)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            said = answer.read()
    assert said.count(b"HTTP/1.1 200 ") == 2
    assert said.endswith((ROWS, b"]\n\r\n0\r\n\r\n"))


def test_who_is_gone_is_not_worked_for_any_longer(machine):
    """A query without any rows would never find out by itself."""
    port = int(machine.processes["w1"].settings["READ_PORT"])
    with closing(socket.create_connection(("127.0.0.1", port), GIVE_UP)) as connection:
        connection.sendall(_kept(ENDLESS))
        until_blocking(lambda: machine.status("w1")["executors"]["queries"] == 1, "its begin")
    until_blocking(lambda: machine.status("w1")["executors"]["queries"] == 0, "its end")


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 1048577",),
        (b"Content-Length: 99999999999",),
        (b"Content-Length: 65537", b"Expect: 100-continue"),
    ],
)
def test_a_body_that_is_not_worth_sending_is_refused_at_once(machine, headers):
    """413 before the body, which nobody then has to send in order to be told."""
    lines = [b"POST /?segment=odd HTTP/1.1", *headers, b"", b""]
    port = int(machine.processes["w1"].settings["WRITE_PORT"])
    with closing(socket.create_connection(("127.0.0.1", port), GIVE_UP)) as connection:
        connection.sendall(b"\r\n".join(lines))
        with connection.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 413 Request Entity Too Large\r\n"
            assert b"X-Trough-Error: too-large\r\n" in list(iter(answer.readline, b"\r\n"))
            assert b"65536" in answer.readline()


def test_a_write_of_which_half_arrives_is_not_applied(machine):
    """A client that ends in the midst of its request has written nothing."""
    url = machine.provision("s1", "half")["write_url"]
    write(url, "CREATE TABLE t (n)")
    assert not _half_sent(machine, b"INSERT INTO t VALUES (1)")
    write(url, "INSERT INTO t VALUES (2)")
    assert read(machine.url("w1", "READ_PORT") + "?segment=half", "SELECT n FROM t") == [{"n": 2}]


def _half_sent(machine, sql):
    port = int(machine.processes["w1"].settings["WRITE_PORT"])
    with closing(socket.create_connection(("127.0.0.1", port), GIVE_UP)) as connection:
        connection.sendall(b"POST /?segment=half HTTP/1.1\r\nContent-Length: 999\r\n\r\n" + sql)
        connection.shutdown(socket.SHUT_WR)
        return connection.recv(100)


def test_many_connections_at_once(machine):
    """Five hundred clients that all asked before any of them was answered."""
    port = int(machine.processes["w1"].settings["READ_PORT"])
    connections = [socket.create_connection(("127.0.0.1", port), GIVE_UP) for _ in range(500)]
    for connection in connections:
        connection.sendall(_request(LENGTH))
    for connection in connections:
        with closing(connection), connection.makefile("rb") as answer:
            assert answer.read().endswith(ROWS)
    until_blocking(lambda: machine.status("w1")["executors"]["queries"] == 0, "their end")


def test_a_client_cannot_lift_the_limit_of_rows(tmp_path):
    """rows=0 is as many as the server allows, over HTTP and the line protocol."""
    with Machine(tmp_path, MAX_ROWS="2") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        machine.provision("s1", "few")
        three = b"VALUES (1), (2), (3)"
        url = machine.url("w1", "READ_PORT") + "?segment=few"
        for asked in ("", "&rows=0", "&rows=3"):
            status, answer = http("POST", url + asked, three)
            assert status == 400 and b"rows" in answer
        line = b"1 QUERY few rows=0 " + three + b"\n2 QUIT\n"
        assert b"1 FAIL few limit " in _said(machine, "LINE_PORT", line)
