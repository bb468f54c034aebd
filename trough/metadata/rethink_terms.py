"""Questions to RethinkDB and changes of it, as ReQL terms.

Building a term does no I/O, so the servers' :mod:`trough.metadata.rethink` and the Python
client's :mod:`trough.metadata.rethink_blocking` ask the same questions. Each term answers
with one value (never a cursor), which :mod:`trough.metadata.rethink_rows` reads. A change
that depends on a state looks at it in the same term; on one row, atomically.

The tables are named here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rethinkdb import RethinkDB

from trough.metadata import rethink_rows as rows
from trough.model import READ, WRITE, Assignment, CanonicalCopy, Copy, Leader, Lock, Schema, Worker

r = RethinkDB()
Term = Any

#: The tables and their indexes. The first four are an original installation's.
TABLES: dict[str, tuple[str, ...]] = {
    "services": ("segment", "role"),
    "schema": (),
    "lock": ("node",),
    "assignment": ("segment",),
    "epoch": (),  # the last epoch of each segment's write lock
    "cluster": (),  # rings, and workers that are to be emptied
}

#: What a term is run with: on disk, or only in the memory of a majority's servers.
DURABLE = {"durability": "hard"}
SOFT = {"durability": "soft"}

_NODES = (f"{rows.NODES}:", f"{rows.NODES};")  # ";" comes next after ":"
_LAST = r.maxval


@dataclass(frozen=True)
class View:
    """How a question is asked.

    :ivar mode: RethinkDB's read mode
    :ivar frozen: judge by the time of the last heartbeat that could be written, for
        when nobody can write: dead are then those who had died before
    """

    mode: str
    frozen: bool = False

    def table(self, name: str) -> Term:
        return r.table(name, read_mode=self.mode)

    def at(self, term: Callable[[Term], Term]) -> Term:
        """`term`, given the time by which to judge what is alive."""
        if not self.frozen:
            return r.expr(term(r.now()))
        last = self.table("services").between(*_NODES)["last_heartbeat"].max()
        return r.do(last.default(r.now()), term)


#: For what decides something.
STRICT = View("majority")
#: For everything else.
PRESENT = View("single")
#: For reading on when a table has no majority any more.
FROZEN = View("outdated", frozen=True)


def _alive(row: Term, now: Term) -> Term:
    unreaped = row.has_fields("reaped_on").not_()
    return (unreaped & (row["last_heartbeat"] + row["ttl"] > now)).default(False)


def _sent(value: Any) -> Term:
    """A value, parsed by the server: building terms of large ones takes far longer."""
    return r.json(json.dumps(value))


def _written(write: Term) -> Term:
    """The row that a write of one row found and left: ``{"old_val", "new_val"}``."""
    return write["changes"][0]


# -- leadership --------------------------------------------------------------------


def leading(view: View) -> Term:
    """The leader's row, or null."""

    def living(now: Term) -> Term:
        return (
            view.table("services")
            .get(rows.LEADER_ID)
            .do(lambda row: r.branch(row.eq(None), None, _alive(row, now), row, None))
        )

    return view.at(living)


def campaign(candidate: Leader) -> Term:
    """The leader's row after `candidate` took or renewed it, if it could."""
    fresh = r.expr(rows.leader_row(candidate))

    def taken(row: Term) -> Term:
        return fresh.merge(
            {
                "generation": row["generation"].default(0) + 1,
                "first_heartbeat": r.now(),
                "last_heartbeat": r.now(),
            }
        )

    def decide(row: Term) -> Term:
        mine = row["identity"].default("").eq(candidate.identity)
        renewed = fresh.merge(
            row.pluck("generation", "first_heartbeat"), {"last_heartbeat": r.now()}
        )
        alive = _alive(row, r.now())
        return r.branch(row.eq(None), taken(row), alive.not_(), taken(row), mine, renewed, row)

    found = r.table("services").get(rows.LEADER_ID).replace(decide, return_changes="always")
    return _written(found)["new_val"]


def resign(leader: Leader) -> Term:
    """Let the lease end now, if it is still this one's."""
    return (
        r.table("services")
        .get(rows.LEADER_ID)
        .update(
            lambda row: r.branch(_is(row, leader), {"last_heartbeat": r.epoch_time(0)}, {}),
        )
    )


def _is(row: Term, leader: Leader) -> Term:
    same = row["identity"].eq(leader.identity) & row["generation"].eq(leader.generation)
    return same.default(False)


