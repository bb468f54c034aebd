"""Bringing segments' answers together, exactly, in bounded memory.

A :class:`Merger` takes rows of any number of segments, in any order and interleaved. A
segment that fails, or has to be asked again, leaves nothing behind of what it had sent.
Rows of a plain query are passed on at once, or, where segments may be missing, once their
segment is done; all others go into a scratch database, in a temporary file, over which the
final text runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from trough import errors
from trough.gather.gather_plan import GatherPlan
from trough.gather.limits import Limits
from trough.gather.pushdown import Pushdown
from trough.gather.row_stream import Batch, GatherRowStream, decoded
from trough.gather.segment_sql import SegmentQuery
from trough.gather.temp_database import TempDatabase
from trough.sql.json_rows import rows_of_json

#: Rows of unfinished segments that are kept beside the scratch database.
_KEPT = 20_000


@dataclass(slots=True)
class _Attempt:
    """One segment's answer to one question, as far as it has come.

    :ivar begun: rows have come
    :ivar kept: rows that wait for the segment's end
    :ivar batches: the same of a plain query, whose rows are passed on as they came
    :ivar passed: rows of a plain query were passed on, and cannot be taken back
    :ivar runs: for each landing the rows that are this attempt's, as ``[first, after]``
    :ivar schema: what it answered instead of rows; `inexact`, that it has to be asked for
        the exact form; either way its rows do not count
    """

    ask: SegmentQuery
    begun: bool = False
    kept: list[Sequence[Any]] | None = None
    batches: list[Batch] = field(default_factory=list)
    passed: bool = False
    runs: dict[int, list[list[int]]] | None = None
    schema: str | None = None
    inexact: bool = False


class Merger:
    """See the module.

    :param plan: whose segments' answers these are
    :param limits: of what is kept
    :param partial: the answer may leave out segments that fail
    :ivar failures: segments that failed, and why
    :ivar streams: rows are passed on as they come
    :ivar spoilt: a segment failed of which rows were passed on: there is no answer
    """

    def __init__(
        self, plan: GatherPlan, limits: Limits | None = None, partial: bool = False
    ) -> None:
        self.plan = plan
        self.limits = limits or Limits()
        self.failures: dict[str, errors.TroughError] = {}
        self.spoilt = False
        self._partial = partial
        self._attempts: dict[str, _Attempt] = {}
        self._exact = plan.starts_exact
        self.streams = plan.kind == "plain"
        self._stream = GatherRowStream(plan) if self.streams and plan.pushed is not None else None
        self._kept = 0
        self._layouts: dict[bool, _Layout] = {}
        # Places of sums that are exact only as integers.
        self._checked = _Layout(plan, False).checked
        self._scratch: TempDatabase | None = None
        self._stopped: errors.TroughError | None = None

    # -- what arrives --------------------------------------------------------------------

    def asked(self, segment: str, ask: SegmentQuery) -> None:
        """A segment is about to be asked; all that it sent before is forgotten."""
        if segment in self._attempts:
            self._forget(segment)
        self.failures.pop(segment, None)
        self._attempts[segment] = _Attempt(ask)

    def excused(self, segment: str) -> None:
        """A segment turns out to contribute nothing."""
        self._forget(segment)
        self.failures.pop(segment, None)

    def restarted(self, segment: str) -> bool:
        """A segment would send all of its rows again, from the first.

        :return: whether those that it sent are forgotten
        """
        attempt = self._attempts.get(segment)
        if attempt is None or attempt.passed:
            return False
        self.asked(segment, attempt.ask)
        return True

    def rows(self, segment: str, rows: list[Any] | bytes) -> None:
        """Rows of a segment's answer, each a list, which is changed; or JSON of them.

        :raises trough.errors.LimitExceeded: there are more than may be kept
        :raises trough.errors.ProtocolError: they are not the rows that were asked for
        """
        attempt = self._attempts.get(segment)
        if attempt is None or not rows:
            return
        if isinstance(rows, bytes):
            if self._stream is not None and attempt.schema is None:
                batch = self._stream.of_json(segment, rows, attempt.begun)
                if batch is not None:
                    attempt.begun = True
                    self._keep(attempt, batch)
                    return
            values: list[Any] = decoded(rows_of_json, segment, rows)
        else:
            values = rows
        if values and self._counts(segment, attempt, values):
            self._take_in(segment, attempt, values)

    def _take_in(self, segment: str, attempt: _Attempt, rows: list[Any]) -> None:
        if self._stream is not None:
            self._keep(attempt, self._stream.of_values(segment, rows))
        elif attempt.begun or self._kept > _KEPT:
            self._land(segment, attempt, rows)
        else:
            # Most answers are one batch, and land at their end.
            attempt.kept = rows
            self._kept += len(rows)
        attempt.begun = True

    def _counts(self, segment: str, attempt: _Attempt, rows: list[Any]) -> bool:
        """Take the schema's column off; whether what is left are rows of the answer."""
        if not attempt.begun and len(rows[0]) != attempt.ask.width + 1:
            raise errors.ProtocolError(
                f"segment {segment} answers {len(rows[0])} columns and not {attempt.ask.width + 1}"
            )
        for row in rows:
            schema = row.pop()
            if schema:
                attempt.schema = schema
        if attempt.schema is None and not attempt.ask.exact and self._has_real_sums(rows):
            attempt.inexact = True
        return attempt.schema is None and not attempt.inexact

    def _has_real_sums(self, rows: list[Any]) -> bool:
        """Whether a sum that is exact only as an integer is none."""
        return any(
            type(row[place]) is float and number in (None, row[0])
            for number, place in self._checked
            for row in rows
        )

    def segment_done(self, segment: str) -> None:
        """A segment has sent all of its rows."""
        attempt = self._attempts.get(segment)
        if attempt is None:
            return
        if attempt.schema is not None or attempt.inexact:
            self._discard(attempt)
            return
        del self._attempts[segment]
        if attempt.ask.exact:
            self._exact = True
        if self.streams:
            self._release(attempt)
        elif kept := self._released(attempt):
            exact = attempt.ask.exact
            if self._layout(exact).fits(kept):
                self._opened().insert(0, exact, kept)
            else:
                self._insert(segment, exact, kept)

    def merged(self, segments: Sequence[str], rows: list[Any] | bytes) -> None:
        """Rows of several segments, all that these have. They have sent nothing before.

        :raises trough.errors.LimitExceeded: there are more than may be kept
        """
        attempts = [self._attempts.pop(segment, None) for segment in segments]
        asks = {each.ask.sql: each.ask for each in attempts if each is not None}
        if len(asks) != 1 or any(each is None or each.begun for each in attempts):
            raise errors.ProtocolError("segments answered together that were asked apart")
        ((_, ask),) = asks.items()
        values: list[Any] = (
            decoded(rows_of_json, segments[0], rows) if isinstance(rows, bytes) else rows
        )
        if any(len(row) != ask.width + 1 or row.pop() for row in values):
            raise errors.ProtocolError("segments answered together with other columns")
        if ask.exact:
            self._exact = True
        elif self._has_real_sums(values):
            for segment in segments:
                self._attempts[segment] = _Attempt(ask, inexact=True)
            return
        if values:
            self._insert("", ask.exact, values)

    def segment_failed(self, segment: str, error: errors.TroughError) -> None:
        """A segment will not send the rest of its rows."""
        attempt = self._attempts.get(segment)
        self.spoilt |= attempt is not None and attempt.passed
        self._forget(segment)
        self.failures[segment] = error

    def schemas(self) -> dict[str, str]:
        """Segments that answered with their schema instead of rows, and these."""
        return {
            segment: attempt.schema
            for segment, attempt in self._attempts.items()
            if attempt.schema is not None
        }

    def inexact(self) -> list[str]:
        """Segments that have to be asked for the exact form."""
        return [segment for segment, attempt in self._attempts.items() if attempt.inexact]

    # -- what comes out ------------------------------------------------------------------

    def take(self) -> list[Batch]:
        """Rows of a plain query that may be passed on now."""
        return [] if self._stream is None else self._stream.take()

    @property
    def passed(self) -> int:
        """How many rows were taken by :meth:`take`."""
        return 0 if self._stream is None else self._stream.taken

    @property
    def satisfied(self) -> bool:
        """Whether no further row can change the answer."""
        pushed = self.plan.pushed
        if pushed is not None and pushed.limit == 0:
            return True
        return self._stream is not None and self._stream.is_whole

    def result(self) -> Iterator[Sequence[Any]]:
        """The answer's rows, or for a plain query those that :meth:`take` did not take.

        :raises trough.errors.TroughError: the final text failed
        """
        if self.streams:
            for batch in self.take():
                yield from batch
            return
        yield from self._opened().result(self._exact)

    def stop(self, error: errors.TroughError) -> None:
        """End the final text with this error; may be called on any thread."""
        self._stopped = error

    def close(self) -> None:
        """Release everything. Idempotent."""
        if self._scratch is not None:
            self._scratch.close()
            self._scratch = None

    # -- keeping -------------------------------------------------------------------------

    def _keep(self, attempt: _Attempt, batch: Batch) -> None:
        attempt.batches.append(batch)
        self._kept += len(batch)
        # Where no segment may be missing nothing is ever taken back; and of one that is
        # too large to be kept nothing can be.
        if attempt.passed or not self._partial or self._kept > self.limits.kept_rows:
            attempt.passed = True
            self._release(attempt)

    def _release(self, attempt: _Attempt) -> None:
        """Pass on what was kept of a plain query."""
        batches, attempt.batches = attempt.batches, []
        self._kept -= sum(map(len, batches))
        assert self._stream is not None
        self._stream.add(batches)

    def _released(self, attempt: _Attempt) -> list[Sequence[Any]]:
        kept, attempt.kept = attempt.kept or [], None
        self._kept -= len(kept)
        return kept

    def _land(self, segment: str, attempt: _Attempt, rows: list[Sequence[Any]]) -> None:
        if attempt.runs is None:
            attempt.runs = {}
        rows = self._released(attempt) + rows
        for target, first, after in self._insert(segment, attempt.ask.exact, rows):
            runs = attempt.runs.setdefault(target, [])
            if runs and runs[-1][1] == first:
                runs[-1][1] = after
            else:
                runs.append([first, after])

    def _insert(
        self, segment: str, exact: bool, rows: list[Sequence[Any]]
    ) -> list[tuple[int, int, int]]:
        """Put rows into the scratch database; for each landing the first and the one after."""
        scratch = self._opened()
        runs = []
        for target, landed in self._layout(exact).landed(segment, rows):
            first = scratch.insert(target, exact, landed)
            runs.append((target, first, first + len(landed)))
        return runs

    def _forget(self, segment: str) -> None:
        attempt = self._attempts.pop(segment, None)
        if attempt is not None:
            self._discard(attempt)

    def _discard(self, attempt: _Attempt) -> None:
        self._released(attempt)
        self._kept -= sum(map(len, attempt.batches))
        attempt.batches = []
        for target, runs in (attempt.runs or {}).items():
            self._opened().discard(target, runs)
        attempt.runs = None

    def _opened(self) -> TempDatabase:
        if self._scratch is None:
            self._scratch = TempDatabase(self.plan, self.limits, lambda: self._stopped)
        return self._scratch

    def _layout(self, exact: bool) -> _Layout:
        layout = self._layouts.get(exact)
        if layout is None:
            layout = self._layouts[exact] = _Layout(self.plan, exact)
        return layout


