"""What the shell is connected to, and how it touches the cluster: without any terminal.

:class:`Remote` is all that the shell asks of a cluster, in blocking calls for the main
thread; `remote.py` carries it out on the reactor's. :class:`Session` is the state that
commands change: segments, mode, format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from trough import errors
from trough.errors import TroughError
from trough.model import Copy, Lock, Worker, check_segment_id
from trough.shell.output.formats import Choice

# -- what a query tells while it runs -------------------------------------------

# Named tuples, for they take a fifth of the time that dataclasses take to be imported.


class Columns(NamedTuple):
    """A segment begins."""

    segment: str
    names: Sequence[str]


class Rows(NamedTuple):
    """Further rows of a segment.

    :ivar size: characters in them, about
    """

    segment: str
    rows: Sequence[Sequence[Any]]
    size: int


def rows_of(segment: str, rows: Sequence[Sequence[Any]]) -> Rows:
    """Rows with their size."""
    sizes = [len(v) for row in rows for v in row if isinstance(v, str | bytes)]
    return Rows(segment, rows, sum(sizes) + 16 * len(rows))


@dataclass(frozen=True, slots=True)
class Done:
    """A segment is complete."""

    segment: str
    count: int


class Failed(NamedTuple):
    """A segment failed; whatever came of it is not the whole answer."""

    segment: str
    error: TroughError


class Marked(NamedTuple):
    """What a segment answers need not be its present state.

    :ivar mark: ``last-promoted`` or ``unconfirmed``
    """

    segment: str
    mark: str


class Restarted(NamedTuple):
    """A segment is asked again elsewhere: its columns and rows come anew."""

    segment: str


class Progressed(NamedTuple):
    """How far a query is that has one answer for many segments.

    :ivar step: what is being done with what they said, if that is all that is left to do
    """

    done: int
    failed: int
    step: str = ""
    segment: str = ""


Event = Columns | Rows | Done | Failed | Marked | Restarted | Progressed

Parameters = Sequence[Any] | Mapping[str, Any] | None


class Query(Protocol):
    """A query under way. Leaving the ``with`` block cancels what is left of it."""

    def __enter__(self) -> Query: ...

    def __exit__(self, *_: object) -> None: ...

    def events(self, tick: float) -> Iterator[Event | None]:
        """What happens; None whenever nothing did for `tick` seconds.

        While nobody takes events, the workers stop sending.

        :raises trough.errors.TroughError: the query failed as a whole
        """
        ...


class Written(NamedTuple):
    """A write was committed: how many rows it changed."""

    changes: int


class Started(NamedTuple):
    """One segment's turn has come, of many that something is done to."""

    segment: str


class Result(NamedTuple):
    """How one segment fared of many that something was done to."""

    segment: str
    error: TroughError | None = None


class Published(NamedTuple):
    """How far the promotion of one segment is, in bytes; zeros before its transfer begins."""

    segment: str
    done: int
    total: int


#: What is told while something is done to many segments.
ProgressEvent = Started | Result | Published


class Remote(Protocol):
    """All that the shell asks of a cluster. Every call blocks; an interrupt ends it."""

    def query(
        self,
        segments: Sequence[str],
        sql: str,
        parameters: Parameters = None,
        forgets: bool = True,
    ) -> Query:
        """Ask every one of `segments`.

        :param forgets: whether rows can be forgotten that will come again from another
            worker; if not, the segment fails
        """
        ...

    def write(self, segment: str, sql: str, schema: str) -> Written:
        """Write to one segment, which is created from `schema` where it is new."""
        ...

    def create(self, segment: str, schema: str) -> None:
        """Make a segment writable; it is created from `schema` where it is new."""
        ...

    def copies(self, segments: Sequence[str]) -> dict[str, list[Copy]]:
        """Where segments are served; those that are nowhere are left out."""
        ...

    def matching(self, pattern: str | None) -> Iterator[list[str]]:
        """Pages of ids of the segments that can be read, each segment once."""
        ...

    def promote(self, segments: Sequence[str]) -> Iterator[ProgressEvent | None]:
        """Promote segments, several at a time, in no order; None while nothing happens."""
        ...

    def revert(self, segment: str, preview: bool) -> dict[str, Any]:
        """Return a segment to its last promoted state, or only say what would be given up.

        :return: see :meth:`trough.cluster_client.client.ClusterClient.revert`
        """
        ...

    def delete(self, segments: Sequence[str]) -> Iterator[ProgressEvent | None]:
        """Delete segments everywhere, likewise."""
        ...

    def schemas(self) -> list[str]:
        """Names of all schemas."""
        ...

    def schema(self, name: str) -> str:
        """A schema's SQL."""
        ...

    def put_schema(self, name: str, sql: str) -> bool:
        """Register a schema; whether it is new."""
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
        """Let go of everything. Idempotent."""
        ...


# -- state ----------------------------------------------------------------------


@dataclass(slots=True)
class Session:
    """What the commands of one shell have in common.

    :ivar segments: connected, each once
    :ivar schema: for segments that the first write creates; None: none is created
    :ivar expanded: one line a column, whatever the format
    :ivar last_query: for EXPORT
    :ivar failures: what failed in the last statement, for SHOW FAILURES
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
        """Be connected to these and no others, in their order, each once.

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
