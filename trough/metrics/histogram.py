"""How often values lay between which bounds, as Prometheus counts it. Pure.

The numbers of a histogram lie in a sequence of the caller's. So a process can count in memory that
another one reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, MutableSequence, Sequence


class Histogram:
    """Counts by bound, and the sum of all values.

    :param bounds: upper bounds, in their order
    :param numbers: as many as :func:`size_of` says, zeros at first: a count for each bound, one
        for what is larger than all of them, and the sum
    """

    __slots__ = ("bounds", "numbers")

    def __init__(
        self, bounds: Sequence[float], numbers: MutableSequence[float] | None = None
    ) -> None:
        self.bounds = bounds
        self.numbers = [0.0] * size_of(bounds) if numbers is None else numbers

    def add(self, value: float) -> None:
        """Count a value."""
        numbers = self.numbers
        numbers[bisect_left(self.bounds, value)] += 1
        numbers[-1] += value

    def add_least(self, count: int, total: float) -> None:
        """Count so many values up to the first bound; `total` is their sum."""
        self.numbers[0] += count
        self.numbers[-1] += total


def size_of(bounds: Sequence[float]) -> int:
    """How many numbers a histogram with these bounds has."""
    return len(bounds) + 2


def cumulative(bounds: Sequence[float], counts: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Counts as Prometheus has them: each with those of all lower bounds.

    :param counts: one for each bound, and one for what is larger than all of them
    """
    total = 0.0
    for bound, number in zip((*bounds, float("inf")), counts, strict=True):
        total += number
        yield ("+Inf" if bound == float("inf") else str(float(bound))), total
