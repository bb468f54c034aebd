"""Whom a driver asks, and when it asks again: steps out, outcomes in."""

from __future__ import annotations

import pytest

from trough import errors
from trough.drivers.routing import TRIES, Router
from trough.drivers.steps import Ask, NotReached, OpenStream, Role
from trough.drivers.target import parse_target


class Played:
    """Plays a driver: answers steps by a function, and notes them.

    :ivar asked: address and first words of each request
    """

    def __init__(self, answer) -> None:
        self.asked = []
        self._answer = answer

    def run(self, steps):
        outcome = failure = None
        while True:
            try:
                step = steps.send(outcome) if failure is None else steps.throw(failure)
            except StopIteration as done:
                return done.value
            outcome = failure = None
            try:
                outcome = self._outcome(step)
            except errors.TroughError as error:
                failure = error

    def _outcome(self, step):
        if isinstance(step, Role):
            return "worker" if step.address.startswith("w") else "sync"
        assert isinstance(step, Ask | OpenStream)
        verb = step.request(b"1").split()[1].decode()
        self.asked.append((step.address, verb))
        return self._answer(step.address, verb)


def where(*copies):
    lines = [(b"COPY", f"a n {line} http://u {role}".encode()) for line, role in copies]
    return [*lines, (b"END", b"")]


def cluster(**answers):
    """A sync server that knows a writer at w1 and a reader at w2."""

    def answer(address, verb):
        if verb == "WHERE":
            return where(("w2:1", "read"), ("w1:1", "read"), ("w1:1", "write"))
        if verb == "PROVISION":
            return [(b"OK", b"{}")]
        found = answers[verb](address)
        if isinstance(found, Exception):
            raise found
        return found

    return Played(answer)


def router(url="trough://s/a"):
    return Router(parse_target(url), None)


def test_a_read_asks_the_writer_first():
    """What is being written is newest there; the address is remembered."""
    played, asking = cluster(QUERY=lambda address: f"rows of {address}"), router()
    for _ in range(2):
        assert played.run(asking.read("SELECT 1", None, None)) == "rows of w1:1"
    assert played.asked == [("s:6110", "WHERE"), ("w1:1", "QUERY"), ("w1:1", "QUERY")]


def test_a_read_goes_on_to_another_copy():
    """If one worker is not reached or has lost the segment."""
    for error in (NotReached("no"), errors.Unavailable("lost"), errors.NoSuchSegment("gone")):
        answers = {"w1:1": error, "w2:1": "rows"}
        played = cluster(QUERY=answers.get)
        assert played.run(router().read("SELECT 1", None, None)) == "rows"


def test_a_read_follows_moved():
    """To the address that the worker names."""
    answers = {"w1:1": errors.Moved("w3 w3:1", "w3", "w3:1"), "w3:1": "rows"}
    played = cluster(QUERY=answers.get)
    assert played.run(router().read("SELECT 1", None, None)) == "rows"


@pytest.mark.parametrize("error", [errors.BadSql("no"), errors.DeadlineExceeded("late")])
def test_a_read_that_would_fail_again_is_not_repeated(error):
    """The query is wrong, or too long."""
    played = cluster(QUERY=lambda address: error)
    with pytest.raises(type(error)):
        played.run(router().read("SELECT 1", None, None))
    assert [verb for _, verb in played.asked] == ["WHERE", "QUERY"]


def test_a_read_ends():
    """Where every copy fails."""
    played = cluster(QUERY=lambda address: errors.Unavailable("away"))
    with pytest.raises(errors.Unavailable):
        played.run(router().read("SELECT 1", None, None))
    assert [verb for _, verb in played.asked].count("QUERY") == TRIES


def test_a_write_provisions_once():
    """And then goes to the same worker."""
    played, asking = cluster(WRITE=lambda address: [(b"OK", b"changes=2 ms=1")]), router()
    for _ in range(2):
        assert played.run(asking.write("DELETE FROM t", None, None)) == 2
    verbs = [verb for _, verb in played.asked]
    assert verbs == ["PROVISION", "WHERE", "WRITE", "WRITE"]


@pytest.mark.parametrize(
    "error", [NotReached("no"), errors.NoWriteLock("no"), errors.Fenced("no")], ids=lambda e: e.code
)
def test_a_write_that_was_not_carried_out_is_sent_once_more(error):
    """After another provisioning."""
    outcomes = [error, [(b"OK", b"changes=1")]]
    played = cluster(WRITE=lambda address: outcomes.pop(0))
    assert played.run(router().write("DELETE FROM t", None, None)) == 1
    assert [verb for _, verb in played.asked].count("PROVISION") == 2


@pytest.mark.parametrize(
    "error",
    [errors.OutcomeUnknown("?"), errors.Unavailable("no"), errors.BadSql("no")],
    ids=lambda e: e.code,
)
def test_no_other_write_is_sent_twice(error):
    """It may be on disk, or would be refused again."""
    played = cluster(WRITE=lambda address: error)
    with pytest.raises(type(error)):
        played.run(router().write("DELETE FROM t", None, None))
    assert [verb for _, verb in played.asked].count("WRITE") == 1


def test_a_worker_is_asked_itself():
    """Nothing is looked up, and its refusal names what would help."""
    played = cluster(QUERY=lambda address: "rows", WRITE=lambda address: errors.NoWriteLock("no"))
    asking = router("trough://w9:6440/a")
    assert played.run(asking.read("SELECT 1", None, None)) == "rows"
    with pytest.raises(errors.NoWriteLock, match="sync server"):
        played.run(asking.write("DELETE FROM t", None, None))
    assert played.asked == [("w9:6440", "QUERY"), ("w9:6440", "WRITE")]


def test_a_segment_can_be_made_before_it_is_read():
    """With create=yes, once."""
    played, asking = (
        cluster(WRITE=lambda address: [(b"OK", b"changes=1")]),
        router("trough://s/a?create=yes"),
    )
    played.run(asking.prepare())
    played.run(asking.write("DELETE FROM t", None, None))
    assert [verb for _, verb in played.asked] == ["PROVISION", "WHERE", "WRITE"]


def test_many_segments_are_gathered_by_a_sync_server():
    """And are never written."""
    played, asking = cluster(GATHER=lambda address: "rows"), router("trough://s/~^a")
    assert played.run(asking.read("SELECT 1", None, None)) == "rows"
    with pytest.raises(errors.BadRequest, match="only reads"):
        played.run(asking.write("DELETE FROM t", None, None))
    with pytest.raises(errors.BadRequest, match="is a worker"):
        played.run(router("trough://w/~^a").read("SELECT 1", None, None))


def test_a_gather_is_asked_again_only_if_its_server_is_gone():
    """What the server itself reports stands."""
    outcomes = [errors.Unavailable("the connection was lost"), "rows"]
    played = cluster(GATHER=lambda address: outcomes.pop(0))
    assert played.run(router("trough://s/~^a").read("SELECT 1", None, None)) == "rows"
    played = cluster(GATHER=lambda address: errors.DeadlineExceeded("late"))
    with pytest.raises(errors.DeadlineExceeded):
        played.run(router("trough://s/~^a").read("SELECT 1", None, None))
    assert len(played.asked) == 1
