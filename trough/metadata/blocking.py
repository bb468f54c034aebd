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
    def is_known(self, segment: str) -> bool:
        """Whether a worker holds the segment's write lock, or the segment is assigned to one; that
        worker may be away."""

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
