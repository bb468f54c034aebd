"""Every format, and what it promises."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil

import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from trough import errors
from trough.formats.text import TABLE_LOOKAHEAD, RenderOptions, distinct
from trough.shell.output.formats import BINARY, FORMATS, SUMMARIES, Choice, parse_choice

COLUMNS = ["id", "url", "note"]
ROWS = [
    [1, "http://a/", None],
    [9223372036854775807, "\x1b[31mred|<b>\n", b"\x00\xff"],
    [-2.5, "日本", ""],
]


def rendered(name, columns=COLUMNS, rows=ROWS, **options):
    renderer = FORMATS[name](columns, RenderOptions(**options))
    return renderer.begin() + renderer.rows(rows) + renderer.end()


_CELLS = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=3),
    st.text(max_size=4),
    st.sampled_from(["", " a", "a ", "1", "-1.5e3", "x'00", "a\nb", "a\rb", "\\", "\t", '"', ","]),
)


@given(
    name=st.sampled_from(["CSV", "TSV"]),
    columns=st.integers(1, 3),
    kinds=st.data(),
)
def test_a_column_at_a_time_writes_what_a_cell_at_a_time_does(name, columns, kinds):
    """Whatever the values of a column have in common."""
    texts = st.lists(st.text(max_size=3) | _CELLS.filter(lambda v: isinstance(v, str)), min_size=5)
    one = st.one_of(st.lists(_CELLS, min_size=5), texts, st.lists(st.integers(), min_size=5))
    rows = list(zip(*[kinds.draw(one)[:5] for _ in range(columns)], strict=True))
    renderer = FORMATS[name]([f"c{place}" for place in range(columns)], RenderOptions())
    separator, end = ("\t", "\n") if name == "TSV" else (",", "\r\n")
    by_cell = "".join(separator.join(map(renderer._cell, row)) + end for row in rows)
    assert renderer.rows(rows) == by_cell


def test_chart_draws_names_as_bars_and_dates_as_a_line():
    """The longest bar belongs to the largest number; dates are in their order."""
    bars = rendered("CHART", ["host", "n"], [["x.org", 40], ["y\x1b", 10]]).splitlines()
    assert bars[0].startswith("x.org") and bars[0].endswith(" 40")
    assert bars[0].count("▇") > 3 * bars[1].count("▇") > 0
    assert "\x1b" not in "".join(bars)
    many = [["example.com", 53], ["b", 0], ["c", 1.25], ["d", 1234567]]
    bars = rendered("CHART", ["host", "n"], many).splitlines()
    assert [bar.split()[-1] for bar in bars] == ["53", "0", "1.25", "1234567"]
    assert max(map(len, bars)) <= shutil.get_terminal_size().columns
    line = rendered("CHART", ["day", "n"], [["2024-02-01", 3], ["2024-01-01", 1]])
    assert line.index("2024-01-01") < line.index("2024-02-01")
    assert rendered("CHART", ["a", "b"], []) == "(no rows)\n"


@pytest.mark.parametrize(
    ("columns", "rows", "reason"),
    [
        (["a"], [], "needs two columns, and the result has 1"),
        (["a", "b"], [["x", "y"]], "needs numbers in the second column, and there is y"),
        (["a", "b"], [["x", 1]] * 1001, "at most 1,000 rows"),
        (["a", "b"], [["x", 1]] * 201, "at most 200 bars"),
    ],
)
def test_chart_refuses_what_it_cannot_draw(columns, rows, reason):
    """Each refusal names what was wrong."""
    with pytest.raises(errors.BadRequest, match=reason):
        rendered("CHART", columns, rows)


@pytest.mark.parametrize("name", sorted(BINARY))
def test_columns_with_types_come_back_as_the_same_values(name, tmp_path):
    """Many batches; integers, reals, texts, BLOBs, and NULL in each."""
    rows = [[n, n / 2, f"é{n}", bytes([n % 256, 255]), None] for n in range(50_000)]
    rows[7] = [None] * 5
    path = tmp_path / "x"
    columns = ["i", "r", "t", "b", "i"]
    text = rendered(name, columns, rows)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    read = pyarrow.parquet.read_table if name == "PARQUET" else feather.read_table
    table = read(path)
    assert table.column_names == ["i", "r", "t", "b", "i_2"]
    assert [list(row.values()) for row in table.to_pylist()] == rows


@pytest.mark.parametrize("value", ["x", 1.5, b"x", "\udc80"])
def test_a_column_of_several_types_is_refused(value):
    """A column has one type; the error names the column and a way out."""
    renderer = FORMATS["PARQUET"](["a"], RenderOptions())
    renderer.rows([[1]] * 20_000)
    renderer.rows([[value]])
    with pytest.raises(errors.BadRequest, match="column a"):
        renderer.end()


def test_table():
    """Columns line up, numbers to the right where all are numbers, values safe."""
    assert rendered("TABLE") == (
        " id                  | url               | note\n"
        "---------------------+-------------------+----------------------\n"
        "                   1 | http://a/         | <null>\n"
        " 9223372036854775807 | \\x1b[31mred|<b>\\n | <blob 2 bytes: 00ff>\n"
        "                -2.5 | 日本              |\n"
    )


def test_table_without_rows_has_its_head():
    """An empty result still tells its columns."""
    assert rendered("TABLE", rows=[]) == " id | url | note\n----+-----+------\n"


def test_table_cuts_what_is_wider_than_wanted():
    """A limit on the width of columns holds, and shows that it cut."""
    assert rendered("TABLE", ["a"], [["x" * 50]], max_column_width=5) == " a\n-------\n xxxx…\n"


def test_table_holds_back_only_so_much():
    """A table of any length goes out in parts; late wide values are not lost."""
    renderer = FORMATS["TABLE"](["a"], RenderOptions())
    assert renderer.rows([["x"]] * (TABLE_LOOKAHEAD - 1)) == ""
    assert renderer.rows([["x"]]).count("\n") == TABLE_LOOKAHEAD + 2
    assert renderer.rows([["much wider"]]) == ""
    assert renderer.end() == " much wider\n"
    assert renderer.rows([["y" * (2 << 20)]]).endswith("y\n")


def test_vertical():
    """One line a column."""
    assert rendered("VERTICAL", ["a", "long name"], [[1, None]]) == (
        "-[ row 1 ]--------------------\na         | 1\nlong name | <null>\n"
    )


def test_markdown():
    """What Markdown would take for its own is escaped."""
    assert rendered("MARKDOWN", ["a|b"], [["x|y<z"], [None]]) == (
        "| a\\|b |\n| --- |\n| x\\|y&lt;z |\n| &lt;null> |\n"
    )


def test_tsv_can_be_read_back():
    """Tabs and newlines inside a value are escaped; NULL is not the empty text."""
    assert rendered("TSV", ["a", "b"], [["x\ty\n\\", None], ["", b"\x01"]]) == (
        "a\tb\nx\\ty\\n\\\\\t\\N\n\tx'01'\n"
    )


@given(st.lists(st.lists(st.text(), min_size=2, max_size=2), min_size=1))
def test_csv_is_read_back_by_a_csv_reader(rows):
    """Whatever a text holds, a CSV reader gives it back."""
    text = rendered("CSV", ["a", "b"], rows)
    assert list(csv.reader(io.StringIO(text, newline="")))[1:] == rows


def test_csv_tells_null_from_empty():
    """NULL is nothing at all, and the empty text is two quotes."""
    assert rendered("CSV", ["a", "b"], [[None, ""]]) == 'a,b\r\n,""\r\n'


values = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(codec=None, exclude_categories=())),
)


@given(
    st.sampled_from(["JSONL", "JSON", "RAW", "PRETTY"]),
    st.booleans(),
    st.lists(st.lists(values, min_size=2, max_size=2), max_size=5),
)
def test_json_formats_mean_the_rows(name, terminal, rows):
    """JSON gives every value exactly, on a terminal too."""
    text = rendered(name, ["a", "é"], rows, terminal=terminal)
    if name == "JSONL":
        text = f"[{','.join(line for line in text.split(chr(10)) if line)}]"
    found = json.loads(text)
    assert found == [dict(zip(["a", "é"], row, strict=True)) for row in rows]
    if terminal:
        assert not set(text) & set("\x1b\x9b\u202e")


def test_blob_and_infinity_in_json():
    """As in the line protocol."""
    text = rendered("JSONL", ["a", "b"], [[b"\x00", -math.inf]])
    assert text == '{"a": {"blob": "AA=="}, "b": -9e999}\n'


@pytest.mark.parametrize("name", sorted(FORMATS.keys() - BINARY - {"CHART"}))
def test_nothing_active_reaches_a_terminal(name):
    """An ESC in a value or in a column's name is never written to a terminal."""
    nasty = "\x1b]0;title\x07\x9b2J\u202e"
    text = rendered(name, [nasty, "b"], [[nasty, nasty.encode()]], terminal=True)
    assert not set(text) & set("\x1b\x07\x9b\u202e")


def test_columns_of_one_name_are_kept_apart_in_json():
    """Two columns of one name are two keys."""
    assert distinct(["a", "b", "a", "a"]) == ["a", "b", "a_2", "a_3"]


def test_every_format_is_explained():
    """HELP FORMAT has a line for each format."""
    assert list(SUMMARIES) == list(FORMATS)


def test_choosing_a_format():
    """A name, MERGED after it, or MERGED alone; anything else names what there is."""
    assert parse_choice("csv") == Choice("CSV")
    assert parse_choice("Table merged") == Choice("TABLE", True)
    assert parse_choice("merged", Choice("CSV")) == Choice("CSV", True)
    assert Choice("CSV").for_programs
    assert not Choice("TABLE").for_programs
    for wrong in ("", "xml", "csv tsv", "table \x1b"):
        with pytest.raises(errors.BadRequest, match="MARKDOWN"):
            parse_choice(wrong)
