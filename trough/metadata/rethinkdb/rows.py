"""Rows of RethinkDB's tables, and the values that they stand for.

Their shapes are those that clients of the original system read, who query the tables
themselves, with fields of our own beside: a row that an original installation wrote lacks
those, and counts as if they were empty. Everything here is a function of values. Times
come as RethinkDB's driver leaves them in its raw format, and are written by the server
itself, whose clock is the only one that counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from trough import errors
from trough.model import Assignment, CanonicalCopy, Copy, Leader, Lock, Schema, Worker

Row = Mapping[str, Any]

#: Gives the whole path of one that is relative to canonical storage's root.
Locate = Callable[[str], str]

LEADER_ID = "trough-sync-master"
NODES = "trough-nodes"


def seconds(time: Any) -> float:
    """Seconds since the epoch; 0 where a row has no time."""
    return float(time["epoch_time"]) if time else 0.0


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
    }


def leader(row: Row | None) -> Leader | None:
    """Who leads by a row that is alive."""
    if row is None:
        return None
    return Leader(
        row.get("node", ""),
        row.get("identity", ""),
        row.get("url", ""),
        row.get("line", ""),
        row.get("generation", 0),
        row.get("ttl", 0.0),
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


def worker(row: Row, draining: bool) -> Worker:
    """A worker as its row tells it."""
    fields = {name: row.get(name) for name in _WORKER_DEFAULTS}
    return Worker(
        node=row["node"],
        draining=draining,
        ttl=row.get("ttl", 0.0),
        first_heartbeat=seconds(row.get("first_heartbeat")),
        last_heartbeat=seconds(row.get("last_heartbeat")),
        **{k: _WORKER_DEFAULTS[k] if v is None else v for k, v in fields.items()},
    )


def workers(answer: Mapping[str, Any]) -> list[Worker]:
    """The living workers, by name."""
    draining = set(answer["draining"])
    found = [worker(row, row["node"] in draining) for row in answer["workers"]]
    return sorted(found, key=lambda worker: worker.node)


# -- copies ------------------------------------------------------------------------


def copy_id(role: str, node: str, segment: str) -> str:
    """The key of a copy's row."""
    return f"{role}:{node}:{segment}"


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


def copy(row: Row, load: float | None) -> Copy:
    """A copy as its row tells it.

    :param load: its worker's, if that has a row
    """
    return Copy(
        row["segment"],
        row["node"],
        row["role"],
        row.get("url", ""),
        row.get("load") or 0.0 if load is None else load,
        row.get("ttl", 0.0),
        seconds(row.get("first_heartbeat")),
        seconds(row.get("last_heartbeat")),
    )


#: Whether a worker that has a row is alive, and its load.
State = tuple[bool, float]


def worker_states(answer: Iterable[Sequence[Any]]) -> dict[str, State]:
    """Of all workers that have a row."""
    return {node: (alive, load) for node, alive, load in answer}


def living_copies(copy_rows: Iterable[Row], states: Mapping[str, State]) -> list[Copy]:
    """The copies whose worker is alive, or has no row."""
    found = []
    for row in copy_rows:
        alive, load = states.get(row["node"], (True, None))
        if alive:
            found.append(copy(row, load))
    return found


def by_segment(copy_rows: Iterable[Row]) -> dict[str, list[Copy]]:
    """The living copies of each segment by role, load and worker.

    :param copy_rows: with their ``worker``
    """
    found: dict[str, list[Copy]] = {}
    for row in copy_rows:
        states = {row["node"]: row["worker"]} if row["worker"] else {}
        for living in living_copies([row], states):
            found.setdefault(living.segment, []).append(living)
    for copies in found.values():
        copies.sort(key=lambda copy: (copy.role, copy.load, copy.node))
    return found


# -- write locks -------------------------------------------------------------------


def lock_id(segment: str) -> str:
    """The key of a write lock's row."""
    return f"write:lock:{segment}"


def lock(row: Row | None) -> Lock | None:
    """A write lock; None where a row is none, or has no epoch yet."""
    if row is None or "epoch" not in row:
        return None
    return Lock(row["segment"], row["node"], row["epoch"], seconds(row.get("acquired_on")))


# -- assignments -------------------------------------------------------------------


def assignment_id(node: str, segment: str) -> str:
    """The key of an assignment's row."""
    return f"{node}:{segment}"


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


def assignment(row: Row) -> Assignment:
    """An assignment as its row tells it."""
    ring = row.get("hash_ring")
    return Assignment(
        row["segment"],
        row["node"],
        ring if isinstance(ring, int) else 0,  # the original's rings have other names
        row.get("path") or row.get("remote_path") or "",
        row.get("bytes") or 0,
        row.get("modified") or 0,
        row.get("generation") or 0,
        seconds(row.get("assigned_on")),
    )


def version_fields(copy: CanonicalCopy, locate: Locate) -> dict[str, Any]:
    """The fields of an assignment that tell a canonical copy."""
    return {**_file(copy.path, locate), "bytes": copy.size, "modified": copy.modified}


def _file(path: str, locate: Locate) -> dict[str, str]:
    # The original wrote the whole path, which clients read. Trough goes by the other one:
    # a directory may be mounted elsewhere on another machine.
    return {"remote_path": locate(path), "path": path}


# -- schemas -----------------------------------------------------------------------


def schema(row: Row | None, name: str) -> Schema:
    """A schema as its row tells it.

    :raises trough.errors.NoSuchSchema: there is none
    """
    if row is None:
        raise errors.NoSuchSchema(f"there is no schema {name!r}")
    return Schema(row["id"], row.get("sql") or "")


def _port(url: str) -> int | None:
    return urlsplit(url).port
