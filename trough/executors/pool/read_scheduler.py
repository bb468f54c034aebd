"""Which executor is asked what: the rule by which reads are handed out, and moved.

A segment prefers one executor, so that its connection stays open there; a request for
many is split by the same rule. An executor that is held up by one long step gets nothing
new, and what it has not begun is moved to others, or to a helper that is started for it.

One SQL text may hold up half of the executors that there may be, asked of however many
segments, by however many requests: what else of it there is waits behind these, and all
others go on. A text and not a request, since a client that asks one thing of a thousand
segments may do so in one request or in a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count

from trough.executors import ipc
from trough.executors.pool.jobs import Target
from trough.executors.pool.process import ExecutorProcess
from trough.executors.pool.read_jobs import Part, ReadJob

#: Segments that an executor may have to do before what prefers it goes to another one
#: that has as many less: opening a segment there costs as much as some queries here.
_SPREAD = 64

#: Seconds that a helper stays without work.
_HELPER_STAYS = 60.0


class ReadRouting:
    """The executors that read.

    :param executors: that are always there
    :param most: how many there may be, with helpers
    :param new: makes an executor of a name
    :param numbers: of parts
    """

    def __init__(
        self,
        executors: Sequence[ExecutorProcess],
        most: int,
        new: Callable[[str], ExecutorProcess],
        numbers: Iterator[int],
    ) -> None:
        self._executors = executors
        self._number = len(executors)
        self._most = most
        self._share = (most + 1) // 2
        self._new = new
        self._numbers = numbers
        self._names = count(len(executors) + 1)
        self.helpers: list[ExecutorProcess] = []

    def all(self) -> list[ExecutorProcess]:
        """All of them."""
        return [*self._executors, *self.helpers]

    # -- handing out -------------------------------------------------------------------

    def ask(self, job: ReadJob, targets: Sequence[Target]) -> None:
        """Hand out targets of a job."""
        executors, number = self._executors, self._number
        if len(targets) == 1:
            executor = executors[hash(targets[0].segment) % number]
            if executor.held_up or executor.load > _SPREAD:
                executor = self._less_busy(executor, job)
            self._hand(job, executor, targets)
            return
        shares: dict[ExecutorProcess, list[Target]] = {}
        for target in targets:
            shares.setdefault(executors[hash(target.segment) % number], []).append(target)
        for executor, share in self._without_held_up(shares, job).items():
            self._hand(job, executor, share)

    def _without_held_up(
        self, shares: dict[ExecutorProcess, list[Target]], job: ReadJob
    ) -> dict[ExecutorProcess, list[Target]]:
        if not any(executor.held_up for executor in shares):
            return shares
        free = self._open_to(job)
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

    def _less_busy(self, preferred: ExecutorProcess, job: ReadJob) -> ExecutorProcess:
        """Another one than the preferred, if that is held up or has much more to do."""
        if preferred.held_up:
            return min(self._open_to(job), key=_load, default=preferred)
        most = preferred.load - _SPREAD
        for other in self._executors:
            if other.load < most and not other.held_up:
                return other
        return preferred

    def _free(self) -> list[ExecutorProcess]:
        """Those that are not held up."""
        return [each for each in self.all() if not each.held_up and each.running]

    def _open_to(self, job: ReadJob) -> list[ExecutorProcess]:
        """Of those that are not held up as many as a job may still hold up."""
        return self._free()[: max(0, self._share - self._held_up()[job.sql])]

    def _held_up(self) -> Counter[str | bytes]:
        """How many executors each SQL text holds up."""
        running = (each.outstanding.get(each.mark[0]) for each in self.all() if each.held_up)
        return Counter(part.job.sql for part in running if part is not None)

    def _hand(
        self,
        job: ReadJob,
        executor: ExecutorProcess,
        targets: Sequence[Target],
        attempts: int = 0,
    ) -> None:
        number = next(self._numbers)
        part = Part(job, executor, number, targets)
        if attempts:
            part.attempts = attempts
        job.parts.append(part)
        executor.outstanding[number] = part
        executor.load += len(targets)
        executor.send(job.message(number, targets))

    def try_again(self, job: ReadJob, target: Target, attempts: int) -> None:
        """Ask a target anew by which an executor may have died; on its own, so that no
        other target is taken for the cause should that happen again."""
        preferred = self._executors[hash(target.segment) % self._number]
        self._hand(job, self._less_busy(preferred, job), [target], attempts)

    # -- moving ------------------------------------------------------------------------

    def relieve(self, executor: ExecutorProcess) -> None:
        """Ask elsewhere what an executor that is held up has not begun."""
        held_up, share = self._held_up(), self._share
        movable = [
            (part, places)
            for part in executor.outstanding.values()
            if held_up[part.job.sql] < share
            and (places := _not_begun(part, executor.mark[0], executor.mark[1]))
        ]
        if movable and (self._free() or self._start_helper()):
            for part, places in movable:
                self._move(executor, part, places)

    def _move(self, executor: ExecutorProcess, part: Part, places: list[int]) -> None:
        self.ask(part.job, self._take(executor, part, places))

    def _take(self, executor: ExecutorProcess, part: Part, places: list[int]) -> list[Target]:
        """Take targets of a part away from its executor."""
        job = part.job
        targets = [part.targets[place] for place in places]
        if len(places) + len(part.moved) == len(part.targets):
            executor.withdraw(part.number)
            job.parts.remove(part)
        else:
            executor.load -= len(places)
            part.moved |= frozenset(places)
            executor.send((ipc.DROP, part.number, part.moved))
        return targets

    def take_back(self, segment: str) -> list[tuple[ReadJob, list[Target]]]:
        """Take a segment away from all queries that have told nothing of it.

        Not from those of that segment alone: their executors come to them before they come
        to whatever they are told from now on.
        """
        taken = []
        for executor in self.all():
            for part in list(executor.outstanding.values()):
                if len(part.targets) > 1 and any(t.segment == segment for t in part.targets):
                    places = [n for n in part.unsaid() if part.targets[n].segment == segment]
                    if places:
                        taken.append((part.job, self._take(executor, part, places)))
        return taken

    def _start_helper(self) -> bool:
        if len(self._executors) + len(self.helpers) >= self._most:
            return False
        helper = self._new(f"read-{next(self._names)}")
        try:
            helper.start()
        except OSError:  # no descriptors, or no memory; the next look tries again
            return False
        self.helpers.append(helper)
        return True

    def dismiss_helpers(self, now: float) -> None:
        """End the helpers that had nothing to do for a while."""
        for helper in list(self.helpers):
            if helper.load:
                helper.idle_since = now
            elif now - helper.idle_since >= _HELPER_STAYS:
                self.helpers.remove(helper)
                helper.stop()


def _not_begun(part: Part, running: int, place: int) -> list[int]:
    """Places of a part's targets of which nothing was told, and that do not run."""
    places = part.unsaid()
    if part.number == running and place in places:
        places.remove(place)
    return places


def _load(executor: ExecutorProcess) -> int:
    return executor.load
