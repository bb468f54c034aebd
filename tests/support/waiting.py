"""Waiting for what happens by itself, bounded, and without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

#: Seconds after which a test gives up. Nothing takes nearly as long, but on a machine with six
#: processes waiting for each core some things took a minute.
GIVE_UP = 240.0

#: The same within one process, for what its events bring about.
EXPECTED_WITHIN = 60


async def until(condition: Callable[[], Any], what: str, seconds: float = GIVE_UP) -> Any:
    """Return what `condition` gives once that is true; it may be a coroutine function.

    :param what: is waited for; told where it does not come
    """
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        look_again: Deferred[None] = Deferred()
        reactor.callLater(0.02, look_again.callback, None)
        await look_again


def until_blocking(condition: Callable[[], Any], what: str, seconds: float = GIVE_UP) -> Any:
    """As :func:`until`, for a test without a reactor that watches other processes."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for {what}")
        time.sleep(0.05)  # between two looks at another process, never instead of one
    return value
