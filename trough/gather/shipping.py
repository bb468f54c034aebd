"""Queries that are not divided: the rows that they read are shipped, and the user's own
text runs over them.

Of each table only the columns that the text reads are sent; SQLite reports these. Conditions of
WHERE that clearly depend on one table alone limit the rows that are sent. All tables of a segment
come in one statement, and so in one state of the segment.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.analysis import conjuncts
from trough.gather.dialect import Part, gives_json, write
from trough.gather.from_clause import QUERIES
from trough.gather.nondeterminism import is_moving
from trough.gather.pushdown import Pushdown
from trough.gather.ranking import Ranking, ranking_of
from trough.gather.schema import SegmentSchema, TableShape
from trough.gather.scopes import ROWIDS, quoted, source_of, table_of
from trough.gather.segment_sql import SegmentQuery, adapter, guarded
from trough.gather.union_database import SEGMENT, Prepared, UnionDatabase

#: Functions that give a value for any arguments. Others may fail for rows that SQLite, in a
#: join with a table that has no rows, would never look at.
_HARMLESS = (
    "char coalesce concat date datetime glob hex if ifnull iif instr julianday length like likely "
    "lower ltrim max min nullif quote replace round rtrim seedcrawledstatus sign strftime substr "
    "substring time trim typeof unicode unixepoch unlikely upper row_number rank dense_rank"
)
_NEVER_FAIL = frozenset(_HARMLESS.split())


@dataclass(frozen=True, slots=True)
class Shipped:
    """A table whose rows are sent.

    :ivar columns: names of the columns that are sent
    :ivar conditions: on its rows, in normal form; they name the table as `called`
    :ivar ranking: only the first of the rows that meet these are sent
    """

    table: TableShape
    columns: tuple[str, ...]
    conditions: tuple[exp.Expr, ...] = ()
    called: str = ""
    ranking: Ranking | None = None

    @property
    def source(self) -> exp.Table:
        """The table as the normal form has it."""
        return exp.Table(
            this=quoted(self.table.name),
            db=quoted("main"),
            alias=exp.TableAlias(this=quoted(self.called or self.table.name)),
        )


def shipped_tables(
    prepared: Prepared,
    catalogue: UnionDatabase,
    tree: exp.Expr | None,
    parameters: Mapping[str, Any],
) -> list[Shipped]:
    """What has to be sent for a text.

    :param tree: the normal form of the text, or None where there is none: then all rows go
    """
    shipped = []
    for name in sorted(prepared.tables):
        table = catalogue.schema.tables.get(name)
        if table is None or table.is_view:
            continue
        read = {column for owner, column in prepared.reads if owner == name}
        read -= _unused(tree, name) if tree is not None else set()
        columns = tuple(
            each.name for each in table.columns if sqlite_helpers.folded(each.name) in read
        )
        called, conditions = _conditions(tree, parameters, name)
        ranking = None
        if tree is not None and len(found := _sources(tree, name)) == 1:
            called = found[0].alias
            ranking = _ranking(tree, parameters, found[0], catalogue)
        shipped.append(Shipped(table, columns, conditions, called, ranking))
    return shipped


def shipping_text(
    shipped: tuple[Shipped, ...],
    parts: tuple[Pushdown, ...],
    tables: frozenset[str],
    union: SegmentSchema,
    variant: SegmentSchema,
    exact: bool,
) -> SegmentQuery | None:
    """What a segment runs; None if it can contribute nothing.

    With more than one table, or part of the query, each row begins with its number.

    :param exact: sums of the parts are asked for in the exact form
    """
    tagged = len(shipped) + len(parts) > 1
    widths = [len(each.columns) for each in shipped] + [len(each.partials) for each in parts]
    width = max(1, *widths) + tagged
    arms = []
    for number, each in enumerate(shipped):
        table = variant.tables.get(sqlite_helpers.folded(each.table.name))
        if table is None:
            continue
        items = [str(number)] * tagged + [
            sqlite_helpers.name(column)
            if sqlite_helpers.folded(column) in table.column_names
            else "NULL"
            for column in each.columns
        ]
        items += ["NULL"] * (width - len(items))
        arms.append(_arm(each, items, union, variant))
    for number, pushed in enumerate(parts, len(shipped)):
        relation = pushed.relation
        if relation.only_table and relation.only_table not in variant.tables:
            continue
        items = [str(number)] * tagged + ["*"]
        items += ["NULL"] * (width - tagged - max(1, len(pushed.partials)))
        adapt = adapter(relation.tree, union, variant)
        core = pushed.core(adapt, exact or pushed.starts_exact, all_columns=True)
        arms.append(f"SELECT {', '.join(items)} FROM ({core})")
    if not arms:
        return None
    core = " UNION ALL ".join(arms)
    return guarded(core, tables, variant, width, exact)


def _unused(tree: exp.Expr, name: str) -> set[str]:
    """Columns of a table that are only items of SELECTs of which nothing is asked but whether
    they have a row, in lower case; ``EXISTS (SELECT * ...)``."""
    used: dict[str, bool] = {}
    for join in tree.find_all(exp.Join):
        if join.method:
            return set()  # NATURAL compares columns that are not named
        used |= {sqlite_helpers.folded(each.name): True for each in join.args.get("using") or ()}
    for column in tree.find_all(exp.Column):
        if table_of(source_of(column)) == name:
            key = sqlite_helpers.folded(column.name)
            used[key] = used.get(key, False) or not _is_item_of_exists(column)
    return {column for column, is_used in used.items() if not is_used}


def _is_item_of_exists(column: exp.Column) -> bool:
    select = column.parent_select
    item: exp.Expr = column
    while item.parent is not None and item.parent is not select:
        item = item.parent
    return (
        isinstance(select, exp.Select)
        and isinstance(select.parent, exp.Exists)
        and select.args.get("distinct") is None
        and any(each is item for each in select.expressions)
    )


def _arm(each: Shipped, items: list[str], union: SegmentSchema, variant: SegmentSchema) -> str:
    """The SELECT that sends a table's rows."""
    source = each.source
    adapt = adapter(source, union, variant)

    def adapted(part: exp.Expr) -> str:
        return write(adapt(exp.Tuple(expressions=[part.copy()])).expressions[0])

    conditions = " AND ".join(map(adapted, each.conditions))
    from_ = f"{write(source)} WHERE {conditions}" if conditions else write(source)
    if each.ranking is not None:
        number = sqlite_helpers.name("trough number")
        named = [f"{item} AS c{place}" for place, item in enumerate(items)]
        named.append(f"{adapted(each.ranking.window)} AS {number}")
        items = [f"c{place}" for place in range(len(items))]
        from_ = f"(SELECT {', '.join(named)} FROM {from_}) WHERE {number} <= {each.ranking.most}"
    return f"SELECT {', '.join(items)} FROM {from_}"


