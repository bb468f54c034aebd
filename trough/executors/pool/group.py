"""Executors of one kind: those that are always there, and helpers while these are blocked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count

from trough.executors.pool.process import ExecutorProcess

#: Seconds that a helper stays without work.
_HELPER_STAYS = 60.0


class ExecutorGroup:
    """See the module.

    :param kind: what their names begin with
    :param number: of those that are always there
    :param most: how many there may be, with helpers
    :param new: makes an executor of a name
    """

    def __init__(
        self, kind: str, number: int, most: int, new: Callable[[str], ExecutorProcess]
    ) -> None:
        self._kind = kind
        self._new = new
        self._names = count(number + 1)
        self.most = max(most, number)
        self.permanent: Sequence[ExecutorProcess] = [new(f"{kind}-{n + 1}") for n in range(number)]
        self.helpers: list[ExecutorProcess] = []

    def all(self) -> list[ExecutorProcess]:
        """All of them."""
        return [*self.permanent, *self.helpers]

    def start_helper(self) -> ExecutorProcess | None:
        """One more executor; None if there are as many as there may be, or none can start."""
        if len(self.permanent) + len(self.helpers) >= self.most:
            return None
        helper = self._new(f"{self._kind}-{next(self._names)}")
        try:
            helper.start()
        except OSError:  # no descriptors, or no memory; the next look tries again
            return None
        self.helpers.append(helper)
        return helper

    def have_one_free(self) -> None:
        """Start a helper for the next request if all executors are blocked."""
        if all(each.occupied for each in self.all()):
            self.start_helper()

    def dismiss_helpers(self, now: float) -> None:
        """End the helpers that had nothing to do for a while."""
        for helper in list(self.helpers):
            if helper.load:
                helper.idle_since = now
            elif now - helper.idle_since >= _HELPER_STAYS:
                self.helpers.remove(helper)
                helper.stop()
