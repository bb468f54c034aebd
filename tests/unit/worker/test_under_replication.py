"""Segments with too few followers: how many, for how long, and when a person has to act."""

from __future__ import annotations

from twisted.internet.task import Clock

from trough.worker.under_replication import TOLERATED, UnderReplication


def test_the_oldest_one_counts() -> None:
    """Until it has enough followers, or is no longer written here."""
    clock = Clock()
    short = UnderReplication(1, clock)
    short.note("a", 0)
    clock.advance(10)
    short.note("a", 0)
    short.note("b", 0)
    short.note("c", 1)
    clock.advance(5)
    assert short.status() == {"under_replicated": 2, "under_replicated_seconds": 15.0}
    short.note("a", 1)
    assert short.status() == {"under_replicated": 1, "under_replicated_seconds": 5.0}
    short.ended("b")
    assert short.status() == {"under_replicated": 0, "under_replicated_seconds": 0.0}


def test_a_person_acts_after_a_while() -> None:
    """Followers change all the time, so a moment without one is no trouble."""
    clock = Clock()
    short = UnderReplication(1, clock)
    short.note("a", 0)
    clock.advance(TOLERATED)
    assert short.trouble() == ""
    clock.advance(1)
    assert short.trouble().startswith("1 segment with fewer copies")
