"""The log of a segment that this worker writes, read from its files.

An executor has the database open. Closing a descriptor of the database or of its index would drop
SQLite's locks in that process. So this module runs in the worker's own process, which has neither
file open in SQLite. It reads the WAL while the executor appends to it. It reads only up to the last
commit that the executor reported: SQLite may rewrite anything behind that.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from trough import errors
from trough.replication.log import PART_SIZE, BasePart, Digest, LogPart
from trough.sql import log_mark, wal
from trough.sql.log_mark import Generation, Mark
from trough.util import atomic_files

#: Attempts to read the header of a WAL that SQLite is just beginning again.
_LOOKS = 100


class WalReader:
    """See :class:`trough.replication.log.HolderLog`.

    :param database: path of the segment's file, which has a mark
    :raises trough.errors.LogBroken: it has none, or a damaged one
    """

    __slots__ = ("_database", "_descriptor", "_finished", "_header", "_mark")

    def __init__(self, database: Path) -> None:
        # One of these exists for each segment that is written, and a Path takes ten times as much.
        self._database = str(database)
        self._descriptor = -1
        self._finished = False
        #: Both are read again after the files were closed.
        self._header: wal.Header | None = None
        self._mark: Mark | None = self._read_mark()

    def __del__(self) -> None:
        self.close()

    @property
    def log(self) -> bytes:
        """The id of the log."""
        return self._marked.log

    @property
    def _marked(self) -> Mark:
        if self._mark is None:
            self._mark = self._read_mark()
        return self._mark

    def _read_mark(self) -> Mark:
        mark = log_mark.read(self._database)
        if mark is None:
            raise errors.LogBroken(f"{log_mark.path_of(self._database)} is missing")
        return mark

    # -- the WAL -----------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> bytes:
        """Bytes of the WAL; fewer at its end."""
        return os.pread(self._descriptor, size, offset)

    def _open(self) -> bool:
        """Open the WAL; return whether it exists. Another file under its name breaks the log."""
        path = f"{self._database}-wal"
        if self._finished:
            raise errors.Unavailable(f"{path} is no longer read")
        with atomic_files.in_our_words(path):
            if self._descriptor < 0:
                with contextlib.suppress(FileNotFoundError):
                    self._descriptor = os.open(path, os.O_RDWR)
                return self._descriptor >= 0
            if atomic_files.is_still_at(self._descriptor, path):
                return True
        raise errors.LogBroken(f"{path} was removed or replaced")

    def _look(self) -> tuple[wal.Header | None, Generation]:
        """The header of the WAL, None while it is empty, and the generation."""
        if not self._open():
            return None, self._marked.following
        for _ in range(_LOOKS):
            data = self._read(0, wal.HEADER_SIZE)
            if self._header is not None and data[16:24] == self._header.salts:
                return self._header, self._marked.generation(self._header.salts)
            header = wal.parse_header(data)
            self._mark = self._read_mark()
            # The mark is written before the WAL begins again. A mark that was read after the
            # salts has them, or is newer; then the salts have changed by now.
            if self._read(0, wal.HEADER_SIZE) == data:
                self._header = header
                if header is None:
                    return None, self._marked.following
                return header, self._marked.generation(header.salts)
        raise errors.Unavailable(f"{self._database}-wal changes too fast to be read")

    def _unchanged(self, header: wal.Header | None) -> bool:
        data = self._read(0, wal.HEADER_SIZE) if self._descriptor >= 0 else b""
        return (data[16:24] == header.salts) if header else not wal.parse_header(data)

    # -- what it holds -----------------------------------------------------------------

    def end(self) -> int:
        """The end of the last commit; see :class:`trough.replication.log.HolderLog`."""
        header, generation = self._look()
        if header is None:
            return generation.start
        size = os.fstat(self._descriptor).st_size
        end = wal.last_commit(header, self._read, size)
        with atomic_files.in_our_words(f"{self._database}-wal"):
            os.fdatasync(self._descriptor)
            atomic_files.fsync_directory(Path(self._database).parent)
        return generation.start + end

    def digest_at(self, position: int) -> Digest | None:
        """See :class:`trough.replication.log.HolderLog`."""
        header, generation = self._look()
        if position == generation.start:
            return generation.before
        if header is None:
            return None
        return self._digest(header, position - generation.start)

    def _digest(self, header: wal.Header, offset: int) -> Digest | None:
        if not header.frames_before(offset):
            return None
        data = self._read(offset - header.frame_size, wal.FRAME_HEADER_SIZE)
        if len(data) < wal.FRAME_HEADER_SIZE:
            return None
        frame = wal.Frame.parse(data)
        if frame.salts != header.salts:
            return None
        return log_mark.digest(self._marked.log, header.salts, frame.sums)

    def read(self, start: int, end: int, limit: int = PART_SIZE) -> LogPart:
        """See :class:`trough.replication.log.HolderLog`."""
        header, generation = self._look()
        if header is None or start < generation.start:
            raise self._gone(start)
        offset = start - generation.start
        before = self._digest(header, offset) if offset else generation.before
        if before is None:
            raise self._gone(start)
        content = self._read(offset, self._whole_frames(header, offset, end - start, limit))
        frames = memoryview(content)[0 if offset else wal.HEADER_SIZE :]
        if not self._unchanged(header):
            raise self._gone(start)
        if not wal.fits(frames, header):
            raise errors.LogBroken(f"{self._database}-wal does not hold what was committed")
        return LogPart(self._marked.log, generation.start, start, before, content)

    @staticmethod
    def _whole_frames(header: wal.Header, offset: int, size: int, limit: int) -> int:
        head = 0 if offset else wal.HEADER_SIZE
        frames = max(min(size, limit) - head, header.frame_size) // header.frame_size
        return head + frames * header.frame_size

    def _gone(self, position: int) -> errors.LogGone:
        return errors.LogGone(f"{self._database}-wal does not reach back to position {position}")

    # -- a base ------------------------------------------------------------------------

    def base(self, end: int) -> Iterator[BasePart]:
        """See :class:`trough.replication.log.HolderLog`."""
        header, generation = self._look()
        size = end - generation.start
        if size < 0 or (size and header is None):
            raise self._gone(end)
        with atomic_files.in_our_words(self._database), Path(self._database).open("rb", 0) as file:
            whole = os.fstat(file.fileno()).st_size
            for place in range(0, whole, PART_SIZE):
                content = os.pread(file.fileno(), min(PART_SIZE, whole - place), place)
                yield self._base_part(generation, False, place, whole, content)
        if not size:
            yield self._base_part(generation, True, 0, 0, b"")
        for place in range(0, size, PART_SIZE):
            content = self._read(place, min(PART_SIZE, size - place))
            if not self._unchanged(header) or not content:
                raise self._gone(end)
            yield self._base_part(generation, True, place, size, content)

    def _base_part(
        self, generation: Generation, of_log: bool, place: int, size: int, content: bytes
    ) -> BasePart:
        return BasePart(
            self._marked.log, generation.start, generation.before, of_log, place, size, content
        )

    def finish(self) -> None:
        """Close the files for good."""
        self._finished = True
        self.close()

    def close(self) -> None:
        """Close the files, until they are read again."""
        self._header = self._mark = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
