"""Words that depend on a number."""

import pytest

from trough.util.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "text"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (1234, ("row",), "1,234 rows"),
        (1, ("copy", "copies"), "1 copy"),
        (2, ("copy", "copies"), "2 copies"),
    ],
)
def test_a_noun_follows_its_number(number, words, text):
    """Also one whose plural is irregular."""
    assert counted(number, *words) == text
