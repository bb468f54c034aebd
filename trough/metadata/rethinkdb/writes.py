"""Changes of RethinkDB, as ReQL terms; see :mod:`trough.metadata.rethinkdb.terms`.

One that depends on a state looks at it in the same term; atomically where it is that of
the row that is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from trough.metadata import conditions
from trough.metadata.rethinkdb import rows
from trough.metadata.rethinkdb.reads import by_segment, deleted_since, last_deletion, leading
from trough.metadata.rethinkdb.terms import (
    DELETED,
    NODES,
    SOFT,
    STRICT,
    Term,
    alive,
    ends,
    is_a,
    number,
    r,
    sent,
    written,
)
from trough.model import CLEAN, Assignment, CanonicalCopy, Copy, Leader, Lock, Schema, Worker

# -- leadership --------------------------------------------------------------------


def campaign(candidate: Leader) -> Term:
    """The leader's row after `candidate` took or renewed it, if it could."""
    fresh = r.expr(rows.leader_row(candidate))

    def taken(row: Term) -> Term:
        return fresh.merge(
            {
                "generation": number(row["generation"]) + 1,
                "first_heartbeat": r.now(),
                "last_heartbeat": r.now(),
            }
        )

    def decide(row: Term) -> Term:
        mine = row["identity"].default("").eq(candidate.identity)
        renewed = fresh.merge(
            row.pluck("generation", "first_heartbeat"), {"last_heartbeat": r.now()}
        )
        lives = alive(row, r.now())
        return r.branch(row.eq(None), taken(row), lives.not_(), taken(row), mine, renewed, row)

    found = r.table("services").get(rows.LEADER_ID).replace(decide, return_changes="always")
    return written(found)["new_val"]


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
        taken = r.branch(row.eq(None), False, alive(row, r.now()) & other)
        times = {
            "first_heartbeat": r.branch(
                is_a(row["first_heartbeat"], "PTYPE<TIME>"), row["first_heartbeat"], r.now()
            ),
            "last_heartbeat": r.now(),
        }
        fresh = r.expr(rows.worker_row(worker)).merge(times, more(row))
        return r.branch(taken, row, fresh)

    place = r.table("services").get(rows.worker_id(worker.node))
    return written(place.replace(decide, return_changes="always"))["new_val"]


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


def mark_dead(slack: float) -> Term:
    """Mark the workers that ran out; answers with the names of all that are marked.

    Foreign rows stay as they are.

    :param slack: seconds by which the servers' clocks may differ
    """
    nodes = r.table("services").between(*NODES)
    before, after = rows.worker_id("\0").split("\0")

    def ran_out(row: Term) -> Term:
        is_worker = is_a(row["node"], "STRING") & row["id"].eq(r.add(before, row["node"], after))
        return is_worker & (ends(row) + slack <= r.now())

    def marked(row: Term) -> Term:
        unmarked = row.has_fields("reaped_on").not_()
        return r.branch(ran_out(row) & unmarked, {"reaped_on": r.now()}, {})

    def dead(row: Term) -> Term:
        return row.has_fields("reaped_on") & ran_out(row)

    return r.do(
        nodes.update(marked),
        lambda _: STRICT.table("services").between(*NODES).filter(dead)["node"].coerce_to("array"),
    )


def mark_lost(node: str) -> Term:
    """Mark a worker that will not return; answers with whether it is alive instead."""
    place = r.table("services").get(rows.worker_id(node))

    def decide(row: Term) -> Term:
        marked = row.merge({"reaped_on": r.now()})
        return r.branch(row.eq(None), None, alive(row, r.now()), row, marked)

    left = written(place.replace(decide, return_changes="always"))["new_val"]
    return left.do(lambda row: r.branch(row.eq(None), False, alive(row, r.now())))


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


def pause(node: str, seconds: float) -> Term:
    """Have a worker's copies not moved for so long."""
    until = r.now().to_epoch_time() + seconds

    def changed(row: Term) -> Term:
        others = row["until"].default({}).without(node)
        return {"id": "paused", "until": others.merge({node: until}) if seconds > 0 else others}

    return r.table("cluster").get("paused").replace(changed)


def note_disk_counter(node: str, counter: int) -> Term:
    """Remember a worker's counter, unless a greater one is known."""
    fresh = {"id": rows.disk_id(node), "counter": counter}

    def decide(row: Term) -> Term:
        return r.branch(row["counter"].default(0).lt(counter), fresh, row)

    return r.table("cluster").get(rows.disk_id(node)).replace(decide)


