"""What a reader is told when a worker cannot know whether its rows are the newest."""

import contextlib
import json
import signal
import sqlite3
import threading
import urllib.request

import pytest
from cluster_engines import PAIRS, open_engines
from cluster_nodes import Cluster
from processes import http, until_blocking, write
from waiting import GIVE_UP

COUNT = "SELECT count(*) AS n FROM t"


@pytest.fixture(scope="module", params=PAIRS[:2])
def cluster(tmp_path_factory, request):
    """One sync server and two workers, on each store, and a segment with 1 promoted row of 2."""
    directory = tmp_path_factory.mktemp("stale")
    with Cluster(directory, open_engines(request.param, directory, request), 1, 2) as cluster:
        cluster.silenced = _silenced(request)
        url = cluster.start().provision("s1", "stale")["write_url"]
        write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        cluster.promote("s1", "stale")
        cluster.wait_for_copies("stale")
        write(url, "INSERT INTO t VALUES (2)")
        cluster.first = cluster.holder(url)
        (cluster.other,) = set(cluster.workers) - {cluster.first}
        yield cluster


def _silenced(request):
    """Makes the store answer no heartbeat, from the first call to the second."""
    if request.param == PAIRS[1]:
        server = request.getfixturevalue("rethinkdb_server")
        return lambda _: _stands_still(server)
    return _cannot_be_written


@contextlib.contextmanager
def _stands_still(server):
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@contextlib.contextmanager
def _cannot_be_written(metadata_url):
    path = metadata_url.removeprefix("sqlite://")
    with contextlib.closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        yield


def nobody_writes(cluster):
    """Nobody can write to the metadata store while the block lasts."""
    return cluster.silenced(cluster.metadata_url)


def ask(cluster, worker):
    """Rows and mark of an answer over HTTP."""
    request = urllib.request.Request(cluster.read_url(worker, "stale"), COUNT.encode())
    with urllib.request.urlopen(request, timeout=GIVE_UP) as response:
        return json.loads(response.read())[0]["n"], response.headers["x-trough-state"]


def health(cluster, worker):
    """Status and body of a worker's health."""
    status, body = http("GET", cluster.url(worker, "SYNC_LOCAL_PORT") + "health")
    return status, json.loads(body)


def test_a_worker_that_hears_nothing_of_its_store_says_so(cluster):
    """Both protocols, health and status; and no more once the store is back."""
    with nobody_writes(cluster):
        until_blocking(
            lambda: ask(cluster, cluster.first)[1] == "unconfirmed", "the mark of an answer"
        )
        assert "1 STATE stale unconfirmed" in cluster.say(cluster.first, f"1 QUERY stale {COUNT}")
        assert health(cluster, cluster.first) == (200, {"ready": True, "state": "unconfirmed"})
        assert cluster.status(cluster.first)["state"] == "unconfirmed"
    until_blocking(lambda: ask(cluster, cluster.first) == (2, None), "an answer without a mark")
    # On a busy machine a heartbeat may be late once more.
    until_blocking(lambda: health(cluster, cluster.first) == (200, {"ready": True}), "its health")


def test_a_worker_that_starts_answers_nothing_old_without_a_mark(cluster):
    """Its copy lacks a row. Reads wait for the list of locks, and then for no longer than some
    seconds; each answer has all rows, or a mark."""
    answers, over = [], threading.Event()

    def read():
        while not over.is_set():
            with contextlib.suppress(OSError):
                answers.append(ask(cluster, cluster.other))

    cluster.processes[cluster.other].kill()
    reader = threading.Thread(target=read)
    reader.start()
    try:
        with nobody_writes(cluster):
            cluster.worker(cluster.other)
            # Of its own, or of the holder where it has found out that this one lives.
            until_blocking(
                lambda: any(mark == "unconfirmed" for _, mark in answers), "an answer with a mark"
            )
        until_blocking(lambda: (2, None) in answers, "the answer of the holder")
    finally:
        over.set()
        reader.join()
    assert {n for n, mark in answers if mark is None} == {2}
