"""The normal form of a query: a tree in which SQLite has nothing left to resolve.

* Every column is written ``source.column``; aliases are replaced by what they stand for.
* ``*`` is a list of columns, ``x IN name`` is ``x IN (SELECT ...)``.
* Terms of ORDER BY and GROUP BY that mean an output are :class:`~trough.gather.dialect.Place`.
* Views are written out, down to tables, which are called ``main.name``.
* There are no parentheses: the tree alone defines what belongs together.

The planner looks at nothing else. A normal form is valid only if SQLite compiles it into the same
program as the user's own text, over the union's empty tables. So a wrong guess of this module has
one effect only: the query is shipped instead of divided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from trough.gather.dialect import (
    CURRENT,
    OPERATORS,
    CastAs,
    Clock,
    Place,
    Plus,
    PrefixNot,
    parse,
    write,
)
from trough.gather.from_clause import QUERIES, FromClauses, Tables, is_pragma
from trough.gather.normal_terms import (
    check_no_position,
    integer,
    name_of,
    stripped,
    term_of,
    unwrapped,
)
from trough.gather.scopes import FromItem, Scope, Unresolved, quoted, reference
from trough.gather.sqlite_helpers import folded
from trough.gather.union_database import SEGMENT, UnionDatabase

#: What a normal form is made of.
_KNOWN = frozenset(
    {
        *OPERATORS,
        *(exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Values, exp.Subquery, exp.Exists),
        *(exp.With, exp.CTE, exp.From, exp.Join, exp.Table, exp.TableAlias, exp.Alias, exp.Where),
        *(exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Distinct),
        *(exp.Column, exp.Identifier, exp.Star, exp.Var, exp.Placeholder, exp.Anonymous, exp.Tuple),
        *(
            exp.Literal,
            exp.Null,
            exp.Boolean,
            exp.HexString,
            exp.Case,
            exp.If,
            CastAs,
            Clock,
            Place,
        ),
        *(exp.Neg, exp.BitwiseNot, Plus, PrefixNot, exp.Not, exp.Between, exp.In, exp.Escape),
        *(exp.Filter, exp.Window, exp.WindowSpec),
    }
)


@dataclass(slots=True)
class NormalForm:
    """See the module.

    :ivar tree: a SELECT, a compound, or VALUES
    :ivar loose: a name in the text is an alias or a text because no column is called so; it
        would mean a column that a segment not yet known turns out to have
    :ivar names: of the tables and views that the text names, in lower case
    :ivar has_pragmas: it reads a pragma's rows about a segment's tables
    :ivar left_out: places of columns that ``*`` has in the catalogue alone
    """

    tree: exp.Expr
    loose: bool
    names: frozenset[str]
    left_out: frozenset[int] = frozenset()
    has_pragmas: bool = False

    def without_segment(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The names of the columns, as the catalogue has them, without those left out."""
        return tuple(name for place, name in enumerate(names) if place not in self.left_out)


def normal_form(sql: str, catalogue: UnionDatabase, parameters: Mapping[str, Any]) -> NormalForm:
    """The normal form of `sql`.

    :raises Unresolved: there is none that is proved to mean the same
    """
    tree = parse(sql)
    if tree is None:
        raise Unresolved("its text could not be read as a tree")
    resolver = _Resolver(catalogue)
    tree = unwrapped(tree)
    if not isinstance(tree, QUERIES):
        raise Unresolved("it is not a SELECT")
    resolver.query(tree, {}, None, top=True)
    strange = next((each for each in tree.walk() if type(each) not in _KNOWN), None)
    if strange is not None:
        # Names in it might not have been looked at.
        raise Unresolved(f"{type(strange).__name__} is not known here")
    try:
        text = write(tree)
    except Exception as error:
        # sqlglot's generators raise what they like; a tree without text is no tree.
        raise Unresolved("its tree cannot be written down") from error
    program = catalogue.program(sql, parameters)
    if program is None or catalogue.program(text, parameters) != program:
        raise Unresolved("its tree is not proved to mean the same as its text")
    names = frozenset(resolver.names)
    left_out = _without(tree, resolver.segment_stars)
    return NormalForm(tree, resolver.loose, names, left_out, resolver.has_pragmas)


