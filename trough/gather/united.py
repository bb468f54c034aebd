"""Rows of all segments brought together behind FROM and WHERE, and the rest done at the end.

This is for ``WITHIN SEGMENTS``, where FROM and WHERE see one segment and all else sees all rows. It
handles queries that cannot be divided further, such as window functions and group_concat. A segment
sends the columns that the rest of the query reads, and the results of its subqueries, row by row.
"""

from __future__ import annotations

from sqlglot import exp

from trough.gather.analysis import NotPushed, Relation, conjuncts
from trough.gather.dialect import gives_json, takes_json, write
from trough.gather.from_clause import QUERIES
from trough.gather.nondeterminism import is_moving
from trough.gather.pushdown import PARTIAL, Partial, Pushdown, describe, whole
from trough.gather.union_database import SEGMENT

#: Clauses that are done with the rows of all segments.
_AT_THE_END = ("distinct", "group", "having", "windows", "order", "limit", "offset")

_COMPARING = (
    *(exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ),
    *(exp.Between, exp.In, exp.Case, exp.If, exp.Tuple, exp.Collate),
)


def united(relation: Relation, table: str = PARTIAL) -> Pushdown:
    """Divide a query so that segments do no more than FROM and WHERE.

    :raises NotPushed: it needs in one segment what only all of them have
    """
    return _Uniting(relation, table).pushed


class _Uniting:
    """The work of :func:`united`."""

    def __init__(self, relation: Relation, table: str) -> None:
        self.relation = relation
        self.pushed = Pushdown(relation, relation.names, "merge", table)
        self._names: dict[str, str] = {}
        # Partial columns that are compared, and by what they have to be known for that.
        self._compared: set[str] = set()
        tree = relation.tree
        body = exp.Select(expressions=[item.copy() for item in tree.expressions])
        for clause in _AT_THE_END:
            part = tree.args.get(clause)
            if isinstance(part, list):
                body.set(clause, [each.copy() for each in part])
            elif part is not None:
                body.set(clause, part.copy())
        self._take_mixed_conditions(body)
        self._check_source()
        final = self._replaced(body)
        describe(self.pushed)
        self._type_columns()
        final.set("from_", exp.From(this=exp.Table(this=exp.to_identifier(table, quoted=True))))
        self.pushed.final = write(final)

    def _take_mixed_conditions(self, body: exp.Select) -> None:
        """Leave to the end what WHERE asks of the segment's name and of columns at once."""
        where = self.relation.tree.args.get("where")
        parts = conjuncts(where.this) if where is not None else []
        mixed = [part for part in parts if self.relation.mentions_segment(part)]
        if mixed:
            rest = [part.copy() for part in parts if part not in mixed]
            condition = exp.Where(this=exp.and_(*rest, wrap=False)) if rest else None
            self.relation.tree.set("where", condition)
            body.set(
                "where", exp.Where(this=exp.and_(*(part.copy() for part in mixed), wrap=False))
            )

    def _check_source(self) -> None:
        args = self.relation.tree.args
        places = [
            args.get("with_"),
            args.get("from_"),
            args.get("where"),
            *(args.get("joins") or ()),
        ]
        for place in places:
            if place is not None and self.relation.mentions_segment(place):
                raise NotPushed(
                    f"{SEGMENT} is compared inside a join or a subquery: a join within segments "
                    "has no need of it, and WHERE outside may ask for it"
                )
            if place is not None and is_moving(place, self.relation.parameters):
                raise NotPushed("WHERE or a subquery depends on chance, or on a worker's time zone")

    def _replaced(self, body: exp.Select) -> exp.Expr:
        """The rest of the query over partial columns."""
        self.relation.normal(body)
        copy = body.copy()
        waiting: list[tuple[exp.Expr, exp.Expr, bool]] = [(body, copy, False)]
        while waiting:
            each, other, in_json = waiting.pop()
            if each is not body and (isinstance(each, exp.Column) or _has_query(each)):
                other.replace(self._column(each, in_json))
                continue
            inside = in_json or takes_json(each)
            pairs = zip(each.iter_expressions(), other.iter_expressions(), strict=True)
            waiting += reversed([(one, two, inside) for one, two in pairs])
        return copy

    def _column(self, node: exp.Expr, in_json: bool) -> exp.Expr:
        if self.relation.is_segment(node):
            self._check_never_null(node)
            return exp.column(SEGMENT)
        if self.relation.mentions_segment(node):
            raise NotPushed(f"{SEGMENT} is inside a subquery: ask for it outside")
        if is_moving(node, self.relation.parameters):
            raise NotPushed("a subquery depends on chance, or on a worker's time zone")
        base = isinstance(node, exp.Column) and node.table in self.relation.base_sources
        if in_json and not base and (isinstance(node, exp.Column) or gives_json(node)):
            raise NotPushed("JSON that comes out of a segment becomes part of other JSON")
        key = self.relation.normal(node)
        if key not in self._names:
            self._names[key] = f"c{len(self.pushed.partials)}"
            self.pushed.partials.append(Partial(self._names[key], whole(node.copy())))
        name = self._names[key]
        if isinstance(node.parent, _COMPARING) and not base:
            self._compared.add(name)
        column = exp.column(name)
        if isinstance(node, exp.Column):
            return column
        # The result of a subquery brings no collation into a comparison, as a column would.
        return exp.Anonymous(this="coalesce", expressions=[column, exp.Null()])

    def _check_never_null(self, node: exp.Expr) -> None:
        source = node.text("table")
        if source in self.relation.nullable_sources:
            raise NotPushed(
                f"{source}.{SEGMENT} is NULL in rows that an outer join adds: "
                "take that of the other table"
            )

    def _type_columns(self) -> None:
        """Give columns of tables their affinity, as it decides how they compare."""
        for partial in self.pushed.partials:
            node = partial.meant
            if isinstance(node, exp.Column) and node.table in self.relation.base_sources:
                partial.typed = True
            elif partial.affinity and partial.name in self._compared:
                raise NotPushed("how a subquery's column compares: put a CAST around it")


def _has_query(node: exp.Expr) -> bool:
    """Whether `node` is what a subquery is written in: all of it is one segment's."""
    if isinstance(node, exp.In):
        return node.args.get("query") is not None
    return isinstance(node, (exp.Subquery, exp.Exists, *QUERIES))
