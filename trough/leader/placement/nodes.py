"""The workers as placement sees them, and which of them should hold a segment.

A worker is live, draining, waiting (not seen lately, expected back), or dead. Live and
waiting ones own slots on the rings, so that a worker which returns finds everything as
it was. :meth:`ClusterState.choose` is the whole rule of placement for one segment; it is
biased towards what is there already, because moving costs and standing still does not.

Time is an argument, and nothing in here knows how many segments there are.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from trough.leader.placement.ring import SLOTS, Ring, join_rings
from trough.model import COLD_RING, Worker

#: What `wanted` is for a cold segment. Its assignments are rows without bytes, so that
#: there are always two of them.
COLD = 255
COLD_COPIES = 2

#: No new copy makes a worker fuller than this part of its capacity: segments grow.
ROOM = 0.95

#: A worker gives copies away when it is fuller than this, and until it is just full:
#: without the distance each new byte would have the planner look at every segment.
OVERFULL = 1.02

#: A capacity that differs by less from the one in use is taken for the same, since
#: each change of weight moves something.
SAME_CAPACITY = 0.05


class NodeState(enum.Enum):
    """What placement expects of a worker."""

    LIVE = "live"
    DRAINING = "draining"
    WAITING = "waiting"
    DEAD = "dead"


class Node:
    """One worker, for as long as the planner lives.

    :ivar capacity: bytes offered, 0 while unknown
    :ivar counted: bytes of the copies that it should hold
    :ivar room: bytes up to which new copies may come
    :ivar since: when it was found missing; only while waiting
    :ivar usable: whether copies of hot segments may go there
    """

    __slots__ = ("capacity", "cold", "counted", "name", "ring", "room", "since", "state", "usable")

    def __init__(self, name: str, ring: int, since: float) -> None:
        self.name = name
        self.ring = ring
        self.since = since
        self.become(NodeState.WAITING, cold=False)
        self.capacity = 0.0
        self.room = 0.0
        self.counted = 0

    def __repr__(self) -> str:
        return f"<{self.name} {self.state.value}>"

    def become(self, state: NodeState, cold: bool) -> None:
        """Be in another state, or of the other tier."""
        self.state = state
        self.cold = cold
        self.usable = state is NodeState.LIVE and not cold

    @property
    def overfull(self) -> bool:
        """Whether it should hold notably more bytes than it offers."""
        return self.counted > self.capacity * OVERFULL

    def takes(self, size: int, has: bool) -> bool:
        """Whether a copy of `size` bytes, not yet counted, may stay or come."""
        return self.counted + size <= (self.capacity if has else self.room)


#: Workers that hold a segment, by name; equal ones are the same object.
Nodes = tuple[Node, ...]


class ClusterState:
    """All workers, their rings, and the choice between them.

    :param rings: the number of hash rings
    :param grace: seconds that a missing worker is waited for
    :param known: which worker is on which ring
    """

    def __init__(self, rings: int, grace: float, known: Mapping[str, int]) -> None:
        self.membership = dict(known)
        self.nodes: dict[str, Node] = {}
        #: Workers under maintenance, which are waited for whatever the grace is.
        self.paused: frozenset[str] = frozenset()
        self._grace = grace
        self._count = rings
        self._rings: list[Ring] = [Ring({}) for _ in range(rings)]
        self._cold_ring = Ring({})
        self._interned: dict[Nodes, Nodes] = {(): ()}
        self._joined: dict[tuple[Nodes, Node], Nodes] = {}
        self._ideals: dict[int, list[Nodes | None]] = {}

    # -- who is there ----------------------------------------------------------

    def node(self, name: str, now: float) -> Node:
        """The worker of this name. The grace of one that was never seen begins at `now`."""
        node = self.nodes.get(name)
        if node is None:
            ring = self.membership.get(name, 0)
            node = self.nodes[name] = Node(name, ring if ring < self._count else 0, now)
        return node

    def update(self, workers: Iterable[Worker], now: float) -> bool:
        """Take in which workers live now.

        :return: whether any segment could have to go elsewhere
        """
        seen = {worker.node: worker for worker in workers}
        changed = False
        for worker in seen.values():
            changed |= self._see(self.node(worker.node, now), worker)
        for node in self.nodes.values():
            if node.name not in seen and node.state in (NodeState.LIVE, NodeState.DRAINING):
                node.become(NodeState.WAITING, node.cold)
                node.since = now
        changed |= self._join()
        return self.expire(now) or self._rebuild(changed)

    def expire(self, now: float) -> bool:
        """Give up the workers that were waited for long enough.

        :return: whether there were any
        """
        late = [
            node
            for node in self.nodes.values()
            if node.state is NodeState.WAITING
            and now - node.since >= self._grace
            and node.name not in self.paused
        ]
        for node in late:
            node.become(NodeState.DEAD, node.cold)
        return self._rebuild(bool(late))

    def forget(self, name: str) -> bool:
        """Expect a missing worker no more, and keep no place for it; one that lives stays.

        :return: as :meth:`update`
        """
        node = self.nodes.get(name)
        if node is not None and node.state in (NodeState.LIVE, NodeState.DRAINING):
            return False
        self.membership.pop(name, None)
        if node is not None:
            node.become(NodeState.DEAD, node.cold)
        return self._rebuild(True)

    def is_forgotten(self, node: Node) -> bool:
        """Whether nothing is left of a worker but its name."""
        placed = node.cold or node.name in self.membership
        return node.state is NodeState.DEAD and not placed and not node.counted

    def _see(self, node: Node, worker: Worker) -> bool:
        state = NodeState.DRAINING if worker.draining else NodeState.LIVE
        capacity = float(worker.capacity or worker.available_bytes)
        before = (node.state, node.cold)
        node.become(state, worker.cold_storage)
        changed = before != (state, worker.cold_storage) and not (
            before == (NodeState.WAITING, worker.cold_storage)
            and state is NodeState.LIVE
            and self._owns(node)
        )
        if not math.isclose(node.capacity, capacity, rel_tol=SAME_CAPACITY):
            node.capacity, node.room = capacity, capacity * ROOM
            changed = True
        return changed

    def _owns(self, node: Node) -> bool:
        ring = self._cold_ring if node.cold else self._rings[node.ring]
        return node.name in ring.members

    def _join(self) -> bool:
        hot = {node.name: max(node.capacity, 1.0) for node in self.nodes.values() if node.usable}
        joined = join_rings(self.membership, hot, self._count)
        changed = joined != self.membership
        self.membership = joined
        for node in self.nodes.values():
            node.ring = COLD_RING if node.cold else joined.get(node.name, 0)
        return changed

    def _rebuild(self, changed: bool) -> bool:
        if not changed:
            return False
        weights: list[dict[str, float]] = [{} for _ in range(self._count)]
        cold: dict[str, float] = {}
        for node in self.nodes.values():
            # One whose capacity nobody remembers (it was away before this leader came)
            # owns nothing; what it holds waits for it all the same.
            away = node.state is NodeState.WAITING and (not node.capacity or not self._owns(node))
            if node.state in (NodeState.LIVE, NodeState.WAITING) and not away:
                ring = cold if node.cold else weights[node.ring]
                ring[node.name] = max(node.capacity, 1.0)
        self._rings = [
            before if before.weights == now else Ring(now)
            for before, now in zip(self._rings, weights, strict=True)
        ]
        self._cold_ring = self._cold_ring if self._cold_ring.weights == cold else Ring(cold)
        self._ideals.clear()
        return True

    # -- sets of workers -------------------------------------------------------

    def intern(self, nodes: Iterable[Node]) -> Nodes:
        """`nodes` by name, the same object for the same set."""
        ordered = tuple(sorted(nodes, key=lambda node: node.name))
        return self._interned.setdefault(ordered, ordered)

    def joined(self, nodes: Nodes, node: Node) -> Nodes:
        """`nodes` and one more; as :meth:`intern`, but remembered."""
        found = self._joined.get((nodes, node))
        if found is None:
            found = self._joined[nodes, node] = self.intern((*nodes, node))
        return found

    def ideals(self, wanted: int) -> list[Nodes | None]:
        """For each slot what :meth:`ideal` answered so far; to be looked into quickly."""
        found = self._ideals.get(wanted)
        if found is None:
            found = self._ideals[wanted] = [None] * SLOTS
        return found

    def ideal(self, wanted: int, slot: int) -> Nodes:
        """Who holds a segment in `slot` if all have room and nothing is locked."""
        table = self.ideals(wanted)
        nodes = table[slot]
        if nodes is None:
            nodes = table[slot] = self._find_ideal(wanted, slot)
        return nodes

    def _find_ideal(self, wanted: int, slot: int) -> Nodes:
        if wanted == COLD:
            return self.intern(self._cold_walk(slot)[:COLD_COPIES])
        rings = self._order(slot)
        names = [self._rings[ring].owners[slot] for ring in rings[:wanted] if self._members(ring)]
        if len(names) < wanted:
            for node in self._walk_all(slot):
                if len(names) == wanted:
                    break
                if node.name not in names:
                    names.append(node.name)
        return self.intern(self.nodes[name] for name in names)

    # -- the choice ------------------------------------------------------------

    def choose(
        self, wanted: int, slot: int, size: int, copies: Nodes, holder: Node | None
    ) -> Nodes:
        """The workers that should hold a segment, given those that do.

        On each ring that is the segment's owner, if it has room. Otherwise a present copy stays;
        else the next worker on the ring with room takes it; else one on another ring. If no worker
        has room, it is the owner.

        :param wanted: the number of copies, or :data:`COLD`
        :param size: bytes of a copy, which count for no worker at the moment
        :param copies: the workers that hold it now
        :param holder: the worker that writes it, which keeps its copy
        """
        if wanted == COLD:
            return self._choose_cold(slot, copies)
        chosen = [node for node in copies if node.state is NodeState.WAITING and not node.cold]
        if holder is not None and holder.usable and holder not in chosen:
            chosen.append(holder)
        rings = self._order(slot)[:wanted]
        for node in chosen:
            if node.ring in rings:
                rings.remove(node.ring)
            elif rings:
                rings.pop()
        without: list[int | None] = []
        for ring in rings:
            found = self._from_ring(ring, slot, size, copies, chosen)
            if found is None:
                without.append(ring)
            else:
                chosen.append(found)
        without += [None] * (wanted - len(chosen) - len(without))
        for missing in without:
            found = self._from_anywhere(missing, slot, size, copies, chosen)
            if found is not None:
                chosen.append(found)
        return self.intern(chosen)

    def _choose_cold(self, slot: int, copies: Nodes) -> Nodes:
        staying = [node for node in copies if node.cold and node.state is NodeState.WAITING]
        others = [node for node in self._cold_walk(slot) if node.state is NodeState.LIVE]
        return self.intern((staying + others)[: max(COLD_COPIES, len(staying))])

    def _from_ring(
        self, ring: int, slot: int, size: int, copies: Nodes, chosen: list[Node]
    ) -> Node | None:
        if not self._members(ring):
            return None
        owner = self.nodes[self._rings[ring].owners[slot]]
        if owner.usable and owner not in chosen and owner.takes(size, owner in copies):
            return owner
        walk = [node for node in self._walk(ring, slot) if node.usable and node not in chosen]
        staying = [node for node in walk if node in copies]
        return next(
            (node for node in staying + walk if node.takes(size, node in copies)),
            None,
        )

    def _from_anywhere(
        self, ring: int | None, slot: int, size: int, copies: Nodes, chosen: list[Node]
    ) -> Node | None:
        """A worker for a copy that its own ring has no place for."""
        walk = [node for node in self._walk_all(slot) if node.usable and node not in chosen]
        fitting = (node for node in walk if node.takes(size, node in copies))
        # No worker has room: present copies stay, and missing ones go to their own ring.
        staying = (node for node in walk if node in copies)
        own = (node for node in walk if node.ring == ring)
        return next(chain(fitting, staying, own, walk), None)

    # -- walking the rings -----------------------------------------------------

    def _order(self, slot: int) -> list[int]:
        """All rings; which one comes first differs from slot to slot, so that segments
        with fewer copies than there are rings load all of them."""
        first = slot % self._count
        return [*range(first, self._count), *range(first)]

    def _members(self, ring: int) -> bool:
        return bool(self._rings[ring].members)

    def _walk(self, ring: int, slot: int) -> Iterator[Node]:
        return map(self.nodes.__getitem__, self._rings[ring].walk(slot))

    def _walk_all(self, slot: int) -> Iterator[Node]:
        for ring in self._order(slot):
            yield from self._walk(ring, slot)

    def _cold_walk(self, slot: int) -> list[Node]:
        return [self.nodes[name] for name in self._cold_ring.walk(slot)]
