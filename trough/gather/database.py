"""The SQLite databases that gathering works in: private, in memory or in one temporary file.

Two things are done in them. A *catalogue* has the tables of all segments, empty, so that
SQLite itself says whether a text is valid, what it reads and what its columns are called.
A *scratch* database holds what the segments sent, so that SQLite itself merges, types,
collates and orders it.

Texts of users run here, in the process of whoever asks: an authorizer lets them read the
tables and call functions, and no more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from trough import errors

try:
    from trough.sql import sqlite3
except ImportError:
    import pysqlite3.dbapi2 as sqlite3

# Actions that a SELECT needs. SQLITE_TRANSACTION and PRAGMA are not among them.
_READING = frozenset(
    {
        sqlite3.SQLITE_SELECT,
        sqlite3.SQLITE_READ,
        sqlite3.SQLITE_FUNCTION,
        sqlite3.SQLITE_RECURSIVE,
    }
)

_FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "writefile", "readfile"})

#: Called with SQLite's action code and up to four strings, for what a text is about to do.
Watcher = Callable[[int, Any, Any, Any, Any], None]

#: Steps of SQLite's machine between two looks at the clock or at a request to stop.
STEPS = 10_000


def connect(path: str = ":memory:") -> Any:
    """A connection without limits on what it may do, for our own statements."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.create_function("regexp", 2, _regexp, deterministic=True)
    return connection


def _regexp(pattern: Any, value: Any) -> bool:
    if pattern is None or value is None:
        return False
    return re.search(str(pattern), str(value)) is not None


def confine(connection: Any, watcher: Watcher | None = None) -> None:
    """From now on, only reading: until :func:`release`."""

    def authorize(action: int, *names: Any) -> int:
        if action not in _READING:
            return sqlite3.SQLITE_DENY
        if action == sqlite3.SQLITE_FUNCTION and str(names[1]).lower() in _FORBIDDEN_FUNCTIONS:
            return sqlite3.SQLITE_DENY
        if watcher is not None:
            watcher(action, *names)
        return sqlite3.SQLITE_OK

    connection.set_authorizer(authorize)


def release(connection: Any) -> None:
    """Take back :func:`confine`."""
    connection.set_authorizer(None)


def refused(error: Exception, sql: str) -> errors.BadSql:
    """The error that a user is told when SQLite did not take `sql`."""
    text = str(error)
    if "not authorized" in text or "prohibited" in text:
        return errors.ForbiddenSql(f"GATHER only reads: {text}", _shown(sql))
    return errors.BadSql(text, _shown(sql))


def _shown(sql: str) -> str:
    line = " ".join(sql.split())
    return line if len(line) <= 200 else f"{line[:200]}..."


def name(text: str) -> str:
    """`text` as an identifier in SQL, which SQLite never takes for a string."""
    # In double quotes an unknown name would quietly become a text. Brackets cannot hold
    # a closing bracket, backticks double theirs.
    return "`" + text.replace("`", "``") + "`"


def literal(text: str) -> str:
    """`text` as a string in SQL."""
    return "'" + text.replace("'", "''") + "'"
