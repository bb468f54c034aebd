"""The set of segments is complete, or the answer says what is missing: on real processes."""

from __future__ import annotations

import json
import socket

import pytest
from processes import Machine, http, until_blocking, write
from waiting import GIVE_UP

KEPT, LOST = ["p0", "p1"], ["p2", "p3", "p4"]
TABLE = "CREATE TABLE t (a); INSERT INTO t VALUES (1)"
COUNT = "SELECT count(*) FROM t"


@pytest.fixture
def machine(tmp_path):
    """A sync server, two workers, and five segments that were never promoted."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        for worker, names in (("w1", KEPT), ("w2", LOST)):
            machine.worker(worker).wait_ready()
            for name in names:
                write(machine.provision("s1", name)["write_url"], TABLE)
            if worker == "w1":
                # So that the other segments are the other worker's.
                machine.processes[worker].stop()
        machine.worker("w1").wait_ready()
        yield machine


def gather(machine, **body):
    """Status and decoded answer of POST /gather."""
    url = machine.url("s1", "SYNC_SERVER_PORT") + "gather"
    status, answer = http("POST", url, json.dumps({"sql": COUNT, **body}).encode())
    return status, json.loads(answer)


def asked(machine, name, key, request):
    """The lines of an answer of the line protocol, without their tag."""
    address = ("127.0.0.1", int(machine.processes[name].settings[key]))
    with socket.create_connection(address, GIVE_UP) as connection:
        connection.sendall(f"1 {request}\nQUIT\n".encode())
        lines = connection.makefile().read().splitlines()
    return [line.removeprefix("1 ") for line in lines if line.startswith("1 ")]


def test_a_dead_workers_unpromoted_segments_are_missing(machine):
    """Not absent: refused, or named in a partial answer, until it is back."""

    def whole():
        return gather(machine, matching="^p") == (
            200,
            {"columns": ["count(*)"], "rows": [[5]], "missing": {}},
        )

    until_blocking(whole, "all to be counted")
    machine.processes["w2"].kill()

    def partial():
        status, answer = gather(machine, matching="^p", partial=True)
        return status == 200 and sorted(answer["missing"]) == LOST and answer["rows"]

    assert until_blocking(partial, "a partial answer") == [[2]]
    status, answer = gather(machine, matching="^p")
    assert status == 503 and "3 of 5 segments failed" in answer["error"]

    def unpublished():
        lines = asked(machine, "s1", "SYNC_LINE_PORT", "WHERE ~^p")
        assert lines[-1].startswith("END copies="), lines
        return sorted(line.split()[1] for line in lines if line.startswith("NONE")) == LOST

    until_blocking(unpublished, "its copies to be unpublished")
    status, answer = gather(machine, matching="^p")
    assert status == 503 and "3 of 5 segments failed" in answer["error"]
    lines = asked(machine, "w1", "LINE_PORT", f"QUERY ~^p {COUNT}")
    assert sorted(line.split()[1] for line in lines if line.startswith("DONE")) == KEPT
    machine.worker("w2").wait_ready()
    until_blocking(whole, "all to be counted again")


def test_a_worker_says_what_it_cannot_read(machine):
    """QUERY with a pattern: what is assigned to it, and not there, fails by name."""
    url = machine.url("s1", "SYNC_SERVER_PORT")
    status, answer = http("POST", url + "promote", json.dumps({"segment": "p0"}).encode())
    assert status == 200, answer
    machine.processes["w1"].kill()
    machine.processes["w2"].kill()
    for worker in ("w1", "w2"):
        machine.worker(worker).wait_ready()
    found = {}

    def all_told():
        found.clear()
        for worker in ("w1", "w2"):
            lines = asked(machine, worker, "LINE_PORT", f"QUERY ~^p {COUNT}")
            if not lines[-1].startswith("END"):
                assert lines[-1].startswith("ERR unavailable"), lines
                return False
            for line in lines:
                if line.startswith(("DONE", "FAIL")):
                    found.setdefault(line.split()[1], []).append(line.split()[0])
        # From the first answer that is one, none is left out.
        assert set(found) == {*KEPT, *LOST}, found
        return all("DONE" in words for words in found.values())

    until_blocking(all_told, "all to be answered")
