"""How often a damaged canonical copy is fetched."""

import itertools
from dataclasses import replace

import pytest
from twisted.internet.task import Clock

from trough.model import CanonicalCopy
from trough.worker.damaged_copies import FIRST, MOST, DamagedCopies

COPY = CanonicalCopy("s", "s.sqlite", 4096, 1000, "sha256:00")


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="damaged")
def _damaged(clock):
    return DamagedCopies(clock.seconds)


def test_tries_become_rarer(clock, damaged):
    """One at once, and then after twice as long each time; an hour at most."""
    tries = []
    for _ in range(40_000):
        if damaged.may_fetch(COPY):
            tries.append(clock.seconds())
        clock.advance(1)
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert max(waits) == MOST
    assert len(tries) < 20


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"modified": 2000, "checksum": "sha256:11"}, True),
        ({"size": 8192, "checksum": ""}, True),
        ({"modified": 2000}, False),
        ({"segment": "t"}, True),
    ],
    ids=["another version", "another size", "the same content", "another segment"],
)
def test_what_is_another_copy(damaged, change, again):
    """It is fetched at once; the same content under another time is not."""
    assert damaged.may_fetch(COPY)
    assert not damaged.may_fetch(COPY)
    assert damaged.may_fetch(replace(COPY, **change)) == again


def test_it_is_logged_once(clock, damaged):
    """And not with each try."""
    logged = found = 0
    for _ in range(100):
        if damaged.may_fetch(COPY):
            damaged.was_fetched(COPY)
        elif damaged.is_damaged_in_storage("s"):
            found += 1
            logged += damaged.is_to_be_reported("s")
        clock.advance(FIRST / 2)
    assert found > logged == 1


def test_damage_that_a_try_has_mended_is_not_that_of_storage(damaged):
    """Queries of the former file may still report theirs."""
    assert damaged.may_fetch(COPY)
    assert not damaged.may_fetch(COPY)
    assert not damaged.is_damaged_in_storage("s")


def test_a_copy_that_was_whole_for_long_is_fetched_at_once(clock, damaged):
    """Its damage is new, and on this worker."""
    assert damaged.may_fetch(COPY)
    clock.advance(FIRST + MOST + 1)
    assert damaged.may_fetch(COPY)
