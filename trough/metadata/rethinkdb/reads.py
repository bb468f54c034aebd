"""Questions to RethinkDB, as ReQL terms; see :mod:`trough.metadata.rethinkdb.terms`.

Each takes the view with which it is asked, unless only the strictest will do.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from trough.metadata.conditions import id_range
from trough.metadata.rethinkdb import rows
from trough.metadata.rethinkdb.terms import (
    DELETED,
    NODES,
    PRESENT,
    STRICT,
    Term,
    View,
    alive,
    is_a,
    number,
    r,
    sent,
)
from trough.model import NODE_NAME, READ, WRITE

#: Fields of write locks that watchers are told of.
TOLD = ("id", "segment", "node", "epoch", "acquired_on", "disk", "revision", "followers")

#: Between these keys are all write locks.
LOCKS = (rows.lock_id(""), rows.lock_id("")[:-1] + ";")


def raw_page(table: str, after: Any, size: int) -> Term:
    """The next `size` rows of a table, valid or not; `after` is the last one's id, or None."""
    first = r.minval if after is None else after
    page = PRESENT.table(table).between(first, r.maxval, left_bound="open")
    return page.order_by(index="id").limit(size).coerce_to("array")


# -- leadership --------------------------------------------------------------------


def leading(view: View) -> Term:
    """The leader's row, or null."""

    def living(now: Term) -> Term:
        return (
            view.table("services")
            .get(rows.LEADER_ID)
            .do(lambda row: r.branch(row.eq(None), None, alive(row, now), row, None))
        )

    return view.at(living)


# -- workers -----------------------------------------------------------------------


def workers(view: View) -> Term:
    """``{"workers": rows of the living, "draining": names}``."""
    return view.at(
        lambda now: {
            "workers": view.table("services")
            .between(*NODES)
            .filter(lambda row: alive(row, now))
            .coerce_to("array"),
            "draining": view.table("cluster").get("draining")["nodes"].default([]),
        }
    )


def last_row(node: str) -> Term:
    """A worker's row, or null."""
    return STRICT.table("services").get(rows.worker_id(node))


def worker_states(view: View) -> Term:
    """For each worker that has a row ``[node, alive, load]``."""
    return view.at(
        lambda now: (
            view.table("services")
            .between(*NODES)
            .map(lambda row: [row["node"].default(None), alive(row, now), number(row["load"])])
            .coerce_to("array")
        )
    )


def draining(view: View) -> Term:
    """Names of the workers that are to be emptied."""
    return view.table("cluster").get("draining")["nodes"].default([])


def paused() -> Term:
    """Until when the copies of which workers are not moved; pairs."""
    until = PRESENT.table("cluster").get("paused")["until"].default({})
    return until.coerce_to("array").filter(lambda pair: pair[1] > r.now().to_epoch_time())


def replicas(database: str) -> Term:
    """``{"servers", "tables"}``: how many servers there are, and of each table its ``name`` and,
    for each shard, the states of its replicas."""
    system = r.db("rethinkdb")
    return r.expr(
        {
            "servers": system.table("server_status").count(),
            "tables": system.table("table_status")
            .filter({"db": database})
            .map(lambda row: {"name": row["name"], "shards": row["shards"].map(_states)})
            .coerce_to("array"),
        }
    )


def _states(shard: Term) -> Term:
    return shard["replicas"]["state"]


def disk_counter(node: str) -> Term:
    """A worker's counter."""
    return STRICT.table("cluster").get(rows.disk_id(node))["counter"].default(0)


def rings(view: View) -> Term:
    """Which worker is on which ring."""
    return view.table("cluster").get("rings")["rings"].default({})


# -- copies ------------------------------------------------------------------------


def copies_of(view: View, segments: Collection[str]) -> Term:
    """Rows of the copies whose own time runs, each with its ``worker``: null, or
    whether that lives and its load."""
    return r.do(sent(rows.stored_segments(segments)), _copies_of(view))


