"""Where a worker puts copies that it may neither serve nor delete: ``aside/``.

A local copy goes there as a whole, with all that was written to it. Trough never reads or deletes
anything in there. A person compares two histories of one segment.

This module does not know why a copy has to go (:mod:`trough.worker.segments`,
:mod:`trough.worker.write_locks`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.logger import Logger

from trough import errors
from trough.executors.pool.pool import ExecutorPool
from trough.util.threads import ThreadPoolService
from trough.worker import local_files
from trough.worker.local_copies import LocalCopies, LocalCopy

_log = Logger()


class Quarantine:
    """The files that one worker keeps aside.

    :param directory: the worker's data directory
    :param copies: what the worker has, and loses here
    :param forget: has the catalogue forget a segment
    """

    def __init__(
        self,
        directory: Path,
        copies: LocalCopies,
        pool: ExecutorPool,
        threads: ThreadPoolService,
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._directory = directory
        self._copies = copies
        self._pool = pool
        self._threads = threads
        self._forget = forget

    def names(self) -> list[str]:
        """Names of the files, sorted."""
        return local_files.aside_names(self._directory)

    async def put(self, copy: LocalCopy, what: str) -> str | None:
        """Move a copy here that has no writes under way and that no other task changes.

        :param what: is in it, for the log
        :return: the name of its file; None where that was removed from outside
        """
        entry = copy.entry
        self._copies.remove(entry.segment)  # no query reads it while it moves
        try:
            name = await self._move(copy)
        except BaseException:
            # It stays known, or the next fetch would replace the file and all that is in it.
            self._copies.put(copy)
            raise
        _log.warn(
            "{segment}: {what}, of epoch {epoch}, are {where}",
            segment=entry.segment,
            what=what,
            epoch=entry.epoch,
            where="lost: somebody has removed the file" if name is None else f"kept in {name}",
        )
        await self._forget(entry.segment)
        return name

    async def _move(self, copy: LocalCopy) -> str | None:
        entry = copy.entry
        try:
            await self._pool.retire(copy.target)
        except errors.TroughError as failure:
            # A damaged file is moved as it is, its -wal beside it.
            _log.error(
                "{segment}: moved aside without a checkpoint: {failure}",
                segment=entry.segment,
                failure=failure,
            )
        await self._pool.forget(entry.segment)
        return await self._threads.run(
            local_files.move_aside, self._directory, entry.segment, entry.epoch, time.time()
        )
