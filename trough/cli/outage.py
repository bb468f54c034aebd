"""Tells whoever waits that the metadata store does not answer.

Calls wait for a store to come back, since a failover looks the same at first. A person
should not wonder meanwhile, but know which store it is, why, and how long this goes on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from trough.metadata import StoreOutage

#: Seconds for which the metadata store may be away before a call that needs it fails. The
#: longest pause between two attempts to connect is half of that, and the failover of a
#: RethinkDB server that was killed took three.
PATIENCE = 10.0

#: Seconds of a store's silence that nobody is told of.
UNNOTICED = 1.0

#: Seconds between two looks while something is waited for.
TICK = 0.25

_CLEAR_LINE = "\r\x1b[K"


class Outage:
    """What is known of the store's absence, and said about it.

    :param absence: see :attr:`trough.metadata.Metadata.absence`
    :param clock: the one of `absence`
    :param say: takes the line for the person
    """

    def __init__(
        self,
        absence: Callable[[], StoreOutage | None],
        clock: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._absence = absence
        self._clock = clock
        self._say = say

    def watch(self) -> Callable[[], None]:
        """For one wait of this thread: to be called once in a while; it tells once."""
        # Completion asks on threads of its own, and nobody waits for what that finds.
        told = threading.current_thread() is not threading.main_thread()

        def look() -> None:
            nonlocal told
            absence = None if told else self._absence()
            if absence is not None and self._clock() - absence.since >= UNNOTICED:
                told = True
                self._say(
                    f"the metadata store is away: {absence.reason}; what needs it is given "
                    f"up after {PATIENCE:g} s, or by Ctrl-C"
                )

        return look


def say_on_stderr(text: str) -> None:
    """Say it beside what is shown; a line of progress that is there is drawn anew."""
    clear = _CLEAR_LINE if sys.stderr.isatty() else ""
    sys.stderr.write(f"{clear}trough-shell: {text}\n")
    sys.stderr.flush()
