"""Sums that are exact until their only rounding.

SQLite adds reals with a compensation, and its answer may still depend on the order of the rows,
which is arbitrary. Here every value is kept to its last bit, so the answer is the sum of the
values, rounded once. It is the same in any order of rows and segments, and the value that SQLite's
compensation approximates. Sums of integers are integers. They overflow if, and only if, the whole
sum does not fit into 64 bits.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from trough.sql.sqlite import sqlite3

if TYPE_CHECKING:
    from sqlite3 import Connection

#: Fractions arrive in units of 2**-62.
_WHOLE_BITS = 62
#: The smallest positive real is 2**-1074.
_ODD_BITS = 1074
_INTEGERS = range(-(2**63), 2**63)


class ExactSum:
    """One group's sum, count and kind.

    Takes the columns of the partial rows: the sum of integers or None, the count, then
    :data:`trough.gather.aggregates.EXACT_PIECES`, then an odd value and how often it came.
    """

    def __init__(self) -> None:
        self.count = 0
        self.is_real = False
        self._whole = 0
        self._odd = 0
        self._infinities: set[float] = set()

    def add(self, row: tuple[Any, ...]) -> None:
        """Add one partial row."""
        lean, count, high, low, first, second, reals, odd, times = row
        # Without a count, it only matters whether there was anything.
        self.count += (lean is not None) if count is None else count
        self._whole += (lean or 0) << _WHOLE_BITS
        self._whole += ((high or 0) << 32) + (low or 0) << _WHOLE_BITS
        self._whole += ((first or 0) << 31) + (second or 0)
        self.is_real |= bool(reals)
        if odd is not None and times:
            self._add_odd(odd, times)

    def add_value(self, value: int | float) -> None:
        """Add one value."""
        self.count += 1
        self._add_odd(value, 1)

    def _add_odd(self, value: Any, times: int) -> None:
        if isinstance(value, int):
            self._whole += value * times << _WHOLE_BITS
            return
        self.is_real = True
        if math.isinf(value):
            self._infinities.add(value)
            return
        numerator, denominator = value.as_integer_ratio()
        self._odd += times * numerator * ((1 << _ODD_BITS) // denominator)

    @property
    def integer(self) -> int | None:
        """The sum, if everything in it was an integer; of any size."""
        return None if self.is_real else self._whole >> _WHOLE_BITS

    @property
    def real(self) -> float | None:
        """The sum rounded to a real; None for the sum of both infinities."""
        if self._infinities:
            return self._infinities.pop() if len(self._infinities) == 1 else None
        if not self._odd:
            return _divided(self._whole, _WHOLE_BITS)
        return _divided((self._whole << _ODD_BITS - _WHOLE_BITS) + self._odd, _ODD_BITS)


def _divided(numerator: int, bits: int) -> float:
    try:
        # Python rounds the quotient of two integers correctly.
        return numerator / (1 << bits)
    except OverflowError:
        return -math.inf if numerator < 0 else math.inf


class _Aggregate:
    """What pysqlite wants of an aggregate function."""

    def __init__(self) -> None:
        self.sum = ExactSum()

    def step(self, *row: Any) -> None:
        self.sum.add(row)

    def finalize(self) -> int | float | None:
        raise NotImplementedError


class Sum(_Aggregate):
    """``sum``."""

    def finalize(self) -> int | float | None:
        if not self.sum.count:
            return None
        integer = self.sum.integer
        if integer is None:
            return self.sum.real
        if integer not in _INTEGERS:
            raise OverflowError("integer overflow")
        return integer


class Total(_Aggregate):
    """``total``."""

    def finalize(self) -> float | None:
        return self.sum.real


class Average(_Aggregate):
    """``avg``."""

    def finalize(self) -> float | None:
        if not self.sum.count:
            return None
        real = self.sum.real
        return None if real is None else real / self.sum.count


class _OfValues:
    """The same of values as they are, for ``DISTINCT``, which is SQLite's part.

    :param numbers: what SQLite makes of texts and BLOBs that are summed up
    """

    def __init__(self, whole: _Aggregate, numbers: _Numbers) -> None:
        self._numbers = numbers
        self._whole = whole
        self.finalize = whole.finalize

    def step(self, value: Any) -> None:
        if value is not None:
            odd = isinstance(value, str | bytes)
            self._whole.sum.add_value(self._numbers.of(value) if odd else value)


class _Numbers:
    """Numbers of texts and BLOBs, as SQLite's own sum reads them."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def of(self, value: str | bytes) -> int | float:
        # A connection of its own: one that runs a query is not asked another from within.
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        return self._connection.execute("SELECT sum(?)", (value,)).fetchone()[0]


_AGGREGATES: dict[str, Any] = {"trough_sum": Sum, "trough_total": Total, "trough_avg": Average}

#: Their names.
FUNCTIONS = frozenset(_AGGREGATES) | {f"{name}_of" for name in _AGGREGATES}


def register(connection: Connection) -> None:
    """Give a connection the functions ``trough_sum``, ``trough_total``, ``trough_avg``, of
    partial rows, and ``trough_sum_of`` and so on, of values."""
    numbers = _Numbers()
    for name, aggregate in _AGGREGATES.items():
        connection.create_aggregate(name, 9, aggregate)
        made: Any = partial(_of_values, aggregate, numbers)
        connection.create_aggregate(f"{name}_of", 1, made)


def _of_values(aggregate: type[_Aggregate], numbers: _Numbers) -> _OfValues:
    return _OfValues(aggregate(), numbers)
