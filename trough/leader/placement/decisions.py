"""What a single segment needs, decided one segment at a time.

Holds what decisions need beside the segment's row (locks, copies that are too many) and
what they leave for later (queues of moves). Which segments are looked at, and when, is
the business of :mod:`trough.leader.placement.planner`.
"""

from __future__ import annotations

from collections.abc import Collection

from trough.leader.placement.nodes import COLD, ClusterState, Node, Nodes, NodeState
from trough.leader.placement.segment_table import LEAVE_ALONE, NOTHING, SegmentTable
from trough.model import Assignment, canonical_path

#: Rows that are decided about in full for one plan, at most: some 10 ms, and a tenth of
#: a second where all workers are full and every choice walks the rings.
DECISIONS = 1_000

#: Rows that wait for their turn to move, at most; the rest is found again later.
QUEUE = 200_000

#: Rows that are noted because no worker can take them.
UNPLACED = 10_000


class Steps:
    """A plan in the making."""

    __slots__ = ("allowance", "decisions", "limit", "moves", "now", "put", "remove")

    def __init__(self, now: float, allowance: int, limit: int) -> None:
        self.now = now
        self.allowance = allowance
        self.limit = limit
        self.put: list[Assignment] = []
        self.remove: list[tuple[str, str]] = []
        self.moves = 0
        self.decisions = 0

    @property
    def is_full(self) -> bool:
        """Whether no further segment should be begun in this call."""
        return self.decisions >= DECISIONS or len(self.put) + len(self.remove) >= self.limit


