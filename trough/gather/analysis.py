"""One SELECT of the normal form taken apart: its rows' source and its outputs.

A :class:`Relation` is a SELECT whose rows come from one table, or, within segments, from
everything in its FROM. It raises :class:`NotPushed` where it is not sure; rows are shipped then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from trough.gather.dialect import Place, Plus, texts_of, write
from trough.gather.from_clause import QUERIES
from trough.gather.nondeterminism import is_moving
from trough.gather.scopes import source_of, sources_of
from trough.gather.sqlite_helpers import folded
from trough.gather.union_database import SEGMENT, UnionDatabase

_UNUSUAL_CLAUSES = ("qualify", "laterals", "pivots", "sample", "into", "connect", "kind")


class NotPushed(Exception):
    """Why a query is not computed in the segments."""


class Relation:
    """See the module.

    :param tree: in normal form
    :param names: of its columns
    :raises NotPushed: the tree is no such SELECT
    """

    def __init__(
        self,
        tree: exp.Expr,
        names: tuple[str, ...],
        catalogue: UnionDatabase,
        parameters: Mapping[str, Any],
        within: bool,
    ) -> None:
        if not isinstance(tree, exp.Select):
            raise NotPushed(f"it is a {type(tree).__name__.upper()} and not one SELECT")
        self.tree = tree
        self.names = names
        self.catalogue = catalogue
        self.parameters = parameters
        self.within = within
        self._texts: dict[int, str] = {}
        self._kept: list[exp.Expr] = []
        self._check_clauses()
        self.base_tables_only = self._only_base_tables()
        #: The one table that rows come from, in lower case, or empty for several.
        self.only_table = self._only_table()
        #: Names of sources that are tables of the union.
        self.base_sources = frozenset(each.alias for each in self._sources if _is_base(each))
        #: Of these, the names of the tables.
        self.base_tables = {each.alias: each.name for each in self._sources if _is_base(each)}
        #: Names of sources that may be rows of NULL, which an outer join adds.
        self.nullable_sources = _nullable(tree)
        if within:
            self._equate_segments()
        else:
            self._check_one_table()
        self.items: list[exp.Expr] = list(tree.expressions)

    def _check_clauses(self) -> None:
        for clause in _UNUSUAL_CLAUSES:
            if self.tree.args.get(clause):
                raise NotPushed(f"the clause {clause.upper()} is not known here")
        if self.tree.args.get("from_") is None:
            raise NotPushed("it reads no table")

    @property
    def _sources(self) -> list[exp.Expr]:
        return sources_of(self.tree)

    def _only_base_tables(self) -> bool:
        return all(map(_is_base, self._sources))

    def _equate_segments(self) -> None:
        """Within segments two rows that meet are of one segment: their names are equal."""
        for node in list(self.tree.find_all(exp.EQ, exp.Is)):
            sides = (node.this, node.expression)
            if all(self.is_segment(each) and not _may_be_nulls(each, node) for each in sides):
                node.replace(exp.Literal.number(1))

    def _only_table(self) -> str:
        first = row_source(self.tree.args["from_"].this, self.catalogue.aggregates)
        if first is None:
            return ""
        # json_each(t.x) beside t has rows for each row of t, and none of its own.
        own = all(
            isinstance(join.this, exp.Table)
            and isinstance(join.this.this, exp.Anonymous)
            and (join.args.get("side") or "LEFT") == "LEFT"
            for join in self.tree.args.get("joins") or ()
        )
        return folded(first.name) if own else ""

    def _check_one_table(self) -> None:
        source: exp.Expr = self.tree.args["from_"].this
        allowed = [self.tree]
        while isinstance(source, exp.Subquery) and self.only_table:
            allowed.append(source.this)
            source = source.this.args["from_"].this
        if any(all(node is not one for one in allowed) for node in self.tree.find_all(*QUERIES)):
            raise NotPushed("a view, a subquery or a WITH table reads the tables of all segments")
        if not self.only_table:
            raise NotPushed("rows of one segment may join rows of another")

    def take_segment_condition(self) -> str:
        """Take what WHERE asks of the segments' names alone out of it, as one condition."""
        where = self.tree.args.get("where")
        parts = conjuncts(where.this) if where is not None else []
        about = [part for part in parts if self._is_about_segments(part)]
        if not about:
            return ""
        rest = [part.copy() for part in parts if part not in about]
        self.tree.set("where", exp.Where(this=exp.and_(*rest, wrap=False)) if rest else None)
        return " AND ".join(write(_unqualified(part)) for part in about)

    def _is_about_segments(self, part: exp.Expr) -> bool:
        columns = list(part.find_all(exp.Column))
        moving = is_moving(part) or part.find(*QUERIES) is not None
        if not columns or moving or any(map(self.nullable_segment, columns)):
            return False
        return all(map(self.is_segment, columns))

    # -- outputs -------------------------------------------------------------------

    def output_of(self, term: exp.Expr) -> int | None:
        """The output, from 0, that a term of ORDER BY means by its place, or is equal to."""
        if isinstance(term, Place):
            return term.number - 1
        wanted = self.normal(term)
        for place, item in enumerate(self.items):
            if self.normal(item) == wanted:
                return place
        return None

    # -- names ---------------------------------------------------------------------

    def is_segment(self, node: exp.Expr) -> bool:
        """Whether `node` is the column that names a row's segment."""
        return (
            self.catalogue.with_segment
            and isinstance(node, exp.Column)
            and folded(node.name) == SEGMENT
        )

    def nullable_segment(self, node: exp.Expr) -> bool:
        """Whether `node` is the segment of a source that may be a row of NULLs."""
        return self.is_segment(node) and node.text("table") in self.nullable_sources

    def mentions_segment(self, node: exp.Expr) -> bool:
        """Whether the column that names a row's segment is anywhere in `node`."""
        return any(self.is_segment(each) for each in node.find_all(exp.Column))

    def source_select(
        self, items: str, adapt: Callable[[exp.Expr], exp.Expr] | None = None, where: bool = False
    ) -> str:
        """``[WITH] SELECT items FROM ... [WHERE ...]`` over the rows' source."""
        adapt = adapt or (lambda node: node)
        with_ = self.tree.args.get("with_")
        text = f"{write(adapt(with_.copy()))} " if with_ is not None else ""
        bare = exp.Select(
            expressions=[exp.Null()],
            from_=self.tree.args["from_"].copy(),
            joins=[join.copy() for join in self.tree.args.get("joins") or ()],
        )
        if where and self.tree.args.get("where") is not None:
            bare.set("where", self.tree.args["where"].copy())
        source = write(adapt(bare))
        return f"{text}SELECT {items}{source.removeprefix('SELECT NULL')}"

    def __getstate__(self) -> dict[str, Any]:
        """What is left after planning, for another process."""
        return {**self.__dict__, "catalogue": None, "_texts": {}, "_kept": []}

    def normal(self, node: exp.Expr) -> str:
        """A text that is equal for expressions that mean the same by their names."""
        if id(node) not in self._texts:
            # All nodes in it at once, or a long sum would take the square of its length.
            self._texts.update(texts_of(node))
            # What has a text stays, so that nothing else can have its identity.
            self._kept.append(node)
        return self._texts[id(node)]

    def attributes(self, expressions: list[str]) -> list[tuple[str, str]]:
        """Affinity and collation of expressions over the rows' source.

        :raises NotPushed: SQLite does not report them
        """
        if not expressions:
            return []
        select = self.source_select(", ".join(expressions))
        affinities = self.catalogue.affinities(select, self.parameters)
        count = len(affinities or ())
        collations = self.catalogue.collations(select, count, self.parameters)
        if affinities is None or collations is None:
            raise NotPushed("the collation of an expression is not known")
        return list(zip(affinities, collations, strict=True))


