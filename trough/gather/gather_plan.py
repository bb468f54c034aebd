"""What is decided about a GATHER: what each segment runs, where its rows go, what runs at the end.

A plan is a value, made by :func:`trough.gather.planner.plan`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trough.gather.landings import Landing, of_partial_rows, of_rows
from trough.gather.pushdown import Pushdown
from trough.gather.schema import SegmentSchema
from trough.gather.segment_sql import SegmentQuery, pushed_text
from trough.gather.shipping import Shipped, shipping_text
from trough.gather.union_database import definition
from trough.sql.row_merging import APART


@dataclass(frozen=True)
class GatherPlan:
    """See the module. It is never changed.

    :ivar kind: ``plain``, ``divided``, ``shipped`` or ``alone``
    :ivar names: of the answer's columns
    :ivar parameters: values by name, for the segments' texts and the final one
    :ivar tables: names, in lower case, of the tables and views that the text reads
    :ivar condition: on :data:`SEGMENT`, which segments are asked at all; or empty
    :ivar reason: why the query was not divided; or empty
    :ivar star: the answer's columns are those that some segment has
    :ivar reads: pairs of table and column that the text reads, as far as segments are known
    :ivar loose: it has a name that no table has a column for, an alias or a text in double
        quotes; it would mean a column that a segment not yet known turns out to have
    :ivar pushed: how the query is divided as a whole
    :ivar shipped: else, tables whose rows are sent; `parts`, SELECTs in it that are divided
    :ivar final_text: runs at the end, where that is not the text itself
    :ivar indexes: statements that create indexes for it
    :ivar repeatable: no clock, chance or connection has a part in the answer
    """

    text: str
    schema: SegmentSchema
    kind: str
    names: tuple[str, ...]
    parameters: Mapping[str, Any]
    tables: frozenset[str]
    condition: str = ""
    reason: str = ""
    star: bool = False
    reads: frozenset[tuple[str, str]] = frozenset()
    loose: bool = False
    pushed: Pushdown | None = None
    shipped: tuple[Shipped, ...] = ()
    parts: tuple[Pushdown, ...] = ()
    final_text: str = ""
    indexes: tuple[str, ...] = ()
    with_segment: bool = False
    within: bool = False
    repeatable: bool = False
    _asks: dict[Any, tuple[SegmentSchema, SegmentQuery | None]] = field(
        default_factory=dict, compare=False, repr=False
    )

    @property
    def has_views(self) -> bool:
        """Whether it reads a view, whose columns, too, are those that some segment has."""
        return any(self.schema.tables[name].is_view for name in self.tables)

    @property
    def columns(self) -> frozenset[str]:
        """Of the tables that it reads, all that some segment has."""
        tables = [self.schema.tables[name] for name in self.tables]
        return frozenset(f"{each.name}.{column}" for each in tables for column in each.column_names)

    @property
    def starts_exact(self) -> bool:
        """Whether segments are asked for the exact form from the beginning."""
        return self.pushed is not None and self.pushed.starts_exact

    def ask(self, variant: SegmentSchema, exact: bool = False) -> SegmentQuery | None:
        """The query for a segment of the given schema; None if it can contribute nothing."""
        key = (id(variant), exact)
        if key not in self._asks:
            # Kept with its schema, so that no other one can have the same identity.
            self._asks[key] = (variant, self._ask(variant, exact))
        return self._asks[key][1]

    def _ask(self, variant: SegmentSchema, exact: bool) -> SegmentQuery | None:
        if self.pushed is not None:
            return pushed_text(self.pushed, self.tables, self.schema, variant, exact)
        if self.shipped or self.parts:
            return shipping_text(self.shipped, self.parts, self.tables, self.schema, variant, exact)
        return None

    def merge_rules(self, asked: SegmentQuery) -> str:
        """By which rows of several segments may become one; empty where they may not.

        See :mod:`trough.sql.row_merging`. What is merged has no segment any more.
        """
        if self.kind == "plain" or any(each.segment for each in self.landings) or not asked.core:
            return ""
        if self.pushed is not None:
            return self.pushed.merge_rule(asked.exact)
        return ",".join(
            [APART for _ in self.shipped] + [each.merge_rule(None) for each in self.parts]
        )

    @property
    def landings(self) -> list[Landing]:
        """The tables of the scratch database."""
        if self.pushed is not None:
            return [of_partial_rows(self.pushed, tuple(each.name for each in self.pushed.partials))]
        rows = [of_rows(each, self.with_segment) for each in self.shipped]
        return rows + [
            of_partial_rows(part, tuple(each.name for each in part.partials)) for part in self.parts
        ]

    @property
    def definitions(self) -> list[str]:
        """Statements that create everything that the final text may name."""
        if self.pushed is not None:
            return [landing.definition for landing in self.landings]
        # All of the union, as a text may name what it does not read; views last.
        tables = sorted(self.schema.tables.values(), key=lambda table: table.is_view)
        parts = [landing.definition for landing in self.landings[len(self.shipped) :]]
        return [definition(table, self.with_segment) for table in tables] + parts

    def final(self, exact: bool) -> str:
        """The text that runs over the scratch database; empty for a plain query."""
        if self.pushed is None:
            return self.final_text or self.text
        return self.pushed.exact_final if exact else self.pushed.final

    @property
    def shape(self) -> Any:
        """Equal for plans whose segments' answers may be put together."""
        asked = self.ask(self.schema)
        landed = [(each.definition, each.columns) for each in self.landings]
        width = asked.width if asked is not None else 0
        texts = self.final(False), self.final(True)
        # A text that comes to read another column has come to mean something else; so has
        # one whose rowid turns out to be the name of a column.
        columns = {(each, each[1] in self._columns_of(each[0])) for each in self.reads}
        return (self.kind, self.names, columns, landed, texts, width)

    def _columns_of(self, name: str) -> frozenset[str]:
        table = self.schema.tables.get(name)
        return table.column_names if table is not None else frozenset()

    def explain(self) -> list[str]:
        """What goes to the segments and what is done with it, line by line."""
        lines = [f"{self.kind}: {_KINDS[self.kind]}"]
        if self.reason:
            lines.append(f"not divided, as {self.reason}")
        if self.condition:
            lines.append(f"only segments with {self.condition}")
        ask = self.ask(self.schema, self.starts_exact)
        if ask is not None:
            lines.append(f"each segment: {ask.core}")
            if ask.tests:
                lines.append("pruned: segments whose worker knows that they have no such row")
        divided = self.parts if self.pushed is None else (self.pushed,)
        if any(each.checked and not each.starts_exact for each in divided):
            lines.append("asked again for an exact sum: a segment whose sum is not an integer")
        if self.kind != "plain":
            lines.append(f"at the end: {self.final(self.starts_exact)}")
        elif self.pushed is not None and self.pushed.limit is not None:
            lines.append(f"until there are {self.pushed.limit} rows")
        return lines


_KINDS = {
    "plain": "rows are passed on as they arrive",
    "divided": "segments compute partial results, which are put together at the end",
    "shipped": "the rows that are read come into a temporary database, and the query runs there",
    "alone": "no table is read, and no segment asked",
}
