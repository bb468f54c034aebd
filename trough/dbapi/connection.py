"""Connections: one segment to read and write, or many to read as one database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from trough import errors
from trough.dbapi import exceptions
from trough.dbapi.cursor import Cursor, Values
from trough.dbapi.exceptions import InterfaceError, NotSupportedError, translating
from trough.dbapi.servers import Interrupt, RowStream, Servers
from trough.drivers.routing import Router
from trough.drivers.target import ConnectionTarget, parse_target
from trough.metadata.blocking import BlockingMetadata
from trough.metadata.open_blocking import open_blocking
from trough.protocols.line.values import Parameters
from trough.util.wording import counted


class Connection:
    """See PEP 249. Only one thread may use it. An open cursor has a socket of its own.

    There are no transactions: each statement is on disk when ``execute`` returns.

    :ivar timeout: seconds that a statement may take from now on; None: the servers' own limit
    """

    Warning = exceptions.Warning
    Error = exceptions.Error
    InterfaceError = exceptions.InterfaceError
    DatabaseError = exceptions.DatabaseError
    DataError = exceptions.DataError
    OperationalError = exceptions.OperationalError
    IntegrityError = exceptions.IntegrityError
    InternalError = exceptions.InternalError
    ProgrammingError = exceptions.ProgrammingError
    NotSupportedError = exceptions.NotSupportedError

    def __init__(self, target: ConnectionTarget) -> None:
        self.timeout = target.seconds
        self._metadata: BlockingMetadata | None = None
        if target.registry:
            self._metadata = open_blocking(target.registry)
        self._router = Router(target, self._metadata)
        self._servers = Servers(target.token, target.tls)
        self._closed = False
        self._written = 0  # since the last commit
        try:
            self._servers.run(self._router.prepare(), Interrupt(self.timeout))
        except BaseException:
            self.close()
            raise

    def cursor(self) -> Cursor:
        """A cursor. Several may have results under way."""
        self._check_open()
        return Cursor(self)

    def execute(self, operation: str, parameters: Values = None) -> Cursor:
        """Run a statement; return its cursor."""
        return self.cursor().execute(operation, parameters)

    @property
    def autocommit(self) -> bool:
        """Always true: each statement is a transaction."""
        return True

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if not value:
            raise NotSupportedError(_NO_TRANSACTIONS)

    def commit(self) -> None:
        """Do nothing: everything is committed already."""
        self._check_open()
        self._written = 0

    def rollback(self) -> None:
        """Do nothing, if nothing was written since the last commit.

        :raises NotSupportedError: something was written, and stays
        """
        self._check_open()
        written, self._written = self._written, 0
        if written:
            raise NotSupportedError(
                f"{counted(written, 'write')} cannot be taken back: {_NO_TRANSACTIONS}"
            )

    def close(self) -> None:
        """Close everything; the unread rows of results are lost. Idempotent."""
        self._closed = True
        self._servers.close()
        if self._metadata is not None:
            self._metadata.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # -- for cursors ---------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self._closed:
            raise InterfaceError("the connection is closed")

    def _read(self, sql: str, parameters: Parameters | None, interrupt: Interrupt) -> RowStream:
        steps = self._router.read(sql, parameters, self.timeout)
        stream: RowStream = self._servers.run(steps, interrupt)
        return stream

    def _write(self, sql: str, sets: Sequence[Parameters | None], interrupt: Interrupt) -> int:
        self._written += len(sets)
        steps = self._router.write_all(sql, sets, self.timeout)
        try:
            return int(self._servers.run(steps, interrupt))
        except errors.TroughError as error:
            if len(sets) == 1 and not isinstance(error, errors.OutcomeUnknown):
                self._written -= 1
            raise


_NO_TRANSACTIONS = "each statement is a transaction of its own"


def connect(url: str, segment: str | None = None, **options: Any) -> Connection:
    """Connect to one segment, or to many.

    :param url: ``trough://host:port/segment``, or a metadata store's; see ``docs/drivers.rst``
    :param segment: an id, where the URL has none
    :param options: see :func:`trough.drivers.target.parse_target`
    :raises ProgrammingError: the URL or an option is wrong
    :raises OperationalError: no server answers there
    """
    with translating():
        return Connection(parse_target(url, segment, **options))
