"""One query on one segment, from its first row to its last.

What is small is answered at once. What is large comes in pieces of about
:data:`PIECE` bytes, and between two pieces the query rests: its cursor stays where it
is and costs nothing, so that a process can have many under way. A query that turns out
to be large while it has cost next to nothing is begun anew in the form in which SQLite
itself makes the JSON (:mod:`trough.rows`); nothing of it was told yet.

Refuses to know: where the bytes go, and which query is to run next.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence
from time import monotonic

from trough import errors, rows, sql, statements
from trough.handles import Handle, Handles
from trough.rows import Row
from trough.sandbox import Mode
from trough.sql import Cursor, Engine, Parameters

#: Bytes that are handed on at once: enough that a piece costs little beside its rows,
#: few enough that several queries in turn look simultaneous.
PIECE = 65536

#: Seconds after which a piece is handed on though it is small.
PATIENCE = 0.01

#: Rows to look at before a query counts as large, in two steps: most answers have a
#: single row or few, and fetching those must not cost room for many.
FIRST_ROWS, SAMPLE_ROWS = 8, 120

#: Seconds that a query may have cost to be begun anew.
CHEAP = 0.005

_SELECTS = frozenset({"SELECT", "WITH", "VALUES"})

#: First words that a query is refused for before SQLite sees it, to say it plainly.
_NOT_READING = frozenset(
    (
        *("INSERT", "REPLACE", "UPDATE", "DELETE", "CREATE", "DROP", "ALTER", "ANALYZE", "REINDEX"),
        *("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"),
        *("ATTACH", "DETACH", "VACUUM"),
    )
)


class Framing(enum.Enum):
    """What an answer looks like.

    LINES: lines of the line protocol for each segment, COLS, ROWS and DONE. OBJECTS: one
    JSON array of objects, for one segment; nothing before the first row was found, or
    its absence.
    """

    LINES = 0
    OBJECTS = 1


class Plan:
    """One SQL text, which may be asked of many segments.

    :ivar large: whether its answer was large when last looked at
    :raises trough.errors.BadSql: there is no statement in it
    :raises trough.errors.ForbiddenSql: its first word is that of a statement that writes
    """

    __slots__ = ("_queries", "can_make_json", "large", "text")

    def __init__(self, text: str) -> None:
        word = statements.first_word(text)
        if word in _NOT_READING:
            raise errors.ForbiddenSql(
                f"{word} is not allowed in a query", "a query is SELECT, WITH, VALUES or EXPLAIN"
            )
        self.text = text
        self.can_make_json = word in _SELECTS
        self.large = False
        self._queries: dict[tuple[tuple[str, ...], Framing], str] = {}

    def json_query(self, names: tuple[str, ...], framing: Framing, sample: Sequence[Row]) -> str:
        """The form in which SQLite makes the JSON.

        :param sample: some rows, or none where :attr:`large` is already known
        """
        query = self._queries.get((names, framing))
        if query is None:
            statement = statements.only_statement(self.text)
            query = rows.json_query(statement, names, sample, framing is Framing.OBJECTS)
            self._queries[names, framing] = query
        return query


class Query:
    """A plan with its parameters, and how its answers are to look.

    :ivar limit: rows of one segment, 0 for no limit
    """

    __slots__ = ("framing", "limit", "parameters", "plan", "tag")

    def __init__(
        self, plan: Plan, parameters: Parameters, limit: int, framing: Framing, tag: str
    ) -> None:
        self.plan = plan
        self.parameters = parameters
        self.limit = limit
        self.framing = framing
        self.tag = tag


class Answer:
    """What a query gave so far on one segment, and the way to the rest of it.

    :ivar first: the answer, or its first piece
    :ivar count: rows so far
    :ivar pieces: the further pieces, or None if :attr:`first` is all; has to be closed
        where it is not read to its end
    """

    __slots__ = ("count", "first", "pieces")

    def __init__(self, first: bytes = b"", count: int = 0) -> None:
        self.first = first
        self.count = count
        self.pieces: Generator[bytes, None, None] | None = None


class _Names:
    """The columns of an answer, in the forms in which they are needed."""

    __slots__ = ("json", "names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.json = rows.names_json(names)


class Reader:
    """Runs queries; one of a process."""

    def __init__(self, engine: Engine, handles: Handles) -> None:
        self._engine = engine
        self._handles = handles

    def begin(
        self, query: Query, segment: str, path: str, generation: int, writable: bool
    ) -> Answer:
        """Ask one segment.

        :raises trough.errors.TroughError: whatever is wrong; so does reading on
        """
        handle = None
        try:
            handle = self._handles.take(segment, path, generation, writable)
            return self._begin(query, handle)
        except sql.Error as error:
            told = self._engine.error(error, path)
            if handle is not None:
                self._give_back(handle, told)
            raise told from error

    def _give_back(self, handle: Handle, failure: BaseException | None) -> None:
        if failure is None or isinstance(failure, (errors.BadRequest, GeneratorExit)):
            handle.connection.text_factory = str
            self._handles.give(handle)
        else:
            handle.connection.close()

    def _begin(self, query: Query, handle: Handle) -> Answer:
        plan = query.plan
        names = handle.names.get(plan.text)
        if plan.large and names is not None and plan.can_make_json:
            source = self._by_sqlite(query, handle, names.names, ())
            if source is not None:
                return self._large(query, handle, names, source)
        began = monotonic()
        try:
            cursor, found, more = self._look(query, handle)
        except sql.sqlite3.OperationalError as error:
            if not sql.is_not_utf8(error):
                raise
            handle.connection.text_factory = sql.lenient_text
            cursor, found, more = self._look(query, handle)
        if names is None:
            names = _Names(tuple([column[0] for column in cursor.description or ()]))
            # A segment that is written may get other columns.
            if not handle.identity[1] and len(handle.names) < sql.KEPT_STATEMENTS:
                handle.names[plan.text] = names
        plan.large = more
        if not more:
            return self._small(query, handle, names, found)
        source = None
        if monotonic() - began < CHEAP and plan.can_make_json:
            source = self._by_sqlite(query, handle, names.names, found)
        if source is None:
            handle.connection.text_factory = sql.lenient_text
            source = _by_python(query, cursor, found, names.names)
        else:
            cursor.close()
        return self._large(query, handle, names, source)

    def _look(self, query: Query, handle: Handle) -> tuple[Cursor, list[Row], bool]:
        """The first rows, and whether there may be many more."""
        cursor = self._execute(query, handle)
        found = cursor.fetchmany(FIRST_ROWS)
        if len(found) < FIRST_ROWS:
            return cursor, found, False
        if _weight(found) > PIECE:
            return cursor, found, True
        sample = cursor.fetchmany(SAMPLE_ROWS)
        return cursor, found + sample, len(sample) == SAMPLE_ROWS

    def _execute(self, query: Query, handle: Handle) -> Cursor:
        connection, text = handle.connection, query.plan.text
        try:
            return self._engine.execute(connection, Mode.READ, text, query.parameters)
        except sql.sqlite3.Warning:
            # pysqlite3 counts a second semicolon as a second statement.
            text = statements.only_statement(text)
            return self._engine.execute(connection, Mode.READ, text, query.parameters)

    def _small(self, query: Query, handle: Handle, names: _Names, found: list[Row]) -> Answer:
        count = len(found)
        if query.limit and count > query.limit:
            raise _too_many(query.limit)
        if query.framing is Framing.OBJECTS:
            text = f"[{rows.objects_of_rows(names.names, found)}]\n"
        else:
            tag, segment = query.tag, handle.segment
            text = rows.columns_line(tag, segment, names.json)
            if found:
                text += rows.rows_line(tag, segment, found)
            text += rows.done_line(tag, segment, count)
        self._give_back(handle, None)
        return Answer(text.encode(), count)

    # -- large answers -----------------------------------------------------------------

    def _large(self, query: Query, handle: Handle, names: _Names, source: _Source) -> Answer:
        answer = Answer()
        frame = _objects if query.framing is Framing.OBJECTS else _lines
        framed = frame(answer, query, handle.segment, names, source)
        answer.pieces = self._holding(handle, framed, source)
        answer.first = next(answer.pieces)
        return answer

    def _holding(
        self, handle: Handle, framed: Iterator[bytes], source: _Source
    ) -> Generator[bytes, None, None]:
        """The pieces of `framed`, while nobody else uses the handle."""
        self._handles.hold(handle)
        failure: BaseException | None = None
        try:
            yield from framed
        except GeneratorExit as closed:
            failure = closed
            raise
        except (*sql.Error, errors.TroughError) as error:
            failure = self._engine.error(error, handle.path)
            raise failure from error
        finally:
            source.close()
            self._give_back(handle, failure)
            self._handles.let_go(handle)

    def _by_sqlite(
        self, query: Query, handle: Handle, names: tuple[str, ...], sample: Sequence[Row]
    ) -> _Source | None:
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
            cursor = self._engine.execute(connection, Mode.READ, text, query.parameters)
        except sql.sqlite3.OperationalError as error:
            if self._engine.stopped is not None or not sql.is_plain_error(error):
                raise
            plan.can_make_json = False
            connection.text_factory = str
            return None
        return _from_sqlite(query, cursor)


#: Numbers of rows, each with those rows' JSON.
_Source = Generator[tuple[int, bytes], None, None]


def _suits_sqlite(names: tuple[str, ...], sample: Sequence[Row]) -> bool:
    """Whether SQLite would write most of such rows without any help."""
    if not 0 < len(names) <= rows.MAX_COLUMNS:
        return False
    return not any(isinstance(value, (float, bytes)) for row in sample for value in row)


def _weight(found: list[Row]) -> int:
    return sum(len(value) for row in found for value in row if isinstance(value, (str, bytes)))


def _too_many(limit: int) -> errors.LimitExceeded:
    return errors.LimitExceeded(
        f"the answer has more than {limit} rows", "ask for fewer with LIMIT, or raise the limit"
    )


class _Batches:
    """How many rows to fetch next: as many as fill a piece, or the patience."""

    def __init__(self, cursor: Cursor, limit: int, fetched: int = 0) -> None:
        self._cursor = cursor
        self._limit = limit
        self._fetched = fetched
        self._size = FIRST_ROWS
        self._began = 0.0

    def fetch(self) -> list[Row]:
        """The next rows, none at the end.

        :raises trough.errors.LimitExceeded: there is a row too many
        """
        self._began = monotonic()
        size = self._size
        if self._limit:
            size = min(size, self._limit - self._fetched)
            if size <= 0:
                if self._fetched > self._limit or self._cursor.fetchone() is not None:
                    raise _too_many(self._limit)
                return []
        found = self._cursor.fetchmany(size)
        self._fetched += len(found)
        return found

    def were(self, length: int) -> None:
        """Say how many bytes the rows fetched last were."""
        elapsed = monotonic() - self._began
        wanted = min(PIECE / max(length, 1), PATIENCE / max(elapsed, 1e-6))
        self._size = max(1, int(self._size * min(max(wanted, 0.1), 8.0)))


def _from_sqlite(query: Query, cursor: Cursor) -> _Source:
    separator = b",\n" if query.framing is Framing.OBJECTS else b","
    batches = _Batches(cursor, query.limit)
    while found := batches.fetch():
        texts: Iterable[bytes] = itertools.chain.from_iterable(found)  # type: ignore[arg-type]
        text = separator.join(texts)
        batches.were(len(text))
        yield len(found), rows.valid_utf8(text)
    cursor.close()


def _by_python(query: Query, cursor: Cursor, found: list[Row], names: tuple[str, ...]) -> _Source:
    batches = _Batches(cursor, query.limit, len(found))
    if query.limit and len(found) > query.limit:
        raise _too_many(query.limit)
    while found:
        if query.framing is Framing.OBJECTS:
            text = rows.objects_of_rows(names, found).encode()
        else:
            text = rows.array_of_rows(found)[1:-1].encode()
        yield len(found), text
        batches.were(len(text))
        found = batches.fetch()
    cursor.close()


def _lines(
    answer: Answer, query: Query, segment: str, names: _Names, source: _Source
) -> Iterator[bytes]:
    tag = query.tag
    head = rows.columns_line(tag, segment, names.json).encode()
    prefix = f"{tag} ROWS {segment} [".encode()
    for count, text in source:
        answer.count += count
        yield b"%b%b%b]\n" % (head, prefix, text)
        head = b""
    yield head + rows.done_line(tag, segment, answer.count).encode()


def _objects(
    answer: Answer, query: Query, segment: str, names: _Names, source: _Source
) -> Iterator[bytes]:
    before = b"["
    for count, text in source:
        answer.count += count
        yield before + text
        before = b",\n"
    yield b"]\n" if before != b"[" else b"[]\n"
