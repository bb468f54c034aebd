"""What RethinkDB's terms are made of: tables, views, and when a row is alive.

Building a term does no I/O, so the servers' :mod:`trough.metadata.rethinkdb.store` and the Python
client's :mod:`trough.metadata.rethinkdb.blocking` ask the same questions
(:mod:`trough.metadata.rethinkdb.reads`). Each term answers with one value (never a cursor,
save the changefeeds), which :mod:`trough.metadata.rethinkdb.rows` reads. The tables are
named here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rethinkdb import RethinkDB
from rethinkdb import errors as reql

from trough import errors
from trough.metadata.rethinkdb import rows

r = RethinkDB()
Term = Any

#: The tables and their indexes. The first four are an original installation's.
TABLES: dict[str, tuple[str, ...]] = {
    "services": ("segment", "role"),
    "schema": (),
    "lock": ("node",),
    "assignment": ("segment",),
    "epoch": (),  # the last epoch of each segment's write lock
    "cluster": (),  # rings, workers that are to be emptied, and counters of their disks
}

#: What a term is run with: on disk, or only in the memory of a majority's servers.
DURABLE = {"durability": "hard"}
SOFT = {"durability": "soft"}

#: First part of the keys in ``cluster`` of the last deletions; the second is a number.
DELETED = "deleted"

NODES = (f"{rows.NODES}:", f"{rows.NODES};")  # ";" comes next after ":"


#: Errors of RethinkDB that may pass. It reports as an internal error, too, that no server of a
#: table can be reached.
NOT_NOW = (reql.ReqlOpFailedError, reql.ReqlOpIndeterminateError, reql.ReqlInternalError)


class RethinkRefused(errors.Unavailable):
    """RethinkDB could not do it now: a table has no primary, or no majority."""


@dataclass(frozen=True)
class View:
    """How a query runs.

    :ivar mode: RethinkDB's read mode
    :ivar frozen: judge by the time of the last heartbeat that could be written; for the time when
        no heartbeat can be: dead workers are then those that had died before
    """

    mode: str
    frozen: bool = False

    def table(self, name: str) -> Term:
        return r.table(name, read_mode=self.mode)

    def at(self, term: Callable[[Term], Term]) -> Term:
        """`term`, given the time by which to judge what is alive."""
        if not self.frozen:
            return r.expr(term(r.now()))
        last = self.table("services").between(*NODES)["last_heartbeat"].max()
        return r.do(last.default(r.now()), term)


#: For what decides something.
STRICT = View("majority")
#: For everything else.
PRESENT = View("single")
#: For reading on when a table has no majority any more.
FROZEN = View("outdated", frozen=True)


def alive(row: Term, now: Term) -> Term:
    """Whether a row's own time runs; a row without time or ttl is dead."""
    return row.has_fields("reaped_on").not_().default(False) & (ends(row) > now)


def ends(row: Term) -> Term:
    """When a row's own time ends; long ago where the row has no time or ttl.

    RethinkDB compares and adds values of any type, or fails the whole query for one row.
    """
    return r.branch(
        is_a(row["last_heartbeat"], "PTYPE<TIME>") & is_a(row["ttl"], "NUMBER"),
        row["last_heartbeat"] + row["ttl"],
        r.epoch_time(0),
    )


def is_a(value: Term, type_name: str) -> Term:
    """Whether a field is there and of this type."""
    return value.type_of().eq(type_name).default(False)


def number(value: Term) -> Term:
    """A field that is to be a number; 0 where it is none."""
    return r.branch(is_a(value, "NUMBER"), value, 0)


def sent(value: Any) -> Term:
    """A value, parsed by the server: building terms of large ones takes far longer."""
    return r.json(json.dumps(value))


def written(write: Term) -> Term:
    """The row that a write of one row found and left: ``{"old_val", "new_val"}``."""
    return write["changes"][0]
