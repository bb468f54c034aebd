"""One query on one segment, from its first row to its last.

A small answer is sent at once. A large answer comes in pieces. Between two pieces the query is
suspended: its cursor stays where it is and costs nothing, so a process can have many under way.
A query may turn out to be large while it has cost very little. It then starts again in the form
in which SQLite itself makes the JSON (:mod:`trough.sql.rows`). Nothing of it was delivered yet.

This module does not know where the bytes go, or which query runs next.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from time import monotonic
from typing import NamedTuple

from trough import errors
from trough.sql import row_sources, rows, sqlite, statements
from trough.sql.handles import Handle, Handles
from trough.sql.queries import (
    OBJECTS,
    ONE_ROW,
    PIECE,
    Answer,
    ColumnNames,
    Query,
    QueryPlan,
    too_many,
)
from trough.sql.row_sources import Source
from trough.sql.rows import Row
from trough.sql.sandbox import Mode
from trough.sql.sqlite import Engine

#: Rows to look at before a query counts as large, in two steps: most answers have a
#: single row or few, and fetching those must not cost room for many.
FIRST_ROWS, SAMPLE_ROWS = 8, 120

#: Seconds that a query may have cost to be started again.
CHEAP = 0.005

# Python 3.11 calls a function for each ``Mode.READ``, and a query needs it at once.
_READ = Mode.READ

#: Kept connections whose memory may be what a query lacked; it is then tried again.
_MANY = 100


#: Rows from which on they are not few.
FEW = 2_000


class FewRows(NamedTuple):
    """A whole answer, as rows.

    :ivar repeatable: it would be the same again while the file is the same
    :ivar weight: bytes of text and BLOBs in it
    """

    rows: list[Row]
    names: ColumnNames
    repeatable: bool
    weight: int


# Reads the schema again if another connection changed it.
_SCHEMA = "SELECT 1 FROM sqlite_schema LIMIT 1"

# Only virtual tables have no page of their own.
_VIRTUAL = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND rootpage = 0"


class Reader:
    """Runs queries; one of a process."""

    def __init__(self, engine: Engine, handles: Handles) -> None:
        self._engine = engine
        self._sandbox = engine.sandbox
        self._handles = handles

    def begin(
        self, query: Query, segment: str, path: str, generation: int, writable: bool
    ) -> Answer:
        """Ask one segment.

        :raises trough.errors.TroughError: the query failed; reading on may raise it too
        """
        handle = None
        try:
            handle = self._handles.take(segment, path, generation, writable)
            names = handle.names.get(query.plan.text)
            if names is None or names.large:
                found = self._look(query, handle, names)
            else:
                # A small answer, as the last time: the way of nearly all queries, and
                # the same as in _look, but for what is known already.
                self._sandbox.mode = _READ
                cursor = handle.cursor.execute(query.plan.text, query.parameters or ())
                rows = cursor.fetchmany(FIRST_ROWS)
                if len(rows) < FIRST_ROWS:
                    found = _small(query, handle, names, rows)
                else:
                    found = self._look_further(query, handle, names, rows, monotonic())
        except _FAILURES as error:
            if handle is None or not sqlite.is_not_utf8(error):
                told = self._failed(error, path, handle)
                if sqlite.is_out_of_memory(error) and self._handles.clear() >= _MANY:
                    return self.begin(query, segment, path, generation, writable)
                raise told from error
            found = self._look_leniently(query, handle)
        if isinstance(found, Answer):
            self._handles.give(handle)
            return found
        return self._large(query, handle, *found)

    def few_rows(
        self, query: Query, segment: str, path: str, generation: int, writable: bool
    ) -> FewRows | Answer | None:
        """All rows of one segment, where they are few, or else the beginning of its answer. None
        where :meth:`begin` has to be asked, which tells more about what is wrong.

        :raises trough.errors.TroughError: the query was stopped
        """
        handle = None
        sandbox = self._sandbox
        sandbox.selects = sandbox.moving = sandbox.functions = 0
        try:
            handle = self._handles.take(segment, path, generation, writable)
            names = handle.names.get(query.plan.text)
            if names is None:
                self._execute(query, handle)
                names = _note_names(query.plan, handle)
                query.plan.columns_alone = sandbox.selects == 1 and sandbox.functions == 0
            elif names.large:
                self._handles.give(handle)
                return None
            else:
                sandbox.mode = _READ
                handle.cursor.execute(query.plan.text, query.parameters or ())
            found = handle.cursor.fetchmany(FEW)
        except _FAILURES as error:
            told = self._failed(error, path, handle)
            if self._engine.stopped is not None:
                raise told from error
            return None
        weight = _weight(found)
        if len(found) >= FEW or weight > PIECE:
            return self._large(query, handle, names, self._by_python(query, handle, names, found))
        repeatable = query.keeps and self._is_repeatable(handle, query.plan.text)
        self._handles.give(handle)
        return None if 0 < query.limit < len(found) else FewRows(found, names, repeatable, weight)

    def begin_repeatable(
        self, query: Query, segment: str, path: str, generation: int, writable: bool
    ) -> tuple[Answer, bool]:
        """As :meth:`begin`; and whether the answer is whole, and would be the same again while
        the file is the same.

        SQLite reports the functions of a text, and of views in it, when it compiles the text.
        So it is known for a text that was compiled in here, and doubted for any other. A virtual
        table compiles statements of its own at any time: where there are any, it is not known.
        """
        sandbox = self._sandbox
        sandbox.selects = sandbox.moving = 0
        answer = self.begin(query, segment, path, generation, writable)
        handle = self._handles.kept(segment)
        if not answer.over or handle is None:
            return answer, False
        return answer, self._is_repeatable(handle, query.plan.text)

    def _is_repeatable(self, handle: Handle, text: str) -> bool:
        """Whether the answer that a handle just gave would be the same again."""
        sandbox, repeats = self._sandbox, handle.repeats
        if sandbox.selects:
            if len(repeats) >= sqlite.KEPT_STATEMENTS:
                repeats.clear()
            repeats[text] = not (sandbox.moving or self._has_virtual_tables(handle))
        return not sandbox.moving and repeats.get(text, False)

    def _has_virtual_tables(self, handle: Handle) -> bool:
        if handle.virtual is None or handle.writable:
            try:
                cursor = self._engine.own(handle.connection, _VIRTUAL)
                handle.virtual = cursor.fetchone() is not None
            except sqlite.Error:  # the answer is whole all the same; it is only not kept
                return True
        return handle.virtual

    def _failed(self, error: BaseException, path: str, handle: Handle | None) -> errors.TroughError:
        connection = None if handle is None else handle.connection
        told = self._engine.error(error, path, connection)
        if handle is not None:
            self._give_back(handle, told)
        return told

    def _give_back(self, handle: Handle, failure: BaseException | None) -> None:
        if failure is None or isinstance(failure, (errors.BadRequest, GeneratorExit)):
            handle.connection.text_factory = str
            self._handles.give(handle)
        else:
            handle.connection.close()

    def _look_leniently(self, query: Query, handle: Handle) -> Answer | _Large:
        handle.connection.text_factory = sqlite.lenient_text
        try:
            found = self._look(query, handle, None)
        except _FAILURES as error:
            raise self._failed(error, handle.path, handle) from error
        if isinstance(found, Answer):
            handle.connection.text_factory = str
        return found

    def _look(self, query: Query, handle: Handle, names: ColumnNames | None) -> Answer | _Large:
        """The answer if it is small, or else its columns and where its rows come from."""
        plan = query.plan
        if names is not None and names.large and plan.can_make_json:
            source = self._by_sqlite(query, handle, names.names, ())
            if source is not None:
                return names, source
        began = monotonic()
        sandbox = self._sandbox
        sandbox.selects = sandbox.functions = 0
        self._execute(query, handle)
        found = handle.cursor.fetchmany(FIRST_ROWS)
        if names is None:
            names = _note_names(plan, handle)
            # Where it was compiled before, on this connection, there is nothing to count.
            plan.columns_alone = sandbox.selects == 1 and sandbox.functions == 0
        if len(found) < FIRST_ROWS:
            return _small(query, handle, names, found)
        return self._look_further(query, handle, names, found, began)

    def _look_further(
        self, query: Query, handle: Handle, names: ColumnNames, found: list[Row], began: float
    ) -> Answer | _Large:
        cursor = handle.cursor
        if _weight(found) <= PIECE:
            sample = cursor.fetchmany(SAMPLE_ROWS)
            found += sample
            if len(sample) < SAMPLE_ROWS:
                return _small(query, handle, names, found)
        if monotonic() - began < CHEAP and query.plan.can_make_json:
            names.large = True
            handle.cursor = handle.connection.cursor()
            source = self._by_sqlite(query, handle, names.names, found)
            if source is not None:
                cursor.close()
                return names, source
            handle.cursor = cursor
        return names, self._by_python(query, handle, names, found)

    def _by_python(
        self, query: Query, handle: Handle, names: ColumnNames, found: list[Row]
    ) -> Source:
        """The rows that the handle's cursor has found, and those that it will find."""
        names.large = True
        cursor, handle.cursor = handle.cursor, handle.connection.cursor()
        handle.connection.text_factory = sqlite.lenient_text
        return row_sources.by_python(query, cursor, found, names.names)

    def _execute(self, query: Query, handle: Handle) -> None:
        cursor, text = handle.cursor, query.plan.text
        if query.plan.is_pragma and handle.writable:
            # One about a table or an index that the connection does not know yet answers with
            # nothing, and does not look whether the schema was changed.
            self._engine.own(handle.connection, _SCHEMA).fetchall()
        try:
            self._engine.execute(cursor, _READ, text, query.parameters)
        except sqlite.sqlite3.Warning:
            # pysqlite3 counts a second semicolon as a second statement.
            text = statements.only_statement(text)
            self._engine.execute(cursor, _READ, text, query.parameters)

    # -- large answers -----------------------------------------------------------------

    def _large(self, query: Query, handle: Handle, names: ColumnNames, source: Source) -> Answer:
        answer = Answer()
        frame = row_sources.objects if query.framing is OBJECTS else row_sources.lines
        framed = frame(answer, query, handle.segment, names, source)
        answer.begin(self._holding(handle, answer, names, framed, source))
        return answer

    def _holding(
        self,
        handle: Handle,
        answer: Answer,
        names: ColumnNames,
        framed: Iterator[bytes],
        source: Source,
    ) -> Generator[bytes, None, None]:
        """The pieces of `framed`, while no other query uses the handle."""
        self._handles.hold(handle)
        failure: BaseException | None = None
        try:
            yield from framed
        except GeneratorExit as closed:
            failure = closed
            raise
        except _FAILURES as error:
            failure = self._engine.error(error, handle.path, handle.connection)
            raise failure from error
        finally:
            source.close()
            # Another answer may be smaller, of other parameters.
            names.large = failure is not None or answer.count >= FIRST_ROWS + SAMPLE_ROWS
            self._give_back(handle, failure)
            self._handles.let_go(handle)

    def _by_sqlite(
        self, query: Query, handle: Handle, names: tuple[str, ...], sample: Sequence[Row]
    ) -> Source | None:
        """Rows as JSON that SQLite makes, or None where it cannot or should not."""
        plan = query.plan
        if not _suits_sqlite(names, sample):
            return None
        connection = handle.connection
        if not handle.makes_json:
            self._engine.add_row_json(connection)
            handle.makes_json = True
        try:
            text = plan.json_query(names, query.framing, sample)
            connection.text_factory = bytes
            cursor = self._engine.execute(connection.cursor(), _READ, text, query.parameters)
        except sqlite.sqlite3.OperationalError as error:
            if self._engine.stopped is not None or not sqlite.is_plain_error(error):
                raise
            plan.can_make_json = False
            connection.text_factory = str
            return None
        return row_sources.from_sqlite(query, cursor)


