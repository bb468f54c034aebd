"""Questions to the registry, each a function of a connection, the time and its arguments.

They run inside a transaction that their caller began (:class:`Database`), so that each
answers from one state. Both sides use them: the servers' :mod:`trough.metadata.sqlite.store`
and the Python client's :mod:`trough.metadata.blocking`. They change nothing.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Collection, Sequence
from typing import Any

from trough import errors
from trough.metadata.conditions import Matches
from trough.model import READ, Assignment, Copy, Inventory, Leader, Lock, Schema, Worker, members
from trough.util.quoting import quoted

# A copy counts while its own row does and its worker, where that has a row, is alive.
# Its load is its worker's of this moment: copies' rows are written seldom.
_COPY = """
    SELECT copy.segment, copy.node, copy.role, copy.url, ifnull(worker.load, copy.load) AS load,
           copy.ttl, copy.first_heartbeat, copy.last_heartbeat
      FROM copy LEFT JOIN worker USING (node)
     WHERE copy.last_heartbeat + copy.ttl > :now
       AND (worker.node IS NULL
            OR (NOT worker.reaped AND worker.last_heartbeat + worker.ttl > :now))
"""

_WORKER = """
    SELECT node, identity, line, read_url, write_url, manager_url, capacity, available_bytes,
           load, cold_storage, node IN (SELECT node FROM draining), ttl, first_heartbeat,
           last_heartbeat, trouble, unpromoted, unpromoted_bytes, unpromoted_since,
           replication
      FROM worker
     WHERE NOT reaped AND last_heartbeat + ttl > :now
"""

_ASSIGNMENT = """
    SELECT segment, node, ring, path, size, modified, generation, assigned_on FROM assignment
"""


def leader(connection: sqlite3.Connection, now: float) -> Leader | None:
    """The present leader.

    A lease from the future was written before the clock was set back, and would never end.
    """
    row = connection.execute(
        "SELECT node, identity, url, line, generation, ttl, trouble FROM leader"
        " WHERE identity != '' AND renewed_on - ttl <= ?1 AND renewed_on + ttl > ?1",
        (now,),
    ).fetchone()
    return Leader(*row) if row else None


# -- workers -----------------------------------------------------------------------


def workers(connection: sqlite3.Connection, now: float) -> list[Worker]:
    """All live workers, by name."""
    return [_worker(row) for row in connection.execute(_WORKER + " ORDER BY node", {"now": now})]


def worker(connection: sqlite3.Connection, now: float, node: str) -> Worker | None:
    """One worker, if it is alive."""
    found = connection.execute(_WORKER + " AND node = :node", {"now": now, "node": node})
    row = found.fetchone()
    return _worker(row) if row else None


def last_row(connection: sqlite3.Connection, now: float, node: str) -> Worker | None:
    """One worker, alive or not."""
    found = connection.execute(
        _WORKER.partition("WHERE")[0] + " WHERE node = :node", {"node": node}
    )
    row = found.fetchone()
    return _worker(row) if row else None


def _worker(row: tuple[Any, ...]) -> Worker:
    values = list(row)
    values[9], values[10] = bool(row[9]), bool(row[10])
    return Worker(*values)


def disk_counter(connection: sqlite3.Connection, now: float, node: str) -> int:
    """A worker's counter."""
    row = connection.execute("SELECT counter FROM disk WHERE node = ?", (node,)).fetchone()
    return row[0] if row else 0


def draining(connection: sqlite3.Connection, now: float) -> set[str]:
    """Names of the workers that are to be emptied."""
    return {row[0] for row in connection.execute("SELECT node FROM draining")}


def paused(connection: sqlite3.Connection, now: float) -> dict[str, float]:
    """Until when the copies of which workers are not moved."""
    return dict(connection.execute("SELECT node, until FROM pause WHERE until > ?", (now,)))


def rings(connection: sqlite3.Connection, now: float) -> dict[str, int]:
    """Which worker is on which ring."""
    return dict(connection.execute("SELECT node, ring FROM ring ORDER BY node"))


# -- copies ------------------------------------------------------------------------


def copies_of(
    connection: sqlite3.Connection, now: float, segments: Collection[str]
) -> dict[str, list[Copy]]:
    """The live copies of some segments, each segment's by role, load and worker."""
    found: dict[str, list[Copy]] = {}
    rows = connection.execute(
        _COPY + " AND copy.segment IN (SELECT value FROM json_each(:segments))"
        " ORDER BY copy.segment, copy.role, 5, copy.node",
        {"now": now, "segments": json.dumps(list(segments))},
    )
    for row in rows:
        found.setdefault(row[0], []).append(Copy(*row))
    return found


Place = tuple[str, str]


def readable_page(
    connection: sqlite3.Connection, now: float, matches: Matches, after: Place, size: int
) -> tuple[list[Copy], Place | None]:
    """Look at the next `size` copies in role READ, and return those whose segment matches.

    :param after: where the last page ended; ``("", "")`` for the first one
    :return: the page, which may be empty, and where it ended; None at the end of all
    """
    rows = connection.execute(
        _COPY + " AND copy.role = :role AND (copy.segment, copy.node) > (:segment, :node)"
        " ORDER BY copy.segment, copy.node LIMIT :size",
        {"now": now, "role": READ, "segment": after[0], "node": after[1], "size": size},
    ).fetchall()
    page = [Copy(*row) for row in rows if matches(row[0])]
    return page, (rows[-1][0], rows[-1][1]) if len(rows) == size else None


# -- which segments there are --------------------------------------------------------

