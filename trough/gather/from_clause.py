"""WITH and FROM on the way to the normal form: what each source is, and its columns.

A name in FROM is a table of a WITH around it, else a table or a view of the union, else a
function such as ``json_each``. Views are written out here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlglot import exp

from trough.gather.dialect import parse
from trough.gather.normal_terms import rename, unwrapped
from trough.gather.scopes import FromItem, Scope, Unresolved, quoted
from trough.gather.sqlite_helpers import DESCRIBING, folded
from trough.gather.union_database import SEGMENT, UnionDatabase
from trough.gather.views import body_of

QUERIES = (exp.Select, exp.SetOperation, exp.Values)


def is_pragma(function: str) -> bool:
    """Whether a function in FROM is a pragma that describes a segment's tables."""
    return folded(function).removeprefix("pragma_") in DESCRIBING


#: Views that one text may come to, each mention counted: views of views could double each time.
_MOST_VIEWS = 200

#: WITH tables that are in sight, by name in lower case.
Tables = dict[str, "WithTable"]


@dataclass(slots=True)
class WithTable:
    """A table of WITH, which is resolved when it is first read.

    :ivar columns: its names, once known
    """

    node: exp.CTE
    name: str
    parent: Scope | None
    tables: Tables = field(default_factory=dict)
    columns: list[str] | None = None
    begun: bool = False


