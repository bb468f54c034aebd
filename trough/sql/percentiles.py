"""``median``, ``percentile``, ``percentile_cont`` and ``percentile_disc``.

SQLite has them as an extension that pysqlite3 is built without. They answer as that extension
documents (https://www.sqlite.org/percentile.html): NULLs do not count, the result of no rows is
NULL, every result is a REAL, and what is no number is an error. They are aggregates and window
functions.
"""

from __future__ import annotations

import bisect
import math
from array import array
from typing import ClassVar

from trough import errors
from trough.util.quoting import quoted

#: What a value of SQLite is to Python.
Value = None | int | float | str | bytes


class Percentile:
    """``percentile(Y, P)``: P of 100 of the values are at most as great as the result.

    :raises trough.errors.BadSql: by any method, where SQLite has an error
    """

    name: ClassVar[str] = "percentile"
    whole: ClassVar[float] = 100.0
    discrete: ClassVar[bool] = False

    def __init__(self) -> None:
        self._values = array("d")
        self._sorted = True
        self._fraction: float | None = None

    def step(self, value: Value, share: Value = None) -> None:
        """Take a further value."""
        self._take_share(share)
        if value is not None:
            self._values.append(self._number(value))
            self._sorted = False

    def inverse(self, value: Value, share: Value = None) -> None:
        """Leave out a value that a window moved past."""
        if value is not None:
            self._sort()
            del self._values[bisect.bisect_left(self._values, self._number(value))]

    def value(self) -> float | None:
        """The result for the values so far."""
        if not self._values or self._fraction is None:
            return None
        self._sort()
        place = self._fraction * (len(self._values) - 1)
        below = int(place)
        least = self._values[below]
        if self.discrete or below == place or below == len(self._values) - 1:
            return least
        return least + (self._values[below + 1] - least) * (place - below)

    def finalize(self) -> float | None:
        """The result for all values."""
        return self.value()

    def _sort(self) -> None:
        if not self._sorted:
            self._values = array("d", sorted(self._values))
            self._sorted = True

    def _take_share(self, share: Value) -> None:
        try:
            number = float(share)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = math.nan
        if not 0 <= number <= self.whole:
            raise errors.BadSql(
                f"the 2nd argument to {self.name}() is no number between 0.0 and {self.whole}"
            )
        fraction = number / self.whole
        if self._fraction is None:
            self._fraction = fraction
        elif abs(self._fraction - fraction) > 0.001 / self.whole:
            raise errors.BadSql(f"the 2nd argument to {self.name}() differs between rows")

    def _number(self, value: Value) -> float:
        if not isinstance(value, int | float):
            raise errors.BadSql(f"{self.name}() takes numbers, and there is {quoted(value, 60)}")
        if math.isinf(value):
            raise errors.BadSql(f"{self.name}() takes no infinity")
        return float(value)


class PercentileCont(Percentile):
    """``percentile_cont(Y, F)``: as percentile, F between 0 and 1."""

    name = "percentile_cont"
    whole = 1.0


class PercentileDisc(PercentileCont):
    """``percentile_disc(Y, F)``: one of the values, never one between two."""

    name = "percentile_disc"
    discrete = True


class Median(Percentile):
    """``median(Y)``: ``percentile(Y, 50)``."""

    name = "median"

    def _take_share(self, share: Value) -> None:
        self._fraction = 0.5


#: Each by its name in SQL, with the number of its arguments.
PERCENTILES: dict[str, tuple[int, type[Percentile]]] = {
    "MEDIAN": (1, Median),
    "PERCENTILE": (2, Percentile),
    "PERCENTILE_CONT": (2, PercentileCont),
    "PERCENTILE_DISC": (2, PercentileDisc),
}
