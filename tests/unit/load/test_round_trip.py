"""What the shell writes, trough-load reads as the same values."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pysqlite3 import dbapi2 as sqlite3  # as the executors: older ones misread some numbers

from trough.formats.text import RenderOptions
from trough.load import formats
from trough.load.lines import numbered
from trough.load.records import Reading
from trough.load.segment_loader import rendered
from trough.load.tables import keeps_type
from trough.shell.output.formats import FORMATS

TYPES = {"a": "", "i": "INTEGER", "r": "REAL", "t": "TEXT", "b": "BLOB", "n": "NUMERIC", "v": "ANY"}
READ_AS = {"CSV": "csv", "TSV": "tsv", "JSONL": "jsonl", "RAW": "json", "PRETTY": "json"}

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
        reading = Reading(keeps_type=lambda name: keeps_type(TYPES.get(name)))
        read = formats.OF_LINES[READ_AS[format_name]](numbered([text.encode()], 1 << 20), reading)
        for row in read:
            names = ",".join(row.columns)
            database.execute(f"INSERT INTO copy ({names}) VALUES ({rendered(row.values)})")
        assert contents(database, "copy", columns) == contents(database, "original", columns)

    check()
