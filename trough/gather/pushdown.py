"""What a segment computes for a query, and what is left to do with that.

The segments' answers are rows of *partial* columns, ``c0``, ``c1`` ..., which land in one
scratch table. A final SELECT over that table gives the answer. This module has the values
that describe the two, and the forms that need no aggregates: plain, ordered and distinct.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.analysis import NotPushed, Relation
from trough.gather.dialect import CastAs, Part, Plus, write
from trough.gather.union_database import SEGMENT
from trough.sql.row_merging import APART

#: The scratch table of partial rows. No table of a segment can be called so.
PARTIAL = "trough partial rows"

# A greater number is a real to SQLite, which it does not take for a LIMIT.
_MOST = 2**63 - 1

#: Changes a tree for segments that lack a table or a column.
Adapt = Callable[[exp.Expr], exp.Expr]


@dataclass(frozen=True, slots=True)
class SqlPiece:
    """SQL text around parts of the user's text: ``sum({0})`` and ``x``."""

    template: str
    parts: tuple[exp.Expr, ...] = ()

    def text(self, adapt: Adapt) -> str:
        """The whole text, for a segment."""
        # A list as parent, so that a part that is replaced whole stays replaced.
        parts = [adapt(exp.Tuple(expressions=[part.copy()])).expressions[0] for part in self.parts]
        return self.template.format(*(write(part) for part in parts))

    def group_text(self, adapt: Adapt) -> str:
        """The whole text as a term of GROUP BY, where SQLite takes a number for a place,
        even in parentheses; what is constant divides nothing."""
        if all(part.find(exp.Column) is None for part in self.parts):
            return "NULL"
        text = self.text(adapt)
        return f"ifnull({text}, NULL)" if self._may_be_number() else f"({text})"

    def _may_be_number(self) -> bool:
        """Whether SQLite may make a number of it while it parses: ``0 AND x`` is 0, and ``(0 AND x)
        NOT NULL`` is 1. It is a truth then, which no collation concerns."""
        node = self.parts[0]
        while isinstance(node, (exp.Paren, exp.Collate, exp.Neg, Plus)):
            node = node.this
        return self.template == "{0}" and isinstance(node, (exp.And, exp.Is, exp.Not))


def whole(node: exp.Expr) -> SqlPiece:
    """The piece that is the user's text itself.

    :raises NotPushed: a part of it is only known at the end
    """
    check_known(node)
    return SqlPiece("{0}", (node,))


def check_known(node: exp.Expr) -> None:
    """Refuse what segments cannot compute.

    :raises NotPushed: a part of it is only known at the end
    """
    if node.find(Part) is not None:
        raise NotPushed("rows depend on what a subquery gives over all segments")


@dataclass(slots=True)
class Partial:
    """A column of the partial rows.

    :ivar piece: computed by the segments
    :ivar grouped: it is a term of the segments' GROUP BY
    :ivar aggregate: it is an aggregate
    :ivar lean: asked for in the cheap form of the query; likewise `exact`
    :ivar source: the expression over rows whose collation (and, where `typed`, affinity)
        the column has
    """

    name: str
    piece: SqlPiece
    source: SqlPiece | None = None
    grouped: bool = False
    aggregate: bool = False
    lean: bool = True
    exact: bool = True
    typed: bool = False
    affinity: str = ""
    collation: str = "BINARY"

    @property
    def meant(self) -> exp.Expr:
        """The first part of the user's text that the column is about."""
        return self.piece.parts[0]

    def give_type(self) -> None:
        """Have the column keep its affinity, as a comparison depends on it.

        :raises NotPushed: the column would change values: a CAST AS NUMERIC leaves 3.0 as it
            is, and a column of that affinity (which CREATE TABLE AS calls NUM) stores 3
        """
        bare = self.meant.this if isinstance(self.meant, exp.Collate) else self.meant
        if isinstance(bare, CastAs) and self.affinity == "NUM":
            raise NotPushed("CAST AS NUMERIC of an inner SELECT: CAST AS REAL or INTEGER")
        self.typed = True

    @property
    def declaration(self) -> str:
        """The column in the scratch table's definition."""
        affinity = self.affinity if self.typed else ""
        return f"{self.name} {affinity} COLLATE {self.collation}"


