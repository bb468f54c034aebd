"""The catalogue of local copies on a thread of its own, for callers on the reactor.

An entry is on disk when the Deferred fires. Entries are stored in the order in which they were
put. This module does not know what the copies are for (:mod:`trough.worker.segments`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from trough import errors
from trough.util.threads import ThreadPoolService
from trough.worker import local_files
from trough.worker.catalogue import Catalogue, Entry

_log = Logger()


class AsyncCatalogue:
    """What a worker remembers of its copies.

    :param directory: the worker's data directory
    :param thread: a pool of one thread, which keeps the order
    """

    def __init__(self, directory: Path, thread: ThreadPoolService) -> None:
        self._directory = directory
        self._thread = thread
        self._opened: Catalogue | None = None

    @property
    def is_new(self) -> bool:
        """Whether nothing was ever kept in the data directory; until :meth:`open`."""
        return not local_files.catalogue_path(self._directory).exists()

    async def open(self, take_up: Callable[[list[Entry]], None]) -> None:
        """Open the database, and match it with the files that are there.

        :param take_up: is called with the entries whose files are whole; on the thread, for
            there may be very many
        :raises trough.errors.DiskFull: there is no room for what SQLite needs to open it
        """
        self._opened, entries = await self._thread.run(
            local_files.open_and_reconcile, self._directory
        )
        await self._thread.run(take_up, entries)

    async def close(self) -> None:
        """Close the database."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await self._thread.run(opened.close)

    def put(self, *entries: Entry) -> Deferred[None]:
        """Remember entries as they are now, in place of what is known of their segments.

        :raises trough.errors.DiskFull: no room; nothing changed
        :raises trough.errors.Unavailable: the disk cannot be written, or nothing is open
        """
        # Copies of the entries, for these may change before the thread looks at them.
        return self._thread.run(self._catalogue.put, *map(replace, entries))

    async def forget(self, segment: str) -> None:
        """Forget a segment whose file is gone.

        An entry that stays does no harm: the next copy replaces it, or the next start, which
        finds no file for it. What comes after must not be kept from happening by it.
        """
        try:
            await self._thread.run(self._catalogue.remove, [segment])
        except (errors.TroughError, sqlite3.Error) as failure:
            _log.warn(
                "{segment}: stays in the catalogue: {failure}", segment=segment, failure=failure
            )

    @property
    def _catalogue(self) -> Catalogue:
        if self._opened is None:
            raise errors.Unavailable("the worker is starting or stopping")
        return self._opened
