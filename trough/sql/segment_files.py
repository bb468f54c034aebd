"""Operations on a segment's whole file: make it, make it writable, retire, copy, check.

Each is atomic for readers of the path: a new file appears whole and flushed to disk, or not at
all. The functions raise errors of Trough only, and block, as in :mod:`trough.sql.sqlite`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from trough import errors
from trough.sql import log_mark, sqlite, statements
from trough.sql.commit_log import CommitLog
from trough.sql.handles import Handles
from trough.sql.sqlite import Connection, Engine
from trough.util import atomic_files
from trough.util.quoting import quoted

#: Pages that a snapshot copies between two looks at whether it should go on.
SNAPSHOT_PAGES = 4096


def create(engine: Engine, path: str, schema: str | bytes, temporary: Path | None = None) -> None:
    """Make a new segment in WAL mode with the tables of a schema.

    :param temporary: where it is made before it appears at `path`
    :raises trough.errors.Conflict: there is a file at `path`
    :raises trough.errors.BadSchema: the schema's SQL does not run
    """
    target = Path(path)
    if target.exists():
        raise errors.Conflict(
            f"there is a file {target.name} already", "it is not replaced by an empty one"
        )
    with _appearing(target, temporary) as made, _in_our_words(engine, path):
        with contextlib.closing(engine.open_writer(str(made), create=True)) as connection:
            _set_journal_mode(engine, connection, "wal")
            try:
                sqlite.run_schema(engine, connection, schema)
            except errors.BadSql as error:
                raise sqlite.bad_schema(error) from error
            except sqlite.Error as error:
                told = engine.error(error, path)
                if isinstance(told, errors.BadRequest):
                    raise sqlite.bad_schema(told) from error
                if isinstance(told, errors.DiskFull) and _has_room(target.parent):
                    raise sqlite.schema_is_too_large() from error
                raise told from error
            # Closing the last connection would do this too, but not report an error.
            _checkpoint(engine, connection)


def create_as_task(path: str, schema: str | bytes, temporary: str) -> None:
    """As :func:`create`, in a process that may be killed and called again.

    :param temporary: the caller removes it with :func:`remove_temporary` if this fails
    """
    remove_temporary(temporary)
    create(Engine(), path, schema, Path(temporary))


def remove_temporary(temporary: str) -> None:
    """Remove a database that was not finished, and what SQLite made beside it."""
    for companion in ("", "-wal", "-shm", "-journal"):
        Path(f"{temporary}{companion}").unlink(missing_ok=True)


def make_writable(engine: Engine, path: str) -> None:
    """Put a segment's file into WAL mode. Idempotent.

    :raises trough.errors.CorruptSegment: it is damaged
    """
    with _in_our_words(engine, path):
        with contextlib.closing(_open_writer(engine, path)) as connection:
            _set_journal_mode(engine, connection, "wal")


def retire(engine: Engine, path: str) -> None:
    """Bring everything into a segment's one file, which may then be opened as one that
    never changes. Idempotent. No other process may have it open.

    :raises trough.errors.Unavailable: it is open elsewhere
    """
    with _in_our_words(engine, path):
        with contextlib.closing(engine.open_writer(path)) as connection:
            _checkpoint(engine, connection)
            _set_journal_mode(engine, connection, "delete")
    log_mark.path_of(path).unlink(missing_ok=True)
    atomic_files.fsync_directory(Path(path).parent)


def begin_log(engine: Engine, path: str) -> None:
    """Have the WAL of a segment that was made writable be replicated from now on. Idempotent:
    a log that was begun goes on. No process may have the segment open to write it."""
    with _in_our_words(engine, path):
        if log_mark.read(path) is None:
            log_mark.write(path, log_mark.begin())
        open_for_writes(engine, path).close()


def checkpoint_log(engine: Engine, path: str, position: int) -> None:
    """Bring a replicated WAL into the database, and have the next write begin it again.

    :param position: up to which everything is acknowledged; has to be the end of the log
    :raises trough.errors.Unavailable: it is not, or a reader needs the WAL; the log is whole
    """
    with _in_our_words(engine, path):
        with contextlib.closing(open_for_writes(engine, path)) as connection:
            with contextlib.closing(CommitLog(engine, connection, path)) as log:
                log.checkpoint(position)


def _open_writer(engine: Engine, path: str) -> Connection:
    return engine.open_logged(path) if is_logged(path) else engine.open_writer(path)


def is_logged(path: str) -> bool:
    """Whether the WAL of a segment is replicated."""
    return log_mark.path_of(path).exists()


def snapshot(
    engine: Engine, path: str, writable: bool, destination: str, progress: Callable[[], None]
) -> None:
    """Copy a segment as it is at one moment, page by page, into a file that needs no
    companion. Writers go on meanwhile.

    :param destination: replaced if it is there
    :param progress: called now and then; raises to give up
    """
    with _appearing(Path(destination)) as temporary, _in_our_words(engine, path):
        with contextlib.closing(engine.open_reader(path, writable)) as source:
            # One read transaction over all steps: without it, a step after a commit of
            # the writer would restart the copy, which might never end.
            engine.own(source, "BEGIN")
            engine.own(source, "SELECT count(*) FROM sqlite_schema").fetchone()
            with contextlib.closing(engine.open_writer(str(temporary), create=True)) as copy:
                engine.own(copy, "PRAGMA synchronous=OFF")  # flushed as a whole, at the end
                # Of a new file there is nothing to be kept; OFF is refused in defensive mode.
                engine.own(copy, "PRAGMA journal_mode=MEMORY")
                source.backup(copy, pages=SNAPSHOT_PAGES, progress=lambda *_: progress())
            with contextlib.closing(engine.open_writer(str(temporary))) as copy:
                _set_journal_mode(engine, copy, "delete")


def check(engine: Engine, path: str, writable: bool) -> None:
    """Look through a whole segment.

    Rows that break a constraint of their table are no damage: they may be older than that.

    :raises trough.errors.CorruptSegment: it is damaged
    """
    with _in_our_words(engine, path):
        with contextlib.closing(engine.open_for_check(path, writable)) as connection:
            try:
                told = _check_pages(engine, connection)
            except sqlite.Error as error:
                # A table that no statement can be compiled for, or whose values SQLite cannot
                # compute. The file as a whole may be right, and be promoted.
                if not isinstance(engine.error(error, path), errors.BadSql):
                    raise
                told = _check_each_table(engine, connection, path)
    # The pages come before the rows, and the first problem is reported.
    if told.startswith("*** in database"):
        raise errors.CorruptSegment(f"{Path(path).name} is damaged: {' '.join(told.split())}")


def _check_pages(engine: Engine, connection: Connection, table: str = "1") -> str:
    (told,) = engine.own(connection, f"PRAGMA quick_check({table})").fetchone()
    return str(told)


def _check_each_table(engine: Engine, connection: Connection, path: str) -> str:
    listed = "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
    for (name,) in engine.own(connection, listed).fetchall():
        try:
            told = _check_pages(engine, connection, statements.quoted(name))
        except sqlite.Error as error:
            if not isinstance(engine.error(error, path), errors.BadSql):
                raise
        else:
            if told.startswith("*** in database"):
                return told
    return "ok"


def open_for_writes(engine: Engine, path: str) -> Connection:
    """A connection for the writes of a segment that was made writable; raises what SQLite
    raises, or :class:`trough.errors.Unavailable` where it was not."""
    connection = _open_writer(engine, path)
    try:
        (mode,) = engine.own(connection, "PRAGMA journal_mode").fetchone()
    except BaseException:
        connection.close()
        raise
    if mode != "wal":
        connection.close()
        raise errors.Unavailable(f"{Path(path).name} has not been made writable")
    return connection


def writing_handles(engine: Engine, limit: int) -> Handles:
    """Handles for writes; the last of a segment to close empties its WAL, if it has no log."""

    def log_of(connection: Connection, path: str) -> CommitLog | None:
        return CommitLog(engine, connection, path) if is_logged(path) else None

    return Handles(lambda path, _writable: open_for_writes(engine, path), limit, log_of)


# -- parts ----------------------------------------------------------------------------


@contextlib.contextmanager
def _in_our_words(engine: Engine, path: str) -> Iterator[None]:
    try:
        yield
    except sqlite.Error as error:
        raise engine.error(error, path) from error


@contextlib.contextmanager
def _appearing(target: Path, temporary: Path | None = None) -> Iterator[Path]:
    """A path to make a database at, which becomes `target` when the block ends."""
    temporary = temporary or temporary_for(target)
    try:
        yield temporary
        _flush(temporary)
        atomic_files.replace_file(temporary, target)
    except OSError as error:
        kind = errors.DiskFull if atomic_files.is_no_room(error) else errors.Unavailable
        raise kind(f"{target.name} cannot be made: {error.strerror}") from error
    finally:
        remove_temporary(str(temporary))


def temporary_for(target: Path) -> Path:
    """A hidden path beside `target`, never used before."""
    return target.with_name(atomic_files.temporary_name(target.name))


def _has_room(directory: Path) -> bool:
    disk = os.statvfs(directory)
    return disk.f_frsize * disk.f_bavail > sqlite.NEW_SEGMENT_SIZE


def _set_journal_mode(engine: Engine, connection: Connection, mode: str) -> None:
    (now,) = engine.own(connection, f"PRAGMA journal_mode={mode}").fetchone()
    if now != mode:
        raise errors.Unavailable(
            f"the journal mode stays {quoted(now)}, and should be {quoted(mode)}"
        )


def _checkpoint(engine: Engine, connection: Connection) -> None:
    busy, _, _ = engine.own(connection, "PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise errors.Unavailable("the segment is open elsewhere, and cannot be retired now")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
