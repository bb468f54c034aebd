"""One SELECT taken apart: its rows' source, its outputs, and what its names mean.

A :class:`Relation` is a SELECT whose rows come from one table, or, within segments, from
whatever its FROM says. It knows how SQLite reads names: an ORDER BY term that is an alias
or a number is an output; elsewhere a column goes before an alias of the same name.

Whatever it is not sure of it raises :class:`NotPushed` about; rows are shipped then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.dialect import Plus, parenthesised, parse, rewritten, write
from trough.gather.nondeterminism import CURRENT, is_moving
from trough.gather.union_database import SEGMENT, Catalogue, Prepared

_UNUSUAL_CLAUSES = ("windows", "qualify", "laterals", "pivots", "sample", "into", "connect", "kind")

QUERIES = (exp.Select, exp.SetOperation, exp.Values)


class NotPushed(Exception):
    """Why a query is not computed in the segments."""


def faithful_tree(sql: str, catalogue: Catalogue, parameters: Mapping[str, Any]) -> exp.Expr | None:
    """The tree of `sql`, if SQLite compiles it into the same program as the text."""
    tree = parse(sql)
    if tree is None:
        return None
    for column in tree.find_all(exp.Column):
        # A segment's table may be replaced by a SELECT, which is of no database.
        column.set("db", None)
    try:
        text = parenthesised(tree)
    except Exception:
        # sqlglot's generators raise what they like; a tree without text is no tree.
        return None
    program = catalogue.program(sql, parameters)
    return tree if program is not None and catalogue.program(text, parameters) == program else None


class Relation:
    """See the module.

    :param tree: faithful to the user's text
    :param prepared: what SQLite told of that text
    :raises NotPushed: the tree is no such SELECT
    """

    def __init__(
        self,
        tree: exp.Expr,
        prepared: Prepared,
        catalogue: Catalogue,
        parameters: Mapping[str, Any],
        within: bool,
    ) -> None:
        if not isinstance(tree, exp.Select):
            raise NotPushed(f"it is a {type(tree).__name__.upper()} and not one SELECT")
        self.tree = tree
        self.catalogue = catalogue
        self.parameters = parameters
        self.within = within
        self._known_columns: dict[str, bool] = {}
        self._check_clauses()
        self.base_tables_only = self._only_base_tables()
        #: The one table that rows come from, in lower case, or empty for several.
        self.only_table = self._only_table()
        if not within:
            self._check_one_table()
        self.items: list[exp.Expr] = list(tree.expressions)
        self.aliases: dict[str, exp.Expr] = {}
        for item in self.items:
            if isinstance(item, exp.Alias):
                # Of two that are called alike, the first counts.
                self.aliases.setdefault(sqlite_helpers.folded(item.alias), item.this)
        self.names, self._widths = self._outputs(prepared)
        where = tree.args.get("where")
        if where is not None:
            # A condition may speak of an alias, which segments do not know.
            tree.set("where", exp.Where(this=self.expanded(where.this)))

    def _check_clauses(self) -> None:
        for clause in _UNUSUAL_CLAUSES:
            if self.tree.args.get(clause):
                raise NotPushed(f"the clause {clause.upper()} is not known here")
        if self.tree.args.get("from_") is None:
            raise NotPushed("it reads no table")

    def _only_base_tables(self) -> bool:
        sources = [self.tree.args["from_"].this]
        sources += [join.this for join in self.tree.args.get("joins") or ()]
        return not self.tree.args.get("with_") and all(
            isinstance(source, exp.Table) and self._is_base(source) for source in sources
        )

    def _is_base(self, source: exp.Table) -> bool:
        table = self.catalogue.schema.tables.get(sqlite_helpers.folded(source.name))
        return table is not None and not table.is_view

    def _only_table(self) -> str:
        first = self.tree.args["from_"].this
        if self.tree.args.get("with_") or not isinstance(first, exp.Table):
            return ""
        # json_each(t.x) beside t has rows for each row of t, and none of its own.
        own = all(
            isinstance(join.this, exp.Table)
            and isinstance(join.this.this, exp.Anonymous)
            and (join.args.get("side") or "LEFT") == "LEFT"
            for join in self.tree.args.get("joins") or ()
        )
        return sqlite_helpers.folded(first.name) if own and self._is_base(first) else ""

    def _check_one_table(self) -> None:
        if not self.only_table and self.tree.args.get("joins"):
            raise NotPushed("rows of one segment may join rows of another")
        if not self.only_table:
            raise NotPushed("it reads from a view, a subquery or a WITH table")
        if any(node is not self.tree for node in self.tree.find_all(*QUERIES)):
            raise NotPushed("a subquery reads the tables of all segments")

    def take_segment_condition(self) -> str:
        """Take what WHERE asks of the segments' names alone out of it, as one condition."""
        where = self.tree.args.get("where")
        parts = conjuncts(where.this) if where is not None else []
        about = [part for part in parts if self._is_about_segments(part)]
        if not about:
            return ""
        rest = [part.copy() for part in parts if part not in about]
        self.tree.set("where", exp.Where(this=exp.and_(*rest)) if rest else None)
        return " AND ".join(f"({write(_unqualified(part))})" for part in about)

    def _is_about_segments(self, part: exp.Expr) -> bool:
        columns = list(part.find_all(exp.Column))
        moving = is_moving(part) or part.find(*QUERIES) is not None
        return bool(columns) and not moving and all(map(self.is_segment, columns))

    # -- outputs -------------------------------------------------------------------

    def _outputs(self, prepared: Prepared) -> tuple[list[str], list[int]]:
        """The result's names, and how many columns each item stands for."""
        stars = [_is_star(item) for item in self.items]
        if not any(stars):
            return list(prepared.names), [1] * len(self.items)
        if sum(stars) > 1 or (self.catalogue.with_segment and not self._one_table()):
            raise NotPushed(f"what * means here besides {SEGMENT}: name the columns")
        width = len(prepared.names) - (len(self.items) - 1)
        names = list(prepared.names)
        if self.catalogue.with_segment:
            # In the catalogue the star has the segment's column too, as its last one.
            width -= 1
            del names[stars.index(True) + width]
        return names, [width if star else 1 for star in stars]

    def _one_table(self) -> bool:
        return self.base_tables_only and not self.tree.args.get("joins")

    def output_of(self, term: exp.Expr) -> int | None:
        """The output's place, from 0, that a term of ORDER BY means by alias or number."""
        if isinstance(term, exp.Literal) and not term.is_string and term.this.isdigit():
            return int(term.this) - 1
        if not (isinstance(term, exp.Column) and not term.table):
            return self._output_equal_to(term)
        place = 0
        for item, width in zip(self.items, self._widths, strict=True):
            if isinstance(item, exp.Alias) and sqlite_helpers.folded(
                item.alias
            ) == sqlite_helpers.folded(term.name):
                return place
            place += width
        return self._output_equal_to(term)

    def _output_equal_to(self, term: exp.Expr) -> int | None:
        place, wanted = 0, self.normal(term)
        for item, width in zip(self.items, self._widths, strict=True):
            if width == 1 and not _is_star(item) and self.normal(item.unalias()) == wanted:
                return place
            place += width
        return None

    def place_of_item(self, index: int) -> int:
        """The place of an item's first output."""
        return sum(self._widths[:index])

    # -- names ---------------------------------------------------------------------

    def is_column(self, name: str) -> bool:
        """Whether a name without a table is a column of the rows' source."""
        key = sqlite_helpers.folded(name)
        if key not in self._known_columns:
            probe = self.source_select(sqlite_helpers.name(name))
            self._known_columns[key] = self.catalogue.takes(probe, self.parameters)
        return self._known_columns[key]

    def is_segment(self, node: exp.Expr) -> bool:
        """Whether `node` is the column that names a row's segment."""
        return (
            self.catalogue.with_segment
            and isinstance(node, exp.Column)
            and sqlite_helpers.folded(node.name) == SEGMENT
        )

    def mentions_segment(self, node: exp.Expr) -> bool:
        """Whether the column that names a row's segment is anywhere in `node`."""
        return any(self.is_segment(each) for each in node.find_all(exp.Column))

    def source_select(self, items: str, adapt: Callable | None = None, where: bool = False) -> str:
        """``[WITH] SELECT items FROM ... [WHERE ...]`` over the rows' source."""
        adapt = adapt or (lambda node: node)
        with_ = self.tree.args.get("with_")
        text = f"{write(adapt(with_))} " if with_ is not None else ""
        bare = exp.Select(
            from_=self.tree.args["from_"].copy(),
            joins=[join.copy() for join in self.tree.args.get("joins") or ()],
        )
        if where and self.tree.args.get("where") is not None:
            bare.set("where", self.tree.args["where"].copy())
        # sqlglot writes a SELECT without items as "SELECT * FROM"
        source = write(adapt(bare))
        return f"{text}SELECT {items}{source.removeprefix('SELECT').removeprefix(' *')}"

    def expanded(self, node: exp.Expr) -> exp.Expr:
        """A copy of `node` in which aliases stand for what they name."""

        holder = exp.Paren(this=node.copy())
        self._expand(holder)
        return holder.this

    def _expand(self, node: exp.Expr) -> None:
        for child in list(node.iter_expressions()):
            if isinstance(child, exp.Column):
                meant = self._meant(child)
                if meant is not child:
                    child.replace(meant)
            elif not isinstance(child, QUERIES):
                # Names inside a subquery are its own.
                self._expand(child)

    def _meant(self, column: exp.Column) -> exp.Expr:
        """What a column's name stands for: itself, or what an alias names."""
        name = sqlite_helpers.folded(column.name)
        if column.table or self.is_column(name) or name in CURRENT:
            return column
        if name in self.aliases:
            return exp.Paren(this=self.aliases[name].copy())
        raise NotPushed(f"{column.sql()} is neither a column nor an alias")

    def normal(self, node: exp.Expr) -> str:
        """A text that is equal for expressions that mean the same by their names."""

        def plain(each: exp.Expr) -> exp.Expr:
            if isinstance(each, exp.Paren):
                return each.this.copy()
            if isinstance(each, exp.Column) and (self._one_table() or not each.table):
                return exp.column(exp.to_identifier(sqlite_helpers.folded(each.name), quoted=True))
            if isinstance(each, exp.Identifier):
                return exp.to_identifier(sqlite_helpers.folded(each.name), quoted=True)
            if isinstance(each, exp.Anonymous):
                each.set("this", each.name.lower())
            return each

        return parenthesised(exp.Tuple(expressions=[rewritten(node, plain)]))

    def attributes(self, expressions: list[str]) -> list[tuple[str, str]]:
        """Affinity and collation of expressions over the rows' source.

        :raises NotPushed: SQLite does not tell
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


def conjuncts(node: exp.Expr) -> list[exp.Expr]:
    """The conditions that AND holds together."""
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        return [*conjuncts(node.this), *conjuncts(node.expression)]
    return [node]


def _unqualified(node: exp.Expr) -> exp.Expr:
    holder = exp.Paren(this=node.copy())
    for column in holder.find_all(exp.Column):
        column.set("table", None)
    return holder.this


def _is_star(item: exp.Expr) -> bool:
    return isinstance(item, exp.Star) or (
        isinstance(item, exp.Column) and isinstance(item.this, exp.Star)
    )


def without_affinity(node: exp.Expr) -> exp.Expr:
    """`node` as SQLite sees an expression rather than a column."""
    return exp.Paren(this=Plus(this=node))
