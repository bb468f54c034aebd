"""Cold workers whose HDFS is away, in each way: refused soon, reported, and back by itself."""

import contextlib
import http.server
import json
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hadoop import HdfsServers, may_run, started
from network import open_namespace
from processes import Machine, until_blocking
from processes import http as ask
from storages import HdfsHand

from trough.metadata.open_blocking import open_blocking

SEGMENTS = [f"cold-{number:02d}" for number in range(60)]
#: Read by nothing but the burst.
OTHERS = [f"cold-other-{number:02d}" for number in range(60)]
#: Bytes: three segments.
CACHE = 30_000
COUNT = "SELECT count(*) AS n FROM t"


@contextlib.contextmanager
def running(directory, hdfs):
    """A worker, two cold ones and a sync server, over cold segments that nobody has cached."""
    hand = HdfsHand(hdfs, f"/away-{os.getpid()}-{directory.name}")
    path = directory / "segment.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (n)")
    database.close()
    for segment in (*SEGMENTS, *OTHERS):
        hand.put(f"{segment[:-3]}/{segment}.sqlite", path.read_bytes())
    settings = {"COLD_SEGMENTS": "[{match: '^cold-', cold: true}]", "COLD_CACHE_BYTES": str(CACHE)}
    with Machine(directory, storage_url=hand.url, **settings) as machine:
        machine.worker("w1")
        for name in ("c1", "c2"):
            machine.worker(name, RUN_AS_COLD_STORAGE_NODE="true")
        machine.sync("s1").wait_ready()
        for name in ("w1", "c1", "c2"):
            machine.processes[name].wait_ready()
        for name in ("c1", "c2"):
            until_blocking(
                lambda name=name: (
                    machine.status(name)["cold"]["segments"] == len(SEGMENTS + OTHERS)
                ),
                "the assignments",
            )
        machine.uncached = iter(SEGMENTS)
        yield machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory, hdfs):
    """On the HDFS of all tests."""
    with running(tmp_path_factory.mktemp("cold"), hdfs) as machine:
        yield machine


def answers(machine) -> list[tuple[int, str]]:
    """Read segments that are in no cache, at once by each way there is."""
    ways = [("w1", ""), ("c1", ""), ("c2", ""), ("s1", "gather")]

    def one(name: str, way: str) -> tuple[int, str]:
        segment = next(machine.uncached)
        if way:
            body = json.dumps({"sql": COUNT, "segments": [segment]}).encode()
            status, text = ask("POST", machine.url(name, "SYNC_SERVER_PORT") + "gather", body)
        else:
            url = f"{machine.url(name, 'READ_PORT')}?segment={segment}&seconds=3600"
            status, text = ask("POST", url, COUNT.encode())
        return status, text.decode()

    found: list[tuple[int, str]] = []
    threads = [threading.Thread(target=lambda way=way: found.append(one(*way))) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def is_reported(machine) -> bool:
    """Whether both cold workers say, in status and health, that storage is away."""
    for name in ("c1", "c2"):
        status, health = ask("GET", machine.url(name, "SYNC_LOCAL_PORT") + "health")
        away = machine.status(name)["cold"]["storage_away"]
        # Which segments it looked at differs from one moment to the next.
        if not (away and status == 200 and "storage_away" in json.loads(health)):
            return False
    return True


def troubles(machine) -> set[str]:
    """What ``trough-admin status`` shows of the cold workers."""
    metadata = open_blocking(machine.metadata_url)
    try:
        return {each.trouble for each in metadata.workers() if each.cold_storage}
    finally:
        metadata.close()


def check(machine) -> None:
    """What has to be seen while storage is away, and has been for no time at all."""
    for status, text in answers(machine):
        assert status == 503, text
        assert "storage" in text or "HDFS" in text, text
        assert "in a moment" not in text and "(host=" not in text, text
    until_blocking(lambda: is_reported(machine), "the truth")
    told = {"canonical storage is away (see HDFS is away)"}
    until_blocking(lambda: troubles(machine) == told, "the trouble")
    for status, text in answers(machine):
        assert status == 503 and "canonical storage is away" in text, text


def check_well(machine) -> None:
    """It is back by itself."""
    until_blocking(
        lambda: not any(machine.status(name)["cold"]["storage_away"] for name in ("c1", "c2")),
        "the storage",
    )
    until_blocking(lambda: troubles(machine) == {""}, "the end of the trouble")
    assert [status for status, _ in answers(machine)] == [200] * 4


def test_a_burst_is_not_refused_and_is_spread(machine):
    """Sixty queries at once for sixty segments, and caches for three: they wait in line, and both
    cold workers fetch."""

    def one(segment: str) -> int:
        url = f"{machine.url('w1', 'READ_PORT')}?segment={segment}"
        return ask("POST", url, COUNT.encode())[0]

    with ThreadPoolExecutor(len(OTHERS)) as threads:
        assert list(threads.map(one, OTHERS)) == [200] * len(OTHERS)
    fetched = [machine.status(name)["cold"]["fetches"] for name in ("c1", "c2")]
    assert sum(fetched) == len(OTHERS)
    # Which of them has a segment depends on a hash of the names, and not on the run.
    assert min(fetched) > len(OTHERS) / 4


def test_a_server_that_stands_still(machine, hdfs):
    """The NameNode, then the DataNode alone, whose content the NameNode goes on to promise."""
    for server in (hdfs.namenode, hdfs.datanode):
        server.freeze()
        try:
            check(machine)
        finally:
            server.thaw()
        check_well(machine)


def test_a_namenode_without_datanodes(machine, hdfs):
    """It stays in safe mode, and knows names alone."""
    hdfs.datanode.kill()
    hdfs.namenode.kill()
    hdfs.namenode.start()
    try:
        check(machine)
    finally:
        hdfs.datanode.start()
        hdfs.wait()
    check_well(machine)


def test_another_server_in_its_place(machine, hdfs):
    """One that answers everything with a small page, and knows neither dates nor lengths."""
    hdfs.namenode.kill()
    page = _serve_page(hdfs.port)
    try:
        check(machine)
    finally:
        page.shutdown()
        page.server_close()
        hdfs.namenode.start()
        hdfs.wait()
    check_well(machine)


def _serve_page(port: int) -> http.server.ThreadingHTTPServer:
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_packets_that_vanish(tmp_path):
    """No reset, no answer: what a firewall or a cable does."""
    may_run()
    namespace, problem = open_namespace()
    if namespace is None:
        pytest.skip(problem)
    try:
        hdfs = started(
            lambda directory: HdfsServers(directory, namespace.address, namespace.before)
        )
        try:
            with running(tmp_path, hdfs) as machine:
                assert [status for status, _ in answers(machine)] == [200] * 4
                namespace.cut()
                check(machine)
                namespace.mend()
                check_well(machine)
        finally:
            hdfs.stop()
    finally:
        namespace.close()
