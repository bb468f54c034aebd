"""Rows as JSON: made here and made by SQLite, the same bytes."""

import itertools
import json
import math
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trough import errors
from trough.sql import rows, sqlite
from trough.sql.sandbox import Mode

INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**53 + 1, -(2**63)])
REALS = st.floats(allow_nan=False) | st.sampled_from(
    [math.inf, -math.inf, -0.0, 0.1, 2 / 3, 1e16, 1e15, 5e-324, 100.0, 1e-5]
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ["", '"', "\\", "'", "\0a", "\x1f\x7f", "\u2028", "[1]", '{"a":1}', "null", "1.5", " "]
)
BLOBS = st.binary(max_size=6) | st.sampled_from([b"", b"\x00", b"\x0b", b"\x13\x31", b"\xff"])


class Broken(bytes):
    """A TEXT that need not be UTF-8."""


BROKEN = st.binary(max_size=6).map(Broken) | st.sampled_from(
    [Broken(b"a\xffb"), Broken(b"\xe2\x82"), Broken(b"\xed\xa0\x80"), Broken(b"\xc0\x80")]
)
VALUES = st.none() | INTEGERS | REALS | TEXTS | BLOBS | BROKEN
NAMES = st.sampled_from(["a", "b", "a b", 'say "a"', "it's", "é", "c0", "1", "trough"])

#: Around a table t of the columns of a row; {columns} are their names, quoted.
QUERIES = [
    "SELECT * FROM t",
    "SELECT {columns} FROM t ORDER BY rowid DESC",
    "SELECT {columns} FROM t ORDER BY 1, rowid LIMIT 3",
    "SELECT DISTINCT {columns} FROM t ORDER BY rowid",
    "SELECT *, * FROM t ORDER BY rowid",
    "SELECT {columns} FROM t UNION ALL SELECT {columns} FROM t",
    "SELECT * FROM (SELECT * FROM t ORDER BY rowid DESC)",
    "WITH x AS (SELECT * FROM t), y AS (SELECT * FROM x) SELECT * FROM y -- z",
    "SELECT {columns}, row_number() OVER (ORDER BY rowid) AS n FROM t",
    "SELECT typeof({first}), count(*), max({first}) FROM t GROUP BY 1 ORDER BY 1",
    "SELECT json_quote({first}) FROM (SELECT 'x' AS {first} FROM t)",
    "SELECT json('[1]'), json_array(1), '[2]' -> '$[0]', json_extract('[[1]]', '$[0]') FROM t",
    "SELECT json_group_array(rowid), jsonb('[1]') FROM t",
    "SELECT * FROM (SELECT json('[1]') AS j FROM t) /* ( */",
    "SELECT {first} COLLATE NOCASE AS c, {first} COLLATE RTRIM, +{first} FROM t ORDER BY rowid",
    "SELECT (SELECT {first} FROM t AS u WHERE u.rowid = t.rowid) FROM t ORDER BY rowid",
    "VALUES(1, 2.5, NULL, x'00', 'x'), (2.0, 'y', -9e999, 7, '')",
]


@st.composite
def tables(draw):
    """Names of columns, which may have an affinity, and rows."""
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    affinities = [draw(st.sampled_from(["", "TEXT", "INTEGER", "REAL", "BLOB"])) for _ in names]
    columns = [draw(st.sampled_from([VALUES, INTEGERS, TEXTS, st.none() | TEXTS])) for _ in names]
    found = draw(st.lists(st.tuples(*columns), max_size=12))
    return names, affinities, found


def quote(name):
    return '"' + name.replace('"', '""') + '"'


def a_table(connection, names, affinities, found):
    """Create and fill it."""
    columns = ", ".join(map(" ".join, zip(map(quote, names), affinities, strict=True)))
    connection.execute(f"CREATE TABLE t({columns})")
    for row in found:
        marks = ",".join("CAST(? AS TEXT)" if isinstance(v, Broken) else "?" for v in row)
        connection.execute(f"INSERT INTO t VALUES({marks})", [_bound(v) for v in row])


def _bound(value):
    return bytes(value) if isinstance(value, Broken) else value


def both(engine, connection, query, sample, as_objects):
    """The query's rows as JSON, made here and made by SQLite."""
    connection.text_factory = sqlite.lenient_text
    engine.sandbox.selects = engine.sandbox.functions = 0
    cursor = engine.execute(connection.cursor(), Mode.READ, query)
    alone = engine.sandbox.selects == 1 and engine.sandbox.functions == 0
    names = tuple(column[0] for column in cursor.description)
    found = cursor.fetchall()
    wrapped = rows.json_query(query, names, found[:sample], as_objects, alone)
    connection.text_factory = bytes
    made = itertools.chain.from_iterable(engine.execute(connection.cursor(), Mode.READ, wrapped))
    if as_objects:
        return rows.objects_of_rows(names, found).encode(), rows.valid_utf8(b",\n".join(made))
    return rows.array_of_rows(found).encode(), rows.valid_utf8(b"[" + b",".join(made) + b"]")