#: The columns of a large answer, and its rows.
_Large = tuple[ColumnNames, Source]

_FAILURES = (*sqlite.Error, errors.TroughError)


def _note_names(plan: QueryPlan, handle: Handle) -> ColumnNames:
    names = ColumnNames(tuple([column[0] for column in handle.cursor.description or ()]))
    # A segment that is written may get other columns.
    if not handle.writable and len(handle.names) < sqlite.KEPT_STATEMENTS:
        handle.names[plan.text] = names
    return names


def _small(query: Query, handle: Handle, names: ColumnNames, found: list[Row]) -> Answer:
    count = len(found)
    if query.limit and count > query.limit:
        raise too_many(query.limit)
    if query.framing is OBJECTS:
        text = f"[{rows.objects_of_rows(names.names, found)}]\n"
    else:
        text = rows.all_lines(query.tag, handle.segment, names.json, found)
        if len(text) > ONE_ROW and count > 1:
            text = rows.lines_apart(query.tag, handle.segment, names.json, found)
    return Answer(text.encode(), count)


def _suits_sqlite(names: tuple[str, ...], sample: Sequence[Row]) -> bool:
    """Whether SQLite would write most of such rows without any help."""
    if not 0 < len(names) <= rows.MAX_COLUMNS:
        return False
    return not any(isinstance(value, (float, bytes)) for row in sample for value in row)


def _weight(found: list[Row]) -> int:
    return sum(len(value) for row in found for value in row if isinstance(value, (str, bytes)))
