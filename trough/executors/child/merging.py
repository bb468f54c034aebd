"""A query of several segments whose rows become one answer.

The rules are those of :mod:`trough.sql.row_merging`. A segment that fails, that answers much, or
whose rows are not for these rules, has an answer of its own, as without rules. An answer of several
segments is one message to the front and one line to the client: all of it arrives, or nothing.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from trough import errors
from trough.executors import messages
from trough.executors.child.tasks import MultiSegmentRead, TaskLoop, file_of
from trough.executors.messages import Target
from trough.model import segment_word
from trough.sql import rows
from trough.sql.queries import Answer
from trough.sql.reading import FewRows
from trough.sql.row_merging import RowMerger

#: Segments of one answer, its rows, and seconds that it waits for more of them. What is lost with
#: an executor is asked again.
MOST_SEGMENTS, MOST_ROWS, PATIENCE = 2_000, 4_000, 0.1

#: Bytes of values that were merged into it: the front has all of it at once.
MOST_BYTES = 1 << 20


class MergingRead(MultiSegmentRead):
    """See the module."""

    def __init__(self, *request: Any) -> None:
        super().__init__(*request)
        self._merger = RowMerger(self.merge)
        # What the next answer of several segments is to contain.
        self._merged: list[int] = []
        self._row_counts: list[int] = []
        self._repeats: list[int] = []
        self._kept: list[bytes] = []
        self._weight = 0
        self._since = 0.0

    def _ask(self, executor: TaskLoop, place: int, target: Target) -> tuple[Answer, bool] | None:
        few = executor.reader.few_rows(self, *file_of(target))
        if isinstance(few, Answer):
            return few, False
        if few is None:
            return super()._ask(executor, place, target)
        if not self._merger.add(few.rows):
            return Answer(self._lines(target, few), len(few.rows)), few.repeatable
        if not self._merged:
            self._since = monotonic()
        if self.keeps and few.repeatable:
            self._repeats.append(len(self._merged))
            self._kept.append(self._lines(target, few))
        self._merged.append(place)
        self._row_counts.append(len(few.rows))
        self._weight += few.weight
        full = len(self._merged) >= MOST_SEGMENTS or self._merger.count >= MOST_ROWS
        if full or self._weight > MOST_BYTES or monotonic() - self._since > PATIENCE:
            self._send(executor)
        return None

    def _lines(self, target: Target, few: FewRows) -> bytes:
        """A segment's own answer."""
        return rows.all_lines(self.tag, target.segment, few.names.json, few.rows).encode()

    def tell(self, executor: TaskLoop) -> None:
        """Send the collected pieces, and at the end what was merged."""
        super().tell(executor)
        if self.handed_back or not self._targets:
            self._send(executor)

    def _send(self, executor: TaskLoop) -> None:
        if not self._merged:
            return
        ids = ",".join([segment_word(self.targets[place].segment) for place in self._merged])
        found = self._merger.take()
        line = f"{self.tag} MERGED {ids} {len(found)} {rows.array_of_rows(found)}\n".encode()
        self.unacknowledged += len(line)
        message = messages.PartMerged(
            self.number, self._merged, self._row_counts, line, self._repeats, self._kept
        )
        executor.send(message, len(line) + sum(map(len, self._kept)))
        self._merged, self._row_counts = [], []
        self._repeats, self._kept, self._weight = [], [], 0

    def _fail_rest(self, executor: TaskLoop, error: errors.TroughError) -> None:
        self._send(executor)
        super()._fail_rest(executor, error)

    def close(self) -> None:
        super().close()
        # Nobody waits for these, or they are asked again.
        self._merger.take()
        self._merged, self._row_counts = [], []
        self._repeats, self._kept, self._weight = [], [], 0
