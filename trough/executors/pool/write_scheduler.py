"""Which executor writes which segment.

Each segment prefers one, whose connection on it is open. While writes of a segment are
under way, all further ones go where they are: so a segment never has two writers, and
those that wait share the next commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trough.executors.pool.jobs import WriteJob
from trough.executors.pool.process import ExecutorProcess


class WriteRouting:
    """The executors that write.

    :ivar when_idle: called whenever the last write is answered
    """

    def __init__(self, executors: Sequence[ExecutorProcess]) -> None:
        self.executors = executors
        self.when_idle: Callable[[], None] | None = None
        self._under_way: dict[str, tuple[ExecutorProcess, int]] = {}

    @property
    def busy(self) -> bool:
        """Whether any write is under way."""
        return bool(self._under_way)

    def writer_of(self, segment: str) -> ExecutorProcess:
        """Who has the writes of a segment under way, or else should have the next."""
        owner = self._under_way.get(segment)
        if owner is not None:
            return owner[0]
        preferred = self.executors[hash(segment) % len(self.executors)]
        if preferred.held_up:
            return min(self.executors, key=lambda each: (each.held_up, each.load))
        return preferred

    def submit(self, job: WriteJob) -> None:
        """Give a write to its executor."""
        segment = job.target.segment
        executor = job.executor = self.writer_of(segment)
        _, number = self._under_way.get(segment, (executor, 0))
        self._under_way[segment] = (executor, number + 1)
        job.when_over = self._over
        executor.write(job)

    def _over(self, job: WriteJob) -> None:
        segment = job.target.segment
        executor, number = self._under_way[segment]
        if number > 1:
            self._under_way[segment] = (executor, number - 1)
            return
        del self._under_way[segment]
        if not self._under_way and self.when_idle is not None:
            self.when_idle()
