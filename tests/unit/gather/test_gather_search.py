"""Thousands of queries against two oracles, always the same; ``make search`` tries new ones."""

from __future__ import annotations

from collections import Counter

import pytest
from gather_search import search


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_queries_are_answered_as_sqlite_answers_them(seed: int) -> None:
    """Over the union of the tables, and however rows are spread over segments."""
    counts: Counter[str] = Counter()
    search(seed, 8, counts)
    assert counts["compared"] > 100
