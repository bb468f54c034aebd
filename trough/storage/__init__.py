"""What canonical storage promises: one whole file per segment, under one root.

Every ``*.sqlite`` below the root is a segment, at any depth. Its id is the file's name. Names that
begin with a dot are unfinished work and never a segment. If two files have one id, the one modified
last counts.

Methods are called on the reactor's thread and return Deferreds; cancelling one stops
the transfer within a chunk and leaves nothing behind. Every call can fail with
:class:`trough.errors.Unavailable` if the storage does not answer, after the retries that are safe.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from trough import errors
from trough.model import CanonicalCopy

#: Called on any thread with the number of bytes of a transfer that are done.
Progress = Callable[[int], None]

#: Awaited at the last moment before a publication takes effect; raises to refuse it. Returns the
#: seconds, from the moment it is called, for which its answer is good.
Guard = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of a scan; passed back to find what changed since.

    :ivar directories: for each directory, by its path relative to the root, what the backend
        needs at the next scan; opaque to callers
    :ivar skipped: files below the root that cannot be segments, or do not count, with
        the reason
    :ivar index: what the backend knows across directories; opaque as well
    """

    directories: Mapping[str, object] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    index: object = None


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference between two scans of a storage.

    :ivar listing: for the next scan
    :ivar present: the copies that are new or have another version; possibly a million, made
        again by each iteration
    :ivar gone: ids of segments that are no longer anywhere below the root
    :ivar looked_into: number of directories that had to be listed
    """

    listing: Listing
    present: Collection[CanonicalCopy]
    gone: tuple[str, ...]
    looked_into: int


class Storage(ABC):
    """Canonical storage; see the module's text for what all calls promise.

    :ivar root: of all paths, as a user of the storage would write it
    """

    root: str = ""

    def location(self, path: str) -> str:
        """`path`, as a user of the storage would write it."""
        return f"{self.root.rstrip('/')}/{path}"

    @abstractmethod
    def open(self) -> Deferred[None]:
        """Make sure that the root is there, creating it where it is missing at the first
        time: later, what is missing is away. Idempotent; works again after :meth:`close`."""

    @abstractmethod
    def close(self) -> Deferred[None]:
        """Cancel what is under way and release every resource. Idempotent."""

    def status(self) -> dict[str, Any]:
        """What is under way, for people; JSON-able."""
        return {}

    @abstractmethod
    def changes(self, since: Listing | None, full: bool = False) -> Deferred[Changes]:
        """What differs from `since`, or everything if that is None.

        Lists only directories whose modification time changed, or changed so lately that a
        further change could hide behind the same time. Removes, in these, uploads that a crash
        left behind long ago.

        :param full: list every directory, for changes that leave the time as it was (a file
            overwritten in place)
        """

    @abstractmethod
    def files_of(self, segment: str, listing: Listing) -> list[str]:
        """Where all files of a segment lay at the look that gave `listing`, the one that
        counts last."""

    @abstractmethod
    def find(self, segment: str, path: str | None = None) -> Deferred[CanonicalCopy | None]:
        """The present version of one segment, within seconds or not at all.

        :param path: where it was last seen; only this path, or without it the
            default one (:func:`trough.model.canonical_path`), is looked at
        :raises trough.errors.Unavailable: also where the storage is merely silent
        """

    @abstractmethod
    def probe(self, copy: CanonicalCopy) -> Deferred[None]:
        """Read the beginning of a file, once, to see whether files can be read now.

        That the file is gone is an answer, too.

        :raises trough.errors.Unavailable: the storage cannot give it
        """

    @abstractmethod
    def fetch(
        self, copy: CanonicalCopy, destination: Path, progress: Progress | None = None
    ) -> Deferred[CanonicalCopy]:
        """Copy the present version at ``copy.path`` into a local file.

        `destination` appears whole, by rename, on disk (fsync of file and
        directory), or not at all; its parent directory has to exist.

        :return: the version that was fetched, checksum included; it may be later
            than `copy`
        :raises trough.errors.NoSuchSegment: there is no such file any more
        :raises trough.errors.DiskFull: no room for it here
        """

    #: Files that :meth:`fetch_many` takes; 1: it does not exist here.
    batch: int = 1

    def fetch_many(
        self, wanted: Sequence[tuple[CanonicalCopy, Path]]
    ) -> Deferred[list[CanonicalCopy | errors.TroughError]]:
        """As :meth:`fetch`, of at most :attr:`batch` small files, which are flushed together.

        :param wanted: each file, and where it is to appear
        :return: for each what :meth:`fetch` would return or raise
        :raises trough.errors.DiskFull: no room to flush them; some may be there
        """
        raise NotImplementedError

    @abstractmethod
    def publish(
        self,
        source: Path,
        segment: str,
        path: str | None = None,
        guard: Guard | None = None,
        progress: Progress | None = None,
    ) -> Deferred[CanonicalCopy]:
        """Make a local file the segment's canonical copy, in one step.

        Uploads beside the target under a hidden name, verifies length and content,
        awaits `guard`, and replaces the target by one rename. If any step fails, the former
        canonical copy is untouched.

        :param path: where the canonical copy lies already, or None for the default
        :return: the new version; its ``modified`` is later than the former one's
        """

    @abstractmethod
    def delete(self, copy: CanonicalCopy) -> Deferred[bool]:
        """Remove the file at ``copy.path``; whether there was one."""
