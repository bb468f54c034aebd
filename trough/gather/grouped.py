"""GROUP BY, HAVING and aggregates, divided between the segments and the asker.

The segments group; the final SELECT groups their groups. In the final SELECT a group's term is a
partial column, and :mod:`trough.gather.aggregates` replaces an aggregate. Any other column is one
more partial column. SQLite takes the same value of it as without division: from the row with the
one min or max, else from any row of the group.
"""

from __future__ import annotations

from sqlglot import exp

from trough.gather import sqlite_helpers
from trough.gather.aggregates import Divider, aggregate_name, read_call
from trough.gather.analysis import NotPushed, Relation, without_affinity
from trough.gather.dialect import CastAs, Part, Place, Plus, gives_json, takes_json, write
from trough.gather.from_clause import QUERIES
from trough.gather.pushdown import (
    PARTIAL,
    Partial,
    Pushdown,
    describe,
    limit_clause,
    limits,
    suffix_of,
    whole,
)
from trough.gather.union_database import SEGMENT


def is_grouped(relation: Relation) -> bool:
    """Whether the query groups or aggregates its rows."""
    tree = relation.tree
    if tree.args.get("group") is not None or tree.args.get("having") is not None:
        return True
    order = tree.args.get("order")
    places = [*tree.expressions, *(order.expressions if order is not None else ())]
    return any(_aggregates_in(relation, place) for place in places)


def _aggregates_in(relation: Relation, node: exp.Expr) -> bool:
    found = node.walk(prune=lambda each: isinstance(each, QUERIES))
    return any(aggregate_name(relation, each) is not None for each in found)


def grouped(relation: Relation, table: str = PARTIAL) -> Pushdown:
    """Divide a query that groups or aggregates.

    :raises NotPushed: it cannot be divided
    """
    return _Grouping(relation, table).pushed