@dataclass(slots=True)
class Pushdown:
    """A query divided between the segments and the asker.

    :ivar names: of the answer's columns
    :ivar table: the scratch table that the partial rows come into
    :ivar final: the SELECT over the scratch table, in its cheap and its exact form; empty
        for a plain query, whose rows need nothing done
    :ivar outputs: for a plain query, the partial columns (or the segment's name) that make
        up a row of the answer
    :ivar order: terms of the segments' ORDER BY, by place; `most`, the number of rows
        that is enough from each segment
    :ivar skip: rows of a plain query that are not wanted, and `limit`, those that are
    :ivar checked: columns that have to arrive as integers, or the exact form is needed
    """

    relation: Relation
    names: tuple[str, ...]
    kind: str
    table: str = PARTIAL
    partials: list[Partial] = field(default_factory=list)
    outputs: tuple[str, ...] = ()
    distinct: bool = False
    aggregated: bool = False
    order: tuple[str, ...] = ()
    most: int | None = None
    skip: int = 0
    limit: int | None = None
    final: str = ""
    exact_final: str = ""
    checked: tuple[str, ...] = ()
    starts_exact: bool = False

    def asked(self, exact: bool) -> list[Partial]:
        """The columns that segments send, in order."""
        return [each for each in self.partials if (each.exact if exact else each.lean)]

    def _items(self, adapt: Adapt, asked: list[Partial], all_columns: bool) -> list[str]:
        if not all_columns:
            return [each.piece.text(adapt) for each in asked]
        names = {each.name for each in asked}
        return [each.piece.text(adapt) if each.name in names else "NULL" for each in self.partials]

    def core(self, adapt: Adapt, exact: bool, all_columns: bool = False) -> str:
        """What a segment runs.

        :param all_columns: its rows have a column for each of the partial columns, NULL for those
            of the other form
        """
        asked = self.asked(exact)
        items = ", ".join(self._items(adapt, asked, all_columns)) or "NULL"
        grouped = [each for each in asked if each.grouped]
        # Groups of which nothing is computed are found without a sort.
        bare = bool(grouped) and len(grouped) == len(asked)
        items = f"DISTINCT {items}" if self.distinct or bare else items
        text = self.relation.source_select(items, adapt, where=True)
        if bare:
            return text
        if grouped:
            text += " GROUP BY " + ", ".join(each.piece.group_text(adapt) for each in grouped)
        elif any(each.aggregate for each in asked):
            if not self._counts_rows(asked):
                # A segment without rows must not contribute; its one row of NULLs would.
                text += " HAVING count(*) > 0"
        elif self.aggregated:
            # One group, of which any row will do.
            return f"SELECT * FROM ({text} LIMIT 1)"
        if self.most is not None:
            text += f" ORDER BY {', '.join(self.order)}" if self.order else ""
            text += f" LIMIT {self.most}"
        return text

    def merge_rule(self, exact: bool | None) -> str:
        """How rows of several segments become one, by :mod:`trough.sql.row_merging`.

        :param exact: the form that was asked for; None: rows have all columns
        """
        asked = self.partials if exact is None else self.asked(exact)
        if not self.aggregated:
            return "k" * len(asked) if self.distinct and asked else APART
        letters = [_letter_of(each) for each in asked]
        return APART if "" in letters else "".join(letters) or APART

    def _counts_rows(self, asked: list[Partial]) -> bool:
        """Whether the number of rows is all that is asked: SQLite counts them without reading
        them, but not with HAVING, and 0 adds nothing."""
        tree = self.relation.tree.args
        if tree.get("where") is not None or tree.get("joins"):
            return False
        if not isinstance(tree["from_"].this, exp.Table):
            # A subquery may have conditions, and a segment without such rows is not asked.
            return False
        templates = [each.piece.template for each in asked]
        return templates == ["count(*)"] and SEGMENT not in self.final + self.exact_final


def _letter_of(partial: Partial) -> str:
    """How a partial column is merged; empty where nobody may do that before the end."""
    if partial.grouped:
        return "k"
    function = partial.piece.template.partition("(")[0] if partial.aggregate else ""
    return {"count": "s", "sum": "s", "min": "l", "max": "g"}.get(function, "")


def limits(relation: Relation) -> tuple[int | None, int]:
    """LIMIT and OFFSET as numbers; a negative LIMIT is none, a negative OFFSET is 0.

    :raises NotPushed: they are no constants
    """
    limit = _constant(relation, relation.tree.args.get("limit"))
    offset = _constant(relation, relation.tree.args.get("offset"))
    return (None if limit is None or limit < 0 else limit), max(offset or 0, 0)


def _constant(relation: Relation, clause: exp.Expr | None) -> int | None:
    if clause is None:
        return None
    value = clause.expression
    sign = 1
    while isinstance(value, (exp.Paren, exp.Neg, Plus)):
        sign = -sign if isinstance(value, exp.Neg) else sign
        value = value.this
    if isinstance(value, exp.Placeholder):
        bound = relation.parameters.get(value.name)
        if isinstance(bound, int):
            return sign * bound
    if isinstance(value, exp.Literal) and not value.is_string and value.this.isdigit():
        return sign * int(value.this)
    raise NotPushed("LIMIT and OFFSET are not plain numbers")


