"""SQLite, as Trough uses it: connections on segments, and SQLite's errors as errors of Trough.

This is the only module that imports pysqlite3. Everything in it blocks. Each executor process
has one :class:`Engine` and uses it on one thread. All connections share what it holds: the
sandbox, the functions, and a callback. A running statement calls that now and then, to ask
whether it may go on.

:meth:`Engine.error` translates every error that SQLite raises. It names the segment's file if
the file is at fault.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pysqlite3 import dbapi2 as sqlite3

from trough import errors
from trough.sql import missing_modules, statements
from trough.sql.functions import Functions, out_of_memory
from trough.sql.library import MMAP_SIZE, DatabaseHandles
from trough.sql.queries import Parameters
from trough.sql.rows import ROW_JSON, row_json
from trough.sql.sandbox import Mode, Sandbox
from trough.util.confined_files import ConfinedRoot, UnusablePath, check_whole

if TYPE_CHECKING:
    # pysqlite3 has no types of its own, and the ways of the standard library's module.
    from sqlite3 import Connection, Cursor
else:
    Connection, Cursor = sqlite3.Connection, sqlite3.Cursor

#: Virtual machine instructions between two looks at the clock: below a millisecond, and
#: too many for the look to be noticed.
TICK_INSTRUCTIONS = 10_000

#: Prepared statements that a connection keeps.
KEPT_STATEMENTS = 16

#: Bytes of pages that a connection for writes keeps: twice SQLite's default, for many
#: rows at once touch as many pages of each index.
WRITE_CACHE = 4 << 20

#: Seconds to wait for a lock. Readers and writers never wait for each other in WAL mode;
#: what is left are the moments in which a WAL is set up or recovered.
LOCK_SECONDS = 10.0

#: Everything that a call into SQLite is seen to raise.
Error = (
    sqlite3.Error,
    sqlite3.Warning,
    MemoryError,
    OverflowError,
    UnicodeError,
    ValueError,
    TypeError,
)

#: Seconds of processor time that the SQL of a schema may take on an empty database.
SCHEMA_SECONDS = 2.0

#: Bytes that a segment may have when its schema has run: a schema makes tables, and is no way
#: to fill memory or a disk.
NEW_SEGMENT_SIZE = 64 << 20

#: First words of writes that are refused before SQLite sees them, with a clear error.
_BEYOND_TRANSACTION = frozenset(
    (
        *("BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE"),
        *("ATTACH", "DETACH", "VACUUM"),
    )
)

#: The first version of SQLite that counts the frames of a WAL without a checkpoint.
COUNTS_FRAMES = (3, 51, 0)

# The second is what it is in a schema: of a generated column, a constraint, an index.
_NO_SUCH_FUNCTION = re.compile(r"(?:no such|unknown) function: (\w+)")
_NOT_UTF8 = "Could not decode to UTF-8"

# Primary result codes of SQLite's C interface.
_ERROR = 1
_BUSY, _LOCKED, _NOMEM, _READONLY, _INTERRUPT = 5, 6, 7, 8, 9
_IOERR, _CORRUPT, _FULL, _CANTOPEN, _TOOBIG, _AUTH, _NOTADB = 10, 11, 13, 14, 18, 23, 26
# And of its extended ones: a file that ends too early.
_IOERR_SHORT_READ = 522
_IOERR_NOMEM = 3082
# And what a virtual table reports of its own content, which is no damage to the file.
_CORRUPT_VTAB = 267

_handles = DatabaseHandles(lambda: sqlite3.connect(":memory:"))


class Engine:
    """What all connections of one process share.

    :param tick: called while a statement runs; another value than 0 interrupts it, in
        which case :attr:`stopped` is the reason
    :param mounts: directories into which other programs put files
    :ivar stopped: the error that an interrupted statement ends with, or None
    """

    def __init__(self, tick: Callable[[], int] | None = None, mounts: Sequence[str] = ()) -> None:
        self.mounts = mounts
        self.sandbox = Sandbox(virtual_tables=_handles.available)
        self.functions = Functions()
        self.stopped: errors.TroughError | None = None
        self._tick = tick
        self._authorize = self.sandbox.authorize

    # -- connections -------------------------------------------------------------------

    def open_reader(self, path: str, writable: bool) -> Connection:
        """A connection that cannot write.

        :param writable: the file is in WAL mode and may be written meanwhile; else it
            never changes, and SQLite neither locks it nor looks for a journal
        """
        if not writable:
            self._check_mounted(path)
        connection = self._connect(path, _read_only(writable))
        self._map(connection)
        if writable:
            # What is in the WAL is not mapped but kept: little, for there are many handles.
            self.own(connection, "PRAGMA cache_size=-256")
        return connection

    def _check_mounted(self, path: str) -> None:
        """Refuse a file of a mount that leads out of it, or lacks rows.

        :raises trough.errors.UnusableFile: naming the reason
        """
        for root in self.mounts:
            if path.startswith(f"{root.rstrip('/')}/"):
                try:
                    with ConfinedRoot(Path(root)).locate(path[len(root) :]) as located:
                        check_whole(located)
                except UnusablePath as reason:
                    raise errors.UnusableFile(f"{path}: {reason}") from reason
                except OSError:
                    return  # SQLite reports what is wrong

    def open_writer(self, path: str, create: bool = False) -> Connection:
        """A connection that can write, and whose commits are on disk when they return."""
        connection = self._connect(path, "mode=rwc" if create else "mode=rw")
        _handles.defend(connection)
        _handles.tell_all(connection)
        self.own(connection, "PRAGMA synchronous=FULL")
        self.own(connection, f"PRAGMA cache_size=-{WRITE_CACHE >> 10}")
        # A WAL that a long reader let grow is cut again at the next checkpoint after it.
        self.own(connection, "PRAGMA journal_size_limit=16777216")
        return connection

    def open_logged(self, path: str) -> Connection:
        """A connection that writes a segment whose WAL is replicated.

        SQLite neither begins the WAL again nor flushes it by itself: see
        :mod:`trough.sql.commit_log`.

        :raises trough.errors.Unavailable: this SQLite cannot be had to
        """
        connection = self.open_writer(path)
        if sqlite3.sqlite_version_info < COUNTS_FRAMES or not _handles.keep_wal(connection):
            connection.close()
            raise errors.Unavailable(
                f"SQLite {sqlite3.sqlite_version} cannot replicate {Path(path).name}",
                "install the pysqlite3 that Trough's requirements name",
            )
        self.own(connection, "PRAGMA wal_autocheckpoint=0")
        self.own(connection, "PRAGMA synchronous=NORMAL")
        return connection

    def open_for_check(self, path: str, writable: bool) -> Connection:
        """As :meth:`open_reader`, but no code that a segment contains runs on it.

        To check a segment SQLite computes generated columns and constraints, and has
        virtual tables scan all of their content. None of this shows anything about the
        pages, and a pattern might never end.
        """
        connection = self._connect(path, _read_only(writable))
        for name, (arguments, _) in self.functions.registry.items():
            connection.create_function(name, arguments, _nothing, deterministic=True)
        _handles.drop_modules(connection)
        return connection

    def _connect(self, path: str, mode: str) -> Connection:
        connection = sqlite3.connect(
            f"file:{_in_uri(path)}?{mode}",
            uri=True,
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=KEPT_STATEMENTS,
        )
        connection.set_authorizer(self._authorize)
        if self._tick is not None:
            connection.set_progress_handler(self._tick, TICK_INSTRUCTIONS)
        return connection

    def open_private(self) -> Connection:
        """A connection on a database in memory."""
        connection = self._connect(":memory:", "mode=memory")
        _handles.defend(connection)
        _handles.tell_all(connection)
        return connection

    def _map(self, connection: Connection) -> None:
        global _mapped_by_default
        if _mapped_by_default:
            return
        size = self.own(connection, "PRAGMA mmap_size").fetchone()
        if size is not None and size[0] >= MMAP_SIZE:
            _mapped_by_default = True
        else:
            self.own(connection, f"PRAGMA mmap_size={MMAP_SIZE}")

    # -- statements --------------------------------------------------------------------

    def execute(
        self, cursor: Cursor, mode: Mode, sql: str, parameters: Parameters = None
    ) -> Cursor:
        """Begin one statement; raises what SQLite raises.

        Trough's functions are given to a connection when a statement first wants one:
        most never do, and it would be a good part of opening a small segment.
        """
        self.sandbox.mode = mode
        try:
            return cursor.execute(sql, parameters or ())
        except sqlite3.DatabaseError as error:
            if not self._add_what_is_missing(cursor.connection, mode, str(error)):
                raise
        self.sandbox.mode = mode
        return cursor.execute(sql, parameters or ())

    def own(self, connection: Connection, sql: str) -> Cursor:
        """Run a statement of Trough itself; raises what SQLite raises."""
        return self.execute(connection.cursor(), Mode.OWN, sql)

    def write(
        self, connection: Connection, text: str | bytes, parameters: Parameters = None
    ) -> None:
        """Run SQL that may write: one statement with parameters, or any number without.

        The caller keeps the transaction around them. Rows that they give are dropped.

        :raises trough.errors.BadSql: there is no statement, or parameters for several
        :raises trough.errors.ForbiddenSql: a statement begins, ends or leaves the
            transaction, or reaches another file
        """
        text = statements.as_text(text)
        _refuse_beyond_transaction(text)
        try:
            self.execute(connection.cursor(), Mode.WRITE, text, parameters)
            return
        except sqlite3.Warning:  # more than one statement; nothing has been run
            pass
        if parameters:
            raise errors.BadSql(
                "parameters are given for more than one statement", "send each on its own"
            )
        for statement in statements.split(text):
            _refuse_beyond_transaction(statement)
            self.execute(connection.cursor(), Mode.WRITE, statement)

    def _add_what_is_missing(self, connection: Connection, mode: Mode, message: str) -> bool:
        """Give a connection what a statement failed for; whether there was something."""
        found = _NO_SUCH_FUNCTION.search(message)
        if found is not None and found[1] in self.functions:
            self.functions.add_to(connection)
            return True
        return mode == Mode.READ and self.sandbox.wanted_to_write and self._open_tables(connection)

    def _open_tables(self, connection: Connection) -> bool:
        """Let the virtual tables of a segment that is only read prepare their statements.

        An R-tree prepares those by which it would write as well, when it is first used. They
        can do nothing here, for the connection is read-only; what a reader's own text wants
        is judged afterwards as before.

        :return: whether there are any
        """
        names = [
            row[0]
            for row in self.own(
                connection,
                "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage = 0",
            )
        ]
        if not names:
            return False
        self.sandbox.mode = Mode.WRITE
        for name in names:
            quoted = name.replace('"', '""')
            with contextlib.suppress(sqlite3.Error):  # the query reports what is wrong with it
                connection.execute(f'SELECT 1 FROM "{quoted}" LIMIT 0')
        self.sandbox.forget()
        return True

    def add_row_json(self, connection: Connection) -> None:
        """Let `connection` run what :func:`trough.sql.rows.json_query` makes."""
        connection.create_function(ROW_JSON, -1, row_json, deterministic=True)

    # -- errors ------------------------------------------------------------------------

    def error(
        self, error: BaseException, path: str, connection: Connection | None = None
    ) -> errors.TroughError:
        """Translate what SQLite raised into an error of Trough, and forget what led to it.

        :param path: of the file that it happened on
        :param connection: on which it happened just now, if that is one that reads
        """
        refused = self.sandbox.refused
        self.sandbox.forget()
        stopped, self.stopped = self.stopped, None
        problem, self.functions.problem = self.functions.problem, None
        if isinstance(error, errors.TroughError):
            return error
        if stopped is not None:
            return stopped
        if refused is not None:
            return errors.ForbiddenSql(f"not allowed here: {refused}")
        if problem is not None:
            return problem
        code = getattr(error, "sqlite_errorcode", None) or 0
        if connection is not None and code == _CORRUPT:
            # Connections that read are opened too often to set each one to report more.
            code = _handles.last_code(connection) or code
        return _translated(error, path, code)


def check_schema(text: str | bytes) -> None:
    """Try a schema's SQL on an empty database in memory; empty SQL is fine.

    It may never end, so call it in a process that can be killed.

    :raises trough.errors.BadSchema: it cannot be a schema, and why
    """
    engine = Engine()
    with contextlib.closing(engine.open_private()) as connection:
        try:
            run_schema(engine, connection, text)
        except Error as error:
            told = engine.error(error, "the schema")
            if isinstance(told, errors.DiskFull):
                raise schema_is_too_large() from error
            raise bad_schema(told) from error
        except errors.BadSql as error:
            raise bad_schema(error) from error


def run_schema(engine: Engine, connection: Connection, text: str | bytes) -> None:
    """Run a schema's SQL in one transaction; raises what :meth:`Engine.write` raises."""
    text = statements.schema_text(statements.as_text(text))
    if not any(statements.split(text)):
        return
    (page,) = engine.own(connection, "PRAGMA page_size").fetchone()
    engine.own(connection, f"PRAGMA max_page_count={NEW_SEGMENT_SIZE // page}")
    engine.own(connection, "BEGIN IMMEDIATE")
    engine.write(connection, text)
    engine.own(connection, "COMMIT")


