"""Bad input and bad luck, seen from outside: real processes, plain HTTP."""

import json
import sqlite3
import threading
from contextlib import closing
from http.client import HTTPConnection, IncompleteRead
from pathlib import Path

import pytest
from processes import Machine, http, read, until_blocking, write

ENDLESS = b"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A sync server and a worker with small limits."""
    with Machine(
        tmp_path_factory.mktemp("machine"),
        MINIMUM_ASSIGNMENTS="1",
        MAX_WRITE_BODY="65536",
        EXECUTORS="2",
    ) as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        yield machine


def _reading(machine, segment, more=""):
    return machine.url("w1", "READ_PORT") + f"?segment={segment}{more}"


def _connection(machine):
    """A connection that the test holds in its own hands."""
    address = machine.url("w1", "READ_PORT").removeprefix("http://").rstrip("/")
    return HTTPConnection(address, timeout=60)


def _drop(machine, segment, rows):
    """Put a segment into canonical storage by hand, and wait until it can be read."""
    _put(machine, segment, rows)
    until_blocking(
        lambda: http("POST", _reading(machine, segment), b"SELECT 1")[0] == 200, "the copy"
    )


def _put(machine, segment, rows):
    """Put a segment into canonical storage by hand."""
    folder = machine.canonical / "by-hand"
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{segment}"
    with sqlite3.connect(hidden) as database:
        database.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, text TEXT)")
        database.executemany("INSERT INTO t VALUES (?, ?)", ((n, "x" * 200) for n in range(rows)))
    database.close()
    hidden.rename(folder / f"{segment}.sqlite")


def test_a_damaged_copy_is_fetched_anew_and_others_are_not_concerned(machine):
    """Damage is answered as such, is repaired by itself, and touches no other segment."""
    _drop(machine, "damaged", 5000)
    _drop(machine, "sound", 10)
    (path,) = (machine.directory / "w1" / "segments").rglob("damaged.sqlite")
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(4096, size, 4096):
            file.seek(page)
            file.write(b"\xff" * 512)
    count = b"SELECT count(*) AS n, sum(length(text)) AS s FROM t"
    status, answer = http("POST", _reading(machine, "damaged"), count)
    assert status == 503 and b"damaged" in answer
    assert read(_reading(machine, "sound"), count.decode()) == [{"n": 10, "s": 2000}]
    until_blocking(
        lambda: (
            http("POST", _reading(machine, "damaged"), count)[1] == b'[{"n":5000,"s":1000000}]\n'
        ),
        "the repair",
    )


def test_an_endless_query_ends_at_its_deadline_and_holds_up_nobody(machine):
    """Short queries are answered all the while, and 503 says why it ends."""
    _drop(machine, "busy", 10)
    endless = _connection(machine)
    endless.request("POST", "/?segment=busy&seconds=600", ENDLESS)
    until_blocking(lambda: _queries(machine) == 1, "the endless query to run")
    for _ in range(3):
        assert read(_reading(machine, "busy"), "SELECT count(*) AS n FROM t") == [{"n": 10}]
    assert _queries(machine) == 1
    endless.close()
    until_blocking(lambda: _queries(machine) == 0, "the query's end")
    status, answer = http("POST", _reading(machine, "busy", "&seconds=1"), ENDLESS)
    assert status == 503 and b"time" in answer


def _queries(machine):
    return machine.status("w1")["executors"]["queries"]


def test_a_reader_that_goes_away_stops_its_query(machine):
    """Of a result of gigabytes no more is made than somebody reads."""
    _drop(machine, "huge", 10)
    connection = _connection(machine)
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i, hex(zeroblob(5000)) FROM n"
    )
    connection.request("POST", "/?segment=huge", sql)
    response = connection.getresponse()
    assert response.status == 200 and response.read(1_000_000)
    response.close()
    connection.close()
    until_blocking(lambda: _queries(machine) == 0, "the query's end")
    assert machine.status("w1")["executors"]["memory_peak"] < 500_000_000