class _Layout:
    """How a segment's rows lie: which landing, and where its columns are.

    :ivar checked: places of sums that are exact only as integers, each behind the landing's
        number in rows that begin with that; else behind None
    """

    def __init__(self, plan: GatherPlan, exact: bool) -> None:
        self._landings = plan.landings
        self._tagged = len(self._landings) > 1
        self.checked: list[tuple[int | None, int]] = []
        self._width = 0
        if plan.pushed is not None:
            names = [each.name for each in plan.pushed.asked(exact)]
            self._width = len(names)
            self._check(None, names, plan.pushed)
        for number, part in enumerate(plan.parts, len(plan.shipped)):
            self._check(number if self._tagged else None, self._landings[number].columns, part)
        self._alike = len(self._landings) == 1 and not self._landings[0].segment

    def _check(self, number: int | None, names: Sequence[str], pushed: Pushdown) -> None:
        first = 0 if number is None else 1
        self.checked += [
            (number, first + names.index(each)) for each in pushed.checked if each in names
        ]

    def fits(self, rows: list[Sequence[Any]]) -> bool:
        """Whether rows are right for the only landing as they are, as most are."""
        return self._alike and len(rows[0]) == self._width

    def landed(
        self, segment: str, rows: list[Sequence[Any]]
    ) -> list[tuple[int, list[Sequence[Any]]]]:
        """For each landing its number and its rows."""
        if not self._tagged:
            return [(0, self._cut(segment, 0, rows, 0))]
        tagged: dict[int, list[Sequence[Any]]] = {}
        for row in rows:
            tagged.setdefault(row[0], []).append(row)
        return [(number, self._cut(segment, number, mine, 1)) for number, mine in tagged.items()]

    def _cut(
        self, segment: str, number: int, rows: list[Sequence[Any]], first: int
    ) -> list[Sequence[Any]]:
        landing = self._landings[number]
        width = self._width or len(landing.columns)
        if not width and not landing.segment:
            return [[] for _ in rows]
        if landing.segment:
            return [[*row[first : first + width], segment] for row in rows]
        if not first and len(rows[0]) == width:
            return rows
        return [row[first : first + width] for row in rows]
