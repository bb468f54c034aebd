"""Which texts a segment has to have in a column so that it adds rows to a query.

A worker keeps filters of columns (:mod:`trough.sql.column_filters`), and does not open a segment
whose filter lacks the text that a query asks for. Here are found the conditions that allow that:
``column = 'text'``, ``column IS 'text'`` and ``column IN ('text', ...)``, with texts or parameters,
that WHERE holds together by AND.

A condition counts only if SQLite compares texts alone in this segment: the column is one of a table
itself, has the affinity TEXT or none, and the collation BINARY or NOCASE; the other side is a text
without affinity. Nothing is taken from other conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.analysis import Relation
from trough.gather.dialect import write
from trough.gather.schema import Column, SegmentSchema
from trough.sql.column_filters import FUNCTION, MOST_ROWS, FilterTest, digest
from trough.sql.statements import quoted

#: Texts of one condition, at most.
MOST_TEXTS = 1000

#: Conditions of one query that are looked at, at most.
_MOST_TESTS = 4

_AFFINITIES = ("TEXT", "")
_COLLATIONS = ("BINARY", "NOCASE")


def filter_tests(
    relation: Relation, variant: SegmentSchema, guarded: Callable[[str], str]
) -> tuple[FilterTest, ...]:
    """What a segment of the shape `variant` needs so that it adds rows.

    :param guarded: makes a text of the SELECT for a filter that segments of other shapes do not
        answer with one row
    """
    where = relation.tree.args.get("where")
    found: list[FilterTest] = []
    for part in _conditions(where.this) if where is not None else ():
        test = _test(relation, variant, guarded, part)
        if test is not None and len(found) < _MOST_TESTS:
            found.append(test)
    return tuple(found)


def _conditions(node: exp.Expr) -> Iterator[exp.Expr]:
    """The conditions that AND holds together, in their order."""
    waiting = [node]
    while waiting:
        node = _bare(waiting.pop())
        if isinstance(node, exp.And):
            waiting += (node.expression, node.this)
        else:
            yield node


def _test(
    relation: Relation, variant: SegmentSchema, guarded: Callable[[str], str], part: exp.Expr
) -> FilterTest | None:
    for node, others in _comparisons(part):
        place = _column(relation, variant, node)
        texts = [_text(relation, other) for other in others]
        if place is None or not texts or len(texts) > MOST_TEXTS:
            continue
        table, column = place
        ignore_case = column.collation.upper() == "NOCASE"
        digests = [_digest(text, ignore_case) for text in texts]
        if None in digests:
            continue
        read = f"SELECT {sqlite_helpers.name(column.name)} AS v FROM main."
        read += f"{sqlite_helpers.name(table)} LIMIT {MOST_ROWS + 1}"
        sql = guarded(f"SELECT {FUNCTION}(v, {int(ignore_case)}) FROM ({read})")
        return FilterTest(sql, tuple(each for each in digests if each is not None))
    return None


def _comparisons(part: exp.Expr) -> Iterator[tuple[exp.Expr, list[exp.Expr]]]:
    """What may be a column, and what it is compared with."""
    if isinstance(part, (exp.EQ, exp.Is)):
        left, right = _bare(part.this), _bare(part.expression)
        yield left, [right]
        yield right, [left]
    elif isinstance(part, exp.In) and set(_given(part)) <= {"this", "expressions"}:
        yield _bare(part.this), [_bare(each) for each in part.expressions]


def _given(node: exp.Expr) -> list[str]:
    return [name for name, value in node.args.items() if value not in (None, False, [])]


def _column(
    relation: Relation, variant: SegmentSchema, node: exp.Expr
) -> tuple[str, Column] | None:
    """A table and its column whose values are compared as texts; None: it is none."""
    if not isinstance(node, exp.Column):
        return None
    name = relation.base_tables.get(node.text("table"), "")
    table = variant.tables.get(sqlite_helpers.folded(name))
    if table is None or table.is_view or table.is_index:
        return None
    for column in table.columns:
        if sqlite_helpers.folded(column.name) == sqlite_helpers.folded(node.name):
            suits = column.affinity in _AFFINITIES and column.collation.upper() in _COLLATIONS
            return (table.name, column) if suits else None
    return None


def _text(relation: Relation, node: exp.Expr) -> Any:
    """The text that a node stands for, or another value."""
    if isinstance(node, exp.Placeholder):
        return relation.parameters.get(node.name)
    if isinstance(node, exp.Literal) and node.is_string and write(node) == quoted(node.this):
        return node.this
    return None


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
