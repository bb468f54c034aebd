"""What clients of the original system rely on, call by call, on real processes: by plain
HTTP, to any sync server and any worker, and to a worker's own manager."""

import json
import urllib.error
import urllib.request

import pytest
from processes import Machine, http, read, until_blocking, write
from waiting import GIVE_UP

SCHEMA = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT);"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Two sync servers and two workers, ready, with one schema."""
    directory = tmp_path_factory.mktemp("contract")
    with Machine(directory, MINIMUM_ASSIGNMENTS="1") as machine:
        for name in ("s1", "s2"):
            machine.sync(name).wait_ready()
        for name in ("w1", "w2"):
            machine.worker(name).wait_ready()
        assert http("PUT", _sync(machine) + "schema/t/sql", SCHEMA.encode())[0] == 201
        yield machine


def _sync(machine, name="s1"):
    return machine.url(name, "SYNC_SERVER_PORT")


def _holder(machine, write_url):
    (name,) = [w for w in ("w1", "w2") if write_url.startswith(machine.url(w, "WRITE_PORT"))]
    return name


def _typed(method, url, body=None):
    """Status, content type and body of a call."""
    request = urllib.request.Request(url, body, method=method)
    try:
        answer = urllib.request.urlopen(request, timeout=GIVE_UP)
    except urllib.error.HTTPError as refusal:
        answer = refusal
    with answer:
        return answer.status, answer.headers.get_content_type(), answer.read()


def test_every_sync_server_gives_the_same_writer(machine):
    """Exactly four keys, however often and whomever one asks, and in the old form too."""
    body = json.dumps({"segment": "same", "schema": "t"}).encode()
    answers = [_typed("POST", _sync(machine, name) + "provision", body) for name in ("s1", "s2")]
    assert [answer[:2] for answer in answers] == [(200, "application/json")] * 2
    first, second = (json.loads(answer[2]) for answer in answers)
    assert first.keys() == {"write_url", "result", "size", "schema"}
    assert (first["result"], first["schema"], type(first["size"])) == ("success", "t", int)
    assert first["write_url"] == second["write_url"]
    old = _typed("POST", _sync(machine, "s2"), b"same")
    assert old == (200, "text/plain", first["write_url"].encode())


@pytest.mark.parametrize("call", ["provision", "promote"])
def test_keys_that_mean_nothing_are_ignored(machine, call):
    """As the original ignored them, whatever its clients put there."""
    holder = _holder(machine, machine.provision("s1", "keys", "t")["write_url"])
    body = json.dumps({"segment": "keys", "remote_path": None, "why": [1]}).encode()
    for manager in (_sync(machine), machine.url(holder, "SYNC_LOCAL_PORT")):
        assert http("POST", manager + call, body)[0] == 200
        status, answer = http("POST", manager + call, b'{"segmnt": "keys"}')
        assert status == 400 and b"lacks 'segment'" in answer


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "provision", {"segment": "half", "schema": "\ud800"}),
        ("PUT", "schema/half", {"id": "half", "sql": "-- \ud800"}),
        ("POST", "gather", {"segments": ["half"], "sql": "SELECT ?", "parameters": ["\ud800"]}),
    ],
)
def test_half_a_surrogate_pair_is_the_caller_s_mistake(machine, method, path, body):
    """JSON can escape what UTF-8 cannot hold, and so no store either."""
    status, answer = http(method, _sync(machine) + path, json.dumps(body).encode())
    assert (status, json.loads(answer)["code"]) == (400, "bad-request")
    assert "surrogate" in json.loads(answer)["error"]


def test_reads_have_rows_and_errors_as_clients_parse_them(machine):
    """An array of objects, an empty one, or the reason behind words that clients strip."""
    url = machine.provision("s1", "rows", "t")["write_url"]
    assert _typed("POST", url, b"INSERT INTO t VALUES (1, 'one'), (2, NULL)") == (
        200,
        "text/plain",
        b"OK\n",
    )
    reading = f"{machine.url(_holder(machine, url), 'READ_PORT')}?segment=rows"
    status, kind, answer = _typed("POST", reading, b"SELECT * FROM t ORDER BY id;")
    assert (status, kind) == (200, "application/json")
    assert json.loads(answer) == [{"id": 1, "name": "one"}, {"id": 2, "name": None}]
    assert read(reading, "SELECT * FROM t WHERE id = 3") == []
    status, kind, answer = _typed("POST", reading, b"SELECT * FROM nowhere")
    assert (status, kind) == (400, "text/plain")
    assert answer == b"500 Server Error: no such table: nowhere\n"


