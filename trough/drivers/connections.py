"""What the drivers' connections have in common, whether they block or not. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from trough import errors
from trough.drivers.steps import Step, Steps


class Idle(Protocol):
    """A connection between two requests.

    :ivar address: of its server
    """

    address: str

    def is_idle(self) -> bool:
        """Whether the server has sent nothing, and has not closed the connection."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Idle)


class IdleConnections(Generic[C]):
    """Connections that wait for their next request.

    :param most: kept for each server
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: dict[str, list[C]] = {}

    def take(self, address: str) -> C | None:
        """A connection to a server; None: there is none that can be used."""
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            # A connection with unread data was closed, or is about to be.
            if connection.is_idle():
                return connection
            connection.close()
        return None

    def give_back(self, connection: C) -> None:
        """Take back a connection whose last answer was read to its end."""
        idle = self._idle.setdefault(connection.address, [])
        if len(idle) < self._most:
            idle.append(connection)
        else:
            connection.close()

    def take_all(self) -> list[C]:
        """All of them, which are to be closed."""
        found = [each for idle in self._idle.values() for each in idle]
        self._idle.clear()
        return found


class RoutingProgress:
    """How far a router's steps are.

    :ivar step: to be done next; None at the end
    :ivar result: of the router, at the end
    :raises trough.errors.TroughError: the router's error; so do the methods
    """

    step: Step | None
    result: Any = None

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._go(partial(next, steps))

    def go_on(self, outcome: Any, failure: errors.TroughError | None) -> None:
        """Take the outcome of the step, or why it failed."""
        if failure is None:
            self._go(partial(self._steps.send, outcome))
        else:
            self._go(partial(self._steps.throw, failure))

    def _go(self, advance: Callable[[], Step]) -> None:
        try:
            self.step = advance()
        except StopIteration as done:
            self.step, self.result = None, done.value


def check_unknown(changes: str, error: BaseException) -> None:
    """Raise what the loss of an answer means, where the request may have changed something.

    :param changes: what it changes; empty: nothing
    :raises trough.errors.OutcomeUnknown: it was sent, and may have been carried out
    """
    # A request that cannot be made is a BadRequest, and was not sent.
    if changes and isinstance(error, errors.Unavailable | errors.FramingLost):
        raise errors.OutcomeUnknown(f"{changes}: {error}", "it may have happened or not") from error
