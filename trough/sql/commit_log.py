"""The replicated WAL of a segment, on the side of the connection that writes it.

SQLite appends each transaction to the WAL. What a follower may be sent ends with the last
*commit*. The file's size would not do: it holds what was rolled back, too, and what an earlier
generation left. So SQLite is asked how many frames count.

A commit is not flushed (``synchronous=NORMAL``). :meth:`CommitLog.flush` does that, so that a
follower can be sent the same bytes meanwhile. After a flush that failed nobody knows what is on
disk, and the kernel may report the next one as done: the log is *broken*, and takes no more.

SQLite begins a WAL again, with other salts, by the first write after a checkpoint that moved
everything. No checkpoint happens but :meth:`CommitLog.checkpoint`: autocheckpoints are off, and
so is the one of the last connection that is closed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from trough import errors
from trough.sql import log_mark, wal
from trough.sql.log_mark import Generation, Mark
from trough.util import atomic_files

if TYPE_CHECKING:
    from trough.sql.sqlite import Connection, Engine


class CommitLog:
    """See the module's text. One belongs to a connection that was opened by
    :meth:`trough.sql.sqlite.Engine.open_logged`.

    Another process may write the same segment between two uses. So nothing is remembered but what
    the salts in the WAL confirm.

    :ivar broken: why the log takes no more writes, or None
    """

    def __init__(self, engine: Engine, connection: Connection, path: str) -> None:
        self.broken: errors.LogBroken | None = None
        self._engine = engine
        self._connection = connection
        self._path = path
        self._descriptor = -1
        self._header: wal.Header | None = None
        self._mark: Mark | None = None

    # -- where it ends -----------------------------------------------------------------

    def end(self) -> int:
        """The position of the end of the last commit; raises what SQLite raises.

        :raises trough.errors.LogBroken: the files are not what they were
        """
        header, generation, frames = self._look()
        return generation.start + header.offset_of(frames) if header else generation.start

    def _look(self) -> tuple[wal.Header | None, Generation, int]:
        """The header and the generation of the WAL, and how many frames count; no header where
        none does."""
        counted = self._engine.own(self._connection, "PRAGMA wal_checkpoint(NOOP)").fetchone()
        frames = int(counted[1])
        if frames <= 0:
            self._mark, self._header = self._read_mark(), None
            return None, self._mark.following, 0
        self._open()
        data = os.pread(self._descriptor, wal.HEADER_SIZE, 0)
        if self._mark is None or self._header is None or data[16:24] != self._header.salts:
            header = wal.parse_header(data)
            if header is None:
                raise self._break("has no valid header")
            self._mark, self._header = self._read_mark(), header
        return self._header, self._mark.generation(self._header.salts), frames

    def _read_mark(self) -> Mark:
        mark = log_mark.read(self._path)
        if mark is None:
            raise self._break(f"has lost its mark, {log_mark.path_of(self._path).name}")
        return mark

    def _open(self) -> None:
        if self._descriptor < 0:
            with self._disk_errors():
                # To close it drops no lock of SQLite, which locks other files.
                self._descriptor = os.open(f"{self._path}-wal", os.O_RDWR)
                atomic_files.fsync_directory(Path(self._path).parent)

    # -- the disk ----------------------------------------------------------------------

    def flush(self) -> None:
        """Have all commits on disk.

        :raises trough.errors.LogBroken: the disk failed, or the file is no longer the WAL
        """
        if self.broken is not None:
            raise self.broken
        self._open()
        with self._disk_errors():
            os.fdatasync(self._descriptor)
            there = atomic_files.is_still_at(self._descriptor, f"{self._path}-wal")
        if not there:
            raise self._break("was removed or replaced")

    def fail(self, reason: errors.TroughError) -> None:
        """Take no more writes, since what is on disk is not known for `reason`. Idempotent."""
        if self.broken is None:
            self._break(f"may hold a commit that failed: {reason.message}")

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._break(f"cannot be flushed: {error.strerror}") from error

    def _break(self, reason: str) -> errors.LogBroken:
        name = Path(self._path).name
        self.broken = errors.LogBroken(
            f"the log of {name} {reason}", "this worker gives up the write lock of the segment"
        )
        return self.broken

    # -- generations -------------------------------------------------------------------

    def checkpoint(self, position: int) -> None:
        """Move everything into the database, so that the next write begins the WAL again.

        It waits for no reader. If one needs the WAL, nothing is lost, and the next call goes on.

        :param position: up to which everything is acknowledged
        :raises trough.errors.Unavailable: there is more than that, or a reader needs the WAL
        """
        if self.broken is not None:
            raise self.broken
        header, generation, frames = self._look()
        if header is None:
            return
        offset = header.offset_of(frames)
        if generation.start + offset != position:
            raise errors.Unavailable(
                f"the log of {Path(self._path).name} ends at {generation.start + offset}, and is "
                f"acknowledged up to {position}"
            )
        assert self._mark is not None
        last = os.pread(self._descriptor, wal.FRAME_HEADER_SIZE, offset - header.frame_size)
        sums = wal.Frame.parse(last).sums
        digest = log_mark.digest(self._mark.log, header.salts, sums)
        following = Generation(position, digest)
        log_mark.write(self._path, Mark(self._mark.log, header.salts, generation, following))
        if self._move():
            raise errors.Unavailable(f"a reader needs the WAL of {Path(self._path).name}")

    def _move(self) -> bool:
        """Checkpoint; whether something was in the way."""
        own, connection = self._engine.own, self._connection
        (patience,) = own(connection, "PRAGMA busy_timeout").fetchone()
        own(connection, "PRAGMA busy_timeout=0")
        try:
            busy, _, _ = own(connection, "PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            own(connection, f"PRAGMA busy_timeout={patience}")
        return bool(busy)

    def close(self) -> None:
        """Close the descriptor; the connection is the caller's."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
