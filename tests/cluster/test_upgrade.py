"""An upgrade from the original Trough, on a real RethinkDB: everything goes on."""

from __future__ import annotations

import json

import pytest
from cluster_engines import Engines, rethink_url
from cluster_nodes import Cluster
from original import TRUTH, put_files, restore
from processes import http, read, until_blocking, write
from rethinkdb_server import r
from storages import DirectoryHand

from trough.client import TroughClient
from trough.metadata.url import parse
from trough.model import is_segment_id

#: Ids that this version refuses; ``om/sl`` and this one are the original's only such.
REFUSED = [segment for segment in TRUTH if not is_segment_id(segment)]
SERVED = [segment for segment in TRUTH if segment not in REFUSED]


@pytest.fixture(scope="module")
def cluster(request, tmp_path_factory):
    """The original's machines after the upgrade: nobody runs yet."""
    server = request.getfixturevalue("rethinkdb_server")
    directory = tmp_path_factory.mktemp("upgrade")
    url = rethink_url(server)
    with server.connect() as connection:
        restore(connection, parse(url).database)
    hand = DirectoryHand(directory / "canonical")
    put_files(hand, directory)
    for name in ("w1", "w2"):
        (directory / name).mkdir()
        (directory / name / "300001.sqlite").write_bytes(b"kept by the original")
    with Cluster(directory, Engines(url, hand), syncs=1, workers=2, WRITE_LOCK_IDLE="5") as cluster:
        yield cluster


def test_a_worker_names_what_the_original_left(cluster):
    """Its directory is full of the original's files, and locks are held: it says so, and what
    to do."""
    process = cluster.worker("w1")
    assert process.wait() != 0
    text = process.output
    assert "1 file as the original Trough keeps them (300001.sqlite for one)" in text
    assert "trough-admin free-locks w1" in text and "is empty" not in text


def test_what_an_upgrade_refuses_is_listed(cluster):
    """Ids that cannot be used, with the reason; and what is not promoted yet."""
    checked = cluster.admin("check-original")
    assert checked.returncode == 1 and not checked.stderr, checked.stderr
    text = checked.stdout
    assert "'difft\\n' is no segment id: it has \\n; rows: services 'trough-read:w1:difft" in text
    assert "'om/sl' is no segment id: it has a slash" in text
    assert "segments being written; promote them first: 300001, 300123" in text
    assert "ring-assignments" not in text and "schema" not in text, text


def test_the_locks_are_freed(cluster):
    """What was promoted is not called never promoted."""
    for node in ("w1", "w2"):
        freed = cluster.admin("free-locks", node, "--yes")
        assert freed.returncode == 0, freed.stderr
        assert "never promoted" not in freed.stdout
        assert node != "w1" or "300001  promoted, the time is not known" in freed.stdout
    assert cluster.store.locks() == []


def test_everything_is_served(cluster):
    """Each segment has two copies, found as an existing client finds them, with all its rows."""
    cluster.start()
    until_blocking(lambda: cluster.status("s1")["leadership"]["rounds"], "a round of the leader")
    found = until_blocking(lambda: _urls(cluster), "two copies of each segment")
    for segment in SERVED:
        assert len(found[segment]) == 2, segment
        for table, rows in TRUTH[segment].items():
            for url in found[segment]:
                assert read(url, f"SELECT count(*) AS n FROM {table}") == [{"n": rows}], url
    for segment in REFUSED:
        assert segment not in found
    status = cluster.status("s1")["leadership"]
    assert any("difft" in path for path in status["skipped_files"])


def _urls(cluster):
    """URLs of all copies that can be read, once there are two of each segment."""
    found: dict[str, list[str]] = {}
    for copy in cluster.store.segments_matching(None):
        found.setdefault(copy.segment, []).append(copy.url)
    return found if all(len(found.get(segment, ())) == 2 for segment in SERVED) else None


def test_everything_can_be_written_and_promoted(cluster):
    """Each segment is provisioned with a schema nobody knows, written, promoted and read."""
    for segment in SERVED:
        body = json.dumps({"segment": segment, "schema": "nobody-knows-it"}).encode()
        status, answer = http("POST", cluster.url("s1", "SYNC_SERVER_PORT") + "provision", body)
        assert status == 200, (segment, answer)
        url = json.loads(answer)["write_url"]
        write(url, "CREATE TABLE upgraded (n); INSERT INTO upgraded VALUES (1)")
        assert cluster.order("promote", segment)[0] == 200
        counts = [("SELECT count(*) FROM upgraded", 1)]
        counts += [(f"SELECT count(*) FROM {table}", n) for table, n in TRUTH[segment].items()]
        for sql, rows in counts:
            assert cluster.canonical_rows(segment, sql) == [(rows,)], segment


@pytest.mark.parametrize("form", [300123, "300123"])
def test_a_number_is_a_segment(cluster, form):
    """Existing clients send one, and find the segment by its text."""
    for order in ("provision", "promote"):
        body = json.dumps({"segment": form}).encode()
        status, answer = http("POST", cluster.url("s1", "SYNC_SERVER_PORT") + order, body)
        assert status == 200, answer
    with cluster_connection(cluster) as connection:
        rows = list(r.table("services").get_all("300123", index="segment").run(connection))
    assert "trough-write" in {row["role"] for row in rows}


@pytest.mark.parametrize("wrong", [True, -5, 300123.5, 3e5, "om/sl", "difft\n"])
def test_what_names_no_segment_is_refused(cluster, wrong):
    """With the reason, and nothing is changed."""
    body = json.dumps({"segment": wrong}).encode()
    status, answer = http("POST", cluster.url("s1", "SYNC_SERVER_PORT") + "provision", body)
    assert status == 400 and b"not a segment id" in answer, answer


def cluster_connection(cluster):
    address = parse(cluster.metadata_url)
    (host, port), *_ = address.hosts
    return r.connect(host, port, db=address.database)


def test_every_schema_of_the_original_makes_a_segment(cluster):
    """Also those with a transaction of their own, and with pragmas."""
    client = TroughClient(cluster.metadata_url)
    for number, schema in enumerate(client.schemas()):
        segment = f"new {number} ü"
        client.write(segment, "CREATE TABLE mine (n)", schema_id=schema["name"])
        client.write(segment, "INSERT INTO mine VALUES (%s)", (number,))
        assert client.read(segment, "SELECT n FROM mine") == [{"n": number}], schema
    # One worker may have more locks from before, and gets no new ones until the other has as many.
    for number in range(20):
        client.write(f"new one {number}", "CREATE TABLE mine (n)")
    client.close()
    holders = [lock.node for lock in cluster.store.locks() if lock.segment.startswith("new ")]
    assert set(holders) == {"w1", "w2"}, "new segments are spread"


def test_an_original_segment_can_be_deleted(cluster):
    """Its rows, its files and its copies are gone."""
    segment = "om sp"
    url = cluster.url("s1", "SYNC_SERVER_PORT")
    until_blocking(lambda: not _locked(cluster, segment), "the idle lock to be given back")
    status, answer = http("DELETE", f"{url}segment/om%20sp", b"")
    assert status == 204, answer
    assert segment not in cluster.store.copies_of([segment])
    assert not any("om sp" in name for name in cluster.hand.names())


def _locked(cluster, segment):
    return any(lock.segment == segment for lock in cluster.store.locks())
