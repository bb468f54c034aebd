"""Copies that a worker cannot make become a trouble after a minute."""

from twisted.internet.task import Clock

from trough import errors
from trough.worker.late_copies import TOLERATED, LateCopies


def test_a_copy_that_fails_for_a_minute_is_a_trouble():
    """Counted from its first failure, until it is here or assigned no longer."""
    clock = Clock()
    late = LateCopies(clock)
    late.failed("a", errors.Unavailable("storage is away"))
    clock.advance(TOLERATED)
    late.failed("a", errors.Unavailable("storage is silent"))
    late.failed("b", errors.Unavailable("storage is silent", "look at it"))
    assert late.trouble == ""
    clock.advance(1)
    assert late.trouble == "2 copies cannot be made here: storage is silent"
    late.ended("a")
    late.ended("a")
    assert (late.trouble, late.count) == ("", 1)
    clock.advance(TOLERATED)
    assert late.trouble == "1 copy cannot be made here: storage is silent"
    late.ended("b")
    assert (late.trouble, late.count) == ("", 0)