class FromClauses:
    """The part of the resolver that knows sources.

    :ivar names: of the tables and views that the text names, in lower case
    :ivar has_pragmas: it reads a pragma's rows about a segment's tables
    """

    def __init__(self, catalogue: UnionDatabase) -> None:
        self.catalogue = catalogue
        self.names: set[str] = set()
        self.has_pragmas = False
        self._views = 0
        self._with_tables = 0

    def query(
        self, node: exp.Expr, tables: Tables, parent: Scope | None, top: bool = False
    ) -> list[str]:
        """Resolve a query; the names of its columns."""
        raise NotImplementedError

    # -- WITH --------------------------------------------------------------------------

    def with_clause(self, node: exp.Expr, tables: Tables, parent: Scope | None) -> Tables:
        """The tables in sight of a query, those of its own WITH included."""
        with_ = node.args.get("with_")
        if with_ is None:
            return tables
        tables = dict(tables)
        mine = []
        for cte in with_.expressions:
            # A name of its own, so that no table of an inner WITH hides it.
            self._with_tables += 1
            name = f"{cte.alias}:{self._with_tables}"
            table = WithTable(cte, name, parent)
            tables[folded(cte.alias)] = table
            mine.append(table)
        for table in mine:
            table.tables = tables
        for table in mine:
            self._columns_of_with(table)
        return tables

    def _columns_of_with(self, table: WithTable) -> list[str]:
        if table.columns is not None:
            return table.columns
        listed = [each.name for each in table.node.args["alias"].columns]
        if table.begun:
            if not listed:
                raise Unresolved("a recursive WITH table without a list of columns")
            return listed
        table.begun = True
        body = unwrapped(table.node.this)
        table.node.set("this", body)
        names = self.query(body, table.tables, table.parent)
        table.columns = listed or names
        columns = [quoted(name) for name in table.columns]
        table.node.set("alias", exp.TableAlias(this=quoted(table.name), columns=columns))
        return table.columns

    # -- FROM --------------------------------------------------------------------------

    def from_clause(self, node: exp.Select, scope: Scope, tables: Tables) -> None:
        """Resolve the sources of a SELECT into its scope."""
        from_ = node.args.get("from_")
        if from_ is None:
            return
        _open_parentheses(node)
        from_.set("this", self._source(from_.this, scope, tables))
        for join in node.args.get("joins") or ():
            join.set("this", self._source(_bare(join.this), scope, tables))
            self._merge(join, scope)

    def _source(self, node: exp.Expr, scope: Scope, tables: Tables) -> exp.Expr:
        if node.args.get("joins") or node.args.get("pivots") or node.args.get("sample"):
            raise Unresolved("a join in parentheses")
        if isinstance(node, exp.Subquery):
            query = unwrapped(node)
            if isinstance(query, exp.Table):
                raise Unresolved("a join in parentheses is no query: write (SELECT ... FROM ...)")
            return self._derived(node, query, node.alias, scope, tables)
        if isinstance(node, exp.Values):
            alias = node.alias
            node.set("alias", None)
            return self._derived(node, node, alias, scope, tables)
        if not isinstance(node, exp.Table):
            raise Unresolved(f"{type(node).__name__} in FROM")
        if isinstance(node.this, exp.Anonymous):
            return self._function(node, scope)
        return self._named(node, scope, tables)

    def _derived(
        self, node: exp.Expr, query: exp.Expr, alias: str, scope: Scope, tables: Tables
    ) -> exp.Expr:
        names = self.query(query, tables, scope.parent)
        columns = {folded(name): name for name in reversed(names)}
        return self._aliased(exp.Subquery(this=query), alias, columns, names, scope)

    def _named(self, node: exp.Table, scope: Scope, tables: Tables) -> exp.Expr:
        name, key = node.name, folded(node.name)
        alias = node.alias or name
        if node.args.get("indexed") is not None:
            raise Unresolved("INDEXED BY names an index, which the union has none of")
        if not node.db and key in tables:
            table = tables[key]
            names = self._columns_of_with(table)
            columns = {folded(each): each for each in reversed(names)}
            return self._aliased(exp.Table(this=quoted(table.name)), alias, columns, names, scope)
        if node.db and folded(node.db) != "main":
            raise Unresolved(f"a database called {node.db}")
        known = self.catalogue.schema.tables.get(key)
        if known is None:
            return self._function(node, scope)
        self.names.add(key)
        if known.is_view:
            return self._view(known.name, known.sql, alias, scope)
        listed = [column.name for column in known.columns]
        if self.catalogue.with_segment and SEGMENT not in known.column_names:
            listed.append(SEGMENT)
        made = exp.Table(this=quoted(known.name), db=quoted("main"))
        named = [*listed, *(column.name for column in known.hidden)]
        columns = {folded(each): each for each in named}
        self._aliased(made, alias, columns, listed, scope)
        scope.sources[-1].table = key
        scope.sources[-1].has_rowid = True
        return made

    def _view(self, name: str, sql: str, alias: str, scope: Scope) -> exp.Expr:
        self._views += 1
        if self._views > _MOST_VIEWS:
            raise Unresolved("it reads too many views")
        listed, text = body_of(sql)
        query = parse(text)
        if query is None:
            raise Unresolved(f"the view {name} could not be read as a tree")
        query = unwrapped(query)
        # A view sees no table of WITH that is around it.
        names = self.query(query, {}, None)
        if listed:
            rename(query, listed)
            names = listed
        columns = {folded(each): each for each in reversed(names)}
        return self._aliased(exp.Subquery(this=query), alias, columns, names, scope)

    def _function(self, node: exp.Table, scope: Scope) -> exp.Expr:
        function = node.this.name if isinstance(node.this, exp.Anonymous) else node.name
        if folded(function) in self.catalogue.schema.tables:
            raise Unresolved(f"{function} is no function: {function} MATCH '...' in WHERE searches")
        described = self.catalogue.columns_of_function(function)
        if described is None:
            raise Unresolved(f"{function} is not a table of the union")
        self.has_pragmas |= is_pragma(function)
        columns = {folded(name): name for name, _ in described}
        listed = [name for name, hidden in described if not hidden]
        alias = node.alias or function
        node.set("alias", None)
        made = self._aliased(node, alias, columns, listed, scope)
        scope.sources[-1].has_rowid = True
        return made

    def _aliased(
        self,
        node: exp.Expr,
        alias: str,
        columns: dict[str, str],
        listed: list[str],
        scope: Scope,
    ) -> exp.Expr:
        name = scope.free_name(alias or "trough source")
        node.set("alias", exp.TableAlias(this=quoted(name)))
        scope.sources.append(FromItem(name, folded(alias), columns, listed))
        return node

    def _merge(self, join: exp.Join, scope: Scope) -> None:
        """USING and NATURAL: a name without a table means the column of the first source."""
        source = scope.sources[-1]
        shared = [folded(each.name) for each in join.args.get("using") or ()]
        if join.method == "NATURAL":
            before = {key for each in scope.sources[:-1] for key in each.columns}
            shared = [folded(name) for name in source.listed if folded(name) in before]
        source.hidden.update(shared)
        source.side = join.side


def _open_parentheses(select: exp.Select) -> None:
    """Write a join in parentheses, with which FROM begins, without these: joins lean to the left.

    SQLite does so, too. A join in parentheses on the right is a query to it.
    """
    from_ = select.args["from_"]
    first, joins = from_.this, list(select.args.get("joins") or ())
    while _is_join(first):
        first = first.this
        joins = [*(first.args.get("joins") or ()), *joins]
        first.set("joins", None)
    from_.set("this", first)
    select.set("joins", joins or None)


def _is_join(node: exp.Expr) -> bool:
    """Whether it is parentheses around sources, and no query."""
    inner = node.this
    return (
        isinstance(node, exp.Subquery)
        and not node.alias
        and isinstance(inner, (exp.Table, exp.Subquery))
        and not (inner.alias and inner.args.get("joins") and isinstance(inner, exp.Subquery))
    )


def _bare(node: exp.Expr) -> exp.Expr:
    """A table in parentheses, without these."""
    while _is_join(node) and not node.args.get("joins") and not node.this.args.get("joins"):
        node = node.this
    return node