# -- conditions -------------------------------------------------------------------------


def _conditions(
    tree: exp.Expr | None, parameters: Mapping[str, Any], name: str
) -> tuple[str, tuple[exp.Expr, ...]]:
    """The table's name in the normal form, and what the query asks of its rows alone.

    A row is needed if one mention of the table needs it, so several mentions are alternatives.
    """
    found = _sources(tree, name) if tree is not None else []
    asked = [_asked_of(source, parameters) for source in found]
    if not found or not all(asked):
        return "", ()
    called = found[0].alias
    if len(found) == 1:
        return called, tuple(asked[0])
    alternatives = [
        _renamed(_all_of(parts), source.alias, called)
        for source, parts in zip(found, asked, strict=True)
    ]
    return called, (_any_of(alternatives),)


def _ranking(
    tree: exp.Expr, parameters: Mapping[str, Any], source: exp.Table, catalogue: UnionDatabase
) -> Ranking | None:
    """Which rows of a table are enough, where the query asks for the first of each group.

    :param source: the only mention of the table
    """
    if catalogue.schema.tables[table_of(source)].is_index:
        return None
    select = source.find_ancestor(exp.Select)
    where = select.args.get("where") if select is not None else None
    parts = conjuncts(where.this) if where is not None else []
    if not all(_is_about(part, source.alias) and not is_moving(part, parameters) for part in parts):
        # What is not asked of the segments would leave out rows that are numbered here.
        return None
    ranking = ranking_of(source, tree, parameters, catalogue.aggregates)
    if ranking is None or _may_fail(ranking.window):
        return None
    return ranking if _names_only(ranking.window, source.alias) else None


