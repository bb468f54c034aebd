"""Which executor writes which segment, and what happens to writes that take long.

Each segment prefers one executor, whose connection on it is open. While writes of a segment are
under way, all further ones go to the same executor. So a segment never has two writers, and
writes that wait share the next commit.

If one write blocks an executor, the executor hands back the writes of other segments that it
has not begun. They move to another executor, or to a helper that is started for it. Long
writes may occupy a part of the executors, and one client half of them. A write beyond that
is undone. It waits with all others of its segment until a long one has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from trough import errors
from trough.executors.pool.group import ExecutorGroup
from trough.executors.pool.jobs import WriteJob
from trough.executors.pool.process import ExecutorProcess
from trough.util.waiting import Waiters

#: Seconds of one write from which it counts as a long one: more than a slow disk takes.
LONG = 0.3


class _Segment:
    """The writes of one segment that are under way.

    :ivar jobs: by number, in their order
    :ivar returning: numbers of writes that the executor was asked to hand back; None while
        the segment stays where it is
    :ivar parked: whether they wait for a long write to end
    :ivar resumed: whether they waited for that before
    """

    __slots__ = ("executor", "jobs", "parked", "resumed", "returning")

    def __init__(self, executor: ExecutorProcess) -> None:
        self.executor = executor
        self.jobs: dict[int, WriteJob] = {}
        self.returning: set[int] | None = None
        self.parked = False
        self.resumed = False


class WriteScheduler:
    """The executors that write.

    :ivar idle: fires whenever the last write is answered
    """

    def __init__(self, group: ExecutorGroup) -> None:
        self.group = group
        self.idle: Waiters[None] = Waiters()
        self._limit = max(1, group.most - max(1, group.most // 4))
        self._share = (group.most + 1) // 2
        self._under_way: dict[str, _Segment] = {}

    @property
    def busy(self) -> bool:
        """Whether any write is under way."""
        return bool(self._under_way)

    def writer_of(self, segment: str) -> ExecutorProcess:
        """Who has the writes of a segment under way, or else should have the next."""
        owner = self._under_way.get(segment)
        if owner is not None:
            return owner.executor
        executors = self.group.permanent
        preferred = executors[hash(segment) % len(executors)]
        return self._least_busy() if preferred.held_up else preferred

    def _least_busy(self) -> ExecutorProcess:
        best = min(self.group.all(), key=lambda each: (each.held_up, each.load))
        return (self.group.start_helper() or best) if best.held_up else best

    def submit(self, job: WriteJob) -> None:
        """Give a write to its executor."""
        name = job.target.segment
        segment = self._under_way.get(name)
        if segment is None:
            segment = self._under_way[name] = _Segment(self.writer_of(name))
        segment.jobs[job.number] = job
        job.when_over = self._over
        if segment.returning is None:
            segment.executor.write(job)

    def _over(self, job: WriteJob) -> None:
        name = job.target.segment
        segment = self._under_way[name]
        del segment.jobs[job.number]
        if segment.returning is not None:
            segment.returning.discard(job.number)
            self._go_on(segment)
        if segment.jobs:
            return
        del self._under_way[name]
        if not self._under_way:
            self.idle.fire(None)

    # -- moving ------------------------------------------------------------------------

    def keep_room(self, now: float) -> None:
        """Move what waits behind long writes, and undo long writes that are too many."""
        blocked = [e for e in self.group.all() if e.is_long and now - e.mark_since >= LONG]
        if not (blocked or self.group.helpers):
            return
        running = self._long_ones(blocked)
        clients = Counter(job.client for job in running)
        over = len(running) - self._limit
        for job in sorted(running, key=lambda job: -clients[job.client])[: max(over, 0)]:
            self._hand_back(self._under_way[job.target.segment], parked=True)
        for executor in blocked:
            self._relieve(executor, clients)
        for segment in list(self._under_way.values()):
            if segment.parked and not segment.returning and len(running) < self._limit:
                self._go_on(segment, resume=True)
                running.append(next(iter(segment.jobs.values())))
        self.group.have_one_free()
        self.group.dismiss_helpers(now)

    def _long_ones(self, blocked: Sequence[ExecutorProcess]) -> list[WriteJob]:
        """The writes that occupy an executor, the youngest first."""
        found = {
            job.target.segment: job
            for each in sorted(blocked, key=lambda each: -each.mark_since)
            if (job := each.writes.get(each.mark[0])) is not None
        }
        for name, segment in self._under_way.items():
            if segment.resumed and name not in found and not segment.parked:
                found[name] = next(iter(segment.jobs.values()))
        return list(found.values())

    def _relieve(self, executor: ExecutorProcess, clients: Counter[str]) -> None:
        """Have handed back what a blocked executor has not begun, of other segments."""
        for segment in list(self._under_way.values()):
            if segment.executor is not executor or segment.returning is not None:
                continue
            jobs = list(segment.jobs.values())
            if all(clients[job.client] >= self._share for job in jobs):
                continue
            if not any(executor.may_have_begun(job) for job in jobs):
                self._hand_back(segment)

    def _hand_back(self, segment: _Segment, parked: bool = False) -> None:
        if segment.returning is not None:
            return
        segment.parked = parked
        segment.returning = set(segment.jobs)
        for job in list(segment.jobs.values()):
            job.returning = True
            if segment.executor.cancel_write(job):
                self.returned(job)

    def returned(self, job: WriteJob) -> None:
        """Called when an executor has handed a write back, of which nothing was applied."""
        job.returning = False
        job.place = job.executor = None
        segment = self._under_way[job.target.segment]
        if job.cancelled:
            job.fail(errors.Cancelled("the write was cancelled before it began"))
            return
        if segment.returning is None:
            segment.executor.write(job)
            return
        segment.returning.discard(job.number)
        self._go_on(segment)

    def _go_on(self, segment: _Segment, resume: bool = False) -> None:
        """Give the writes of a segment to another executor, once it has all of them back."""
        if segment.returning or (segment.parked and not resume):
            return
        segment.returning = None
        segment.resumed = segment.resumed or resume
        segment.parked = False
        segment.executor = self._least_busy()
        for job in list(segment.jobs.values()):
            segment.executor.write(job)

    def end_overdue(self, now: float) -> None:
        """End what waits, with no executor, beyond its deadline."""
        for segment in list(self._under_way.values()):
            for job in list(segment.jobs.values()) if segment.parked else ():
                if not job.returning and now > job.deadline:
                    job.fail(
                        errors.DeadlineExceeded("the time for it ran out while long writes ran")
                    )
