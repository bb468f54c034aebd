"""Changes of the registry, each a function of a connection, the time and its arguments.

They run inside a write transaction that their caller began (:meth:`Database.change`). So a
condition that is checked here still holds when the change takes effect, and a function that raises
has changed nothing. Rows that watchers get carry the transaction's number; see ``schema_1.sql``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence

from trough.metadata import conditions
from trough.metadata.sqlite import reads
from trough.model import (
    CLEAN,
    Assignment,
    CanonicalCopy,
    Copy,
    Inventory,
    Leader,
    Lock,
    Schema,
    Worker,
)

#: Removals are remembered for so many transactions. A watcher looks ten times a second,
#: and gets the whole list again when it has fallen further behind.
REMEMBERED = 5000

# -- leadership --------------------------------------------------------------------


def campaign(connection: sqlite3.Connection, now: float, candidate: Leader) -> Leader:
    """Take or renew the leadership, or find out who has it."""
    present = reads.leader(connection, now)
    if present is not None and present.identity != candidate.identity:
        return present
    if present is not None:
        generation = present.generation
    else:
        last = connection.execute("SELECT generation FROM leader").fetchone()
        generation = last[0] + 1 if last else 1
    connection.execute(
        "INSERT OR REPLACE INTO leader VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            candidate.node,
            candidate.identity,
            candidate.url,
            candidate.line,
            generation,
            candidate.ttl,
            now,
            candidate.trouble,
        ),
    )
    found = reads.leader(connection, now)
    assert found is not None, "a lease that was just taken runs"
    return found


def resign(connection: sqlite3.Connection, now: float, leader: Leader) -> None:
    """Give the leadership back, if it is still this one's."""
    connection.execute(
        "UPDATE leader SET identity = '' WHERE identity = ? AND generation = ?",
        (leader.identity, leader.generation),
    )


# -- workers -----------------------------------------------------------------------


def start_worker(connection: sqlite3.Connection, now: float, worker: Worker) -> None:
    """Write a worker's row, its earlier copies being still to be removed."""
    _write_worker(connection, now, worker, reaped=True)


def beat(connection: sqlite3.Connection, now: float, worker: Worker) -> bool:
    """Renew a worker's row; whether the copies that it published are still there."""
    row = connection.execute("SELECT reaped FROM worker WHERE node = ?", (worker.node,)).fetchone()
    _write_worker(connection, now, worker, reaped=False)
    return row is not None and not row[0]


def _write_worker(connection: sqlite3.Connection, now: float, worker: Worker, reaped: bool) -> None:
    conditions.refuse_other_worker(reads.worker(connection, now, worker.node), worker)
    connection.execute(
        "INSERT INTO worker VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (node) DO UPDATE SET identity = excluded.identity, line = excluded.line,"
        " read_url = excluded.read_url, write_url = excluded.write_url,"
        " manager_url = excluded.manager_url, capacity = excluded.capacity,"
        " available_bytes = excluded.available_bytes, load = excluded.load,"
        " cold_storage = excluded.cold_storage, ttl = excluded.ttl,"
        " last_heartbeat = excluded.last_heartbeat, reaped = excluded.reaped,"
        " trouble = excluded.trouble, unpromoted = excluded.unpromoted,"
        " unpromoted_bytes = excluded.unpromoted_bytes,"
        " unpromoted_since = excluded.unpromoted_since,"
        " replication = excluded.replication",
        (
            worker.node,
            worker.identity,
            worker.line,
            worker.read_url,
            worker.write_url,
            worker.manager_url,
            worker.capacity,
            worker.available_bytes,
            worker.load,
            worker.cold_storage,
            worker.ttl,
            now,
            now,
            reaped,
            worker.trouble,
            worker.unpromoted,
            worker.unpromoted_bytes,
            worker.unpromoted_since,
            worker.replication,
        ),
    )


def pause(connection: sqlite3.Connection, now: float, node: str, seconds: float) -> None:
    """Have a worker's copies not moved for so long."""
    connection.execute("DELETE FROM pause WHERE node = ? OR until <= ?", (node, now))
    if seconds > 0:
        connection.execute("INSERT INTO pause VALUES (?, ?)", (node, now + seconds))


