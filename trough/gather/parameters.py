"""Bound values: any of SQLite's ways to write a parameter, made into names.

What goes to the segments and what runs at the end are other texts than the user's, with
other parameters in another order. Names survive that, positions do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlglot.errors import SqlglotError
from sqlglot.tokens import Token, TokenType

from trough import errors
from trough.gather.dialect import Verbatim
from trough.util.wording import counted

#: Of names that stand for positions.
PREFIX = "trough_"


def bind(
    sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None
) -> tuple[str, dict[str, Any]]:
    """`sql` with every parameter written ``:name``, and the values by name.

    :param parameters: a sequence for ``?`` and ``?NNN``, a mapping for ``:name``,
        ``@name`` and ``$name``
    :raises trough.errors.BadRequest: a parameter without a value, a value without a
        parameter in a sequence, or a value that SQLite has no type for
    """
    if not any(mark in sql for mark in "?:@$"):
        return _none_left_over(sql, parameters), {}
    found = _parameters_in(sql)
    named = isinstance(parameters, Mapping)
    values: Mapping[str, Any] = _by_name(parameters)
    bound: dict[str, Any] = {}
    pieces, position, highest = [], 0, 0
    for start, end, mark, text in found:
        if mark == "?":
            highest = max(highest, int(text)) if text else highest + 1
            text = f"{PREFIX}{text or highest}"
        if (mark == "?") == named or text not in values:
            raise errors.BadRequest(f"no value for the parameter {sql[start:end]}")
        bound[text] = _value(sql[start:end], values[text])
        pieces += [sql[position:start], ":", text]
        position = end
    if not named and len(values) != highest:
        raise errors.BadRequest(
            f"{counted(len(values), 'value')} for {counted(highest, 'parameter')}"
        )
    return "".join([*pieces, sql[position:]]), bound


def _none_left_over(sql: str, parameters: Any) -> str:
    if parameters and not isinstance(parameters, Mapping):
        raise errors.BadRequest(f"{counted(len(parameters), 'value')} for 0 parameters")
    return sql


def _by_name(parameters: Sequence[Any] | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(parameters, Mapping):
        return parameters
    return {f"{PREFIX}{number}": value for number, value in enumerate(parameters or (), 1)}


def _value(shown: str, value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, (int, float, str, bytes)):
        return value
    raise errors.BadRequest(f"parameter {shown} has no type of SQLite: {type(value).__name__}")


def _parameters_in(sql: str) -> list[tuple[int, int, str, str]]:
    try:
        tokens = Verbatim().tokenize(sql)
    except SqlglotError as error:
        raise errors.BadSql(f"the text cannot be read: {error}") from error
    found = []
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        touching = following is not None and following.start == token.end + 1
        one = _parameter(token, following if touching else None)
        if one is not None:
            found.append(one)
    return found


def _parameter(token: Token, following: Token | None) -> tuple[int, int, str, str] | None:
    start = token.start
    if token.token_type == TokenType.PLACEHOLDER:
        if following is not None and following.token_type == TokenType.NUMBER:
            return start, following.end + 1, "?", following.text
        return start, start + 1, "?", ""
    if token.token_type in (TokenType.COLON, TokenType.PARAMETER) and following is not None:
        return start, following.end + 1, token.text, following.text
    if token.token_type == TokenType.VAR and token.text.startswith("$"):
        return start, token.end + 1, "$", token.text[1:]
    return None
