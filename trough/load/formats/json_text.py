"""JSON as it is stored: nothing is repaired.

A key that occurs twice, NaN, half a surrogate pair and an integer beyond 64 bits are
refused. ``9e999`` is an infinity, as query results have it.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from trough.load.records import UnusableRecord


class AmbiguousJson(ValueError):
    """JSON that is well formed, and means nothing certain."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise AmbiguousJson(f"the key {ascii(twice)[:60]} is there twice")
    return found


def _constant(name: str) -> Any:
    raise AmbiguousJson(f"{name} is no JSON")


def _number(text: str) -> float:
    found = float(text)
    if math.isinf(found) and text.lower() not in ("9e999", "-9e999"):
        raise AmbiguousJson(f"a number beyond what 64 bits can hold: {text[:40]}")
    return found


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_number)

#: Accepts what the strict decoder refuses. It finds the end of a skipped record.
LENIENT = json.JSONDecoder()


def loads(text: str) -> Any:
    """The value of a JSON text.

    :raises Unusable: it is no JSON, or JSON that is refused
    """
    try:
        found = DECODER.decode(text)
        check_unicode(text, found)
    except (ValueError, RecursionError) as error:
        raise UnusableRecord(f"not JSON: {error or 'too deep'}") from error
    return found


def check_unicode(text: str, found: Any) -> None:
    """Refuse half a surrogate pair, which is valid JSON but not text.

    :raises ValueError: there is one
    """
    if "\\ud" in text or "\\uD" in text:
        json.dumps(found, ensure_ascii=False).encode()


def json_object(text: str) -> dict[str, Any]:
    """The object of a JSON text.

    :raises Unusable: it is no object
    """
    found = loads(text)
    if not isinstance(found, dict):
        raise UnusableRecord("not a JSON object")
    return found


def stored(value: Any) -> Any:
    """A value of JSON as it is stored. ``{"blob": "<base64>"}`` is a BLOB; other objects and
    lists are stored as JSON text.

    :raises Unusable: it cannot be stored
    """
    if value is None or isinstance(value, str | float | bool):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise UnusableRecord(f"an integer of more than 64 bits: {value}")
        return value
    if isinstance(value, dict) and value.keys() == {"blob"} and isinstance(value["blob"], str):
        try:
            return bytearray(base64.b64decode(value["blob"], validate=True))
        except ValueError as error:
            raise UnusableRecord(f"a blob that is not base64: {error}") from error
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise UnusableRecord(f"a number that JSON has no text for: {error}") from error
