"""GATHER in the shell: asks what a gathering wants asked, and passes its answer on.

`trough/gather/` decides whom to ask what and merges what comes back; it does no I/O, and
runs here, on the thread that waits for the answer, so that merging holds up no connection.
What it does with everything at the end may take long, and has a thread of its own, so that
there is somebody to show that it goes on, and to cancel it. To the shell the answer is a
query like any other, of one segment without a name.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from trough.errors import Cancelled, TroughError
from trough.gather import GatherSession, SegmentRequest
from trough.shell.session import (
    Columns,
    Done,
    Event,
    Failed,
    Marked,
    Progressed,
    Remote,
    Rows,
    rows_of,
)

#: Rows of the answer that are passed on at a time.
_PAGE = 500


class GatherQuery:
    """See :class:`trough.shell.session.Query`.

    :param remote: where segments are asked
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
        self._gathering = GatherSession(
            sql, segments, values, partial=partial, within=within, now=time.time()
        )
        self._thread = ThreadPoolExecutor(1, "trough-gather")
        self._begun = False
        self._count = 0

    def __enter__(self) -> GatherQuery:
        return self

    def __exit__(self, *_: object) -> None:
        self._gathering.stop(Cancelled("cancelled"))
        self._thread.shutdown()
        self._gathering.close()

    def events(self, tick: float) -> Iterator[Event | None]:
        gathering = self._gathering
        try:
            yield from self._answer(tick)
        except TroughError:
            if not gathering.too_few:
                raise  # else the reasons follow, segment by segment
        yield Progressed(len(gathering.segments), len(gathering.missing))
        if self._begun:
            yield Done("", self._count)
        for segment, error in gathering.missing.items():
            yield Failed(segment, error)

    def _answer(self, tick: float) -> Iterator[Event | None]:
        gathering = self._gathering
        while requests := gathering.next_requests():
            for request in requests:
                yield from self._asked(request, tick)
        yield Progressed(len(gathering.segments), len(gathering.missing), "putting it together")
        rows = gathering.result()
        page = yield from self._page(rows, tick)
        yield from self._passed(page)  # the columns, though there may be no rows
        while page:
            page = yield from self._page(rows, tick)
            yield from self._passed(page)

    def _page(
        self, rows: Iterator[Sequence[Any]], tick: float
    ) -> Generator[None, None, list[Sequence[Any]]]:
        """Some rows of the final step; None whenever there are none for `tick` seconds."""
        page = self._thread.submit(lambda: list(itertools.islice(rows, _PAGE)))
        while not wait([page], tick).done:
            yield None
        return page.result()

    def explanation(self, tick: float) -> str:
        """What goes to the workers, and what is done with it.

        Asks as much as is needed to know the tables.
        """
        gathering = self._gathering
        while gathering.plan is None and (requests := gathering.next_requests()):
            for request in requests:
                for _ in self._asked(request, tick):
                    pass
        return "\n".join(gathering.plan.explain()) if gathering.plan else ""

    def _asked(self, request: SegmentRequest, tick: float) -> Iterator[Event | None]:
        """Ask one request, until it is done or nothing more is wanted."""
        gathering = self._gathering
        done: set[str] = set()
        with self._remote.query(request.segments, request.sql, request.parameters, False) as query:
            for event in query.events(tick):
                if event is None:
                    yield None
                    continue
                if isinstance(event, Marked):
                    # Not of this answer's only segment, which has no name, but of its own.
                    yield event
                    continue
                if self._tell(event):
                    done.add(event.segment)
                    yield Progressed(len(done), len(gathering.missing))
                rows = gathering.take()
                if rows:
                    yield from self._passed(rows)
                if gathering.satisfied:
                    return

    def _tell(self, event: Event) -> bool:
        """Hand an event on; whether it was a segment's last."""
        gathering = self._gathering
        match event:
            case Columns(segment, names):
                gathering.columns(segment, names)
            case Rows(segment, rows):
                gathering.rows(segment, [list(row) for row in rows])
            case Done(segment, count):
                gathering.done(segment, count)
            case Failed(segment, error):
                gathering.failed(segment, error)
        return isinstance(event, Done | Failed)

    def _passed(self, rows: Sequence[Sequence[Any]]) -> Iterator[Event]:
        if not self._begun:
            self._begun = True
            yield Columns("", self._gathering.names)
        if rows:
            self._count += len(rows)
            yield rows_of("", rows)
