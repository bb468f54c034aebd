"""Long loops on the reactor, in slices: between two of them everybody else has a turn."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from twisted.internet.task import TaskFinished, cooperate

T = TypeVar("T")
R = TypeVar("R")

#: Items of one slice; with some microseconds for each, a few milliseconds.
SLICE = 500


async def in_slices(function: Callable[[Sequence[T]], Iterable[R]], items: Sequence[T]) -> list[R]:
    """What `function` gives for slices of `items`, in their order.

    Ends with the exception that `function` raises, and between two slices when it is cancelled.
    """
    found: list[R] = []

    def steps() -> Iterator[None]:
        for start in range(0, len(items), SLICE):
            found.extend(function(items[start : start + SLICE]))
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
