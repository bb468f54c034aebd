"""Look-ups in a metadata store for programs without Twisted.

For the Python client and for scripts: which sync server leads, where copies are, which
schemas there are. Any number of threads may share one store; each call finds or opens a
connection of its own, and one that broke is replaced. Importing this loads neither
Twisted nor anything of the servers. It changes nothing: changes are asked of a sync
server, over HTTP.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path

from trough.metadata import conditions
from trough.metadata.sqlite import reads
from trough.metadata.sqlite.database import Clock, DatabasePool
from trough.metadata.url import SqliteAddress, parse
from trough.model import Copy, Inventory, Leader, Lock, Schema, Worker

#: Rows that are asked for at once.
PORTION = 2000


class BlockingMetadata(ABC):
    """What :class:`trough.metadata.Metadata` answers, for threads.

    Every call can raise :class:`trough.errors.Unavailable`.
    """

    @abstractmethod
    def leader(self) -> Leader | None:
        """The present leader, or None."""

    @abstractmethod
    def workers(self) -> list[Worker]:
        """All live workers, by name."""

    @abstractmethod
    def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        """The copies that can be served now, in both roles, each segment's best first
        within its role. Segments without a copy are left out."""

    @abstractmethod
    def segments_matching(self, pattern: str | None) -> Iterator[Copy]:
        """All live copies in role READ whose segment id matches.

        :param pattern: a regular expression that is searched for in the id; None: all
        :raises trough.errors.BadRequest: the pattern is no regular expression
        """

    @abstractmethod
    def existing(self, pattern: str | None) -> Iterator[str]:
        """See :meth:`trough.metadata.Metadata.existing`."""

    @abstractmethod
    def inventory(self) -> Inventory:
        """See :meth:`trough.metadata.Metadata.inventory`."""

    @abstractmethod
    def locks(self, node: str | None = None) -> list[Lock]:
        """All write locks, or those of one worker, by segment."""

    @abstractmethod
    def schemas(self) -> list[str]:
        """Names of all schemas, sorted."""

    @abstractmethod
    def schema(self, name: str) -> Schema:
        """One schema.

        :raises trough.errors.NoSuchSchema: no schema has this name
        """

    @abstractmethod
    def close(self) -> None:
        """Close all connections. Idempotent."""


def open_blocking(url: str) -> BlockingMetadata:
    """The store that a URL means; nothing is connected before it is asked something.

    :param url: see :func:`trough.metadata.open.open_metadata`
    :raises trough.errors.BadSettings: naming what is wrong about the URL
    """
    address = parse(url)
    if isinstance(address, SqliteAddress):
        return BlockingSqlite(address.path)
    from trough.metadata.rethinkdb.blocking import BlockingRethink

    return BlockingRethink(address)


class BlockingSqlite(BlockingMetadata):
    """The registry at `path`, read only."""

    def __init__(self, path: Path, clock: Clock | None = None) -> None:
        self._databases = DatabasePool(path, clock) if clock else DatabasePool(path)

    def leader(self) -> Leader | None:
        return self._databases.read(reads.leader)

    def workers(self) -> list[Worker]:
        return self._databases.read(reads.workers)

    def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        return self._databases.read(reads.copies_of, segments)

    def segments_matching(self, pattern: str | None) -> Iterator[Copy]:
        return self._matching(conditions.matcher(pattern))

    def _matching(self, matches: conditions.Matches) -> Iterator[Copy]:
        # In this process, unlike in the servers: a pattern can only stop its own author.
        place: reads.Place | None = ("", "")
        while place is not None:
            page, place = self._databases.read(reads.readable_page, matches, place, PORTION)
            yield from page

    def existing(self, pattern: str | None) -> Iterator[str]:
        matches, ends = conditions.matcher(pattern), conditions.id_range(pattern)
        place: str | None = ""
        while place is not None:
            page, place = self._databases.read(reads.existing_page, matches, ends, place, PORTION)
            yield from page

    def inventory(self) -> Inventory:
        return self._databases.read(reads.inventory)

    def locks(self, node: str | None = None) -> list[Lock]:
        return self._databases.read(reads.locks, node)

    def schemas(self) -> list[str]:
        return self._databases.read(reads.schemas)

    def schema(self, name: str) -> Schema:
        return self._databases.read(reads.schema, name)

    def close(self) -> None:
        self._databases.close()