def retire_worker(connection: sqlite3.Connection, now: float, node: str, identity: str) -> None:
    """Mark a worker that stops: its copies count no more, and are to be removed."""
    connection.execute(
        "UPDATE worker SET reaped = 1 WHERE node = ? AND identity = ?", (node, identity)
    )


def mark_dead(connection: sqlite3.Connection, now: float, leader: Leader) -> list[str]:
    """Mark the workers that ran out, and name all whose copies are to be removed."""
    conditions.refuse_other_leader(reads.leader(connection, now), leader)
    connection.execute("UPDATE worker SET reaped = 1 WHERE last_heartbeat + ttl <= ?", (now,))
    rows = connection.execute(
        "SELECT node FROM worker WHERE reaped AND last_heartbeat + ttl <= ? ORDER BY node", (now,)
    )
    return [row[0] for row in rows]


def remove_copies_of_marked(
    connection: sqlite3.Connection, now: float, node: str, limit: int, leader: Leader | None
) -> bool:
    """Remove some copies of a worker that is marked; whether there may be more.

    Not all at once, since a worker can hold hundreds of thousands and all others wait meanwhile.
    A worker that renews its row in between keeps what is left, and learns that it has to publish
    everything again.

    :param leader: on whose behalf, if not on the worker's own
    """
    if leader is not None:
        conditions.refuse_other_leader(reads.leader(connection, now), leader)
    removed = connection.execute(
        "DELETE FROM copy WHERE (segment, role, node) IN (SELECT segment, role, node FROM copy"
        " WHERE node = ?1 AND EXISTS (SELECT * FROM worker WHERE node = ?1 AND reaped) LIMIT ?2)",
        (node, limit),
    )
    return removed.rowcount == limit


def remove_marked(connection: sqlite3.Connection, now: float, node: str) -> bool:
    """Remove a worker's row, if it is still marked; whether it was."""
    removed = connection.execute("DELETE FROM worker WHERE node = ? AND reaped", (node,))
    return removed.rowcount > 0


def note_disk_counter(connection: sqlite3.Connection, now: float, node: str, counter: int) -> None:
    """Remember a worker's counter, unless a greater one is known."""
    connection.execute(
        "INSERT INTO disk VALUES (?, ?)"
        " ON CONFLICT (node) DO UPDATE SET counter = max(counter, excluded.counter)",
        (node, counter),
    )


def set_draining(connection: sqlite3.Connection, now: float, node: str, draining: bool) -> None:
    """Record that a worker is to be emptied, or no longer."""
    if draining:
        connection.execute("INSERT OR IGNORE INTO draining VALUES (?)", (node,))
    else:
        connection.execute("DELETE FROM draining WHERE node = ?", (node,))


def mark_lost(connection: sqlite3.Connection, now: float, node: str) -> None:
    """Mark a worker that will not return, as :func:`mark_dead` does."""
    conditions.refuse_live_worker(node, reads.worker(connection, now, node) is not None)
    connection.execute("UPDATE worker SET reaped = 1 WHERE node = ?", (node,))


def forget_place(connection: sqlite3.Connection, now: float, node: str) -> None:
    """Remove a worker from its ring and from those that are to be emptied, and its counter."""
    connection.execute("DELETE FROM ring WHERE node = ?", (node,))
    connection.execute("DELETE FROM disk WHERE node = ?", (node,))
    connection.execute("DELETE FROM draining WHERE node = ?", (node,))


def save_rings(
    connection: sqlite3.Connection,
    now: float,
    leader: Leader,
    rings: Mapping[str, int],
    known: Mapping[str, int],
) -> None:
    """Replace which worker is on which ring, as long as that is `known`."""
    conditions.refuse_other_leader(reads.leader(connection, now), leader)
    # What is there already was saved by a call whose answer got lost.
    conditions.refuse_other_rings(reads.rings(connection, now), known, rings)
    connection.execute("DELETE FROM ring")
    connection.executemany("INSERT INTO ring VALUES (?, ?)", rings.items())


def save_inventory(
    connection: sqlite3.Connection, now: float, leader: Leader, known: bool, unplaced: list[str]
) -> Inventory:
    """Record whether all segments are listed."""
    conditions.refuse_other_leader(reads.leader(connection, now), leader)
    connection.execute(
        "UPDATE inventory SET known = ?, unplaced = ?, change = change + 1",
        (known, json.dumps(unplaced)),
    )
    return reads.inventory(connection, now)


