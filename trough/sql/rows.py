"""Rows as JSON, and as lines of the line protocol; two ways that give the same bytes.

This module turns a few rows into JSON itself. SQLite turns many rows into JSON, because it
needs no Python object for each value. :func:`json_query` wraps a query so that each row comes as
one finished text. SQLite would write some rows differently (a BLOB, a real number). For those it
calls :func:`row_json`.

Integers are plain digits. Reals are the shortest text that reads back as the same number;
infinities are 9e999 and -9e999. Texts are JSON strings in which broken UTF-8 is replaced by
U+FFFD. BLOBs are ``{"blob":"<base64>"}``. Where two columns of an object have one name, the
last one counts. This module uses no connection and no socket.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from trough import errors
from trough.model import segment_word
from trough.sql.functions import Value
from trough.sql.statements import quoted

Row = tuple[Value, ...]

#: The name in SQL of :func:`row_json`.
ROW_JSON = "trough_row_json"

#: Columns up to which :func:`json_query` is of use: a function of SQLite takes 1,000
#: arguments, and an expression may be 1,000 terms deep.
MAX_COLUMNS = 200


# -- one value, one row ---------------------------------------------------------------


def _real(value: float) -> str:
    if value - value == 0.0:
        return repr(value)
    return "9e999" if value > 0 else "-9e999"


def _blob(value: object) -> dict[str, str]:
    """What the JSON encoder asks for what it does not know."""
    if isinstance(value, bytes):
        return {"blob": binascii.b2a_base64(value, newline=False).decode("ascii")}
    raise TypeError(f"SQLite gives no {type(value).__name__}")


_slow_encode = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, separators=(",", ":"), default=_blob
).encode


def _fast_encoder() -> Callable[[Any], str]:
    """What ``json.JSONEncoder.encode`` sets up again at each call, set up once. That setup
    is half of its time for a single row."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _slow_encode
    basestring = json.encoder.encode_basestring
    parts = make(None, _blob, basestring, None, ":", ",", False, False, False)
    join = "".join
    return lambda value: join(parts(value, 0))


_encode = _fast_encoder()


def _value(value: Value) -> str:
    return _real(value) if isinstance(value, float) else _slow_encode(value)


def _array(row: Iterable[Value]) -> str:
    return "[" + ",".join(map(_value, row)) + "]"


def array_of_rows(rows: Sequence[Row]) -> str:
    """Rows as one JSON array of arrays."""
    try:
        return _encode(rows)
    except ValueError:  # an infinity
        return "[" + ",".join(map(_array, rows)) + "]"


def objects_of_rows(names: Sequence[str], rows: Iterable[Row]) -> str:
    """Rows as JSON objects with a comma and a line's end between each two."""
    return ",\n".join([_object(dict(zip(names, row, strict=True))) for row in rows])


def _object(values: dict[str, Value]) -> str:
    try:
        return _encode(values)
    except ValueError:  # an infinity
        return (
            "{" + ",".join(f"{_slow_encode(name)}:{_value(v)}" for name, v in values.items()) + "}"
        )


def names_json(names: Sequence[str]) -> str:
    """The names of columns as a JSON array."""
    return _slow_encode(list(names))


def valid_utf8(text: bytes) -> bytes:
    """`text` with what is not UTF-8 replaced, as decoding each value would have."""
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode("utf-8", "replace").encode()
    return text


# -- rows as JSON made by SQLite ------------------------------------------------------


def json_query(
    statement: str,
    names: Sequence[str],
    sample: Iterable[Row],
    as_objects: bool,
    columns_alone: bool = False,
) -> str:
    """`statement` wrapped so that each row of its result is one JSON text.

    :param statement: one SELECT, WITH or VALUES without its semicolon
    :param sample: some rows of its result; what they hold decides which test finds the
        rows that SQLite must not write itself, not what is found
    :param as_objects: objects with these names, rather than arrays
    :param columns_alone: its expressions may be evaluated several times, for they call no
        function and ask no further query; a fifth faster
    """
    columns = [f"c{place}" for place in range(len(names))]
    tests = " OR ".join(map(_odd_test, columns, _kinds(len(names), sample)))
    chosen = _last_of_each(names) if as_objects else [(None, place) for place in range(len(names))]
    # A LIMIT keeps SQLite from moving the statement's expressions into the wrapping.
    rows = "trough_rows" if columns_alone else "(SELECT * FROM trough_rows LIMIT -1 OFFSET 0)"
    return (
        f"WITH trough_rows({','.join(columns)}) AS (\n{statement}\n)\n"
        f"SELECT CASE WHEN {tests} THEN {_by_python(chosen)} ELSE {_by_sqlite(chosen)} END\n"
        f"FROM {rows}"
    )


