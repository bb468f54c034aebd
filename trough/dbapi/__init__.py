"""Trough for programs that know PEP 249: one segment, or many as one database::

    from trough import dbapi

    with dbapi.connect("trough://localhost:6110/300001") as connection:
        cursor = connection.execute("SELECT url FROM crawled_url WHERE status_code = ?", [404])
        for (url,) in cursor:
            ...

It uses the line protocol over blocking sockets, and imports no Twisted. ``docs/drivers.rst``
describes URLs and options. Two things differ from most databases: **each statement is a
transaction of its own**, and rows stay with the server until the program fetches them.
"""

from __future__ import annotations

from trough.dbapi.connection import Connection, connect
from trough.dbapi.cursor import Cursor
from trough.dbapi.exceptions import (
    DatabaseError,
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    OutcomeUnknown,
    ProgrammingError,
    Warning,
)
from trough.dbapi.types import (
    BINARY,
    DATETIME,
    NUMBER,
    ROWID,
    STRING,
    Binary,
    Date,
    DateFromTicks,
    Time,
    TimeFromTicks,
    Timestamp,
    TimestampFromTicks,
)

apilevel = "2.0"
#: Threads may share the module, but no connection.
threadsafety = 1
#: ``?``; ``:name`` works, too.
paramstyle = "qmark"
#: The minimum version of SQLite on all servers; SQLAlchemy asks for it before it connects.
sqlite_version_info = (3, 45, 0)

__all__ = [
    "BINARY",
    "DATETIME",
    "NUMBER",
    "ROWID",
    "STRING",
    "Binary",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "OutcomeUnknown",
    "ProgrammingError",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "apilevel",
    "connect",
    "paramstyle",
    "sqlite_version_info",
    "threadsafety",
]
