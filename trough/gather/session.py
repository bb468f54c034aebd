"""One GATHER from beginning to end, without any I/O: the requests, and when it is done.

The caller sends the requests of :meth:`GatherSession.next_requests`, reports the answers, and
repeats this until there are no requests. One segment sends its schema; then all are asked at once.
Segments that turn out to be of another shape, or whose sums were not of integers, are asked a
second time. The Twisted client and the shell drive the same object.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trough import errors
from trough.gather import sqlite_helpers
from trough.gather.errors import failure
from trough.gather.gather_plan import GatherPlan
from trough.gather.limits import Limits
from trough.gather.merger import Merger
from trough.gather.planner import plan
from trough.gather.row_stream import Batch, decoded
from trough.gather.schema import SCHEMA_VALUE, read_schema, unite
from trough.gather.segment_sql import SegmentQuery, guard_only
from trough.gather.union_database import SEGMENT
from trough.sql.column_filters import FilterTest
from trough.sql.json_rows import rows_of_json
from trough.sql.statements import quoted

#: How many segments are asked for a schema, one round after the other, until one sends it.
_PROBES = (1, 16, 1024)
#: A segment whose tables change between two questions is asked this often.
_MOST_ATTEMPTS = 4


@dataclass(frozen=True, slots=True)
class SegmentRequest:
    """One query for a number of segments.

    :ivar parameters: by name, or None
    :ivar tests: a segment that fails one of these adds no rows, and need not be opened
    :ivar merge: rules by which rows of several segments may become one; or empty
    """

    segments: tuple[str, ...]
    sql: str
    parameters: Mapping[str, Any] | None = None
    tests: tuple[FilterTest, ...] = ()
    merge: str = ""


class GatherSession:
    """See the module.

    :param sql: a SELECT, with or without parameters
    :param segments: ids of the segments that are gathered
    :param partial: answer from the rest when segments fail; they are in :attr:`missing`
    :param within: see :func:`trough.gather.planner.plan`
    :param now: seconds since the epoch; what ``'now'`` means in the text
    :raises trough.errors.BadRequest: there are no segments

    :ivar plan: how it is answered, once a schema is known
    :ivar too_few: there is no answer, because of those
    """

    def __init__(
        self,
        sql: str,
        segments: Iterable[str],
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        *,
        partial: bool = False,
        within: bool = False,
        now: float | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.sql = sql
        self.segments = tuple(dict.fromkeys(segments))
        if not self.segments:
            raise errors.BadRequest("there are no segments to gather from")
        self.plan: GatherPlan | None = None
        self.too_few = False
        self._parameters = parameters
        self._partial = partial
        self._within = within
        self._now = now
        self._limits = limits
        self._merger: Merger | None = None
        self._broken: errors.TroughError | None = None
        # Texts of the schemas met, and which segments are known to have which. A segment
        # that is not known is asked as if it had the first.
        self._schemas: list[str] = []
        self._shapes: dict[str, str] = {}
        # The round under way: which segments have not ended, and whether it asks for schemas.
        # Then, which segments have sent none, and the one that they would not send.
        self._unfinished: set[str] = set()
        self._asks_schemas = False
        self._silent: set[str] = set()
        self._left_out: str | None = None
        # Segments that failed to send their schema, and have not been asked since.
        self._unread: dict[str, errors.TroughError] = {}
        self._doubted: set[str] = set()
        # Whether parts of the query may be answered by themselves.
        self._parts = True
        self._finished = False
        self._attempts: dict[str, int] = {}
        self._asked_exactly: set[str] = set()
        self._steps = self._run()

    # -- what the caller does --------------------------------------------------------------

    def next_requests(self) -> list[SegmentRequest]:
        """What to ask now, all of it at once; empty when there is nothing more to ask.

        Everything that was asked before is over: done, failed, or cancelled by the caller
        because of :attr:`satisfied`.

        :raises trough.errors.TroughError: it cannot be answered
        """
        self._check()
        if not self.satisfied:
            self._fail_unfinished()
        while not self.satisfied:
            requests = next(self._steps, None)
            self._check()
            if requests is None:
                self._finished = True
                return []
            # A round in which no segment has to be asked is not the end.
            if requests:
                self._unfinished = {each for request in requests for each in request.segments}
                return requests
        return []

    @property
    def missing(self) -> Mapping[str, errors.TroughError]:
        """Segments that have failed so far, and why."""
        failures = self._merger.failures if self._merger is not None else {}
        return {**self._unread, **failures} if self._unread else failures

    def columns(self, segment: str, names: Sequence[str]) -> None:
        """A segment's answer begins."""

    def rows(self, segment: str, rows: list[list[Any]] | bytes) -> None:
        """Rows of a segment's answer, or JSON of them. The list is not the caller's any more."""
        try:
            if self._asks_schemas:
                told = decoded(rows_of_json, segment, rows) if isinstance(rows, bytes) else rows
                if told:
                    self._learn(segment, told[0][0])
            elif self._merger is not None and self._broken is None:
                self._merger.rows(segment, rows)
        except errors.TroughError as error:
            self._broken = error

    def done(self, segment: str, count: int = 0) -> None:
        """A segment has sent all of its rows."""
        self._unfinished.discard(segment)
        if self._asks_schemas:
            self._schema_done(segment)
        elif self._merger is not None and self._broken is None:
            try:
                self._merger.segment_done(segment)
            except errors.TroughError as error:
                self._broken = error

    def merged(self, segments: Sequence[str], rows: list[list[Any]] | bytes) -> None:
        """These segments have answered whole, and their rows are merged by the request's rules.

        :param rows: as in :meth:`rows`
        """
        self._unfinished.difference_update(segments)
        if self._merger is not None and self._broken is None:
            try:
                self._merger.merged(segments, rows)
            except errors.TroughError as error:
                self._broken = error

    def _schema_done(self, segment: str) -> None:
        self._unread.pop(segment, None)
        if segment in self._silent and self._left_out is not None:
            self._shapes[segment] = self._left_out
        elif segment in self._silent:
            self._unread[segment] = errors.ProtocolError("it answered no row, and not its schema")

    def failed(self, segment: str, error: errors.TroughError) -> None:
        """A segment will send no more, and what it sent does not count."""
        self._unfinished.discard(segment)
        if self._asks_schemas:
            self._unread[segment] = error
        elif self._merger is not None:
            self._merger.segment_failed(segment, error)

    def _fail_unfinished(self) -> None:
        """Fail segments without an end reported by the caller: nothing is known of them."""
        for segment in list(self._unfinished):
            self.failed(segment, errors.Unavailable("its answer has no end", "ask again"))

    def restarted(self, segment: str) -> bool:
        """A segment would begin its answer again.

        :return: whether what it sent so far is forgotten
        """
        if self._asks_schemas or self._merger is None:
            self._silent.add(segment)
            return True
        return self._merger.restarted(segment)

    def stop(self, error: errors.TroughError) -> None:
        """End it with this error, the final step too; may be called on any thread."""
        self._broken = error
        if self._merger is not None:
            self._merger.stop(error)

    @property
    def satisfied(self) -> bool:
        """Whether what is being asked may be cancelled: the answer is whole, or none."""
        return self._broken is not None or (self._merger is not None and self._merger.satisfied)

    @property
    def streams(self) -> bool:
        """Whether :meth:`take` may have rows before the end."""
        return self._merger is not None and self._merger.streams

    @property
    def names(self) -> tuple[str, ...]:
        """Of the answer's columns; empty until they are known."""
        return self.plan.names if self.plan is not None else ()

    @property
    def repeatable(self) -> bool:
        """Whether the same question would be answered alike while no segment changes."""
        return self.plan is not None and self.plan.repeatable

    def take(self) -> list[Batch]:
        """Rows that may be passed on already; those of a plain query come so."""
        return self._merger.take() if self._merger is not None else []

    def result(self) -> Iterator[Sequence[Any]]:
        """The answer's rows, without those that :meth:`take` gave.

        :raises trough.errors.TroughError: segments have failed, and this is not partial,
            or the final step failed
        """
        self._check()
        assert self._merger is not None and (self._finished or self._merger.satisfied)
        whole = self._merger.satisfied
        allowed = self._partial and not self._all_missing and not self._merger.spoilt
        if self.missing and not whole and not allowed:
            raise self._too_few()
        return self._merger.result()

    def close(self) -> None:
        """Release everything. Idempotent."""
        if self._merger is not None:
            self._merger.close()

    # -- step by step ----------------------------------------------------------------------

    def _run(self) -> Iterator[list[SegmentRequest]]:
        yield from self._find_a_schema()
        surveyed = False
        try:
            self._make_plan()
        except errors.BadSql:
            # What the first schema does not have may be in others.
            surveyed = True
            yield from self._survey()
        if not surveyed and self._needs_survey():
            yield from self._survey()
        if not self._needs_survey():
            # They are asked again if their rows are needed; their schemas are not.
            self._unread.clear()
        waiting = self._begin()
        while waiting:
            yield self._requests(waiting)
            waiting = yield from self._left_over()

    def _find_a_schema(self) -> Iterator[list[SegmentRequest]]:
        first = 0
        for count in (*_PROBES, len(self.segments)):
            probed = self.segments[first : first + count]
            if probed and not self._schemas:
                yield [self._schema_request(probed)]
            first += count
        if not self._schemas:
            raise self._too_few()

    def _survey(self) -> Iterator[list[SegmentRequest]]:
        """Ask every segment for its schema, if it is not the first that is known; plan
        with what they have."""
        yield [self._schema_request(self.segments)]
        try:
            self._make_plan()
        except errors.BadSql as error:
            # A table or column that none of them has may be in those that failed.
            if self._unread and not self._partial and error.message.startswith("no such"):
                raise self._too_few() from error
            raise

    def _schema_request(self, segments: Sequence[str]) -> SegmentRequest:
        self._asks_schemas, self._silent = True, set(segments)
        self._left_out = self._schemas[0] if self._schemas else None
        known = f" WHERE told IS NOT {quoted(self._left_out)}" if self._left_out else ""
        sql = f"SELECT told AS c0 FROM (SELECT ({SCHEMA_VALUE}) AS told){known}"
        return SegmentRequest(tuple(segments), sql)

    def _learn(self, segment: str, text: Any) -> None:
        try:
            read_schema(text)
        except (ValueError, TypeError, AttributeError) as error:
            self._broken = errors.ProtocolError(f"segment {segment}: {error}")
            return
        if text not in self._schemas:
            self._schemas.append(text)
        self._shapes[segment] = text
        self._silent.discard(segment)

    def _make_plan(self) -> None:
        union = unite(map(read_schema, self._schemas))
        self.plan = plan(
            self.sql,
            union,
            parameters=self._parameters,
            within=self._within,
            now=self._now,
            parts=self._parts,
        )

    def _needs_survey(self) -> bool:
        # Rows of a plain query are passed on at once, so their columns have to be settled,
        # and what they mean; and a segment that is not asked has columns all the same.
        assert self.plan is not None
        passed_on = self.plan.kind in ("plain", "alone") or bool(self.plan.condition)
        return passed_on and (self.plan.star or self.plan.loose or self.plan.has_views)

    def _begin(self) -> list[tuple[str, bool]]:
        """Begin to merge, from nothing; all segments to be asked, and whether exactly."""
        assert self.plan is not None
        if self._merger is not None:
            self._merger.close()
        self._merger = Merger(self.plan, self._limits, self._partial)
        self._attempts.clear()
        self._asked_exactly.clear()
        self._doubted.clear()
        if self.plan.kind == "alone":
            return []
        return [(segment, self.plan.starts_exact) for segment in self._selected()]

    def _selected(self) -> Sequence[str]:
        """The segments that the text is about."""
        assert self.plan is not None
        if not self.plan.condition:
            return self.segments
        connection = sqlite_helpers.connect()
        try:
            connection.execute(f"CREATE TABLE segments ({SEGMENT} TEXT)")
            connection.executemany("INSERT INTO segments VALUES (?)", zip(self.segments))
            query = f"SELECT {SEGMENT} FROM segments WHERE {self.plan.condition}"
            return [row[0] for row in connection.execute(query, self.plan.parameters)]
        except sqlite_helpers.Error as error:
            raise sqlite_helpers.refused(error, self.sql) from error
        finally:
            connection.close()

    def _requests(self, waiting: list[tuple[str, bool]]) -> list[SegmentRequest]:
        """One request for each text, with the segments that it is right for."""
        assert self.plan is not None and self._merger is not None
        merger, attempts, shapes = self._merger, self._attempts, self._shapes
        asks: dict[tuple[str | None, bool], SegmentQuery | None] = {}
        grouped: dict[str, list[str]] = {}
        tests: dict[str, tuple[FilterTest, ...]] = {}
        merges: dict[str, str] = {}
        for segment, exact in waiting:
            shape = shapes.get(segment), exact
            if shape not in asks:
                asks[shape] = self.plan.ask(read_schema(shape[0] or self._schemas[0]), exact)
            ask = asks[shape]
            if ask is None and shape[0] is None:
                # It is unknown whether the segment has the table: it is asked.
                ask = asks[shape] = guard_only(self.plan.tables, read_schema(self._schemas[0]))
            self._unread.pop(segment, None)
            if ask is None:
                merger.excused(segment)
                continue
            merger.asked(segment, ask)
            attempts[segment] = attempts.get(segment, 0) + 1
            grouped.setdefault(ask.sql, []).append(segment)
            tests[ask.sql] = ask.tests
            merges[ask.sql] = self.plan.merge_rules(ask)
        self._asks_schemas = False
        self._asked_exactly.update(segment for segment, exact in waiting if exact)
        parameters = self.plan.parameters or None
        return [
            SegmentRequest(tuple(them), sql, parameters, tests[sql], merges[sql])
            for sql, them in grouped.items()
        ]

    def _left_over(self) -> Generator[list[SegmentRequest], None, list[tuple[str, bool]]]:
        """What has to be asked again after a round; asks for schemas where those are in doubt."""
        merger, count = self._merger, len(self._schemas)
        assert merger is not None
        for segment, text in merger.schemas().items():
            self._learn(segment, text)
        again = [(segment, False) for segment in merger.schemas()]
        doubtful = self._doubtful()
        if doubtful:
            asked_as = {each: self._shapes.get(each, self._schemas[0]) for each in doubtful}
            yield [self._schema_request(doubtful)]
            again += [
                (segment, False)
                for segment, shape in asked_as.items()
                if self._shapes.get(segment, shape) != shape
            ]
        if len(self._schemas) > count:
            former = merger.plan.shape
            self._make_plan()
            if self.plan is not None and self.plan.shape != former:
                self._check_nothing_passed(merger)
                return self._begin()
        exactly = [*merger.inexact(), *self._overflowed()]
        if self._part_failed(merger, {segment for segment, _ in again}.union(exactly)):
            self._parts = False
            self._make_plan()
            return self._begin()
        again += [(segment, True) for segment in exactly]
        return [one for one in dict(again).items() if self._may_ask(one[0])]

    def _part_failed(self, merger: Merger, asked_again: set[str]) -> bool:
        """Whether a segment cannot compute a part of the query, which SQLite might never have
        computed: a subquery in a condition that no row comes to."""
        if self._within or not merger.plan.parts:
            return False
        return any(
            isinstance(error, errors.BadSql) and segment not in asked_again
            for segment, error in merger.failures.items()
        )

    def _check_nothing_passed(self, former: Merger) -> None:
        if former.passed:
            assert self.plan is not None
            further = self.plan.columns - former.plan.columns
            told = f" has {min(further)}" if further else "'s tables changed"
            raise errors.BadSql(
                f"a segment{told}, and so the query means something else than to those before, "
                "of which rows were passed on",
                "with ORDER BY none are before all tables are known",
            )

    def _doubtful(self) -> list[str]:
        """Segments that refused the text, perhaps because they are of another shape; each
        is doubted once."""
        assert self._merger is not None
        doubtful = [
            segment
            for segment, error in self._merger.failures.items()
            if isinstance(error, errors.BadSql) and segment not in self._doubted
        ]
        self._doubted.update(doubtful)
        return doubtful

    def _overflowed(self) -> list[str]:
        """Segments whose own sum was too large, though the whole sum need not be."""
        assert self._merger is not None
        return [
            segment
            for segment, error in self._merger.failures.items()
            if isinstance(error, errors.BadSql)
            and "integer overflow" in error.message
            and segment not in self._asked_exactly
        ]

    def _may_ask(self, segment: str) -> bool:
        assert self._merger is not None
        if self._attempts.get(segment, 0) < _MOST_ATTEMPTS:
            return True
        error = errors.Unavailable(f"the tables of segment {segment} keep changing", "ask again")
        self._merger.segment_failed(segment, error)
        return False

    # -- what goes wrong -------------------------------------------------------------------

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def _too_few(self) -> errors.TroughError:
        self.too_few = True
        return failure(self.missing, len(self.segments), rest=not self._partial)

    @property
    def _all_missing(self) -> bool:
        return len(self.missing) >= len(self.segments)
