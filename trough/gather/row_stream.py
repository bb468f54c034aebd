"""Rows of a plain query on their way to the client, before all segments have answered.

Rows that need no change stay the JSON that their segment sent. Otherwise they are decoded: where
the segment's name goes between other columns, or where LIMIT or OFFSET divides what came together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trough import errors
from trough.gather.gather_plan import GatherPlan
from trough.sql.json_rows import END, JsonRows, first_row, has_end, without_end
from trough.sql.rows import array_of_rows

#: Rows that are passed on together: lists of values, or :class:`trough.sql.json_rows.JsonRows`.
Batch = Sequence[Sequence[Any]]


class GatherRowStream:
    """See the module.

    :param plan: of a plain query
    :ivar taken: rows that were taken, those that OFFSET left out among them
    """

    def __init__(self, plan: GatherPlan) -> None:
        pushed = plan.pushed
        assert pushed is not None
        self._skip, self._limit = pushed.skip, pushed.limit
        self._ready: list[Batch] = []
        self.taken = 0
        columns = [each.name for each in pushed.partials]
        self._width = len(columns)
        # Where the columns come from, -1 for the segment's name; None: rows are right as they are.
        places = [columns.index(each) if each in columns else -1 for each in pushed.outputs]
        self._places = None if places == list(range(self._width)) else places
        self._ends = _ends(places, self._width)

    def of_json(self, segment: str, text: bytes, begun: bool) -> JsonRows | None:
        """Rows as they are passed on; None: they have to be decoded.

        The schema comes before all rows, so that only the first row is looked at.

        :param text: a JSON array of rows
        :param begun: whether rows of this answer came before
        :raises trough.errors.ProtocolError: they are not JSON
        """
        if self._ends is None or not has_end(text):
            return None
        if not begun:
            first = decoded(first_row, segment, text)
            if len(first) != self._width + 1 or first[-1] != END:
                return None
        before, after = self._ends
        word = array_of_rows([(segment,)])[2:-2].encode()
        return without_end(text, word + b"," if before else b"", b"," + word if after else b"")

    def of_values(self, segment: str, rows: list[Sequence[Any]]) -> Batch:
        """Rows with the segment's name where it belongs."""
        places = self._places
        if places is None:
            return rows
        return [[segment if place < 0 else row[place] for place in places] for row in rows]

    def add(self, batches: Iterable[Batch]) -> None:
        """These may be passed on."""
        self._ready += batches

    def take(self) -> list[Batch]:
        """Rows that may be passed on now."""
        ready, self._ready = self._ready, []
        wanted = [self._within(batch) for batch in ready]
        return [batch for batch in wanted if batch]

    def _within(self, batch: Batch) -> Batch:
        """Those of the next rows that LIMIT and OFFSET leave."""
        first = max(0, self._skip - self.taken)
        after = len(batch)
        if self._limit is not None:
            after = min(after, max(0, self._skip + self._limit - self.taken))
        self.taken += len(batch)
        return batch if (first, after) == (0, len(batch)) else batch[first:after]

    @property
    def is_whole(self) -> bool:
        """Whether no further row can change the answer."""
        if self._limit is None:
            return False
        return self.taken + sum(map(len, self._ready)) >= self._skip + self._limit


def _ends(places: list[int], width: int) -> tuple[bool, bool] | None:
    """Whether the segment's name comes before all columns, and behind them; None where it lies
    elsewhere, or the columns have another order."""
    if not width:
        return None
    before, after = places[0] < 0, places[-1] < 0
    columns = places[before : len(places) - after]
    return (before, after) if columns == list(range(width)) else None


def decoded(decode: Callable[[bytes], Any], segment: str, text: bytes) -> Any:
    """Rows that a segment sent as JSON.

    :raises trough.errors.ProtocolError: they are not JSON
    """
    try:
        return decode(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise errors.ProtocolError(
            f"segment {segment} sent what cannot be read: {text[:80]!a}"
        ) from error