def test_an_error_in_the_midst_of_an_answer_cannot_be_overlooked(machine):
    """What was sent until then is cut off: no bracket, no end of the chunks."""
    _drop(machine, "midst", 10)
    sql = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400000) "
        "SELECT i, CASE WHEN i = 390000 THEN abs(-9223372036854775807 - 1) ELSE i END FROM n"
    )
    connection = _connection(machine)
    connection.request("POST", "/?segment=midst", sql)
    response = connection.getresponse()
    assert response.status == 200
    with pytest.raises((IncompleteRead, ConnectionError)) as cut:
        response.read()
    partial = getattr(cut.value, "partial", b"")
    assert not partial.rstrip().endswith(b"]")
    connection.close()


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (2); INSERT INTO t VALUES (3); INSERT INTO",
        "INSERT INTO t VALUES (2); INSERT INTO nowhere VALUES (3)",
        "BEGIN; INSERT INTO t VALUES (2); COMMIT",
        "INSERT INTO t VALUES (2); COMMIT; INSERT INTO t VALUES (3)",
        "INSERT INTO t VALUES (2); ROLLBACK",
        "INSERT INTO t VALUES (2); ATTACH 'other.sqlite' AS other",
        "INSERT INTO t VALUES (2); VACUUM",
        "INSERT INTO t VALUES (2); PRAGMA journal_mode = DELETE",
        "INSERT INTO t VALUES (2); SELECT load_extension('x')",
    ],
)
def test_a_write_that_is_refused_changes_nothing(machine, sql):
    """400 with the reason, and none of its statements in effect."""
    url = machine.provision("s1", "refused")["write_url"]
    write(url, "CREATE TABLE IF NOT EXISTS t (n UNIQUE); INSERT OR IGNORE INTO t VALUES (1)")
    status, answer = http("POST", url, sql.encode())
    assert status == 400 and answer.startswith(b"500 Server Error: ")
    assert read(_reading(machine, "refused"), "SELECT n FROM t") == [{"n": 1}]


def test_a_body_over_the_limit_is_413(machine):
    """The limit is told, and the connection's next request is served."""
    url = machine.provision("s1", "large")["write_url"]
    status, answer = http("POST", url, b"CREATE TABLE t (x); -- " + b"x" * 100_000)
    assert status == 413 and b"65536" in answer
    write(url, "CREATE TABLE t (x)")


def test_two_promotions_at_once_both_succeed(machine):
    """The second waits for the first; the canonical copy is whole."""
    url = machine.provision("s1", "twice")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(machine.promote("s1", "twice")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and len({answer["remote_path"] for answer in answers}) == 1


def test_a_promotion_while_storage_is_gone_is_refused_and_works_later(machine):
    """A clear error, the write lock and the rows stay, and the next promotion succeeds."""
    url = machine.provision("s1", "stays")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    before = machine.promote("s1", "stays")["remote_path"]
    write(url, "INSERT INTO t VALUES (2)")
    away = machine.canonical.with_name("away")
    machine.canonical.rename(away)
    try:
        body = json.dumps({"segment": "stays"}).encode()
        status, answer = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "promote", body)
        assert status == 503 and b"canonical" in answer
        assert read(_reading(machine, "stays"), "SELECT count(*) AS n FROM t") == [{"n": 2}]
    finally:
        away.rename(machine.canonical)
    assert until_blocking(
        lambda: http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "promote", body)[0] == 200,
        "the promotion",
    )
    with sqlite3.connect(f"file:{before}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM t").fetchone() == (2,)


