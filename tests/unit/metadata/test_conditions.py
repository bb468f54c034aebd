"""What a pattern says about where its matches lie in an index."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough.metadata.conditions import id_range, literal_prefix


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        (None, ""),
        ("", ""),
        ("3000", ""),
        ("^3000", "3000"),
        ("^300001$", "300001"),
        ("^3000.*7", "3000"),
        ("^300[0-9]", "300"),
        ("^300?", "30"),
        ("^300*1", "30"),
        ("^300{2}", "30"),
        ("^300+", "300"),
        ("^3000(1|2)", "3000"),
        ("^3000|^4", ""),
        ("^3000[|]", ""),
        (r"^a\.b\-c", "a.b-c"),
        (r"^a\d", "a"),
        (r"^a\|b", "a|b"),
        ("^(?:ait)-", ""),
        ("(?i)^ait", ""),
        ("^^a", ""),
        ("^a^b", "a"),
        ("^crawl 2026", "crawl 2026"),
        (r"\Aa", ""),
    ],
)
def test_what_matches_begin_with(pattern: str | None, prefix: str) -> None:
    """The letters behind ^, up to the first that is no plain letter."""
    assert literal_prefix(pattern) == prefix


def test_the_end_of_a_range() -> None:
    """It is the first text that no longer begins so."""
    assert id_range("^3000") == ("3000", "3001")
    assert id_range("^") == ("", None)
    assert id_range("^é") == ("é", "ê")


@given(
    st.text("ab1.|()[]?*+{}^$\\-", max_size=8).map("^".__add__),
    st.text("ab1.|-", max_size=5),
)
def test_no_match_is_outside_of_its_range(pattern: str, segment: str) -> None:
    """Whatever the pattern, what it is found in lies in the range."""
    try:
        found = re.search(pattern, segment)
    except re.error:
        return
    first, end = id_range(pattern)
    if found:
        assert segment >= first and (end is None or segment < end)
