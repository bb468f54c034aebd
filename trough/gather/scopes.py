"""What names mean in one SELECT: its sources, their columns, the aliases of its items.

SQLite looks for a name from the inside out: first among the columns of FROM, then among the
aliases of the items (not in the items themselves), then in the SELECT around it. A name in
double quotes that is found nowhere is a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from trough.gather.sqlite_helpers import folded

ROWIDS = ("rowid", "oid", "_rowid_")


class Unresolved(Exception):
    """Why the normal form of a text is not known."""


@dataclass(slots=True)
class FromItem:
    """A term of FROM.

    :ivar name: by which the normal form calls it; no other source has the same
    :ivar called: by which the text calls it, in lower case
    :ivar columns: the name in the normal form of each column, by its name in lower case
    :ivar listed: names in the normal form of the columns that ``*`` means
    :ivar table: the table of the union that it is, in lower case, or empty
    :ivar hidden: columns that USING or NATURAL have in common with an earlier source
    :ivar side: of the join that has these in common: empty, LEFT, RIGHT or FULL
    :ivar has_rowid: whether SQLite finds a rowid in it
    """

    name: str
    called: str
    columns: dict[str, str]
    listed: list[str]
    table: str = ""
    hidden: set[str] = field(default_factory=set)
    side: str = ""
    has_rowid: bool = False


@dataclass(slots=True)
class Found:
    """What a name means.

    :ivar node: what stands for it in the normal form
    :ivar scope: where it was found
    :ivar is_alias: as the name of an item
    """

    node: exp.Expr
    scope: Scope
    is_alias: bool = False

    @property
    def is_rowid(self) -> bool:
        """Whether it is a rowid, or a column that is called like one."""
        return isinstance(self.node, exp.Column) and folded(self.node.name) in ROWIDS


class Scope:
    """One SELECT, while its names are resolved.

    :param parent: the SELECT around it
    :ivar aliases: what the items' names stand for, by name in lower case; the first of two
    :ivar places: from 1, of the items of these names
    :ivar sees_aliases: whether these are looked at: not while the items are resolved
    """

    def __init__(self, parent: Scope | None) -> None:
        self.parent = parent
        self.sources: list[FromItem] = []
        self.aliases: dict[str, exp.Expr] = {}
        self.places: dict[str, int] = {}
        self.sees_aliases = False

    def around(self) -> Iterator[Scope]:
        """This one and those around it, from the inside out."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def free_name(self, wanted: str) -> str:
        """A name for a source that no source here or around has."""
        taken = {folded(source.name) for scope in self.around() for source in scope.sources}
        name, number = wanted, 1
        while folded(name) in taken:
            number += 1
            name = f"{wanted}:{number}"
        return name

    def find(self, column: exp.Column) -> Found | None:
        """What `column` means, or None where nothing is called so.

        :raises Unresolved: it might mean several things
        """
        name, table = folded(column.name), folded(column.table)
        for scope in self.around():
            node = scope.column(name, table)
            if node is not None:
                return Found(node, scope)
            if not table and scope.sees_aliases and name in scope.aliases:
                return Found(scope.aliases[name].copy(), scope, True)
        return None

    def column(self, name: str, table: str = "") -> exp.Expr | None:
        """The column of this SELECT's own sources that is called so."""
        mine = [each for each in self.sources if not table or each.called == table]
        found = [each for each in mine if name in each.columns]
        if len(found) > 1 and not table:
            return self._common(name, found)
        if len(found) > 1:
            raise Unresolved(f"{name} is the name of several columns")
        if found:
            return reference(found[0], found[0].columns[name])
        with_rowid = [each for each in mine if each.has_rowid]
        if name in ROWIDS and len(with_rowid) == 1:
            return reference(with_rowid[0], name)
        return None

    def _common(self, name: str, found: list[FromItem]) -> exp.Expr:
        """A column that joins have in common: that of the first source, unless a later one has
        rows without a partner."""
        kept = found[:1]
        for each in found[1:]:
            if name not in each.hidden:
                raise Unresolved(f"{name} is the name of several columns")
            if each.side == "RIGHT":
                kept = [each]
            elif each.side == "FULL":
                kept.append(each)
        columns = [reference(each, each.columns[name]) for each in kept]
        return columns[0] if len(kept) == 1 else exp.Anonymous(this="coalesce", expressions=columns)


def reference(source: FromItem, column: str) -> exp.Column:
    """A column of a source, as the normal form writes it."""
    return exp.Column(this=quoted(column), table=quoted(source.name))


def quoted(name: str) -> exp.Identifier:
    """An identifier in quotes."""
    return exp.Identifier(this=name, quoted=True)


def sources_of(select: exp.Expr) -> list[exp.Expr]:
    """The terms of a SELECT's FROM."""
    from_ = select.args.get("from_")
    first = [from_.this] if from_ is not None else []
    return [*first, *(join.this for join in select.args.get("joins") or ())]


def source_of(column: exp.Column) -> exp.Expr | None:
    """The source that a column of the normal form is of, or None where that is not in the tree.

    Two SELECTs of which none is in the other may call different sources by one name.
    """
    select = column.find_ancestor(exp.Select)
    while select is not None:
        for source in sources_of(select):
            if source.alias == column.table:
                return source
        select = select.find_ancestor(exp.Select)
    return None


def table_of(source: exp.Expr | None) -> str:
    """The table of the union that a source is, in lower case, or empty."""
    # Only tables of the union are written with a database.
    return folded(source.name) if isinstance(source, exp.Table) and source.db else ""
