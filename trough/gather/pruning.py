"""What a segment has to have in a column so that it adds rows to a query.

A worker keeps filters of columns, and does not open a segment whose filter shows that no row meets
a condition. There are two kinds: of the texts in a column (:mod:`trough.sql.column_filters`), for
``column = 'text'``, and of the least and the greatest value (:mod:`trough.sql.column_ranges`), for
``column > 5``. Here are found the conditions that allow that, which WHERE holds together by AND;
also those of a view or a subquery that gives one row for each row of a table.

A condition counts only if it compares a column of a table itself with literals or parameters, as
the column is declared in this very segment. For texts, its affinity is TEXT or none, and its
collation BINARY or NOCASE. For ranges, its collation is BINARY; SQLite applies the column's
affinity to the other side. Nothing is taken from other conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.analysis import Relation
from trough.gather.dialect import write
from trough.gather.schema import Column, SegmentSchema
from trough.gather.scopes import sources_of, table_of
from trough.sql import column_ranges
from trough.sql.column_filters import FUNCTION, MOST_ROWS, FilterTest, digest
from trough.sql.statements import quoted

if TYPE_CHECKING:
    from sqlite3 import Connection

#: Texts of one condition, at most.
MOST_TEXTS = 1000

#: Ranges of one condition, at most.
MOST_RANGES = 50

#: Rows of a segment of which there is a range, at most: making it reads them all.
MOST_RANGE_ROWS = 1_000_000

#: Conditions of one query that are looked at, at most.
_MOST_TESTS = 4

_AFFINITIES = ("TEXT", "")
_COLLATIONS = ("BINARY", "NOCASE")

#: Comparisons, and what they are with their sides exchanged.
_ORDER: dict[type[exp.Expr], type[exp.Expr]] = {
    exp.EQ: exp.EQ,
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
}

#: Makes a text of the SELECT for a filter that segments of other shapes do not answer with one row.
Guarded = Callable[[str], str]


class _Place(NamedTuple):
    """A column of a table of the segment."""

    table: str
    column: Column


def filter_tests(
    relation: Relation, variant: SegmentSchema, guarded: Guarded
) -> tuple[FilterTest, ...]:
    """What a segment of the shape `variant` needs so that it adds rows."""
    levels = _levels(relation)
    found: list[FilterTest] = []
    with closing(sqlite_helpers.connect()) as connection:
        for depth, level in enumerate(levels):
            where = level.args.get("where")
            for part in _conditions(where.this) if where is not None else ():
                if len(found) == _MOST_TESTS:
                    break
                condition = _Condition(relation, variant, levels[depth:], part, connection)
                test = condition.test(guarded)
                found += [] if test is None else [test]
    return tuple(found)


def _levels(relation: Relation) -> list[exp.Expr]:
    """The SELECT, and those inside each other in its FROM that give the rows of its one table."""
    levels: list[exp.Expr] = [relation.tree]
    while relation.only_table and isinstance(source := levels[-1].args["from_"].this, exp.Subquery):
        levels.append(source.this)
    return levels


def _conditions(node: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that AND holds together, in their order."""
    waiting = [node]
    while waiting:
        node = _bare(waiting.pop())
        if isinstance(node, exp.And):
            waiting += (node.expression, node.this)
        else:
            yield node


