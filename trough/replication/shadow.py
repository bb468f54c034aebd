"""A follower's copy of a segment that another worker writes: a database and its WAL.

The follower writes the bytes that the holder's SQLite appended to its WAL at the same offset,
flushes them, and confirms them. SQLite opens the copy only after appending has ended for good
(:meth:`Shadow.take_over`). The order of the flushes makes this safe:

* **Append**: write, flush the WAL, confirm.
* **A new generation**: flush the state; move the old WAL into the database, and flush that; blank
  the WAL's header, and flush it; truncate the WAL, and flush it. Only then write the first frames
  of the new WAL. In any other order a crash can leave neither the old WAL nor its pages.
* **A base**: write both files under new names, flush them, check them, and then replace the state,
  which names the files.

The follower confirms only what a later order can find again by its checksums.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trough import errors
from trough.replication import shadow_state
from trough.replication.base_install import BaseInstall
from trough.replication.disk import Disk, LocalDisk, store
from trough.replication.follower import Follower
from trough.replication.log import BasePart, Digest, LogPart
from trough.replication.shadow_pair import Pair, database_path, log_path, page_size_of
from trough.replication.shadow_state import ShadowState
from trough.sql import log_mark, wal
from trough.sql.log_mark import NO_SALTS, Generation, Mark
from trough.util import atomic_files

#: Bytes that a follower leaves free: a full disk has no space for SQLite's index, and a take-over
#: needs that index.
RESERVE = 256 << 20


class Shadow:
    """See :class:`trough.replication.log.FollowerLog`. Only one object at a time uses a directory.

    :param directory: for this copy alone; created if it is missing
    :param reserve: bytes of the disk to leave free
    :raises trough.errors.Unavailable: the files cannot be opened, or SQLite has them open
    :raises trough.errors.LogBroken: the state is damaged
    """

    def __init__(self, directory: Path, reserve: int = RESERVE, disk: Disk | None = None) -> None:
        self._disk: Disk = disk or LocalDisk()
        self._directory = directory
        self._reserve = reserve
        self._pair: Pair | None = None
        self._install: BaseInstall | None = None
        with atomic_files.in_our_words(directory):
            self._disk.make_directory(directory)
            self._state = shadow_state.load(self._disk, directory)
            if self._state.adopting:
                self._finish_adopting()
            self._sweep()
            self._open()

    def _sweep(self) -> None:
        """Remove files that a crash left."""
        kept = shadow_state.names(self._state)
        for name in self._disk.names(self._directory):
            if name not in kept:
                self._disk.remove(self._directory / name)

    def _open(self) -> None:
        state = self._state
        if not state.number or state.lost:
            return
        present = self._disk.names(self._directory)
        if state.taking and f"database.{state.number}" not in present:
            return  # the database was moved already; see take_over
        try:
            self._pair = Pair(self._disk, self._directory, state.number)
            self._pair.verify(*shadow_state.load_hint(self._disk, self._directory, state))
        except BlockingIOError as error:
            raise errors.Unavailable(
                f"{self._directory} is open in SQLite, or elsewhere", "close it there"
            ) from error
        except FileNotFoundError as error:
            self._lose(f"{error.filename} is missing")

    def _save(self, state: ShadowState) -> None:
        shadow_state.save(self._disk, self._directory, state)
        self._state = state

    # -- what it holds -----------------------------------------------------------------

    @property
    def state(self) -> Follower:
        """See :class:`trough.replication.log.FollowerLog`."""
        follower = self._state.follower
        return follower if self._pair is not None else replace(follower, joined=0)

    def remember(self, state: Follower) -> None:
        """See :class:`trough.replication.log.FollowerLog`."""
        if state != self._state.follower:
            with atomic_files.in_our_words(self._directory):
                self._save(replace(self._state, follower=state))

    @property
    def taking(self) -> Path | None:
        """See :class:`trough.replication.log.FollowerLog`."""
        return Path(self._state.taking) if self._state.taking else None

    @property
    def lost(self) -> str:
        """Why the copy counts as lost; empty if it does not."""
        return self._state.lost

    @property
    def _generation(self) -> Generation:
        header = self._pair.header if self._pair is not None else None
        return self._state.mark.generation(header.salts if header is not None else NO_SALTS)

    @property
    def end(self) -> int:
        """See :class:`trough.replication.log.FollowerLog`."""
        return 0 if self._pair is None else self._generation.start + self._pair.offset

    def digest_at(self, position: int) -> Digest | None:
        """See :class:`trough.replication.log.FollowerLog`."""
        pair, generation = self._pair, self._generation
        if pair is None:
            return None
        if position == generation.start:
            return generation.before
        with atomic_files.in_our_words(self._directory):
            sums = pair.sums(position - generation.start)
        if sums is None or pair.header is None:
            return None
        return log_mark.digest(self._state.mark.log, pair.header.salts, sums)

    def check_room(self) -> None:
        """See :class:`trough.replication.log.FollowerLog`."""
        self._check_room(0)

    # -- appending ---------------------------------------------------------------------

    def append(self, part: LogPart) -> None:
        """See :class:`trough.replication.log.FollowerLog`."""
        pair = self._usable()
        header = self._check(part, pair)
        self._check_room(len(part.content))
        with self._or_lose():
            if part.start == part.generation and pair.offset:
                self._roll_over(pair)
            try:
                pair.append(part.content, header)
            except OSError as error:
                if not atomic_files.is_no_room(error):
                    raise
                pair.truncate(pair.offset)
                raise errors.DiskFull(f"no room for the log in {self._directory}") from error

    def _usable(self) -> Pair:
        state = self._state
        if state.lost:
            raise errors.LogBroken(f"the copy in {self._directory} is lost: {state.lost}")
        if state.taking:
            raise errors.BadLogPart(f"the copy in {self._directory} is being taken over")
        if self._pair is None:
            raise errors.BadLogPart(f"{self._directory} has no base yet")
        return self._pair

    def _check(self, part: LogPart, pair: Pair) -> wal.Header:
        """The header of the WAL that a part belongs to.

        :raises trough.errors.BadLogPart: the part does not continue this copy
        """
        if part.log != self._state.mark.log:
            raise errors.BadLogPart("a part belongs to another log: to that of another segment")
        if part.start != self.end:
            raise errors.BadLogPart(
                f"a part begins at {part.start}, and this copy of the log ends at {self.end}"
            )
        if part.before != self.digest_at(part.start):
            raise errors.BadLogPart(f"a part continues another log than this one at {part.start}")
        header, frames = self._header_of(part, pair), part.content
        if part.start == part.generation:
            frames = frames[wal.HEADER_SIZE :]
        if not wal.fits(frames, header):
            raise errors.BadLogPart("a part has half a frame, or frames of another WAL")
        return header

    def _header_of(self, part: LogPart, pair: Pair) -> wal.Header:
        if part.start != part.generation:
            if pair.header is None or part.generation != self._generation.start:
                raise errors.BadLogPart(f"a part belongs to no generation at {part.generation}")
            return pair.header
        header = wal.parse_header(part.content)
        if header is None:
            raise errors.BadLogPart("a new generation begins without a valid header")
        if header.page_size != self._state.page_size:
            raise errors.BadLogPart(
                f"a part has pages of {header.page_size} bytes, and this database has pages of "
                f"{self._state.page_size}"
            )
        if pair.header is not None and header.salts == pair.header.salts:
            raise errors.BadLogPart("a new generation has the salts of the one before")
        if not pair.ends_a_transaction():
            raise errors.BadLogPart("a new generation begins in the middle of a transaction")
        return header

    def _roll_over(self, pair: Pair) -> None:
        """Move the WAL into the database, so that the next generation can begin."""
        self._save(replace(self._state, mark=self._mark_of_the_end(pair)))
        pair.fold()
        pair.truncate(0)

    def _mark_of_the_end(self, pair: Pair) -> Mark:
        """The mark with which the next generation can begin where this one ends."""
        mark, digest = self._state.mark, self.digest_at(self.end)
        salts = pair.header.salts if pair.header is not None else NO_SALTS
        assert digest is not None
        return Mark(mark.log, salts, self._generation, Generation(self.end, digest))

    def truncate(self, position: int) -> None:
        """See :class:`trough.replication.log.FollowerLog`."""
        pair = self._usable()
        if self.digest_at(position) is None:
            raise errors.BadLogPart(f"the copy in {self._directory} has no frame at {position}")
        if position == self.end:
            return
        generation, mark = self._generation, self._state.mark
        with self._or_lose():
            if pair.header is not None and mark.salts == pair.header.salts:
                # The mark that was to follow the end must not follow this position.
                self._save(replace(self._state, mark=_only(mark.log, generation)))
            pair.truncate(position - generation.start)

    # -- a base ------------------------------------------------------------------------

    def add_base(self, part: BasePart) -> bool:
        """See :class:`trough.replication.log.FollowerLog`."""
        if self._state.taking:
            raise errors.BadLogPart(f"the copy in {self._directory} is being taken over")
        try:
            with atomic_files.in_our_words(self._directory):
                return self._add_base(part)
        except BaseException:
            self._drop_install()
            raise

    def _add_base(self, part: BasePart) -> bool:
        if not part.of_log and not part.place:
            self._drop_install()
            self._check_room(part.size)
            number = self._state.number + 1
            self._install = BaseInstall(self._disk, self._directory, number, part)
        if self._install is None:
            raise errors.BadLogPart("a base begins with the first bytes of its database")
        self._check_room(len(part.content))
        pair = self._install.add(part)
        if pair is None:
            return False
        mark = _only(part.log, Generation(part.generation, part.before))
        install, self._install = self._install, None
        state = ShadowState(self.state, mark, install.number, install.page_size)
        try:
            self._save(state)
        except BaseException:
            pair.close()
            raise
        old, self._pair = self._pair, pair
        if old is not None:
            old.close()
        self._sweep()
        return True

    def _drop_install(self) -> None:
        if self._install is not None:
            self._install.drop()
            self._install = None

    # -- becoming a holder, and a follower again -----------------------------------------

    def take_over(self, target: Path) -> int:
        """See :class:`trough.replication.log.FollowerLog`."""
        state, pair = self._state, self._pair
        if pair is None and state.taking:
            return self._finish_taking(Path(state.taking))
        if state.lost or pair is None:
            raise errors.LogBroken(f"there is no copy in {self._directory}: {state.lost}")
        with self._or_lose():
            self._save(replace(state, taking=str(target)))
            if not pair.is_whole():
                raise OSError(errno.EIO, "the WAL is damaged")
            last = pair.last_commit()
            if last < pair.offset:
                pair.truncate(last)
            pair.fold()
            self._save(replace(self._state, mark=self._mark_of_the_end(pair)))
            pair.close()
            self._pair = None
            for suffix in ("", "-wal", "-shm", "-journal", log_mark.SUFFIX):
                self._disk.remove(Path(f"{target}{suffix}"))
            self._disk.flush_directory(target.parent)
            self._put_mark(target)
            self._disk.rename(database_path(self._directory, state.number), target)
            self._disk.flush_directory(target.parent)
        return self._finish_taking(target)

    def _put_mark(self, target: Path) -> None:
        mark = log_mark.encode(self._state.mark)
        store(self._disk, log_mark.path_of(target), mark)

    def _finish_taking(self, target: Path) -> int:
        """Remove the rest of a copy that was moved to `target`."""
        position = self._state.mark.following.start
        with atomic_files.in_our_words(target):
            if self._disk.load(log_mark.path_of(target)) is None:
                self._put_mark(target)
            self._disk.flush_directory(self._directory)
            self._save(ShadowState(Follower(self._state.follower.promised)))
            self._sweep()
        return position

    def adopt(self, source: Path) -> None:
        """Follow with the database that this worker wrote until now, and with its WAL.

        No process may have it open, and only its holder may have opened it before. The files move
        here from `source`, where nothing is left. Idempotent.

        :raises trough.errors.LogBroken: the database has no mark, or a damaged one
        """
        with atomic_files.in_our_words(source):
            data = self._disk.load(log_mark.path_of(source))
            if data is None:
                raise errors.LogBroken(f"{log_mark.path_of(source)} is missing")
            self.close()
            mark, number = log_mark.decode(data, source)[0], self._state.number + 1
            self._save(ShadowState(self.state, mark, number, adopting=str(source)))
            self._finish_adopting()
            self._sweep()
            self._open()

    def _finish_adopting(self) -> None:
        state, source = self._state, Path(self._state.adopting)
        database = database_path(self._directory, state.number)
        log = log_path(self._directory, state.number)
        there, here = self._disk.names(source.parent), self._disk.names(self._directory)
        if log.name not in here and f"{source.name}-wal" in there:
            self._disk.rename(Path(f"{source}-wal"), log)
        elif log.name not in here:
            self._disk.open(log, create=True).close()
        if database.name not in here:
            self._disk.rename(source, database)
        self._disk.flush_directory(self._directory)
        for suffix in ("-shm", log_mark.SUFFIX):
            self._disk.remove(Path(f"{source}{suffix}"))
        self._disk.flush_directory(source.parent)
        file = self._disk.open(database)
        try:
            page_size = page_size_of(file)
        finally:
            file.close()
        self._save(replace(state, adopting="", page_size=page_size or 0))

    # -- trouble -----------------------------------------------------------------------

    def _check_room(self, size: int) -> None:
        with atomic_files.in_our_words(self._directory):
            free = self._disk.free(self._directory)
        if free - size < self._reserve:
            raise errors.DiskFull(
                f"{self._directory} has {free} bytes free, and {self._reserve} have to stay so",
                "free space on that disk",
            )

    @contextlib.contextmanager
    def _or_lose(self) -> Iterator[None]:
        """Give the copy up if the disk fails: its content is then unknown."""
        try:
            yield
        except OSError as error:
            self._lose(error.strerror or str(error))
            raise errors.LogBroken(
                f"the copy in {self._directory} is lost: {self._state.lost}",
                "this worker leaves the row of the segment, and needs a base",
            ) from error

    def _lose(self, reason: str) -> None:
        if self._pair is not None:
            self._pair.close()
            self._pair = None
        self._state = replace(self._state, lost=reason)
        with contextlib.suppress(OSError):  # the disk failed, and may fail again
            self._save(self._state)

    def forget(self) -> None:
        """See :class:`trough.replication.log.FollowerLog`."""
        self.close()
        with atomic_files.in_our_words(self._directory):
            self._save(ShadowState(Follower(self._state.follower.promised)))
            self._sweep()
            self._disk.flush_directory(self._directory)

    def close(self) -> None:
        """See :class:`trough.replication.log.FollowerLog`."""
        self._drop_install()
        pair, self._pair = self._pair, None
        if pair is not None:
            with contextlib.suppress(OSError):
                shadow_state.save_hint(
                    self._disk, self._directory, self._state, pair.offset, pair.crc
                )
            pair.close()


def _only(log: bytes, generation: Generation) -> Mark:
    """A mark that assigns the WAL to this generation, with any salts."""
    return Mark(log, NO_SALTS, generation, generation)
