"""Three sync servers and four workers, on each pair of engines, and what happens when some die."""

import json
import signal
import sqlite3
import threading

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import Machine, free_ports, http, read, until_blocking, write

COUNT = "SELECT count(*) AS n FROM t"


@pytest.fixture(scope="module", params=PAIRS)
def common(request, tmp_path_factory):
    """All seven, for all tests of one pair.

    With one copy of each write: the lock of a lost worker waits for it.
    """
    directory = tmp_path_factory.mktemp("cluster")
    engines = open_engines(request.param, directory, request)
    with Cluster(directory, engines, WRITE_COPIES="1") as cluster:
        yield cluster


@pytest.fixture
def cluster(common):
    """All seven, ready."""
    return common.start()


def test_any_sync_server_serves_and_a_new_one_leads_when_the_leader_dies(cluster):
    """Provisioning goes on during an election, and one leader follows."""
    for number, name in enumerate(cluster.syncs):
        assert cluster.provision(name, f"by-{number}")["result"] == "success"
    first = cluster.wait_for_leader()
    cluster.processes[first].kill()
    others = [name for name in cluster.syncs if name != first]
    assert cluster.provision(others[0], "meanwhile")["result"] == "success"
    cluster.wait_for_leader(first)


@pytest.mark.parametrize("pair", PAIRS[:2])
def test_a_sync_server_that_comes_back_leaves_the_leader_be(tmp_path, request, pair):
    """It led before, and another one does now: that goes on, under the same generation."""
    engines = open_engines(pair, tmp_path, request)
    # A lease of many seconds, which no leader on a busy machine is late to renew.
    with Cluster(tmp_path, engines, 2, 0, ELECTION_CYCLE="5") as cluster:
        first = cluster.start().wait_for_leader()
        assert cluster.processes[first].stop() == -signal.SIGINT
        second = cluster.wait_for_leader(first)
        generation = cluster.status(second)["generation"]
        cluster.sync(first).wait_ready()
        told = cluster.status(first)
        assert (told["leader"], told["generation"]) == (second, generation)


def test_a_leader_that_was_stopped_and_resumed_does_not_lead(cluster):
    """SIGSTOP for longer than the lease, then SIGCONT: there is one leader, another one."""
    first = cluster.wait_for_leader()
    cluster.processes[first].signal(signal.SIGSTOP)
    others = [name for name in cluster.syncs if name != first]
    until_blocking(lambda: any(cluster.status(name)["leads"] for name in others), "another leader")
    cluster.processes[first].signal(signal.SIGCONT)
    until_blocking(lambda: not cluster.status(first)["leads"], "the end of the old reign")
    until_blocking(
        lambda: sum(cluster.status(name)["leads"] for name in cluster.syncs) == 1, "one leader"
    )


def test_a_promoted_segment_outlives_its_holder(cluster):
    """Copies on other workers answer with the promoted state after the holder was killed,
    the lock waits for its holder, and the holder's unpromoted writes are there at its return."""
    url = cluster.provision("s1", "300001")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    cluster.promote("s2", "300001")
    holder = cluster.holder(url)
    cluster.wait_for_copies("300001")
    write(url, "INSERT INTO t VALUES (2)")
    other = next(name for name in cluster.workers if name != holder)
    # While the holder lives every worker answers with its state, also one with a copy.
    assert read(cluster.read_url(other, "300001"), COUNT) == [{"n": 2}]
    cluster.processes[holder].kill()
    until_blocking(
        lambda: cluster.answers(other, "300001", COUNT, [{"n": 1}]),
        "the promoted state from another copy",
    )
    # At first the sync server may not know yet what the readers have found out.
    until_blocking(
        lambda: "free-lock" in cluster.order("provision", "300001")[1], "the refusal to provision"
    )
    assert cluster.order("provision", "300001")[0] == 503
    cluster.worker(holder).wait_ready()
    assert cluster.provision("s3", "300001")["write_url"] == url
    assert read(cluster.read_url(holder, "300001"), COUNT) == [{"n": 2}]


def test_a_restart_of_a_worker_is_noticed_by_no_reader(cluster):
    """What it wrote and promoted is answered all the while, by whom the store names and by
    every other worker; as last promoted, once it has signed off."""
    url = cluster.provision("s1", "rolling")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    cluster.promote("s1", "rolling")
    cluster.wait_for_copies("rolling")
    holder = cluster.holder(url)
    stopping = threading.Thread(target=cluster.processes[holder].stop)
    stopping.start()
    while stopping.is_alive():
        _read_as_clients_do(cluster, "rolling")
    for name in cluster.workers:
        if name != holder:
            assert read(cluster.read_url(name, "rolling"), COUNT) == [{"n": 1}]
    cluster.worker(holder).wait_ready()
    assert cluster.provision("s2", "rolling")["write_url"] == url


