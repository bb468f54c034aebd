"""A query whose answers may be kept: which are found, and which segments have to be asked.

:class:`KeptQuery` is one such query under way. Once each of its segments has answered from a known
version, the query is remembered by a word. :class:`Remembered` later has the versions behind that
word, to check whether each segment still has that version. A version never comes back
(:mod:`trough.worker.kept_results`). So equal versions mean that the query would have the same
answer.
"""

from __future__ import annotations

import itertools
import marshal
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from trough.executors.pool.pool import Target
from trough.sql.column_filters import FilterTest
from trough.sql.rows import done_line
from trough.util.bounded_lru import BoundedLru
from trough.worker.kept_results import TAG, KeptResults
from trough.worker.local_copies import LocalCopy, Version
from trough.worker.segment_filters import SegmentFilters

#: Segments of all queries that are remembered; 16 bytes each, and some for the copy.
MOST_REMEMBERED = 1_000_000

#: Copies, each with the version that it was read at.
Versions = list[tuple[LocalCopy, Version]]


class Remembered:
    """Queries by word, and the versions of the segments that answered them.

    The least recently used one is removed first.
    """

    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        # No other run of this process, and no other worker, gives out such words.
        self._run = secrets.token_hex(8)
        self._numbers = itertools.count(1)
        self._sets: BoundedLru[str, Versions] = BoundedLru(most, len)

    def add(self, versions: Versions) -> str:
        """The word for these; empty where they are too many."""
        if len(versions) > self._most:
            return ""
        word = f"{self._run}-{next(self._numbers)}"
        self._sets.put(word, versions)
        return word

    def find(self, word: str) -> Versions | None:
        """The versions behind a word; None where it is not known, or not any more."""
        return self._sets.get(word)


class KeptQuery:
    """See the module.

    :param copy_of: the present copy of a segment, or None
    :param parameters: of the statement, as they were checked
    :param rows: the limit of rows for each segment
    :param tag: what each line of the answer begins with
    :param filters: of columns; `tests`, what a segment needs to have rows
    :ivar pruned: segments that have none, as a filter shows
    """

    def __init__(
        self,
        results: KeptResults,
        copy_of: Callable[[str], LocalCopy | None],
        sql: str | bytes,
        parameters: Any,
        rows: int,
        *,
        tag: str,
        filters: SegmentFilters | None = None,
        tests: Sequence[FilterTest] = (),
    ) -> None:
        self._results = results
        self._filters = filters
        self._checks = filters.checks(tests) if filters is not None else []
        self.pruned = 0
        self._copy_of = copy_of
        self._tag = tag
        # By bytes, as 1, 1.0 and True are equal and not the same to SQLite.
        bound = marshal.dumps(parameters, 2)
        self._statement = results.statement((sql, bound, rows), len(sql) + len(bound))
        #: Of the copies that are asked, before that.
        self._before: dict[str, tuple[LocalCopy, Version]] = {}
        #: Of those that have answered from a known version.
        self.versions: Versions = []

    def find(self, targets: Sequence[Target]) -> tuple[bytes, int, list[Target]]:
        """The kept answers of some targets.

        :return: finished lines, their number of rows, and the targets that have to be asked
        """
        asked: list[Target] = []
        copies: list[LocalCopy] = []
        for target in targets:
            copy = self._copy_of(target.segment)
            if copy is None or copy.target is not target or copy.version is None:
                asked.append(target)
            else:
                copies.append(copy)
        entries, others = self._results.find(self._statement, copies)
        empty: list[str] = []
        if others:
            missed = {copy.entry.segment for copy in others}
            copies = [copy for copy in copies if copy.entry.segment not in missed]
        for copy in others:
            version, segment = copy.version, copy.entry.segment
            if version is not None:
                if self._lacks(copy, version):
                    self.versions.append((copy, version))
                    self.pruned += 1
                    empty.append(done_line(self._tag, segment, 0))
                    continue
                self._before[segment] = (copy, version)
            asked.append(copy.target)
        self.versions += [
            (copy, entry.version) for copy, entry in zip(copies, entries, strict=True)
        ]
        lines = b"".join([entry.lines for entry in entries])
        rows = sum(entry.rows for entry in entries)
        return lines.replace(TAG, self._tag.encode()) + "".join(empty).encode(), rows, asked

    def _lacks(self, copy: LocalCopy, version: Version) -> bool:
        """Whether a filter shows that a copy has no rows for this."""
        if self._filters is None or not self._checks:
            return False
        return self._filters.lacks(self._checks, copy, version)

    def make_filters(self, targets: Sequence[Target], client: str) -> None:
        """Have the filters made that were missed.

        :param targets: that had to be asked
        """
        if self._filters is not None and self._checks:
            copies = [copy for each in targets if (copy := self._copy_of(each.segment)) is not None]
            self._filters.make(self._checks, copies, client)

    def keep(self, target: Target, rows: int, lines: bytes) -> None:
        """Take a whole answer that would be the same again."""
        before = self._before.pop(target.segment, None)
        if before is None:
            return
        copy, version = before
        self.versions.append(before)
        if copy.version == version:
            segment = target.segment
            self._results.keep(self._statement, segment, version, rows, lines, self._tag)
