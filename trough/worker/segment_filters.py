"""Filters of columns, so that segments without a text that a query asks for are not opened.

A filter (:mod:`trough.sql.column_filters`) is the answer of a segment to a query of its own, and is
kept as other answers are: by the text of that query, the segment, and the version of the local copy
(:mod:`trough.worker.kept_results`). So a filter is never of another content than the copy has
now. The query's text begins with a guard, so a segment of another shape has no filter.

Filters are made after a query has missed them, in the background, of copies that are only read. One
such job runs at a time, for some seconds at most. A segment that has no filter is asked.
"""

from __future__ import annotations

import json
from binascii import a2b_base64
from collections.abc import Callable, Iterable, KeysView, Sequence

from trough import errors
from trough.executors.pool.pool import ExecutorPool, Framing, Outcome, ReadLimits, Target
from trough.model import segment_of_word
from trough.sql.column_filters import FilterTest
from trough.util.job import Job
from trough.worker.kept_results import KeptResult, KeptResults, KeptStatement
from trough.worker.local_copies import LocalCopy, Version

#: Seconds that making filters may take, at most, once a query missed them.
SECONDS = 30.0

#: Copies of which filters are made for one query, at most.
MOST_COPIES = 200_000

_TAG = "f"

#: A test, and the filters that are kept for it.
Check = tuple[KeptStatement, FilterTest]


class SegmentFilters:
    """See the module.

    :param most: bytes of filters that may be kept; 0 to keep none
    :ivar pruned: segments that were not opened since the start
    """

    def __init__(self, most: int, pool: ExecutorPool) -> None:
        self._kept = KeptResults(most)
        self._pool = pool
        self._making: Job | None = None
        self.pruned = 0

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def making(self) -> bool:
        """Whether filters are being made now."""
        return self._making is not None

    def checks(self, tests: Iterable[FilterTest]) -> list[Check]:
        """The filters for some tests, which count as used now."""
        if not self._kept.is_on:
            return []
        return [(self._kept.statement(test.sql, len(test.sql)), test) for test in tests]

    def lacks(self, checks: Sequence[Check], copy: LocalCopy, version: Version) -> bool:
        """Whether a copy of this version surely adds no rows."""
        segment = copy.entry.segment
        for statement, test in checks:
            entry = statement.entries.get(segment)
            if entry is None or entry.version != version or not entry.rows:
                continue
            if test.fails(entry.lines):
                self.pruned += 1
                return True
        return False

    def make(self, checks: Sequence[Check], copies: Sequence[LocalCopy], client: str) -> None:
        """Begin to make filters that are not there, unless others are being made."""
        for statement, test in checks:
            if self._making is not None:
                return
            missing: dict[str, tuple[LocalCopy, Version]] = {}
            for copy in copies[:MOST_COPIES]:
                version, segment = copy.version, copy.entry.segment
                known = statement.entries.get(segment)
                fits = version is not None and not copy.writable
                if fits and version and (known is None or known.version != version):
                    missing[segment] = (copy, version)
            if missing:
                self._make(statement, test, missing, client)

    def _make(
        self,
        statement: KeptStatement,
        test: FilterTest,
        missing: dict[str, tuple[LocalCopy, Version]],
        client: str,
    ) -> None:
        def keep(segment: str, made: bytes | None) -> None:
            copy, version = missing.pop(segment)
            if copy.version == version:
                entry = KeptResult(version, int(made is not None), made or b"")
                self._kept.put(statement, segment, entry)

        def over() -> None:
            self._making = None

        making = _Making(keep, missing.keys(), over)
        targets = [copy.target for copy, _ in missing.values()]
        limits = ReadLimits(SECONDS, 2, client=client)
        try:
            job = self._pool.read(
                targets, test.sql, None, limits, Framing.LINES, _TAG, making, making.take
            )
        except errors.TroughError:  # the pool is stopping
            return
        if not making.over:
            self._making = job


class _Making:
    """Receives the answers of a job that makes filters.

    :param keep: takes a segment, and its filter or None where there is none
    :param missing: segments that were not kept yet
    """

    def __init__(
        self,
        keep: Callable[[str, bytes | None], None],
        missing: KeysView[str],
        when_over: Callable[[], None],
    ) -> None:
        self.over = False
        self._keep = keep
        self._missing = missing
        self._when_over = when_over
        self._answered: set[str] = set()

    def take(self, target: Target, rows: int, lines: bytes) -> None:
        """Take a whole answer that would be the same again."""
        if target.segment in self._missing:
            self._keep(target.segment, _filter_of(rows, lines))

    def data(self, chunk: bytes) -> None:
        """Note who has answered, or will never answer."""
        for line in chunk.split(b"\n"):
            words = line.split(b" ", 4)
            if words[1:2] == [b"DONE"] or (words[1:2] == [b"FAIL"] and words[3:4] == [_BAD_SQL]):
                self._answered.add(segment_of_word(words[2].decode()))

    def finished(self, outcome: Outcome) -> None:
        """There will be no more."""
        self.over = True
        for segment in self._answered.intersection(self._missing):
            self._keep(segment, None)
        self._when_over()


_BAD_SQL = errors.BadSql.code.encode()


def _filter_of(rows: int, lines: bytes) -> bytes | None:
    """The filter out of an answer: one row of it, and no schema."""
    if rows != 1:
        return None
    for line in lines.split(b"\n"):
        words = line.split(b" ", 3)
        if words[1:2] == [b"ROWS"]:
            ((text, schema),) = json.loads(words[3])
            return a2b_base64(text) if schema is None and isinstance(text, str) else None
    return None
