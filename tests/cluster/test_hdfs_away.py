"""HDFS that is silent, refuses changes, or is another server: told soon, and remembered."""

import json
from pathlib import Path

import pytest
from processes import Machine, http, read, until_blocking
from segments_on_disk import make_segment
from storages import HdfsHand
from web_pages import small_pages

from trough.model import canonical_path

COUNT = b"SELECT count(*) AS n FROM crawled_url"
SEGMENTS = [f"cold-{number}" for number in range(12)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory, hdfs):
    """A warm worker and two cold ones on an HDFS with some cold segments."""
    directory = tmp_path_factory.mktemp("away")
    hand = HdfsHand(hdfs, "/away")
    content = Path(make_segment(directory / "segment.sqlite", 3)).read_bytes()
    for segment in SEGMENTS:
        hand.put(canonical_path(segment), content)
    rule = "[{match: '^cold-', cold: true}]"
    with Machine(directory, storage_url=hand.url, COLD_SEGMENTS=rule) as machine:
        machine.hdfs = hdfs
        machine.sync("s1")
        machine.worker("w1")
        for name in ("c1", "c2"):
            machine.worker(name, RUN_AS_COLD_STORAGE_NODE="true")
        for name in ("s1", "w1", "c1", "c2"):
            machine.processes[name].wait_ready()
        for name in ("c1", "c2"):
            until_blocking(
                lambda name=name: machine.status(name)["cold"]["segments"] == len(SEGMENTS),
                "the assignments",
            )
        yield machine


def asked(machine, worker, segment):
    """Status of a read."""
    return http("POST", f"{machine.url(worker, 'READ_PORT')}?segment={segment}", COUNT)[0]


def test_a_namenode_that_is_silent(machine):
    """Cold reads are refused, each sooner than the server's own patience; then at once."""
    assert read(f"{machine.url('w1', 'READ_PORT')}?segment=cold-0", COUNT.decode()) == [{"n": 3}]
    machine.hdfs.namenode.freeze()
    try:
        assert [asked(machine, "w1", segment) for segment in SEGMENTS[1:5]] == [503] * 4
        for name in ("c1", "c2"):
            health = machine.url(name, "SYNC_LOCAL_PORT") + "health"
            until_blocking(lambda health=health: b"storage_away" in http("GET", health)[1], "it")
            assert machine.status(name)["cold"]["storage_away"]
        assert asked(machine, "w1", "cold-0") == 200
    finally:
        machine.hdfs.namenode.thaw()
    until_blocking(lambda: asked(machine, "w1", "cold-5") == 200, "the storage")


def test_a_namenode_in_safe_mode(machine):
    """Promotions are refused with that reason, and cold reads go on."""
    url = machine.provision("s1", "hot")["write_url"]
    assert http("POST", url, b"CREATE TABLE t (n)")[0] == 200
    machine.hdfs.safe_mode(True)
    try:
        order = json.dumps({"segment": "hot"}).encode()
        status, answer = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "promote", order)
        assert status == 503 and b"safe mode" in answer
        assert asked(machine, "w1", "cold-6") == 200
        line = machine.processes["w1"].wait_for("promotions refused")
        assert "see the guide, *Promotions fail*" in line
    finally:
        machine.hdfs.safe_mode(False)
    machine.promote("s1", "hot")


def test_another_server_in_its_place(tmp_path):
    """A page where WebHDFS should be: new segments are written, and promotions are refused."""
    with small_pages() as port:
        url = f"webhdfs://127.0.0.1:{port}/trough?user=trough"
        with Machine(tmp_path, storage_url=url) as machine:
            machine.sync("s1")
            machine.worker("w1").wait_ready()
            url = machine.provision("s1", "new")["write_url"]
            assert http("POST", url, b"CREATE TABLE t (n)")[0] == 200
            order = json.dumps({"segment": "new"}).encode()
            status, answer = http("POST", machine.url("s1", "SYNC_SERVER_PORT") + "promote", order)
            assert status == 503 and b"HDFS at http://127.0.0.1" in answer
            leader = machine.processes["s1"].wait_for("looks at canonical storage failed")
            assert "see the guide, *HDFS is away*" in leader
