"""Cold workers as clients see them: one that cannot read a segment is no reason for a refusal."""

import json
import sqlite3
import subprocess
import sys

import pytest
from processes import Machine, http, read, until_blocking
from waiting import GIVE_UP

COUNT = "SELECT count(*) AS n FROM t"
SEGMENTS = [f"cold-{number}" for number in range(8)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """A warm worker and two cold ones, the first of which has another directory mounted."""
    directory = tmp_path_factory.mktemp("cold")
    with Machine(directory, COLD_SEGMENTS="[{match: '^cold-', cold: true}]") as machine:
        for number, segment in enumerate(SEGMENTS):
            path = machine.canonical / segment[:-3] / f"{segment}.sqlite"
            path.parent.mkdir(parents=True, exist_ok=True)
            with sqlite3.connect(path) as database:
                database.execute("CREATE TABLE t (n)")
                database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(number)])
            database.close()
        cold = {"RUN_AS_COLD_STORAGE_NODE": "true"}
        machine.worker("w1")
        machine.worker("c1", COLD_STORAGE_PATH=f"{directory}/{{prefix}}/{{segment_id}}", **cold)
        machine.worker("c2", **cold)
        machine.sync("s1").wait_ready()
        for name in ("w1", "c1", "c2"):
            machine.processes[name].wait_ready()
        for name in ("c1", "c2"):
            until_blocking(
                lambda name=name: machine.status(name)["cold"]["segments"] == len(SEGMENTS),
                "the assignments",
            )
        yield machine


@pytest.mark.parametrize("asked", ["w1", "c1", "c2"])
def test_the_next_cold_worker_is_asked(machine, asked):
    """Whoever is asked, and wherever the read is passed on to first."""
    for number, segment in enumerate(SEGMENTS):
        url = f"{machine.url(asked, 'READ_PORT')}?segment={segment}"
        assert read(url, COUNT) == [{"n": number}]


def test_gather_and_the_line_protocol_ask_the_next_cold_worker(machine):
    """Of the segments that one cold worker cannot read, whichever it is asked for first."""
    body = json.dumps({"sql": "SELECT count(*) AS n FROM t", "matching": "^cold-"}).encode()
    for _ in range(3):
        status, answer = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "gather", body)
        assert status == 200, answer
        assert json.loads(answer)["rows"] == [[sum(range(len(SEGMENTS)))]]
    shell = subprocess.run(
        [
            *(sys.executable, "-m", "trough.shell.main", "-u", machine.metadata_url),
            *("-m", "^cold-", "-e", COUNT, "-f", "csv"),
        ],
        capture_output=True,
        text=True,
        timeout=GIVE_UP,
        check=False,
    )
    assert shell.returncode == 0, shell.stderr
    assert shell.stdout.count("cold-") == len(SEGMENTS)


def test_a_query_that_is_at_fault_is_refused_by_the_first(machine):
    """With its own status: another worker would say the same."""
    for segment in SEGMENTS:
        url = f"{machine.url('w1', 'READ_PORT')}?segment={segment}"
        status, answer = http("POST", url, b"SELECT nothing FROM t")
        if b"is not at" not in answer:
            assert status == 400 and b"nothing" in answer


def test_what_would_write_is_refused_as_cold(machine):
    """On every port, at once, and with a code that says that asking again is of no use."""
    sync, order = machine.url("s1", "SYNC_SERVER_PORT"), json.dumps({"segment": "cold-1"}).encode()
    calls = [(f"{sync}{verb}", order) for verb in ("provision", "promote")]
    for name in ("w1", "c1"):
        calls.append(
            (f"{machine.url(name, 'WRITE_PORT')}?segment=cold-1", b"INSERT INTO t VALUES (1)")
        )
        calls.append((f"{machine.url(name, 'SYNC_LOCAL_PORT')}promote", order))
    for url, body in calls:
        status, answer = http("POST", url, body)
        assert status == 400 and b"cold tier" in answer, url


def test_a_cold_worker_says_that_storage_is_away(machine):
    """In its health and its status; and no more when it is back."""
    health = machine.url("c2", "SYNC_LOCAL_PORT") + "health"
    away = machine.directory / "elsewhere"
    machine.canonical.rename(away)
    until_blocking(lambda: b"storage_away" in http("GET", health)[1], "the truth")
    assert http("GET", health)[0] == 200
    assert "is it mounted" in machine.status("c2")["cold"]["storage_away"]
    away.rename(machine.canonical)
    until_blocking(lambda: http("GET", health)[1] == b'{"ready": true}\n', "the truth")
