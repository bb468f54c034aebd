"""Look-ups in RethinkDB for programs without Twisted, over the ordinary driver.

The driver waits for an answer without limit. Here a call waits for a limited time, and then the
connection is closed. A broken connection is replaced, by one to the next host if necessary, and the
query is sent once more. The queries are those of the servers.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

from rethinkdb import errors as reql
from rethinkdb import net

from trough import errors
from trough.metadata import conditions
from trough.metadata.blocking import PORTION, BlockingMetadata
from trough.metadata.rethinkdb import reads, rows
from trough.metadata.rethinkdb.terms import FROZEN, NOT_NOW, PRESENT, RethinkRefused
from trough.metadata.url import RethinkAddress, host_and_port
from trough.model import Copy, Inventory, Leader, Lock, Schema, Worker
from trough.util.idle_pool import IdlePool

#: Seconds to wait for a host, and for an answer.
CONNECT = 5.0
ANSWER = 15.0

#: Segments of one look-up.
SEGMENTS = 400


class _Instance(net.ConnectionInstance):
    """The driver's connection, with an end to its patience."""

    seconds = ANSWER

    def _read_response(self, query: Any, deadline: float | None = None) -> Any:
        return super()._read_response(query, deadline or time.time() + self.seconds)


class _Connection(net.Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Instance, *args, **kwargs)


class _Link:
    """One open connection."""

    def __init__(self, address: RethinkAddress) -> None:
        self._address = address
        reasons = []
        for host, port in random.sample(address.hosts, len(address.hosts)):
            try:
                self._connection = self._connect(host, port)
                return
            except reql.ReqlAuthError as error:
                raise errors.BadSettings(f"RethinkDB refuses the user: {error.message}") from error
            except reql.ReqlError as error:
                reasons.append(f"{host_and_port(host, port)}: {error.message.splitlines()[0]}")
        raise errors.Unavailable(f"no RethinkDB server answers: {'; '.join(reasons)}")

    def _connect(self, host: str, port: int) -> Any:
        address = self._address
        return net.make_connection(
            _Connection,
            host=host,
            port=port,
            db=address.database,
            user=address.user,
            password=address.driver_password,
            timeout=CONNECT,
            ssl={"ca_certs": address.ca} if address.ca else {},
        )

    def run(self, term: Any, options: dict[str, Any]) -> Any:
        """The one value that a term answers with."""
        try:
            return term.run(self._connection, time_format="raw", **options)
        except NOT_NOW as error:
            raise RethinkRefused(f"{self._address}: {error.message}") from error
        except reql.ReqlPermissionError as error:
            raise errors.BadSettings(f"{self._address}: {error.message}") from error
        except reql.ReqlDriverError as error:
            raise errors.Unavailable(f"{self._address}: {error.message}") from error

    def close(self) -> None:
        self._connection.close(noreply_wait=False)


class BlockingRethink(BlockingMetadata):
    """The database at `address`, read only."""

    def __init__(self, address: RethinkAddress) -> None:
        self._links = IdlePool(lambda: _Link(address))

    def _run(self, term: Any, **options: Any) -> Any:
        try:
            return self._once(term, options)
        except RethinkRefused:
            raise
        except errors.Unavailable:
            # Most likely a connection that was idle while its server went.
            return self._once(term, options)

    def _once(self, term: Any, options: dict[str, Any]) -> Any:
        with self._links.borrowed() as link:
            return link.run(term, options)

    def _look(self, term: Callable[..., Any], *args: Any) -> Any:
        """See :meth:`trough.metadata.rethinkdb.store.RethinkMetadata`, of which this is a copy."""
        try:
            return self._run(term(PRESENT, *args))
        except RethinkRefused:
            return self._run(term(FROZEN, *args))

    def leader(self) -> Leader | None:
        return rows.leader(self._look(reads.leading))

    def workers(self) -> list[Worker]:
        return rows.workers(self._look(reads.workers))

    def copies_of(self, segments: Collection[str]) -> dict[str, list[Copy]]:
        wanted = list(segments)
        found: list[rows.Row] = []
        for start in range(0, len(wanted), SEGMENTS):
            found += self._look(reads.copies_of, wanted[start : start + SEGMENTS])
        return rows.by_segment(found)

    def segments_matching(self, pattern: str | None) -> Iterator[Copy]:
        self._try_pattern(pattern)
        return self._matching(pattern)

    def _try_pattern(self, pattern: str | None) -> None:
        conditions.matcher(pattern)
        try:
            if pattern is not None:
                self._run(reads.try_pattern(pattern))
        except reql.ReqlQueryLogicError as error:
            raise conditions.bad_pattern(pattern or "", error.message) from error

    def _matching(self, pattern: str | None) -> Iterator[Copy]:
        states = rows.worker_states(self._look(reads.worker_states))
        last: str | None = ""
        while last is not None:
            answer = self._look(reads.readable_page, pattern, last, PORTION)
            last = answer["last"]
            yield from rows.living_copies(answer["rows"], states)

    def existing(self, pattern: str | None) -> Iterator[str]:
        self._try_pattern(pattern)
        seen: set[str] = set()
        living = rows.worker_states(self._look(reads.worker_states))
        for part in reads.existing_ranges(pattern):
            states = living if part.of_copies else {}
            last, more = None, True
            while more:
                answer = self._run(reads.existing_page(part, pattern, last, PORTION))
                last, more = answer["last"], answer["last"] is not None
                yield from rows.new_ids(answer["rows"], states, seen)
        unplaced = [{"segment": each} for each in self._run(reads.unplaced(pattern))]
        yield from rows.new_ids(unplaced, {}, seen)

    def is_known(self, segment: str) -> bool:
        return bool(self._look(reads.is_known, segment))

    def inventory(self) -> Inventory:
        return rows.inventory(self._run(reads.inventory()))

    def locks(self, node: str | None = None) -> list[Lock]:
        # Locks that are just being taken are left out: this side completes nothing.
        found = [rows.lock(row) for row in self._lock_rows()]
        return [lock for lock in found if lock is not None and node in (None, lock.node)]

    def _lock_rows(self) -> Iterator[rows.Row]:
        last = ""
        while page := self._run(reads.locks_page(last, PORTION)):
            yield from page
            last = page[-1]["id"]

    def schemas(self) -> list[str]:
        return sorted(self._look(reads.schemas))

    def schema(self, name: str) -> Schema:
        return rows.schema(self._look(reads.schema, name), name)

    def close(self) -> None:
        self._links.close()
