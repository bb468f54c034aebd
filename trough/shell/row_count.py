"""Counts the rows that a query will return, while it runs.

The remaining time of a query of one segment follows from its rows, if their number is known. A
second query counts them. It begins only after the first one has run for a while, so short queries
are not run twice. If the count fails or comes late, there is no estimate. The module does not
depend on what shows the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from trough.errors import TroughError
from trough.shell.session import Event, MoreRows, RunningQuery
from trough.sql.kind import is_select

#: Seconds that a query has run before its rows are counted.
COUNT_AFTER = 1.0

#: Seconds between two checks whether the count is there.
_TICK = 0.1


def counting(sql: str) -> str | None:
    """The SQL that counts the rows of a query, or None if there is none."""
    # A comment may end the query, and would hide the parenthesis.
    return f"SELECT count(*) FROM ({sql}\n)" if is_select(sql) else None


class RowCount:
    """The number of rows of a query that runs.

    :param begin: starts the query that counts
    """

    def __init__(self, begin: Callable[[], RunningQuery]) -> None:
        self._begin = begin
        self._running = ExitStack()
        self._events: Iterator[Event | None] | None = None
        self._checked_at = COUNT_AFTER - _TICK
        self._rows: int | None = None

    def rows(self, seconds: float) -> int | None:
        """The number of rows, once it is known. Does not wait.

        :param seconds: since the query that is counted began
        """
        if seconds - self._checked_at >= _TICK:
            self._checked_at = seconds
            try:
                self._check()
            except TroughError:
                self.close()
        return self._rows

    def close(self) -> None:
        """Cancel the count. Idempotent."""
        self._events = iter(())
        self._running.close()

    def _check(self) -> None:
        if self._events is None:
            self._events = self._running.enter_context(self._begin()).events(0.0)
        for event in self._events:
            if event is None:
                return
            if isinstance(event, MoreRows):
                self._rows = event.rows[0][0]
