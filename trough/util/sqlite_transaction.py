"""Transactions on databases of our own, through the standard library's ``sqlite3``.

Segments are none of these: what runs on them comes from outside (:mod:`trough.sql`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager


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
