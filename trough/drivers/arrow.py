"""Rows of the line protocol as an Arrow table. Needs pyarrow (the extra ``arrow``).

Rows become arrays some thousands at a time, so that the Python objects of a large result are
never there all at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trough import errors
from trough.formats.columnar import check_installed
from trough.formats.text import distinct
from trough.protocols.line.query_replies import decoded
from trough.protocols.line.values import decode_rows
from trough.util.safe_text import safe

#: Rows of one chunk.
_CHUNK = 20_000

# Types that a column may have, by what its values are; NULL is in every one.
_TYPES = {
    frozenset[type](): "null",
    frozenset({int}): "int64",
    frozenset({float}): "float64",
    frozenset({int, float}): "float64",
    frozenset({str}): "string",
    frozenset({bytes}): "binary",
}


class Columns:
    """Collects rows; makes a table of them.

    :raises trough.errors.BadRequest: pyarrow is not installed
    """

    def __init__(self, names: Sequence[str]) -> None:
        check_installed("an Arrow table")
        self._names = list(distinct(names))
        self._held: list[Sequence[Any]] = []
        self._kinds: list[set[type]] = [set() for _ in self._names]
        self._chunks: list[list[Any]] = [[] for _ in self._names]

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take some rows.

        :raises trough.errors.BadRequest: a column holds values of several types
        """
        self._held += rows
        if len(self._held) >= _CHUNK:
            self._convert()

    def json(self, text: bytes) -> None:
        """Take some rows as ``ROWS`` sends them; see :meth:`rows`."""
        self.rows(decoded(decode_rows, text))

    def table(self) -> Any:
        """The table.

        :raises trough.errors.BadRequest: a column holds values of several types
        """
        import pyarrow

        self._convert()
        columns = []
        for name, kinds, chunks in zip(self._names, self._kinds, self._chunks, strict=True):
            wanted = pyarrow.type_for_alias(_TYPES[frozenset(kinds)])
            try:
                cast = [chunk.cast(wanted) for chunk in chunks]
            except pyarrow.ArrowInvalid as error:
                raise errors.BadRequest(f"column {safe(name)}: {error}") from error
            columns.append(pyarrow.chunked_array(cast, wanted))
        return pyarrow.table(columns, names=self._names)

    def _convert(self) -> None:
        import pyarrow

        held, self._held = self._held, []
        if not held:
            return
        for place, values in enumerate(zip(*held, strict=True)):
            kinds = self._kinds[place]
            kinds.update(map(type, values))
            kinds.discard(type(None))
            if frozenset(kinds) not in _TYPES:
                raise self._mixed(place)
            try:
                self._chunks[place].append(pyarrow.array(values))
            except (pyarrow.ArrowInvalid, UnicodeEncodeError) as error:
                raise errors.BadRequest(f"column {safe(self._names[place])}: {error}") from error

    def _mixed(self, place: int) -> errors.BadRequest:
        name = safe(self._names[place])
        return errors.BadRequest(
            f"column {name} holds values of several types, and a column of Arrow has one",
            f"for example CAST({name} AS TEXT)",
        )