def _last_of_each(names: Sequence[str]) -> list[tuple[str | None, int]]:
    """Names in order of their first appearance, each with the place of its last."""
    return list({name: place for place, name in enumerate(names)}.items())


def _kinds(width: int, sample: Iterable[Row]) -> list[set[type]]:
    kinds: list[set[type]] = [set() for _ in range(width)]
    for row in sample:
        for kind, value in zip(kinds, row, strict=True):
            kind.add(type(value))
    return kinds


def _odd_test(column: str, kinds: set[type]) -> str:
    """Whether a value is one that SQLite writes differently; may be true of others too.

    A comparison costs SQLite a fourth of a function call, and there is one for each value.
    """
    present = kinds - {type(None)}
    if present == {str}:
        # Numbers sort before all texts, and BLOBs after them; + removes the effect of the
        # column's type on that.
        return f"+{column}<=9e999 OR +{column}>=x''"
    if present == {int}:
        # A real number without a fraction, below where SQLite writes an exponent or digits
        # that it does not have, is written alike; but for 0, of which there are two.
        return (
            f"{column} NOT BETWEEN 1 AND 1000000000000000 AND typeof({column})<>'integer' "
            f"OR {column}<>CAST({column} AS INTEGER)"
        )
    test = f"typeof({column}) IN ('real','blob')"
    return f"{column} NOTNULL AND {test}" if not present else test


def _by_sqlite(chosen: Sequence[tuple[str | None, int]]) -> str:
    arguments = (
        f"c{place}" if name is None else f"{quoted(name)},c{place}" for name, place in chosen
    )
    return ("json_array(" if chosen[0][0] is None else "json_object(") + ",".join(arguments) + ")"


def _by_python(chosen: Sequence[tuple[str | None, int]]) -> str:
    arrays = chosen[0][0] is None
    arguments = []
    for number, (name, place) in enumerate(chosen):
        fragment = "," if number else "[" if arrays else "{"
        if name is not None:
            fragment += _slow_encode(name) + ":"
        column = f"c{place}"
        # A text goes as JSON in a BLOB, for it need not be UTF-8; a BLOB as digits.
        arguments.append(
            f"{quoted(fragment)},CASE WHEN {column}>=x'' THEN hex({column}) "
            f"WHEN {column}>='' THEN CAST(json_quote({column}) AS BLOB) ELSE {column} END"
        )
    end = "]" if arrays else "}"
    return f"{ROW_JSON}({','.join(arguments)},'{end}')"


def row_json(*arguments: Value) -> bytes:
    """One row as JSON; SQLite calls this in the text of :func:`json_query`.

    :param arguments: in turn a piece of JSON and a value, and a last piece: a number or
        NULL is itself, a `str` the hexadecimal digits of a BLOB, `bytes` JSON
    """
    pieces = []
    for number, argument in enumerate(arguments):
        if not number % 2:
            pieces.append(str(argument).encode())
        elif isinstance(argument, bytes):
            pieces.append(argument)
        elif isinstance(argument, str):
            pieces.append(_slow_encode(bytes.fromhex(argument)).encode())
        else:
            pieces.append(_value(argument).encode())
    return b"".join(pieces)


# -- lines of the line protocol -------------------------------------------------------


def columns_line(tag: str, segment: str, columns: str) -> str:
    """The line with the columns that follow; `columns` is their names as JSON."""
    return f"{tag} COLS {segment_word(segment)} {columns}\n"


def done_line(tag: str, segment: str, count: int) -> str:
    """The line after the last row of this segment."""
    return f"{tag} DONE {segment_word(segment)} {count}\n"


def all_lines(tag: str, segment: str, columns: str, rows: Sequence[Row]) -> str:
    """Everything about a segment with few rows."""
    word = segment_word(segment)
    if not rows:
        return f"{tag} COLS {word} {columns}\n{tag} DONE {word} 0\n"
    return (
        f"{tag} COLS {word} {columns}\n"
        f"{tag} ROWS {word} {array_of_rows(rows)}\n"
        f"{tag} DONE {word} {len(rows)}\n"
    )


def lines_apart(tag: str, segment: str, columns: str, rows: Sequence[Row]) -> str:
    """The same, with a line for each row."""
    word = segment_word(segment)
    lines = [f"{tag} ROWS {word} {array_of_rows([row])}\n" for row in rows]
    return columns_line(tag, segment, columns) + "".join(lines) + done_line(tag, segment, len(rows))


def fail_line(tag: str, segment: str, error: errors.TroughError) -> str:
    """The line of a segment that failed, with the reason in one sentence and no line's end."""
    return f"{tag} FAIL {segment_word(segment)} {error.code} {' '.join(str(error).split())}\n"
