"""The registry's file: opening it, its version, transactions, and connections to share.

It promises three things. Only a version that knows a file uses it. A transaction is all or
nothing, however a process dies. A busy or broken file raises :class:`trough.errors.Unavailable`.
Blocking, without Twisted: servers call it on threads of their own, the Python client on its users'
threads. What the rows mean is not known here.

The standard library's ``sqlite3`` is enough here and loads fast; ``pysqlite3``, whose
authorizer and newer SQLite the users' SQL needs, stays behind :mod:`trough.sql.sqlite`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from trough import errors
from trough.util.idle_pool import IdlePool
from trough.util.sqlite_transaction import (
    numbered_scripts,
    statements_of,
    transaction,
    version_number,
)

P = ParamSpec("P")
T = TypeVar("T")
Clock = Callable[[], float]

APPLICATION_ID = 0x74726768

#: Seconds that a call waits for another process's transaction. Those take milliseconds,
#: for long changes go in portions; what is waited for is a slow disk.
BUSY_SECONDS = 15.0


def scripts() -> list[str]:
    """The scripts that make a registry, one a version, the first from nothing."""
    return numbered_scripts("trough.metadata.sqlite", "schema")


class Database:
    """One connection; used by one thread at a time.

    :param create: make the file, or bring it up to this version, where needed; without
        it the connection only reads
    :param clock: seconds since the epoch
    :param patience: seconds to wait for another process's transaction
    :param in_use: whether to bring it up to this version while servers use it
    :raises trough.errors.BadSettings: the file is not a registry, or of an unknown version, or of
        an earlier one that servers use
    :raises trough.errors.Unavailable: it cannot be opened now
    """

    def __init__(
        self,
        path: Path,
        create: bool = False,
        clock: Clock = time.time,
        patience: float = BUSY_SECONDS,
        in_use: bool = True,
    ) -> None:
        self.path = path
        self._in_use = in_use
        self._patience = patience
        self._clock = clock
        self._synchronous = ""
        with self._errors():
            self.connection = self._connect(create)
            try:
                self._prepare(create)
            except BaseException:
                self.connection.close()
                raise

    def close(self) -> None:
        """Close the file. Idempotent."""
        self.connection.close()

    def read(
        self,
        function: Callable[Concatenate[sqlite3.Connection, float, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Call `function` with the connection and the time, on one state of the file."""
        with self._errors(), transaction(self.connection, "BEGIN"):
            return function(self.connection, self._clock(), *args, **kwargs)

    def change(
        self,
        durable: bool,
        function: Callable[Concatenate[sqlite3.Connection, float, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As :meth:`read`, and keep what `function` changed unless it raises.

        :param durable: on disk before the answer; else it may be lost, whole, in a
            power cut, though never when processes die
        """
        with self._errors():
            self._synchronise("FULL" if durable else "NORMAL")
            # IMMEDIATE: a transaction that reads first and writes later could not wait
            # for another writer, and would fail instead.
            with transaction(self.connection):
                return function(self.connection, self._clock(), *args, **kwargs)

    def data_version(self) -> int:
        """Another number whenever another connection has changed the file."""
        with self._errors():
            return self.connection.execute("PRAGMA data_version").fetchone()[0]

    # -- inside ----------------------------------------------------------------

    def _connect(self, create: bool) -> sqlite3.Connection:
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        elif not self.path.exists():
            raise errors.Unavailable(f"there is no registry at {self.path}", "is Trough running?")
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}",
            uri=True,
            timeout=self._patience,
            isolation_level=None,  # transactions are ours to begin
            check_same_thread=False,
        )

    def _prepare(self, create: bool) -> None:
        known = scripts()
        if create:
            self._write_ahead()
            if not self._in_use:
                refuse_upgrade_in_use(self.connection, known, self.path, self._clock())
            upgrade(self.connection, known, self.path)
            # A burst can make the log large; this is what is kept of it afterwards.
            self.connection.execute(f"PRAGMA journal_size_limit = {64 << 20}")
        else:
            self.connection.execute("PRAGMA query_only = 1")
            if not version(self.connection, self.path):
                raise errors.Unavailable(f"the registry {self.path} is still empty", "try again")
            if check_version(self.connection, known, self.path) < len(known):
                raise _too_old(self.connection, known, self.path)

    def _write_ahead(self) -> None:
        # Of two processes that switch a new file at once, one is told "locked" without
        # the busy timeout being waited for.
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self.connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _synchronise(self, level: str) -> None:
        if level != self._synchronous:
            self.connection.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", None)
            # These are mistakes in our own SQL, not states of the file.
            if code is None or code & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
                raise
            if code == sqlite3.SQLITE_NOTADB:
                raise errors.BadSettings(f"{self.path} is not a registry: {error}") from error
            raise errors.Unavailable(f"the registry {self.path}: {error}") from error
        except OSError as error:
            raise errors.Unavailable(
                f"the registry {self.path}: {error.strerror or error}"
            ) from error


class DatabasePool:
    """Reading connections for any number of threads."""

    def __init__(self, path: Path, clock: Clock = time.time) -> None:
        # One that failed is closed: the file may have been put in another's place.
        self._databases = IdlePool(lambda: Database(path, clock=clock))

    def read(
        self,
        function: Callable[Concatenate[sqlite3.Connection, float, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """As :meth:`Database.read`, on any thread."""
        with self._databases.borrowed() as database:
            return database.read(function, *args, **kwargs)

    def close(self) -> None:
        """Close all connections, those in use when they come back. Idempotent."""
        self._databases.close()


# -- versions ----------------------------------------------------------------------


def version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a registry; 0 for an empty file.

    :raises trough.errors.BadSettings: it is a database, but no registry, or a damaged one
    """
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application == APPLICATION_ID:
        found = version_number(connection, "version", "version")
        if found is None:
            raise errors.BadSettings(
                f"the registry {path} is damaged: it has no version", "restore it from a backup"
            )
        return found
    if tables:
        raise errors.BadSettings(
            f"{path} is an SQLite database, but not a registry of Trough",
            "name another file in the metadata URL",
        )
    return 0


def check_version(connection: sqlite3.Connection, known: Sequence[Any], path: Path) -> int:
    """The version of a registry, which is one that we know.

    :raises trough.errors.BadSettings: it is not
    """
    found = version(connection, path)
    if found > len(known):
        raise errors.BadSettings(
            f"the registry {path} has version {found}; this Trough knows up to {len(known)}",
            "it was written by a later Trough: use that one",
        )
    return found


def upgrade(connection: sqlite3.Connection, known: Sequence[str], path: Path) -> None:
    """Bring a registry, or an empty file, up to the last version.

    All or nothing, and done once however many processes start together.
    """
    if check_version(connection, known, path) == len(known):
        return
    with transaction(connection):
        # Again, for another process may have done it while we waited.
        for number in range(check_version(connection, known, path), len(known)):
            for statement in statements_of(known[number]):
                connection.execute(statement)
            connection.execute("UPDATE version SET version = ?", (number + 1,))


def refuse_upgrade_in_use(
    connection: sqlite3.Connection, known: Sequence[Any], path: Path, now: float
) -> None:
    """Leave a registry of an earlier version alone while servers use it: they are of that version,
    and would not know it any more.

    :raises trough.errors.BadSettings: a server lives, by the rows of version 1
    """
    if not 0 < check_version(connection, known, path) < len(known):
        return
    rows = connection.execute(
        "SELECT node FROM leader WHERE identity != '' AND renewed_on + ttl > :now"
        " UNION SELECT node FROM worker WHERE NOT reaped AND last_heartbeat + ttl > :now",
        {"now": now},
    )
    nodes = ", ".join(row[0] for row in rows)
    if nodes:
        raise _too_old(connection, known, path, f", and servers use it ({nodes})")


def _too_old(
    connection: sqlite3.Connection, known: Sequence[Any], path: Path, more: str = ""
) -> errors.BadSettings:
    return errors.BadSettings(
        f"the registry {path} has version {version(connection, path)} of an earlier Trough{more}; "
        f"this Trough knows version {len(known)}",
        "use the tools of that Trough, or stop its servers and start those of this one",
    )
