"""Expressions whose value is not the same in every segment: clocks, chance, time zones.

One database would read its clock once for a whole query. So the planner writes the moment of
planning into the text of a query about *now*. Other expressions that vary are computed only
where the answer is put together.

A time function means now in three cases. Its time value is missing. It is ``'now'`` or
``'subsec'``, in upper or lower case. Or it is an expression that is one of these in some row.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sqlglot import exp

from trough.gather.dialect import CURRENT, Clock, Still, write

_MOVING = frozenset({"random", "randomblob", "sqlite_offset"})
#: What a connection wrote. The union has none that did.
OF_CONNECTIONS = frozenset({"changes", "total_changes", "last_insert_rowid"})

#: Time functions, and which of their arguments are time values.
_TIMES = {
    **dict.fromkeys(("date", "time", "datetime", "julianday", "unixepoch"), (0,)),
    "strftime": (1,),
    "timediff": (0, 1),
}
_NOW = "now"
_SUBSEC = frozenset({"subsec", "subsecond"})
_ZONES = frozenset({"localtime", "utc"})


def is_moving(node: exp.Expr, parameters: Mapping[str, Any] | None = None) -> bool:
    """Whether the value of `node` may differ between two places or moments.

    :param parameters: bound values; without them a parameter may be anything
    """
    if node.find(Clock) is not None:
        return True
    return any(_moves(each, parameters or {}) for each in node.find_all(exp.Anonymous))


def _moves(node: exp.Anonymous, parameters: Mapping[str, Any]) -> bool:
    name = node.name.lower()
    if name in _MOVING:
        return True
    values = _TIMES.get(name)
    if values is None:
        return False
    if len(node.expressions) <= values[-1]:
        return True
    # A zone varies in any position, and an unknown modifier may be one.
    for place, argument in enumerate(node.expressions):
        known, value = _known(argument, parameters)
        if known and str(value).lower() in _ZONES:
            return True
        if not known and place > values[-1]:
            return True
    return not isinstance(node.parent, Still) and any(
        _may_be_now(node.expressions[place], parameters) for place in values
    )


def _known(node: exp.Expr, parameters: Mapping[str, Any]) -> tuple[bool, Any]:
    """Whether the value of `node` is known now, and that."""
    if isinstance(node, exp.Literal):
        return True, node.this
    if isinstance(node, exp.Placeholder) and node.name in parameters:
        value = parameters[node.name]
        return True, value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return False, None


def _may_be_now(node: exp.Expr, parameters: Mapping[str, Any]) -> bool:
    known, value = _known(node, parameters)
    if known:
        return str(value).lower() in {_NOW, *_SUBSEC}
    # Numbers and what other time functions give are no words.
    is_time = isinstance(node, exp.Anonymous) and node.name.lower() in _TIMES
    return not is_time and not isinstance(node, (exp.Null, exp.Add, exp.Sub, exp.Mul, exp.Div))


def stopped(node: exp.Expr, now: float, parameters: Mapping[str, Any]) -> exp.Expr:
    """`node` with its clock stopped at `now`, seconds since the epoch, in place.

    SQLite's own clock has milliseconds.
    """
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    text = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
    holder = exp.Tuple(expressions=[node])
    # Leaves first, so that each call is looked at once, with its arguments done.
    for each in reversed(list(holder.find_all(exp.Anonymous, Clock))):
        if not isinstance(each, exp.Anonymous):
            each.replace(exp.Literal.string(moment.strftime(CURRENT[each.name.lower()])))
        elif (places := _TIMES.get(each.name.lower())) is not None:
            _stop(each, places, text, parameters)
    return holder.expressions[0]


def _stop(
    call: exp.Anonymous, places: tuple[int, ...], moment: str, parameters: Mapping[str, Any]
) -> None:
    arguments = list(call.expressions)
    if len(arguments) == places[0]:
        # No time value is the time now.
        call.set("expressions", [*arguments, exp.Literal.string(moment)])
        return
    if len(arguments) <= places[-1]:
        return
    for place in places:
        known, value = _known(arguments[place], parameters)
        word = str(value).lower()
        if known and word in {_NOW, *_SUBSEC}:
            call.set("expressions", _at(call, place, moment, word))
        elif not known and _may_be_now(arguments[place], parameters):
            if len(places) > 1:
                return
            call.replace(_guarded(call, place, moment))


def _at(call: exp.Anonymous, place: int, moment: str, word: str) -> list[exp.Expr]:
    """The arguments of a call with a moment in place of a word for now."""
    arguments = [each.copy() for each in call.expressions]
    arguments[place] = exp.Literal.string(moment)
    if word in _SUBSEC and call.name.lower() != "timediff":
        arguments.insert(place + 1, exp.Literal.string("subsec"))
    return arguments


def _guarded(call: exp.Anonymous, place: int, moment: str) -> exp.Expr:
    """The call, by rows: some may have a word for now as their time value."""
    name, value = call.args["this"], call.expressions[place]

    def when(word: str) -> exp.If:
        condition = exp.Like(this=value.copy(), expression=exp.Literal.string(word))
        at = exp.Anonymous(this=name, expressions=_at(call, place, moment, word))
        return exp.If(this=condition, true=at)

    words = [when(word) for word in (_NOW, *sorted(_SUBSEC))]
    return exp.Case(ifs=words, default=Still(this=call.copy()))


def connection_function(node: exp.Expr) -> str:
    """A function about a connection's writes that `node` calls, or an empty text."""
    for each in node.find_all(exp.Anonymous):
        if each.name.lower() in OF_CONNECTIONS:
            return write(each)
    return ""