def _enough(limit: int | None, skip: int) -> int | None:
    """How many rows of one segment can matter; None where a LIMIT cannot express it."""
    return None if limit is None or limit + skip > _MOST else limit + skip


def plain(relation: Relation, table: str = PARTIAL) -> Pushdown:
    """A query whose rows are the answer as they arrive."""
    limit, skip = limits(relation)
    pushed = Pushdown(relation, tuple(relation.names), "stream", table, limit=limit, skip=skip)
    pushed.most = _enough(limit, skip)
    pushed.outputs = tuple(_add_outputs(pushed))
    return pushed


def ordered(relation: Relation, table: str = PARTIAL) -> Pushdown:
    """ORDER BY, and DISTINCT with or without it."""
    limit, skip = limits(relation)
    pushed = Pushdown(relation, tuple(relation.names), "merge", table)
    pushed.distinct = relation.tree.args.get("distinct") is not None
    outputs = _add_outputs(pushed)
    terms = _order(pushed, outputs)
    pushed.most = _enough(limit, skip)
    describe(pushed)
    distinct = "DISTINCT " if pushed.distinct else ""
    pushed.final = f"SELECT {distinct}{', '.join(outputs)} FROM {sqlite_helpers.name(pushed.table)}"
    pushed.final += f" ORDER BY {', '.join(terms)}" if terms else ""
    pushed.final += limit_clause(limit, skip)
    return pushed


def limit_clause(limit: int | None, skip: int) -> str:
    """LIMIT and OFFSET of the final SELECT."""
    if limit is None and not skip:
        return ""
    return f" LIMIT {-1 if limit is None else limit} OFFSET {skip}"


def _add_outputs(pushed: Pushdown) -> list[str]:
    """Partial columns for the items as they stand; the names of all outputs in order."""
    relation, outputs = pushed.relation, []
    for place, item in enumerate(relation.items):
        if relation.is_segment(item):
            outputs.append(SEGMENT)
            continue
        if relation.mentions_segment(item):
            raise NotPushed(f"{SEGMENT} is inside an expression")
        pushed.partials.append(Partial(f"c{place}", whole(item)))
        outputs.append(f"c{place}")
    return outputs


def _order(pushed: Pushdown, outputs: list[str]) -> list[str]:
    """Terms of the final ORDER BY; sets those of the segments'."""
    order = pushed.relation.tree.args.get("order")
    final, pushed_terms = [], []
    for term in order.expressions if order is not None else ():
        column = _order_column(pushed, outputs, term.this)
        suffix = suffix_of(term)
        final.append(column + suffix)
        if column != SEGMENT:
            names = [each.name for each in pushed.partials]
            pushed_terms.append(f"{names.index(column) + 1}{suffix}")
    pushed.order = tuple(pushed_terms)
    return final


def suffix_of(term: exp.Expr) -> str:
    """COLLATE, DESC and NULLS of an ORDER BY term, with a blank before each."""
    collate = term.this
    text = f" COLLATE {write(collate.expression)}" if isinstance(collate, exp.Collate) else ""
    text += " DESC" if term.args.get("desc") else " ASC"
    nulls_first = term.args.get("nulls_first")
    return text + (" NULLS FIRST" if nulls_first else " NULLS LAST")


def _order_column(pushed: Pushdown, outputs: list[str], term: exp.Expr) -> str:
    relation = pushed.relation
    bare = term.this if isinstance(term, exp.Collate) else term
    place = relation.output_of(bare)
    if place is not None:
        return outputs[place]
    if relation.is_segment(bare):
        return SEGMENT
    if relation.mentions_segment(bare):
        raise NotPushed(f"{SEGMENT} is inside an expression")
    if pushed.distinct:
        raise NotPushed("DISTINCT is ordered by something that is not in the result")
    partial = Partial(f"c{len(outputs) + len(pushed.partials)}", whole(bare))
    pushed.partials.append(partial)
    return partial.name


def describe(pushed: Pushdown) -> None:
    """Fill in collation and affinity of the partial columns, as SQLite reports them."""
    sources = [each.source or each.piece for each in pushed.partials]
    told = pushed.relation.attributes([source.text(_as_it_is) for source in sources])
    for each, (affinity, collation) in zip(pushed.partials, told, strict=True):
        each.affinity, each.collation = affinity, collation


def _as_it_is(node: exp.Expr) -> exp.Expr:
    return node
