"""What placement remembers of each segment, in columns.

Ten million segments are ten million rows, so a row is no object: it is a number, and
each thing that is known of it is an entry of an array. Rows are never moved; those that
are let go are used again.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable

from trough.leader.placement.nodes import COLD, Node, Nodes
from trough.leader.placement.ring import slot_of
from trough.model import Assignment, CanonicalCopy, canonical_path

#: What `wanted` is for a row that placement leaves alone: either nobody said yet
#: whether there is a canonical copy, or the row is free.
LEAVE_ALONE = 254

#: What `wanted` is for a segment whose canonical copy is gone.
NOTHING = 0


class SegmentTable:
    """The rows.

    :ivar rows: for each segment its row
    :ivar segments: for each row its segment, None for a free row
    :ivar slots: where it falls on every ring
    :ivar wanted: how many copies, or COLD, LEAVE_ALONE or NOTHING
    :ivar sizes: bytes of the canonical copy
    :ivar modified: of the canonical copy
    :ivar copies: who is assigned a copy
    :ivar paths: of the canonical copies that are not where they would be by default
    """

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.segments: list[str | None] = []
        self.slots = array("H")
        self.wanted = array("B")
        self.sizes = array("q")
        self.modified = array("q")
        self.copies: list[Nodes] = []
        self.paths: dict[int, str] = {}
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self.segments)

    def add(self, segment: str, wanted: int, path: str, size: int, modified: int) -> int:
        """A row for a segment that has none, with its canonical copy's version."""
        if self._free:
            row = self._free.pop()
            self.segments[row] = segment
            self.slots[row] = slot_of(segment)
            self.wanted[row] = wanted
        else:
            row = len(self.segments)
            self.segments.append(segment)
            self.slots.append(slot_of(segment))
            self.wanted.append(wanted)
            self.sizes.append(size)
            self.modified.append(modified)
            self.copies.append(())
        self.rows[segment] = row
        self.set_version(row, path, size, modified)
        return row

    def add_many(
        self, copies: Iterable[CanonicalCopy], wanted: Callable[[str], int]
    ) -> list[CanonicalCopy]:
        """As :meth:`add` for those that have no row, column by column and always at the
        end, in half the time.

        :return: the copies whose segments have a row already
        """
        first = following = len(self.segments)
        fresh, known = [], []
        for copy in copies:
            if self.rows.setdefault(copy.segment, following) == following:
                fresh.append(copy)
                following += 1
            else:
                known.append(copy)
        segments = [copy.segment for copy in fresh]
        self.segments.extend(segments)
        self.slots.extend(map(slot_of, segments))
        self.wanted.extend(map(wanted, segments))
        self.sizes.extend([copy.size for copy in fresh])
        self.modified.extend([copy.modified for copy in fresh])
        self.copies.extend([()] * len(segments))
        for row, copy in enumerate(fresh, first):
            if copy.path != canonical_path(copy.segment):
                self.paths[row] = copy.path
        return known

    def free(self, row: int) -> None:
        """Free the row of a segment without copies."""
        segment = self.segments[row]
        assert segment is not None and not self.copies[row]
        del self.rows[segment]
        self.segments[row] = None
        self.wanted[row] = LEAVE_ALONE
        self.paths.pop(row, None)
        self._free.append(row)

    def segment(self, row: int) -> str:
        """The segment of a row that is in use."""
        segment = self.segments[row]
        assert segment is not None
        return segment

    def is_version(self, row: int, path: str, size: int, modified: int) -> bool:
        """Whether this is the version of the canonical copy that the row has."""
        return self.modified[row] == modified and self.sizes[row] == size and self.path(row) == path

    def set_version(self, row: int, path: str, size: int, modified: int) -> None:
        """Note another version of the canonical copy."""
        self.sizes[row] = size
        self.modified[row] = modified
        if path != canonical_path(self.segment(row)):
            self.paths[row] = path
        elif self.paths:
            self.paths.pop(row, None)

    def path(self, row: int) -> str:
        """Where the canonical copy lies."""
        return self.paths.get(row) or canonical_path(self.segment(row))

    def assignments(self, row: int, nodes: Iterable[Node], now: float) -> list[Assignment]:
        """`nodes` keep a copy of this row's segment, in the version that is known."""
        segment = self.segment(row)
        path = self.paths.get(row) or canonical_path(segment)
        size, modified = self.sizes[row], self.modified[row]
        return [
            Assignment(segment, node.name, node.ring, path, size, modified, 0, now)
            for node in nodes
        ]

    def weight(self, row: int) -> int:
        """Bytes that a copy counts for."""
        return 0 if self.wanted[row] == COLD else self.sizes[row]
