"""Transactions on databases of our own, through the standard library's ``sqlite3``.

Segments are none of these: what runs on them comes from outside (:mod:`trough.sql`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources


@contextmanager
def transaction(connection: sqlite3.Connection, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
    """Commit what the block does, all of it, or nothing if it raises.

    :param connection: one that begins no transactions by itself
    """
    connection.execute(begin)
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # On a full disk, for one, SQLite has rolled back already; to try it again would
        # fail, and hide the reason.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version_number(connection: sqlite3.Connection, column: str, table: str) -> int | None:
    """The version that a database of ours has in the one row of `table`.

    :return: None if there is no row, or none with a version: the file is damaged
    """
    row = connection.execute(f"SELECT {column} FROM {table}").fetchone()
    return row[0] if row is not None and isinstance(row[0], int) and row[0] > 0 else None


def numbered_scripts(package: str, name: str) -> list[str]:
    """The scripts ``NAME_1.sql``, ``NAME_2.sql`` ... of a package: each makes the next version
    of a database out of the one before, the first out of nothing."""
    found: list[str] = []
    directory = resources.files(package)
    while (script := directory / f"{name}_{len(found) + 1}.sql").is_file():
        found.append(script.read_text(encoding="utf-8"))
    return found


def statements_of(script: str) -> Iterator[str]:
    """The statements of a script, for a transaction around all of them.

    ``executescript()`` would commit it.
    """
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
    if statement.strip():
        yield statement