def test_any_worker_answers_and_takes_writes(machine):
    """By parameter and by Host: any worker forwards reads and writes to the lock's holder."""
    url = machine.provision("s1", "anywhere", "t")["write_url"]
    write(url, "INSERT INTO t (name) VALUES ('here')")
    for name in ("w1", "w2"):
        reading = machine.url(name, "READ_PORT")
        rows = (200, b'[{"name":"here"}]\n')
        assert http("POST", f"{reading}?segment=anywhere", b"SELECT name FROM t") == rows
        by_host = {"Host": "anywhere.example.org:6444"}
        assert http("POST", reading, b"SELECT name FROM t", by_host) == rows
    for name in ("w1", "w2"):
        writing = f"{machine.url(name, 'WRITE_PORT')}?segment=anywhere"
        sql = f"INSERT INTO t (name) VALUES ('by {name}')".encode()
        assert http("POST", writing, sql) == (200, b"OK\n")
    reading = f"{machine.url(_holder(machine, url), 'READ_PORT')}?segment=anywhere"
    names = [row["name"] for row in read(reading, "SELECT name FROM t ORDER BY id")]
    assert names == ["here", "by w1", "by w2"]


def test_a_write_to_a_segment_that_is_nowhere_is_refused(machine):
    """A worker creates no segment: that needs a schema, which provisioning names."""
    for name in ("w1", "w2"):
        writing = f"{machine.url(name, 'WRITE_PORT')}?segment=nowhere"
        status, answer = http("POST", writing, b"INSERT INTO t (name) VALUES ('x')")
        assert status != 200 and answer.startswith(b"500 Server Error: ")


def test_a_write_of_megabytes_without_its_last_semicolon(machine):
    """One transaction, whatever its length, and text with every kind of character in it."""
    url = machine.provision("s1", "megabytes", "t")["write_url"]
    rows = ",".join(f"('{'é;--' * 100}{number}')" for number in range(12_000))
    sql = f"INSERT INTO t (name) VALUES {rows}; INSERT INTO t (name) VALUES ('last')"
    assert len(sql) > 4 << 20
    write(url, sql)
    reading = f"{machine.url(_holder(machine, url), 'READ_PORT')}?segment=megabytes"
    assert read(reading, "SELECT count(*) AS n FROM t") == [{"n": 12_001}]


def test_a_worker_s_own_manager_takes_the_same_calls(machine):
    """Provision, promote, schemas and delete, doing that worker's own part."""
    manager = machine.url("w2", "SYNC_LOCAL_PORT")
    body = json.dumps({"segment": "managed", "schema": "t"}).encode()
    status, answer = http("POST", manager + "provision", body)
    assert status == 200
    url = json.loads(answer)["write_url"]
    assert _holder(machine, url) == "w2"
    write(url, "INSERT INTO t (name) VALUES ('managed')")
    status, answer = http("POST", manager + "promote", b'{"segment": "managed"}')
    assert status == 200 and json.loads(answer).keys() == {"remote_path"}
    assert http("DELETE", manager + "segment/managed")[0] == 400
    assert http("DELETE", manager + "segment/nowhere")[0] == 404
    assert "t" in json.loads(http("GET", manager + "schema")[1])
    assert json.loads(http("GET", manager + "schema/t")[1]) == {"id": "t", "sql": SCHEMA}
    assert _typed("GET", manager + "schema/t/sql") == (200, "application/sql", SCHEMA.encode())
    assert http("PUT", manager + "schema/u/sql", SCHEMA.encode())[0] == 201
    assert http("PUT", manager + "schema/u", b'{"id": "u", "sql": ""}')[0] == 204
    assert http("PUT", manager + "schema/u", b'{"id": "v", "sql": ""}')[0] == 400
    assert http("GET", _sync(machine) + "schema/u/sql") == (200, b"")


def test_no_worker_deletes_what_has_a_write_lock(machine):
    """Whichever is asked, the lock's holder or another one, with or without a copy."""
    machine.provision("s1", "locked", "t")
    for name in ("w1", "w2"):
        manager = machine.url(name, "SYNC_LOCAL_PORT")
        assert _typed("DELETE", manager + "segment/locked")[:2] == (400, "application/json")


def test_what_was_deleted_is_nowhere_at_once(tmp_path):
    """404 from every worker as soon as 204 was answered, also from one that has not noticed
    yet that the write lock was given up."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="2", WRITE_LOCK_IDLE="1") as machine:
        machine.sync("s1").wait_ready()
        for name in ("w1", "w2"):
            machine.worker(name).wait_ready()
        for segment in ("one", "two", "three"):
            write(machine.provision("s1", segment)["write_url"], "CREATE TABLE t (n)")
            machine.promote("s1", segment)
            until_blocking(
                lambda segment=segment: (
                    http("DELETE", f"{_sync(machine)}segment/{segment}")[0] == 204
                ),
                "the deletion",
            )
            for name in ("w1", "w2"):
                reading = f"{machine.url(name, 'READ_PORT')}?segment={segment}"
                assert http("POST", reading, b"SELECT 1")[0] == 404
