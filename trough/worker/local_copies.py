"""The copies that a worker has, and their totals.

Totals are kept up to date with each change, and not counted on demand. A worker reports every
second how much room it has left, and holds tens of thousands of copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from twisted.internet.defer import Deferred

from trough.executors.pool.pool import Target
from trough.worker.catalogue import Entry
from trough.worker.replicated import ReplicatedSegment
from trough.worker.write_tracking import WriteTracker

#: Of what a copy holds: the number of its file, and how many writes it has had. Both grow, and no
#: two states of a segment on a worker have the same as long as the worker runs.
Version = tuple[int, int]


class LocalCopy:
    """A segment's local copy, as the worker knows it while it runs.

    :ivar entry: what the catalogue stores
    :ivar target: names the file for the executors; a new one after each change
    :ivar writes: the writes of this copy that are under way, and how many there were
    :ivar noting: the callers that wait for the note that there are unpromoted writes
    :ivar marked: ``dirty_since`` of the write lock, in seconds since the epoch, as the metadata
        store certainly has it; 0: the worker has to mark the lock before the next write
    :ivar provisioned_by: the clients that provisioned a segment which this process created;
        None if not known: the segment existed before, or before a restart
    :ivar replicated: sends its writes to followers; None: the copy is not replicated
    :ivar paused: whether further writes wait for a moment, as for the note
    """

    __slots__ = (
        *("counted", "entry", "marked", "noting", "paused", "provisioned_by"),
        *("replicated", "target", "writes"),
    )

    def __init__(self, entry: Entry, target: Target, now: float) -> None:
        self.entry = entry
        self.target = target
        self.writes = WriteTracker(now)
        self.noting: list[Deferred[None]] = []
        self.marked = 0.0
        self.provisioned_by: set[str] | None = None
        self.counted = 0
        self.replicated: ReplicatedSegment | None = None
        self.paused = False

    @property
    def writable(self) -> bool:
        """Whether this worker writes the segment."""
        return self.entry.writable

    @property
    def takes_writes(self) -> bool:
        """Whether a write may be acknowledged now: the lock is not being given up."""
        return self.entry.writable and not self.writes.closed

    @property
    def noted(self) -> bool:
        """Whether catalogue and metadata store record durably that it has unpromoted writes."""
        return self.entry.unpromoted and bool(self.marked) and not (self.noting or self.paused)

    @property
    def version(self) -> Version | None:
        """Of what it holds; None while a write is under way."""
        writes = self.writes
        return (self.target.generation, writes.started) if writes.idle else None

    @property
    def is_new_and_unused(self) -> bool:
        """Whether this process created the segment, and nothing was stored in it."""
        fresh = self.writable and not self.entry.modified and not self.entry.publishing
        unwritten = self.writes.idle and not self.writes.committed
        return fresh and unwritten and self.provisioned_by is not None

    def is_unused_but_by(self, client: str) -> bool:
        """Whether `client` alone provisioned it, as a new segment, and nothing was stored."""
        unclosed = not self.writes.closed
        return self.is_new_and_unused and unclosed and self.provisioned_by == {client}


class LocalCopies:
    """The local copies of one worker, by segment id.

    :ivar bytes: what they take, as of when each was put in last
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._copies: dict[str, LocalCopy] = {}
        #: The copy of a segment, or None. Each request asks, so it is no Python function.
        self.get: Callable[[str], LocalCopy | None] = self._copies.get
        self._writable: dict[str, LocalCopy] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._copies))

    def writable(self) -> list[LocalCopy]:
        """Those that this worker writes."""
        return list(self._writable.values())

    def put(self, copy: LocalCopy) -> None:
        """Put a copy in the place of an earlier one, or count the same one again."""
        segment = copy.entry.segment
        self.remove(segment)
        copy.counted = copy.entry.file_size
        self.bytes += copy.counted
        self._copies[segment] = copy
        if copy.writable:
            self._writable[segment] = copy

    def remove(self, segment: str) -> None:
        """Have no copy of `segment`. Idempotent."""
        copy = self._copies.pop(segment, None)
        if copy is not None:
            self.bytes -= copy.counted
            self._writable.pop(segment, None)