def schema_runs_too_long() -> errors.BadSchema:
    """The error for a schema whose SQL was killed."""
    return bad_schema(
        errors.LimitExceeded(
            f"it ran for more than {SCHEMA_SECONDS:g} s", "a schema only makes tables and indexes"
        )
    )


def schema_is_too_large() -> errors.BadSchema:
    """The error for a schema whose SQL fills the new segment."""
    return bad_schema(
        errors.LimitExceeded(
            f"it fills a new segment with more than {NEW_SEGMENT_SIZE >> 20} MiB",
            "a schema only makes tables and indexes; write rows to the segment",
        )
    )


def bad_schema(error: errors.TroughError) -> errors.BadSchema:
    """What is wrong with a schema, given what is wrong with its SQL."""
    return errors.BadSchema(f"the schema's SQL does not run: {error.message}", error.hint)


def _nothing(*values: object) -> None:
    """Stands for each of Trough's functions where a segment is only looked through."""


def _refuse_beyond_transaction(text: str) -> None:
    word = statements.first_word(text)
    if word in _BEYOND_TRANSACTION:
        raise errors.ForbiddenSql(
            f"{word} is not allowed in a write", "a write is one transaction by itself"
        )


# Whether new connections map their files by default, as trough.sql.library arranges.
_mapped_by_default = False


