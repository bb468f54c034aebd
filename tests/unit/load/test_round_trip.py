"""What the shell writes, trough-load reads as the same values."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pysqlite3 import dbapi2 as sqlite3  # as the executors: older ones misread some numbers

from trough import errors
from trough.formats.columnar import ERRORS
from trough.formats.text import RenderOptions
from trough.load import formats
from trough.load.lines import numbered
from trough.load.records import FormatOptions
from trough.load.segment_loader import rendered
from trough.load.sources import Source
from trough.load.tables import keeps_type
from trough.shell.output.formats import FORMATS

TYPES = {"a": "", "i": "INTEGER", "r": "REAL", "t": "TEXT", "b": "BLOB", "n": "NUMERIC", "v": "ANY"}
READ_AS = {
    "CSV": "csv",
    "TSV": "tsv",
    "JSON": "json",
    "JSONL": "jsonl",
    "RAW": "json",
    "PRETTY": "json",
}

TEXTS = ["", "0", "007", "-1.5", "1e5", "9e999", "x'00'", "X''", '"', '"1"', "\\N", "\\t", "a\r\nb"]
TEXTS += ["\r", "\n", "g\r\r\nh", ",", "\t", " x ", "null", "NaN", "{}", "\0", "'", "\ufeffx", "é"]
NUMBERS = [2**63 - 1, -(2**63), float("inf"), float("-inf"), -0.0, 1e22, 5e-324]

VALUES = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=8),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from([*TEXTS, *NUMBERS]),
)


def table(database, name):
    columns = ", ".join(f"{column} {kind}" for column, kind in TYPES.items())
    database.execute(f"CREATE TABLE {name} ({columns})")


def contents(database, name, columns):
    """Values with their types, for 1 and 1.0 are equal, and -0.0 and 0.0 as SQLite has them."""
    what = ", ".join(f"typeof({column}), quote({column}), {column}" for column in columns)
    return database.execute(f"SELECT {what} FROM {name} ORDER BY rowid").fetchall()


@pytest.mark.parametrize("format_name", READ_AS)
@pytest.mark.parametrize("columns", [list(TYPES), ["a"], ["t"]], ids="".join)
def test_what_is_written_is_read(format_name, columns):
    """Whatever values a table of whatever types holds, a copy of it holds the same ones."""

    @given(st.lists(st.lists(VALUES, min_size=len(TYPES), max_size=len(TYPES)), max_size=5))
    @example([[value] * len(TYPES) for value in ("", None, "\r\n", b"\x00\xff", 2**63 - 1)])
    @example([[None] * len(TYPES)] * 3)
    @example([[value] * len(TYPES) for value in ("1", 1, 1.0, "1.0", "x'00'", b"\x00", "9e999")])
    @example([[value] * len(TYPES) for value in (float("inf"), float("-inf"), '"', "\\N")])
    def check(rows):
        database = sqlite3.connect(":memory:")
        table(database, "original")
        table(database, "copy")
        marks = ",".join("?" * len(TYPES))
        database.executemany(f"INSERT INTO original VALUES ({marks})", rows)
        written = database.execute(f"SELECT {','.join(columns)} FROM original").fetchall()
        renderer = FORMATS[format_name](columns, RenderOptions())
        text = renderer.begin() + renderer.rows(written) + renderer.end()
        reading = FormatOptions(keeps_type=lambda name: keeps_type(TYPES.get(name)))
        read = formats.OF_LINES[READ_AS[format_name]](numbered([text.encode()], 1 << 20), reading)
        for row in read:
            names = ",".join(row.columns)
            database.execute(f"INSERT INTO copy ({names}) VALUES ({rendered(row.values)})")
        assert contents(database, "copy", columns) == contents(database, "original", columns)

    check()


INTEGERS = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**53, 2**53 + 1]))
FLOATS = st.one_of(st.floats(allow_nan=False), st.sampled_from([-0.0, 1e22, 5e-324]))
ONE_KIND = st.sampled_from([INTEGERS, FLOATS, st.binary(max_size=8), st.sampled_from(TEXTS)])


@st.composite
def columns_of_values(draw):
    """Rows of which nearly every column holds values of one type, and NULL."""
    count = draw(st.integers(0, 5))
    kinds = [draw(st.one_of(ONE_KIND, ONE_KIND, ONE_KIND, st.just(VALUES))) for _ in TYPES]
    values = [[draw(st.none() | kind) for _ in range(count)] for kind in kinds]
    return [list(row) for row in zip(*values, strict=True)]


@pytest.mark.parametrize("format_name", ["PARQUET", "ARROW"])
def test_what_is_written_with_types_is_read(format_name, tmp_path):
    """A column of one type comes back as it was; one of several types is refused."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / f"a.{format_name.lower()}"

    @given(columns_of_values())
    @example([[value] * len(TYPES) for value in (None, None)])
    @example([[2**53 + 1] * len(TYPES), [0.5] * len(TYPES)])
    @example([[1] * len(TYPES), [2.5] * len(TYPES)])
    def check(rows):
        database = sqlite3.connect(":memory:")
        table(database, "original")
        table(database, "copy")
        marks = ",".join("?" * len(TYPES))
        database.executemany(f"INSERT INTO original VALUES ({marks})", rows)
        written = database.execute("SELECT * FROM original").fetchall()
        renderer = FORMATS[format_name](list(TYPES), RenderOptions())
        try:
            text = renderer.begin() + renderer.rows(written) + renderer.end()
        except errors.BadRequest:
            kinds = [{type(value) for value in column} for column in zip(*written, strict=True)]
            assert any(len(kind - {type(None)}) > 1 for kind in kinds)
            return
        path.write_bytes(text.encode("utf-8", ERRORS))
        with Source(str(path)) as source:
            for row in formats.OF_FILES[format_name.lower()](source, FormatOptions()):
                names = ",".join(row.columns)
                database.execute(f"INSERT INTO copy ({names}) VALUES ({rendered(row.values)})")
        assert [exact(row) for row in database.execute("SELECT * FROM copy")] == [
            exact(row) for row in written
        ]

    check()


def exact(row):
    """Values that are equal only to the same ones; 1 and 1.0 are, in a column of both."""
    return [str(float(value)) if value == 0 else value for value in row]
