"""Logs reads that took long, with SQLite's plan for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from time import monotonic

from twisted.logger import Logger

from trough.executors.pool.pool import ExecutorPool, Framing, Outcome, ReadLimits, Target
from trough.executors.pool.read_jobs import ReadJob
from trough.sql.statements import as_text, first_word

_log = Logger()

#: Characters of a query that are logged.
_SHOWN = 2000

#: Plans that are asked for at once, and the seconds that each may take. A slow query without a
#: plan is logged as well.
_PLANS, _PLAN_SECONDS = 4, 5.0


class SlowQueries:
    """Watches reads.

    :param seconds: from a read's beginning to its end, after which it is logged. Its waiting, and
        a client that reads slowly, count as well
    """

    def __init__(self, pool: ExecutorPool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds
        self._asking = 0

    def watch(
        self, job: ReadJob, targets: Sequence[Target], sql: str | bytes, limits: ReadLimits
    ) -> None:
        """Have a read logged when it ends, if it was slow."""
        job.when_over = partial(self._over, monotonic(), targets, sql, limits.client)

    def _over(
        self,
        began: float,
        targets: Sequence[Target],
        sql: str | bytes,
        client: str,
        outcome: Outcome,
    ) -> None:
        seconds = monotonic() - began
        if seconds < self._seconds:
            return
        text = as_text(sql)
        report = _Report(
            self, targets[0].segment, len(targets), text, client, seconds=seconds, outcome=outcome
        )
        if self._asking >= _PLANS or first_word(text) not in ("SELECT", "WITH", "VALUES"):
            report.write("")
            return
        self._asking += 1
        limits = ReadLimits(_PLAN_SECONDS, 1000, client="slow queries")
        try:
            # A parameter that is not bound is NULL, which changes no plan.
            explain = f"EXPLAIN QUERY PLAN {text}"
            self._pool.read(targets[:1], explain, None, limits, Framing.OBJECTS, "", report)
        except Exception:  # the pool is stopping
            self.asked()
            report.write("")

    def asked(self) -> None:
        """A plan has come, or will not."""
        self._asking -= 1


class _Report:
    """One slow query; receives its plan."""

    def __init__(
        self,
        owner: SlowQueries,
        segment: str,
        number: int,
        sql: str,
        client: str,
        *,
        seconds: float,
        outcome: Outcome,
    ) -> None:
        self._owner = owner
        self._fields = {
            "segment": segment,
            "segments": number,
            "sql": " ".join(sql.split())[:_SHOWN],
            "client": client,
            "seconds": round(seconds, 3),
            "rows": outcome.rows,
        }
        self._plan: list[bytes] = []

    def data(self, chunk: bytes) -> None:
        """A part of the plan."""
        self._plan.append(chunk)

    def finished(self, outcome: Outcome) -> None:
        """The plan is complete."""
        self._owner.asked()
        try:
            steps = json.loads(b"".join(self._plan)) if outcome.error is None else []
        except ValueError:
            steps = []
        self.write("; ".join(str(step.get("detail")) for step in steps))

    def write(self, plan: str) -> None:
        """Log it."""
        _log.warn(
            "slow query, {seconds} s, {rows} rows of {segments} segments from {segment}, for "
            "{client}: {sql} (plan: {plan})",
            plan=plan or "not known",
            **self._fields,
        )
