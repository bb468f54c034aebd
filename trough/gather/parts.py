"""Queries put together from parts, each of which is divided by itself.

The parts are the arms of a compound, a grouped SELECT in FROM or WITH, and a subquery that stands
alone. Each part is answered as if it were the whole query, with its partial rows in its own scratch
table. In the final text its last step replaces it. Other tables that the query reads are shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from trough.gather import exact_sums, sqlite_helpers
from trough.gather.analysis import NotPushed, Relation
from trough.gather.dialect import CastAs, Part, gives_json, write
from trough.gather.division import divided
from trough.gather.from_clause import QUERIES
from trough.gather.landings import of_partial_rows
from trough.gather.nondeterminism import is_moving
from trough.gather.pushdown import PARTIAL, Pushdown, describe
from trough.gather.schema import SegmentSchema
from trough.gather.union_database import UnionDatabase


@dataclass(frozen=True, slots=True)
class Composition:
    """A query with parts.

    :ivar tree: the normal form, with parts in it
    :ivar final: its text
    """

    parts: tuple[Pushdown, ...]
    tree: exp.Expr
    final: str


def composed(
    tree: exp.Expr, catalogue: UnionDatabase, parameters: Mapping[str, Any], within: bool
) -> Composition | None:
    """Divide the parts of a query that can be; None where there are none.

    :param tree: in normal form
    :raises NotPushed: within segments, an arm of a compound cannot be divided
    """
    composer = _Composer(tree.copy(), catalogue, parameters, within)
    composer.compose()
    if not composer.parts:
        return None
    return Composition(tuple(composer.parts), composer.tree, composer.final)


class _Composer:
    """The work of :func:`composed`."""

    def __init__(
        self,
        tree: exp.Expr,
        catalogue: UnionDatabase,
        parameters: Mapping[str, Any],
        within: bool,
    ) -> None:
        self.tree = tree
        self.parts: list[Pushdown] = []
        self.final = ""
        self._catalogue = catalogue
        self._parameters = parameters
        self._within = within

    def compose(self) -> None:
        """Put parts into the tree."""
        if self._within:
            self._compose_arms()
        elif not any(map(self._may_convert, self.tree.find_all(exp.In))):
            # The innermost first, so that one around it finds a part in it.
            for select in reversed(list(self.tree.find_all(exp.Select))):
                if select is not self.tree:
                    self._try(select)
            if self.parts and isinstance(self.tree, exp.Select):
                self._try_whole(self.tree)
        self.final = self.final or write(self.tree)

    def _may_convert(self, node: exp.In) -> bool:
        """Whether IN may change the type of its left side for the SELECT around it.

        ``max(x) IN (SELECT t FROM u)`` makes a text of ``max(x)`` if ``t`` is a TEXT. SQLite
        (3.53) keeps an aggregate, a group's key or a column of an inner SELECT in one register,
        and so has this text in the other places, too. A part would have a register of its own.
        """
        if node.args.get("query") is None:
            return False
        left = node.this.unnest()
        items = left.expressions if isinstance(left, exp.Tuple) else [left]
        return not all(self._keeps_type(item) for item in items)

    def _keeps_type(self, item: exp.Expr) -> bool:
        while isinstance(item, (exp.Paren, exp.Collate)):
            item = item.this
        if not isinstance(item, exp.Column):
            return isinstance(item, exp.Literal)
        select = item.find_ancestor(exp.Select)
        while select is not None:
            for source in _sources(select):
                if source.alias_or_name == item.table:
                    return isinstance(source, exp.Table) and bool(source.db)
            select = select.parent_select
        return False

    def _compose_arms(self) -> None:
        if not isinstance(self.tree, exp.SetOperation):
            return
        with_ = self.tree.args.get("with_")
        for arm in _arms(self.tree):
            if arm.args.get("from_") is None:
                continue
            if with_ is not None:
                arm.set("with_", with_.copy())
            self._replace(arm, within=True)
        self.tree.set("with_", None)

    def _try(self, select: exp.Select) -> None:
        if not _stands_alone(select) or is_moving(select, self._parameters):
            return
        if any(gives_json(item) for item in select.expressions):
            return
        try:
            self._replace(select, within=False)
        except NotPushed:
            # Its rows are shipped.
            return

    def _replace(self, select: exp.Select, within: bool) -> None:
        """Put a part in the place of a SELECT.

        :raises NotPushed: it cannot be divided, or segments would send all of its rows
        """
        names = [item.alias or f"c{place}" for place, item in enumerate(select.expressions)]
        bare = _without_names(select)
        pushed = self._pushed(bare, within)
        if pushed.kind == "stream" and not within and not self._reads_index(select):
            raise NotPushed("its rows are as many as are shipped")
        listed = ", ".join(sqlite_helpers.name(name) for name in names)
        last = pushed.exact_final or pushed.final or _all_rows(pushed)
        outputs = ", ".join(self._outputs(bare, names))
        text = f"WITH `trough part`({listed}) AS ({last}) SELECT {outputs} FROM `trough part`"
        if not self._is_alike(bare, pushed, text):
            raise NotPushed("how a column of an inner SELECT compares: put a CAST around it")
        self.parts.append(pushed)
        select.replace(Part(this=text))

    def _reads_index(self, select: exp.Select) -> bool:
        """Whether its rows come from a full-text index, which cannot be shipped."""
        return any(
            source.db and self._catalogue.schema.tables[sqlite_helpers.folded(source.name)].is_index
            for source in select.find_all(exp.Table)
        )

    def _outputs(self, select: exp.Select, names: list[str]) -> list[str]:
        """A part's columns; one of an expression without affinity is no column, which compares
        in another way than a column without one."""
        mine = f"SELECT * FROM ({write(select)})"
        affinities = self._catalogue.affinities(mine, self._parameters)
        if affinities is None or len(affinities) != len(names):
            raise NotPushed("the affinity of an inner SELECT's column is not known")
        return [
            sqlite_helpers.name(name)
            if affinity or isinstance(item, (exp.Column, CastAs))
            else f"+{sqlite_helpers.name(name)} AS {sqlite_helpers.name(name)}"
            for name, affinity, item in zip(names, affinities, select.expressions, strict=True)
        ]

    def _try_whole(self, select: exp.Select) -> None:
        try:
            pushed = self._pushed(select.copy(), within=False)
        except NotPushed:
            return
        if pushed.kind != "stream":
            self.parts.append(pushed)
            self.final = pushed.exact_final or pushed.final
            self.tree = Part(this=self.final)

    def _pushed(self, select: exp.Select, within: bool) -> Pushdown:
        names = tuple(f"c{place}" for place in range(len(select.expressions)))
        relation = Relation(select, names, self._catalogue, self._parameters, within)
        pushed = divided(relation, f"{PARTIAL} {len(self.parts) + 1}")
        if pushed.kind == "stream":
            describe(pushed)
        for partial in pushed.partials:
            meant = partial.piece.parts[0] if partial.piece.template == "{0}" else None
            # As in the SELECT itself, where it may be compared by the query around it.
            if isinstance(meant, CastAs) or (
                isinstance(meant, exp.Column) and meant.table in relation.base_sources
            ):
                partial.give_type()
        return pushed

    def _is_alike(self, select: exp.Select, pushed: Pushdown, text: str) -> bool:
        """Whether the part's columns compare as those of the SELECT itself."""
        count = len(select.expressions)
        landing = of_partial_rows(pushed, ())
        scratch = _Scratch(landing.definition)
        try:
            mine = f"SELECT * FROM ({write(select)})"
            told = self._catalogue.affinities(mine, self._parameters)
            if told is None or told != scratch.affinities(text, self._parameters):
                return False
            ordered = self._catalogue.collations(mine, count, self._parameters)
            other = scratch.collations(f"SELECT * FROM ({text})", count, self._parameters)
            return ordered is not None and ordered == other
        finally:
            scratch.close()