@settings(max_examples=400, deadline=None)
@given(tables(), st.sampled_from(QUERIES), st.integers(0, 3), st.booleans())
@example((["a"], [""], [(b"\x00",), ("x",)]), "SELECT * FROM t", 1, True)
def test_both_ways_give_the_same_bytes(table, query, sample, as_objects):
    """Whatever the values, the names, the form of the query, and the sample looked at."""
    engine = sqlite.Engine()
    connection = engine.open_private()
    engine.sandbox.mode = Mode.OWN
    names, affinities, found = table
    a_table(connection, names, affinities, found)
    engine.add_row_json(connection)
    query = query.format(columns=", ".join(map(quote, names)), first=quote(names[0]))
    by_python, by_sqlite = both(engine, connection, query, sample, as_objects)
    assert by_python == by_sqlite
    connection.close()


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_json_reads_back_as_the_same_values(values):
    """Integers of 64 bits, reals to the last bit, texts, and BLOBs in base64."""
    row = tuple(v.decode("utf-8", "replace") if isinstance(v, Broken) else v for v in values)
    (back,) = json.loads(rows.array_of_rows([row]))
    for value, read in zip(row, back, strict=True):
        if isinstance(value, bytes):
            assert json.loads(rows.array_of_rows([(value,)])) == [[read]]
            assert set(read) == {"blob"}
        elif isinstance(value, float):
            assert struct.pack("d", value) == struct.pack("d", read)
        else:
            assert (type(value), value) == (type(read), read)


def test_what_the_wire_looks_like():
    """The document says so, and clients rely on it."""
    row = (1, -(2**63), 0.1, 1e16, math.inf, -math.inf, None, 'é"\n', b"\x00\xff")
    assert rows.array_of_rows([row]) == (
        '[[1,-9223372036854775808,0.1,1e+16,9e999,-9e999,null,"é\\"\\n",{"blob":"AP8="}]]'
    )
    assert rows.objects_of_rows(["a", "b"], [(1, 2), (math.inf, 3)]) == (
        '{"a":1,"b":2},\n{"a":9e999,"b":3}'
    )
    assert rows.array_of_rows([]) == "[]"


def test_of_two_columns_of_one_name_the_last_counts():
    """As in a Python dictionary, and in its first place."""
    assert rows.objects_of_rows(["a", "b", "a"], [(1, 2, 3)]) == '{"a":3,"b":2}'


@pytest.mark.parametrize(
    "text",
    [b"", b"ascii", "é\U0001f600".encode(), b'["a\xff"]', b"\xed\xa0\x80x", b"\xe2\x82\x22"],
)
def test_broken_utf8_is_replaced_as_decoding_would(text):
    """In a whole piece at once as in each value by itself."""
    assert rows.valid_utf8(text) == text.decode("utf-8", "replace").encode()


def test_the_lines_of_the_protocol():
    """Each ends with a line's end and has none within."""
    assert rows.all_lines("t", "s", '["a"]', [(1,), ("x\ny",)]) == (
        't COLS s ["a"]\nt ROWS s [[1],["x\\ny"]]\nt DONE s 2\n'
    )
    assert rows.all_lines("t", "s", '["a"]', []) == 't COLS s ["a"]\nt DONE s 0\n'
    error = errors.BadSql("two\nlines", "and\ra hint")
    assert rows.fail_line("t", "s", error) == "t FAIL s bad-sql two lines (and a hint)\n"


def test_two_hundred_columns_can_be_wrapped():
    """So many are let through, and SQLite takes them."""
    engine = sqlite.Engine()
    connection = engine.open_private()
    engine.add_row_json(connection)
    columns = ", ".join(f"{n} AS c{n}" for n in range(rows.MAX_COLUMNS))
    for as_objects in (False, True):
        by_python, by_sqlite = both(engine, connection, f"SELECT {columns}", 1, as_objects)
        assert by_python == by_sqlite
    odd = ", ".join(f"x'0{n % 10}' AS c{n}" for n in range(rows.MAX_COLUMNS))
    by_python, by_sqlite = both(engine, connection, f"SELECT {odd}", 1, True)
    assert by_python == by_sqlite


def test_expressions_are_evaluated_once():
    """A random number is the same one in the test for its kind and in the JSON."""
    engine = sqlite.Engine()
    connection = engine.open_private()
    engine.add_row_json(connection)
    query = "SELECT CASE WHEN random() % 2 THEN 1 ELSE 0.5 END FROM generate(1)"
    query = query.replace(
        "generate(1)",
        "(WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 500) "
        "SELECT i FROM n)",
    )
    wrapped = rows.json_query(query, ("x",), [(1,)], False)
    made = {text for (text,) in engine.execute(connection.cursor(), Mode.READ, wrapped)}
    assert {bytes(text, "ascii") if isinstance(text, str) else text for text in made} == {
        b"[1]",
        b"[0.5]",
    }
