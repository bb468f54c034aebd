"""GATHER in the shell: sends a gathering's requests to the workers, and passes its answer on.

Planning, merging and the final step run in a process (:mod:`trough.gather.blocking`), so Ctrl-C
ends them at any point. The shell handles the answer like any other query, of one segment without
a name.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

from trough import errors
from trough.gather import messages
from trough.gather.blocking import BlockingGathering
from trough.gather.explaining import Round, Taken, plan_lines
from trough.shell.session import (
    Columns,
    Done,
    Event,
    Failed,
    Marked,
    MoreRows,
    Progressed,
    Remote,
    rows_of,
)


class GatherQuery:
    """See :class:`trough.shell.session.RunningQuery`.

    :param remote: queries the segments
    :param values: for the parameters of `sql`
    """

    def __init__(
        self,
        remote: Remote,
        segments: Sequence[str],
        sql: str,
        values: Sequence[Any] | None = None,
        *,
        partial: bool,
        within: bool,
    ) -> None:
        self._remote = remote
        self._gathering = BlockingGathering(
            sql, segments, values, partial=partial, within=within, now=time.time()
        )
        self._segments = len(segments)
        self._failed = 0
        self._begun = False
        self._count = 0
        self._rounds: list[Round] = []
        self._asked_at = 0.0
        self._stale: dict[str, str] = {}

    def __enter__(self) -> GatherQuery:
        return self

    def __exit__(self, *_: object) -> None:
        self._gathering.close()

    def events(self, tick: float) -> Iterator[Event | None]:
        gathering = self._gathering
        try:
            yield from self._answer(tick)
        except errors.TroughError:
            if not gathering.too_few:
                raise  # otherwise the reasons follow, segment by segment
        yield Progressed(self._segments, len(gathering.missing))
        if self._begun:
            yield Done("", self._count)
        for segment, error in gathering.missing.items():
            yield Failed(segment, error)

    def _answer(self, tick: float) -> Iterator[Event | None]:
        gathering = self._gathering
        while requests := (yield from gathering.next_requests(tick)):
            yield from self._passed(gathering.take())
            asked = Round(sum(len(each[0]) for each in requests), len(requests))
            self._rounds.append(asked)
            began = time.monotonic()
            for request in requests:
                yield from self._asked(request, tick)
            asked.seconds = time.monotonic() - began
        self._asked_at = time.monotonic()
        yield from self._passed(gathering.take())
        yield Progressed(self._segments, self._failed, "putting it together")
        over = False
        while not over:
            rows, over = yield from gathering.more(tick)
            yield from self._passed(rows)
        yield from self._begin()  # the columns, though there may be no rows

    def explanation(self, tick: float, analyze: bool = False) -> str:
        """The SQL that goes to the workers, and what happens to its result.

        It asks the workers only for what is needed to know the tables.

        :param analyze: answer the query, drop its rows, and report counts and times
        """
        explaining = self._analysis(tick) if analyze else self._explanation(tick)
        while True:
            try:
                next(explaining)
            except StopIteration as end:
                text: str = end.value
                return text

    def _explanation(self, tick: float) -> Generator[Event | None, None, str]:
        gathering = self._gathering
        while requests := (yield from gathering.next_requests(tick)):
            text = yield from gathering.explanation(tick)
            if text is not None:
                return self._explained(text)
            for request in requests:
                yield from self._asked(request, tick)
        return self._explained((yield from gathering.explanation(tick)) or "")

    def _explained(self, plan: str) -> str:
        return "\n".join(plan_lines(plan, self._gathering.repeatable, self._segments))

    def _analysis(self, tick: float) -> Generator[Event | None, None, str]:
        began = time.monotonic()
        answering = self._answer(tick)
        yield from answering
        ended = time.monotonic()
        text = (yield from self._gathering.explanation(tick)) or ""
        taken = Taken(
            self._rounds,
            self._asked_at - began,
            ended - self._asked_at,
            self._count,
            {segment: str(error) for segment, error in self._gathering.missing.items()},
            self._stale,
            False,
        )
        return "\n".join([self._explained(text), *taken.lines()])

    def _asked(self, request: tuple[Any, ...], tick: float) -> Iterator[Event | None]:
        """Run one request, until it is done or no more rows are needed."""
        gathering = self._gathering
        segments, sql, parameters, *_ = request
        done = self._failed = 0
        with self._remote.query(segments, sql, parameters, False) as query:
            for event in query.events(tick):
                if isinstance(event, MoreRows) and self._rounds:
                    self._rounds[-1].rows += len(event.rows)
                if isinstance(event, Marked):
                    self._stale[event.segment] = event.mark
                    # It names its own segment, not this answer's only segment, which has no name.
                    yield event
                    continue
                message = _message(event) if event is not None else None
                if message is None:
                    yield None
                    continue
                yield from gathering.send(message, tick)
                if isinstance(event, Done | Failed):
                    done += 1
                    self._failed += isinstance(event, Failed)
                    yield Progressed(done, self._failed)
                yield from self._passed(gathering.take())
                if gathering.satisfied:
                    return
            if self._rounds:
                self._rounds[-1].kept += getattr(query, "kept", 0)

    def _begin(self) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            yield Columns("", self._gathering.names)

    def _passed(self, rows: Sequence[Sequence[Any]]) -> Iterator[Event]:
        if rows:
            yield from self._begin()
            self._count += len(rows)
            yield rows_of("", rows)


def _message(event: Event) -> tuple[Any, ...] | None:
    """The message to the process for an event; None if there is none."""
    match event:
        case MoreRows(segment, rows):
            return messages.ROWS, segment, [list(row) for row in rows]
        case Done(segment, count):
            return messages.DONE, segment, count
        case Failed(segment, error):
            return messages.FAILED, segment, error.code, error.message, error.hint
    return None