def limit_memory(size: int) -> None:
    """Let SQLite have no more than `size` bytes in this process; a statement that needs
    more ends with :class:`trough.errors.LimitExceeded`."""
    connection = sqlite3.connect(":memory:")
    connection.execute(f"PRAGMA hard_heap_limit={size}")
    connection.close()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a statement ended because there was not enough memory."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, MemoryError) or code in (_NOMEM, _IOERR_NOMEM)


def is_io_error(error: BaseException) -> bool:
    """Whether the disk failed, so that nobody knows what is on it."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & 0xFF == _IOERR and code != _IOERR_NOMEM


def is_not_utf8(error: BaseException) -> bool:
    """Whether pysqlite3 met a TEXT that is not UTF-8, which it refuses to turn into `str`
    unless :func:`lenient_text` is the connection's text factory."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith(_NOT_UTF8)


def is_plain_error(error: BaseException) -> bool:
    """Whether SQLite reports only that it does not take the SQL."""
    return getattr(error, "sqlite_errorcode", None) == _ERROR


def lenient_text(value: bytes) -> str:
    """TEXT as `str`, with what is not UTF-8 replaced by U+FFFD."""
    return value.decode("utf-8", "replace")


def _read_only(writable: bool) -> str:
    """How to open a file to read it; see :meth:`Engine.open_reader`."""
    # Without locks: to keep account of them SQLite scans a list of all open files at each
    # further one, which with thousands is half of the work. No other connection of this
    # process may hold a lock on the same file: closing the file would release that lock.
    return "mode=ro" if writable else "mode=ro&immutable=1&vfs=unix-none"


