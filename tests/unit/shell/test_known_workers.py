"""The file of the workers that a command of the shell asked."""

import json

import pytest

from trough.shell.cluster.known_workers import CLUSTERS, MOST, KnownWorkers


def test_the_last_ones_of_each_cluster_are_remembered(tmp_path):
    """A command that asked nobody changes nothing; old clusters go."""
    path = tmp_path / "state" / "workers"
    one, two = KnownWorkers(path, "rethinkdb://a/x"), KnownWorkers(path, "rethinkdb://b/x")
    assert one.addresses() == []
    one.remember(["w1:1", "tls://w2:2"])
    two.remember([f"w:{port}" for port in range(1, 20)])
    one.remember([])
    assert one.addresses() == ["w1:1", "tls://w2:2"]
    assert two.addresses() == [f"w:{port}" for port in range(1, 1 + MOST)]
    for number in range(CLUSTERS - 1):
        KnownWorkers(path, f"rethinkdb://c{number}/x").remember(["w:9"])
    assert one.addresses() == [] and two.addresses() != []
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[]", b"null", json.dumps({"rethinkdb://a/x": 1}).encode()]
)
def test_a_file_that_says_something_else_is_as_good_as_none(tmp_path, content):
    """And is replaced."""
    path = tmp_path / "workers"
    path.write_bytes(content)
    known = KnownWorkers(path, "rethinkdb://a/x")
    assert known.addresses() == []
    known.remember(["w1:1"])
    assert known.addresses() == ["w1:1"]


def test_nothing_is_remembered_where_there_can_be_no_file(tmp_path):
    """Without a path, and where the place is no directory."""
    (tmp_path / "file").write_bytes(b"")
    for path in (None, tmp_path / "file" / "workers"):
        known = KnownWorkers(path, "rethinkdb://a/x")
        known.remember(["w1:1"])
        assert known.addresses() == []
