"""The first rows of each group: only these have to be shipped.

``SELECT ... FROM (SELECT ..., row_number() OVER (PARTITION BY p ORDER BY o) AS r FROM t) WHERE
r <= 3`` needs the first three rows of each group from each segment. Among fewer rows a row comes no
later. So a row that is among the first of all is among the first of its segment. The rows before it
are shipped as well, so it gets the same number at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from trough.gather.analysis import conjuncts
from trough.gather.dialect import Part
from trough.gather.from_clause import QUERIES
from trough.gather.nondeterminism import is_moving
from trough.gather.sqlite_helpers import folded

_FUNCTIONS = frozenset({"row_number", "rank", "dense_rank"})
_OTHER_CLAUSES = ("with_", "joins", "distinct", "group", "having", "windows", "limit", "offset")


@dataclass(frozen=True, slots=True)
class Ranking:
    """Which rows of a table are enough.

    :ivar window: in normal form, numbers them
    :ivar most: the greatest number
    """

    window: exp.Window
    most: int


def ranking_of(
    source: exp.Table,
    tree: exp.Expr,
    parameters: Mapping[str, Any],
    aggregates: frozenset[str],
) -> Ranking | None:
    """The ranking that a query asks of the rows of `source`, its only mention of a table; None
    for none. All conditions of WHERE beside it have to depend on the table alone.

    :param tree: the whole query, in normal form
    :param aggregates: names of SQLite's aggregate functions
    """
    select = source.find_ancestor(exp.Select)
    if select is None or any(map(select.args.get, _OTHER_CLAUSES)):
        return None
    place = _only_window(select, aggregates)
    if place is None:
        return None
    item = select.expressions[place]
    if is_moving(item, parameters) or item.find(*QUERIES, Part) is not None:
        return None
    found = _read_as(select, place, tree)
    most = _bound(*found, parameters) if found is not None else None
    return None if most is None else Ranking(item.this, most)


def _only_window(select: exp.Select, aggregates: frozenset[str]) -> int | None:
    """Which item numbers the rows, where nothing else depends on what other rows there are."""
    windows = list(select.find_all(exp.Window))
    calls = {each.name.lower() for each in select.find_all(exp.Anonymous)}
    if len(windows) != 1 or calls & (aggregates - _FUNCTIONS):
        return None
    window = windows[0]
    numbering = isinstance(window.this, exp.Anonymous) and window.this.name.lower() in _FUNCTIONS
    if not numbering or window.args.get("order") is None or window.args.get("spec") is not None:
        return None
    items = [each.this if isinstance(each, exp.Alias) else None for each in select.expressions]
    return next((place for place, each in enumerate(items) if each is window), None)


def _read_as(select: exp.Select, place: int, tree: exp.Expr) -> tuple[exp.Select, str, str] | None:
    """The only SELECT that reads the numbers, and the source and the column that they are to it."""
    around = select.parent
    column = select.expressions[place].alias
    reader: exp.Expr | None = around
    if isinstance(around, exp.CTE):
        listed = around.args["alias"].columns
        column = listed[place].name if listed else column
        mentions = [
            each for each in tree.find_all(exp.Table) if not each.db and each.name == around.alias
        ]
        reader = mentions[0] if len(mentions) == 1 else None
    elif not isinstance(around, exp.Subquery):
        return None
    outer = reader.find_ancestor(exp.Select) if reader is not None else None
    if reader is None or outer is None:
        return None
    joins = outer.args.get("joins") or ()
    from_ = outer.args.get("from_")
    sources = [from_.this if from_ is not None else None, *(join.this for join in joins)]
    outer_join = any(join.args.get("side") for join in joins)
    if outer_join or all(each is not reader for each in sources):
        return None
    return outer, reader.alias, column


def _bound(
    outer: exp.Select, source: str, column: str, parameters: Mapping[str, Any]
) -> int | None:
    """The greatest number that WHERE lets through, as far as it is plain to see."""
    where = outer.args.get("where")
    found = []
    for part in conjuncts(where.this) if where is not None else ():
        if isinstance(part, (exp.LT, exp.LTE, exp.EQ)):
            left, right = part.this, part.expression
        elif isinstance(part, (exp.GT, exp.GTE)):
            left, right = part.expression, part.this
        elif isinstance(part, exp.Between):
            left, right = part.this, part.args["high"]
        else:
            continue
        mine = isinstance(left, exp.Column) and left.table == source
        if mine and folded(left.name) == folded(column):
            most = _integer(right, parameters)
            found += [] if most is None else [most - isinstance(part, (exp.LT, exp.GT))]
    return min(found, default=None)


def _integer(node: exp.Expr, parameters: Mapping[str, Any]) -> int | None:
    if isinstance(node, exp.Literal) and not node.is_string and node.this.isdigit():
        return int(node.this)
    value = parameters.get(node.name) if isinstance(node, exp.Placeholder) else None
    return value if type(value) is int else None
