"""Rows of RethinkDB's tables, and the values that they stand for.

Their shapes are those that clients of the original system read, who query the tables
themselves, with fields of our own beside: a row that an original installation wrote lacks
those, and counts as if they were empty. Everything here is a function of values. Times
come as RethinkDB's driver leaves them in its raw format, and are written by the server
itself, whose clock is the only one that counts.

Other programs write to these tables, too: an original leader keeps a row of its own in
``assignment``, and people insert rows by hand. **A row counts only if its key, its segment
and its worker agree and each field has the type that it should have.** Every other row is
foreign: it is read as None and passed over, so that no row can stop a server.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from trough import errors
from trough.model import (
    READ,
    WRITE,
    Assignment,
    CanonicalCopy,
    Copy,
    Inventory,
    Leader,
    Lock,
    Member,
    Schema,
    Worker,
    canonical_path,
    is_node_name,
    is_segment_id,
    members,
)
from trough.util.quoting import quoted

Row = Mapping[str, Any]

#: Gives the whole path of one that is relative to canonical storage's root.
Locate = Callable[[str], str]

LEADER_ID = "trough-sync-master"
NODES = "trough-nodes"

#: Bytes of a primary key of RethinkDB, at most, and hexadecimal digits of a digest in one.
MAX_KEY = 127
DIGEST = 32

#: Above this, a number of RethinkDB's, a double, does not stand for one integer.
MOST_EXACT = 1 << 53


def seconds(time: Any) -> float:
    """Seconds since the epoch; 0 where a row has no time."""
    value = time.get("epoch_time") if isinstance(time, Mapping) else None
    return float(value) if _is_number(value) else 0.0


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _field(row: Row, name: str, default: Any) -> Any:
    """A field of the type of `default`, or `default`."""
    value = row.get(name)
    if isinstance(default, float):
        return float(value) if _is_number(value) else default
    if isinstance(default, int) and not isinstance(default, bool):
        return int(value) if _is_number(value) else default
    return value if isinstance(value, type(default)) else default


# -- segments and workers ------------------------------------------------------------


def segment_of(row: Row) -> str | None:
    """The id of the segment of a row; None: it names none.

    The original stored a number where a client had sent one. Its text is the id.
    """
    value = row.get("segment")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if value >= 0 else None
    return value if isinstance(value, str) and is_segment_id(value) else None


def stored_segments(segments: Iterable[str]) -> list[str | int]:
    """All values of ``segment`` by which rows of these segments may be found."""
    found: list[str | int] = []
    for segment in segments:
        found.append(segment)
        number = int(segment) if segment.isascii() and segment.isdecimal() else -1
        if str(number) == segment and number < MOST_EXACT:
            found.append(number)
    return found


def _segment_and_node(row: Row) -> tuple[str, str] | None:
    segment, node = segment_of(row), row.get("node")
    if segment is None or not isinstance(node, str) or not is_node_name(node):
        return None
    return segment, node


# -- leadership --------------------------------------------------------------------


def leader_row(leader: Leader) -> dict[str, Any]:
    """The row of a candidate, less generation and times."""
    return {
        "id": LEADER_ID,
        "role": LEADER_ID,
        "node": leader.node,
        "port": _port(leader.url),
        "url": leader.url,
        "load": 0.0,
        "ttl": leader.ttl,
        "identity": leader.identity,
        "line": leader.line,
        "trouble": leader.trouble,
    }


def leader(row: Row | None) -> Leader | None:
    """Who leads by a row that is alive."""
    if row is None:
        return None
    return Leader(
        _field(row, "node", ""),
        _field(row, "identity", ""),
        _field(row, "url", ""),
        _field(row, "line", ""),
        _field(row, "generation", 0),
        _field(row, "ttl", 0.0),
        _field(row, "trouble", ""),
    )


# -- workers -----------------------------------------------------------------------

_WORKER_DEFAULTS: dict[str, Any] = {
    "identity": "",
    "line": "",
    "read_url": "",
    "write_url": "",
    "manager_url": "",
    "capacity": 0,
    "available_bytes": 0,
    "load": 0.0,
    "cold_storage": False,
    "trouble": "",
    "unpromoted": 0,
    "unpromoted_bytes": 0,
    "unpromoted_since": 0.0,
    "replication": 0,
}


def worker_id(node: str) -> str:
    """The key of a worker's row."""
    return f"{NODES}:{node}:None"


def disk_id(node: str) -> str:
    """The key of a worker's counter in ``cluster``."""
    return f"disk:{node}"


def worker_row(worker: Worker) -> dict[str, Any]:
    """The row of a worker, less times."""
    return {
        "id": worker_id(worker.node),
        "role": NODES,
        "segment": None,
        "node": worker.node,
        "port": _port(worker.read_url),
        "url": worker.read_url,
        "ttl": worker.ttl,
        **{name: getattr(worker, name) for name in _WORKER_DEFAULTS},
    }