def as_leader(leader: Leader, change: Term) -> Term:
    """``{"leader": row or null, "done": result}``; `done` is null, and `change` was not
    carried out, where `leader` leads no more."""

    def judged(row: Term) -> Term:
        done = r.branch(row.eq(None), None, _is(row, leader), change, None)
        return r.do(done, lambda result: {"leader": row, "done": result})

    return r.do(leading(STRICT), judged)


# -- workers -----------------------------------------------------------------------


def start_worker(worker: Worker, incarnation: str) -> Term:
    """Write a worker's row, marked; see :func:`beat` for the answer."""
    return _write_worker(worker, lambda row: {"incarnation": incarnation, "reaped_on": r.now()})


def beat(worker: Worker, incarnation: str) -> Term:
    """Renew a worker's row, unless another live one has the name.

    Answers with the row as it is now. Its ``incarnation`` stays for as long as what the
    worker published does: an answer that was lost on the way can be had again.

    :param incarnation: for a row that is new or was marked
    """

    def incarnations(row: Term) -> Term:
        kept = row.eq(None).not_() & row.has_fields("reaped_on").not_()
        return {
            "incarnation": r.branch(
                kept.default(False), row["incarnation"].default(incarnation), incarnation
            )
        }

    return _write_worker(worker, incarnations)


def _write_worker(worker: Worker, more: Callable[[Term], Any]) -> Term:
    def decide(row: Term) -> Term:
        other = row["identity"].default("").ne(worker.identity)
        taken = r.branch(row.eq(None), False, _alive(row, r.now()) & other)
        times = {
            "first_heartbeat": row["first_heartbeat"].default(r.now()),
            "last_heartbeat": r.now(),
        }
        fresh = r.expr(rows.worker_row(worker)).merge(times, more(row))
        return r.branch(taken, row, fresh)

    place = r.table("services").get(rows.worker_id(worker.node))
    return _written(place.replace(decide, return_changes="always"))["new_val"]


def workers(view: View) -> Term:
    """``{"workers": rows of the living, "draining": names}``."""
    return view.at(
        lambda now: {
            "workers": view.table("services")
            .between(*_NODES)
            .filter(lambda row: _alive(row, now))
            .coerce_to("array"),
            "draining": view.table("cluster").get("draining")["nodes"].default([]),
        }
    )


def worker_states(view: View) -> Term:
    """For each worker that has a row ``[node, alive, load]``."""
    return view.at(
        lambda now: (
            view.table("services")
            .between(*_NODES)
            .map(lambda row: [row["node"], _alive(row, now), row["load"].default(0)])
            .coerce_to("array")
        )
    )


def retire_worker(worker: Worker) -> Term:
    """Mark a worker that stops."""
    return (
        r.table("services")
        .get(rows.worker_id(worker.node))
        .update(
            lambda row: r.branch(
                row["identity"].default("").eq(worker.identity), {"reaped_on": r.now()}, {}
            )
        )
    )


def mark_dead() -> Term:
    """Mark the workers that ran out; answers with the names of all that are marked."""
    nodes = r.table("services").between(*_NODES)

    def marked(row: Term) -> Term:
        ran_out = row["last_heartbeat"] + row["ttl"] <= r.now()
        unmarked = row.has_fields("reaped_on").not_()
        return r.branch((ran_out & unmarked).default(False), {"reaped_on": r.now()}, {})

    def dead(row: Term) -> Term:
        return row.has_fields("reaped_on") & (row["last_heartbeat"] + row["ttl"] <= r.now())

    return r.do(
        nodes.update(marked),
        lambda _: STRICT.table("services").between(*_NODES).filter(dead)["node"].coerce_to("array"),
    )


def remove_copies_of_marked(node: str, role: str, limit: int) -> Term:
    """Remove some copies of a marked worker; answers with how many.

    Those published since the mark stay: the worker lives again.
    """
    place = STRICT.table("services").get(rows.worker_id(node))

    def remove(marked_on: Term) -> Term:
        return (
            r.table("services")
            .between(rows.copy_id(role, node, ""), f"{role}:{node};")
            .filter(lambda row: row["last_heartbeat"] <= marked_on)
            .limit(limit)
            .replace(
                lambda row: r.branch(
                    (row["last_heartbeat"] <= marked_on).default(False), None, row
                ),
                **SOFT,
            )["deleted"]
        )

    return place["reaped_on"].default(None).do(lambda on: r.branch(on.eq(None), 0, remove(on)))


def remove_marked(node: str) -> Term:
    """Remove a worker's row, if it is still marked."""
    return (
        r.table("services")
        .get(rows.worker_id(node))
        .replace(lambda row: r.branch(row.has_fields("reaped_on").default(False), None, row))
    )


