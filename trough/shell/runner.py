"""Runs one query from the first event to the last line about it.

Events come from the cluster, and text goes to the output. The runner draws the progress. An
interrupt cancels the query on the workers, and the shell stays. The runner also handles a reader
who leaves the pager, and summarises failures by reason. It does not depend on the layout or the
origin of rows.
"""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from trough import errors
from trough.cli.progress import Progress, duration
from trough.errors import TroughError
from trough.shell.output.results import Results
from trough.shell.output.sinks import Sink
from trough.shell.row_count import RowCount
from trough.shell.session import (
    Columns,
    Done,
    Event,
    Failed,
    Marked,
    MoreRows,
    Progressed,
    Restarted,
    RunningQuery,
)
from trough.util.safe_text import cut, safe
from trough.util.wording import counted

#: Seconds between two updates of the progress while nothing comes.
TICK = 0.1

#: Seconds after which held rows are shown in any case.
PATIENCE = 1.0

#: Segments named for each reason of failure; SHOW FAILURES has them all.
NAMED = 3


@dataclass(slots=True)
class QueryOutcome:
    """The result of a query.

    :ivar segments: number that answered completely
    :ivar marks: of segments that did not answer with their present state
    :ivar interrupted: by Ctrl-C; ``left``: the reader closed the pager or the pipe
    """

    asked: int
    segments: int = 0
    empty: int = 0
    rows: int = 0
    seconds: float = 0.0
    failures: list[Failed] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    left: bool = False

    @property
    def whole(self) -> bool:
        """Whether the answer is complete."""
        return not (self.failures or self.interrupted)


class Runner:
    """Runs one query.

    :param results: how its rows become text
    :param sink: where the text goes
    :param terminal: for the progress line, or None
    :param count: counts the rows meanwhile, or None
    """

    def __init__(
        self,
        results: Results,
        sink: Sink,
        terminal: TextIO | None,
        asked: int,
        count: RowCount | None = None,
    ) -> None:
        self._count = count
        self._results = results
        self._sink = sink
        self._progress = Progress(terminal, asked)
        self._flushed_at = 0.0
        self._outcome = QueryOutcome(asked)
        self._given_up: set[str] = set()  # segments whose further events are ignored

    def run(self, query: RunningQuery) -> QueryOutcome:
        """Run the query to its end.

        :raises trough.errors.TroughError: it failed as a whole
        """
        outcome = self._outcome
        try:
            with query:
                for event in query.events(TICK):
                    self._see(event)
                self._write(self._results.end())
        except KeyboardInterrupt:
            outcome.interrupted = True
            self._end_early()
        except BrokenPipeError:
            outcome.left = True
        finally:
            if self._count is not None:
                self._count.close()
            self._progress.clear()
            outcome.seconds = self._progress.seconds
            outcome.empty = self._results.empty
            with contextlib.suppress(BrokenPipeError):
                self._sink.close()
        return outcome

    def _see(self, event: Event | None) -> None:
        if event is not None and event.segment not in self._given_up:
            self._write(self._handle(event))
        waited = self._progress.seconds
        if waited - self._flushed_at > PATIENCE:
            self._flushed_at = waited
            self._write(self._results.flush())
            self._show()
        if self._count is not None:
            self._progress.expected_rows = self._count.rows(waited)
        if not self._sink.owns_terminal:
            self._progress.draw()

    def _handle(self, event: Event) -> str:
        match event:
            case MoreRows(segment, rows, size):
                self._outcome.rows += len(rows)
                self._progress.rows = self._outcome.rows
                return self._results.rows(segment, rows, size)
            case Columns(segment, names):
                return self._begin(segment, names)
            case Done(segment):
                if segment:  # and not one answer over many
                    self._outcome.segments += 1
                    self._progress.done += 1
                return self._results.done(segment)
            case Progressed(done, failed, step):
                self._outcome.segments = done - failed
                self._progress.done, self._progress.failed = done, failed
                self._progress.step = step
            case Failed():
                return self._fail(event)
            case Marked(segment, mark):
                self._outcome.marks[segment] = mark
            case Restarted(segment):
                return self._restart(segment)
        return ""

    def _restart(self, segment: str) -> str:
        self._outcome.marks.pop(segment, None)
        forgotten = self._results.restarted(segment)
        if forgotten is None:
            lost = "the worker was lost after some rows had been shown"
            return self._give_up(segment, errors.Unavailable(lost, "ask again"))
        self._outcome.rows -= forgotten
        return ""

    def _begin(self, segment: str, names: Sequence[str]) -> str:
        try:
            self._results.columns(segment, names)
        except errors.BadRequest as error:
            return self._give_up(segment, error)
        return ""

    def _fail(self, failed: Failed) -> str:
        self._outcome.failures.append(failed)
        self._outcome.marks.pop(failed.segment, None)
        self._progress.done += 1
        self._progress.failed += 1
        return self._results.done(failed.segment, f"failed: {safe(failed.error.message)}")

    def _give_up(self, segment: str, error: TroughError) -> str:
        self._given_up.add(segment)
        return self._fail(Failed(segment, error))

    def _write(self, text: str) -> None:
        if text:
            self._make_way()
            self._sink.write(text)

    def _show(self) -> None:
        self._make_way()
        self._sink.show()

    def _make_way(self) -> None:
        if self._sink.on_terminal:
            self._progress.clear()

    def _end_early(self) -> None:
        with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
            if not self._sink.owns_terminal:
                self._progress.break_off()
            self._write(self._results.end())