def with_segment_of_pragmas(sql: str) -> str:
    """`sql` with a column :data:`SEGMENT` in what it reads of pragmas, where it does."""
    tree = parse(sql) if "pragma_" in sql.lower() else None
    for table in list(tree.find_all(exp.Table)) if tree is not None else []:
        function = table.this
        if is_pragma(function.name):
            alias = exp.TableAlias(this=quoted(table.alias or function.name))
            segment = exp.Alias(this=CastAs(this=exp.Null(), to="TEXT"), alias=quoted(SEGMENT))
            from_ = exp.From(this=exp.Table(this=function.copy()))
            query = exp.Select(expressions=[exp.Star(), segment], from_=from_)
            table.replace(exp.Subquery(this=query, alias=alias))
    return sql if tree is None else write(tree)


def _without(tree: exp.Expr, added: list[exp.Expr]) -> frozenset[int]:
    """Take columns out of the outermost SELECT; their places."""
    if not added:
        return frozenset()
    if not isinstance(tree, exp.Select) or any(True for _ in tree.find_all(Place)):
        raise Unresolved(f"what * means beside {SEGMENT}: name the columns")
    left_out = [n for n, item in enumerate(tree.expressions) if any(item is one for one in added)]
    kept = [item for n, item in enumerate(tree.expressions) if n not in left_out]
    tree.set("expressions", kept)
    return frozenset(left_out)


