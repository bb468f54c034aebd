"""Lays out pieces of results: under each segment's name, with a column that names the segment,
or plain for a single segment.

Each piece is written at once; `results.py` holds rows back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trough import errors
from trough.formats.text import Markdown, Renderer, RenderOptions, Table
from trough.shell.output.formats import FORMATS, Choice
from trough.util.safe_text import safe
from trough.util.wording import counted

#: The column that names a row's segment, if all segments make one result set.
SEGMENT_COLUMN = "_segment"


@dataclass(frozen=True, slots=True)
class RowPiece:
    """Some rows of one segment, in their order.

    :ivar begins: no row of the segment came before these
    :ivar ends: none comes after
    :ivar total: rows of the segment so far, these included
    :ivar remark: why it ends early; mostly ``""``
    """

    segment: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    begins: bool
    ends: bool
    total: int
    remark: str = ""


class Layout:
    """Pieces in, text out."""

    #: Whether a piece of another segment in the middle of one disturbs the reader.
    one_at_a_time = False

    def __init__(self, choice: Choice, options: RenderOptions) -> None:
        self._format = FORMATS[choice.name]
        self._options = options
        self._renderer: Renderer | None = None

    def check(self, columns: Sequence[str]) -> None:
        """Refuse a segment before any of its rows comes.

        :raises trough.errors.BadRequest: its columns do not fit what was written
        """

    def write(self, piece: RowPiece) -> str:
        """The next piece."""
        raise NotImplementedError

    def flush(self) -> str:
        """The text that a renderer holds back."""
        return self._renderer.flush() if self._renderer else ""

    def end(self) -> str:
        """The text after all pieces."""
        renderer, self._renderer = self._renderer, None
        return renderer.end() if renderer else ""

    def _begin(self, columns: Sequence[str]) -> str:
        self._renderer = self._format(columns, self._options)
        return self._renderer.begin()

    def _rows(self, rows: Sequence[Sequence[Any]]) -> str:
        assert self._renderer is not None
        return self._renderer.rows(rows) if rows else ""


class Plain(Layout):
    """One result set and nothing around it."""

    def write(self, piece: RowPiece) -> str:
        if not piece.columns and self._format in (Table, Markdown):
            return ""  # an original worker does not name the columns of no rows
        head = "" if self._renderer else self._begin(piece.columns)
        return head + self._rows(piece.rows)


class Merged(Layout):
    """All segments in one result set, whose first column names the segment.

    :param strict: refuse a segment with other columns, instead of beginning again for it
    """

    def __init__(self, choice: Choice, options: RenderOptions, strict: bool) -> None:
        super().__init__(choice, options)
        self._strict = strict
        self._columns: list[str] | None = None

    def check(self, columns: Sequence[str]) -> None:
        if self._columns is None:
            self._columns = list(columns)
        elif self._strict and self._columns != list(columns):
            raise errors.BadRequest(
                f"the columns are {_listed(columns)}, of other segments {_listed(self._columns)}",
                "name the columns in the query",
            )

    def write(self, piece: RowPiece) -> str:
        text = ""
        columns = [SEGMENT_COLUMN, *piece.columns]
        if self._renderer is None:
            text = self._begin(columns)
        elif self._renderer.columns != columns and piece.rows:
            text = f"{super().end()}\n{self._begin(columns)}"
        return text + self._rows([[piece.segment, *row] for row in piece.rows])


class Titled(Layout):
    """Each segment's rows under its name. A segment without rows is not shown."""

    one_at_a_time = True

    def __init__(self, choice: Choice, options: RenderOptions) -> None:
        super().__init__(choice, options)
        self._segment = ""

    def write(self, piece: RowPiece) -> str:
        if piece.begins and piece.ends and not piece.rows:
            return ""
        text = ""
        if piece.segment != self._segment:
            text = self._end_section("more below") if self._segment else ""
            self._segment = piece.segment
            continued = "" if piece.begins else " (continued)"
            text += f"{safe(piece.segment)}{continued}:\n{self._begin(piece.columns)}"
        text += self._rows(piece.rows)
        if piece.ends:
            text += self._end_section(piece.remark or counted(piece.total, "row"))
        return text

    def end(self) -> str:
        return self._end_section("incomplete") if self._segment else ""

    def _end_section(self, remark: str) -> str:
        self._segment = ""
        return f"{super().end()}({remark})\n\n"


def layout_for(choice: Choice, options: RenderOptions, many: bool) -> Layout:
    """The layout for one result set, or for those of many segments."""
    # With a line for a segment's name between the rows, it would no longer be CSV or JSON.
    strict = choice.for_programs or (choice.is_document and not options.terminal)
    if choice.merged or (many and strict):
        return Merged(choice, options, strict)
    return Titled(choice, options) if many else Plain(choice, options)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(safe, names))