class _Condition:
    """One condition.

    :param levels: the SELECT that it is of, and those inside of that
    :param connection: computes what values are
    """

    def __init__(
        self,
        relation: Relation,
        variant: SegmentSchema,
        levels: list[exp.Expr],
        part: exp.Expr,
        connection: Connection,
    ) -> None:
        self._relation = relation
        self._variant = variant
        self._levels = levels
        self._part = part
        self._connection = connection

    def test(self, guarded: Guarded) -> FilterTest | None:
        """What a segment needs to have a row that meets it, or None."""
        for node, others in _equalities(self._part):
            place = self._place(node)
            test = self._of_texts(place, others, guarded) if place is not None else None
            if test is not None:
                return test
        for node, bounds in _ranges(self._part):
            place = self._place(node)
            test = self._of_ranges(place, bounds, guarded) if place is not None else None
            if test is not None:
                return test
        return None

    # -- texts -----------------------------------------------------------------------------

    def _of_texts(
        self, place: _Place, others: list[exp.Expr], guarded: Guarded
    ) -> FilterTest | None:
        column = place.column
        if column.affinity not in _AFFINITIES or column.collation.upper() not in _COLLATIONS:
            return None
        if not others or len(others) > MOST_TEXTS:
            return None
        ignore_case = column.collation.upper() == "NOCASE"
        digests = [_digest(self._value(other), ignore_case) for other in others]
        if None in digests:
            return None
        read = _read(place, MOST_ROWS)
        sql = guarded(f"SELECT {FUNCTION}(v, {int(ignore_case)}) FROM ({read})")
        return FilterTest(sql, tuple(each for each in digests if each is not None))

    # -- ranges ----------------------------------------------------------------------------

    def _of_ranges(
        self, place: _Place, bounds: list[_Bounds], guarded: Guarded
    ) -> FilterTest | None:
        if place.column.collation.upper() != "BINARY" or len(bounds) > MOST_RANGES:
            return None
        ranges = []
        for low, high in bounds:
            keys = self._key(place, low), self._key(place, high)
            # A bound that is not known is none.
            if keys == (None, None):
                return None
            ranges.append(keys)
        made = f"{column_ranges.FUNCTION}(min(v), max(v), {column_ranges.IS_UTF8})"
        whole = f"CASE WHEN count(*) <= {MOST_RANGE_ROWS} THEN {made} END"
        sql = guarded(f"SELECT {whole} FROM ({_read(place, MOST_RANGE_ROWS)})")
        return FilterTest(sql, (), tuple(ranges)) if ranges else None

    def _key(self, place: _Place, bound: exp.Expr | None) -> str | None:
        """The key of a bound as SQLite compares it with the column; None: it is not known."""
        if bound is None:
            return None
        try:
            value = self._value(bound)
            if value is None or isinstance(value, bytes):
                return None
            value = self._with_affinity(value, place.column.affinity)
            # A function of Python's may get what is before a NUL.
            known = not (isinstance(value, str) and "\0" in value)
            return column_ranges.key_of(value) if known else None
        except (*sqlite_helpers.Error, UnicodeEncodeError, OverflowError, TypeError):
            return None

    def _with_affinity(self, value: Any, affinity: str) -> Any:
        """What SQLite compares with a column of this affinity instead of `value`."""
        # A column of reals is compared with an integer as it is.
        declared = "NUMERIC" if affinity in ("INT", "REAL", "NUM") else affinity
        self._connection.execute(f"CREATE TABLE converted (v {declared})")
        try:
            self._connection.execute("INSERT INTO converted VALUES (?)", (value,))
            return self._connection.execute("SELECT v FROM converted").fetchone()[0]
        finally:
            self._connection.execute("DROP TABLE converted")

    # -- both sides ------------------------------------------------------------------------

    def _place(self, node: exp.Expr) -> _Place | None:
        """The column that a node is; None: it is none of a table itself."""
        for depth, level in enumerate(self._levels):
            if not isinstance(node, exp.Column):
                return None
            named = node.text("table")
            source = next((each for each in sources_of(level) if each.alias == named), None)
            if key := table_of(source):
                return self._column_of(key, node)
            # Only a SELECT of the next level gives the rows of the table.
            if depth + 1 == len(self._levels) or source is not level.args["from_"].this:
                return None
            node = _item_called(self._levels[depth + 1], node.name)
        return None

    def _column_of(self, key: str, node: exp.Column) -> _Place | None:
        table = self._variant.tables.get(key)
        if table is None or table.is_view or table.is_index:
            return None
        name = sqlite_helpers.folded(node.name)
        for column in table.columns:
            if sqlite_helpers.folded(column.name) == name:
                return _Place(table.name, column)
        return None

    def _value(self, node: exp.Expr) -> Any:
        """The value of a literal, which may have a sign, or of a parameter; None for others."""
        if isinstance(node, exp.Placeholder):
            return self._relation.parameters.get(node.name)
        if isinstance(node, exp.Literal) and node.is_string:
            return node.this if write(node) == quoted(node.this) else None
        number = _bare(node.this) if isinstance(node, exp.Neg) else node
        if not isinstance(number, exp.Literal) or number.is_string:
            return None
        return self._connection.execute(f"SELECT {write(node)}").fetchone()[0]


def _item_called(select: exp.Expr, name: str) -> exp.Expr:
    """What a SELECT computes for a name that only one of its columns has, or nothing."""
    name = sqlite_helpers.folded(name)
    found = [
        item for item in select.expressions if sqlite_helpers.folded(item.alias_or_name) == name
    ]
    if len(found) != 1:
        return exp.Null()
    return _bare(found[0].this if isinstance(found[0], exp.Alias) else found[0])


def _read(place: _Place, most: int) -> str:
    """A SELECT of the values, and of one more than there may be."""
    read = f"SELECT {sqlite_helpers.name(place.column.name)} AS v FROM main."
    return f"{read}{sqlite_helpers.name(place.table)} LIMIT {most + 1}"


# -- comparisons ---------------------------------------------------------------------------

#: What values are at least and at most.
_Bounds = tuple[exp.Expr | None, exp.Expr | None]


def _equalities(part: exp.Expr) -> Iterator[tuple[exp.Expr, list[exp.Expr]]]:
    """What may be a column, and what it is equal to one of."""
    if isinstance(part, (exp.EQ, exp.Is)):
        left, right = _bare(part.this), _bare(part.expression)
        yield left, [right]
        yield right, [left]
    elif isinstance(part, exp.In) and set(_given(part)) <= {"this", "expressions"}:
        yield _bare(part.this), [_bare(each) for each in part.expressions]


def _ranges(part: exp.Expr) -> Iterator[tuple[exp.Expr, list[_Bounds]]]:
    """What may be a column, and the ranges of which its value has to be in one."""
    for node, others in _equalities(part):
        yield node, [(other, other) for other in others]
    if isinstance(part, exp.Between) and set(_given(part)) <= {"this", "low", "high"}:
        yield _bare(part.this), [(_bare(part.args["low"]), _bare(part.args["high"]))]
    elif type(part) in _ORDER:
        left, right = _bare(part.this), _bare(part.expression)
        yield left, [_bounds(type(part), right)]
        yield right, [_bounds(_ORDER[type(part)], left)]


def _bounds(comparison: type[exp.Expr], other: exp.Expr) -> _Bounds:
    if comparison is exp.EQ:
        return other, other
    return (other, None) if comparison in (exp.GT, exp.GTE) else (None, other)


def _given(part: exp.Expr) -> list[str]:
    return [name for name, value in part.args.items() if value not in (None, False, [])]


# -- values --------------------------------------------------------------------------------


def _digest(text: Any, ignore_case: bool) -> int | None:
    # SQLite's NOCASE stops at a NUL, and a function of Python's may get what is before it.
    if not isinstance(text, str) or "\0" in text:
        return None
    try:
        return digest(text, ignore_case)
    except UnicodeEncodeError:
        return None


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node
