"""Which executor runs which read: the rule for handing out reads, and moving them.

A segment prefers one executor, so that its connection stays open there. The same rule splits
a request for many segments. An executor that one long step blocks gets no new work. The work
that it has not begun moves to others, or to a helper that is started for it. If a read runs for
long while others wait behind it, the executor hands it back. The read starts again where no work
waits. One executor always stays free of such reads.

:mod:`trough.executors.pool.long_queries` limits how many executors long queries may block, and
queues the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trough import errors
from trough.executors.messages import DropTargets, Target
from trough.executors.pool.group import ExecutorGroup
from trough.executors.pool.long_queries import LongQueries
from trough.executors.pool.process import ExecutorProcess
from trough.executors.pool.read_jobs import ReadJob, ReadTask

#: Segments that an executor may have to do before what prefers it goes to another one
#: that has as many less: opening a segment there costs as much as some queries here.
_SPREAD = 64


class ReadScheduler:
    """The executors that read.

    :param numbers: of parts
    """

    def __init__(self, group: ExecutorGroup, numbers: Iterator[int]) -> None:
        self.group = group
        self.all = group.all
        self._executors = group.permanent
        self._number = len(group.permanent)
        self.long = LongQueries(group.most)
        self._numbers = numbers

    # -- handing out -------------------------------------------------------------------

    def ask(self, job: ReadJob, targets: Sequence[Target]) -> None:
        """Hand out targets of a job."""
        if job.client in self.long.waiting:
            self.long.park(job, list(targets), 0)
            return
        executors, number = self._executors, self._number
        if len(targets) == 1:
            executor = executors[hash(targets[0].segment) % number]
            held_up = executor.held_up or (executor.resident is not None and executor.occupied)
            if held_up:
                executor = self._less_busy(executor)
            elif executor.load > _SPREAD:
                # As _with_less_load(), without a call for each read of a client that sends many.
                most = executor.load - _SPREAD
                for other in executors:
                    if other.load < most and not other.occupied:
                        executor = other
                        break
            self._hand(job, executor, targets)
            return
        shares: dict[ExecutorProcess, list[Target]] = {}
        for target in targets:
            shares.setdefault(executors[hash(target.segment) % number], []).append(target)
        for executor, share in self._without_held_up(shares).items():
            self._hand(job, executor, share)

    def _without_held_up(
        self, shares: dict[ExecutorProcess, list[Target]]
    ) -> dict[ExecutorProcess, list[Target]]:
        if not any(executor.occupied for executor in shares):
            return shares
        free = self._free()
        if not free:
            return shares
        fair: dict[ExecutorProcess, list[Target]] = {}
        for executor, share in shares.items():
            if executor in free:
                fair.setdefault(executor, []).extend(share)
                continue
            for place, other in enumerate(free):
                if part := share[place :: len(free)]:
                    fair.setdefault(other, []).extend(part)
        return fair

    def _less_busy(self, preferred: ExecutorProcess) -> ExecutorProcess:
        """Another one than the preferred, if that is held up or has much more to do."""
        if preferred.occupied:
            return min(self._free(), key=_load, default=preferred)
        return self._with_less_load(preferred)

    def _with_less_load(self, preferred: ExecutorProcess) -> ExecutorProcess:
        most = preferred.load - _SPREAD
        for other in self._executors:
            if other.load < most and not other.occupied:
                return other
        return preferred

    def _free(self) -> list[ExecutorProcess]:
        """Those that are not occupied; of them those that have started, if any have."""
        free = [each for each in self.all() if not each.occupied and each.running]
        return [each for each in free if each.ready] or free

    def _hand(
        self,
        job: ReadJob,
        executor: ExecutorProcess,
        targets: Sequence[Target],
        attempts: int = 0,
        stays: bool = False,
    ) -> ReadTask:
        number = next(self._numbers)
        part = ReadTask(job, executor, number, targets)
        if attempts:
            part.attempts = attempts
        job.parts.append(part)
        executor.outstanding[number] = part
        executor.load += len(targets)
        executor.send(job.message(number, targets, stays))
        if job.paused:
            job.hold(executor)
        return part

    def try_again(self, job: ReadJob, target: Target, attempts: int) -> None:
        """Ask a target again by which an executor may have died. Ask it alone, so that no
        other target is taken for the cause if that happens again."""
        preferred = self._executors[hash(target.segment) % self._number]
        self._hand(job, self._less_busy(preferred), [target], attempts)

    # -- moving ------------------------------------------------------------------------

    def relieve(self, executor: ExecutorProcess) -> None:
        """Ask elsewhere what an executor that is held up has not begun."""
        movable = [
            (part, places)
            for part in executor.outstanding.values()
            if (places := _not_begun(part, executor.mark[0], executor.mark[1]))
        ]
        if movable and (self._free() or self.group.start_helper() is not None):
            for part, places in movable:
                self.move(executor, part, places)

    def move(self, executor: ExecutorProcess, part: ReadTask, places: list[int]) -> None:
        """Ask elsewhere what a part has at these places, of which nothing was delivered."""
        self.ask(part.job, self._take(executor, part, places))

    def _take(self, executor: ExecutorProcess, part: ReadTask, places: list[int]) -> list[Target]:
        """Take targets of a part away from its executor."""
        job = part.job
        targets = [part.targets[place] for place in places]
        if len(places) + len(part.moved) == len(part.targets):
            executor.withdraw(part.number)
            job.parts.remove(part)
        else:
            executor.load -= len(places)
            part.moved |= frozenset(places)
            executor.send(DropTargets(part.number, part.moved))
        return targets

    def keep_room(self, now: float) -> None:
        """Take queries off executors that long ones may not occupy, and start those whose
        turn it is. There is always an executor for the next short query."""
        long = self.long
        while (part := long.excess(self.all(), now)) is not None:
            self._park(part, self.long.occupied(self.all(), now).get(part, 0))
            self._park_client(part)
        while long and self._has_room_for_a_long_one():
            parked = long.next(self.all(), now)
            if parked is None:
                break
            if parked.job.over:
                continue
            executor = min(self._free(), key=_load)
            part = self._hand(parked.job, executor, parked.targets, stays=True)
            executor.resident = part
            long.resumed(part, parked.level)
        self.group.have_one_free()

    def _has_room_for_a_long_one(self) -> bool:
        """Whether an executor stays free beside one that a long query gets; if not, start
        one more."""
        spare = min(2, self.group.most)
        free = [each for each in self.all() if each.running and not each.occupied]
        if len(free) < spare and self.group.start_helper() is None:
            spare = min(spare, len(self.all()))
        return sum(each.ready for each in free) >= spare

    def _park_client(self, part: ReadTask) -> None:
        """Take off an executor what else it has of a client whose query has to wait."""
        executor = next(each for each in self.all() if each is part.executor)
        for other in list(executor.outstanding.values()):
            if other.job.client == part.job.client and not other.delivered:
                self._park(other, 0)

    def _park(self, part: ReadTask, level: int) -> None:
        part.executor.withdraw(part.number)
        self.put_off(part.job, self.rest_of(part), level)

    def rest_of(self, part: ReadTask) -> list[Target]:
        """Take a part that no executor has any more out of its job; what is left of it."""
        part.job.parts.remove(part)
        for place in part.partly_delivered():
            part.job.fail_segment(part.targets[place], _too_many(part.targets[place].segment))
        return [part.targets[place] for place in part.undelivered()]

    def put_off(self, job: ReadJob, targets: list[Target], level: int = 0) -> None:
        """Have targets of a job wait until an executor can be given to a long query."""
        if targets and not job.over:
            self.long.park(job, targets, level)
        job.end_if_answered()

    def take_back(self, segment: str) -> list[tuple[ReadJob, list[Target]]]:
        """Take a segment away from all queries that have delivered nothing of it.

        Not from those of that segment alone: their executors reach them before they reach
        any later message.
        """
        taken = self.long.take_back(segment)
        for executor in self.all():
            for part in list(executor.outstanding.values()):
                if len(part.targets) > 1 and any(t.segment == segment for t in part.targets):
                    places = [n for n in part.undelivered() if part.targets[n].segment == segment]
                    if places:
                        taken.append((part.job, self._take(executor, part, places)))
        return taken


def _not_begun(part: ReadTask, running: int, place: int) -> list[int]:
    """Places of a part's targets of which nothing was delivered, and that do not run."""
    places = part.undelivered()
    if part.number == running and place in places:
        places.remove(place)
    return places


def _too_many(segment: str) -> errors.Unavailable:
    return errors.Unavailable(
        f"segment {segment}: stopped after some rows, for too many long queries run",
        "ask again later, or for less",
    )


def _load(executor: ExecutorProcess) -> int:
    return executor.load