@cache
def _copies_of(view: View) -> Term:
    # The one question that is asked often enough for the making of its term to count:
    # 0.4 ms, as long as RethinkDB takes to answer it.
    services = view.table("services")

    def with_worker(row: Term, now: Term) -> Term:
        # Of any other text, a key might be too long, which fails the whole query.
        is_name = is_a(row["node"], "STRING") & row["node"].match(NODE_NAME).ne(None)
        node = r.branch(is_name, row["node"], "")
        state = services.get(r.expr(f"{rows.NODES}:") + node + ":None").do(
            lambda worker: r.branch(
                worker.eq(None), None, [alive(worker, now), number(worker["load"])]
            )
        )
        return row.merge({"worker": state})

    def answer(segments: Term, now: Term) -> Term:
        return (
            services.get_all(r.args(segments), index="segment")
            .filter(
                lambda row: (
                    r.expr([READ, WRITE]).contains(row["role"].default(None)) & alive(row, now)
                )
            )
            .map(lambda row: with_worker(row, now))
            .coerce_to("array")
        )

    return r.ast.Func(lambda segments: view.at(lambda now: answer(segments, now)))


def readable_page(view: View, pattern: str | None, after: str, size: int) -> Term:
    """``{"rows", "last"}``: of the next `size` rows in role READ, those whose own time
    runs and whose segment matches; and where they ended, null at the end of all.

    :param after: where the last page ended; empty for the first one
    """
    page = (
        view.table("services")
        .between(after or f"{READ}:", f"{READ};", left_bound="open")
        .order_by(index="id")
        .limit(size)
        .coerce_to("array")
    )

    def answer(now: Term) -> Term:
        return page.do(
            lambda found: {
                "rows": found.filter(
                    lambda row: alive(row, now) & _matches(row["segment"], pattern)
                ),
                "last": r.branch(found.count().eq(size), found[-1]["id"].default(None), None),
            }
        )

    return view.at(answer)


def try_pattern(pattern: str) -> Term:
    """Fails where RethinkDB does not take the pattern."""
    return r.expr("").match(pattern)


# -- which segments there are --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Range:
    """A part of an index of a table with segments; `low` is in it, `high` is not."""

    table: str
    index: str
    low: Any
    high: Any

    @property
    def of_copies(self) -> bool:
        """Whether its rows are copies, which exist only while their workers live."""
        return self.table == "services"


def existing_ranges(pattern: str | None) -> list[Range]:
    """Queries whose rows include those of all segments that match.

    In this order. A lock is released only once its segment is assigned or served, so a reader that
    runs all of them finds the segment in one.
    """
    first, end = id_range(pattern)
    last_lock = rows.lock_id(end) if end is not None else LOCKS[1]
    found = [Range("lock", "id", rows.lock_id(first), last_lock)]
    for table in ("assignment", "services"):
        if first.isdecimal() or not first:
            # Numbers, where an original client had sent some, come before all text.
            found.append(Range(table, "segment", r.minval, ""))
        found.append(Range(table, "segment", first, r.maxval if end is None else end))
    return found


def beginning_after(part: Range, segment: str) -> Range:
    """A range without the texts up to this id, which may stay in it itself."""
    if not segment or not isinstance(part.low, str):
        return part
    low = rows.lock_id(segment) if part.table == "lock" else segment
    return replace(part, low=max(part.low, low))


def existing_page(part: Range, pattern: str | None, after: Any, size: int) -> Term:
    """``{"rows", "last"}``: of the next `size` rows of a range, those whose segment matches;
    and where they ended in the index, null at the end of all.

    :param after: where the last page ended; None for the first one
    """
    page = (
        STRICT.table(part.table)
        .between(
            part.low if after is None else after,
            part.high,
            index=part.index,
            left_bound="closed" if after is None else "open",
        )
        .order_by(index=part.index)
        .limit(size)
        .coerce_to("array")
    )

    def exists(row: Term, now: Term) -> Term:
        if not part.of_copies:
            return r.expr(True)
        return row["role"].default(None).eq(READ) & alive(row, now)

    def answer(now: Term) -> Term:
        return page.do(
            lambda found: {
                "rows": found.filter(
                    lambda row: exists(row, now) & _matches(row["segment"], pattern)
                )
                .pluck("id", "segment", "node")
                .coerce_to("array"),
                "last": r.branch(found.count().eq(size), found[-1][part.index].default(None), None),
            }
        )

    return STRICT.at(answer)


