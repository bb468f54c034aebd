"""Values on the wire: parameters of a statement, and the cells of its rows.

SQLite's five kinds of value and their JSON: NULL is null, INTEGER plain digits (64 bit),
REAL the shortest digits that give the same number back, with 9e999 and -9e999 for the
infinities, TEXT a string, BLOB ``{"blob": "<base64>"}``. What is encoded here decodes to
the same value and type. Both protocols share it; executors write the same.
"""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn

from trough import errors
from trough.protocols.limits import MAX_PARAMETERS, check_json_values
from trough.sql.column_filters import FilterTest
from trough.sql.column_ranges import is_key
from trough.sql.json_rows import blob_of, rows_of_json

#: A value that SQLite can store.
Value = None | int | float | str | bytes

#: For the places of a statement, or by name.
Parameters = Sequence[Value] | Mapping[str, Value]

_LEAST, _GREATEST = -(2**63), 2**63 - 1


def encode_value(value: Value) -> str:
    """The JSON of one value; bool counts as an integer, and NaN, as in SQLite, as NULL.

    :raises trough.errors.BadRequest: SQLite has no such value
    """
    if value is None:
        return "null"
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, int):
        if not _LEAST <= value <= _GREATEST:
            raise _too_wide(value)
        return str(int(value))
    if isinstance(value, float):
        return _encode_real(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return f'{{"blob":"{b64encode(value).decode()}"}}'
    raise errors.BadRequest(
        f"a parameter of type {type(value).__name__}",
        "None, bool, int, float, str and bytes can be sent",
    )


def encode_parameters(parameters: Parameters) -> bytes:
    """Parameters as ``bind=`` takes them: JSON without a blank."""
    if isinstance(parameters, Mapping):
        pairs = (f"{json.dumps(k)}:{encode_value(v)}" for k, v in parameters.items())
        text = f"{{{','.join(pairs)}}}"
    else:
        text = f"[{','.join(map(encode_value, parameters))}]"
    # Blanks can only be within strings by now.
    return text.replace(" ", "\\u0020").encode()


def decode_parameters(text: bytes) -> Parameters:
    """Parameters out of a request.

    :raises trough.errors.BadRequest: neither a JSON array nor an object, or it holds
        what is not a value of SQLite
    :raises trough.errors.TooLarge: it holds more values than a statement takes
    """
    check_json_values(text, MAX_PARAMETERS, "bind=")
    try:
        plain = text.decode().strip()
        decoded, end = _PARAMETERS.raw_decode(plain)
    except (ValueError, RecursionError) as error:
        raise errors.BadRequest(f"parameters are not JSON: {error}", _PARAMETERS_RULE) from error
    if end != len(plain):
        raise errors.BadRequest(f"more than one JSON value: {plain[end:][:40]!a}", _PARAMETERS_RULE)
    return parameters_of(decoded)


def parameters_of(decoded: object) -> Parameters:
    """Parameters out of JSON that was decoded.

    :raises trough.errors.BadRequest: see :func:`decode_parameters`
    """
    if isinstance(decoded, list):
        return [_parameter(value) for value in decoded]
    if isinstance(decoded, dict):
        return {name: _parameter(value) for name, value in decoded.items()}
    raise errors.BadRequest("parameters are neither an array nor an object", _PARAMETERS_RULE)


def decode_rows(text: bytes) -> list[list[Value]]:
    """Rows as ``ROWS`` sends them.

    :raises ValueError: not JSON
    """
    return rows_of_json(text)


@lru_cache(maxsize=256)
def decode_names(text: bytes) -> tuple[str, ...]:
    """Names of columns as ``COLS`` sends them; the same ones for each of many segments.

    :raises ValueError: not JSON
    """
    return tuple(json.loads(text))


_PARAMETERS_RULE = 'for example [300001,"text",null] or {"name":1.5}'


def _encode_real(value: float) -> str:
    if math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    return "null" if math.isnan(value) else repr(float(value))


def _too_wide(value: int) -> errors.BadRequest:
    return errors.BadRequest(f"an integer of {value.bit_length()} bits", "SQLite's have 64")


def _parameter(value: object) -> Value:
    if isinstance(value, int):
        if not _LEAST <= value <= _GREATEST:
            raise _too_wide(value)
        return int(value)
    if isinstance(value, str):
        return value if value.isascii() else _text(value)
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, dict) and value.keys() == {"blob"}:
        return blob_of(value)
    raise errors.BadRequest(
        f"not a value of SQLite: {'an array' if isinstance(value, list) else 'an object'}",
        'null, a number, a string, or {"blob":"base64"}',
    )


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise errors.BadRequest(f"half a surrogate pair in {value[:40]!a}") from error
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON; infinity is 9e999")


_PARAMETERS = json.JSONDecoder(parse_constant=_refuse_constant)


#: Tests of a query, and texts of all of them, at most.
MAX_TESTS, MAX_DIGESTS = 16, 10_000


def encode_tests(tests: Sequence[FilterTest]) -> bytes:
    """Tests as ``tests=`` takes them."""
    pairs = [test if test.ranges else test[:2] for test in tests]
    return json.dumps(pairs, separators=(",", ":")).encode()


def decode_tests(text: bytes) -> tuple[FilterTest, ...]:
    """Tests out of a request.

    :raises trough.errors.BadRequest: something else
    :raises trough.errors.TooLarge: too many
    """
    check_json_values(text, MAX_DIGESTS, "tests=")
    try:
        tests = tuple(_test(*each) for each in json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise errors.BadRequest(f"tests are not JSON: {error}", _TESTS_RULE) from error
    if len(tests) > MAX_TESTS or not all(map(_is_test, tests)):
        raise errors.BadRequest("tests are something else than tests", _TESTS_RULE)
    return tests


_TESTS_RULE = f"an array of at most {MAX_TESTS} pairs of SQL and an array of 64-bit numbers"


def _test(sql: str, digests: list[int], ranges: Sequence[Sequence[str | None]] = ()) -> FilterTest:
    return FilterTest(sql, tuple(digests), tuple((low, high) for low, high in ranges))


def _is_test(test: FilterTest) -> bool:
    keys = (each for one in test.ranges for each in one if each is not None)
    return (
        isinstance(test.sql, str)
        and all(type(each) is int and 0 <= each < 1 << 64 for each in test.digests)
        and all(map(is_key, keys))
    )
