"""Whole answers of GATHERs, kept until a segment of theirs changes.

This client gets no notice of changes, so it asks. Each worker gave its part of an answer a word.
It answers whether each segment behind that word would still answer as before
(:mod:`trough.worker.kept_query`). The kept answer is given again only if all workers confirm it. So
it promises no less than a query of the segments would. Marks of stale segments are the present
ones.

Only whole answers are kept, of texts that depend on no clock, chance or connection.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from trough.cluster_client.gather_driver import GatherResult, Receive, Rows
from trough.cluster_client.router import WorkerAddress
from trough.gather.limits import size_of
from trough.protocols.line.values import Parameters
from trough.util.bounded_lru import BoundedLru

#: Bytes of rows of one answer, and of all, that are kept.
LARGEST, MOST = 1 << 20, 16 << 20

#: Bytes of an answer beside its rows, about.
_ANSWER = 2000

#: Seconds that a worker may take to answer whether segments have changed.
SECONDS = 5.0

#: Rows that are handed on at once.
_PORTION = 1000

#: Asks a worker about a word: the marks of now by segment, or None.
Unchanged = Callable[[WorkerAddress, str], Awaitable[dict[str, str] | None]]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer.

    :ivar rows: marshalled, as a receiver of rows may change them
    :ivar versions: the workers that were asked, and their words
    :ivar size: bytes, about
    """

    names: tuple[str, ...]
    rows: bytes
    versions: list[tuple[WorkerAddress, str]]
    size: int


def key_of(segments: Sequence[str], sql: str, parameters: Parameters | None, within: bool) -> bytes:
    """What an answer depends on beside what segments hold."""
    # By bytes, as 1 and 1.0 are equal and not the same to SQLite.
    digest = hashlib.blake2b(marshal.dumps((sql, _plain(parameters), within), 2))
    digest.update("\n".join(segments).encode())
    return digest.digest()


def _plain(parameters: Parameters | None) -> Any:
    return list(parameters.items()) if isinstance(parameters, dict) else parameters


class KeptAnswers:
    """See the module.

    :param unchanged: asks a worker
    :param clock: the reactor, for the time that a worker may take
    """

    def __init__(self, unchanged: Unchanged, clock: Any, most: int = MOST) -> None:
        self._unchanged = unchanged
        self._clock = clock
        self._most = most
        self._answers: BoundedLru[bytes, KeptAnswer] = BoundedLru(most, lambda each: each.size)
        #: Answers that were given again since the start, and those that had to be found.
        self.found = self.missed = 0

    async def find(
        self, key: bytes, seconds: float = SECONDS
    ) -> tuple[KeptAnswer, dict[str, str]] | None:
        """The answer, if it would be the same now, and the marks of stale segments.

        :param seconds: that workers may take to confirm it
        """
        found = await self._find(key, seconds)
        self.found += found is not None
        self.missed += found is None
        return found

    async def _find(self, key: bytes, seconds: float) -> tuple[KeptAnswer, dict[str, str]] | None:
        answer = self._answers.get(key)
        if answer is None:
            return None
        asking = [
            Deferred.fromCoroutine(self._ask(place, word)).addTimeout(seconds, self._clock)
            for place, word in answer.versions
        ]
        found = await DeferredList(asking, consumeErrors=True)
        marks: dict[str, str] = {}
        for succeeded, told in found:
            if not succeeded or told is None:
                self._forget(key, answer)
                return None
            marks.update(told)
        return answer, marks

    async def _ask(self, place: WorkerAddress, word: str) -> dict[str, str] | None:
        return await self._unchanged(place, word)

    def keep(
        self,
        key: bytes,
        names: tuple[str, ...],
        rows: Rows | None,
        versions: list[tuple[WorkerAddress, str]],
    ) -> None:
        """Keep an answer in the place of the one there was, unless it is too large.

        :param rows: None where they were too many to be collected
        """
        self._answers.pop(key)
        if rows is None:
            return
        packed = marshal.dumps(rows)
        size = len(packed) + _ANSWER
        if size > min(LARGEST, self._most) or not versions:
            return
        self._answers.put(key, KeptAnswer(names, packed, versions, size))

    def _forget(self, key: bytes, answer: KeptAnswer) -> None:
        if self._answers.get(key) is answer:
            self._answers.pop(key)


class Collecting:
    """Passes an answer on, and collects it while it is small.

    :ivar rows: all of them; None if they were too many to be kept
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._size = 0
        self.rows: Rows | None = []

    def __call__(
        self, names: tuple[str, ...], rows: Sequence[Sequence[Any]]
    ) -> Awaitable[None] | None:
        """Take some rows."""
        if self.rows is not None:
            self._size += size_of(rows)
            self.rows = [*self.rows, *rows] if self._size <= LARGEST else None
        return self._receive(names, rows)


async def give_again(
    answer: KeptAnswer, marks: dict[str, str], receive: Receive | None
) -> GatherResult:
    """The result that a kept answer is.

    :param marks: of stale segments, as they are now
    :param receive: as of :func:`trough.cluster_client.gather_driver.gather`
    """
    rows: Rows = marshal.loads(answer.rows)
    result = GatherResult(answer.names, stale=marks)
    if receive is None:
        result.rows = rows
        return result
    for start in range(0, max(len(rows), 1), _PORTION):
        waited_for = receive(answer.names, rows[start : start + _PORTION])
        if waited_for is not None:
            await waited_for
    return result
