"""Reports to a waiting person that the metadata store does not answer.

Calls wait for a store to come back, because a failover looks the same at first. Meanwhile the
person reads which store it is, the reason, and how long the wait may last.
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

#: Seconds of a store's absence that are not reported.
UNNOTICED = 1.0

#: Seconds between two checks during a wait.
TICK = 0.25

_CLEAR_LINE = "\r\x1b[K"


class Outage:
    """Reports the store's absence.

    :param absence: see :attr:`trough.metadata.Metadata.absence`
    :param clock: the clock that `absence` uses
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
        """A function for one wait of this thread. Call it now and then; it reports once."""
        # Completion runs on its own threads, and no person waits for it.
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
    """Print a line on stderr. It replaces a line of progress, which is drawn again later."""
    clear = _CLEAR_LINE if sys.stderr.isatty() else ""
    sys.stderr.write(f"{clear}trough-shell: {text}\n")
    sys.stderr.flush()