@pytest.mark.parametrize("unpromoted", [False, True])
def test_a_canonical_copy_that_somebody_replaced_wins(machine, unpromoted):
    """The writable copy retires and loses its lock; what it held alone is kept aside."""
    segment = f"replaced-{unpromoted}".lower()
    url = machine.provision("s1", segment)["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    canonical = Path(machine.promote("s1", segment)["remote_path"])
    if unpromoted:
        write(url, "INSERT INTO t VALUES (2)")
    other = canonical.with_name(".other")
    with closing(sqlite3.connect(other)) as database:
        database.executescript("CREATE TABLE t (n); INSERT INTO t VALUES (7)")
    other.rename(canonical)
    said = []

    def replaced():
        said.append(http("POST", _reading(machine, segment), b"SELECT n FROM t"))
        return said[-1] == (200, b'[{"n":7}]\n')

    until_blocking(replaced, "the other copy")
    assert {status for status, _ in said} <= {200, 503}  # and at no time 404
    write(url, "INSERT INTO t VALUES (3)")  # nobody holds the lock: this worker takes it again
    aside = [name for name in machine.status("w1")["aside"] if name.startswith(segment)]
    assert len(aside) == unpromoted
    for name in aside:
        with closing(sqlite3.connect(machine.directory / "w1" / "aside" / name)) as database:
            assert database.execute("SELECT n FROM t").fetchall() == [(1,), (2,)]
    write(machine.provision("s1", segment)["write_url"], "INSERT INTO t VALUES (8)")
    assert read(_reading(machine, segment), "SELECT n FROM t") == [{"n": 7}, {"n": 3}, {"n": 8}]


def test_an_idle_segment_is_unlocked_and_can_be_deleted_everywhere(tmp_path):
    """Once all is promoted and nobody writes, the lock goes, and DELETE leaves nothing."""
    # Others write after a promotion: they have a machine without so short a patience.
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1", WRITE_LOCK_IDLE="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        url = machine.provision("s1", "doomed")["write_url"]
        write(url, "CREATE TABLE t (n)")
        path = machine.promote("s1", "doomed")["remote_path"]
        sync = machine.url("s1", "SYNC_SERVER_PORT")
        until_blocking(lambda: http("DELETE", sync + "segment/doomed")[0] == 204, "the deletion")
        assert not Path(path).exists()
        reading = _reading(machine, "doomed")
        until_blocking(lambda: http("POST", reading, b"SELECT 1")[0] == 404, "404")
        assert http("DELETE", sync + "segment/doomed")[0] == 404
        assert not list((machine.directory / "w1" / "segments").rglob("doomed.sqlite*"))


def test_a_full_disk_refuses_writes_and_keeps_the_segment_whole(tmp_path, small_disk):
    """Writes are refused with that reason; what was answered before can be read."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1", LOCAL_DATA=str(small_disk)).wait_ready()
        url = machine.provision("s1", "full")["write_url"]
        write(url, "CREATE TABLE t (x)")
        insert, answered = f"INSERT INTO t VALUES ('{'x' * 100_000}')".encode(), 0
        while (answer := http("POST", url, insert))[0] == 200:
            answered += 1
            assert answered < 1000
        assert (answer[0] == 503 and b"full" in answer[1].lower()) or b"room" in answer[1].lower()
        got = read(_reading(machine, "full"), "SELECT count(*) AS n FROM t")
        assert got == [{"n": answered}]


def test_a_full_disk_is_told_and_promotions_go_on_by_another_one(tmp_path, small_disk):
    """With SNAPSHOT_DIRECTORY elsewhere: what was answered is published, and can be let go."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        elsewhere = {"LOCAL_DATA": str(small_disk), "SNAPSHOT_DIRECTORY": str(tmp_path)}
        worker = machine.worker("w1", **elsewhere).wait_ready()
        url = machine.provision("s1", "full")["write_url"]
        write(url, "CREATE TABLE t (x)")
        insert, answered = f"INSERT INTO t VALUES ('{'x' * 100_000}')".encode(), 0
        while http("POST", url, insert)[0] == 200:
            answered += 1
            assert answered < 1000
        assert "see the guide, *A disk is full*" in worker.wait_for("1 writes refused: ")
        assert machine.status("w1")["disk"]["refused_writes"] == 1
        canonical = Path(machine.promote("s1", "full")["remote_path"])
        with closing(sqlite3.connect(canonical)) as database:
            assert database.execute("SELECT count(*) FROM t").fetchone() == (answered,)
        assert list((tmp_path / "trough-snapshots-w1").iterdir()) == []


def test_copies_that_a_disk_has_no_room_for_wait_until_it_has(tmp_path, small_disk):
    """They are put off, which is logged once for all; what is there is answered, new segments
    can still be written, and with room again the rest arrives."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        worker = machine.worker("w1", LOCAL_DATA=str(small_disk)).wait_ready()
        names = [f"many-{number}" for number in range(8)]
        for name in names:
            _put(machine, name, 5000)  # a megabyte and more
        until_blocking(lambda: _put_off(machine) == len(names) - _held(machine), "a full disk")
        held = [name for name in names if _answers(machine, name)]
        assert 0 < len(held) < len(names)
        url = machine.provision("s1", "still")["write_url"]
        write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        for name in names:
            status, _ = http("POST", _reading(machine, name), b"SELECT count(*) FROM t")
            assert status == (200 if name in held else 503)
        until_blocking(lambda: _put_off_said(worker), "its log")
        assert all("*A disk is full*" in line for line in _put_off_said(worker))
        for name in held:
            (machine.canonical / "by-hand" / f"{name}.sqlite").unlink()
        rest = sorted(set(names) - set(held))
        until_blocking(lambda: all(_answers(machine, name) for name in rest), "the others")
        assert read(_reading(machine, "still"), "SELECT n FROM t") == [{"n": 1}]


def _put_off_said(worker):
    return [line for line in worker.lines if "no room" in line]


def _answers(machine, segment):
    return http("POST", _reading(machine, segment), b"SELECT 1")[0] == 200


def _held(machine):
    return machine.status("w1")["segments"]


def _put_off(machine):
    return machine.status("w1")["reconciler"]["put_off"]
