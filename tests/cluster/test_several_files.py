"""Segments whose files lie elsewhere than at their default paths, or in several places."""

import os

import pytest
from processes import Machine, http, read, until_blocking
from segments_on_disk import make_segment

from trough.model import canonical_path


def put(machine, path, rows, modified):
    """A segment's file in canonical storage, at any path."""
    target = machine.canonical / path
    target.parent.mkdir(parents=True, exist_ok=True)
    hidden = target.with_name(f".{target.name}")
    make_segment(hidden, rows)
    os.utime(hidden, (modified, modified))
    hidden.rename(target)
    return target


@pytest.mark.parametrize("asked", ["leader", "another"])
def test_a_deletion_removes_every_file_of_a_segment(tmp_path, asked):
    """The older one would be found at the next look, and the segment would be back."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        files = [
            put(machine, canonical_path("300001"), 2, 1_600_000_000),
            put(machine, "else/where/300001.sqlite", 3, 1_700_000_000),
            put(machine, "else/300001.sqlite", 1, 1_500_000_000),
        ]
        for name in ("s1", "s2"):
            machine.sync(name).wait_ready()
        machine.worker("w1").wait_ready()
        reading = machine.url("w1", "READ_PORT") + "?segment=300001"
        until_blocking(lambda: http("POST", reading, b"SELECT 1")[0] == 200, "the copy")
        assert read(reading, "SELECT count(*) AS n FROM crawled_url") == [{"n": 3}]
        leads = {name for name in ("s1", "s2") if machine.status(name)["leads"]}
        (name,) = leads if asked == "leader" else {"s1", "s2"} - leads
        url = machine.url(name, "SYNC_SERVER_PORT") + "segment/300001"
        assert http("DELETE", url)[0] == 204
        assert not any(path.exists() for path in files)
        assert http("DELETE", url)[0] == 404


def test_a_segment_that_lies_elsewhere_is_not_made_anew(tmp_path):
    """Not even while nobody has been assigned a copy: here there is no worker for that."""
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        path = put(machine, "else/where/300001.sqlite", 3, 1_700_000_000)
        machine.sync("s1").wait_ready()
        leadership = lambda: machine.status("s1")["leadership"]  # noqa: E731
        until_blocking(lambda: leadership()["rounds"], "the first look")
        order = machine.url("s1", "SYNC_SERVER_PORT") + "provision"
        status, answer = http("POST", order, b'{"segment": "300001"}')
        assert (status, b"lies at else/where/300001.sqlite" in answer) == (503, True), answer
        machine.worker("w1").wait_ready()
        until_blocking(
            lambda: http("POST", order, b'{"segment": "300001"}')[0] == 200, "the write lock"
        )
        writing = machine.url("w1", "READ_PORT") + "?segment=300001"
        assert read(writing, "SELECT count(*) AS n FROM crawled_url") == [{"n": 3}]
        assert [path] == list(machine.canonical.rglob("*.sqlite"))