def _names_only(node: exp.Expr, source: str) -> bool:
    """Whether it names columns of one source alone, and no rowid or segment."""
    return all(
        column.table == source and sqlite_helpers.folded(column.name) not in (SEGMENT, *ROWIDS)
        for column in node.find_all(exp.Column)
    )


def _sources(tree: exp.Expr, name: str) -> list[exp.Table]:
    """All mentions of a table of the union; views are written out here."""
    tables = tree.find_all(exp.Table)
    return [each for each in tables if each.db and sqlite_helpers.folded(each.name) == name]


def _asked_of(source: exp.Table, parameters: Mapping[str, Any]) -> list[exp.Expr]:
    """What WHERE, and ON of inner joins, ask of one source alone."""
    select = source.find_ancestor(exp.Select)
    if select is None or not _is_preserved(source, select):
        return []
    where = select.args.get("where")
    joins = [join.args.get("on") for join in select.args.get("joins") or ()]
    asking = [where.this if where is not None else None, *joins]
    return [
        implied
        for each in asking
        if each is not None
        for part in conjuncts(each)
        if (implied := _implied(part, source.alias, parameters)) is not None
    ]


def _implied(part: exp.Expr, called: str, parameters: Mapping[str, Any]) -> exp.Expr | None:
    """A condition on one source that is true in every row where `part` is; None for none."""
    if _is_about(part, called):
        return None if is_moving(part, parameters) else part.copy()
    if not isinstance(part, exp.Or):
        return None
    alternatives = []
    for alternative in _disjuncts(part):
        found = [_implied(each, called, parameters) for each in conjuncts(alternative)]
        asked = [each for each in found if each is not None]
        if not asked:
            return None
        alternatives.append(_all_of(asked))
    return _any_of(alternatives)


def _disjuncts(node: exp.Expr) -> list[exp.Expr]:
    """The conditions that OR holds together; a long one leans to the left."""
    found = []
    while isinstance(node, exp.Or):
        found.append(node.expression)
        node = node.this
    return [node, *reversed(found)]


def _all_of(parts: list[exp.Expr]) -> exp.Expr:
    return functools.reduce(lambda one, other: exp.And(this=one, expression=other), parts)


def _any_of(parts: list[exp.Expr]) -> exp.Expr:
    return functools.reduce(lambda one, other: exp.Or(this=one, expression=other), parts)


def _renamed(part: exp.Expr, before: str, after: str) -> exp.Expr:
    for column in part.find_all(exp.Column):
        if column.table == before:
            column.set("table", quoted(after))
    return part


def _is_preserved(source: exp.Table, select: exp.Select) -> bool:
    """Whether no join can put a row of NULLs in place of the table's."""
    from_ = select.args.get("from_")
    joins = select.args.get("joins") or []
    if from_ is None or any(join.args.get("side") or join.kind == "FULL" for join in joins):
        return False
    return from_.this is source or any(join.this is source for join in joins)


def _is_about(part: exp.Expr, called: str) -> bool:
    """Whether a condition uses one source's columns, and no rowid or segment."""
    columns = list(part.find_all(exp.Column))
    if not columns or part.find(*QUERIES, Part) is not None or _may_fail(part):
        return False
    return _names_only(part, called)


def _may_fail(part: exp.Expr) -> bool:
    """Whether a condition may end in an error for some row."""
    functions = {each.name.lower() for each in part.find_all(exp.Anonymous)}
    return gives_json(part) or not functions <= _NEVER_FAIL
