"""Values in messages: as the person wrote them who sent them, never as Python does."""

import pytest

from trough.util.quoting import quoted


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("text", "'text'"),
        (r"^\d+$", r"'^\d+$'"),
        ("it's", "'it's'"),
        ("a\nb\x1b\u202e", r"'a\nb\x1b\u202e'"),
        (b"caf\xe9", r"'caf\xe9'"),
        (None, "null"),
        (True, "true"),
        (1.5, "1.5"),
        ({"a": 1}, "a mapping"),
        ([1], "a list"),
        (object(), "something else"),
    ],
)
def test_a_value(value, shown):
    """Texts in quotes and safe for a terminal, other values as JSON has them."""
    assert quoted(value) == shown


def test_a_long_text_is_cut():
    """And says so."""
    assert quoted("x" * 30, 10) == f"'{'x' * 10}'\N{HORIZONTAL ELLIPSIS}"