_EXISTING = """
    SELECT segment FROM assignment WHERE {range}
    UNION
    SELECT segment FROM lock WHERE node IS NOT NULL AND {range}
    UNION
    SELECT segment FROM (
        SELECT copy.segment
          FROM copy LEFT JOIN worker USING (node)
         WHERE copy.role = :role AND copy.last_heartbeat + copy.ttl > :now
           AND (worker.node IS NULL
                OR (NOT worker.reaped AND worker.last_heartbeat + worker.ttl > :now)))
     WHERE {range}
    UNION
    SELECT segment FROM (
        SELECT value AS segment FROM inventory, json_each(inventory.unplaced))
     WHERE {range}
     ORDER BY segment LIMIT :size
"""


def existing_page(
    connection: sqlite3.Connection,
    now: float,
    matches: Matches,
    ends: tuple[str, str | None],
    after: str,
    size: int,
) -> tuple[list[str], str | None]:
    """Look at the next `size` segments that exist, and return the ids of those that match.

    :param ends: see :func:`trough.metadata.conditions.id_range`
    :param after: where the last page ended; empty for the first one
    :return: the page, which may be empty, and where it ended; None at the end of all
    """
    first, end = ends
    # The last segment of the page before, or what no id comes before.
    condition = "segment > :after" if after else "segment >= :after"
    condition += " AND segment < :end" if end is not None else ""
    values = {"now": now, "role": READ, "after": after or first, "end": end, "size": size}
    found = [row[0] for row in connection.execute(_EXISTING.format(range=condition), values)]
    return [each for each in found if matches(each)], found[-1] if len(found) == size else None


def inventory(connection: sqlite3.Connection, now: float) -> Inventory:
    """The leader's last record of the segments that exist."""
    known, change = connection.execute("SELECT known, change FROM inventory").fetchone()
    return Inventory(bool(known), change)


def deletions(connection: sqlite3.Connection, now: float) -> int:
    """The number of the last deletion of a segment."""
    return connection.execute("SELECT coalesce(max(number), 0) FROM deletion").fetchone()[0]


def deleted_since(connection: sqlite3.Connection, now: float, seen: int) -> set[str]:
    """Segments that were deleted after the deletion of this number."""
    found = connection.execute("SELECT segment FROM deletion WHERE number > ?", (seen,))
    return {row[0] for row in found}


# -- write locks -------------------------------------------------------------------

LOCK_COLUMNS = "segment, node, epoch, acquired_on, dirty_since, disk, revision, followers"
_LOCK = f"SELECT {LOCK_COLUMNS} FROM lock"


def lock(row: Sequence[Any]) -> Lock:
    """The write lock of a row of :data:`LOCK_COLUMNS`."""
    segment, node, epoch, acquired_on, dirty_since, disk, revision, pairs = row
    followers = members(tuple((name, its) for name, its in json.loads(pairs)))
    # Very many rows have the same few workers, and a worker keeps each lock of the cluster.
    node, disk = sys.intern(node), sys.intern(disk)
    return Lock(segment, node, epoch, acquired_on, dirty_since, disk, revision, followers)


def followers_text(lock: Lock) -> str:
    """What the registry stores of a lock's followers."""
    return json.dumps(sorted([member.node, member.disk] for member in lock.followers))


def lock_of(connection: sqlite3.Connection, now: float, segment: str) -> Lock | None:
    """The write lock of a segment."""
    row = connection.execute(
        f"{_LOCK} WHERE segment = ? AND node IS NOT NULL", (segment,)
    ).fetchone()
    return lock(row) if row else None


def locks(connection: sqlite3.Connection, now: float, node: str | None) -> list[Lock]:
    """All write locks, or those of one worker, by segment."""
    if node is None:
        rows = connection.execute(f"{_LOCK} WHERE node IS NOT NULL ORDER BY segment")
    else:
        rows = connection.execute(f"{_LOCK} WHERE node = ? ORDER BY segment", (node,))
    return [lock(row) for row in rows]


def count_locks(connection: sqlite3.Connection, now: float, node: str | None = None) -> int:
    """How many write locks there are, or one worker has."""
    of_worker = "AND node = ?" if node is not None else ""
    return connection.execute(
        f"SELECT count(*) FROM lock WHERE node IS NOT NULL {of_worker}",
        () if node is None else (node,),
    ).fetchone()[0]


# -- assignments -------------------------------------------------------------------


def assignments_page(
    connection: sqlite3.Connection, now: float, node: str | None, after: Place, size: int
) -> tuple[list[Assignment], Place | None]:
    """The next `size` assignments, or one worker's; see :func:`readable_page`."""
    condition = "(node, segment) > (?, ?)" if node is None else "node = ? AND segment > ?"
    place = after if node is None else (node, after[1])
    rows = connection.execute(
        f"{_ASSIGNMENT} WHERE {condition} ORDER BY node, segment LIMIT ?", (*place, size)
    ).fetchall()
    page = [Assignment(*row) for row in rows]
    return page, (page[-1].node, page[-1].segment) if len(page) == size else None


def assignments_of_segment(
    connection: sqlite3.Connection, now: float, segment: str
) -> list[Assignment]:
    """All assignments of one segment, by worker."""
    rows = connection.execute(f"{_ASSIGNMENT} WHERE segment = ? ORDER BY node", (segment,))
    return [Assignment(*row) for row in rows]


# -- schemas -----------------------------------------------------------------------


def schemas(connection: sqlite3.Connection, now: float) -> list[str]:
    """Names of all schemas, sorted."""
    return [row[0] for row in connection.execute("SELECT id FROM schema ORDER BY id")]


def schema(connection: sqlite3.Connection, now: float, name: str) -> Schema:
    """One schema.

    :raises trough.errors.NoSuchSchema: no schema has this name
    """
    row = connection.execute("SELECT id, sql FROM schema WHERE id = ?", (name,)).fetchone()
    if row is None:
        raise errors.NoSuchSchema(f"there is no schema {quoted(name)}")
    return Schema(*row)