# -- copies ------------------------------------------------------------------------


def publish_copies(connection: sqlite3.Connection, now: float, copies: Sequence[Copy]) -> None:
    """Add copies, or renew them."""
    connection.executemany(
        "INSERT INTO copy VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (segment, role, node) DO UPDATE SET url = excluded.url,"
        " load = excluded.load, ttl = excluded.ttl, last_heartbeat = excluded.last_heartbeat",
        (
            (copy.segment, copy.role, copy.node, copy.url, copy.load, copy.ttl, now, now)
            for copy in copies
        ),
    )


def withdraw_copies(
    connection: sqlite3.Connection, now: float, node: str, segments: Collection[str], role: str
) -> None:
    """Remove copies of one worker in one role."""
    connection.executemany(
        "DELETE FROM copy WHERE segment = ? AND role = ? AND node = ?",
        ((segment, role, node) for segment in segments),
    )


# -- write locks -------------------------------------------------------------------


def take_lock(
    connection: sqlite3.Connection, now: float, segment: str, node: str, disk: str = ""
) -> Lock:
    """Take the write lock, or find out who has it."""
    held = reads.lock_of(connection, now, segment)
    if held is not None:
        return held
    row = connection.execute(
        "INSERT INTO lock (segment, node, epoch, acquired_on, changed, dirty_since, disk)"
        " VALUES (?, ?, 1, ?, ?, ?, ?) ON CONFLICT (segment) DO UPDATE SET"
        " node = excluded.node, epoch = epoch + 1, acquired_on = excluded.acquired_on,"
        " changed = excluded.changed, dirty_since = excluded.dirty_since,"
        " disk = excluded.disk, revision = 0, followers = '[]'"
        f" RETURNING {reads.LOCK_COLUMNS}",
        (segment, node, now, _next_number(connection), now, disk),
    ).fetchone()
    return reads.lock(row)


def change_lock(
    connection: sqlite3.Connection, now: float, expected: Lock, wanted: Lock
) -> Lock | None:
    """Change holder, epoch and followers of a lock that is as expected."""
    held = reads.lock_of(connection, now, expected.segment)
    if held is None or not conditions.is_same_lock(held, expected):
        return held
    taken = wanted.holder != held.holder
    connection.execute(
        "UPDATE lock SET node = ?, disk = ?, epoch = ?, revision = ?, followers = ?, changed = ?,"
        " acquired_on = ?, dirty_since = ? WHERE segment = ?",
        (
            wanted.node,
            wanted.disk,
            wanted.epoch,
            wanted.revision,
            reads.followers_text(wanted),
            _next_number(connection),
            now if taken else held.acquired_on,
            now if taken else held.dirty_since,
            held.segment,
        ),
    )
    return reads.lock_of(connection, now, expected.segment)


def release_lock(connection: sqlite3.Connection, now: float, lock: Lock) -> None:
    """Free a write lock; its epoch is remembered."""
    held = reads.lock_of(connection, now, lock.segment)
    if held is None:
        return
    conditions.refuse_other_lock(held, lock)
    _release(connection, [lock.segment])


def _release(connection: sqlite3.Connection, segments: Sequence[str]) -> None:
    number = _next_number(connection)
    connection.executemany(
        "UPDATE lock SET node = NULL, changed = ? WHERE segment = ?",
        ((number, segment) for segment in segments),
    )


def mark_dirty(connection: sqlite3.Connection, now: float, lock: Lock) -> None:
    """Note that there may be unpromoted writes under a lock."""
    conditions.refuse_other_lock(reads.lock_of(connection, now, lock.segment), lock)
    connection.execute(
        "UPDATE lock SET dirty_since = ? WHERE segment = ?", (lock.dirty_since, lock.segment)
    )


def mark_clean(connection: sqlite3.Connection, now: float, locks: Sequence[Lock]) -> None:
    """Note that there are none under these locks, unless they were marked dirty again."""
    connection.executemany(
        "UPDATE lock SET dirty_since = ? WHERE segment = ? AND node = ? AND epoch = ?"
        " AND dirty_since IS ?",
        ((CLEAN, lock.segment, lock.node, lock.epoch, lock.dirty_since) for lock in locks),
    )


