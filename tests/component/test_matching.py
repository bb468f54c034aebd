"""Patterns over segment ids, harmless and evil ones."""

import sys
from pathlib import Path

import pytest

from trough import errors
from trough.metadata.sqlite.regex import Matching
from trough.worker import segment_patterns

NAMES = ["300001", "300002", "ait-1", "AIT-1", "a" * 40 + "!"]


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("", NAMES),
        ("^3000", ["300001", "300002"]),
        ("ait", ["ait-1"]),
        ("^a.*1$", ["ait-1"]),
        ("(ait|AIT)-1", ["ait-1", "AIT-1"]),
        (r"\d{6}", ["300001", "300002"]),
        ("nothing", []),
    ],
)
def test_patterns_are_searched_for(pattern, matched):
    """A pattern is found anywhere in an id, case matters, and order is kept."""
    assert segment_patterns.matching(pattern, NAMES) == matched


def test_what_is_no_pattern_is_named():
    """A broken pattern is the caller's mistake."""
    with pytest.raises(errors.BadRequest, match=r"not a regular expression: '\(a'"):
        segment_patterns.matching("(a", NAMES)


def test_evil_pattern_is_ended(monkeypatch):
    """Exponential backtracking ends at the limit of processor time, in its own process."""
    monkeypatch.setattr(segment_patterns, "LIMIT_SECONDS", 1)
    assert not segment_patterns.is_harmless("(a+)+$")
    with pytest.raises(errors.DeadlineExceeded, match="simplify"):
        segment_patterns.matching("(a+)+$", NAMES)


def test_a_matcher_takes_no_module_from_where_it_is_started(monkeypatch, tmp_path: Path):
    """A file called like one of Python's own, where somebody happens to be, is not run."""
    (tmp_path / "json.py").write_text("raise SystemExit('not the one that was meant')")
    monkeypatch.chdir(tmp_path)
    assert not segment_patterns.is_harmless("^(ait|AIT)")
    assert segment_patterns.matching("^(ait|AIT)", NAMES) == ["ait-1", "AIT-1"]


def test_no_process_is_told_as_such(monkeypatch, tmp_path: Path):
    """As where a limit on processes or open files is reached; it may pass."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    for match in (
        lambda: segment_patterns.matching("(a+)+$", NAMES),
        lambda: Matching(tmp_path, "a", 1),
    ):
        with pytest.raises(errors.Unavailable, match="no process can be started"):
            match()
