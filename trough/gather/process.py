"""A process that answers GATHERs, one at a time: it plans, merges, and runs the final step.

All of that runs SQL of users, and rows of segments fill its memory. So the process has a memory
limit, and its parent kills it at the deadline. Some functions of SQLite, and regular expressions,
can be stopped in no other way. The process does I/O only with its parent and a temporary file; the
parent asks the segments. It keeps the guarantees of :class:`trough.gather.session.GatherSession`.

The parent is :mod:`trough.cluster_client.gather_process`, which uses a fork server
(:mod:`trough.gather.fork_server`), or :mod:`trough.gather.blocking`, which starts it directly.
"""

from __future__ import annotations

import gc
import resource
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from trough import errors
from trough.executors.child.parent_socket import TupleSocket
from trough.executors.child.process_limits import die_with_the_parent, ignore_signals, limit_data
from trough.executors.ipc import Message
from trough.gather import messages
from trough.gather.limits import Limits, check_answer_row, size_of
from trough.gather.row_stream import Batch
from trough.gather.session import GatherSession
from trough.sql import sqlite
from trough.sql.json_rows import JsonRows

#: Bytes of Python's own that the process may have beside SQLite's: rows that wait for the end of
#: their segment, and of a plan.
PYTHON_MEMORY = 256 << 20

#: Rows, and bytes of values, that are sent at once.
ROWS, BYTES = 1000, 1 << 18


