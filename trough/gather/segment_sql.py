"""The text that a segment runs, for segments of any shape.

Every text begins with a guard: if the segment's tables are not the ones that the text was made
for, the answer is the segment's schema instead of rows. So thousands of segments of one shape cost
one pass, and a segment of another shape is always detected. For such a segment the text is made
again, with NULL for a column that it lacks and no rows for a table.

The schema comes in a separate column, the last one, in which every row of data has an empty string.
So no value in a segment can be taken for a schema, and JSON of rows can be passed on without
decoding it (:mod:`trough.sql.json_rows`). It comes before all other rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp

from trough import errors
from trough.gather import sqlite_helpers
from trough.gather.dialect import CastAs
from trough.gather.pruning import filter_tests
from trough.gather.pushdown import Adapt, Pushdown
from trough.gather.schema import SCHEMA_VALUE, Column, SegmentSchema, TableShape
from trough.gather.scopes import ROWIDS, source_of, sources_of, table_of
from trough.gather.scopes import quoted as quoted_name
from trough.sql.column_filters import FilterTest
from trough.sql.json_rows import END
from trough.sql.statements import quoted

_OBJECT = "FROM sqlite_schema WHERE type IN ('table', 'view') AND name = {} COLLATE NOCASE"


@dataclass(frozen=True, slots=True)
class SegmentQuery:
    """What a plan asks of a segment.

    :ivar sql: the text
    :ivar core: the part of it behind the guard
    :ivar width: number of columns of a row of data, without the schema's
    :ivar exact: it is the exact form
    :ivar tests: what a segment needs to add rows; each of these
    """

    sql: str
    core: str
    width: int
    exact: bool = False
    tests: tuple[FilterTest, ...] = ()


def guard(tables: Iterable[str], variant: SegmentSchema, width: int) -> str:
    """A SELECT that answers the schema behind `width` columns of NULL, in a segment whose
    `tables` are not as in `variant`, and else nothing.

    :param tables: names in lower case
    """
    conditions = []
    for name in sorted(tables):
        table = variant.tables.get(name)
        there = _OBJECT.format(quoted(table.name if table else name))
        if table is None:
            conditions.append(f"NOT EXISTS (SELECT 1 {there})")
        else:
            conditions.append(f"(SELECT sql {there}) IS {quoted(table.sql)}")
    # Names of their own, for answers that come as objects.
    nulls = "".join(f"NULL AS c{place}, " for place in range(width))
    schema = f"({SCHEMA_VALUE}) AS c{width}"
    return f"SELECT {nulls}{schema} WHERE NOT ({' AND '.join(conditions) or 1})"


def guarded(
    core: str,
    tables: frozenset[str],
    variant: SegmentSchema,
    width: int,
    exact: bool = False,
    *,
    end: str = quoted(END),
) -> SegmentQuery:
    """What a segment is asked that should be of the shape `variant`.

    :param core: a SELECT of `width` columns
    :param end: SQL of what rows of data have in the schema's column
    """
    text = f"{guard(tables, variant, width)} UNION ALL SELECT *, {end} FROM ({core})"
    return SegmentQuery(text, core, width, exact)


def guard_only(tables: frozenset[str], variant: SegmentSchema) -> SegmentQuery:
    """Asks whether a segment is of the shape `variant`, and so contributes nothing."""
    return SegmentQuery(guard(tables, variant, 1), "", 1)


def pushed_text(
    pushed: Pushdown,
    tables: frozenset[str],
    union: SegmentSchema,
    variant: SegmentSchema,
    exact: bool,
) -> SegmentQuery | None:
    """What a segment runs of a divided query; None if it can contribute nothing."""
    relation = pushed.relation
    if relation.only_table and relation.only_table not in variant.tables:
        return None
    width = _width(pushed, exact)
    core = pushed.core(adapter(relation.tree, union, variant), exact)

    def filtered(select: str) -> str:
        # Workers look for NULL.
        return guarded(select, tables, variant, 1, end="NULL").sql

    tests = filter_tests(relation, variant, filtered)
    return replace(guarded(core, tables, variant, width, exact), tests=tests)


def _width(pushed: Pushdown, exact: bool) -> int:
    return max(1, len(pushed.asked(exact)))


def adapter(tree: exp.Expr, union: SegmentSchema, variant: SegmentSchema) -> Adapt:
    """Changes parts of `tree`, in normal form, so that a segment of another shape takes them:
    a column that it lacks is NULL, a table that it lacks has no rows."""
    tables = [each for each in tree.find_all(exp.Table) if table_of(each)]
    lacking = {
        key: _lacking(union.tables[key], variant.tables.get(key)) for key in map(table_of, tables)
    }
    if not any(lacking.values()):
        return lambda node: node
    # USING and NATURAL name columns that have to be there.
    named = any(join.args.get("using") or join.method for join in tree.find_all(exp.Join))
    nested = _read_in_subqueries(tree, lacking)
    rowids = _rowids_read(tree, union)
    kept = {key for key in lacking if named} | nested
    if named and any(lacking[key] for key in kept):
        _check_common_truth(tree, [union.tables[table_of(each)] for each in tables])
    outermost = [tree] if isinstance(tree, exp.Table) else sources_of(tree)
    # A part of the tree does not have what the whole one reads.
    around = {each.alias: table_of(each) for each in outermost}

    def change_column(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Column):
            return node
        source = source_of(node)
        key = around.get(node.table, "") if source is None else table_of(source)
        name = sqlite_helpers.folded(node.name)
        column = lacking.get(key, {}).get(name)
        if column is not None and key not in nested:
            return _nothing(column)
        if name in _TRUTH and key in kept and lacking[key]:
            numbered = quoted_name(_number_of(union.tables[key], name))
            return exp.Column(this=numbered, table=node.args["table"].copy())
        return node

    def change_table(node: exp.Expr) -> exp.Expr:
        if key := table_of(node):
            assert isinstance(node, exp.Table)
            if key not in variant.tables or (key in kept and lacking[key]):
                mine = variant.tables.get(key)
                return _look_alike(union.tables[key], mine, node, rowids.get(key, set()))
        return node

    # Columns first: they are found by the tables that they are of.
    return lambda node: node.transform(change_column).transform(change_table)


def _read_in_subqueries(tree: exp.Expr, lacking: dict[str, dict[str, Column]]) -> set[str]:
    """Tables of which a subquery reads a column that they lack.

    NULL in its place would have an aggregate there belong to the query around, whose columns alone
    would be left in it. So these tables get the column instead.
    """
    found = set()
    for node in tree.find_all(exp.Column):
        key = table_of(source) if (source := source_of(node)) is not None else ""
        if sqlite_helpers.folded(node.name) in lacking.get(key, {}):
            around = node.find_ancestor(exp.Select)
            if around is not None and around is not tree:
                found.add(key)
    return found


#: A column of a subquery that is called so goes by its number.
_TRUTH = ("true", "false")


def _check_common_truth(tree: exp.Expr, tables: Sequence[TableShape]) -> None:
    """Refuse a column that goes by its number, where USING or NATURAL JOIN compares it.

    :param tables: all mentions
    :raises trough.errors.BadSql: there is one
    """
    joins = list(tree.find_all(exp.Join))
    common = {sqlite_helpers.folded(each.name) for join in joins for each in _using(join)}
    if any(join.method for join in joins):
        having = Counter(name for table in tables for name in table.column_names)
        common |= {name for name in _TRUTH if having[name] > 1}
    for name in common.intersection(_TRUTH):
        raise errors.BadSql(
            f"this cannot be divided within segments: USING or NATURAL JOIN compares columns "
            f"called {name}, and a segment lacks a column of their table",
            "compare them in ON",
        )


def _using(join: exp.Join) -> list[exp.Expr]:
    return join.args.get("using") or []


def _number_of(whole: TableShape, name: str) -> str:
    """What SQLite calls a column of this name in a subquery that stands for a table."""
    names = [sqlite_helpers.folded(each.name) for each in (*whole.columns, *whole.hidden)]
    return f"column{names.index(name) + 1}"


def _lacking(whole: TableShape, table: TableShape | None) -> dict[str, Column]:
    """Columns of the union's table that a segment's does not have, by name in lower case."""
    mine = table.column_names if table is not None else frozenset()
    columns = (*whole.columns, *(whole.hidden if table is None else ()))
    named = {sqlite_helpers.folded(column.name): column for column in columns}
    return {name: column for name, column in named.items() if name not in mine}


def _nothing(column: Column) -> exp.Expr:
    """NULL with the affinity and the collation of a column."""
    null: exp.Expr = CastAs(this=exp.Null(), to=column.affinity or "BLOB")
    if column.collation.upper() != "BINARY":
        null = exp.Collate(this=null, expression=exp.Var(this=column.collation))
    return null


def _rowids_read(tree: exp.Expr, union: SegmentSchema) -> dict[str, set[str]]:
    """By table, the rowids that the text reads, as far as no column is called so."""
    found: dict[str, set[str]] = {}
    for node in tree.find_all(exp.Column):
        name = sqlite_helpers.folded(node.name)
        key = table_of(source_of(node)) if name in ROWIDS else ""
        if key and name not in union.tables[key].column_names:
            found.setdefault(key, set()).add(name)
    return found


def _look_alike(
    whole: TableShape, table: TableShape | None, node: exp.Table, read: set[str]
) -> exp.Expr:
    """A SELECT that gives a segment's table, or nothing, the columns of `whole`.

    :param read: rowids of the table that the text reads
    """
    lacking = _lacking(whole, table)
    items = [
        exp.Alias(this=_nothing(column), alias=quoted_name(column.name))
        if sqlite_helpers.folded(column.name) in lacking
        else exp.Column(this=quoted_name(column.name))
        for column in (*whole.columns, *whole.hidden)
    ]
    query = exp.Select(expressions=items)
    if table is None:
        # It has no rows, and so no rowids, but the text may name them.
        rowids = [name for name in ROWIDS if name not in whole.column_names]
        nothing = _nothing(Column("", "INT", "BINARY"))
        items += [exp.Alias(this=nothing.copy(), alias=quoted_name(name)) for name in rowids]
        query.set("expressions", items)
        query.set("where", exp.Where(this=exp.Literal.number(0)))
    else:
        # A subquery has no rowid of its own, and not every table has one.
        names = [quoted_name(name) for name in sorted(read)]
        items += [exp.Alias(this=exp.Column(this=name), alias=name.copy()) for name in names]
        query.set("expressions", items)
        source = exp.Table(this=node.this.copy(), db=node.args["db"].copy())
        query.set("from_", exp.From(this=source))
    return exp.Subquery(this=query, alias=node.args["alias"].copy())