class _Scratch(UnionDatabase):
    """A catalogue with a table of partial rows."""

    def __init__(self, definition: str) -> None:
        super().__init__(SegmentSchema())
        self.own = exact_sums.FUNCTIONS
        exact_sums.register(self._connection)
        self._connection.execute(definition)


def _sources(select: exp.Select) -> list[exp.Expr]:
    """What FROM of a SELECT names."""
    from_ = select.args.get("from_")
    joins = select.args.get("joins") or []
    return [each.this for each in ([from_] if from_ is not None else []) + joins]


def _all_rows(pushed: Pushdown) -> str:
    """The last step of a plain SELECT that is a part."""
    from_ = f"FROM {sqlite_helpers.name(pushed.table)}"
    limit = f" LIMIT {pushed.limit} OFFSET {pushed.skip}" if pushed.limit is not None else ""
    return f"SELECT {', '.join(pushed.outputs)} {from_}{limit}"


def _arms(node: exp.Expr) -> list[exp.Select]:
    """The SELECTs of a compound."""
    arms = []
    while isinstance(node, exp.SetOperation):
        arms.append(node.expression)
        node = node.this
    return [arm for arm in (node, *reversed(arms)) if isinstance(arm, exp.Select)]


def _without_names(select: exp.Select) -> exp.Select:
    bare = select.copy()
    items = [item.this if isinstance(item, exp.Alias) else item for item in bare.expressions]
    bare.set("expressions", [item.copy() for item in items])
    return bare


def _stands_alone(select: exp.Select) -> bool:
    """Whether a SELECT reads nothing of the query around it, and no query in it is left."""
    if any(node is not select for node in select.find_all(*QUERIES)):
        return False
    tables = list(select.find_all(exp.Table))
    if not all(each.db or isinstance(each.this, exp.Anonymous) for each in tables):
        return False
    own = {each.alias for each in tables}
    columns = [each for each in select.find_all(exp.Column) if not each.is_star]
    return bool(tables) and all(each.table in own for each in columns)
