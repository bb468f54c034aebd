"""Words after a command's name, which may be any segment's id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trough.shell.command_registry import last_word, quoted_word, words_of

WORD = st.text("aä ,~%'\"-;!?#\\", min_size=1, max_size=8)


@given(st.lists(WORD, max_size=4), st.sampled_from(["", '"', "'"]))
def test_every_id_can_be_typed(words: list[str], opening: str) -> None:
    """What completion offers for ids is read as these ids again."""
    typed = " ".join(quoted_word(word, opening) for word in words)
    assert words_of(typed) == tuple(words)
    assert last_word(f"{typed} ") == (words, "")


@pytest.mark.parametrize(
    ("text", "whole", "last"),
    [
        ("", [], ""),
        ("a", [], "a"),
        ("a ", ["a"], ""),
        ("a cr", ["a"], "cr"),
        ('a "crawl 20', ["a"], '"crawl 20'),
        ("'crawl 20", [], "'crawl 20"),
        ('"crawl 2026"', ["crawl 2026"], ""),
    ],
)
def test_the_word_being_typed(text: str, whole: list[str], last: str) -> None:
    """A quote that is open holds the word together."""
    assert last_word(text) == (whole, last)
