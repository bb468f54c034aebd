"""Values shown on a terminal, to which they do nothing."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trough.util.safe_text import cut, padded, safe, safe_json, safe_lines, show_value, width

anything = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates too


@given(anything)
def test_nothing_active_is_left(text):
    """No control, format, surrogate or line separator survives; joiners may."""
    shown = safe(text)
    categories = {unicodedata.category(c) for c in shown if c not in "\u200c\u200d"}
    assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp", "Cn"}
    shown.encode()


@given(anything, st.integers(1, 30))
@example("\N{CLOUD}\ufe0f" * 3, 4)
@example("\N{CLOUD}\ufe0f" * 3, 5)
def test_cut_keeps_to_its_columns(text, columns):
    """However wide its characters are, a text is cut to its columns."""
    assert width(cut(safe(text), columns)) <= columns


@given(anything)
@example("\u200d")
@example("a\u200d")
@example("\N{DEVANAGARI LETTER KA}\u200d")
@example("\N{DEVANAGARI LETTER KA}\u200d \u200c")
def test_padding_fills_exactly(text):
    """A padded cell takes exactly its columns."""
    shown = safe(text)
    assert width(padded(shown, width(shown) + 3)) == width(shown) + 3


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\tb\nc\r", "a\\tb\\nc\\r"),
        ("\u202eevil", "\\u202eevil"),
        ("\x9b31m", "\\x9b31m"),
        ("\x07\x08\x7f\0", "\\x07\\x08\\x7f\\x00"),
        ("\ud800", "\\ud800"),
        ("\u0301e", "\u25cc\u0301e"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("日本語 é 👩\u200d💻", "日本語 é 👩\u200d💻"),
        ("a" + "\u0301" * 8, "a" + "\u0301" * 6 + "\\u0301" * 2),
    ],
)
def test_what_is_shown(text, shown):
    """What would act, or not be seen, is written out."""
    assert safe(text) == shown


def test_wide_and_combining_characters_are_counted():
    """Columns are those of the screen and not those of the text."""
    assert [width(text) for text in ("abc", "日本", "e\u0301", "")] == [3, 4, 1, 0]
    assert cut("日本語", 5) == "日本…"


def test_right_to_left_text_is_isolated():
    """A terminal that reorders text keeps each cell in its place."""
    assert padded("\u05d0\u05d1", 4) == "\u2068\u05d0\u05d1\u2069  "
    assert padded("abc", 5, right=True) == "  abc"


@given(st.dictionaries(anything, anything))
def test_safe_json_means_the_same(value):
    """Escaping JSON for a terminal changes no value."""
    text = safe_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert not set(text) & set("\x1b\x9b\u202e\u2028\x7f")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "<null>"),
        (9223372036854775807, "9223372036854775807"),
        (-1.5, "-1.5"),
        (1e300, "1e+300"),
        (float("inf"), "Inf"),
        (b"", "<blob 0 bytes: >"),
        (b"\x89PNG", "<blob 4 bytes: 89504e47>"),
        (bytes(20), f"<blob 20 bytes: {'00' * 16}…>"),
        ("", ""),
    ],
)
def test_values(value, shown):
    """Every kind of value of SQLite has its form."""
    assert show_value(value) == shown


def test_lines_stay_lines():
    """SQL is shown in its lines, safely."""
    assert safe_lines("a\n\tb\x1b") == "a\n        b\\x1b"
