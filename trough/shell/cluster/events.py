"""Turns the calls to a query's listener into events of :mod:`trough.shell.session`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trough.errors import TroughError
from trough.shell.session import Columns, Done, Event, Failed, Marked, Restarted, rows_of


class EventListener:
    """Makes events; see :class:`trough.cluster_client.interfaces.FanOutListener`.

    :param put: takes an event, and roughly its number of characters
    :param forgets: whether rows that will come again can be dropped
    """

    def __init__(self, put: Callable[[Event, int], None], forgets: bool) -> None:
        self._put = put
        self._forgets = forgets

    def state(self, segment: str, mark: str) -> None:
        self._put(Marked(segment, mark), 0)

    def columns(self, segment: str, names: Sequence[str]) -> None:
        self._put(Columns(segment, names), 0)

    def rows(self, segment: str, rows: list[list[Any]]) -> None:
        event = rows_of(segment, rows)
        self._put(event, event.size)

    def done(self, segment: str, count: int) -> None:
        self._put(Done(segment, count), 0)

    def failed(self, segment: str, error: TroughError) -> None:
        self._put(Failed(segment, error), 0)

    def restarted(self, segment: str) -> bool:
        # Rows on a screen cannot be dropped. Whether they are there is known only when the
        # event is taken out, in its order.
        if self._forgets:
            self._put(Restarted(segment), 0)
        return self._forgets
