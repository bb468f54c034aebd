"""Histograms of executors, and where their numbers lie."""

from __future__ import annotations

import os
from array import array

import pytest

from trough.executors.shared_memory import SharedProgressTable, create_memory
from trough.metrics.executor_measures import LOG_BOUNDS, NUMBERS, ExecutorMeasures, by_name
from trough.metrics.histogram import Histogram, cumulative, size_of


def test_a_histogram_counts_by_bound() -> None:
    """A value that is a bound is within it; what is larger than all has a place of its own."""
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 2, 10, 11, 1000):
        histogram.add(value)
    assert histogram.numbers == [2, 2, 2, 1024.5]
    assert size_of((1, 10)) == len(histogram.numbers)
    assert list(cumulative((1, 10), histogram.numbers[:-1])) == [
        ("1.0", 2),
        ("10.0", 4),
        ("+Inf", 6),
    ]


def test_a_row_has_all_measures() -> None:
    """Each at its own place."""
    numbers = array("d", bytes(8 * NUMBERS))
    measures = ExecutorMeasures(memoryview(numbers))
    measures.queue.add(0.5)
    measures.turn.add(0.25)
    measures.turn.add(0.25)
    measures.add_commit(0.125, 3, LOG_BOUNDS[0])
    found = by_name(numbers)
    assert {name: values[-1] for name, values in found.items()} == {
        "queue": 0.5,
        "turn": 0.5,
        "commit": 0.125,
        "group": 3,
        "log": LOG_BOUNDS[0],
    }
    assert [sum(values[:-1]) for values in found.values()] == [1, 2, 1, 1, 1]
    assert found["log"][0] == 1


def test_the_parent_sees_what_an_executor_counts() -> None:
    """Beside the marks of writes, which these numbers do not touch."""
    memory = create_memory()
    try:
        executor, parent = SharedProgressTable(memory), SharedProgressTable(memory)
    finally:
        os.close(memory)
    executor.begins(65535)
    ExecutorMeasures(executor.numbers).turn.add(2.0)
    assert by_name(parent.numbers.tolist())["turn"][-1] == 2.0
    assert parent.has_begun(65535) and not parent.has_begun(65534)
    parent.close()


def test_many_small_values_are_counted_at_once():
    """In the first bucket, as if each had been counted."""
    one, other = Histogram((0.1, 1.0)), Histogram((0.1, 1.0))
    for value in (0.05, 0.025, 0.1):
        one.add(value)
    other.add_least(3, 0.05 + 0.025 + 0.1)
    assert one.numbers == pytest.approx(other.numbers)
