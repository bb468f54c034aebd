"""One worker and one sync server as real processes: the contract's calls, end to end."""

import json
import os
import socket
from urllib.parse import unquote

import pytest
from processes import Machine, TroughProcess, http, read, until_blocking, write
from waiting import GIVE_UP

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and a worker, ready."""
    with Machine(tmp_path_factory.mktemp("machine"), MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        status, answer = http("PUT", machine.url("s1", "SYNC_SERVER_PORT") + "schema/t/sql",
                              SCHEMA.encode())  # fmt: skip
        assert status == 201, answer
        yield machine


def test_a_segment_is_provisioned_written_read_and_promoted(machine):
    """The way of every segment, by the calls that existing clients make."""
    answer = machine.provision("s1", "300001", "t")
    assert set(answer) == {"write_url", "result", "size", "schema"}
    assert answer["result"] == "success" and answer["schema"] == "t"
    write(answer["write_url"], "INSERT INTO t (name) VALUES ('one'); INSERT INTO t VALUES (5, 'x')")
    url = machine.url("w1", "READ_PORT") + "?segment=300001"
    assert read(url, "SELECT * FROM t ORDER BY id") == [
        {"id": 1, "name": "one"},
        {"id": 5, "name": "x"},
    ]
    promoted = machine.promote("s1", "300001")["remote_path"]
    assert promoted == str(machine.canonical / "300" / "300001.sqlite")
    assert machine.provision("s1", "300001", "t")["write_url"] == answer["write_url"]


def test_the_host_header_names_the_segment(machine):
    """Without ?segment= the first label of Host says which segment is meant."""
    write(machine.provision("s1", "by-host", "t")["write_url"], "INSERT INTO t (name) VALUES ('h')")
    status, answer = http(
        "POST",
        machine.url("w1", "READ_PORT"),
        b"SELECT name FROM t",
        {"Host": "by-host.example.org"},
    )
    assert (status, json.loads(answer)) == (200, [{"name": "h"}])


def test_a_file_dropped_into_canonical_storage_becomes_readable(machine):
    """Whoever puts a database below the root, however deep, can read it in a moment."""
    import sqlite3

    place = machine.canonical / "by" / "hand"
    place.mkdir(parents=True)
    with sqlite3.connect(place / ".dropped.sqlite") as database:
        database.execute("CREATE TABLE d AS SELECT 42 AS answer")
    database.close()
    (place / ".dropped.sqlite").rename(place / "dropped.sqlite")
    url = machine.url("w1", "READ_PORT") + "?segment=dropped"
    until_blocking(lambda: http("POST", url, b"SELECT 1")[0] == 200, "the copy of dropped")
    assert read(url, "SELECT * FROM d") == [{"answer": 42}]


@pytest.mark.parametrize(
    ("sql", "status", "reason"),
    [
        (b"SELECT 1; SELECT 2", 400, b""),
        (b"", 400, b""),
        (b"-- nothing", 400, b""),
        (b"DELETE FROM t", 400, b""),
        (b"SELECT no_such_column FROM t", 400, b"no_such_column"),
        (b"ATTACH '/tmp/x' AS x", 400, b""),
        (b"\xff\xfe", 400, b""),
    ],
)
def test_what_is_no_read_is_refused_with_the_reason(machine, sql, status, reason):
    """Errors of the query port say why in the words that existing clients expect."""
    machine.provision("s1", "refusing", "t")
    url = machine.url("w1", "READ_PORT") + "?segment=refusing"
    got, answer = http("POST", url, sql)
    assert got == status and answer.startswith(b"500 Server Error: ") and reason in answer


@pytest.mark.parametrize("segment", ["", "a%2Fb", "..", ".a", "a" * 117, "a%00", "a%0Ab", "a:b"])
def test_what_is_no_segment_id_is_refused_everywhere(machine, segment):
    """One rule for ids, told by the read port, the write port and provisioning alike."""
    for port in ("READ_PORT", "WRITE_PORT"):
        status, answer = http("POST", machine.url("w1", port) + f"?segment={segment}", b"SELECT 1")
        assert status == 400
        assert b"a segment id is" in answer or b"no segment is named" in answer
    body = json.dumps({"segment": unquote(segment)}).encode()
    status, answer = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "provision", body)
    assert status == 400 and b"a segment id is" in answer


def test_a_script_may_end_its_side_once_it_has_said_quit(machine):
    """As nc does on many systems at the end of its input; the answers come all the same."""
    url = machine.provision("s1", "piped")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    port = int(machine.processes["w1"].settings["LINE_PORT"])
    with socket.create_connection(("127.0.0.1", port), GIVE_UP) as connection:
        connection.sendall(b"1 QUERY piped SELECT n FROM t\n2 QUIT\n")
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            lines = answer.read().decode().splitlines()
    assert lines[2] == "1 ROWS piped [[1]]" and lines[-1].startswith("* BYE quit")


def test_a_segment_that_is_nowhere_is_404(machine):
    """A read of an unknown id says so, on the worker and when promoted or deleted."""
    status, answer = http("POST", machine.url("w1", "READ_PORT") + "?segment=nowhere", b"SELECT 1")
    assert status == 404 and b"nowhere" in answer
    sync = machine.url("s1", "SYNC_SERVER_PORT")
    assert http("DELETE", sync + "segment/nowhere")[0] == 404
    assert http("POST", sync + "promote", b'{"segment": "nowhere"}')[0] == 404


def test_a_write_without_the_lock_is_refused(machine):
    """The write port answers neither 200 nor OK where the segment was not provisioned."""
    status, answer = http(
        "POST", machine.url("w1", "WRITE_PORT") + "?segment=not-mine", b"CREATE TABLE x (y)"
    )
    assert status == 503 and b"provision" in answer


def test_an_unknown_schema_leaves_nothing_behind(machine):
    """No lock, no file, no copy after a provisioning that named no schema."""
    sync = machine.url("s1", "SYNC_SERVER_PORT")
    status, answer = http("POST", sync + "provision", b'{"segment": "left", "schema": "no"}')
    assert status == 404 and b"no" in answer
    assert "left" not in {row["segment"] for row in machine.status("w1")["writable"]}
    assert not list(machine.directory.rglob("left.sqlite*"))


def test_schemas_are_kept_as_the_contract_says(machine):
    """Created, replaced, read in both forms, and refused where they are wrong."""
    sync = machine.url("s1", "SYNC_SERVER_PORT") + "schema"
    assert "default" in json.loads(http("GET", sync)[1])
    body = b'{"id": "one", "sql": "CREATE TABLE a (b);"}'
    assert http("PUT", sync + "/one", body)[0] == 201
    assert http("PUT", sync + "/one", body)[0] == 204
    assert json.loads(http("GET", sync + "/one")[1]) == json.loads(body)
    assert http("GET", sync + "/one/sql") == (200, b"CREATE TABLE a (b);")
    assert http("GET", sync + "/none")[0] == 404
    for wrong in (b'{"id": "two", "sql": ""}', b'{"id": "one"}', b"[]", b"{", b'{"id": 1}'):
        assert http("PUT", sync + "/one", wrong)[0] == 400
    status, answer = http("PUT", sync + "/one/sql", b"CREATE TABL a (b)")
    assert status == 400 and b"syntax error" in answer
    assert http("GET", sync + "/one/sql")[1] == b"CREATE TABLE a (b);"


def test_a_segment_that_somebody_writes_is_not_deleted(machine):
    """400 with the reason, although all of it is promoted."""
    sync = machine.url("s1", "SYNC_SERVER_PORT")
    machine.provision("s1", "doomed", "t")
    machine.promote("s1", "doomed")
    status, answer = http("DELETE", sync + "segment/doomed")
    assert status == 400 and b"locked for writing" in answer


def test_a_worker_offers_four_fifths_of_its_disk(machine):
    """Unless STORAGE_IN_BYTES says otherwise; the rest is for logs and snapshots."""
    disk = os.statvfs(machine.directory)
    offered = disk.f_frsize * disk.f_blocks * 8 // 10
    assert machine.status("w1")["capacity"] == offered


def test_health_and_status_tell(machine):
    """A process that serves says it is healthy, and what it holds."""
    for name, port in (("s1", "SYNC_SERVER_PORT"), ("w1", "SYNC_LOCAL_PORT")):
        assert http("GET", machine.url(name, port) + "health")[0] == 200
    assert machine.status("s1")["leads"] is True
    assert machine.status("w1")["ready"] is True


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"READ_PORT": "six"}, "environment: READ_PORT cannot be 'six'"),
        ({"RUN_AS_COLD_STORAGE_NODE": "yes", "COLD_CACHE_BYTES": "0"}, "RUN_AS_COLD_STORAGE_NODE"),
        ({"RETHINKDB_HOSTS": "a", "RETHINKDB_TLS": "/ca.pem"}, "RETHINKDB_TLS"),
        ({"BIND_ADDRESS": "192.0.2.1", "INSECURE": "true"}, "see BIND_ADDRESS"),
        ({"BIND_ADDRESS": "192.0.2.1"}, "without TLS_CERT and TLS_KEY and without AUTH_TOKEN"),
        ({"TLS_CERT": "/none.pem", "TLS_KEY": "/none.key"}, "TLS_CERT: /none.pem cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_told_in_one_line(tmp_path, settings, reason):
    """The process ends at once, and says why without its usage or a trace."""
    below = {"LOCAL_DATA": str(tmp_path), "SYNC_LOOP_TIMING": "1"}
    process = TroughProcess("trough-worker", {**below, **settings})
    assert process.wait() == 1
    process.wait_for("(end of output)")
    *_, said, _ = filter(None, process.lines)
    assert reason in said
    assert "Usage" not in process.output and "Traceback" not in process.output


@pytest.mark.parametrize(
    "segment", ["__unspecified__", "ait-seed-1", "a.b", "Case", "case", "~odd", "-"]
)
def test_whatever_is_a_segment_id_works_everywhere(machine, segment):
    """Unescaped in URLs, in lists of the line protocol, and as a canonical copy; and each
    stays apart from ids that differ in the case of a letter."""
    url = machine.provision("s1", segment, "t")["write_url"]
    write(url, f"INSERT INTO t (name) VALUES ('{segment}')")
    rows = [{"name": segment}]
    assert read(f"{machine.url('w1', 'READ_PORT')}?segment={segment}", "SELECT name FROM t") == rows
    assert machine.promote("s1", segment)["remote_path"].endswith(f"/{segment}.sqlite")
    port = int(machine.processes["w1"].settings["LINE_PORT"])
    with socket.create_connection(("127.0.0.1", port), GIVE_UP) as connection:
        connection.sendall(f"1 QUERY ,{segment},{segment} SELECT name FROM t\n2 QUIT\n".encode())
        with connection.makefile("r") as answer:
            assert f'1 ROWS {segment} [["{segment}"]]\n' in answer.readlines()
