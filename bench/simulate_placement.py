"""Placement at size, without servers: what plans cost, and what they move.

A cluster of workers comes to be, loses one, gets it back, gains one and drains one. Then
workers come and go at random. A planner plans, and a store that is only memory carries the
plans out. Every row of the table is one such event, from its news to the
last step of the last plan; what the store takes to apply a plan is not counted.

Run it with ``python bench/simulate_placement.py`` (1.5 million segments on 50 workers) or
``--segments 10000000``. Times are seconds of CPU and of the clock; "moved / ideal" compares
the copies that were fetched with those that the event could not have done without.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from trough.leader.placement.planner import Plan, Planner
from trough.leader.placement.ring import join_rings
from trough.model import Assignment, CanonicalCopy, Worker, canonical_path

FIRST_SEGMENT = 300_000
GRACE = 300.0
TERABYTE = 10**12

#: As many as a leader plans, and writes, at once.
STEPS = 500

Holders = tuple[str, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """What one event cost.

    :ivar cpu: seconds of CPU in the planner, taking in the news included
    :ivar wall: the same by the clock
    :ivar longest: seconds of CPU of the longest single call
    :ivar moves: copies that were fetched by workers
    :ivar ideal: copies that had to be, None where nothing is said about it
    :ivar writes: rows of the metadata store put or removed
    :ivar memory: MiB, the peak of the whole process so far
    """

    event: str
    cpu: float
    wall: float
    longest: float
    moves: int
    ideal: float | None
    writes: int
    memory: int

    @property
    def ratio(self) -> float | None:
        """Copies moved for each copy that had to be."""
        return self.moves / self.ideal if self.ideal else None


class Store:
    """Who is assigned what, and whoever is assigned a copy serves it."""

    def __init__(self, segments: int) -> None:
        self.holders: list[Holders] = [()] * segments
        self._same: dict[Holders, Holders] = {}
        self.moves = self.writes = 0

    def apply(self, plan: Plan) -> None:
        """Carry out a plan, counting what workers have to fetch because of it."""
        fresh = {put.segment for put in plan.put if not self.holders[number_of(put.segment)]}
        for put in plan.put:
            number = number_of(put.segment)
            if put.node not in self.holders[number]:
                self._set(number, (*self.holders[number], put.node))
                self.moves += put.segment not in fresh
        for node, segment in plan.remove:
            number = number_of(segment)
            self._set(number, tuple(each for each in self.holders[number] if each != node))
        self.writes += len(plan.put) + len(plan.remove)

    def _set(self, number: int, holders: Holders) -> None:
        self.holders[number] = self._same.setdefault(holders, holders)

    def count(self, node: str) -> int:
        """Copies that `node` has."""
        return sum(node in holders for holders in self.holders)


def number_of(segment: str) -> int:
    return int(segment) - FIRST_SEGMENT


def canonical(number: int, modified: int = 1_700_000_000_000) -> CanonicalCopy:
    """A segment of some megabytes; sizes differ as crawl jobs do."""
    segment = str(FIRST_SEGMENT + number)
    size = 1_000_000 + number * 7919 % 9_000_000
    return CanonicalCopy(segment, canonical_path(segment), size, modified)


class Meter:
    """Adds up what calls cost; nothing between them counts."""

    def __init__(self) -> None:
        self.cpu = self.wall = self.longest = 0.0

    def __call__(self, function: Callable[..., T], *arguments: object) -> T:
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent = time.process_time() - cpu
            self.cpu += spent
            self.wall += time.perf_counter() - wall
            self.longest = max(self.longest, spent)


class Simulation:
    """A leader, its workers and its store.

    :ivar rows: what was measured so far
    :ivar told: called with each row as soon as it is there
    """

    def __init__(self, segments: int, workers: int, copies: int, seed: int) -> None:
        self.segments = segments
        self.copies = copies
        self.rows: list[Row] = []
        self.told: Callable[[Row], None] = lambda row: None
        self.now = 1000.0
        # Three sizes of machine, as they are when a cluster has grown for years.
        self.capacities = {
            f"w{number:02}": (8 + 4 * (number % 3)) * TERABYTE for number in range(workers)
        }
        self.away: set[str] = set()
        self.draining: set[str] = set()
        self.store = Store(segments)
        self.planner = self._new_planner({})
        self._random = random.Random(seed)

    def run(self, rounds: int = 10) -> None:
        """All events, in an order in which each finds the cluster whole."""
        self.from_nothing()
        self._event("nothing changed")
        self.another_leader()
        self.promotions(min(1000, self.segments // 10))
        lost, drained = sorted(self.capacities)[1:3]
        self.lose(lost)
        self.bring_back(lost)
        self.add("new")
        self.drain(drained)
        self.come_and_go(rounds)
        self.check()

    # -- events --------------------------------------------------------------------

    def from_nothing(self) -> None:
        """Every segment is new, and no worker holds anything."""
        meter = Meter()
        meter(self.planner.see_workers, self._workers(), self.now)
        for page in self._pages():
            meter(self.planner.see_canonical, page)
        self._settle("from nothing", meter)

    def another_leader(self) -> None:
        """A leader that knows nothing reads everything, and finds that all is well."""
        meter = Meter()
        self.planner = self._new_planner(self.planner.rings)
        meter(self.planner.see_workers, self._workers(), self.now)
        rings = self.planner.rings
        for page in self._pages():
            rows = [
                Assignment(each.segment, node, rings[node], each.path, each.size, each.modified)
                for each in page
                for node in self.store.holders[number_of(each.segment)]
            ]
            meter(self.planner.see_assignments, rows, self.now)
            meter(self.planner.see_canonical, page)
        self._settle("another leader", meter, ideal=0)

    def promotions(self, count: int) -> None:
        """Some segments have another version."""
        meter = Meter()
        chosen = self._random.sample(range(self.segments), count)
        meter(self.planner.see_canonical, [canonical(number, 1 + number) for number in chosen])
        self._settle(f"{count} promotions", meter, ideal=0)

    def lose(self, node: str) -> None:
        """A worker dies, and does not come back in time."""
        share = self.store.count(node)
        self.away.add(node)
        self._event("a worker is away", ideal=0)
        self.now += GRACE
        self._event("it is given up", ideal=share)

    def bring_back(self, node: str) -> None:
        """A worker that was given up returns with an empty disk."""
        self.away.discard(node)
        self._event("it returns after all", ideal=self._part(node))

    def add(self, node: str) -> None:
        """A worker joins."""
        self.capacities[node] = 12 * TERABYTE
        self._event("a worker joins", ideal=self._part(node))

    def drain(self, node: str) -> None:
        """A worker is to be emptied."""
        share = self.store.count(node)
        self.draining.add(node)
        self._event("a worker is drained", ideal=share)

    def come_and_go(self, rounds: int) -> None:
        """Workers die, return and join at random, one at a time."""
        ideal = 0.0
        meter = Meter()
        self.store.moves = self.store.writes = 0
        for number in range(rounds):
            usable = sorted(set(self.capacities) - self.away - self.draining)
            if number % 3 == 2:
                self.capacities[f"n{number:02}"] = 16 * TERABYTE
                ideal += self._part(f"n{number:02}")
            elif number % 3 == 1 and self.away:
                node = self.away.pop()
                ideal += self._part(node)
            else:
                node = self._random.choice(usable)
                ideal += self.store.count(node)
                self.away.add(node)
            meter(self.planner.see_workers, self._workers(), self.now)
            self.now += GRACE
            self._carry_out(meter)
        self._note(f"{rounds} come and go", meter, ideal)

    def check(self) -> None:
        """Every segment has its copies, each on another worker of another ring."""
        rings, gone = self.planner.rings, self.away | self.draining
        for holders in self.store.holders:
            assert len({rings[node] for node in holders}) == len(holders) == self.copies, holders
            assert gone.isdisjoint(holders), holders

    # -- how ------------------------------------------------------------------------

    def _new_planner(self, rings: dict[str, int]) -> Planner:
        return Planner(lambda _: self.copies, lambda _: False, self.copies, GRACE, rings)

    def _workers(self) -> list[Worker]:
        return [
            Worker(name, capacity=capacity, draining=name in self.draining)
            for name, capacity in self.capacities.items()
            if name not in self.away
        ]

    def _pages(self) -> Iterator[list[CanonicalCopy]]:
        for start in range(0, self.segments, 10_000):
            yield [canonical(each) for each in range(start, min(start + 10_000, self.segments))]

    def _part(self, node: str) -> float:
        """Copies that a worker should hold, by its part of its ring's bytes."""
        usable = {worker.node: float(worker.capacity) for worker in self._workers()}
        usable = {name: size for name, size in usable.items() if name not in self.draining}
        rings = join_rings(self.planner.rings, usable, self.copies)
        ring = sum(size for each, size in usable.items() if rings[each] == rings[node])
        return self.segments * usable[node] / ring

    def _event(self, event: str, ideal: float | None = None) -> None:
        meter = Meter()
        meter(self.planner.see_workers, self._workers(), self.now)
        self._settle(event, meter, ideal)

    def _settle(self, event: str, meter: Meter, ideal: float | None = None) -> None:
        self.store.moves = self.store.writes = 0
        self._carry_out(meter)
        self._note(event, meter, ideal)

    def _carry_out(self, meter: Meter) -> None:
        """Plan until nothing is left to do."""
        live: dict[str, Holders] = {}
        while True:
            plan = meter(self.planner.plan, self.now, 10**9, live, STEPS)
            self.store.apply(plan)
            asked = meter(self.planner.in_question, STEPS)
            live = {segment: self.store.holders[number_of(segment)] for segment in asked}
            if not (asked or plan.put or plan.remove or plan.more):
                return

    def _note(self, event: str, meter: Meter, ideal: float | None) -> None:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        moves, writes = self.store.moves, self.store.writes
        row = Row(event, meter.cpu, meter.wall, meter.longest, moves, ideal, writes, memory)
        self.rows.append(row)
        self.told(row)


HEADING = (
    f"{'event':<22}{'cpu s':>9}{'wall s':>9}{'longest s':>11}{'moves':>10}"
    f"{'moved/ideal':>13}{'writes':>10}{'peak MiB':>10}"
)


def show(row: Row) -> str:
    """A row of the table, below :data:`HEADING`."""
    ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
    return (
        f"{row.event:<22}{row.cpu:>9.3f}{row.wall:>9.3f}{row.longest:>11.3f}{row.moves:>10}"
        f"{ratio:>13}{row.writes:>10}{row.memory:>10}"
    )


def main() -> None:
    """Simulate, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--segments", type=int, default=1_500_000)
    parser.add_argument("--workers", type=int, default=50)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10, help="of workers coming and going")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    simulation = Simulation(options.segments, options.workers, options.copies, options.seed)
    print(f"{options.segments} segments, {options.copies} copies, {options.workers} workers")
    print(HEADING, flush=True)
    simulation.told = lambda row: print(show(row), flush=True)
    simulation.run(options.rounds)


if __name__ == "__main__":
    main()
