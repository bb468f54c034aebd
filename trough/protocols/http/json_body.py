"""Bodies of requests that are JSON: what is in them, and what is wrong with them.

All values that it returns can be written as UTF-8, and so be stored and passed on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trough import errors
from trough.protocols.http.request import Request
from trough.protocols.limits import MAX_JSON_VALUES, check_json_values
from trough.util.quoting import quoted


def json_object(
    request: Request,
    required: set[str],
    optional: set[str],
    kinds: Mapping[str, tuple[type, ...]] = MappingProxyType({}),
    ignore_others: bool = False,
) -> dict[str, Any]:
    """The body as a JSON object with these keys.

    :param kinds: of the values that are not texts
    :param ignore_others: leave out further keys, which are a mistake otherwise
    :raises trough.errors.BadRequest: saying what is wrong with it
    :raises trough.errors.TooLarge: it holds too many values
    """
    text = request.body()
    check_json_values(text, MAX_JSON_VALUES, "the body")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError) as reason:
        raise errors.BadRequest(f"the body is not JSON: {reason}") from reason
    expected = "a JSON object with " + ", ".join(
        [*sorted(required), *(f"optionally {key}" for key in sorted(optional))]
    )
    if not isinstance(body, dict):
        raise errors.BadRequest(f"the body is not {expected}")
    missing, unknown = required - set(body), set(body) - required - optional
    if missing or (unknown and not ignore_others):
        verb = "lacks" if missing else "has unknown keys"
        problem = f"{verb} {', '.join(map(quoted, sorted(missing or unknown)))}"
        raise errors.BadRequest(f"the body {problem}", f"expected is {expected}")
    known = {key: value for key, value in body.items() if key not in unknown}
    for key, value in known.items():
        _check_kind(key, value, kinds.get(key, (str,)))
    return known


def _check_kind(key: str, value: object, allowed: tuple[type, ...]) -> None:
    if type(value) not in allowed:
        named = [kind for kind in allowed if kind is not int or float not in allowed]
        wanted = " or ".join(_KINDS[kind] for kind in named)
        raise errors.BadRequest(f"{key} is {quoted(value, 80)}, which is not {wanted}")
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as reason:
        raise errors.BadRequest(f"{key} has half a surrogate pair") from reason
    except RecursionError as reason:
        raise errors.BadRequest(f"{key} is nested too deeply") from reason


_KINDS = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "an array",
    dict: "an object",
}