def forget_disk_counter(node: str) -> Term:
    """Remove a worker's counter."""
    return r.table("cluster").get(rows.disk_id(node)).delete()


def forget_place(node: str) -> Term:
    """Remove a worker from its ring."""

    def without(row: Term) -> Any:
        return {"rings": r.literal(row["rings"].without(node))}

    return r.table("cluster").get("rings").update(without)


def save_rings(leader: Leader, rings: Mapping[str, int], known: Mapping[str, int]) -> Term:
    """Replace which worker is on which ring, as long as that is `known` and no later leader
    has been there; answers with what is there then. See :func:`as_leader`."""
    fresh = {"id": "rings", "rings": sent(dict(rings)), "generation": leader.generation}

    def decide(row: Term) -> Term:
        later = row["generation"].default(0) > leader.generation
        same = row["rings"].default({}).eq(sent(dict(known)))
        return r.branch(row.eq(None), r.branch(same, fresh, None), later, row, same, fresh, row)

    place = r.table("cluster").get("rings")
    left = written(place.replace(decide, return_changes="always"))["new_val"]
    return as_leader(leader, left["rings"].default({}))


def save_inventory(leader: Leader, known: bool, unplaced: Collection[str]) -> Term:
    """Record whether all segments are listed; answers with the present record. See
    :func:`as_leader`."""
    fresh = {
        "id": "inventory",
        "known": known,
        "unplaced": sent(list(unplaced)),
        "generation": leader.generation,
    }

    def decide(row: Term) -> Term:
        later = row["generation"].default(0) > leader.generation
        change = row["change"].default(0) + 1
        return r.branch(later, row, r.expr(fresh).merge({"change": change}))

    place = r.table("cluster").get("inventory")
    left = written(place.replace(decide, return_changes="always"))["new_val"]
    return as_leader(leader, left.without("unplaced"))


# -- copies ------------------------------------------------------------------------


def publish_copies(copies: Sequence[Copy]) -> Term:
    """Add copies, or renew them."""
    times = {"first_heartbeat": r.now(), "last_heartbeat": r.now()}
    return r.table("services").insert(
        sent([rows.copy_row(copy) for copy in copies]).merge(times),
        conflict=lambda _, old, new: new.merge(old.pluck("first_heartbeat")),
    )


def withdraw_copies(node: str, segments: Collection[str], role: str) -> Term:
    """Remove copies of one worker in one role."""
    ids = [rows.copy_id(role, node, segment) for segment in segments]
    return r.table("services").get_all(r.args(sent(ids))).delete()


# -- write locks -------------------------------------------------------------------


def take_lock(segment: str, node: str, disk: str, claim: str) -> Term:
    """Take the write lock unless a worker has it; see :func:`lock_of` for the answer.

    :param disk: of the worker, or empty
    :param claim: random; distinguishes this attempt from every other one
    """
    fresh = {
        "id": rows.lock_id(segment),
        "segment": segment,
        "node": node,
        "acquired_on": r.now(),
        "dirty_since": r.now().to_epoch_time(),
        "claim": claim,
        **({"disk": disk} if disk else {}),
    }
    return r.table("lock").insert(fresh, conflict="error").do(lambda _: lock_of(segment))


def lock_of(segment: str) -> Term:
    """The write lock's row, with an epoch; or null; or without an epoch where it changed
    hands meanwhile, and has to be asked for again.

    A lock is first held and then gets the next epoch, so epochs grow in the order of ownership. A
    lock may lack an epoch because its taker died in between, or was of an original installation.
    Then the next process that reads it gives it one, if the row is still the same.
    """
    place = r.table("lock", read_mode="majority").get(rows.lock_id(segment))

    def next_epoch(row: Term) -> Term:
        return {"id": segment, "epoch": row["epoch"].default(0) + 1}

    def complete(seen: Term) -> Term:
        epoch = r.table("epoch").get(segment).replace(next_epoch, return_changes="always")
        return written(epoch)["new_val"]["epoch"].do(
            lambda number: written(
                place.update(
                    lambda row: r.branch(row.eq(seen), {"epoch": number}, {}),
                    return_changes="always",
                )
            )["new_val"]
        )

    return place.do(
        lambda seen: r.branch(seen.eq(None), None, seen.has_fields("epoch"), seen, complete(seen))
    )