def release_clean_locks(
    connection: sqlite3.Connection, now: float, leader: Leader, node: str, limit: int
) -> list[str]:
    """Release some of a worker's clean locks; answers with their segments."""
    conditions.refuse_other_leader(reads.leader(connection, now), leader)
    found = connection.execute(
        "SELECT segment FROM lock WHERE node = ? AND dirty_since = ? ORDER BY segment LIMIT ?",
        (node, CLEAN, limit),
    )
    segments = [row[0] for row in found]
    _release(connection, segments)
    return segments


# -- assignments -------------------------------------------------------------------


def change_assignments(
    connection: sqlite3.Connection,
    now: float,
    leader: Leader,
    put: Sequence[Assignment],
    remove: Sequence[tuple[str, str]],
    seen: int | None = None,
) -> list[str]:
    """Carry out a part of a leader's plan; answers with what was deleted since `seen`."""
    conditions.refuse_other_leader(reads.leader(connection, now), leader)
    deleted: set[str] = set()
    if seen is not None:
        conditions.refuse_forgotten_deletions(reads.deletions(connection, now), seen)
        deleted = reads.deleted_since(connection, now, seen)
    kept = [a for a in put if a.segment not in deleted] if deleted else put
    number = _next_number(connection)
    _remove_assignments(connection, number, remove)
    connection.executemany(
        "INSERT OR REPLACE INTO assignment VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (a.node, a.segment, a.ring, a.path, a.size, a.modified, leader.generation, now, number)
            for a in kept
        ),
    )
    connection.executemany(
        "DELETE FROM removal WHERE node = ? AND segment = ?", ((a.node, a.segment) for a in kept)
    )
    return sorted(deleted.intersection(a.segment for a in put)) if deleted else []


def announce_version(connection: sqlite3.Connection, now: float, copy: CanonicalCopy) -> None:
    """Move a segment's assignments to a later canonical copy."""
    connection.execute(
        "UPDATE assignment SET path = ?, size = ?, modified = ?, changed = ?"
        " WHERE segment = ? AND (modified, size) < (?, ?)",
        (
            copy.path,
            copy.size,
            copy.modified,
            _next_number(connection),
            copy.segment,
            copy.modified,
            copy.size,
        ),
    )


def forget_segment(connection: sqlite3.Connection, now: float, segment: str) -> None:
    """Remove the assignments and copies of a segment without a writer, and remember that."""
    held = reads.lock_of(connection, now, segment)
    conditions.refuse_written(segment, held.node if held is not None else None)
    assigned = reads.assignments_of_segment(connection, now, segment)
    _remove_assignments(
        connection, _next_number(connection), [(a.node, a.segment) for a in assigned]
    )
    connection.execute("DELETE FROM copy WHERE segment = ?", (segment,))
    last = reads.deletions(connection, now) + 1
    connection.execute("INSERT INTO deletion VALUES (?, ?)", (last, segment))
    connection.execute("DELETE FROM deletion WHERE number <= ?", (last - conditions.DELETIONS,))


def _remove_assignments(
    connection: sqlite3.Connection, number: int, pairs: Sequence[tuple[str, str]]
) -> None:
    connection.executemany(
        "INSERT OR REPLACE INTO removal SELECT node, segment, ? FROM assignment"
        " WHERE node = ? AND segment = ?",
        ((number, node, segment) for node, segment in pairs),
    )
    connection.executemany("DELETE FROM assignment WHERE node = ? AND segment = ?", pairs)
    forgotten = number - REMEMBERED
    if connection.execute("DELETE FROM removal WHERE changed <= ?", (forgotten,)).rowcount:
        connection.execute("UPDATE sequence SET horizon = ?", (forgotten,))


def _next_number(connection: sqlite3.Connection) -> int:
    row = connection.execute("UPDATE sequence SET value = value + 1 RETURNING value").fetchone()
    return row[0]


# -- schemas -----------------------------------------------------------------------


def put_schema(connection: sqlite3.Connection, now: float, schema: Schema) -> bool:
    """Add or replace a schema; whether it is new."""
    conditions.refuse_other_default(schema)
    known = connection.execute("SELECT * FROM schema WHERE id = ?", (schema.id,)).fetchone()
    connection.execute("INSERT OR REPLACE INTO schema VALUES (?, ?)", (schema.id, schema.sql))
    return known is None
