"""``EXPLAIN`` and ``EXPLAIN ANALYZE`` of a GATHER: what goes to the segments, and what is kept.

``EXPLAIN`` asks only what is needed to know the tables. ``EXPLAIN ANALYZE`` runs the query,
drops its rows, and returns counts and times.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PLAN, ANALYZE = "plan", "analyze"

_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(ANALYZE\s+)?(?=SELECT\b|WITH\b|VALUES\b)", re.IGNORECASE)


def explained(sql: str) -> tuple[str, str]:
    """What a text asks for: :data:`PLAN`, :data:`ANALYZE`, or an empty text for its answer; and
    the query without that."""
    match = _EXPLAIN.match(sql)
    if match is None:
        return "", sql
    return (ANALYZE if match[1] else PLAN), sql[match.end() :]


def plan_lines(plan: str, repeatable: bool, segments: int) -> list[str]:
    """A plan, line by line, and what is kept of it.

    :param plan: see :meth:`trough.gather.gather_plan.GatherPlan.explain`
    :param repeatable: see :attr:`trough.gather.gather_plan.GatherPlan.repeatable`
    :param segments: how many it is about
    """
    kept = (
        "while no segment changes: what each answers, by its worker; all, by the sync server"
        if repeatable
        else "nothing of the answer: a clock, chance or a pragma has a part in it"
    )
    return [*plan.split("\n"), f"segments: {segments:,}", f"kept: {kept}"]


@dataclass(slots=True)
class Round:
    """Segments that were asked at the same time.

    :ivar texts: different ones that they were asked
    :ivar kept: segments that answered from what their worker had kept
    :ivar pruned: segments that were not opened, as a filter of a column lacks what is asked for
    :ivar rows: that came
    :ivar seconds: until all had answered
    """

    segments: int
    texts: int
    kept: int = 0
    pruned: int = 0
    rows: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        """What was asked, in one line."""
        texts = "one text" if self.texts == 1 else f"{self.texts} texts"
        pruned = f"{self.pruned:,} pruned; " if self.pruned else ""
        return (
            f"asked: {self.segments:,} segments, {texts}; {self.kept:,} answered from what was "
            f"kept; {pruned}{self.rows:,} rows; {self.seconds:.3f} s"
        )


@dataclass(frozen=True, slots=True)
class Taken:
    """What a GATHER took.

    :ivar rounds: what was asked
    :ivar asking: seconds until all was asked, planning included
    :ivar ending: seconds of the final step
    :ivar rows: of the answer
    :ivar missing: segments that failed, and why; likewise `stale`, and their marks
    :ivar kept: whether the whole answer may be kept
    """

    rounds: Sequence[Round]
    asking: float
    ending: float
    rows: int
    missing: Mapping[str, str] = field(default_factory=dict)
    stale: Mapping[str, str] = field(default_factory=dict)
    kept: bool = False

    def lines(self) -> list[str]:
        """All of it, line by line."""
        waiting = sum(each.seconds for each in self.rounds)
        return [
            *(each.line() for each in self.rounds),
            f"planned: {max(0.0, self.asking - waiting):.3f} s",
            f"put together: {self.rows:,} rows; {self.ending:.3f} s",
            *(f"missing: {segment}: {error}" for segment, error in self.missing.items()),
            *(f"stale: {segment}: {mark}" for segment, mark in self.stale.items()),
            f"in all: {self.asking + self.ending:.3f} s; without EXPLAIN the whole answer would "
            f"{'be kept' if self.kept else 'not be kept'}",
        ]
