"""The SQLite databases that gathering works in: private, in memory or in one temporary file.

There are two kinds. A *catalogue* has the tables of all segments, empty. SQLite itself reports from
it whether a text is valid, what it reads and what its columns are called. A *scratch* database
holds what the segments sent, so that SQLite itself merges, types, collates and orders it.

Texts of users run here, in the caller's process. They can read the tables and call the functions
that they could in a segment, and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from trough import errors
from trough.sql.functions import Functions
from trough.sql.sandbox import ALLOWED, DENIED, FUNCTIONS, Action
from trough.sql.sqlite import is_out_of_memory, sqlite3

if TYPE_CHECKING:
    # pysqlite3 has no types of its own, and the ways of the standard library's module.
    from sqlite3 import Connection, Cursor
else:
    Connection, Cursor = sqlite3.Connection, sqlite3.Cursor

#: Called with SQLite's action and up to four names, for what a text is about to do.
Watcher = Callable[[int, Any, Any, Any, Any], None]

#: Instructions of SQLite's machine between two looks at whether to go on.
STEPS = 10_000

#: What SQLite, and pysqlite3 for it, raise about a text.
Error = (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError)

_INTERRUPT = 9

#: Pragmas that describe a segment's tables.
DESCRIBING = frozenset(
    {"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"}
)

_READING = frozenset({Action.SELECT, Action.READ, Action.RECURSIVE})


class _WithFunctions(Connection):
    """A connection that keeps Trough's functions, and so the error that one of them raised:
    SQLite itself reports only that there was an error."""

    functions: Functions


def connect(path: str = ":memory:") -> Connection:
    """A connection that may do anything, for our own statements."""
    connection = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, factory=_WithFunctions
    )
    connection.functions = Functions()
    connection.functions.add_to(connection)
    return connection


def confine(
    connection: Connection,
    watcher: Watcher | None = None,
    own: frozenset[str] = frozenset(),
    pragmas: bool = False,
) -> None:
    """From now on only reading is allowed, until :func:`release`.

    :param own: names of functions besides those that any text may call
    :param pragmas: those that describe tables are allowed, for ``pragma_table_info`` in FROM
    """

    def authorize(action: int, first: Any, second: Any, third: Any, fourth: Any) -> int:
        if action == Action.FUNCTION:
            allowed = (name := str(second).lower()) in FUNCTIONS or name in own
        elif action == Action.PRAGMA:
            allowed = pragmas and str(first).lower() in DESCRIBING
        elif action == Action.READ and (pragma := _pragma_function(str(first))):
            # Its PRAGMA is compiled when it runs; a text is refused when it is compiled.
            allowed = pragmas and pragma in DESCRIBING
        else:
            allowed = action in _READING
        if allowed and watcher is not None:
            watcher(action, first, second, third, fourth)
        return ALLOWED if allowed else DENIED

    connection.set_authorizer(authorize)


def _pragma_function(table: str) -> str:
    """The pragma that a table in FROM stands for, in lower case, or empty."""
    pragma = folded(table).removeprefix("pragma_")
    return pragma if pragma != folded(table) and pragma in _all_pragmas() else ""


@lru_cache(maxsize=1)
def _all_pragmas() -> frozenset[str]:
    connection = sqlite3.connect(":memory:")
    try:
        return frozenset(row[0] for row in connection.execute("PRAGMA pragma_list"))
    finally:
        connection.close()


def release(connection: Connection) -> None:
    """Take back :func:`confine`."""
    connection.set_authorizer(None)


def refused(
    error: BaseException, sql: str, connection: Connection | None = None
) -> errors.TroughError:
    """The error for a user when SQLite did not accept `sql`.

    :param connection: of :func:`connect`, on which it happened just now
    """
    text = str(error)
    problem = _problem_of(connection)
    if problem is not None and text.startswith("user-defined"):
        return problem
    if is_out_of_memory(error):
        return errors.LimitExceeded(
            "it needs more memory than GATHER may have", "ask for less at once, or shorter values"
        )
    if "not authorized" in text or "prohibited" in text:
        return errors.ForbiddenSql(f"GATHER only reads tables: {text}", shown(sql))
    return errors.BadSql(text, shown(sql))


def _problem_of(connection: Connection | None) -> errors.TroughError | None:
    """What one of Trough's functions raised on a connection, which forgets it."""
    if not isinstance(connection, _WithFunctions):
        return None
    problem, connection.functions.problem = connection.functions.problem, None
    return problem


def was_interrupted(error: BaseException) -> bool:
    """Whether a progress handler ended the statement."""
    return getattr(error, "sqlite_errorcode", None) == _INTERRUPT


def shown(sql: str) -> str:
    """`sql` in one line, and not too long for a message."""
    line = " ".join(sql.split())
    return line if len(line) <= 200 else f"{line[:200]}..."


def name(text: str) -> str:
    """`text` as an identifier in SQL, which SQLite never takes for a string.

    In double quotes an unknown name would quietly become a text.
    """
    return "`" + text.replace("`", "``") + "`"


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def folded(text: str) -> str:
    """A name as SQLite compares it: A to Z without their case, and É is not é."""
    return text.lower() if text.isascii() else text.translate(_LOWER)