class ProcessSession:
    """One GATHER, and nothing between two.

    :param channel: to the parent
    """

    def __init__(self, channel: TupleSocket) -> None:
        self._channel = channel
        self._gathering: GatherSession | None = None
        self._problem: errors.TroughError | None = None
        self._result: Iterator[Sequence[Any]] | None = None
        #: Segments that sent what cannot be forgotten, and then began again.
        self._lost: set[str] = set()
        self._satisfied = False
        self._events = {
            messages.ROWS: self._rows,
            messages.DONE: self._done,
            messages.FAILED: self._failed,
            messages.RESTARTED: self._restarted,
            messages.MERGED: self._merged,
        }
        self._questions = {
            messages.NEXT: self._next,
            messages.MORE: self._more,
            messages.EXPLAIN: self._explain,
        }

    def run(self) -> None:
        """Serve until the parent is gone."""
        while True:
            for message in self._messages():
                self._receive(message[0], message[1:])
            self._report()
            try:
                self._channel.flush()
            except MemoryError:
                self._release()
                self._channel.flush()

    def _messages(self) -> Sequence[Message]:
        try:
            return self._channel.wait(None)
        except MemoryError:  # for the frame that has arrived, which stays in the parser
            self._release()
            return self._channel.parse_again()

    def _release(self) -> None:
        """Drop everything: there is no memory for an answer."""
        self._problem = self._problem or _too_much()
        if self._gathering is not None:
            self._gathering.close()
        self._gathering = self._result = None
        gc.collect()

    def _send(self, message: Message, size: int = 0) -> None:
        try:
            self._channel.send(message, size)
        except MemoryError:  # it is sent later
            self._release()

    def _receive(self, kind: int, arguments: Message) -> None:
        if kind == messages.BEGIN:
            self._begin(*arguments)
        elif kind == messages.CLOSE:
            self._close()
        elif kind == messages.MARK:
            self._report()
            self._send((messages.TAKEN, *arguments))
        elif kind in self._events:
            self._guard(self._events[kind], *arguments)
        else:
            # What segments sent before comes first.
            self._report()
            answer = self._guard(self._ask, kind)
            if answer is None:
                assert self._problem is not None
                answer = self._refusal(self._problem)
            self._send(answer)

    def _guard(self, function: Any, *arguments: Any) -> Any:
        """Call a function, unless there is no answer any more; keep why there is none."""
        if self._problem is not None:
            return None
        try:
            return function(*arguments)
        except errors.TroughError as error:
            self._problem = error
        except MemoryError:
            self._release()
        except RecursionError:
            self._problem = errors.BadSql("it is nested too deeply for GATHER")
        except Exception as error:  # ours; the caller must get an answer
            traceback.print_exc()
            self._problem = errors.TroughError(f"GATHER failed: {type(error).__name__}: {error}")
        return None

    # -- life ----------------------------------------------------------------------------

    def _begin(self, *arguments: Any) -> None:
        self._guard(self._open, *arguments)

    def _open(
        self,
        sql: str,
        segments: tuple[str, ...],
        parameters: Any,
        partial: bool,
        within: bool,
        now: float | None,
        limits: tuple[int, int, int] | None,
    ) -> None:
        self._gathering = GatherSession(
            sql,
            segments,
            parameters,
            partial=partial,
            within=within,
            now=now,
            limits=None if limits is None else Limits(*limits),
        )

    def _close(self) -> None:
        if self._gathering is not None:
            self._gathering.close()
        self._gathering = self._problem = self._result = None
        self._lost.clear()
        self._satisfied = False
        gc.collect()
        self._channel.send((messages.CLOSED,))

    @property
    def _session(self) -> GatherSession:
        assert self._gathering is not None
        return self._gathering

    # -- what segments send --------------------------------------------------------------

    def _rows(self, segment: str, rows: list[list[Any]] | bytes) -> None:
        if segment not in self._lost:
            self._session.rows(segment, rows)

    def _done(self, segment: str, count: int) -> None:
        if segment not in self._lost:
            self._session.done(segment, count)

    def _merged(self, segments: list[str], rows: list[list[Any]] | bytes) -> None:
        self._session.merged(segments, rows)

    def _failed(self, segment: str, code: str, message: str, hint: str) -> None:
        if segment not in self._lost:
            ((_, error),) = messages.failures_of([(segment, code, message, hint)]).items()
            self._session.failed(segment, error)

    def _restarted(self, segment: str) -> None:
        if segment not in self._lost and not self._session.restarted(segment):
            self._lost.add(segment)
            self._session.failed(
                segment,
                errors.Unavailable("its worker was lost after rows of it were passed on"),
            )

    def _report(self) -> None:
        """Pass on rows that are ready, and report when queries are not needed any more."""
        gathering = self._gathering
        if gathering is not None and self._problem is None and gathering.streams:
            for batch in self._guard(gathering.take) or ():
                self._pass_on(batch)
        unneeded = self._problem is not None or (gathering is not None and gathering.satisfied)
        if unneeded and not self._satisfied:
            self._satisfied = True
            self._send((messages.SATISFIED,))

    def _pass_on(self, batch: Batch) -> None:
        rows = batch.text if isinstance(batch, JsonRows) else batch
        self._send((messages.PASSED, rows, len(batch)), size_of(batch))

    # -- questions -----------------------------------------------------------------------

    def _ask(self, kind: int) -> Message:
        return self._questions[kind]()

    def _next(self) -> Message:
        self._lost.clear()
        asked = self._session.next_requests()
        requests = [
            (
                each.segments,
                each.sql,
                as_plain(each.parameters),
                [tuple(one) for one in each.tests],
                each.merge,
            )
            for each in asked
        ]
        session = self._session
        return messages.REQUESTS, requests, tuple(session.names), session.repeatable

    def _more(self) -> Message:
        if self._result is None:
            self._result = self._session.result()
        rows: list[Sequence[Any]] = []
        size = 0
        for row in self._result:
            rows.append(row)
            size += check_answer_row(row)
            if len(rows) >= ROWS or size >= BYTES:
                return messages.RESULT, rows, None
        return messages.RESULT, rows, messages.missing_of(self._session.missing)

    def _explain(self) -> Message:
        plan = self._session.plan
        return messages.PLAN, None if plan is None else "\n".join(plan.explain())

    def _refusal(self, error: errors.TroughError) -> Message:
        gathering = self._gathering
        if gathering is None:
            return messages.refusal(error, False, {})
        return messages.refusal(error, gathering.too_few, gathering.missing)


def _too_much() -> errors.LimitExceeded:
    return errors.LimitExceeded(
        "it needs more memory than GATHER may have", "ask for less at once, or shorter values"
    )


def as_plain(parameters: Any) -> Any:
    """Parameters in a form that can be sent."""
    return dict(parameters) if parameters is not None else None


def prepare(memory: int) -> None:
    """Set the limits of this process, and of those that it makes.

    :param memory: bytes that SQLite may use
    """
    limit_data(memory + PYTHON_MEMORY)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sqlite.limit_memory(memory)
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def main(arguments: list[str]) -> None:
    """Serve one parent.

    :param arguments: descriptor of the socket, and bytes that SQLite may use
    """
    descriptor, memory = map(int, arguments)
    ignore_signals()
    die_with_the_parent()
    prepare(memory)
    ProcessSession(TupleSocket(socket.socket(fileno=descriptor))).run()


if __name__ == "__main__":
    main(sys.argv[1:])
