"""A query, as an executor knows it, and what its answers look like.

A plan is one SQL text, which may be asked of ten thousand segments; a query is a plan with
its parameters; an answer is what one segment gave. This module holds values and checks only, and
uses no connection.
"""

from __future__ import annotations

import enum
from collections.abc import Generator, Mapping, Sequence
from typing import Protocol

from trough import errors
from trough.sql import rows, statements
from trough.sql.functions import Value
from trough.sql.rows import Row

#: Values to bind: by place, or by name.
Parameters = Sequence[Value] | Mapping[str, Value] | None

#: Bytes that are handed on at once: enough that a piece costs little beside its rows,
#: few enough that several queries in turn look simultaneous.
PIECE = 65536

#: Bytes of an answer's line from which it has one row only: a GATHER refuses lines that are larger
#: still.
ONE_ROW = 16 * PIECE

_SELECTS = frozenset({"SELECT", "WITH", "VALUES"})

#: First words of queries that are refused before SQLite sees them, with a clear error.
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


#: The same, for each request: Python 3.11 calls a function for each ``Framing.LINES``.
LINES, OBJECTS = Framing.LINES, Framing.OBJECTS


class QueryPlan:
    """One SQL text, which may be asked of many segments.

    :ivar columns_alone: whether it selects columns of one table and calls no function, as
        far as that is known
    :ivar is_pragma: whether it is a PRAGMA
    :raises trough.errors.BadSql: there is no statement in it
    :raises trough.errors.ForbiddenSql: its first word is that of a statement that writes
    """

    __slots__ = ("_queries", "can_make_json", "columns_alone", "is_pragma", "text")

    def __init__(self, text: str) -> None:
        word = statements.first_word(text)
        if word in _NOT_READING:
            raise errors.ForbiddenSql(
                f"{word} is not allowed in a query", "a query is SELECT, WITH, VALUES or EXPLAIN"
            )
        self.text = text
        self.can_make_json = word in _SELECTS
        self.is_pragma = word == "PRAGMA"
        self.columns_alone = False
        self._queries: dict[tuple[tuple[str, ...], Framing], str] = {}

    def json_query(self, names: tuple[str, ...], framing: Framing, sample: Sequence[Row]) -> str:
        """The form in which SQLite makes the JSON.

        :param sample: some rows, or none where it was made before
        """
        query = self._queries.get((names, framing))
        if query is None:
            statement = statements.only_statement(self.text)
            query = rows.json_query(
                statement, names, sample, framing is OBJECTS, self.columns_alone
            )
            self._queries[names, framing] = query
        return query


class Query(Protocol):
    """A plan with its parameters, and how its answers are to look.

    :ivar limit: rows of one segment, 0 for no limit
    :ivar tag: what each line begins with
    :ivar keeps: whether it is asked if the answer would be the same again
    """

    plan: QueryPlan
    parameters: Parameters
    limit: int
    framing: Framing
    tag: str
    keeps: bool


class Answer:
    """The answer of one segment to a query so far, and the source of the rest.

    :ivar first: the answer, or its first piece
    :ivar count: rows so far
    :ivar over: whether the last piece was made; set by the maker of the pieces
    """

    # Here and not set for each: nearly all answers are small.
    over = True
    _pieces: Generator[bytes, None, None] | None = None

    def __init__(self, first: bytes = b"", count: int = 0) -> None:
        self.first = first
        self.count = count

    def begin(self, pieces: Generator[bytes, None, None]) -> None:
        """Take a first piece of several; raises what `pieces` raises."""
        self.over = False
        self._pieces = pieces
        self.first = self.go_on()

    def go_on(self) -> bytes:
        """The next piece, while it is not :attr:`over`.

        :raises trough.errors.TroughError: the query failed
        """
        assert self._pieces is not None
        piece = next(self._pieces)
        if self.over:
            self.close()
        return piece

    def close(self) -> None:
        """Give back what is held; to be called where the answer is not read to its end."""
        if self._pieces is not None:
            self._pieces.close()
            self._pieces = None


class ColumnNames:
    """The columns of the answers of one segment to one text.

    :ivar json: their names as a JSON array
    :ivar large: whether the last answer was large
    """

    __slots__ = ("json", "large", "names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.json = rows.names_json(names)
        self.large = False


def too_many(limit: int) -> errors.LimitExceeded:
    """The error of a query whose answer has too many rows."""
    return errors.LimitExceeded(
        f"the answer has more than {limit} rows", "ask for fewer with LIMIT, or raise the limit"
    )
