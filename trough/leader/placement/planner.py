"""Placement: which worker keeps a copy of which segment, as plans in small steps.

The leader gives a :class:`Planner` what it sees (workers, assignments, canonical copies, write
locks) and asks it for plans. A plan is a bounded number of assignments to write and to remove.
After a finite number of plans everything is where the rings want it. The planner promises:

* no assignment is removed before every copy that should be there is published and live,
  and never one of a worker that writes the segment;
* a worker that is missing changes nothing before the grace is over, then its own share;
  one that joins takes its share, and nothing else moves;
* no more copies move in a call than the caller allows; lost copies come first;
* the same inputs give the same plans, on every machine.

The cost of a plan grows with what changed. Only after a change of the workers does it check every
segment once, a bounded number in each call. No clock, socket or store is used here: time and the
published copies are arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

from trough.leader.placement.decisions import Decisions, Steps
from trough.leader.placement.nodes import COLD, ClusterState, Node, Nodes, NodeState
from trough.leader.placement.segment_table import LEAVE_ALONE, NOTHING, SegmentTable
from trough.model import Assignment, CanonicalCopy, Lock, Worker, canonical_path

#: From so many new segments in one go on, rows are not used again but added at the end.
MANY = 1_000

#: Copies that are taken in at once: all there are take up more memory than what is kept.
PORTION = 10_000

#: Rows that one call looks at, at most: some 30 ms, for news are taken in between calls.
SWEEP = 200_000

#: Segments of a kind that a status names, at most.
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Plan:
    """A part of the way from what is to what should be.

    :ivar put: assignments to add or to replace; these first
    :ivar remove: pairs of worker and segment
    :ivar moves: how many copies have to be fetched because of `put`, not counting
        segments that had no copy before
    :ivar more: whether another call would go on at once, without anything new
    """

    put: list[Assignment] = field(default_factory=list)
    remove: list[tuple[str, str]] = field(default_factory=list)
    moves: int = 0
    more: bool = False


class Planner:
    """Plans for all segments.

    :param copies_for: how many copies a hot segment should have
    :param is_cold: whether a segment belongs to the cold tier
    :param rings: the number of hash rings, at least the most that `copies_for` says
    :param grace: seconds after which the segments of a missing worker are moved
    :param known_rings: which worker is on which ring, as it was saved
    """

    def __init__(
        self,
        copies_for: Callable[[str], int],
        is_cold: Callable[[str], bool],
        rings: int,
        grace: float,
        known_rings: Mapping[str, int],
    ) -> None:
        self._copies_for = copies_for
        self._is_cold = is_cold
        self._cluster = ClusterState(rings, grace, known_rings)
        self._table = SegmentTable()
        self._decisions = Decisions(self._table, self._cluster)
        # Rows to be checked, and rows whose assignments are to be written again.
        self._dirty: dict[int, None] = {}
        self._stale: dict[int, None] = {}
        self._cursor = 0
        self._overfull: frozenset[Node] = frozenset()

    # -- what the leader sees --------------------------------------------------

    def pause(self, nodes: Iterable[str]) -> None:
        """Wait for these workers, and for no other longer than the grace is."""
        self._cluster.paused = frozenset(nodes)

    def see_workers(self, workers: Iterable[Worker], now: float) -> None:
        """Take in which workers live.

        To be called before anything else, and then whenever somebody may have come or
        gone; a worker counts as missing from the call that lacks it.
        """
        if self._cluster.update(workers, now):
            self._sweep_again()

    def forget(self, worker: str) -> None:
        """Take in that a worker will not return: its share is given away without any
        grace, and its place on a ring to others. One that lives is not forgotten."""
        if self._cluster.forget(worker):
            self._sweep_again()

    def see_assignments(self, assignments: Iterable[Assignment], now: float) -> None:
        """Take in assignments that are in the store; all of them once, in pages."""
        table, cluster = self._table, self._cluster
        for each in assignments:
            row = table.rows.get(each.segment)
            if row is None:
                row = table.add(each.segment, LEAVE_ALONE, each.path, each.size, each.modified)
            elif not table.is_version(row, each.path, each.size, each.modified):
                self._differ(row)
            node = cluster.node(each.node, now)
            if node not in table.copies[row]:
                table.copies[row] = cluster.joined(table.copies[row], node)
                node.counted += table.weight(row)
            if row < self._cursor:
                self._dirty[row] = None

    def see_canonical(
        self, present: Iterable[CanonicalCopy], gone: Iterable[str] = (), whole: bool = False
    ) -> None:
        """Take in what changed in canonical storage.

        :param present: copies that are new or have another version
        :param gone: segments without a canonical copy; their assignments are removed, unless
            the segment has a writer
        :param whole: `present` is everything, so all other assigned segments are gone
        """
        rows = self._table.rows
        seen = bytearray(len(self._table))
        coming = iter(present)
        while copies := list(islice(coming, PORTION)):
            many = len(copies) >= MANY
            for copy in self._table.add_many(copies, self._wanted) if many else copies:
                self._see_copy(copy)
            if whole:
                _mark(seen, rows, copies)
        if whole:
            for row in rows.values():
                if row < len(seen) and not seen[row]:
                    self._lose(row)
        for segment in gone:
            lost = self._table.rows.get(segment)
            if lost is not None:
                self._lose(lost)

    def missing_from(self, present: Iterable[CanonicalCopy]) -> int:
        """How many of the segments known of are not among all that canonical storage holds."""
        seen = bytearray(len(self._table))
        _mark(seen, self._table.rows, present)
        return len(self._table.rows) - seen.count(1)

    def see_locks(
        self,
        held: Iterable[Lock],
        now: float,
        released: Iterable[str] = (),
        whole: bool = False,
    ) -> None:
        """Take in the write locks.

        :param held: locks that are new or have changed hands
        :param released: segments without a writer
        :param whole: `held` is everything
        """
        before = self._decisions.locks
        if whole:
            self._decisions.locks = {}
        for lock in held:
            self._decisions.locks[lock.segment] = self._cluster.node(lock.node, now)
            self._touch(lock.segment)
        freed = (
            [segment for segment in before if segment not in self._decisions.locks]
            if whole
            else released
        )
        for segment in freed:
            self._decisions.locks.pop(segment, None)
            self._touch(segment)

    # -- what it answers -------------------------------------------------------

    @property
    def rings(self) -> dict[str, int]:
        """Which worker is on which ring, to be saved whenever it differs."""
        return dict(self._cluster.membership)

    @property
    def lost_copies(self) -> int:
        """How many segments have lost a copy that was not replaced yet."""
        return len(self._decisions.urgent)

    @property
    def homeless(self) -> int:
        """How many segments no worker can take at present, as far as they are noted."""
        return len(self._decisions.unplaced)

    @property
    def settled(self) -> bool:
        """Whether something was decided about each segment that was seen."""
        return not (self._dirty or self._stale) and self._cursor >= len(self._table)

    def has_new(self, present: Iterable[CanonicalCopy]) -> bool:
        """Whether any of these is of a segment that is neither assigned nor locked, nor known
        to be one that no worker can take."""
        rows, copies = self._table.rows, self._table.copies
        locks, unplaced = self._decisions.locks, self._decisions.unplaced
        for copy in present:
            row = rows.get(copy.segment)
            placed = row is not None and (copies[row] or row in unplaced)
            if not placed and copy.segment not in locks:
                return True
        return False

    def unplaced(self) -> list[str] | None:
        """Segments that no worker can take at present, sorted; None where there are so many
        that they are not all noted."""
        if self._decisions.too_many_unplaced:
            return None
        return sorted(map(self._table.segment, self._decisions.unplaced))

    def in_question(self, limit: int) -> list[str]:
        """Segments with a copy too many, which goes once the others are published.

        Each call answers with others, in turn. Ask the store for their copies and hand
        them to :meth:`plan`.
        """
        rows = [row for row, _ in zip(self._decisions.surplus, range(limit), strict=False)]
        for row in rows:
            self._decisions.surplus[row] = self._decisions.surplus.pop(row)
        return [self._table.segment(row) for row in rows]

    def plan(
        self,
        now: float,
        allowance: int,
        live: Mapping[str, Collection[str]] | None = None,
        limit: int = 500,
    ) -> Plan:
        """The next steps. They count as done; see :meth:`failed`.

        :param now: seconds, by the clock of :meth:`see_workers`
        :param allowance: copies that may move now; the last segment to move may take it
            over that by one less than its number of copies
        :param live: for segments that :meth:`in_question` named, which workers' copies
            can be served now
        :param limit: steps, at most; the last segment may take it a bit over that
        """
        if self._cluster.expire(now):
            self._sweep_again()
        self._shed()
        plan = Steps(now, allowance, limit)
        for segment, nodes in (live or {}).items():
            row = self._table.rows.get(segment)
            if row is not None and row in self._decisions.surplus:
                self._decisions.remove_surplus(row, nodes, plan)
        while self._dirty and not plan.is_full:
            self._decisions.decide(self._dirty.popitem()[0], plan, may_move=False)
        while self._stale and not plan.is_full:
            self._decisions.refresh(self._stale.popitem()[0], plan)
        self._take_moves(self._decisions.urgent, plan)
        self._sweep(plan)
        if self._cursor >= len(self._table) and not self._decisions.urgent:
            self._take_moves(self._decisions.moving, plan)
            if self._decisions.forgot and not self._decisions.moving:
                self._decisions.forgot = False
                self._sweep_again()
        return Plan(plan.put, plan.remove, plan.moves, self._has_more(plan))

    def failed(self, plan: Plan) -> None:
        """Record that `plan` was not carried out, or may not have been."""
        for each in plan.put:
            row = self._table.rows.get(each.segment)
            if row is not None:
                self._stale[row] = None
        for name, segment in plan.remove:
            row = self._table.rows.get(segment)
            if row is None:
                row = self._table.add(segment, NOTHING, canonical_path(segment), 0, 0)
            node = self._cluster.nodes[name]
            if node not in self._table.copies[row]:
                self._table.copies[row] = self._cluster.joined(self._table.copies[row], node)
                node.counted += self._table.weight(row)
            self._dirty[row] = None

    @property
    def cold_trouble(self) -> str:
        """That there are cold segments and no living cold worker; empty: not so."""
        # Asked while another thread plans: each of these is read in one piece.
        cold = [node for node in list(self._cluster.nodes.values()) if node.cold]
        if any(node.state in (NodeState.LIVE, NodeState.DRAINING) for node in cold):
            return ""
        count = self._table.wanted.tobytes().count(COLD)
        if not count:
            return ""
        lost = ", ".join(sorted(node.name for node in cold)) or "none is known"
        return f"{count} cold segments have no living cold worker ({lost})"

    def status(self) -> dict[str, object]:
        """Counters for people; JSON-able."""
        return {
            "segments": len(self._table.rows),
            "unseen": len(self._table) - self._cursor,
            "lost_copies": self.lost_copies,
            "homeless": self.homeless,
            # The first few of each, by name.
            "lacking": self._first(self._decisions.urgent),
            "unplaced": self._first(self._decisions.unplaced),
            "locks": {
                segment: node.name
                for segment, node in islice(self._decisions.locks.items(), MOST_NAMED)
            },
            "moving": len(self._decisions.moving),
            "in_question": len(self._decisions.surplus),
            "workers": {
                node.name: {"state": node.state.value, "ring": node.ring, "bytes": node.counted}
                for node in self._cluster.nodes.values()
                if not self._cluster.is_forgotten(node)
            },
        }

    def _first(self, rows: Iterable[int]) -> list[str]:
        return [self._table.segment(row) for row in islice(rows, MOST_NAMED)]

    # -- taking in ---------------------------------------------------------------

    def _touch(self, segment: str) -> None:
        row = self._table.rows.get(segment)
        if row is not None:
            self._dirty[row] = None

    def _wanted(self, segment: str) -> int:
        return COLD if self._is_cold(segment) else max(1, self._copies_for(segment))

    def _see_copy(self, copy: CanonicalCopy) -> None:
        table = self._table
        row = table.rows.get(copy.segment)
        if row is None:
            wanted = self._wanted(copy.segment)
            row = table.add(copy.segment, wanted, copy.path, copy.size, copy.modified)
            if row < self._cursor:
                self._dirty[row] = None
            return
        same = table.is_version(row, copy.path, copy.size, copy.modified)
        if same and table.wanted[row] not in (LEAVE_ALONE, NOTHING):
            return
        if table.copies[row] and not (same and table.wanted[row] == LEAVE_ALONE):
            self._stale[row] = None
        self._decisions.count(row, -1)
        table.set_version(row, copy.path, copy.size, copy.modified)
        table.wanted[row] = self._wanted(copy.segment)
        self._decisions.count(row, 1)
        if row < self._cursor:
            self._dirty[row] = None

    def _differ(self, row: int) -> None:
        """Note that not all assignments of a segment have the same version."""
        if self._table.wanted[row] == LEAVE_ALONE:
            self._table.modified[row] = -1
        else:
            self._stale[row] = None

    def _lose(self, row: int) -> None:
        self._decisions.count(row, -1)
        self._table.wanted[row] = NOTHING
        self._decisions.count(row, 1)
        self._dirty[row] = None

    # -- going through many ------------------------------------------------------

    def _take_moves(self, queue: dict[int, None], plan: Steps) -> None:
        while queue and not plan.is_full and plan.moves < plan.allowance:
            self._decisions.decide(queue.popitem()[0], plan, may_move=True)

    def _sweep(self, plan: Steps) -> None:
        """Look at the next rows, and decide about those that are not as they should be."""
        row, end = self._cursor, min(len(self._table), self._cursor + SWEEP)
        while (row := self._next_amiss(row, end)) < end and not plan.is_full:
            after = self._decisions.place_new(row, end, plan)
            if after == row:
                self._decisions.decide(row, plan, may_move=False)
                after = row + 1
            row = after
        self._cursor = row

    def _sweep_again(self) -> None:
        """Look at all rows once more."""
        self._cursor = 0
        self._decisions.too_many_unplaced = False

    def _next_amiss(self, row: int, end: int) -> int:
        """The first row from `row` on that is not as it should be, or `end`."""
        table, cluster, overfull = self._table, self._cluster, self._overfull
        wanted_of, slots, copies_of = table.wanted, table.slots, table.copies
        wanted = LEAVE_ALONE
        ideals: list[Nodes | None] = []
        for each in range(row, end):
            if wanted_of[each] != wanted:
                wanted = wanted_of[each]
                ideals = cluster.ideals(wanted)
            if wanted in (LEAVE_ALONE, NOTHING):
                continue
            copies = copies_of[each]
            ideal = ideals[slots[each]] or cluster.ideal(wanted, slots[each])
            if copies is not ideal or not copies or (overfull and not overfull.isdisjoint(copies)):
                return each
        return end

    def _shed(self) -> None:
        """Have workers that became too full give something away, if anyone has room."""
        usable = [node for node in self._cluster.nodes.values() if node.usable]
        full = frozenset(node for node in usable if node.overfull)
        if full and all(node.counted >= node.room for node in usable):
            full = frozenset()
        if full - self._overfull:
            self._sweep_again()
        self._overfull = full

    def _has_more(self, plan: Steps) -> bool:
        if self._dirty or self._stale or self._cursor < len(self._table):
            return True
        waiting = self._decisions.urgent or self._decisions.moving
        return bool(waiting) and plan.moves < plan.allowance


def _mark(seen: bytearray, rows: Mapping[str, int], copies: Iterable[CanonicalCopy]) -> None:
    """Put a 1 into the place of each row whose segment is among `copies`."""
    for copy in copies:
        row = rows.get(copy.segment)
        if row is not None and row < len(seen):
            seen[row] = 1
