"""Decides which server to ask for a read, a write and a GATHER, and when to retry. No I/O.

A router keeps addresses, and looks them up again when one fails. It finds segments through the
line protocol of a sync server, or through the metadata store.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

from trough import errors
from trough.drivers.registry import leader_address
from trough.drivers.steps import Ask, AskAll, Look, NotReached, OpenStream, Role, Steps
from trough.drivers.target import ConnectionTarget
from trough.metadata.blocking import BlockingMetadata
from trough.model import READ, WRITE, segment_word
from trough.protocols.line.messages import (
    format_gather,
    format_query,
    format_request,
    format_segments,
    format_word,
    format_write,
    parse_error,
    parse_fields,
)
from trough.protocols.line.values import Parameters
from trough.util.wording import counted

#: How often a router tries a read, at most.
TRIES = 4

#: Writes that a router sends at once.
AT_ONCE = 200

#: Refusals of a write that hold only for the asked server: another one may accept it.
_NOT_HERE = (NotReached, errors.NoWriteLock, errors.Moved, errors.Fenced)


class Router:
    """Finds servers for the statements of one target.

    :param metadata: the store of the target's registry, where it has one
    """

    def __init__(self, target: ConnectionTarget, metadata: BlockingMetadata | None) -> None:
        self._target = target
        self._metadata = metadata
        self._readable = ""
        self._writable = ""
        self._is_worker: bool | None = False if metadata is not None else None

    # -- statements ----------------------------------------------------------------------

    def connect(self) -> Steps:
        """Find out whether the target's server is a worker or a sync server.

        :raises trough.errors.TroughError: it does not answer, or does not support the target
        """
        if self._is_worker is None:
            self._is_worker = (yield Role(self._target.server)) == "worker"
        if self._is_worker and self._target.many:
            raise errors.BadRequest(
                f"{self._target.server} is a worker, and many segments are asked by a sync server",
                "connect to a sync server (port 6110), or to one segment",
            )

    def prepare(self) -> Steps:
        """:meth:`connect`, and make the segment writable, if the target wants that.

        :raises trough.errors.TroughError: see there; or the segment cannot be written
        """
        yield from self.connect()
        if self._target.create:
            _ = self._target.segment
            self._writable = yield from self._find_writable()

    def read(self, sql: str, parameters: Parameters | None, seconds: float | None) -> Steps:
        """Send a query; return the driver's stream of its result.

        :raises trough.errors.TroughError: no server answered, or the server refused the query
        """
        yield from self.connect()
        if self._target.many:
            return (yield from self._gather(sql, parameters, seconds))
        query = partial(
            format_query,
            segments=[self._target.segment],
            sql=sql,
            parameters=parameters,
            seconds=seconds,
        )
        avoid: set[str] = set()
        for left in reversed(range(TRIES)):
            address = self._readable or (yield from self._find_readable(avoid))
            try:
                stream = yield OpenStream(address, query)
            except errors.TroughError as error:
                self._readable = error.line if isinstance(error, errors.Moved) else ""
                if not (left and errors.may_pass(error)):
                    raise
                avoid.add(address)
            else:
                self._readable = address
                return stream
        raise AssertionError("the last try returns or raises")

    def write(self, sql: str, parameters: Parameters | None, seconds: float | None) -> Steps:
        """Run SQL in one transaction; return how many rows it changed.

        :raises trough.errors.OutcomeUnknown: no answer came; the router does not retry
        :raises trough.errors.TroughError: nothing was written
        """
        segment = self._target.segment
        yield from self.connect()
        request = partial(
            format_write, segment=segment, sql=sql, parameters=parameters, seconds=seconds
        )
        for last in (False, True):
            address = self._writable or (yield from self._find_writable())
            try:
                lines = yield Ask(address, request, f"a write to segment {segment}")
                self._writable = self._readable = address
                return int(_fields(lines).get("changes", 0))
            except _NOT_HERE as error:
                self._writable = ""
                if isinstance(error, errors.NoWriteLock) and self._is_worker:
                    error.hint = "connect to a sync server, which provisions the segment"
                if last or self._is_worker:
                    raise
            except errors.OutcomeUnknown:
                self._writable = ""
                raise
        raise AssertionError("a write ends at its second try")

    def write_all(
        self, sql: str, sets: Sequence[Parameters | None], seconds: float | None
    ) -> Steps:
        """Run one write for each set of parameters; return how many rows all of them changed.

        Each is a transaction. The server gets many at once, in this order, so they share commits.

        :raises trough.errors.OutcomeUnknown: some answers did not come; the router does not retry
        :raises trough.errors.TroughError: of the first write that failed; others may be done
        """
        if not sets:
            return 0
        changes = yield from self.write(sql, sets[0], seconds)
        segment = self._target.segment
        make = partial(format_write, segment=segment, sql=sql, seconds=seconds)
        for start in range(1, len(sets), AT_ONCE):
            requests = [partial(make, parameters=each) for each in sets[start : start + AT_ONCE]]
            what = f"{counted(len(requests), 'write')} to segment {segment}"
            lines = yield AskAll(self._writable, requests, what)
            for word, rest in lines:
                if word == b"ERR":
                    self._writable = ""
                    raise parse_error(rest)
                changes += int(_fields([(word, rest)]).get("changes", 0))
        return changes

    def _gather(self, sql: str, parameters: Parameters | None, seconds: float | None) -> Steps:
        request = partial(
            format_gather,
            segments=self._target.segments,
            sql=sql,
            parameters=parameters,
            seconds=seconds,
            options=self._target.options,
        )
        try:
            return (yield OpenStream((yield from self._sync_server()), request))
        except errors.Unavailable as error:
            # A lost connection, or a leader that is gone; not a decision of a server.
            if type(error) not in (NotReached, errors.Unavailable):
                raise
            return (yield OpenStream((yield from self._sync_server()), request))

    # -- where segments are ------------------------------------------------------------------

    def _sync_server(self) -> Generator[Any, Any, str]:
        metadata = self._metadata
        if metadata is None:
            return self._target.server
        return str((yield Look(partial(leader_address, metadata))))

    def _find_readable(self, avoid: set[str]) -> Generator[Any, Any, str]:
        if self._is_worker:
            return self._target.server
        found = yield from self._copies()
        # The writer of a segment has its newest state.
        addresses = [address for role, address in sorted(found, key=_is_read)]
        if not addresses:
            raise errors.NoSuchSegment(f"no worker serves segment {self._target.segment}")
        return next((each for each in addresses if each not in avoid), addresses[0])

    def _find_writable(self) -> Generator[Any, Any, str]:
        if self._is_worker:
            return self._target.server
        segment, schema = self._target.segment, self._target.schema
        words = (segment_word(segment).encode(), format_word(schema.encode(), b"schema="))
        server = yield from self._sync_server()
        request = partial(_command, verb=b"PROVISION", words=words)
        yield Ask(server, request)
        for role, address in (yield from self._copies()):
            if role == WRITE:
                return address
        raise errors.Unavailable(f"no worker writes segment {segment} now", "ask again")

    def _copies(self) -> Generator[Any, Any, list[tuple[str, str]]]:
        """Role and address of each copy that has one."""
        segment, metadata = self._target.segment, self._metadata
        if metadata is not None:
            return (yield Look(partial(_copies_in, metadata, segment)))
        request = partial(_command, verb=b"WHERE", words=(format_segments([segment]),))
        lines = yield Ask(self._target.server, request)
        copies = [rest.decode().split(" ") for word, rest in lines if word == b"COPY"]
        roles = {"read": READ, "write": WRITE}
        return [(roles[copy[4]], copy[2]) for copy in copies if copy[2] != "-" and copy[4] in roles]


def _command(tag: bytes, verb: bytes, words: tuple[bytes, ...]) -> bytes:
    return format_request(tag, verb, *words)


def _is_read(copy: tuple[str, str]) -> bool:
    return copy[0] == READ


def _copies_in(metadata: BlockingMetadata, segment: str) -> list[tuple[str, str]]:
    workers = {worker.node: worker.line for worker in metadata.workers()}
    copies = metadata.copies_of([segment]).get(segment, [])
    return [(copy.role, workers[copy.node]) for copy in copies if workers.get(copy.node)]


def check_answer(lines: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The lines of an answer.

    :raises trough.errors.TroughError: the server refused
    """
    word, rest = lines[-1]
    if word == b"ERR":
        raise parse_error(rest)
    return lines


def _fields(lines: list[tuple[bytes, bytes]]) -> dict[str, int | str]:
    return parse_fields(lines[-1][1].decode("utf-8", "replace"))