# -- texts about the query ------------------------------------------------------


def summary(outcome: QueryOutcome, name: str, timing: bool) -> str:
    """``3 rows from 42 segments (12 ms)``, and what is missing.

    :param name: of the only segment asked, or ``""``
    """
    parts = [counted(outcome.rows, "row")]
    if outcome.asked > 1:
        parts[0] += f" from {counted(outcome.segments, 'segment')}"
        if outcome.empty:
            parts.append(f"{outcome.empty:,} of them without a row")
    elif name:
        parts[0] += f" from {name}"
    if outcome.interrupted:
        parts.insert(0, "cancelled")
    elif outcome.left:
        parts.insert(0, "stopped reading")
    text = ", ".join(parts)
    return f"{text} ({duration(outcome.seconds)})" if timing else text


def failure_lines(failures: Sequence[Failed], asked: int) -> list[str]:
    """The failures by reason, most frequent first; each with some of its segments."""
    if not failures:
        return []
    if asked == 1:
        failure = failures[0]
        return [f"{safe(failure.segment)}: {safe(str(failure.error))}".removeprefix(": ")]
    lines = [f"{len(failures):,} of {counted(asked, 'segment')} failed:"]
    for (code, reason), segments in by_reason(failures):
        named = ", ".join(map(safe, segments[:NAMED]))
        more = f" and {len(segments) - NAMED:,} more" if len(segments) > NAMED else ""
        lines.append(f"  {len(segments):,} x {code}: {cut(safe(reason), 300)}")
        lines.append(f"      {named}{more}")
    return lines


#: The meaning of marks, for a person.
_MARKS = {
    "last-promoted": "the last promoted state, as the worker that writes it is away",
    "unconfirmed": "a state that its worker cannot confirm, being cut off from the metadata store",
}


def mark_lines(marks: Mapping[str, str]) -> list[str]:
    """The segments that did not answer with their present state, a line for each mark."""
    lines = []
    for mark in sorted(set(marks.values())):
        segments = sorted(segment for segment, each in marks.items() if each == mark)
        named = ", ".join(map(safe, segments[:NAMED]))
        more = f" and {len(segments) - NAMED:,} more" if len(segments) > NAMED else ""
        told = _MARKS.get(mark, safe(mark))
        lines.append(f"stale: {counted(len(segments), 'segment')} answered {told}: {named}{more}")
    return lines


def by_reason(failures: Iterable[Failed]) -> list[tuple[tuple[str, str], list[str]]]:
    """Segments by code and sentence. Sentences that differ only in the name of their segment are
    one, and shown without the name if there are several segments."""
    reasons: defaultdict[tuple[str, str], list[Failed]] = defaultdict(list)
    for failure in failures:
        sentence = str(failure.error)
        if failure.segment and failure.segment in sentence:
            sentence = _WORD.sub(_segment_hider(failure.segment), sentence)
        reasons[failure.error.code, sentence].append(failure)
    pairs = []
    for (code, sentence), alike in reasons.items():
        told = sentence if len(alike) > 1 else str(alike[0].error)
        pairs.append(((code, told), sorted(failure.segment for failure in alike)))
    return sorted(pairs, key=lambda pair: (-len(pair[1]), pair[0]))


# A word in a sentence that could be the id of a segment.
_WORD = re.compile(r"[A-Za-z0-9_\-~@=][A-Za-z0-9_\-.~@=]*(?<!\.)")


def _segment_hider(segment: str) -> Callable[[re.Match[str]], str]:
    return lambda match: "<segment>" if match[0] == segment else match[0]
