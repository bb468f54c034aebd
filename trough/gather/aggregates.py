"""Aggregates divided: what a segment computes, and how the final SELECT puts it together.

=====================  =======================  ==========================================
aggregate              a segment sends          the final SELECT
=====================  =======================  ==========================================
count                  count                    sum of the counts
min, max               min, max                 min, max, by the argument's collation
sum, total, avg        sum (and count)          sum of the sums, while all are integers
the same, exactly      see :class:`ExactSum`    :mod:`trough.gather.exact_sums`
count(DISTINCT x)      x, as a group            count(DISTINCT x)
sum(DISTINCT x) ...    x, as a group            :mod:`trough.gather.exact_sums`
=====================  =======================  ==========================================

A sum of integers is exact in any order. A sum of reals is not: each partial sum would be
rounded. So segments first send sums of integers only. If one of them answers with anything but an
integer, the segments are asked again for the exact form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from trough.gather.analysis import NotPushed, Relation
from trough.gather.pushdown import Partial, Pushdown, SqlPiece, check_known

_SUMS = frozenset({"sum", "total", "avg"})
_SUPPORTED = _SUMS | {"count", "min", "max"}


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """A call of an aggregate.

    :ivar argument: None for ``count(*)``
    :ivar condition: of its FILTER
    """

    function: str
    argument: exp.Expr | None
    distinct: bool
    condition: exp.Expr | None


def aggregate_name(relation: Relation, node: exp.Expr) -> str | None:
    """The aggregate function that `node` calls, in lower case, or None."""
    if not isinstance(node, exp.Anonymous):
        return None
    name = node.name.lower()
    if name in ("min", "max") and len(node.expressions) != 1:
        return None
    return name if name in relation.catalogue.aggregates else None


def read_call(relation: Relation, node: exp.Expr) -> AggregateCall | None:
    """`node` as the call of an aggregate, or None.

    :raises NotPushed: an aggregate, but not one that can be divided
    """
    condition = None
    if isinstance(node, exp.Filter):
        condition = node.expression.this
        node = node.this
    name = aggregate_name(relation, node)
    if name is None:
        return None
    arguments = node.expressions
    if name not in _SUPPORTED or len(arguments) > 1:
        raise NotPushed(f"{name} needs all rows at once")
    argument = arguments[0] if arguments else None
    distinct = isinstance(argument, exp.Distinct)
    if isinstance(argument, exp.Distinct):
        if len(argument.expressions) != 1:
            raise NotPushed(f"{name} needs all rows at once")
        argument = argument.expressions[0]
    if isinstance(argument, exp.Order):
        raise NotPushed(f"{name} needs all rows at once")
    if isinstance(argument, exp.Star):
        argument = None
    # A smallest or greatest value is the same with its duplicates.
    return AggregateCall(name, argument, distinct and name not in ("min", "max"), condition)


class Divider:
    """Gives each call its partial columns and its final text, sharing what is equal.

    :param segment_column: called when a call is about the segments' names
    """

    def __init__(self, pushed: Pushdown, segment_column: Callable[[], str]) -> None:
        self._pushed = pushed
        self._relation = pushed.relation
        self._segment_column = segment_column
        self._columns: dict[str, Partial] = {}
        #: Arguments of min and max, for SQLite's rule about bare columns.
        self.extremes: set[str] = set()
        self.filtered_extreme = False

    def final(self, call: AggregateCall, exact: bool) -> str:
        """The text that stands for `call` in the final SELECT.

        :raises NotPushed: it cannot be divided
        """
        about_segment = call.argument is not None and self._relation.is_segment(call.argument)
        if about_segment:
            return self._of_segments(call)
        for part in (call.argument, call.condition):
            if part is not None and self._relation.mentions_segment(part):
                raise NotPushed("the segment's name is inside an aggregate")
        if call.distinct and call.argument is not None:
            return _of_distinct(call.function, self._distinct(call, call.argument))
        if call.function in _SUMS and call.argument is not None:
            return self._sum(call, call.argument, exact)
        return self._simple(call)

    def _of_segments(self, call: AggregateCall) -> str:
        # A partial row stands for rows of its segment, though not for how many.
        divisible = call.distinct or call.function in ("min", "max")
        if call.condition is not None or not divisible or call.function in _SUMS:
            raise NotPushed("the segment's name is inside an aggregate")
        distinct = "DISTINCT " if call.distinct else ""
        if not call.distinct:
            self.extremes.add(call.function)
        return f"{call.function}({distinct}{self._segment_column()})"

    def _simple(self, call: AggregateCall) -> str:
        argument = "*" if call.argument is None else "{0}"
        parts = () if call.argument is None else (call.argument,)
        column = self._column(f"{call.function}({argument})", parts, call.condition)
        if call.function == "count":
            return f"coalesce(sum({column.name}), 0)"
        column.source = SqlPiece("{0}", parts)
        self.extremes.add(column.name)
        self.filtered_extreme |= call.condition is not None
        if call.argument is not None and call.argument.find(exp.Collate) is not None:
            # A COLLATE inside decides how the aggregate itself is compared.
            return f"{call.function}({column.name} COLLATE {column.collation})"
        return f"{call.function}({column.name})"

    def _distinct(self, call: AggregateCall, argument: exp.Expr) -> str:
        parts = (argument,) if call.condition is None else (argument, call.condition)
        template = "{0}" if call.condition is None else "CASE WHEN {1} THEN {0} END"
        column = self._column(template, parts, None)
        column.grouped, column.aggregate = True, False
        column.source = SqlPiece("{0}", (argument,))
        return column.name

    def _sum(self, call: AggregateCall, argument: exp.Expr, exact: bool) -> str:
        parts = (argument,)
        lean = self._column("sum({0})", parts, call.condition)
        lean.exact = False
        if lean.name not in self._pushed.checked:
            self._pushed.checked += (lean.name,)
        averaged = call.function == "avg"
        count = self._column("count({0})", parts, call.condition, averaged).name
        if exact:
            columns = ", ".join([lean.name, count, *self._exact(call, argument)])
            return _answered(call.function, f"trough_{call.function}({columns})")
        if call.function == "sum":
            return f"sum({lean.name})"
        real = f"CAST(sum({lean.name}) AS REAL)"
        # In parentheses, as it takes the place of a call: an operator may stand before it.
        return f"coalesce({real}, 0.0)" if call.function == "total" else f"({real} / sum({count}))"

    def _exact(self, call: AggregateCall, argument: exp.Expr) -> list[str]:
        """The columns of :class:`trough.gather.exact_sums.ExactSum`, after the lean ones."""
        parts = (argument,)
        names = []
        for template in EXACT_PIECES:
            names.append(self._column(template, parts, call.condition, False).name)
        odd = ODD if call.condition is None else f"CASE WHEN {{1}} THEN {ODD} END"
        odd_parts = parts if call.condition is None else (argument, call.condition)
        column = self._column(odd, odd_parts, None, False)
        column.grouped, column.aggregate = True, False
        count = self._column(f"count({odd})", odd_parts, None, False)
        return [*names, column.name, count.name]

    def _column(
        self,
        template: str,
        parts: tuple[exp.Expr, ...],
        condition: exp.Expr | None,
        lean: bool = True,
    ) -> Partial:
        if condition is not None:
            template = f"{template} FILTER (WHERE {{{len(parts)}}})"
            parts = (*parts, condition)
        for part in parts:
            check_known(part)
        key = template + "\0" + "\0".join(map(self._relation.normal, parts))
        if key not in self._columns:
            column = Partial(f"c{len(self._pushed.partials)}", SqlPiece(template, parts))
            column.source, column.aggregate = SqlPiece("NULL"), True
            self._pushed.partials.append(column)
            self._columns[key] = column
            column.lean = lean
        # What one call leaves to the exact form another may want at once.
        self._columns[key].lean |= lean
        return self._columns[key]


def _of_distinct(function: str, name: str) -> str:
    """An aggregate of distinct values, which are there as they are."""
    if function not in _SUMS:
        return f"{function}(DISTINCT {name})"
    # SQLite's own may overflow on its way, by the order of the segments' values.
    return _answered(function, f"trough_{function}_of(DISTINCT {name})")


def _answered(function: str, text: str) -> str:
    # pysqlite does not ask an aggregate that has seen no row at all.
    return f"CASE WHEN count(*) THEN {text} ELSE 0.0 END" if function == "total" else text


# Reals that are sums of a 62 bit integer and of two 31 bit fractions, without a rounding.
# Their lowest bit is worth 2**-62 or more, as the leading one is worth 2**-10 or more.
_SPLIT = (
    "typeof({0}) = 'real' AND "
    "({0} = 0.0 OR abs({0}) BETWEEN 0.0009765625 AND 2305843009213693952.0)"
)
_WHOLE = f"CASE WHEN typeof({{0}}) = 'integer' OR {_SPLIT} THEN CAST({{0}} AS INTEGER) END"
_FRACTION = "({0} - CAST({0} AS INTEGER)) * 2147483648.0"
_FIRST = f"CAST({_FRACTION} AS INTEGER)"

#: What a segment sums up in the exact form: two halves of whole parts, so that nothing
#: overflows, two parts of fractions, and how many reals there were.
EXACT_PIECES = (
    f"sum(({_WHOLE}) >> 32)",
    f"sum(({_WHOLE}) & 4294967295)",
    f"sum(CASE WHEN {_SPLIT} THEN {_FIRST} END)",
    f"sum(CASE WHEN {_SPLIT} THEN CAST(({_FRACTION} - {_FIRST}) * 2147483648.0 AS INTEGER) END)",
    f"count(CASE WHEN {_SPLIT} THEN 1 END)",
)

#: What is left, sent as it is: very small and very large reals, infinities, texts, BLOBs.
ODD = (
    f"CASE WHEN typeof({{0}}) IN ('text', 'blob') OR (typeof({{0}}) = 'real' AND NOT ({_SPLIT})) "
    "THEN {0} END"
)