class _Resolver(FromClauses):
    """Brings a tree into its normal form, in place.

    :ivar segment_stars: items that ``*`` has in the catalogue alone
    """

    def __init__(self, catalogue: UnionDatabase) -> None:
        super().__init__(catalogue)
        self.loose = False
        self.segment_stars: list[exp.Expr] = []

    # -- queries -----------------------------------------------------------------------

    def query(
        self, node: exp.Expr, tables: Tables, parent: Scope | None, top: bool = False
    ) -> list[str]:
        """Resolve a SELECT, a compound or VALUES; the names of its columns.

        :param top: its columns need no names
        """
        if isinstance(node, exp.Values):
            return self._values(node, tables, parent)
        tables = self.with_clause(node, tables, parent)
        if isinstance(node, exp.Select):
            names = self._select(node, tables, parent, top)
        elif isinstance(node, exp.SetOperation):
            names = self._compound(node, tables, parent, top)
        else:
            raise Unresolved(f"{type(node).__name__} is not a query of SQLite")
        for clause in ("limit", "offset"):
            part = node.args.get(clause)
            if part is not None:
                self._expressions(part, Scope(parent), tables)
        return names

    def _values(self, node: exp.Values, tables: Tables, parent: Scope | None) -> list[str]:
        for row in node.expressions:
            self._expressions(row, Scope(parent), tables)
        return [f"column{place}" for place in range(1, len(node.expressions[0].expressions) + 1)]

    def _compound(
        self, node: exp.SetOperation, tables: Tables, parent: Scope | None, top: bool
    ) -> list[str]:
        arms = []
        # A compound of many arms leans to the left.
        each: exp.Expr = node
        while isinstance(each, exp.SetOperation):
            if each is not node and any(each.args.get(key) for key in ("with_", "order", "limit")):
                raise Unresolved("a compound inside a compound")
            arms.append(each.expression)
            each = each.this
        arms.append(each)
        arms.reverse()
        aliases: list[list[str]] = []
        for arm in arms:
            if not isinstance(arm, (exp.Select, exp.Values)):
                raise Unresolved("a compound inside a compound")
            aliases.append([folded(item.alias) for item in arm.expressions])
        names = [self.query(arm, tables, parent, top) for arm in arms]
        order = node.args.get("order")
        for term in order.expressions if order is not None else ():
            self._compound_term(term, aliases, names)
        return names[0]

    def _compound_term(
        self, term: exp.Ordered, aliases: list[list[str]], names: list[list[str]]
    ) -> None:
        holder, bare = term_of(term)
        place = integer(bare)
        if place is None and isinstance(bare, exp.Column) and not bare.table:
            wanted = folded(bare.name)
            for told in (*aliases, *([folded(one) for one in each] for each in names)):
                if wanted in told:
                    place = told.index(wanted) + 1
                    break
        if place is None:
            raise Unresolved("a compound is ordered by an expression")
        holder.set("this", Place(this=place))

    # -- one SELECT --------------------------------------------------------------------

    def _select(
        self, node: exp.Select, tables: Tables, parent: Scope | None, top: bool
    ) -> list[str]:
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is not None:
            raise Unresolved("DISTINCT ON is not SQLite's")
        scope = Scope(parent)
        self.from_clause(node, scope, tables)
        names = self._items(node, scope, tables, top)
        scope.sees_aliases = True
        self._join_conditions(node, scope, tables)
        for clause in ("where", "having"):
            part = node.args.get(clause)
            if part is not None:
                self._expressions(part, scope, tables)
        for window in node.args.get("windows") or ():
            self._expressions(window, scope, tables)
        self._group(node, scope, tables)
        self._order(node, scope, tables)
        return names

    def _items(self, node: exp.Select, scope: Scope, tables: Tables, top: bool) -> list[str]:
        items: list[tuple[str, exp.Expr]] = []
        for item in node.expressions:
            listed = self._listed(item, scope, top)
            if listed:
                items += listed
                continue
            bare = item.this if isinstance(item, exp.Alias) else item
            items.append((name_of(item), self._resolved(bare, scope, tables)))
            if isinstance(item, exp.Alias):
                # Of two that are called alike, the first counts.
                scope.aliases.setdefault(folded(item.alias), items[-1][1])
                scope.places.setdefault(folded(item.alias), len(items))
        names: list[str] = []
        for place, (name, _) in enumerate(items, 1):
            known = folded(name) in map(folded, names)
            names.append(f"trough column {place}" if known or not name else name)
        if not top:
            items = [
                (name, exp.Alias(this=bare.copy(), alias=quoted(name)))
                for name, (_, bare) in zip(names, items, strict=True)
            ]
        node.set("expressions", [item for _, item in items])
        return names

    def _listed(self, item: exp.Expr, scope: Scope, top: bool) -> list[tuple[str, exp.Expr]]:
        """Names and columns that a star means; empty where `item` is none."""
        if isinstance(item, exp.Star):
            sources, every = scope.sources, True
        elif isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
            sources = [each for each in scope.sources if each.called == folded(item.table)]
            every = False
        else:
            return []
        if any(item.args.get(key) for key in ("except_", "replace", "rename")):
            raise Unresolved("this * is not SQLite's")
        found: list[tuple[str, exp.Expr]] = []
        for source in sources:
            for name in source.listed:
                if every and folded(name) in source.hidden:
                    continue
                column = self._starred(source, name, scope, every)
                found.append((name, column))
                if self._is_added(source, name):
                    if not top:
                        raise Unresolved(f"what * means beside {SEGMENT}: name the columns")
                    self.segment_stars.append(column)
        if not found:
            raise Unresolved("* of a source that is not known")
        return found

    def _starred(self, source: FromItem, name: str, scope: Scope, every: bool) -> exp.Expr:
        """A column that ``*`` or ``source.*`` lists. Of what joins have in common it is the
        common one; to the left of a RIGHT or FULL join in ``source.*``, too."""
        later = scope.sources[scope.sources.index(source) + 1 :]
        common = any(
            folded(name) in each.hidden and (every or each.side in ("RIGHT", "FULL"))
            for each in later
        )
        column = scope.column(folded(name)) if common else None
        return column or reference(source, name)

    def _is_added(self, source: FromItem, name: str) -> bool:
        """Whether a column is the one that the catalogue has and no segment."""
        if not self.catalogue.with_segment or folded(name) != SEGMENT or not source.table:
            return False
        return SEGMENT not in self.catalogue.schema.tables[source.table].column_names

    def _group(self, node: exp.Select, scope: Scope, tables: Tables) -> None:
        group = node.args.get("group")
        if group is None:
            return
        if any(value for key, value in group.args.items() if key != "expressions"):
            raise Unresolved("this GROUP BY is not SQLite's")
        terms = [self._group_term(term, scope, tables) for term in group.expressions]
        group.set("expressions", terms)

    def _group_term(self, term: exp.Expr, scope: Scope, tables: Tables) -> exp.Expr:
        holder = exp.Tuple(expressions=[stripped(term)])
        bare = holder.expressions[0]
        while isinstance(bare, exp.Collate):
            bare.set("this", stripped(bare.this))
            bare = bare.this
        place = integer(bare)
        if place is None and isinstance(bare, exp.Column) and not bare.table:
            name = folded(bare.name)
            if scope.column(name) is None and name in scope.aliases:
                self.loose = True
                place = scope.places[name]
        if place is None:
            check_no_position(bare)
            return self._resolved(term, scope, tables)
        bare.replace(Place(this=place))
        return holder.expressions[0]

    def _order(self, node: exp.Select, scope: Scope, tables: Tables) -> None:
        order = node.args.get("order")
        for term in order.expressions if order is not None else ():
            holder, bare = term_of(term)
            place = integer(bare)
            if place is None and isinstance(bare, exp.Column) and not bare.table:
                # Here an alias goes before a column.
                place = scope.places.get(folded(bare.name))
            if place is not None:
                holder.set("this", Place(this=place))
            else:
                check_no_position(bare)
                self._expressions(term, scope, tables)

    def _join_conditions(self, node: exp.Select, scope: Scope, tables: Tables) -> None:
        from_ = node.args.get("from_")
        sources = [from_.this] if from_ is not None else []
        for join in node.args.get("joins") or ():
            sources.append(join.this)
            on = join.args.get("on")
            if on is not None:
                join.set("on", self._resolved(on, scope, tables))
        for source in sources:
            if isinstance(source, exp.Table) and isinstance(source.this, exp.Anonymous):
                self._expressions(source.this, scope, tables)

    # -- expressions -------------------------------------------------------------------

    def _resolved(self, node: exp.Expr, scope: Scope, tables: Tables) -> exp.Expr:
        """What stands for one expression."""
        holder = exp.Tuple(expressions=[node])
        self._expressions(holder, scope, tables)
        return holder.expressions[0]

    def _expressions(self, node: exp.Expr, scope: Scope, tables: Tables) -> None:
        """Resolve everything below `node`, without recursion: sums may be long."""
        waiting = [node]
        while waiting:
            each = waiting.pop()
            for child in list(each.iter_expressions()):
                bare = stripped(child)
                if bare is not child:
                    child.replace(bare)
                if isinstance(bare, exp.Column):
                    bare.replace(self._column(bare, scope))
                elif isinstance(bare, exp.Boolean):
                    bare.replace(self._truth(bare, scope))
                elif isinstance(bare, exp.In):
                    self._in(bare, scope, tables)
                    waiting.append(bare)
                elif isinstance(bare, QUERIES):
                    self.query(bare, tables, scope)
                elif not isinstance(bare, exp.Identifier):
                    self._check_aggregate(bare, scope)
                    waiting.append(bare)

    def _column(self, column: exp.Column, scope: Scope) -> exp.Expr:
        identifier = column.this
        if isinstance(identifier, exp.Star):
            raise Unresolved("a star inside an expression")
        if column.args.get("catalog") or (column.db and folded(column.db) != "main"):
            raise Unresolved(f"the name {column.sql()}")
        bare = not column.table
        if bare and not identifier.quoted and column.name.lower() in CURRENT:
            return Clock(this=column.name)
        found = scope.find(column)
        if found is not None:
            self.loose |= found.is_alias or found.is_rowid or found.scope is not scope
            return found.node
        if bare and identifier.quoted:
            self.loose = True
            return exp.Literal.string(column.name)
        raise Unresolved(f"{column.sql()} is not the name of a column")

    def _truth(self, node: exp.Boolean, scope: Scope) -> exp.Expr:
        """TRUE and FALSE are columns where one is called so."""
        name = exp.Column(this=exp.Identifier(this="true" if node.this else "false"))
        found = scope.find(name)
        self.loose = True
        return node.copy() if found is None else found.node

    def _in(self, node: exp.In, scope: Scope, tables: Tables) -> None:
        field_ = node.args.get("field")
        values = node.expressions
        if field_ is None and len(values) == 1 and isinstance(values[0], QUERIES):
            # IN (VALUES ...)
            node.set("expressions", None)
            node.set("query", exp.Subquery(this=values[0]))
            return
        if field_ is None:
            return
        if isinstance(field_, exp.Column):
            source = exp.Table(this=field_.this.copy(), db=field_.args.get("table"))
        elif isinstance(field_, exp.Anonymous):
            source = exp.Table(this=field_.copy())
        else:
            raise Unresolved("IN something that is not a table")
        query = exp.Select(expressions=[exp.Star()], from_=exp.From(this=source))
        node.set("field", None)
        node.set("query", exp.Subquery(this=query))

    def _check_aggregate(self, node: exp.Expr, scope: Scope) -> None:
        """Refuse an aggregate in a subquery that is one of the SELECT around it."""
        if scope.parent is None or not isinstance(node, exp.Anonymous):
            return
        if node.name.lower() not in self.catalogue.aggregates:
            return
        # FILTER counts as much as the arguments.
        call = node.parent if isinstance(node.parent, exp.Filter) else node
        columns = [
            each for each in call.find_all(exp.Column) if not isinstance(each.this, exp.Star)
        ]
        found = [each for each in map(scope.find, columns) if each is not None]
        if found and not any(each.scope is scope for each in found):
            raise Unresolved("an aggregate in a subquery that belongs to the SELECT around it")