def change_lock(expected: Lock, wanted: Lock) -> Term:
    """Change a lock that is as expected; answers with the row that is there then.

    The epoch's own row is moved first: the next holder after its release gets a greater
    epoch. It does no harm if the change is not carried out then.
    """
    place = r.table("lock").get(rows.lock_id(expected.segment))
    known, fresh = rows.lock_fields(expected), rows.lock_fields(wanted)
    times: dict[str, Any] = {}
    if expected.holder != wanted.holder:
        times = {"acquired_on": r.now(), "dirty_since": r.now().to_epoch_time()}

    def decide(row: Term) -> Term:
        unknown = {"disk": "", "revision": 0, "followers": []}
        now = r.expr(unknown).merge(row).pluck(*known)
        same = r.branch(row.eq(None), False, now.eq(sent(known)))
        return r.branch(same, row.merge(sent(fresh), times), row)

    def later(row: Term) -> Term:
        last = row["epoch"].default(0)
        epoch = r.branch(last.lt(wanted.epoch), wanted.epoch, last)
        return {"id": expected.segment, "epoch": epoch}

    change = written(place.replace(decide, return_changes="always"))["new_val"]
    if wanted.epoch == expected.epoch:
        return change
    return r.table("epoch").get(expected.segment).replace(later).do(lambda _: change)


def release_lock(lock: Lock) -> Term:
    """Free a write lock, if it is this one; answers with the row that is there then."""
    place = r.table("lock").get(rows.lock_id(lock.segment))

    def decide(row: Term) -> Term:
        return r.branch(_in_force(row, lock), None, row)

    return written(place.replace(decide, return_changes="always"))["new_val"]


def _in_force(row: Term, lock: Lock) -> Term:
    return (row["node"].eq(lock.node) & row["epoch"].eq(lock.epoch)).default(False)


def mark_dirty(lock: Lock) -> Term:
    """Note that there may be unpromoted writes under a lock, if it is in force; answers with
    the row that is there then."""
    place = r.table("lock").get(rows.lock_id(lock.segment))

    def decide(row: Term) -> Term:
        marked = row.merge({"dirty_since": lock.dirty_since})
        return r.branch(_in_force(row, lock), marked, row)

    return written(place.replace(decide, return_changes="always"))["new_val"]


def mark_clean(locks: Sequence[Lock]) -> Term:
    """Note that there are none under these locks, unless they were marked dirty again."""
    known = {
        rows.lock_id(lock.segment): {
            "node": lock.node,
            "epoch": lock.epoch,
            "dirty_since": lock.dirty_since,
        }
        for lock in locks
    }

    def decide(row: Term) -> Term:
        # A lock without the field is as one of which nothing is known.
        now = {
            "node": row["node"],
            "epoch": row["epoch"],
            "dirty_since": row["dirty_since"].default(None),
        }
        same = r.expr(now).eq(sent(known)[row["id"]]).default(False)
        return r.branch(same, {"dirty_since": CLEAN}, {})

    return r.table("lock").get_all(r.args(sent(list(known)))).update(decide)


def release_clean_locks(leader: Leader, node: str, limit: int) -> Term:
    """Release some of a worker's clean locks; answers with their rows. See :func:`as_leader`."""

    def clean(row: Term) -> Term:
        return (row["node"].eq(node) & row["dirty_since"].eq(CLEAN)).default(False)

    # Judged once more where the row is changed: it may have been marked meanwhile.
    released = (
        r.table("lock")
        .get_all(node, index="node")
        .filter(clean)
        .limit(limit)
        .replace(lambda row: r.branch(clean(row), None, row), return_changes=True)
    )
    return as_leader(leader, released)


# -- assignments -------------------------------------------------------------------


def change_assignments(
    leader: Leader,
    put: Sequence[Assignment],
    remove: Sequence[tuple[str, str]],
    locate: rows.Locate,
    seen: int | None = None,
) -> Term:
    """Carry out a part of a plan; see :func:`as_leader`. Answers with ``{"last": number of the last
    deletion}`` where that many are not remembered, and nothing was changed; else ``deleted``
    has the segments that were deleted since `seen`, and further fields how the writes went.

    Beside the leader's row, each row has the generation of the leader that wrote it.
    """
    rows_put = sent([rows.assignment_row(assignment, locate) for assignment in put]).merge(
        {"generation": leader.generation, "assigned_on": r.now()}
    )
    ids = [rows.assignment_id(node, segment) for node, segment in remove]
    removed = (
        r.table("assignment")
        .get_all(r.args(sent(ids)))
        .replace(lambda row: r.branch(_is_later(row, leader), row, None))
    )
    # In this order: what is put stays, even where it is removed as well.
    if seen is None:
        change = removed.do(
            lambda removed: _put(leader, rows_put).do(
                lambda put: {"removed": removed, "put": put, "deleted": []}
            )
        )
        return as_leader(leader, change)
    # Sent once, however often it is used.
    fenced = rows_put.do(
        lambda fresh: deleted_since(seen).do(
            lambda before: removed.do(
                lambda removed: _put_fenced(leader, fresh, before, seen).do(
                    lambda put: put.merge({"removed": removed})
                )
            )
        )
    )
    change = last_deletion().do(
        lambda last: r.branch(last - seen > conditions.DELETIONS, {"last": last}, fenced)
    )
    return as_leader(leader, change)


