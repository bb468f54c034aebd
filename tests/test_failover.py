"""Three sync servers and four workers on one machine, and what happens when they die."""

import json
import signal
import threading

import pytest
from processes import Machine, http, read, until_blocking, write

from trough.metadata.blocking import open_blocking
from trough.model import READ

SYNCS, WORKERS = ("s1", "s2", "s3"), ("w1", "w2", "w3", "w4")


@pytest.fixture
def machine(tmp_path):
    """All seven, ready."""
    with Machine(tmp_path) as machine:
        for name in SYNCS:
            machine.sync(name)
        for name in WORKERS:
            machine.worker(name)
        for name in (*SYNCS, *WORKERS):
            machine.processes[name].wait_ready()
        yield machine


def _holder(machine, url):
    return next(name for name in WORKERS if url.startswith(machine.url(name, "WRITE_PORT")))


def _leader(machine):
    names = {machine.status(name)["leader"] for name in SYNCS if machine.processes[name].running}
    return names.pop() if len(names) == 1 else None


def _readers(machine, segment):
    """Live workers that have a copy of the segment, as clients find them."""
    copies = open_blocking(machine.metadata_url).copies_of([segment]).get(segment, [])
    return {copy.node for copy in copies if copy.role == READ}


def test_any_sync_server_serves_and_a_new_one_leads_when_the_leader_dies(machine):
    """Provisioning goes on during an election, and one leader follows."""
    for number, name in enumerate(SYNCS):
        assert machine.provision(name, f"by-{number}")["result"] == "success"
    first = until_blocking(lambda: _leader(machine), "one leader")
    machine.processes[first].kill()
    others = [name for name in SYNCS if name != first]
    assert machine.provision(others[0], "meanwhile")["result"] == "success"
    second = until_blocking(
        lambda: _leader(machine) not in (None, first) and _leader(machine), "another leader"
    )
    generation = machine.status(second)["generation"]
    machine.sync(first).wait_ready()
    assert machine.status(first)["leader"] == second
    assert machine.status(first)["generation"] == generation


def test_a_leader_that_was_stopped_and_resumed_does_not_lead(machine):
    """SIGSTOP for longer than the lease, then SIGCONT: there is one leader, another one."""
    first = until_blocking(lambda: _leader(machine), "one leader")
    machine.processes[first].signal(signal.SIGSTOP)
    others = [name for name in SYNCS if name != first]
    until_blocking(lambda: any(machine.status(name)["leads"] for name in others), "another leader")
    machine.processes[first].signal(signal.SIGCONT)
    until_blocking(lambda: not machine.status(first)["leads"], "the end of the old reign")
    assert sum(machine.status(name)["leads"] for name in SYNCS) == 1


def test_a_promoted_segment_outlives_its_holder(machine):
    """Copies on other workers answer with the promoted state after the holder was killed,
    the lock waits for its holder, and the holder's unpromoted writes are there at its return."""
    url = machine.provision("s1", "300001")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    machine.promote("s2", "300001")
    holder = _holder(machine, url)
    until_blocking(lambda: len(_readers(machine, "300001")) >= 2, "a second copy")
    write(url, "INSERT INTO t VALUES (2)")
    other = next(name for name in WORKERS if name != holder)
    reading = machine.url(other, "READ_PORT") + "?segment=300001"
    # While the holder lives every worker answers with its state, also one with a copy.
    assert read(reading, "SELECT count(*) AS n FROM t") == [{"n": 2}]
    machine.processes[holder].kill()

    def answered_without_the_holder():
        status, answer = http("POST", reading, b"SELECT count(*) AS n FROM t")
        return status == 200 and json.loads(answer) == [{"n": 1}]

    until_blocking(answered_without_the_holder, "the promoted state from another copy")
    body = json.dumps({"segment": "300001"}).encode()
    status, answer = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "provision", body)
    assert status == 503 and b"free-lock" in answer
    machine.worker(holder).wait_ready()
    assert machine.provision("s3", "300001")["write_url"] == url
    assert read(
        machine.url(holder, "READ_PORT") + "?segment=300001", "SELECT count(*) AS n FROM t"
    ) == [{"n": 2}]


def test_a_promotion_reaches_every_other_copy(machine):
    """What was promoted is readable on the other copies without the holder."""
    url = machine.provision("s1", "fresh")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    machine.promote("s1", "fresh")
    until_blocking(lambda: len(_readers(machine, "fresh")) >= 2, "a second copy")
    write(url, "INSERT INTO t VALUES (2)")
    machine.promote("s1", "fresh")
    machine.processes[_holder(machine, url)].kill()
    other = (_readers(machine, "fresh") - {_holder(machine, url)}).pop()
    reading = machine.url(other, "READ_PORT") + "?segment=fresh"
    until_blocking(
        lambda: http("POST", reading, b"SELECT count(*) AS n FROM t")[1] == b'[{"n":2}]\n',
        "the promoted version",
    )


def test_two_provisionings_at_once_give_one_lock(machine):
    """However many ask, through whichever sync server, one worker gets to write."""
    answers = []

    def provision(name):
        answers.append(machine.provision(name, "contested")["write_url"])

    threads = [threading.Thread(target=provision, args=(SYNCS[n % 3],)) for n in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 9 and len(set(answers)) == 1


def test_a_port_that_is_in_use_is_named_in_one_line(machine):
    """Whoever starts a second one on the same ports is told which port and which setting."""
    taken = machine.processes["w1"].settings["LINE_PORT"]
    second = machine.worker("w5", LINE_PORT=taken)
    line = second.wait_for("cannot listen")
    assert f"port {taken} (LINE_PORT)" in line and "Traceback" not in second.output
    assert second.wait() == 1


def test_two_workers_of_one_name(machine, tmp_path):
    """The second one refuses to start and says why; the first one goes on."""
    second = machine.worker("w5", HOSTNAME="w1")
    line = second.wait_for("refusing to run")
    assert "w1" in line
    assert second.wait() == 1
    assert http("GET", machine.url("w1", "SYNC_LOCAL_PORT") + "health")[0] == 200
