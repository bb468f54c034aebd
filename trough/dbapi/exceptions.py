"""The exceptions of PEP 249, and their mapping from Trough's error codes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from trough import errors


class Warning(Exception):
    """Never raised; PEP 249 wants the name."""


class Error(Exception):
    """Any failure.

    :ivar code: of the line protocol, such as ``no-segment``; empty: the program has a mistake
    """

    def __init__(self, message: str = "", code: str = "") -> None:
        super().__init__(message)
        self.code = code


class InterfaceError(Error):
    """The program uses this interface wrongly, for example a closed cursor."""


class DatabaseError(Error):
    """Something that Trough refused or failed to do."""


class DataError(DatabaseError):
    """A value that SQLite or an Arrow column cannot store."""


class OperationalError(DatabaseError):
    """A state of the cluster, or a limit: a later retry may succeed."""


class OutcomeUnknown(OperationalError):
    """A write was sent, and no answer came: it may be on disk or not. The driver does not retry."""


class IntegrityError(DatabaseError):
    """A constraint of a table does not hold."""


class InternalError(DatabaseError):
    """A bug in Trough; the server's log has more."""


class ProgrammingError(DatabaseError):
    """SQL, a segment's id or a URL is wrong."""


class NotSupportedError(DatabaseError):
    """Trough does not support this, for example transactions over several statements."""


# The first class that matches counts.
_CLASSES: list[tuple[type[errors.TroughError], type[DatabaseError]]] = [
    (errors.OutcomeUnknown, OutcomeUnknown),
    (errors.Unavailable, OperationalError),
    (errors.ForbiddenSql, NotSupportedError),
    (errors.Unauthorized, OperationalError),
    (errors.Forbidden, OperationalError),
    (errors.LimitExceeded, OperationalError),
    (errors.TooLarge, DataError),
    (errors.NoSuchSegment, OperationalError),
    (errors.ColdSegment, NotSupportedError),
    (errors.LockHeld, OperationalError),
    (errors.FramingLost, OperationalError),
    (errors.BadRequest, ProgrammingError),
    (errors.NotFound, ProgrammingError),
    (errors.Conflict, OperationalError),
    (errors.UnusableFile, OperationalError),
]

# SQLite's messages for a row that a table rejects.
_INTEGRITY = ("constraint failed", "datatype mismatch")


def translated(error: errors.TroughError) -> Error:
    """The exception of PEP 249 for an error of Trough, with the same text and code."""
    text = str(error)
    if isinstance(error, errors.BadSql) and any(words in text for words in _INTEGRITY):
        return IntegrityError(text, error.code)
    for cls, becomes in _CLASSES:
        if isinstance(error, cls):
            return becomes(text, error.code)
    return InternalError(text, error.code)


@contextmanager
def translating() -> Iterator[None]:
    """Raise errors of Trough as exceptions of PEP 249."""
    try:
        yield
    except errors.TroughError as error:
        raise translated(error) from error
