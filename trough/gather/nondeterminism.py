"""Expressions whose value is not the same in every segment: clocks, chance, time zones.

One database would read its clock once for a whole query. A query about *now* gets the
moment at which it was planned, written into its text; what is left that moves is computed
where the answer is, and nowhere else.
"""

from __future__ import annotations

import datetime

from sqlglot import exp

_MOVING = frozenset(
    {"random", "randomblob", "changes", "total_changes", "last_insert_rowid", "sqlite_offset"}
)
_TIMES = frozenset({"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"})
#: Words that are the time without being functions, and how they write it.
CURRENT = {
    "current_date": "%Y-%m-%d",
    "current_time": "%H:%M:%S",
    "current_timestamp": "%Y-%m-%d %H:%M:%S",
}
_ZONES = frozenset({"localtime", "utc"})


def is_moving(node: exp.Expr) -> bool:
    """Whether the value of `node` may differ between two places or moments."""
    return any(_moves(each) for each in node.find_all(exp.Anonymous, exp.Column))


def _moves(node: exp.Expr) -> bool:
    if isinstance(node, exp.Column):
        return not node.table and node.name.lower() in CURRENT
    name = node.name.lower()
    if name in _MOVING:
        return True
    if name not in _TIMES:
        return False
    literals = {each.this.lower() for each in node.expressions if _is_text(each)}
    least = 2 if name in ("strftime", "timediff") else 1
    # A bound value could say "now" as well; that is looked at where values are known.
    return len(node.expressions) < least or bool(literals & (_ZONES | {"now"}))


def _is_text(node: exp.Expr) -> bool:
    return isinstance(node, exp.Literal) and node.is_string


def stopped(node: exp.Expr, now: float) -> exp.Expr:
    """`node` with its clock stopped at `now`, seconds since the epoch.

    SQLite's own clock has milliseconds.
    """
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    text = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}"

    def stop(each: exp.Expr) -> exp.Expr:
        if isinstance(each, exp.Column) and not each.table and each.name.lower() in CURRENT:
            return exp.Literal.string(moment.strftime(CURRENT[each.name.lower()]))
        if isinstance(each, exp.Anonymous) and each.name.lower() in _TIMES:
            arguments = [
                exp.Literal.string(text) if _is_text(one) and one.this.lower() == "now" else one
                for one in each.expressions
            ]
            if len(arguments) == (1 if each.name.lower() == "strftime" else 0):
                arguments.append(exp.Literal.string(text))
            each.set("expressions", arguments)
        return each

    return node.copy().transform(stop)
