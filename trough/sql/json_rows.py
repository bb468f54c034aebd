"""Rows as the JSON that a server of a segment sends, which can be passed on without being read.

A row that is decoded and encoded again takes some microseconds, and a large result has a million.
:class:`JsonRows` is a sequence of rows all the same: who wants to look at them may.

:data:`END` can be cut off the rows of a text that ends with it. The bytes ``,""],[`` stand only
between two rows of which the first ends with an empty string. Within a string a quotation mark
would have a backslash before it.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Iterator, Sequence
from typing import Any, overload

from trough import errors

#: The last value of each row that :func:`without_end` takes off: an empty string.
END = ""

_BETWEEN, _LAST = b',""],[', b',""]]'


class JsonRows(Sequence[Sequence[Any]]):
    """Rows of an answer.

    :ivar text: the rows as arrays in JSON, with commas between them
    """

    __slots__ = ("_count", "text")

    def __init__(self, text: bytes, count: int) -> None:
        self.text = text
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Sequence[Any]]:
        return iter(self.rows())

    @overload
    def __getitem__(self, place: int) -> Sequence[Any]: ...

    @overload
    def __getitem__(self, place: slice) -> list[Sequence[Any]]: ...

    def __getitem__(self, place: int | slice) -> Any:
        return self.rows()[place]

    def rows(self) -> list[list[Any]]:
        """The rows, each as a list of values."""
        return rows_of_json(b"[%b]" % self.text)


def rows_of_json(text: bytes) -> list[list[Any]]:
    """Rows out of a JSON array of arrays.

    :raises ValueError: not JSON
    :raises trough.errors.BadRequest: an object that is no BLOB
    """
    rows, _ = _ROWS.raw_decode(text.decode())
    return rows


def first_row(text: bytes) -> list[Any]:
    """The first of the rows in a text that :func:`without_end` takes.

    :raises ValueError: not JSON
    """
    row, _ = _ROWS.raw_decode(text[1 : _after_first(text)].decode())
    return row  # type: ignore[no-any-return]


def _after_first(text: bytes) -> int:
    between = text.find(_BETWEEN)
    return len(text) - 1 if between < 0 else between + 4


def has_end(text: bytes) -> bool:
    """Whether each row of a text may be taken to end with :data:`END`."""
    return text.endswith(_LAST) and text.startswith(b"[[")


def without_end(text: bytes, before: bytes = b"", after: bytes = b"") -> JsonRows:
    """Rows without the :data:`END` of each.

    :param text: a JSON array of rows for which :func:`has_end` is true
    :param before: JSON of values that are put before those of each row, with their commas
    :param after: JSON of values that are put behind them, with their commas
    """
    count = text.count(_BETWEEN) + 1
    between = b"%b],[%b" % (after, before)
    rows = text[2 : -len(_LAST)].replace(_BETWEEN, between)
    return JsonRows(b"[%b%b%b]" % (before, rows, after), count)


def blob_of(value: dict[str, str]) -> bytes:
    """The bytes of ``{"blob": "<base64>"}``.

    :raises trough.errors.BadRequest: it is something else
    """
    try:
        return b64decode(value["blob"], validate=True)
    except (binascii.Error, KeyError, TypeError, ValueError) as error:
        raise errors.BadRequest(f"not the base64 of a blob: {error}") from error


_ROWS = json.JSONDecoder(object_hook=blob_of)