def set_draining(node: str, draining: bool) -> Term:
    """Add a worker to those that are to be emptied, or remove it."""

    def changed(row: Term) -> Term:
        nodes = row["nodes"].default([])
        after = nodes.set_insert(node) if draining else nodes.set_difference([node])
        return {"id": "draining", "nodes": after}

    return r.table("cluster").get("draining").replace(changed)


def draining(view: View) -> Term:
    """Names of the workers that are to be emptied."""
    return view.table("cluster").get("draining")["nodes"].default([])


def rings(view: View) -> Term:
    """Which worker is on which ring."""
    return view.table("cluster").get("rings")["rings"].default({})


def save_rings(leader: Leader, rings: Mapping[str, int]) -> Term:
    """Replace which worker is on which ring; see :func:`as_leader`."""
    fresh = {"id": "rings", "rings": _sent(dict(rings)), "generation": leader.generation}
    write = (
        r.table("cluster")
        .get("rings")
        .replace(lambda row: r.branch(row["generation"].default(0) > leader.generation, row, fresh))
    )
    return as_leader(leader, write)


# -- copies ------------------------------------------------------------------------


def publish_copies(copies: Sequence[Copy]) -> Term:
    """Add copies, or renew them."""
    times = {"first_heartbeat": r.now(), "last_heartbeat": r.now()}
    return r.table("services").insert(
        _sent([rows.copy_row(copy) for copy in copies]).merge(times),
        conflict=lambda _, old, new: new.merge(old.pluck("first_heartbeat")),
    )


def withdraw_copies(node: str, segments: Collection[str], role: str) -> Term:
    """Remove copies of one worker in one role."""
    ids = [rows.copy_id(role, node, segment) for segment in segments]
    return r.table("services").get_all(r.args(_sent(ids))).delete()


def copies_of(view: View, segments: Collection[str]) -> Term:
    """Rows of the copies whose own time runs, each with its ``worker``: null, or
    whether that lives and its load."""
    services = view.table("services")

    def answer(now: Term) -> Term:
        def with_worker(row: Term) -> Term:
            state = services.get(r.expr(f"{rows.NODES}:") + row["node"] + ":None").do(
                lambda worker: r.branch(
                    worker.eq(None), None, [_alive(worker, now), worker["load"].default(0)]
                )
            )
            return row.merge({"worker": state})

        return (
            services.get_all(r.args(_sent(list(segments))), index="segment")
            .filter(lambda row: r.expr([READ, WRITE]).contains(row["role"]) & _alive(row, now))
            .map(with_worker)
            .coerce_to("array")
        )

    return view.at(answer)


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

    def matching(row: Term) -> Term:
        return True if pattern is None else row["segment"].match(pattern).ne(None)

    def answer(now: Term) -> Term:
        return page.do(
            lambda found: {
                "rows": found.filter(lambda row: _alive(row, now) & matching(row)),
                "last": r.branch(found.count().eq(size), found[-1]["id"].default(None), None),
            }
        )

    return view.at(answer)


def try_pattern(pattern: str) -> Term:
    """Fails where RethinkDB does not take the pattern."""
    return r.expr("").match(pattern)


# -- write locks -------------------------------------------------------------------


def take_lock(segment: str, node: str, claim: str) -> Term:
    """Take the write lock unless somebody has it; see :func:`lock_of` for the answer.

    :param claim: random; tells this taking from every other one
    """
    fresh = {
        "id": rows.lock_id(segment),
        "segment": segment,
        "node": node,
        "acquired_on": r.now(),
        "claim": claim,
    }
    return r.table("lock").insert(fresh, conflict="error").do(lambda _: lock_of(segment))


def lock_of(segment: str) -> Term:
    """The write lock's row, with an epoch; or null; or without an epoch where it changed
    hands meanwhile, and has to be asked for again.

    A lock is first held and then given the next epoch, so that epochs grow in the order
    of ownership. Whoever finds one without, because its taker died in between or was of
    an original installation, gives it one: to the row as it was seen, and to no later one.
    """
    place = r.table("lock", read_mode="majority").get(rows.lock_id(segment))

    def next_epoch(row: Term) -> Term:
        return {"id": segment, "epoch": row["epoch"].default(0) + 1}

    def complete(seen: Term) -> Term:
        epoch = r.table("epoch").get(segment).replace(next_epoch, return_changes="always")
        return _written(epoch)["new_val"]["epoch"].do(
            lambda number: _written(
                place.update(
                    lambda row: r.branch(row.eq(seen), {"epoch": number}, {}),
                    return_changes="always",
                )
            )["new_val"]
        )

    return place.do(
        lambda seen: r.branch(seen.eq(None), None, seen.has_fields("epoch"), seen, complete(seen))
    )