def _nullable(select: exp.Expr, before: exp.Join | None = None) -> frozenset[str]:
    """Names of the sources of a SELECT that may be rows of NULL, which outer joins add.

    :param before: only joins before this one
    """
    names, found = [sources_of(select)[0].alias], set()
    for join in select.args.get("joins") or ():
        if join is before:
            break
        side = join.side or ("FULL" if join.kind == "FULL" else "")
        if side in ("LEFT", "FULL"):
            found.add(join.this.alias)
        if side in ("RIGHT", "FULL"):
            found.update(names)
        names.append(join.this.alias)
    return frozenset(found)


def _may_be_nulls(column: exp.Column, node: exp.Expr) -> bool:
    """Whether the source of a column may be a row of NULLs where `node` is computed."""
    source = source_of(column)
    select = source.find_ancestor(exp.Select) if source is not None else None
    if source is None or select is None:
        return True
    # In the ON of a join its own rows are there, and what joins before it added is, too.
    join = node.find_ancestor(exp.Join)
    inside = (
        join is not None and join.parent is select and column.find_ancestor(exp.Select) is select
    )
    return source.alias in _nullable(select, join if inside else None)


def _is_base(source: exp.Expr) -> bool:
    return isinstance(source, exp.Table) and bool(source.db)


#: Clauses with which a SELECT gives other rows than one for each row of its source.
_NOT_ROW_BY_ROW = (
    *("with_", "joins", "distinct", "group", "having", "windows", "order", "limit", "offset"),
)


def row_source(source: exp.Expr, aggregates: frozenset[str]) -> exp.Table | None:
    """The table whose rows a term of FROM has, one by one: itself, or what a view of it or a
    subquery filters and computes; None for anything else.

    :param aggregates: names of SQLite's aggregate functions
    """
    while isinstance(source, exp.Subquery):
        select = source.this
        if not isinstance(select, exp.Select) or any(map(select.args.get, _NOT_ROW_BY_ROW)):
            return None
        from_, where = select.args.get("from_"), select.args.get("where")
        computed = [*select.expressions, *([where] if where is not None else [])]
        calls = {call.name.lower() for each in computed for call in each.find_all(exp.Anonymous)}
        if from_ is None or calls & aggregates:
            return None
        if any(each.find(*QUERIES, exp.Window) is not None for each in computed):
            return None
        source = from_.this
    return source if isinstance(source, exp.Table) and source.db else None


def conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """The conditions that AND holds together."""
    found = []
    while isinstance(node, exp.And):
        found.append(node.expression)
        node = node.this
    return [part for each in (node, *reversed(found)) for part in _conjuncts_of(each)]


def _conjuncts_of(node: exp.Expr) -> list[exp.Expr]:
    return conjuncts(node) if isinstance(node, exp.And) else [node]


def _unqualified(node: exp.Expr) -> exp.Expr:
    holder = exp.Tuple(expressions=[node.copy()])
    for column in holder.find_all(exp.Column):
        column.set("table", None)
    return holder.expressions[0]


def without_affinity(node: exp.Expr) -> exp.Expr:
    """`node` as SQLite sees an expression rather than a column."""
    return Plus(this=node)
