"""A query over many segments, the listener for its answer, and the workers that answer.

Values and interfaces; :mod:`trough.cluster_client.fan_out` connects them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twisted.internet.defer import Deferred

from trough import errors
from trough.cluster_client.router import WorkerAddress
from trough.protocols.line.query_replies import QueryListener, Summary
from trough.protocols.line.values import Parameters
from trough.sql.column_filters import FilterTest
from trough.util.job import Job


class FanOutListener(QueryListener, Protocol):
    """Receives what a query finds, segment by segment, in any order.

    As :class:`trough.protocols.line.pending_calls.QueryListener`, and:
    """

    def restarted(self, segment: str) -> bool:
        """The rows of `segment` received so far are void, and would come again from the
        first one, `columns` included.

        :return: whether they were forgotten; if not, the segment fails
        """


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """What is asked.

    :ivar seconds: that are left of the deadline, or None for the workers' own
    :ivar rows: most rows of one segment, or None for no limit of the asker's
    :ivar keep: whether answers may be kept, and come from what was kept
    :ivar tests: with `keep`, a segment that fails one of these has no rows
    :ivar encoded: the listener takes rows as JSON, and decodes them itself
    :ivar trace: a ``traceparent`` of the W3C for the workers' logs, or empty
    :ivar merge: rules by which rows of several segments become one; or empty
    """

    sql: str
    parameters: Parameters | None = None
    seconds: float | None = None
    rows: int | None = None
    keep: bool = False
    tests: tuple[FilterTest, ...] = ()
    encoded: bool = False
    trace: str = ""
    merge: str = ""


class WorkerClient(Protocol):
    """A worker, ready to be asked for segments."""

    def query(
        self, segments: Sequence[str], question: QueryRequest, listener: QueryListener
    ) -> QueryHandle:
        """Ask for all of these segments."""


class QueryHandle(Job, Protocol):
    """What a worker was asked."""

    done: Deferred[Summary]


class WorkerClientFactory(Protocol):
    """Where workers are reached."""

    async def source(self, place: WorkerAddress) -> WorkerClient:
        """A connection to this worker.

        :raises trough.errors.Unavailable: there is none to be had
        """


@dataclass(slots=True)
class QueryStats:
    """How a query stands, or ended.

    :ivar segments: that were asked
    :ivar answered: of those, the ones that answered whole
    :ivar failed: the ones that did not, with the reason
    :ivar rows: of the segments that answered
    :ivar restarted: how many times a segment's rows were void
    :ivar seconds: that it took
    :ivar kept: segments that answered from what their worker had kept
    :ivar pruned: segments that were not opened, as they fail a test
    :ivar versions: with `keep`, the workers that answered, each with the word for the state
        that it answered from; None where some answer has none
    """

    segments: int
    answered: int = 0
    failed: dict[str, errors.TroughError] = field(default_factory=dict)
    rows: int = 0
    restarted: int = 0
    seconds: float = 0.0
    kept: int = 0
    pruned: int = 0
    versions: list[tuple[WorkerAddress, str]] | None = None

    @property
    def complete(self) -> bool:
        """Whether every segment answered whole."""
        return self.answered == self.segments