def _read_as_clients_do(cluster, segment):
    """Look a copy up and ask it; one that does not answer has to be published no longer."""
    asked = cluster.copies(segment)
    assert asked
    status, answer = http("POST", asked[0].url, COUNT.encode())
    if status != 200:
        assert asked[0].url not in [copy.url for copy in cluster.copies(segment)], answer
        return
    assert json.loads(answer) == [{"n": 1}]


def test_a_worker_that_waits_for_its_store_stops_without_a_complaint(tmp_path):
    """Its start is cancelled, which is no failure: it ends as by its signal, and logs no trace."""
    with Machine(tmp_path, f"rethinkdb://127.0.0.1:{free_ports(1)[0]}/nobody") as machine:
        worker = machine.worker("w1")
        assert machine.metadata_url in worker.wait_for("worker w1 starts: ")
        health = machine.url("w1", "SYNC_LOCAL_PORT") + "health"
        until_blocking(lambda: http("GET", health)[0] == 503, "a worker that serves and waits")
        assert worker.stop() == -signal.SIGINT
        assert "critical" not in worker.output and "Traceback" not in worker.output


def test_what_was_deleted_is_missing_at_once(cluster):
    """404 from every worker as soon as the deletion is answered, whoever had a copy."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (n)")
        cluster.hand.put_whole("by-hand/deleted.sqlite", database.serialize())
    cluster.wait_for_copies("deleted")
    assert http("DELETE", cluster.url("s2", "SYNC_SERVER_PORT") + "segment/deleted")[0] == 204
    for name in cluster.workers:
        assert http("POST", cluster.read_url(name, "deleted"), COUNT.encode())[0] == 404


def test_what_only_a_dead_writer_has_is_not_called_missing(cluster):
    """503 from every other worker, and not 404: the rows are there, and come back with it."""
    url = cluster.provision("s1", "alone")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    holder = cluster.holder(url)
    cluster.processes[holder].kill()
    cluster.wait_for_death(holder)
    for name in cluster.workers:
        if name != holder:
            until_blocking(
                lambda name=name: (
                    "FAIL alone holder-lost" in cluster.say(name, "1 QUERY alone " + COUNT)[0]
                ),
                "the reason",
            )
            status, answer = http("POST", cluster.read_url(name, "alone"), COUNT.encode())
            assert status == 503 and b"its writer" in answer
    cluster.worker(holder).wait_ready()
    assert read(cluster.read_url(holder, "alone"), COUNT) == [{"n": 1}]


def test_what_no_live_worker_has_a_copy_of_is_not_called_missing(cluster):
    """503 and not 404 while everybody who has a copy is dead."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE t (n)")
        cluster.hand.put_whole("by-hand/absent.sqlite", database.serialize())
    readers = cluster.wait_for_copies("absent")
    for name in readers:
        cluster.processes[name].kill()
    for name in readers:
        cluster.wait_for_death(name)
    other = next(name for name in cluster.workers if name not in readers)
    status, answer = http("POST", cluster.read_url(other, "absent"), b"SELECT 1")
    assert status == 503 and b"is assigned to" in answer


def test_a_promotion_reaches_every_other_copy(cluster):
    """What was promoted is readable on the other copies without the holder."""
    url = cluster.provision("s1", "fresh")["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    cluster.promote("s1", "fresh")
    readers = cluster.wait_for_copies("fresh")
    write(url, "INSERT INTO t VALUES (2)")
    cluster.promote("s1", "fresh")
    holder = cluster.holder(url)
    cluster.processes[holder].kill()
    (other,) = readers - {holder}
    until_blocking(
        lambda: cluster.answers(other, "fresh", COUNT, [{"n": 2}]), "the promoted version"
    )


def test_two_provisionings_at_once_give_one_lock(cluster):
    """However many ask, through whichever sync server, one worker gets to write."""
    answers = []

    def provision(name):
        answers.append(cluster.provision(name, "contested")["write_url"])

    threads = [
        threading.Thread(target=provision, args=(cluster.syncs[number % 3],)) for number in range(9)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 9 and len(set(answers)) == 1


def test_a_port_that_is_in_use_is_named_in_one_line(cluster):
    """Whoever starts a second one on the same ports is told which port and which setting."""
    taken = cluster.processes["w1"].settings["LINE_PORT"]
    second = cluster.worker("w5", LINE_PORT=taken)
    line = second.wait_for("cannot listen")
    assert second.wait() == 1
    assert f"port {taken} (LINE_PORT)" in line and "Traceback" not in second.output


def test_two_workers_of_one_name(cluster):
    """The second one refuses to start and says why; the first one goes on."""
    second = cluster.worker("w6", HOSTNAME="w1")
    line = second.wait_for("refusing to run")
    assert "w1" in line
    assert second.wait() == 1
    assert http("GET", cluster.url("w1", "SYNC_LOCAL_PORT") + "health")[0] == 200