class Decisions:
    """Decides about rows of a table.

    :ivar locks: for each segment that is written who writes it
    :ivar surplus: for each row with a copy too many who may give it up
    :ivar urgent: rows that lack a copy; a dictionary without values, as the other
        queues are, for plans must not depend on where objects lie in memory
    :ivar moving: rows whose copies should be elsewhere
    :ivar unplaced: rows that should have copies, and that no worker can take; others are
        not noted where there are `too_many_unplaced`
    :ivar forgot: whether a row was left out of a queue because that was too long
    """

    def __init__(self, table: SegmentTable, cluster: ClusterState) -> None:
        self.locks: dict[str, Node] = {}
        self.surplus: dict[int, Nodes] = {}
        self.urgent: dict[int, None] = {}
        self.moving: dict[int, None] = {}
        self.unplaced: dict[int, None] = {}
        self.too_many_unplaced = False
        self.forgot = False
        self._table = table
        self._cluster = cluster

    def count(self, row: int, sign: int) -> None:
        """Count a row's bytes for those that should hold them, or no longer."""
        change = sign * self._table.weight(row)
        if change:
            surplus = self.surplus.get(row, ())
            for node in self._table.copies[row]:
                if node not in surplus:
                    node.counted += change

    def decide(self, row: int, plan: Steps, may_move: bool) -> Nodes | None:
        """Plan what one segment needs.

        :param may_move: whether copies may be moved; otherwise it is queued
        :return: who should hold the segment, or None while that was not planned
        """
        table = self._table
        wanted = table.wanted[row]
        if wanted == LEAVE_ALONE:
            return None
        plan.decisions += 1
        if wanted == NOTHING:
            self._clear(row, plan)
            return None
        copies = table.copies[row]
        holder = self.locks.get(table.segment(row)) if self.locks else None
        self.count(row, -1)
        desired = self._desired(row, wanted, copies, holder)
        new = [node for node in desired if node not in copies] if copies else desired
        moves = 0
        if new and copies and wanted != COLD:
            moves = len(new) - (holder in new)
        if moves and not may_move:
            self.count(row, 1)
            self._queue(row, copies, desired)
            return None
        if new:
            copies = table.copies[row] = self._cluster.intern((*copies, *new))
            plan.put += table.assignments(row, new, plan.now)
            plan.moves += moves
        if copies is desired:
            self.surplus.pop(row, None)
        else:
            self._note_surplus(row, wanted, desired, holder)
        self._note_placed(row)
        self.count(row, 1)
        return desired

    def _note_placed(self, row: int) -> None:
        if self._table.copies[row]:
            self.unplaced.pop(row, None)
        elif len(self.unplaced) < UNPLACED:
            self.unplaced[row] = None
        else:
            self.too_many_unplaced = True

    def place_new(self, row: int, end: int, plan: Steps) -> int:
        """Place a run of segments without copies and without a writer, with room on all workers.

        Does what :meth:`decide` would do, in a third of the time, which counts when all
        segments are new.

        :return: the first row that is not of this kind, or `end`
        """
        table, locks, put, limit, now = self._table, self.locks, plan.put, plan.limit, plan.now
        segments, slots, copies, paths = table.segments, table.slots, table.copies, table.paths
        sizes, versions, wanted = table.sizes, table.modified, table.wanted[row]
        if wanted in (LEAVE_ALONE, NOTHING, COLD):
            return row
        ideals = self._cluster.ideals(wanted)
        while row < end and len(put) < limit:
            segment, slot, size = segments[row], slots[row], sizes[row]
            nodes = ideals[slot] or self._cluster.ideal(wanted, slot)
            if copies[row] or table.wanted[row] != wanted or segment is None or segment in locks:
                return row
            for node in nodes:
                if not node.usable or node.counted + size > node.room:
                    return row
            path = paths.get(row) or canonical_path(segment)
            modified = versions[row]
            for node in nodes:
                node.counted += size
                put.append(Assignment(segment, node.name, node.ring, path, size, modified, 0, now))
            copies[row] = nodes
            self._note_placed(row)
            row += 1
        return row

    def _desired(self, row: int, wanted: int, copies: Nodes, holder: Node | None) -> Nodes:
        slot, size = self._table.slots[row], self._table.weight(row)
        if holder is None and wanted != COLD:
            ideal = self._cluster.ideal(wanted, slot)
            for node in ideal:
                if not node.usable or not node.takes(size, node in copies):
                    break
            else:
                if all(node.state is not NodeState.WAITING for node in copies):
                    return ideal
        return self._cluster.choose(wanted, slot, size, copies, holder)

    def _note_surplus(self, row: int, wanted: int, desired: Nodes, holder: Node | None) -> None:
        """Record which copies are too many; none are while there are too few."""
        surplus: Nodes = ()
        if len(desired) >= (1 if wanted == COLD else wanted):
            surplus = tuple(
                node
                for node in self._table.copies[row]
                if node not in desired and node is not holder
            )
        if surplus:
            self.surplus[row] = surplus
        else:
            self.surplus.pop(row, None)

    def _queue(self, row: int, copies: Nodes, desired: Nodes) -> None:
        there = sum(node.state is not NodeState.DEAD for node in copies)
        queue = self.urgent if there < len(desired) else self.moving
        if len(queue) < QUEUE:
            queue[row] = None
        else:
            self.forgot = True

    def _clear(self, row: int, plan: Steps) -> None:
        """Remove all assignments of a segment that is gone, save its writer's."""
        table = self._table
        segment = table.segment(row)
        writer = self.locks.get(segment)
        self.count(row, -1)
        self.surplus.pop(row, None)
        self.unplaced.pop(row, None)
        leaving = [node for node in table.copies[row] if node is not writer]
        plan.remove += [(node.name, segment) for node in leaving]
        table.copies[row] = self._cluster.intern(
            node for node in table.copies[row] if node is writer
        )
        self.count(row, 1)
        if not table.copies[row]:
            table.free(row)

    def refresh(self, row: int, plan: Steps) -> None:
        """Write the assignments of a segment again, with the version that is known."""
        if self._table.wanted[row] not in (LEAVE_ALONE, NOTHING):
            # Those with a copy too many as well: if it is wanted again before it goes,
            # nobody puts what the store may never have seen.
            plan.put += self._table.assignments(row, self._table.copies[row], plan.now)

    def remove_surplus(self, row: int, live: Collection[str], plan: Steps) -> None:
        """Take copies too many away, if all that replace them can be served.

        :param live: the workers whose copies can be
        """
        # A copy that was one too many when it was noted may be wanted by now.
        desired = self.decide(row, plan, may_move=False)
        surplus = self.surplus.get(row)
        if not desired or not surplus:
            return
        if all(node.state is NodeState.LIVE and node.name in live for node in desired):
            segment = self._table.segment(row)
            plan.remove += [(node.name, segment) for node in surplus]
            self._table.copies[row] = self._cluster.intern(
                node for node in self._table.copies[row] if node not in surplus
            )
            del self.surplus[row]
