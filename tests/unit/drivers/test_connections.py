"""What drivers keep between requests, and how they go through a router's steps."""

from __future__ import annotations

import pytest

from trough import errors
from trough.drivers.connections import IdleConnections, RoutingProgress, check_unknown
from trough.drivers.steps import Role, Steps


class Connection:
    """One that remembers whether it was closed."""

    def __init__(self, address: str, idle: bool = True) -> None:
        self.address = address
        self.idle = idle
        self.closed = False

    def is_idle(self) -> bool:
        return self.idle

    def close(self) -> None:
        self.closed = True


def test_connections_are_used_again() -> None:
    """The last one first; one that the server has closed is not, and no more are kept than may."""
    kept: IdleConnections[Connection] = IdleConnections(2)
    first, second, third = (Connection("a") for _ in range(3))
    for connection in (first, second, third):
        kept.give_back(connection)
    assert [first.closed, second.closed, third.closed] == [False, False, True]
    second.idle = False
    assert kept.take("b") is None
    assert kept.take("a") is first
    assert second.closed
    assert kept.take("a") is None
    kept.give_back(first)
    assert kept.take_all() == [first] and kept.take_all() == []


def test_steps_get_outcomes_and_failures() -> None:
    """In turn; the router's result is there at the end."""

    def steps() -> Steps:
        found = yield Role("a")
        try:
            yield Role("b")
        except errors.Unavailable as error:
            return found, error.message
        raise AssertionError("the failure was not passed on")

    progress = RoutingProgress(steps())
    assert progress.step == Role("a")
    progress.go_on("worker", None)
    assert progress.step == Role("b")
    progress.go_on(None, errors.Unavailable("away"))
    assert progress.step is None and progress.result == ("worker", "away")


def test_the_error_of_a_router_is_raised() -> None:
    """What it does not handle comes out."""

    def steps() -> Steps:
        yield Role("a")

    with pytest.raises(errors.Unavailable, match="away"):
        RoutingProgress(steps()).go_on(None, errors.Unavailable("away"))


def test_a_lost_answer_of_a_write_is_an_unknown_outcome() -> None:
    """Not one of a read, nor of a request that was never sent."""
    with pytest.raises(errors.OutcomeUnknown, match="a write to s: gone"):
        check_unknown("a write to s", errors.Unavailable("gone"))
    check_unknown("", errors.Unavailable("gone"))
    check_unknown("a write to s", errors.BadRequest("no such thing"))
