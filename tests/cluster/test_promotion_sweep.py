"""A worker that is killed at every step of a promotion loses nothing."""

import sqlite3

import pytest
from processes import Machine, http, read, until_blocking, write

STEPS = [
    "trough.worker.promotion:Promotion.check_overwritten",
    "trough.executors.pool.pool:ExecutorPool.snapshot",
    "trough.worker.threaded_catalogue:AsyncCatalogue.put",
    "trough.metadata.sqlite.store:SqliteMetadata.check_lock",
    "trough.storage.directory.backend:DirectoryBackend.stage",
    "trough.storage.directory.backend:DirectoryBackend.commit",
    "trough.metadata.sqlite.store:SqliteMetadata.announce_version",
]

SWEPT = b'{"segment": "swept"}'


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.rpartition(".")[2])
def test_a_worker_killed_in_the_midst_of_a_promotion_loses_nothing(tmp_path, step, when):
    """After the restart every row is there, still writable, and a second promotion succeeds."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        url = machine.provision("s1", "swept")["write_url"]
        write(url, "CREATE TABLE t (n); INSERT INTO t VALUES (1)")
        machine.promote("s1", "swept")
        write(url, "INSERT INTO t VALUES (2)")
        machine.processes["w1"].kill()

        doomed = machine.worker_killed_at("w1", step, when).wait_ready()
        sync = machine.url("s1", "SYNC_SERVER_PORT")
        status, _ = http("POST", sync + "promote", SWEPT)
        assert status != 200
        doomed.wait()
        assert _canonical(machine) in ([(1,)], [(1,), (2,)])

        machine.worker("w1").wait_ready()
        reading = machine.url("w1", "READ_PORT") + "?segment=swept"
        until_blocking(lambda: http("POST", reading, b"SELECT 1")[0] == 200, "the copy")
        assert read(reading, "SELECT n FROM t") == [{"n": 1}, {"n": 2}]
        write(machine.provision("s1", "swept")["write_url"], "INSERT INTO t VALUES (3)")
        machine.promote("s1", "swept")
        assert _canonical(machine) == [(1,), (2,), (3,)]
        assert machine.status("w1")["aside"] == []


def test_a_worker_that_died_right_after_a_publication_need_not_be_told_of_it(tmp_path):
    """A promotion that follows finds out by itself that the newer copy is the worker's own."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1", LISTING_INTERVAL="3600") as machine:
        machine.sync("s1").wait_ready()
        step = "trough.storage.directory.backend:DirectoryBackend.commit"
        doomed = machine.worker_killed_at("w1", step, "after").wait_ready()
        write(machine.provision("s1", "swept")["write_url"], "CREATE TABLE t (n)")
        status, _ = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "promote", SWEPT)
        assert status != 200
        doomed.wait()
        machine.worker("w1").wait_ready()
        write(machine.provision("s1", "swept")["write_url"], "INSERT INTO t VALUES (1)")
        machine.promote("s1", "swept")
        assert _canonical(machine) == [(1,)]
        assert machine.status("w1")["aside"] == []


def test_a_lock_under_which_nothing_came_to_be_is_given_back(tmp_path):
    """A worker that died between taking it and making the segment frees it at its return."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        step = "trough.metadata.sqlite.store:SqliteMetadata.take_lock"
        doomed = machine.worker_killed_at("w1", step, "after").wait_ready()
        sync = machine.url("s1", "SYNC_SERVER_PORT")
        assert http("POST", sync + "provision", b'{"segment": "unmade"}')[0] != 200
        doomed.wait()
        status, answer = http("DELETE", sync + "segment/unmade")
        assert status == 400 and b"locked for writing by w1" in answer
        machine.worker("w1").wait_ready()
        until_blocking(lambda: http("DELETE", sync + "segment/unmade")[0] == 404, "a free lock")


def _canonical(machine):
    (path,) = [path for path in machine.canonical.rglob("swept.sqlite")]
    with sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return database.execute("SELECT n FROM t ORDER BY n").fetchall()
