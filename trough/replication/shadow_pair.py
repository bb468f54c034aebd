"""A database and its WAL, as a follower keeps them: SQLite never opens them.

If SQLite opened and closed the database for writing, it would remove the WAL. The follower would
then go on writing to a file without a name. So the pair has names that SQLite does not connect, and
the database is locked while the pair is open.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from trough.replication.disk import Disk, File
from trough.sql import wal

#: Bytes of one read.
_CHUNK = 1 << 20

_MAGIC = b"SQLite format 3\x00"


class Replaced(OSError):
    """A file of a pair was removed, replaced or linked."""


class Pair:
    """See the module's text. All methods raise OSError.

    :ivar header: of the WAL; None while it is empty
    :ivar offset: behind the last frame of the WAL that counts; 0 while it is empty
    :ivar crc: CRC-32 of the WAL up to there
    """

    def __init__(self, disk: Disk, directory: Path, number: int, create: bool = False) -> None:
        self.header: wal.Header | None = None
        self.offset = 0
        self.crc = 0
        self._paths = database_path(directory, number), log_path(directory, number)
        self._database = disk.open(self._paths[0], create)
        try:
            self._database.lock()
            self._log = disk.open(self._paths[1], create)
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Close the files, and release the lock."""
        self._log.close()
        self._database.close()

    def page_size(self) -> int | None:
        """Bytes of a page of the database; None if the file is no database."""
        return page_size_of(self._database)

    # -- the WAL -----------------------------------------------------------------------

    def verify(self, offset: int = -1, crc: int = 0) -> None:
        """Find by the checksums how much of the WAL counts, and cut off the rest.

        :param offset: where the WAL ended when it was closed
        :param crc: of the WAL then. If both still match, the call skips the check of each frame.
        """
        header = wal.parse_header(self._log.read(0, wal.HEADER_SIZE))
        end, size = 0, self._log.size()
        if header is not None and size == offset and self._crc_of(size) == crc:
            end = size
        elif header is not None:
            for behind, _ in wal.frames(header, self._log.read, size):
                end = behind
        if end < size:
            self._log.truncate(end)
            self._flush(self._log)
        self.header, self.offset = (header if end else None), end
        self.crc = self._crc_of(end)

    def _crc_of(self, size: int) -> int:
        crc = 0
        for place in range(0, size, _CHUNK):
            crc = zlib.crc32(self._log.read(place, min(_CHUNK, size - place)), crc)
        return crc

    def sums(self, offset: int) -> bytes | None:
        """The cumulative checksum of the frame that ends at an offset; None if none does."""
        frame = self._frame_before(offset)
        return None if frame is None else frame.sums

    def _frame_before(self, offset: int) -> wal.Frame | None:
        header = self.header
        if header is None or offset > self.offset or not header.frames_before(offset):
            return None
        head = self._log.read(offset - header.frame_size, wal.FRAME_HEADER_SIZE)
        return wal.Frame.parse(head)

    def ends_a_transaction(self) -> bool:
        """Whether the last frame ends a transaction."""
        frame = self._frame_before(self.offset)
        return frame is None or frame.commit > 0

    def last_commit(self) -> int:
        """The offset behind the last whole transaction."""
        offset = self.offset
        while (frame := self._frame_before(offset)) is not None and self.header is not None:
            if frame.commit:
                return offset
            offset -= self.header.frame_size
        return 0

    def is_whole(self) -> bool:
        """Whether the WAL still has the written content."""
        return self._log.size() == self.offset and self._crc_of(self.offset) == self.crc

    def append(self, content: bytes, header: wal.Header) -> None:
        """Write whole frames behind the last one, and flush them."""
        self._log.write(self.offset, content)
        self._flush(self._log)
        self.header, self.offset = header, self.offset + len(content)
        self.crc = zlib.crc32(content, self.crc)

    def truncate(self, offset: int) -> None:
        """Cut the WAL off at an offset between two frames; on disk on return."""
        if not offset:
            # Without a header no frame counts: a crash leaves no valid part.
            self._log.write(0, bytes(wal.HEADER_SIZE))
            self._flush(self._log)
            self.header = None
        self._log.truncate(offset)
        self._flush(self._log)
        self.offset, self.crc = offset, self._crc_of(offset)

    def _flush(self, file: File) -> None:
        file.flush()
        if not file.is_still_there():
            raise Replaced(f"{self._paths[file is self._log]} was removed or replaced")

    # -- both files --------------------------------------------------------------------

    def write(self, of_log: bool, offset: int, content: bytes) -> None:
        """Write bytes of a base."""
        (self._log if of_log else self._database).write(offset, content)

    def flush(self) -> None:
        """Flush both files to disk."""
        self._flush(self._database)
        self._flush(self._log)

    def fold(self) -> None:
        """Copy the WAL, which ends a transaction, into the database; on disk on return.

        The WAL stays. So after a crash this can be done again.
        """
        header = self.header
        if header is None:
            return
        latest: dict[int, int] = {}
        pages = 0
        for offset, frame in self._headers(header):
            latest[frame.page] = offset
            pages = frame.commit
        for page in sorted(latest):
            if page <= pages:
                content = self._log.read(latest[page], header.page_size)
                self._database.write((page - 1) * header.page_size, content)
        self._database.truncate(pages * header.page_size)
        self._flush(self._database)

    def _headers(self, header: wal.Header) -> Iterator[tuple[int, wal.Frame]]:
        """Each frame, and the offset of its page."""
        for offset in range(wal.HEADER_SIZE, self.offset, header.frame_size):
            head = self._log.read(offset, wal.FRAME_HEADER_SIZE)
            yield offset + wal.FRAME_HEADER_SIZE, wal.Frame.parse(head)


def database_path(directory: Path, number: int) -> Path:
    """The path of the database of a pair."""
    return directory / f"database.{number}"


def log_path(directory: Path, number: int) -> Path:
    """The path of the WAL of a pair."""
    return directory / f"log.{number}"


def page_size_of(database: File) -> int | None:
    """Bytes of a page of a database; None if the file is no database."""
    head = database.read(0, 100)
    if len(head) < 100 or not head.startswith(_MAGIC):
        return None
    size = int.from_bytes(head[16:18], "big")
    return 65536 if size == 1 else size