def _in_uri(path: str) -> str:
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _translated(error: BaseException, path: str, code: int) -> errors.TroughError:
    message = str(error)
    if is_out_of_memory(error) or code == _TOOBIG:
        return out_of_memory()
    if isinstance(error, sqlite3.Warning):
        return statements.more_than_one()
    # What goes wrong in a backup is raised without its code.
    translate = _BY_CODE.get(code & 0xFF or _WITHOUT_CODE.get(message, 0))
    if code == _IOERR_SHORT_READ:
        translate = _corrupt
    if code == _CORRUPT_VTAB:
        translate = _damaged_table
    if translate is not None:
        return translate(message, path)
    return missing_modules.explained(message) or errors.BadSql(message or type(error).__name__)


def _corrupt(message: str, path: str) -> errors.TroughError:
    return errors.CorruptSegment(f"{Path(path).name} is damaged: {message}")


def _damaged_table(message: str, path: str) -> errors.TroughError:
    return errors.BadSql(
        f"what a virtual table of {Path(path).name} keeps does not fit together: {message}",
        "if it is one of fts5, INSERT INTO name(name) VALUES('rebuild') makes its index again",
    )


def _cannot_open(message: str, path: str) -> errors.TroughError:
    if not Path(path).exists():
        # The file was removed; as with a damaged one, the canonical copy replaces it.
        return errors.CorruptSegment(f"the file {Path(path).name} is gone")
    return errors.Unavailable(f"{Path(path).name} cannot be opened: {message}")


def _unavailable(message: str, path: str) -> errors.TroughError:
    return errors.Unavailable(f"{Path(path).name}: {message}")


def _full(message: str, path: str) -> errors.TroughError:
    return errors.DiskFull(
        f"no room to write {Path(path).name}: {message}", "nothing of it was applied"
    )


def _forbidden(message: str, path: str) -> errors.TroughError:
    return errors.ForbiddenSql(f"not allowed here: {message}")


def _interrupted(message: str, path: str) -> errors.TroughError:
    return errors.Cancelled("the statement was interrupted")


_BY_CODE: dict[int, Callable[[str, str], errors.TroughError]] = {
    _CORRUPT: _corrupt,
    _NOTADB: _corrupt,
    _CANTOPEN: _cannot_open,
    _BUSY: _unavailable,
    _LOCKED: _unavailable,
    _IOERR: _unavailable,
    _FULL: _full,
    _AUTH: _forbidden,
    _READONLY: _forbidden,
    _INTERRUPT: _interrupted,
}

#: SQLite's own words for some results, which do not change.
_WITHOUT_CODE = {
    "database or disk is full": _FULL,
    "database disk image is malformed": _CORRUPT,
    "file is not a database": _NOTADB,
    "disk I/O error": _IOERR,
    "database is locked": _BUSY,
}