def worker(row: Row, draining: Collection[str] = ()) -> Worker | None:
    """The worker of a row; None: a foreign row.

    :param draining: names of the workers that are to be emptied
    """
    node = row.get("node")
    if not isinstance(node, str) or not is_node_name(node) or row.get("id") != worker_id(node):
        return None
    return Worker(
        node=node,
        draining=node in draining,
        ttl=_field(row, "ttl", 0.0),
        first_heartbeat=seconds(row.get("first_heartbeat")),
        last_heartbeat=seconds(row.get("last_heartbeat")),
        **{name: _field(row, name, default) for name, default in _WORKER_DEFAULTS.items()},
    )


def workers(answer: Mapping[str, Any]) -> list[Worker]:
    """The living workers, by name."""
    draining = set(answer["draining"])
    found = [worker(row, draining) for row in answer["workers"]]
    return sorted((each for each in found if each is not None), key=lambda worker: worker.node)


# -- copies ------------------------------------------------------------------------


def copy_id(role: str, node: str, segment: str) -> str:
    """The key of a copy's row."""
    return _key(f"{role}:{node}:", segment)


def copy_row(copy: Copy) -> dict[str, Any]:
    """The row of a copy, less times."""
    return {
        "id": copy_id(copy.role, copy.node, copy.segment),
        "role": copy.role,
        "segment": copy.segment,
        "node": copy.node,
        "port": _port(copy.url),
        "url": copy.url,
        "load": copy.load,
        "ttl": copy.ttl,
    }


def copy(row: Row, load: float | None) -> Copy | None:
    """The copy of a row; None: a foreign row.

    :param load: its worker's, if that has a row
    """
    place, role = _segment_and_node(row), row.get("role")
    if place is None or role not in (READ, WRITE) or row.get("id") != copy_id(role, *place[::-1]):
        return None
    return Copy(
        *place,
        role,
        _field(row, "url", ""),
        _field(row, "load", 0.0) if load is None else load,
        _field(row, "ttl", 0.0),
        seconds(row.get("first_heartbeat")),
        seconds(row.get("last_heartbeat")),
    )


#: Whether a worker that has a row is alive, and its load.
State = tuple[bool, float]


def worker_states(answer: Iterable[Sequence[Any]]) -> dict[str, State]:
    """Of all workers that have a row."""
    return {
        node: (alive, float(load) if _is_number(load) else 0.0)
        for node, alive, load in answer
        if isinstance(node, str)
    }


def living_copies(copy_rows: Iterable[Row], states: Mapping[str, State]) -> list[Copy]:
    """The copies whose worker is alive, or has no row."""
    found = []
    for row in copy_rows:
        node = row.get("node")
        alive, load = states.get(node, (True, None)) if isinstance(node, str) else (False, None)
        living = copy(row, load) if alive else None
        if living is not None:
            found.append(living)
    return found


def new_ids(found: Iterable[Row], states: Mapping[str, State], seen: set[str]) -> list[str]:
    """Segments of rows whose worker is alive, or has no row, and that were not seen yet."""
    new = set()
    for row in found:
        segment = segment_of(row)
        if segment is None or ("id" in row and not _agrees(row)):
            continue
        if states.get(str(row.get("node")), (True, None))[0]:
            new.add(segment)
    new -= seen
    seen |= new
    return sorted(new)


def _agrees(row: Row) -> bool:
    """Whether a lock's, an assignment's or a readable copy's key is that of its fields."""
    place = _segment_and_node(row)
    if place is None:
        return False
    segment, node = place
    return row["id"] in (
        lock_id(segment),
        assignment_id(node, segment),
        copy_id(READ, node, segment),
    )


def by_segment(copy_rows: Iterable[Row]) -> dict[str, list[Copy]]:
    """The living copies of each segment by role, load and worker.

    :param copy_rows: with their ``worker``
    """
    found: dict[str, list[Copy]] = {}
    for row in copy_rows:
        state = [[row.get("node"), *row["worker"]]] if row["worker"] else []
        for living in living_copies([row], worker_states(state)):
            found.setdefault(living.segment, []).append(living)
    for copies in found.values():
        copies.sort(key=lambda copy: (copy.role, copy.load, copy.node))
    return found


# -- write locks -------------------------------------------------------------------


def lock_id(segment: str) -> str:
    """The key of a write lock's row."""
    return f"write:lock:{segment}"


def lock(row: Row | None) -> Lock | None:
    """A write lock; None where a row is none, is foreign, or has no epoch yet."""
    place = locked(row)
    if row is None or place is None or not _is_number(row.get("epoch")):
        return None
    since = row.get("dirty_since")
    segment, node = place
    # Very many rows have the same few workers, and a worker keeps each lock of the cluster.
    return Lock(
        segment,
        sys.intern(node),
        int(row["epoch"]),
        seconds(row.get("acquired_on")),
        float(since) if _is_number(since) else None,
        sys.intern(_field(row, "disk", "")),
        _field(row, "revision", 0),
        _followers(row),
    )


