"""The shell's connection and its interface to the cluster, without any terminal.

:class:`Remote` holds all calls from the shell to a cluster. They block the main thread.
`remote.py` implements them on the reactor's thread. :class:`Session` is the state that commands
change: segments, mode, format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from trough import errors
from trough.errors import TroughError
from trough.model import Copy, Lock, Worker, check_segment_id
from trough.shell.output.formats import Choice

# -- the events of a query ------------------------------------------------------

# Named tuples: dataclasses take five times as long to import.


class Columns(NamedTuple):
    """A segment begins."""

    segment: str
    names: Sequence[str]


class MoreRows(NamedTuple):
    """Further rows of a segment.

    :ivar size: about how many characters are in them
    """

    segment: str
    rows: Sequence[Sequence[Any]]
    size: int


def rows_of(segment: str, rows: Sequence[Sequence[Any]]) -> MoreRows:
    """Rows with their size."""
    sizes = [len(v) for row in rows for v in row if isinstance(v, str | bytes)]
    return MoreRows(segment, rows, sum(sizes) + 16 * len(rows))


@dataclass(frozen=True, slots=True)
class Done:
    """A segment is complete."""

    segment: str
    count: int


class Failed(NamedTuple):
    """A segment failed. The rows that came from it are not its whole answer."""

    segment: str
    error: TroughError


class Marked(NamedTuple):
    """The answer of a segment may differ from its present state.

    :ivar mark: ``last-promoted`` or ``unconfirmed``
    """

    segment: str
    mark: str


class Restarted(NamedTuple):
    """A retry of a segment on another worker: its columns and rows come again."""

    segment: str


class Progressed(NamedTuple):
    """The progress of a query that has one answer for many segments.

    :ivar step: how their answers are being processed, if only that is left to do
    """

    done: int
    failed: int
    step: str = ""
    segment: str = ""


Event = Columns | MoreRows | Done | Failed | Marked | Restarted | Progressed

Parameters = Sequence[Any] | Mapping[str, Any] | None


class RunningQuery(Protocol):
    """A running query. Leaving the ``with`` block cancels the rest of it."""

    def __enter__(self) -> RunningQuery: ...

    def __exit__(self, *_: object) -> None: ...

    def events(self, tick: float) -> Iterator[Event | None]:
        """The events; None each time none came for `tick` seconds.

        While the caller takes no events, the workers stop sending.

        :raises trough.errors.TroughError: the query failed as a whole
        """
        ...


class Written(NamedTuple):
    """A write was committed. It changed this many rows."""

    changes: int


class Started(NamedTuple):
    """An action on many segments has begun on this one."""

    segment: str


class SegmentResult(NamedTuple):
    """The result of an action on many segments, for one of them."""

    segment: str
    error: TroughError | None = None


class Published(NamedTuple):
    """The progress of the promotion of one segment, in bytes; zeros before its transfer begins."""

    segment: str
    done: int
    total: int


#: The events of an action on many segments.
ProgressEvent = Started | SegmentResult | Published


class Remote(Protocol):
    """All calls from the shell to a cluster. Every call blocks; an interrupt ends it."""

    def query(
        self,
        segments: Sequence[str],
        sql: str,
        parameters: Parameters = None,
        forgets: bool = True,
    ) -> RunningQuery:
        """Query every one of `segments`.

        :param forgets: whether rows that will come again from another worker can be dropped;
            if not, the segment fails
        """
        ...

    def write(self, segment: str, sql: str, schema: str) -> Written:
        """Write to one segment. A new one is created from `schema`."""
        ...

    def create(self, segment: str, schema: str) -> None:
        """Make a segment writable. A new one is created from `schema`."""
        ...

    def copies(self, segments: Sequence[str]) -> dict[str, list[Copy]]:
        """The copies of segments that are served; segments without a copy are left out."""
        ...

    def matching(self, pattern: str | None) -> Iterator[list[str]]:
        """Pages of ids of the readable segments, each segment once."""
        ...

    def promote(self, segments: Sequence[str]) -> Iterator[ProgressEvent | None]:
        """Promote segments, several at a time, in no order; None while nothing happens."""
        ...

    def revert(self, segment: str, preview: bool) -> dict[str, Any]:
        """Return a segment to its last promoted state, or only report what would be lost.

        :return: see :meth:`trough.cluster_client.client.ClusterClient.revert`
        """
        ...

    def delete(self, segments: Sequence[str]) -> Iterator[ProgressEvent | None]:
        """Delete segments everywhere, in the same way as :meth:`promote`."""
        ...

    def schemas(self) -> list[str]:
        """Names of all schemas."""
        ...

    def schema(self, name: str) -> str:
        """A schema's SQL."""
        ...

    def put_schema(self, name: str, sql: str) -> bool:
        """Register a schema. Return whether it is new."""
        ...

    def workers(self) -> list[Worker]:
        """All live workers."""
        ...

    def locks(self) -> list[Lock]:
        """All write locks."""
        ...

    def status(self) -> dict[str, Any]:
        """The state of the sync servers and workers, by name."""
        ...

    def close(self) -> None:
        """Close all connections. Idempotent."""
        ...


# -- state ----------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """The state that the commands of one shell share.

    :ivar segments: connected, each once
    :ivar schema: for segments that the first write creates; None: none is created
    :ivar expanded: one line a column, in any format
    :ivar last_query: for EXPORT
    :ivar failures: failures of the last statement, for SHOW FAILURES
    """

    writable: bool = False
    schema: str | None = None
    choice: Choice = field(default_factory=Choice)
    expanded: bool = False
    timing: bool = True
    segments: tuple[str, ...] = ()
    last_query: str = ""
    failures: list[Failed] = field(default_factory=list)

    @property
    def mode(self) -> str:
        """``ro`` or ``rw``."""
        return "rw" if self.writable else "ro"

    @property
    def prompt(self) -> str:
        """``trough> ``, ``trough:300001(ro)> ``, ``trough:[42 segments](rw)> ``."""
        if not self.segments:
            return "trough> "
        many = len(self.segments) > 1
        name = f"[{len(self.segments):,} segments]" if many else self.segments[0]
        return f"trough:{name}({self.mode})> "

    def connect(self, segments: Iterable[str]) -> None:
        """Connect to exactly these segments, in their order, each once.

        :raises trough.errors.BadSegmentId: before anything is changed
        """
        self.segments = tuple(dict.fromkeys(map(check_segment_id, segments)))

    def connected(self) -> tuple[str, ...]:
        """The connected segments.

        :raises trough.errors.BadRequest: there are none
        """
        if not self.segments:
            raise errors.BadRequest(
                "not connected to any segment", "CONNECT segment, or CONNECT MATCHING regex"
            )
        return self.segments

    def check_writable(self, what: str) -> None:
        """Refuse what needs read-write mode.

        :raises trough.errors.BadRequest: the shell reads only
        """
        if not self.writable:
            raise errors.BadRequest(
                f"{what} is refused in read-only mode", "start trough-shell with -w to write"
            )

    def connected_for_writing(self, what: str) -> str:
        """The one segment that `what` is to write to.

        :raises trough.errors.BadRequest: read-only mode, or not exactly one segment
        """
        self.check_writable(what)
        segments = self.connected()
        if len(segments) > 1:
            raise errors.BadRequest(
                f"{what} needs one connected segment, and {len(segments):,} are connected",
                "a write to several would have no common commit; CONNECT one",
            )
        return segments[0]