def release_lock(lock: Lock) -> Term:
    """Free a write lock, if it is this one; answers with the row that is there then."""
    place = r.table("lock").get(rows.lock_id(lock.segment))

    def decide(row: Term) -> Term:
        mine = row["node"].eq(lock.node) & row["epoch"].eq(lock.epoch)
        return r.branch(mine.default(False), None, row)

    return _written(place.replace(decide, return_changes="always"))["new_val"]


def locks_page(after: str, size: int) -> Term:
    """Rows of the next `size` write locks; `after` is the last one's id, or empty."""
    return (
        STRICT.table("lock")
        .between(after, _LAST, left_bound="open")
        .order_by(index="id")
        .limit(size)
        .coerce_to("array")
    )


def locks_of_worker(node: str) -> Term:
    """Rows of one worker's write locks."""
    return STRICT.table("lock").get_all(node, index="node").coerce_to("array")


def watch_locks() -> Term:
    """A changefeed of all write locks."""
    return _feed(r.table("lock"))


# -- assignments -------------------------------------------------------------------


def assignments_page(view: View, node: str | None, after: str, size: int) -> Term:
    """Rows of the next `size` assignments, or of one worker's; `after` is the last one's
    id, or empty."""
    first, last = (r.minval, _LAST) if node is None else (f"{node}:", f"{node};")
    return (
        view.table("assignment")
        .between(after or first, last, left_bound="open")
        .order_by(index="id")
        .limit(size)
        .coerce_to("array")
    )


def assignments_of_segment(view: View, segment: str) -> Term:
    """Rows of all assignments of one segment."""
    return view.table("assignment").get_all(segment, index="segment").coerce_to("array")


def change_assignments(
    leader: Leader, put: Sequence[Assignment], remove: Sequence[tuple[str, str]]
) -> Term:
    """Carry out a part of a plan; see :func:`as_leader`.

    Beside the leader's row, each row tells whether a later leader has been there.
    """
    table = r.table("assignment")

    def later(row: Term) -> Term:
        return row["generation"].default(0) > leader.generation

    more = {"generation": leader.generation, "assigned_on": r.now()}
    inserted = table.insert(
        _sent([rows.assignment_row(assignment) for assignment in put]).merge(more),
        conflict=lambda _, old, new: r.branch(later(old), old, new),
    )
    ids = [rows.assignment_id(node, segment) for node, segment in remove]
    removed = table.get_all(r.args(_sent(ids))).replace(lambda row: r.branch(later(row), row, None))
    return as_leader(leader, {"put": inserted, "removed": removed})


def announce_version(copy: CanonicalCopy) -> Term:
    """Move a segment's assignments to a later canonical copy."""
    known = r.table("assignment").get_all(copy.segment, index="segment")

    def moved(row: Term) -> Term:
        version = [row["modified"].default(0), row["bytes"].default(0)]
        later = r.expr(version) < [copy.modified, copy.size]
        return r.branch(later, rows.version_fields(copy), {})

    return known.update(moved)


def forget_assignments(segment: str) -> Term:
    """Remove all assignments of a segment."""
    return r.table("assignment").get_all(segment, index="segment").delete()


def forget_copies(segment: str) -> Term:
    """Remove all copies of a segment."""
    return r.table("services").get_all(segment, index="segment").delete()


def watch_assignments(node: str) -> Term:
    """A changefeed of one worker's assignments."""
    return _feed(r.table("assignment").between(f"{node}:", f"{node};"))


def _feed(table: Term) -> Term:
    return table.changes(squash=True, include_initial=True, include_states=True)


# -- schemas -----------------------------------------------------------------------


def schemas(view: View) -> Term:
    """Names of all schemas, sorted."""
    return view.table("schema").order_by(index="id")["id"].coerce_to("array")


def schema(view: View, name: str) -> Term:
    """One schema's row, or null."""
    return view.table("schema").get(name)


def put_schema(schema: Schema) -> Term:
    """Add or replace a schema."""
    fresh = {"id": schema.id, "sql": schema.sql}
    return r.table("schema").insert(fresh, conflict="replace")


def put_default_schema(schema: Schema) -> Term:
    """Add a schema, unless there is one of that name."""
    fresh = {"id": schema.id, "sql": schema.sql}
    return r.table("schema").insert(fresh, conflict=lambda _, old, new: old)