def lock_fields(lock: Lock) -> dict[str, Any]:
    """The fields of a lock's row that a change may change, less times."""
    return {
        "node": lock.node,
        "disk": lock.disk,
        "epoch": lock.epoch,
        "revision": lock.revision,
        "followers": sorted([member.node, member.disk] for member in lock.followers),
    }


def _followers(row: Row) -> frozenset[Member]:
    found = row.get("followers")
    pairs = found if isinstance(found, list) else []
    return members(tuple((pair[0], pair[1]) for pair in pairs if _is_pair(pair)))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(v, str) for v in value)


def locked(row: Row | None) -> tuple[str, str] | None:
    """Segment and holder of a write lock, with or without an epoch; None: a foreign row."""
    place = _segment_and_node(row) if row is not None else None
    if row is None or place is None or row.get("id") != lock_id(place[0]):
        return None
    return place if _is_number(row.get("epoch", 0)) else None


def refuse_foreign_lock(row: Row | None) -> None:
    """Make sure that the row under the key of a segment's write lock is a write lock.

    :raises trough.errors.Conflict: it is not, so it can be neither taken nor released
    """
    if row is not None and locked(row) is None:
        raise errors.Conflict(
            f"the row {quoted(row['id'])} in RethinkDB's table lock is no write lock: "
            "segment, node or epoch is missing or of a wrong type",
            "see who wrote it, and delete the row",
        )


# -- assignments -------------------------------------------------------------------


def assignment_id(node: str, segment: str) -> str:
    """The key of an assignment's row."""
    return _key(f"{node}:", segment)


def _key(prefix: str, segment: str) -> str:
    """A key of at most :data:`MAX_KEY` bytes; clients find the rows by their index.

    Where it would be longer, a digest stands for the id's end.
    """
    key = f"{prefix}{segment}"
    if len(key) * 4 <= MAX_KEY or len(key.encode()) <= MAX_KEY:
        return key
    digest = hashlib.sha256(segment.encode()).hexdigest()[:DIGEST]
    kept = key.encode()[: MAX_KEY - DIGEST - 1].decode(errors="ignore")
    return f"{kept}:{digest}"  # no id has a colon


def assignment_row(assignment: Assignment, locate: Locate) -> dict[str, Any]:
    """The row of an assignment, less generation and time."""
    return {
        **_file(assignment.path, locate),
        "id": assignment_id(assignment.node, assignment.segment),
        "node": assignment.node,
        "segment": assignment.segment,
        "bytes": assignment.size,
        "modified": assignment.modified,
        "hash_ring": assignment.ring,
    }


def assignment(row: Row) -> Assignment | None:
    """The assignment of a row; None: a foreign row."""
    place = _segment_and_node(row)
    if place is None or row.get("id") != assignment_id(*place[::-1]):
        return None
    return Assignment(
        *place,
        _field(row, "hash_ring", 0),  # the original's rings may have other names
        # An original row has only the whole path, on what may have been another root.
        _field(row, "path", "") or canonical_path(place[0]),
        _field(row, "bytes", 0),
        _field(row, "modified", 0),
        _field(row, "generation", 0),
        seconds(row.get("assigned_on")),
    )


def assignments(found: Iterable[Row]) -> list[Assignment]:
    """The assignments among these rows."""
    return [each for each in map(assignment, found) if each is not None]


def version_fields(copy: CanonicalCopy, locate: Locate) -> dict[str, Any]:
    """The fields of an assignment that describe a canonical copy."""
    return {**_file(copy.path, locate), "bytes": copy.size, "modified": copy.modified}


def _file(path: str, locate: Locate) -> dict[str, str]:
    # The original wrote the whole path, which clients read. Trough goes by the other one:
    # a directory may be mounted elsewhere on another machine.
    return {"remote_path": locate(path), "path": path}


def inventory(row: Row | None) -> Inventory:
    """Whether all segments are listed."""
    row = row or {}
    return Inventory(_field(row, "known", False), _field(row, "change", 0))


# -- schemas -----------------------------------------------------------------------


def schema(row: Row | None, name: str) -> Schema:
    """The schema of a row.

    :raises trough.errors.NoSuchSchema: there is none
    """
    if row is None:
        raise errors.NoSuchSchema(f"there is no schema {quoted(name)}")
    sql = row.get("sql")
    if not isinstance(sql, str | None):
        raise errors.NoSuchSchema(
            f"the row {quoted(name)} in RethinkDB's table schema has no SQL text",
            "register it again",
        )
    return Schema(name, sql or "")


def _port(url: str) -> int | None:
    return urlsplit(url).port