def _matches(segment: Term, pattern: str | None) -> Term:
    # A number where an original client had sent one: its text is the id.
    text = segment.coerce_to("string").default("")
    return r.expr(True) if pattern is None else text.match(pattern).ne(None)


def unplaced(pattern: str | None) -> Term:
    """Segments in canonical storage that no worker takes, as far as they match."""
    found = STRICT.table("cluster").get("inventory")["unplaced"].default([])
    if pattern is None:
        return found
    return found.filter(lambda segment: segment.match(pattern).ne(None))


def is_known(view: View, segment: str) -> Term:
    """Whether a segment has a row in ``lock`` or ``assignment``."""
    lock = view.table("lock").get(rows.lock_id(segment))
    return lock.ne(None) | by_segment(view.table("assignment"), segment).is_empty().not_()


def inventory() -> Term:
    """The leader's last record of the segments that exist, or null."""
    return STRICT.table("cluster").get("inventory").without("unplaced").default(None)


def last_deletion() -> Term:
    """The number of the last deletion of a segment."""
    return STRICT.table("cluster").get("deletions")["last"].default(0)


def deleted_since(seen: int) -> Term:
    """Segments that were deleted after the deletion of this number."""
    later = STRICT.table("cluster").between([DELETED, seen], [DELETED, r.maxval], left_bound="open")
    # A range takes twice as long to read as the number, which nearly always is enough.
    return r.branch(last_deletion() > seen, later["segment"].coerce_to("array"), [])


# -- write locks -------------------------------------------------------------------


def locks_page(after: str, size: int) -> Term:
    """Rows of the next `size` write locks; `after` is the last one's id, or empty."""
    first, last = LOCKS
    return (
        STRICT.table("lock")
        .between(after or first, last, left_bound="open")
        .order_by(index="id")
        .limit(size)
        .coerce_to("array")
    )


def locks_of_worker(node: str) -> Term:
    """Rows of one worker's write locks."""
    return STRICT.table("lock").get_all(node, index="node").coerce_to("array")


def count_locks(node: str | None = None) -> Term:
    """How many write locks there are, or one worker has."""
    table = STRICT.table("lock")
    found = table.between(*LOCKS) if node is None else table.get_all(node, index="node")
    return found.count()


def watch_locks() -> Term:
    """A changefeed of all write locks, of what watchers are told."""
    told = r.table("lock").between(*LOCKS).pluck(*TOLD)
    return _feed(told)


# -- assignments -------------------------------------------------------------------


def assignments_page(view: View, node: str | None, after: str, size: int) -> Term:
    """Rows of the next `size` assignments, or of one worker's; `after` is the last one's
    id, or empty."""
    # Text sorts last in RethinkDB: keys of other types are foreign, and come before.
    first, last = ("", r.maxval) if node is None else (f"{node}:", f"{node};")
    return (
        view.table("assignment")
        .between(after or first, last, left_bound="open")
        .order_by(index="id")
        .limit(size)
        .coerce_to("array")
    )


def assignments_of_segment(view: View, segment: str) -> Term:
    """Rows of all assignments of one segment."""
    return by_segment(view.table("assignment"), segment).coerce_to("array")


def by_segment(table: Term, segment: str) -> Term:
    """The rows of one segment, in whichever form it is stored."""
    return table.get_all(*rows.stored_segments([segment]), index="segment")


def watch_assignments(node: str) -> Term:
    """A changefeed of one worker's assignments."""
    return _feed(r.table("assignment").between(f"{node}:", f"{node};"))


def _feed(table: Term) -> Term:
    return table.changes(squash=True, include_initial=True, include_states=True)


# -- schemas -----------------------------------------------------------------------


def schemas(view: View) -> Term:
    """Names of all schemas, sorted."""
    return view.table("schema").between("", r.maxval).order_by(index="id")["id"].coerce_to("array")


def schema(view: View, name: str) -> Term:
    """One schema's row, or null."""
    return view.table("schema").get(name)
