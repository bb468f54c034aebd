"""The dialect: SQLite's SQL and types, sent by :mod:`trough.dbapi`.

It is SQLAlchemy's dialect of SQLite, without what a segment does not have: transactions over
several statements, ``RETURNING``, attached databases and temporary tables.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import URL

from trough import dbapi

if TYPE_CHECKING:
    # SQLAlchemy 1.4, which Apache Superset uses, does not have it.
    from sqlalchemy.engine.interfaces import IsolationLevel

_AUTOCOMMIT: IsolationLevel = "AUTOCOMMIT"


class TroughDialect(SQLiteDialect):
    """See the module.

    Its name stays ``sqlite``, so programs that check for that name use SQLite's SQL.
    """

    driver = "line"
    default_paramstyle = "qmark"
    supports_statement_cache = True

    insert_returning = False
    update_returning = False
    delete_returning = False
    use_insertmanyvalues = False
    postfetch_lastrowid = False
    supports_native_boolean = False

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """The driver, with the attributes that SQLAlchemy needs of SQLite's driver."""
        return dbapi

    @classmethod
    def dbapi(cls) -> ModuleType:  # type: ignore[override]
        """The same for SQLAlchemy 1.4."""
        return cls.import_dbapi()

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of ``connect``: the URL, unchanged."""
        return [url.set(drivername="trough").render_as_string(hide_password=False)], {}

    def get_isolation_level_values(self, dbapi_connection: Any) -> list[IsolationLevel]:
        """There is one."""
        return [_AUTOCOMMIT]

    def get_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:
        """There is one."""
        return _AUTOCOMMIT

    def get_default_isolation_level(self, dbapi_connection: Any) -> IsolationLevel:
        """There is one."""
        return _AUTOCOMMIT

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:
        """There is one."""

    def do_rollback(self, dbapi_connection: Any) -> None:
        """Warn about writes that cannot be rolled back."""
        try:
            dbapi_connection.rollback()
        except dbapi.NotSupportedError as error:
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)

    def do_reset(self, dbapi_connection: Any) -> None:
        """Leave a connection that returns to its pool unchanged: everything is committed."""
        dbapi_connection.commit()

    def is_disconnect(self, e: Any, connection: Any, cursor: Any) -> bool:
        """Always False: a connection of the driver replaces its sockets by itself."""
        return False

    def get_schema_names(self, connection: Any, **options: Any) -> list[str]:
        """There is one."""
        return ["main"]

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:
        return dbapi.sqlite_version_info
