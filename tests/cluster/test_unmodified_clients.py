"""What clients that drop a refused batch lose when workers restart, or give locks up: nothing."""

import threading

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, read, until_blocking, write

COUNT = "SELECT count(*) AS n FROM t"


@pytest.fixture(scope="module", params=PAIRS[:2])
def cluster(tmp_path_factory, request):
    """A sync server and two workers, which give promoted segments up after half a second."""
    directory = tmp_path_factory.mktemp("clients")
    engines = open_engines(request.param, directory, request)
    settings = {"WRITE_COPIES": "1", "WRITE_LOCK_IDLE": "0.5", "HOLDER_WAIT": "200"}
    with Cluster(directory, engines, 1, 2, **settings) as cluster:
        yield cluster.start()


def begin(cluster, segment):
    """A segment with one row that is not promoted, so that it is not given up; its write URL."""
    url = cluster.provision("s1", segment)["write_url"]
    write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
    return url


def lock_holder(cluster, segment):
    """Name of the worker that holds the write lock, or None."""
    return next((lock.node for lock in cluster.store.locks() if lock.segment == segment), None)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_provisioning_waits_for_a_holder_that_restarts(cluster, end):
    """It is answered with the same URL as soon as the holder is back."""
    segment, answers = f"restart-{end}", []
    url = begin(cluster, segment)
    holder = cluster.holder(url)
    getattr(cluster.processes[holder], end)()
    asking = threading.Thread(target=lambda: answers.append(cluster.order("provision", segment)))
    asking.start()
    cluster.wait_for_death(holder)
    assert not answers
    cluster.worker(holder)
    asking.join()
    assert answers[0][0] == 200 and url in answers[0][1]
    write(url, "INSERT INTO t VALUES (2)")


def test_any_worker_passes_a_write_on(cluster):
    """To the holder, once; what the holder refuses is refused with its reason."""
    url = begin(cluster, "passed-on")
    (other,) = set(cluster.workers) - {cluster.holder(url)}
    elsewhere = f"{cluster.url(other, 'WRITE_PORT')}?segment=passed-on"
    until_blocking(
        lambda: http("POST", elsewhere, b"INSERT INTO t VALUES (2)") == (200, b"OK\n"),
        "the other worker to know of the lock",
    )
    assert read(cluster.read_url(other, "passed-on"), COUNT) == [{"n": 2}]
    status, answer = http("POST", elsewhere, b"INSERT INTO nothing VALUES (2)")
    assert status == 400 and answer.startswith(b"500 Server Error: ") and b"nothing" in answer


def test_a_lock_that_was_given_up_is_taken_again(cluster):
    """By the next write, on the worker that gave it up and on any other one."""
    url = begin(cluster, "idle")
    holder = cluster.holder(url)
    (other,) = set(cluster.workers) - {holder}
    for number, worker in enumerate((holder, other), 2):
        cluster.promote("s1", "idle")
        until_blocking(lambda: lock_holder(cluster, "idle") is None, "the end of the lock")
        write(f"{cluster.url(worker, 'WRITE_PORT')}?segment=idle", "INSERT INTO t VALUES (2)")
        # One that has not heard of the end of the lock passes the write on.
        taken_by = lock_holder(cluster, "idle")
        assert taken_by in {worker, holder}
        assert read(cluster.read_url(taken_by, "idle"), COUNT) == [{"n": number}]


def test_a_new_segment_needs_to_be_provisioned(cluster):
    """A write makes none, on whichever worker: its schema would not be known."""
    for worker in cluster.workers:
        target = f"{cluster.url(worker, 'WRITE_PORT')}?segment=never-was"
        status, answer = http("POST", target, b"CREATE TABLE t (n)")
        assert status == 503 and b"provision" in answer
    assert lock_holder(cluster, "never-was") is None
