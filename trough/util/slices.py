"""Long loops on the reactor, in slices: between two of them everybody else has a turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, TypeVar

from twisted.internet.task import CooperativeTask, Cooperator, TaskFinished

T = TypeVar("T")
R = TypeVar("R")

#: Items of one slice; with a microsecond or two for each, less than a millisecond.
SLICE = 500

#: Items between two looks at the clock.
_STEP = 100

#: Seconds that all long loops together have of one turn of the reactor. A point read waits for
#: two turns. Twisted's own cooperator takes 0.01 s, ten times a read.
_TURN = 0.001


def _turn_is_over() -> Callable[[], bool]:
    end = monotonic() + _TURN
    return lambda: monotonic() >= end


_cooperator = Cooperator(_turn_is_over)


def cooperate(steps: Iterator[Any]) -> CooperativeTask[Any]:
    """Go through `steps` in many turns of the reactor, as Twisted's function of this name does."""
    return _cooperator.cooperate(steps)


async def in_slices(function: Callable[[Sequence[T]], Iterable[R]], items: Sequence[T]) -> list[R]:
    """What `function` gives for slices of `items`, in their order.

    Ends with the exception that `function` raises, and between two slices when it is cancelled.
    """
    found: list[R] = []

    def steps() -> Iterator[None]:
        for start in range(0, len(items), _STEP):
            found.extend(function(items[start : start + _STEP]))
            yield

    if len(items) <= SLICE:
        return list(function(items))
    task = cooperate(steps())
    try:
        await task.whenDone()
    finally:
        with contextlib.suppress(TaskFinished):
            task.stop()
    return found