class _Grouping:
    """The work of :func:`grouped`, step by step."""

    def __init__(self, relation: Relation, table: str) -> None:
        self.relation = relation
        self.pushed = Pushdown(relation, tuple(relation.names), "merge", table, aggregated=True)
        self._divider = Divider(self.pushed, lambda: SEGMENT)
        self._keys: dict[str, str] = {}
        self._bare: dict[str, Partial] = {}
        self._nested: set[str] = set()
        self._group = [self._key(term) for term in self._group_terms()]
        # All that the exact form needs has to be known before anything is described.
        self._final(exact=True)
        self._final(exact=False)
        self._check_bare_columns()
        describe(self.pushed)
        self._type_nested_columns()
        self.pushed.final = self._final(exact=False)
        self.pushed.exact_final = self._final(exact=True) if self.pushed.checked else ""
        self._choose_first_form()

    # -- groups ----------------------------------------------------------------------

    def _group_terms(self) -> list[exp.Expr]:
        group = self.relation.tree.args.get("group")
        if group is None:
            return []
        return [self._group_term(term) for term in group.expressions]

    def _group_term(self, term: exp.Expr) -> exp.Expr:
        bare = term.this if isinstance(term, exp.Collate) else term
        if not isinstance(bare, Place):
            return term
        meant = self.relation.items[bare.number - 1].copy()
        return meant if bare is term else exp.Collate(this=meant, expression=term.expression)

    def _key(self, term: exp.Expr) -> str:
        if self.relation.is_segment(term):
            name = SEGMENT
        elif self.relation.mentions_segment(term):
            raise NotPushed(f"{SEGMENT} is inside an expression")
        else:
            partial = Partial(f"c{len(self.pushed.partials)}", whole(term), grouped=True)
            self.pushed.partials.append(partial)
            name = partial.name
        self._keys.setdefault(self.relation.normal(term), name)
        return name

    # -- the final SELECT --------------------------------------------------------------

    def _final(self, exact: bool) -> str:
        tree = self.relation.tree
        items = [self._text(item, exact) for item in self.relation.items]
        distinct = "DISTINCT " if tree.args.get("distinct") is not None else ""
        text = f"SELECT {distinct}{', '.join(items)} FROM {sqlite_helpers.name(self.pushed.table)}"
        if self._group:
            text += f" GROUP BY {', '.join(self._group)}"
        having = tree.args.get("having")
        if having is not None:
            text += f" HAVING {self._text(having.this, exact)}"
        order = tree.args.get("order")
        if order is not None:
            text += " ORDER BY " + ", ".join(self._term(each, exact) for each in order.expressions)
        return text + limit_clause(*limits(self.relation))

    def _term(self, term: exp.Expr, exact: bool) -> str:
        bare = term.this.this if isinstance(term.this, exp.Collate) else term.this
        place = self.relation.output_of(bare)
        if place is not None:
            return f"{place + 1}{suffix_of(term)}"
        text = self._text(bare, exact)
        return f"({text}){suffix_of(term)}"

    def _text(self, node: exp.Expr, exact: bool) -> str:
        # The copy is changed; the node itself keeps the texts by which it is known.
        holder = exp.Tuple(expressions=[node.copy()])
        self.relation.normal(node)
        waiting = [(node, holder.expressions[0], False)]
        while waiting:
            each, copy, in_json = waiting.pop()
            divided = self._divided(each, exact, top=each is node)
            if divided is None:
                inside = in_json or takes_json(each)
                pairs = zip(each.iter_expressions(), copy.iter_expressions(), strict=True)
                waiting += reversed([(one, other, inside) for one, other in pairs])
            elif in_json and self._may_be_json(each):
                # To SQLite it is more than the text that a segment sends.
                raise NotPushed("JSON that comes out of a group becomes part of other JSON")
            else:
                copy.replace(divided)
        return write(holder.expressions[0])

    def _may_be_json(self, node: exp.Expr) -> bool:
        call = read_call(self.relation, node)
        if call is not None and call.function not in ("min", "max"):
            return False
        columns = not self.relation.base_tables_only and node.find(exp.Column) is not None
        return columns or gives_json(node)

    def _divided(self, node: exp.Expr, exact: bool, top: bool) -> exp.Expr | None:
        """What stands for `node`, or None where its parts have to be looked at."""
        if isinstance(node, exp.Literal):
            return node.copy()
        if isinstance(node, exp.Subquery) and isinstance(node.this, Part):
            return node.copy()
        key = self._keys.get(self.relation.normal(node))
        if key is not None:
            return self._column(key, top)
        call = read_call(self.relation, node)
        if call is not None:
            return exp.Column(this=exp.Identifier(this=self._divider.final(call, exact)))
        if isinstance(node, exp.Window):
            raise NotPushed("a window function needs all rows at once")
        if isinstance(node, exp.Column):
            return self._column(self._bare_column(node), top)
        if isinstance(node, (exp.Subquery, exp.Exists, *QUERIES)) or node.args.get("query"):
            raise NotPushed("a subquery beside aggregates")
        return None

    def _column(self, name: str, top: bool) -> exp.Expr:
        column = exp.column(name)
        if name == SEGMENT or top:
            return column
        self._nested.add(name)
        partial = next(each for each in self.pushed.partials if each.name == name)
        return _as_compared(partial.meant, column, partial.typed)

    def _bare_column(self, node: exp.Column) -> str:
        if self.relation.is_segment(node):
            return SEGMENT
        key = self.relation.normal(node)
        if key not in self._bare:
            partial = Partial(f"c{len(self.pushed.partials)}", whole(node.copy()))
            self.pushed.partials.append(partial)
            self._bare[key] = partial
        return self._bare[key].name

    # -- after all columns are known ----------------------------------------------------

    def _check_bare_columns(self) -> None:
        if not self._bare:
            return
        if not self._group and not self.relation.base_tables_only and not self.relation.within:
            # Of no rows SQLite may give the value of a constant, where it has put that in.
            raise NotPushed("a column of a subquery beside aggregates, which may have no rows")
        if len(self._divider.extremes) > 1 or self._divider.filtered_extreme:
            raise NotPushed("a column beside several min or max comes from any of their rows")

    def _type_nested_columns(self) -> None:
        """Give an affinity to columns that are compared, as it decides how."""
        for partial in self.pushed.partials:
            if partial.name not in self._nested or not partial.affinity:
                continue
            if not self.relation.base_tables_only:
                raise NotPushed("how a subquery's column compares: put a CAST around it")
            partial.give_type()

    def _choose_first_form(self) -> None:
        """Ask in the exact form at once where a sum's argument is of type REAL."""
        checked = [each for each in self.pushed.partials if each.name in self.pushed.checked]
        arguments = [write(each.meant) for each in checked]
        told = self.relation.attributes(arguments)
        self.pushed.starts_exact = any(affinity == "REAL" for affinity, _ in told)


def _as_compared(meant: exp.Expr, column: exp.Expr, typed: bool) -> exp.Expr:
    """A partial column with the affinity and collation that `meant` has in a comparison.

    A column brings a collation into a comparison, and an expression brings none, which is
    not the same as BINARY: then the other side's counts.
    """
    if isinstance(meant, exp.Collate):
        inner = _as_compared(meant.this, column, typed)
        return exp.Collate(this=inner, expression=meant.expression.copy())
    if _is_column_like(meant):
        return column if typed else without_affinity(column)
    if meant.find(exp.Collate) is not None:
        raise NotPushed("an expression with COLLATE inside is compared")
    bare = exp.Anonymous(this="coalesce", expressions=[column, exp.Null()])
    # Casting a value again to what it is changes nothing but how it compares.
    return CastAs(this=bare, to=meant.args["to"]) if isinstance(meant, CastAs) else bare


def _is_column_like(node: exp.Expr) -> bool:
    if isinstance(node, (Plus, CastAs)):
        return _is_column_like(node.this)
    return isinstance(node, exp.Column)
