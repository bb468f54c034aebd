"""Bloom filters of the texts in a column: which texts are surely not in it.

A filter is made of digests of texts and answers whether a digest is lacking. If it is, no text of
the column is equal to the one that the digest was made of. Otherwise nothing is known. The process
that plans a query, the executor that reads the column and the worker that keeps the filter make
digests alike, so they do not depend on the process.

:class:`ColumnFilter` makes the filter, as an aggregate of SQLite. A filter is a BLOB whose size in
bits is a power of two.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Collection
from hashlib import blake2b
from typing import NamedTuple

from trough.sql.column_ranges import Range, is_outside

#: The aggregate's name in SQL; its arguments are a value, and whether case does not count (0, 1).
FUNCTION = "trough_column_filter"

#: Rows of a column, at most, of which there is a filter. The largest has 64 KiB.
MOST_ROWS = 40_000

#: Bits for each text, at least, and how many of them one text sets: less than one text in a
#: hundred is taken for one that is there.
_BITS = 12
_SET_BITS = 6


class FilterTest(NamedTuple):
    """What a segment's rows need: one of some texts in a column, or a value in one of some ranges.

    :ivar sql: the query that gives the filter of the column, as base64, in its only row
    :ivar digests: of the texts; if the filter lacks all of them, the segment adds no rows
    :ivar ranges: instead of digests: the filter is a range (:mod:`trough.sql.column_ranges`). If it
        is outside all of these, the segment adds no rows
    """

    sql: str
    digests: tuple[int, ...]
    ranges: tuple[Range, ...] = ()

    def fails(self, made: bytes) -> bool:
        """Whether a segment with this filter surely adds no rows."""
        if self.ranges:
            return all(is_outside(made, low, high) for low, high in self.ranges)
        return all(lacks(made, number) for number in self.digests)


def digest(text: str, ignore_case: bool) -> int:
    """A number of 64 bits for a text.

    :param ignore_case: texts that ``COLLATE NOCASE`` holds for equal get the same number
    :raises UnicodeEncodeError: it is no text of SQLite
    """
    data = text.encode()
    if ignore_case:
        data = data.lower()  # of bytes: A to Z alone
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def make_filter(digests: Collection[int]) -> bytes:
    """The filter of texts with these digests."""
    bits = 128
    while bits < _BITS * len(digests):
        bits *= 2
    made, mask = bytearray(bits // 8), bits - 1
    for number in digests:
        place, step = number & 0xFFFFFFFF, number >> 32 | 1
        for _ in range(_SET_BITS):
            made[(place & mask) >> 3] |= 1 << (place & 7)
            place += step
    return bytes(made)


def lacks(made: bytes, number: int) -> bool:
    """Whether no text with this digest is among those of a filter; False: it is not known."""
    mask = len(made) * 8 - 1
    place, step = number & 0xFFFFFFFF, number >> 32 | 1
    for _ in range(_SET_BITS):
        if not made[(place & mask) >> 3] >> (place & 7) & 1:
            return True
        place += step
    return False


class ColumnFilter:
    """The aggregate :data:`FUNCTION`.

    Its result is the filter as base64, or NULL if there is none: too many rows, or a real number,
    whose text Python writes in another way. A BLOB is equal to no text.
    """

    def __init__(self) -> None:
        self._digests: set[int] = set()
        self._rows = 0
        self._possible = True

    def step(self, value: object, ignore_case: object) -> None:
        """Take a further value."""
        self._rows += 1
        if self._rows > MOST_ROWS or isinstance(value, float):
            self._possible = False
        if not self._possible:
            return
        if isinstance(value, int):
            value = str(value)  # as a column of type TEXT compares it
        if isinstance(value, str):
            self._digests.add(digest(value, bool(ignore_case)))

    def finalize(self) -> str | None:
        """The result."""
        if not self._possible:
            return None
        return b2a_base64(make_filter(self._digests), newline=False).decode()
