"""Rows of the line protocol as an Arrow table. Needs pyarrow (the extra ``arrow``).

Some thousands of rows at a time become arrays. So the Python objects of a large result never exist
all at once.
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

#: Rows from which arrays are made. They are few enough to stay in the processor's cache, which is
#: twice as fast as with some ten thousand.
_CHUNK = 1000


class TableBuilder:
    """Collects rows, and makes a table of them.

    A column's type is that of its values: int64, double (of integers among them, too), string,
    binary, or null.

    :raises trough.errors.BadRequest: pyarrow is not installed
    """

    def __init__(self, names: Sequence[str]) -> None:
        check_installed("an Arrow table")
        import pyarrow

        self._pyarrow = pyarrow
        self._names = list(distinct(names))
        self._held: list[Sequence[Any]] = []
        self._types = [pyarrow.null()] * len(self._names)
        self._chunks: list[list[Any]] = [[] for _ in self._names]

    def rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Take some rows.

        :raises trough.errors.BadRequest: a column holds values of several types
        """
        self._held += rows
        if len(self._held) >= _CHUNK:
            self._convert()

    def json(self, text: bytes) -> None:
        """Take some rows in the form that ``ROWS`` sends; see :meth:`rows`."""
        self.rows(decoded(decode_rows, text))

    def table(self) -> Any:
        """The table.

        :raises trough.errors.BadRequest: a column holds values of several types
        """
        self._convert()
        columns = []
        for place, chunks in enumerate(self._chunks):
            wanted = self._types[place]
            cast = [self._cast(chunk, wanted, place) for chunk in chunks]
            columns.append(self._pyarrow.chunked_array(cast, wanted))
        return self._pyarrow.table(columns, names=self._names)

    def _convert(self) -> None:
        held, self._held = self._held, []
        for place, values in enumerate(zip(*held, strict=True)):
            array = self._array(values, place)
            self._types[place] = self._common_type(array.type, self._types[place], place)
            self._chunks[place].append(array)

    def _array(self, values: Sequence[Any], place: int) -> Any:
        pyarrow = self._pyarrow
        try:
            array = pyarrow.array(values)
        except UnicodeEncodeError as error:
            raise self._refused(place, str(error)) from error
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as error:
            raise self._refused(place, _SEVERAL) from error
        # pyarrow treats text among bytes as bytes.
        if array.type == pyarrow.binary() and any(isinstance(value, str) for value in values):
            raise self._refused(place, _SEVERAL)
        return array

    def _common_type(self, one: Any, other: Any, place: int) -> Any:
        pyarrow = self._pyarrow
        if one == other or other == pyarrow.null():
            return one
        if one == pyarrow.null():
            return other
        if {one, other} == {pyarrow.int64(), pyarrow.float64()}:
            return pyarrow.float64()
        raise self._refused(place, _SEVERAL)

    def _cast(self, array: Any, wanted: Any, place: int) -> Any:
        try:
            return array if array.type == wanted else array.cast(wanted)
        except self._pyarrow.ArrowInvalid as error:
            raise self._refused(place, _SEVERAL) from error

    def _refused(self, place: int, why: str) -> errors.BadRequest:
        name = safe(self._names[place])
        return errors.BadRequest(f"column {name} {why}", f"for example CAST({name} AS TEXT)")


_SEVERAL = "holds values of several types, and a column of Arrow has one"
