"""Holds back a query's results, and decides when they are written.

Rows of different segments arrive interleaved. A segment's rows are held until they are complete,
until too much is held, or until the reader has waited long enough. So a segment mostly appears in
one piece, and a retry on another worker leaves no trace. Memory is bounded. `sections.py` lays the
pieces out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trough.shell.output.sections import Layout, RowPiece

#: Rows, and characters in them, that are held in total.
HELD_ROWS = 20_000
HELD_SIZE = 4 << 20


@dataclass(slots=True)
class _Held:
    """The rows of a segment that came and are not written yet."""

    columns: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    size: int = 0
    written: int = 0


class Results:
    """Takes the events of a query. Every method returns the text that is ready now.

    :ivar empty: segments that answered without a row
    """

    def __init__(
        self, layout: Layout, held_rows: int = HELD_ROWS, held_size: int = HELD_SIZE
    ) -> None:
        self._layout = layout
        self._held_rows = held_rows
        self._held_size = held_size
        self._segments: dict[str, _Held] = {}
        self._complete: dict[str, str] = {}  # segments that wait for the open one; remarks
        self._open = ""  # was begun and is not complete; its further rows are written at once
        self._rows = 0
        self._size = 0
        self.empty = 0

    def columns(self, segment: str, names: Sequence[str]) -> None:
        """A segment begins.

        :raises trough.errors.BadRequest: its columns do not fit those already written
        """
        self._layout.check(names)
        self._segments[segment] = _Held(names)

    def rows(self, segment: str, rows: Sequence[Sequence[Any]], size: int) -> str:
        """Further rows of a segment, with about `size` characters in them."""
        held = self._segments[segment]
        held.rows += rows
        held.size += size
        self._rows += len(rows)
        self._size += size
        if segment == self._open:
            return self._write(segment)
        too_much = self._rows > self._held_rows or self._size > self._held_size
        return self._make_room() if too_much else ""

    def done(self, segment: str, remark: str = "") -> str:
        """A segment is complete or, with a remark, ended early."""
        held = self._segments.get(segment)
        if held is None:  # failed before it began
            return ""
        if segment and not (remark or held.rows or held.written):
            self.empty += 1
        if segment == self._open:
            self._open = ""
            self._complete = {segment: remark, **self._complete}
        else:
            self._complete[segment] = remark
        waits = self._open and self._layout.one_at_a_time
        return "" if waits else self._write_complete()

    def restarted(self, segment: str) -> int | None:
        """A segment's rows come again from the first.

        :return: how many are dropped; None if some were written already and cannot be taken back
        """
        held = self._segments.get(segment)
        if held is None:
            return 0
        if held.written:
            return None
        del self._segments[segment]
        return len(self._take(held))

    def flush(self) -> str:
        """What there is, for a reader who has waited long enough."""
        text = self._make_room() if not self._open else ""
        return text + self._layout.flush()

    def end(self) -> str:
        """The rows that are left, and the text after all rows."""
        text = self._write(self._open) if self._open else ""
        for segment in self._segments:
            self._complete.setdefault(segment, "incomplete")
        return text + self._write_complete() + self._layout.end()

    def _make_room(self) -> str:
        """Write the segment with the most held rows, complete or not, and keep it open."""
        self._open = ""
        text = self._write_complete()
        waiting = [segment for segment, held in self._segments.items() if held.rows]
        if not waiting:
            return text
        self._open = max(waiting, key=lambda segment: len(self._segments[segment].rows))
        return text + self._write(self._open)

    def _write_complete(self) -> str:
        complete, self._complete = self._complete, {}
        texts = [self._write(segment, True, remark) for segment, remark in complete.items()]
        return "".join(texts)

    def _write(self, segment: str, ends: bool = False, remark: str = "") -> str:
        held = self._segments.pop(segment) if ends else self._segments[segment]
        begins = not held.written
        rows = self._take(held)
        held.written += len(rows)
        piece = RowPiece(segment, held.columns, rows, begins, ends, held.written, remark)
        return self._layout.write(piece)

    def _take(self, held: _Held) -> list[Sequence[Any]]:
        rows, held.rows = held.rows, []
        self._rows -= len(rows)
        self._size -= held.size
        held.size = 0
        return rows
