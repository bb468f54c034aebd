"""How many executors long queries may occupy, and the queue of those that have to wait.

An executor is occupied while one step of one query runs for long. One client may occupy half
of the executors, very long queries half, and all long ones together three quarters. So short
queries always find one, however many other queries run. A query over these limits is taken off
its executor and waits in the queue of its client. All later queries of that client wait there
too, until the queue is empty. The query starts again from the beginning. That is why the rule
takes the youngest step of the client that has most.

This module holds rules on values and a queue. It does not start, ask or stop an executor.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from trough import errors
from trough.executors.messages import Target
from trough.executors.pool.process import ExecutorProcess
from trough.executors.pool.read_jobs import ReadJob, ReadTask

#: Seconds of one step from which its query counts as a very long one.
VERY_LONG = 5.0


@dataclass(slots=True)
class Parked:
    """A query, or what is left of it, that waits for an executor.

    :ivar level: 0 for a long one, 1 for a very long one
    """

    job: ReadJob
    targets: list[Target]
    level: int


class LongQueries:
    """The rule and the queue.

    :param most: executors that there may be
    """

    def __init__(self, most: int) -> None:
        #: Executors that long and that very long queries may occupy.
        self._limits = (max(1, most - max(1, most // 4)), max(1, most // 2))
        #: Executors that the queries of one client may occupy.
        self.share = (most + 1) // 2
        #: What waits, by client; not to be changed by others.
        self.waiting: dict[str, deque[Parked]] = {}
        self._resumed: set[ReadTask] = set()

    def __bool__(self) -> bool:
        return bool(self.waiting)

    def __contains__(self, client: str) -> bool:
        return client in self.waiting

    # -- what is occupied --------------------------------------------------------------

    def occupied(self, executors: Iterable[ExecutorProcess], now: float) -> dict[ReadTask, int]:
        """The parts that occupy an executor, and the level of each."""
        self._resumed = {part for part in self._resumed if part in part.job.parts}
        levels = {part: part.level for part in self._resumed}
        for executor in executors:
            part = executor.outstanding.get(executor.mark[0]) if executor.is_long else None
            if part is not None:
                very = now - executor.mark_since >= VERY_LONG
                levels[part] = max(levels.get(part, 0), int(very))
        return levels

    def excess(self, executors: Iterable[ExecutorProcess], now: float) -> ReadTask | None:
        """A part that has to leave its executor, or None while all keep to the limits."""
        levels = self.occupied(executors, now)
        clients = Counter(part.job.client for part in levels)
        over = [part for part in levels if clients[part.job.client] > self.share]
        for level, most in enumerate(self._limits):
            parts = [part for part, its in levels.items() if its >= level]
            over += parts if len(parts) > most else ()
        # One that has sent rows can only fail, so it is the last choice.
        return max(
            over,
            key=lambda part: (
                clients[part.job.client],
                not part.delivered,
                part.executor.mark_since,
            ),
            default=None,
        )

    # -- the queue ---------------------------------------------------------------------

    def park(self, job: ReadJob, targets: list[Target], level: int) -> None:
        """Put a query at the end of its client's queue."""
        job.waiting += 1
        self.waiting.setdefault(job.client, deque()).append(Parked(job, targets, level))

    def next(self, executors: Iterable[ExecutorProcess], now: float) -> Parked | None:
        """Take out the query that may start now, if one may."""
        executors = list(executors)
        levels = self.occupied(executors, now)
        # Steps that were ended, and have not received the message yet.
        deaf = sum(e.held_up and e.mark[0] not in e.outstanding for e in executors)
        clients = Counter(part.job.client for part in levels)
        used = [sum(its >= level for its in levels.values()) + deaf for level in (0, 1)]
        for client, queue in self.waiting.items():
            level = queue[0].level
            free = all(used[n] < self._limits[n] for n in range(level + 1))
            if free and clients[client] < self.share:
                return self._take(client)
        return None

    def _take(self, client: str) -> Parked:
        queue = self.waiting.pop(client)
        parked = queue.popleft()
        if queue:  # the client's next one comes after those of all other clients
            self.waiting[client] = queue
        parked.job.waiting -= 1
        return parked

    def resumed(self, part: ReadTask, level: int) -> None:
        """Note that a query from the queue was given to an executor, which it occupies."""
        part.level = level
        self._resumed.add(part)

    def clear(self, error: errors.TroughError) -> None:
        """End everything that waits."""
        for parked in list(self._all()):
            parked.job.fail(error)
        self.waiting.clear()

    def end_overdue(self, now: float) -> None:
        """End what waits beyond its deadline, and forget what ended meanwhile."""
        for parked in list(self._all()):
            if now > parked.job.deadline:
                parked.job.fail(
                    errors.DeadlineExceeded(
                        "the time for it ran out while other long queries ran",
                        "ask for less at once, or for more time with seconds=",
                    )
                )
        self._keep(lambda parked: not parked.job.over)

    def take_back(self, segment: str) -> list[tuple[ReadJob, list[Target]]]:
        """Take a segment away from everything that waits."""
        taken = []
        for parked in self._all():
            mine = [target for target in parked.targets if target.segment == segment]
            if mine:
                taken.append((parked.job, mine))
                parked.targets = [each for each in parked.targets if each.segment != segment]
                if not parked.targets:
                    parked.job.waiting -= 1
        self._keep(lambda parked: bool(parked.targets))
        return taken

    def _all(self) -> Iterator[Parked]:
        for queue in self.waiting.values():
            yield from queue

    def _keep(self, wanted: Callable[[Parked], bool]) -> None:
        kept = {client: deque(filter(wanted, queue)) for client, queue in self.waiting.items()}
        self.waiting = {client: queue for client, queue in kept.items() if queue}