def _put_fenced(leader: Leader, fresh: Term, before: Term, seen: int) -> Term:
    """Put what was not deleted after the deletion `seen`.

    :param before: what was
    """
    kept = r.branch(before.is_empty(), fresh, fresh.filter(lambda row: _in(before, row).not_()))
    # Once more at the end. A deletion is recorded before it removes rows. So either it
    # removes the rows put here, or this finds its record.
    return _put(leader, kept).do(
        lambda put: deleted_since(seen).do(
            lambda after: _take_back(leader, fresh, before, after).do(
                lambda back: {"put": put, "back": back, "deleted": after}
            )
        )
    )


def _is_later(row: Term, leader: Leader) -> Term:
    return number(row["generation"]) > leader.generation


def _in(segments: Term, row: Term) -> Term:
    return segments.contains(row["segment"])


def _put(leader: Leader, fresh: Term) -> Term:
    return r.table("assignment").insert(
        fresh, conflict=lambda _, old, new: r.branch(_is_later(old, leader), old, new)
    )


def _take_back(leader: Leader, fresh: Term, before: Term, after: Term) -> Term:
    """Remove what was put of segments that were deleted while it was put."""
    late = after.difference(before)
    ids = fresh.filter(lambda row: _in(late, row))["id"]
    own = (
        r.table("assignment")
        .get_all(r.args(ids))
        .replace(lambda row: r.branch(row["generation"].eq(leader.generation), None, row))
    )
    return r.branch(late.is_empty(), None, own)


def announce_version(copy: CanonicalCopy, locate: rows.Locate) -> Term:
    """Move a segment's assignments to a later canonical copy."""
    known = by_segment(r.table("assignment"), copy.segment)

    def moved(row: Term) -> Term:
        version = [number(row["modified"]), number(row["bytes"])]
        later = r.expr(version) < [copy.modified, copy.size]
        return r.branch(later, rows.version_fields(copy, locate), {})

    return known.update(moved)


def forget_assignments(segment: str) -> Term:
    """Remove all assignments of a segment, and remember that it was deleted, unless somebody writes
    it; answers with who."""
    removed = by_segment(r.table("assignment"), segment).delete()
    recorded = _record_deletion(segment)
    # In this order; see change_assignments().
    change = recorded.do(lambda done: r.branch(done["errors"] > 0, done, removed))
    return _unless_written(segment, change)


def _record_deletion(segment: str) -> Term:
    table = r.table("cluster")
    counted = table.get("deletions").replace(
        lambda row: {"id": "deletions", "last": row["last"].default(0) + 1}, return_changes="always"
    )

    def record(last: Term) -> Term:
        old = table.between(
            [DELETED, r.minval], [DELETED, last - conditions.DELETIONS], right_bound="closed"
        )
        row = {"id": [DELETED, last], "segment": segment}
        return old.delete().do(lambda _: table.insert(row, conflict="replace"))

    return written(counted)["new_val"]["last"].do(record)


def forget_copies(segment: str) -> Term:
    """Remove all copies of a segment, unless somebody writes it; answers with who."""
    return _unless_written(segment, by_segment(r.table("services"), segment).delete())


def _unless_written(segment: str, removed: Term) -> Term:
    # Not in one step with what it depends on, but within a millisecond of it.
    holder = STRICT.table("lock").get(rows.lock_id(segment))["node"].default(None)
    told = removed.do(lambda result: r.branch(result["errors"] > 0, result, None))
    return holder.do(lambda node: r.branch(node.eq(None), told, node))


# -- schemas -----------------------------------------------------------------------


def put_schema(schema: Schema) -> Term:
    """Add or replace a schema."""
    fresh = {"id": schema.id, "sql": schema.sql}
    return r.table("schema").insert(fresh, conflict="replace")


def put_default_schema(schema: Schema) -> Term:
    """Add a schema, unless there is one of that name."""
    fresh = {"id": schema.id, "sql": schema.sql}
    return r.table("schema").insert(fresh, conflict=lambda _, old, new: old)
