"""Rows of many segments, held back and laid out."""

from __future__ import annotations

import json

import pytest

from trough import errors
from trough.formats.text import RenderOptions
from trough.shell.output.formats import Choice
from trough.shell.output.results import Results
from trough.shell.output.sections import layout_for
from trough.util.wording import counted


def make(name="TSV", merged=False, many=True, terminal=True, **bounds):
    return Results(layout_for(Choice(name, merged), RenderOptions(terminal), many), **bounds)


def test_each_segment_under_its_name():
    """Interleaved rows come out segment by segment, empty segments not at all."""
    sut = make("VERTICAL")
    for segment in ("a", "b", "c"):
        sut.columns(segment, ["x"])
    text = sut.rows("a", [[1]], 1) + sut.rows("b", [[2]], 1) + sut.rows("a", [[3]], 1)
    assert text == ""
    bar = "-" * 20
    assert sut.done("b") == f"b:\n-[ row 1 ]{bar}\nx | 2\n(1 row)\n\n"
    assert sut.done("a") == f"a:\n-[ row 1 ]{bar}\nx | 1\n-[ row 2 ]{bar}\nx | 3\n(2 rows)\n\n"
    assert sut.done("c") == ""
    assert (sut.empty, sut.end()) == (1, "")


def test_one_segment_has_no_title():
    """With one segment there is nothing to tell apart."""
    sut = make("TSV", many=False)
    sut.columns("a", ["x"])
    sut.rows("a", [[1]], 1)
    assert sut.done("a") + sut.end() == "x\n1\n"


@pytest.mark.parametrize("name", ["TABLE", "MARKDOWN", "VERTICAL"])
def test_no_columns_are_nothing_to_see(name):
    """A table without columns has no lines."""
    sut = make(name, many=False)
    sut.columns("a", [])
    assert sut.done("a") + sut.end() == ""


def test_programs_get_a_column_that_names_the_segment():
    """CSV, TSV and JSON lines of many segments are one result set."""
    sut = make("TSV")
    sut.columns("a", ["x"])
    sut.columns("b", ["x"])
    sut.rows("b", [[2]], 1)
    sut.rows("a", [[1]], 1)
    assert sut.done("a") + sut.done("b") + sut.end() == "_segment\tx\na\t1\nb\t2\n"


def test_the_header_comes_without_rows_too():
    """A program that reads CSV gets a header even where nothing was found."""
    sut = make("CSV", many=True)
    sut.columns("a", ["x"])
    assert sut.done("a") + sut.end() == "_segment,x\r\n"


def test_a_segment_with_other_columns_is_refused_in_one_csv():
    """Columns that do not fit are an error of that segment, not a shifted table."""
    sut = make("CSV")
    sut.columns("a", ["x"])
    with pytest.raises(errors.BadRequest, match=r"x, y.*name the columns"):
        sut.columns("b", ["x", "y"])


def test_json_of_many_segments_is_one_value_where_nobody_looks():
    """In a file or a pipe RAW and PRETTY are one array; on a screen segments have titles."""
    sut = make("RAW", terminal=False)
    sut.columns("a", ["x"])
    sut.columns("b", ["x"])
    sut.rows("a", [[1]], 1)
    sut.rows("b", [[2]], 1)
    assert json.loads(sut.done("a") + sut.done("b") + sut.end()) == [
        {"_segment": "a", "x": 1},
        {"_segment": "b", "x": 2},
    ]
    with pytest.raises(errors.BadRequest):
        sut.columns("c", ["y"])


def test_people_get_a_new_header_for_other_columns():
    """In a merged table other columns begin a new table."""
    sut = make("TABLE", merged=True)
    sut.columns("a", ["x"])
    sut.columns("b", ["y"])
    sut.rows("a", [[1]], 1)
    sut.rows("b", [[2]], 1)
    assert sut.done("a") + sut.done("b") + sut.end() == (
        " _segment | x\n----------+---\n a        | 1\n\n"
        " _segment | y\n----------+---\n b        | 2\n"
    )


def test_memory_has_a_bound():
    """When too much is held the segment with most rows goes out and stays open."""
    sut = make("RAW", held_rows=3)
    sut.columns("a", ["x"])
    sut.columns("b", ["x"])
    assert sut.rows("b", [[0]], 1) == ""
    assert sut.rows("a", [[1], [2], [3]], 1) == 'a:\n[{"x": 1},\n{"x": 2},\n{"x": 3}'
    assert sut.rows("a", [[4]], 1) == ',\n{"x": 4}'
    assert sut.done("b") == ""
    assert sut.done("a") == ']\n(4 rows)\n\nb:\n[{"x": 0}]\n(1 row)\n\n'


def test_a_section_is_continued():
    """A segment that had to make room says that more comes, and goes on later."""
    sut = make("RAW", held_rows=2)
    sut.columns("a", ["x"])
    sut.columns("b", ["x"])
    sut.rows("a", [[1], [2], [3]], 1)
    text = sut.rows("b", [[1], [2], [3]], 1)
    assert text.startswith("]\n(more below)\n\nb:\n[")
    text = sut.rows("a", [[4]], 1) + sut.done("b") + sut.done("a") + sut.end()
    assert text == ']\n(3 rows)\n\na (continued):\n[{"x": 4}]\n(4 rows)\n\n'


def test_values_count_for_the_bound_too():
    """A few large values are as much as many rows."""
    sut = make("JSONL", many=False, held_size=100)
    sut.columns("a", ["x"])
    assert json.loads(sut.rows("a", [["y" * 101]], 101)) == {"x": "y" * 101}


def test_a_segment_asked_again_leaves_no_trace():
    """Rows that were not written yet are forgotten when they come again."""
    sut = make("TSV", many=False)
    sut.columns("a", ["x"])
    sut.rows("a", [[1], [2]], 1)
    assert sut.restarted("a") == 2
    sut.columns("a", ["x"])
    sut.rows("a", [[1], [2], [3]], 1)
    assert sut.done("a") + sut.end() == "x\n1\n2\n3\n"


def test_rows_that_were_written_cannot_be_taken_back():
    """Then the caller is told, so that no row is shown twice."""
    sut = make("TSV", many=False)
    sut.columns("a", ["x"])
    sut.rows("a", [[1]], 1)
    assert sut.flush() == "x\n1\n"
    assert sut.restarted("a") is None
    assert sut.restarted("not seen yet") == 0


def test_a_waiting_reader_sees_what_there_is():
    """After a while the longest of the segments goes out although it is not complete."""
    sut = make("TABLE")
    sut.columns("a", ["x"])
    sut.rows("a", [[1]], 1)
    assert sut.flush() == "a:\n x\n---\n 1\n"
    assert sut.rows("a", [[2]], 1) == ""
    assert sut.flush() == " 2\n"
    assert sut.end() == "(incomplete)\n\n"


def test_what_a_failed_segment_gave_is_marked():
    """Rows before a failure are shown with the reason for their end."""
    sut = make("RAW")
    sut.columns("a", ["x"])
    sut.rows("a", [[1]], 1)
    assert sut.done("a", "failed: timeout") == 'a:\n[{"x": 1}]\n(failed: timeout)\n\n'
    assert sut.done("never began", "failed") == ""


def test_counting():
    """One row, two rows."""
    assert [counted(n, "row") for n in (0, 1, 12345)] == ["0 rows", "1 row", "12,345 rows"]
