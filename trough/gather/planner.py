"""From a text to a plan: what each segment runs, and what is done with the answers.

There are four ways, tried in this order:

* *plain*: every segment's rows are rows of the answer;
* *divided*: segments sort, group and aggregate, and a final SELECT does so with theirs;
* *shipped*: the rows that the text reads are brought together, and the text runs as it is;
* a query that reads no table is answered by itself.

A text is divided only if its tree is proved to mean the same (:mod:`trough.gather.analysis`), and
only by exact rules. Every other text that SQLite accepts is shipped. A text that has no exact
answer in any of these ways raises an error, with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlglot import exp

from trough import errors
from trough.gather import sqlite_helpers
from trough.gather.analysis import NotPushed, Relation
from trough.gather.conflicts import deciding_conflict
from trough.gather.dialect import has_word, names_all_columns, quotes_name, write
from trough.gather.division import divided
from trough.gather.full_text import check_hidden, check_ranks, check_shipped
from trough.gather.gather_plan import GatherPlan
from trough.gather.indexes import join_indexes
from trough.gather.nondeterminism import OF_CONNECTIONS, stopped
from trough.gather.normal_form import NormalForm, normal_form, with_segment_of_pragmas
from trough.gather.numeric_columns import with_bare_numbers
from trough.gather.parameters import bind
from trough.gather.parts import composed
from trough.gather.schema import SegmentSchema
from trough.gather.scopes import ROWIDS, Unresolved
from trough.gather.shipping import shipped_tables
from trough.gather.union_database import SEGMENT, Prepared, UnionDatabase
from trough.gather.views import with_what_is_beneath
from trough.sql.sandbox import MOVING

_SYSTEM_TABLES = frozenset(
    {"sqlite_master", "sqlite_schema", "sqlite_temp_master", "sqlite_temp_schema"}
)
_ROWID = "rowid"

#: Of a statement. Planning takes time in proportion, a second for some 15,000 terms.
MOST_CHARACTERS = 1_000_000


def plan(
    sql: str,
    schema: SegmentSchema,
    *,
    parameters: Sequence[Any] | Mapping[str, Any] | None = None,
    within: bool = False,
    now: float | None = None,
    parts: bool = True,
) -> GatherPlan:
    """Decide how `sql` is answered over segments whose union is `schema`.

    :param within: rows of different segments never meet in FROM and WHERE, joins and
        subqueries there included
    :param now: seconds since the epoch, what ``'now'`` means in the text; without it a
        query about now is not divided
    :param parts: subqueries may be divided, which computes them whether or not a row needs them
    :raises trough.errors.BadSql: SQLite does not take it, or there is no exact answer
    :raises trough.errors.ForbiddenSql: it does more than read
    """
    if len(sql) > MOST_CHARACTERS:
        raise errors.BadSql(
            f"the statement has {len(sql):,} characters, and GATHER takes {MOST_CHARACTERS:,}",
            "ask in several statements, or put long lists into a parameter with json_each",
        )
    text, bound = bind(sql, parameters)
    if text.lstrip()[:7].upper() == "EXPLAIN":
        raise errors.BadSql(
            "EXPLAIN inside GATHER",
            "EXPLAIN GATHER in trough-shell explains; elsewhere EXPLAIN [ANALYZE] before SELECT",
        )
    return _Planning(
        text, schema, bound, within, now, original=(sql, parameters or ()), parts=parts
    ).plan()


def _is_repeatable(prepared: Prepared) -> bool:
    """Whether a query depends on nothing but what segments hold, by all that it calls, in
    views too."""
    pragmas = any(name.startswith("pragma_") for name in prepared.tables)
    return prepared.functions.isdisjoint(MOVING) and not pragmas


class _Planning:
    """The work of :func:`plan`; `original` has the user's own text and parameters."""

    def __init__(
        self,
        text: str,
        schema: SegmentSchema,
        parameters: dict[str, Any],
        within: bool,
        now: float | None,
        *,
        original: tuple[str, Sequence[Any] | Mapping[str, Any]],
        parts: bool,
    ) -> None:
        self.text = text
        self.schema = schema
        self.parameters = parameters
        self.within = within
        self.now = now
        self.original = original
        self.parts = parts

    def plan(self) -> GatherPlan:
        catalogue, prepared = self._prepared()
        try:
            self._check(prepared)
            check_ranks(prepared, self.schema, self.within)
            self._check_conflicts(prepared, catalogue)
            plan = self._plan(catalogue, prepared)
            return replace(plan, repeatable=_is_repeatable(prepared))
        finally:
            catalogue.close()

    def _prepared(self) -> tuple[UnionDatabase, Prepared]:
        if quotes_name(self.text, SEGMENT):
            # Without the column it would be a text.
            return self._prepared_with_segment()
        catalogue = UnionDatabase(self.schema, pragmas=self.within)
        try:
            return catalogue, self._prepared_in(catalogue)
        except errors.BadRequest as error:
            catalogue.close()
            if isinstance(error, errors.ForbiddenSql) and "pragma_" in self.text.lower():
                error.hint = "GATHER WITHIN SEGMENTS may read pragma_table_info and its like"
            if not isinstance(error, errors.BadSql) or SEGMENT not in error.message.lower():
                raise
        return self._prepared_with_segment()

    def _prepared_with_segment(self) -> tuple[UnionDatabase, Prepared]:
        catalogue = UnionDatabase(self.schema, with_segment=True, pragmas=self.within)
        if self.within and (text := with_segment_of_pragmas(self.text)) != self.text:
            self.text, self.original = text, (text, self.parameters)
        return catalogue, self._prepared_in(catalogue)

    def _prepared_in(self, catalogue: UnionDatabase) -> Prepared:
        prepared = catalogue.prepare(self.text, self.parameters)
        if self.original[0] == self.text:
            return prepared
        # Columns without an alias are called as they are written.
        return replace(prepared, names=catalogue.prepare(*self.original).names)

    def _check(self, prepared: Prepared) -> None:
        written = sorted(prepared.functions & OF_CONNECTIONS)
        if written:
            raise errors.BadSql(
                f"{written[0]}() is about what a connection wrote, and GATHER has written nothing",
                "leave it out",
            )
        for name, column in sorted(prepared.reads):
            if name in _SYSTEM_TABLES:
                raise errors.BadSql(
                    f"{name} is each segment's own",
                    "WITHIN SEGMENTS may read pragma_table_list; or ask without GATHER",
                )
            table = self.schema.tables.get(name)
            known = table is None or table.is_view or column in table.column_names
            if column == _ROWID and not known:
                self._check_rowid(prepared, name)

    def _check_rowid(self, prepared: Prepared, name: str) -> None:
        """Refuse a rowid that is named: SQLite reads those of a join in parentheses, too.

        :param name: of the table
        """
        named = [self.schema.tables[each] for each in self._tables(prepared)]
        in_view = any(has_word(each.sql, ROWIDS) for each in named if each.is_view)
        if self.within and in_view:
            # It may be run over a table that only looks like one with rowids.
            raise errors.BadSql(
                f"a view names the rowid of {name}, which segments may not have",
                "write the view's SELECT into the query, or name the INTEGER PRIMARY KEY column",
            )
        if not self.within and (in_view or has_word(self.text, ROWIDS)):
            raise errors.BadSql(
                f"rows of many segments have no rowid of their own: {name}.{_ROWID}",
                "name the INTEGER PRIMARY KEY column",
            )

    def _check_conflicts(self, prepared: Prepared, catalogue: UnionDatabase) -> None:
        if not any(key in self.schema.conflicts for key in prepared.reads):
            return
        text = self.text
        try:
            tree = normal_form(text, catalogue, self.parameters).tree
            text = write(with_bare_numbers(tree, self.schema, self.parameters))
        except (Unresolved, RecursionError):
            pass  # judged as it is written
        conflict = deciding_conflict(
            text, self.parameters, self.schema, prepared.reads, catalogue.with_segment
        )
        if conflict:
            raise errors.BadSql(
                f"{conflict}, and the query compares it or orders by it",
                "CAST(... AS TEXT) or AS NUMERIC, with COLLATE BINARY where the collations differ, "
                "says how to compare",
            )

    def _plan(self, catalogue: UnionDatabase, prepared: Prepared) -> GatherPlan:
        form, reason = None, ""
        try:
            form = normal_form(self.text, catalogue, self.parameters)
            check_hidden(form.tree, self.schema)
            if self._tables(prepared, form) or form.has_pragmas:
                return self._divided(catalogue, prepared, form)
        except (Unresolved, NotPushed) as error:
            reason = str(error)
        except RecursionError:
            reason = "it is nested too deeply"
        # A text about segments' tables is theirs to answer, even if it reads none of them.
        asks = bool(self._tables(prepared, form)) or (form is not None and form.has_pragmas)
        if form is not None and reason and (self.parts or self.within):
            try:
                plan = self._composed(catalogue, prepared, form, reason)
            except NotPushed as error:
                plan, reason = None, str(error)
            if plan is not None:
                return plan
        if self.within and asks:
            raise errors.BadSql(
                f"this cannot be divided within segments: {reason}", self._way_out()
            )
        return self._shipped(catalogue, prepared, form, reason)

    def _way_out(self) -> str:
        """What can be asked instead of what cannot be divided within segments."""
        sql, parameters = self.original
        try:
            plan(sql, self.schema, parameters=parameters, now=self.now)
        except errors.TroughError:
            return "ask its segments one by one, without GATHER"
        return "without WITHIN SEGMENTS it runs over the tables of all segments"

    def _divided(
        self, catalogue: UnionDatabase, prepared: Prepared, form: NormalForm
    ) -> GatherPlan:
        tree = self._stopped(form)
        names = prepared.names
        if catalogue.with_segment:
            # In the catalogue * has the segment's column, too.
            names = form.without_segment(names)
        relation = Relation(tree, names, catalogue, self.parameters, self.within)
        condition = relation.take_segment_condition()
        pushed = divided(relation)
        return GatherPlan(
            self.text,
            self.schema,
            "plain" if pushed.kind == "stream" else "divided",
            pushed.names,
            self.parameters,
            self._tables(prepared, form),
            condition=condition,
            star=names_all_columns(self.text),
            reads=prepared.reads,
            loose=form.loose,
            pushed=pushed,
            with_segment=catalogue.with_segment,
            within=self.within,
        )

    def _stopped(self, form: NormalForm) -> exp.Expr:
        """The tree, with its clock stopped where the moment is known."""
        tree = form.tree.copy()
        return tree if self.now is None else stopped(tree, self.now, self.parameters)

    def _composed(
        self, catalogue: UnionDatabase, prepared: Prepared, form: NormalForm, reason: str
    ) -> GatherPlan | None:
        """Divide parts of the query, and ship what is read besides; None for no parts."""
        if catalogue.with_segment and names_all_columns(self.text):
            return None
        composition = composed(self._stopped(form), catalogue, self.parameters, self.within)
        if composition is None:
            return None
        tree = composition.tree
        left = {sqlite_helpers.folded(each.name) for each in tree.find_all(exp.Table) if each.db}
        shipped = [
            each
            for each in shipped_tables(prepared, catalogue, tree, self.parameters)
            if sqlite_helpers.folded(each.table.name) in left
        ]
        check_shipped(shipped, reason)
        return GatherPlan(
            self.text,
            self.schema,
            "shipped" if shipped else "divided",
            prepared.names,
            self.parameters,
            self._tables(prepared, form),
            reason=reason if shipped else "",
            star=names_all_columns(self.text),
            reads=prepared.reads,
            loose=form.loose,
            shipped=tuple(shipped),
            indexes=join_indexes(tree, shipped),
            parts=composition.parts,
            final_text=composition.final,
            with_segment=catalogue.with_segment,
            within=self.within,
        )

    def _tables(self, prepared: Prepared, form: NormalForm | None = None) -> frozenset[str]:
        """What the text reads, and what it only names, which has to be there as well."""
        named = form.names if form is not None else frozenset()
        told = {each for each in prepared.tables | named if each in self.schema.tables}
        return with_what_is_beneath(told, self.schema)

    def _shipped(
        self,
        catalogue: UnionDatabase,
        prepared: Prepared,
        form: NormalForm | None,
        reason: str,
    ) -> GatherPlan:
        if catalogue.with_segment:
            self._check_segment_column(prepared)
        tree = form.tree if form is not None else None
        shipped = shipped_tables(prepared, catalogue, tree, self.parameters)
        check_shipped(shipped, reason)
        for each in shipped:
            if each.table.column_names.issuperset(ROWIDS):
                raise errors.BadSql(
                    f"rows of {each.table.name} cannot be told apart here: its columns take all of "
                    f"the names {', '.join(ROWIDS)}",
                    "ask its segments one by one",
                )
        return GatherPlan(
            self.text,
            self.schema,
            "shipped" if shipped else "alone",
            prepared.names,
            self.parameters,
            self._tables(prepared),
            reason=reason if shipped else "",
            star=names_all_columns(self.text),
            reads=prepared.reads,
            shipped=tuple(shipped),
            indexes=join_indexes(tree, shipped) if tree is not None else (),
            with_segment=catalogue.with_segment,
        )

    def _check_segment_column(self, prepared: Prepared) -> None:
        """Refuse texts in which the scratch tables' own column would show."""
        hint = f"name the columns, and join on them, where {SEGMENT} is used"
        if any(self.schema.tables[name].is_view for name in self._tables(prepared)):
            raise errors.BadSql(f"{SEGMENT} and a view in one query", hint)
        if names_all_columns(self.text):
            raise errors.BadSql(f"{SEGMENT} together with * or NATURAL JOIN", hint)
