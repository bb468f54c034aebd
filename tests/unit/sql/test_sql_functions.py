"""The functions that existing queries use, as the contract with them says."""

import json

import pytest

from trough import errors
from trough.sql.functions import Functions, as_text, build_redirect_array, seed_crawled_status


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (300, "Redirected"),
        (399, "Redirected"),
        (400, "Crawled (HTTP error 400)"),
        (599, "Crawled (HTTP error 599)"),
        (12345, "Crawled (HTTP error 12345)"),
        (1, "Crawled"),
        (200, "Crawled"),
        (299, "Crawled"),
        (0, "Not crawled (queued)"),
        (-5003, "Not crawled (queued)"),
        (-5004, "Not crawled (queued)"),
        (-9998, "Not crawled (blocked by robots)"),
        (-1, "Not crawled (-1)"),
        (-5002, "Not crawled (-5002)"),
        (None, "Not crawled (None)"),
        ("200", "Crawled"),
        ("404", "Crawled (HTTP error 404)"),
        (b"301", "Redirected"),
        ("soon", "Not crawled (soon)"),
        ("", "Not crawled ()"),
    ],
)
def test_the_status_of_a_seed(code, expected):
    """Each range of codes has its sentence."""
    assert seed_crawled_status(code) == expected


def test_redirects_are_put_at_the_place_that_their_path_says():
    """The array grows, and is filled with null up to there."""
    array = build_redirect_array("http://c", 200, "RRR", "")
    assert json.loads(array) == [None, None, {"seed": "http://c", "status": "Crawled"}]
    array = build_redirect_array("http://a", 301, "R", array)
    assert [hop and hop["seed"] for hop in json.loads(array)] == ["http://a", None, "http://c"]
    array = build_redirect_array("http://b", None, "RR", array)
    assert json.loads(array)[1] == {"seed": "http://b", "status": "Not crawled (None)"}


def test_redirects_begin_a_new_array_for_null():
    """NULL and an empty text are no array yet."""
    assert json.loads(build_redirect_array(None, 0, "R", None)) == [
        {"seed": None, "status": "Not crawled (queued)"}
    ]


@pytest.mark.parametrize(
    ("hop_path", "array", "reason"),
    [
        ("", "", "hop path is empty"),
        (None, "", "hop path is empty"),
        ("R", "{}", "not a JSON array"),
        ("R", "[", "not JSON"),
        ("R", "[" * 100_000, "not JSON"),
    ],
)
def test_redirects_that_cannot_be_meant_are_refused(hop_path, array, reason):
    """The error says which argument."""
    with pytest.raises(errors.BadSql, match=reason):
        build_redirect_array("u", 200, hop_path, array)


@pytest.mark.parametrize(
    ("subject", "pattern", "expected"),
    [
        ("abc", "b", 1),
        ("abc", "^b", 0),
        ("abc", None, 0),
        (None, "a", 0),
        (None, None, 0),
        (1204, "20", 1),
        (1.5, r"\.5", 1),
        (b"abc", "b", 1),
        (b"a\xff", "\ufffd", 1),
        ("Ü", "(?i)ü", 1),
    ],
)
def test_regexp(subject, pattern, expected):
    """It searches, is false for NULL, and takes any value for its text."""
    _, regexp = Functions().registry["REGEXP"]
    assert regexp(pattern, subject) == expected


def test_an_invalid_pattern_is_named_and_kept_for_the_one_who_asked():
    """SQLite would only say that a function raised an exception."""
    functions = Functions()
    _, regexp = functions.registry["REGEXP"]
    with pytest.raises(errors.BadSql, match=r"not a regular expression: '\(a'"):
        regexp("(a", "x")
    assert "(a" in str(functions.problem)
    assert not functions.matching


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (b"a\xff", "a\ufffd"), (None, ""), (5, "5"), (2.5, "2.5")],
)
def test_values_as_text(value, text):
    """As SQLite's CAST."""
    assert as_text(value) == text
