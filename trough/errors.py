"""One tree of errors.

Callers handle each leaf in a different way. A leaf owns its two wire forms: ``code``, the word of
the line protocol, and ``status``, the HTTP status. A message names the fault and its object;
``hint`` is the advice. No class here knows a transport.
"""

from __future__ import annotations


class TroughError(Exception):
    """Anything that Trough refuses or fails to do.

    :param message: what was wrong, and with which segment, key, file or host
    :param hint: what the caller can do; may be empty
    """

    code = "internal"
    status = 500

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


# -- the caller's mistakes: asking again without a change is of no use ----------


class BadRequest(TroughError):
    """The request is malformed, or makes no sense."""

    code = "bad-request"
    status = 400


class BadSegmentId(BadRequest):
    """A segment id or a worker's name that breaks the rule for names."""

    code = "bad-name"


class BadSql(BadRequest):
    """SQLite refused the text, or it is not what this call takes."""

    code = "bad-sql"


class ForbiddenSql(BadSql):
    """Well-formed SQL that the sandbox does not let this caller run."""

    code = "forbidden-sql"


class BadSchema(BadRequest):
    """A schema whose SQL is invalid, or whose keys are wrong."""

    code = "bad-schema"


class ColdSegment(BadRequest):
    """The segment belongs to the cold tier, which is never writable."""

    code = "cold"


def cold_segment(segment: str) -> ColdSegment:
    """The refusal of a request that would write a cold segment."""
    return ColdSegment(f"segment {segment} belongs to the cold tier, which is never writable")


class LockHeld(BadRequest):
    """Refused for as long as the segment has a write lock."""

    code = "locked"


class LimitExceeded(BadRequest):
    """The query needs more rows, bytes, memory or depth than it may have."""

    code = "limit"


class TooLarge(BadRequest):
    """A body, line or literal above the limit for one."""

    code = "too-large"
    status = 413


class Unauthorized(BadRequest):
    """Authentication is configured, and this caller has not passed it."""

    code = "unauthorized"
    status = 401


class Forbidden(BadRequest):
    """The caller's token lacks the right, or is not for this segment."""

    code = "forbidden"
    status = 403


class ForeignPage(BadRequest):
    """A browser sends this for a web page that is not Trough's; over HTTP only."""

    code = "foreign-page"
    status = 403


class BadLogPart(BadRequest):
    """A part of a replicated log that does not continue the follower's log, or was damaged on
    its way; the follower's log is as it was."""

    code = "bad-log-part"


class MethodNotAllowed(BadRequest):
    """The path is right, and takes another HTTP method."""

    code = "method"
    status = 405


class BadSettings(TroughError):
    """A settings file or an environment variable that cannot be used."""

    code = "bad-settings"


class NotFound(TroughError):
    """What was asked for is nowhere."""

    code = "not-found"
    status = 404


class NoSuchSegment(NotFound):
    """The segment has neither a copy on a worker nor a canonical copy."""

    code = "no-segment"


class NoSuchSchema(NotFound):
    """No schema has this name."""

    code = "no-schema"


# -- states of the cluster: asking again, or elsewhere, may succeed -------------


class Unavailable(TroughError):
    """Something that is needed does not answer now; it may pass."""

    code = "unavailable"
    status = 503


class DeadlineExceeded(Unavailable):
    """The query was stopped at its time limit."""

    code = "timeout"


class Cancelled(Unavailable):
    """The caller, or a shutdown, ended the request."""

    code = "cancelled"


class OutcomeUnknown(Unavailable):
    """A write was under way when its executor died, or its lock was lost: it may be on disk
    or not."""

    code = "outcome-unknown"


class DiskFull(Unavailable):
    """No room for the write; the segment is as it was."""

    code = "disk-full"


class CorruptSegment(Unavailable):
    """The local copy is damaged; it is being replaced by the canonical copy."""

    code = "corrupt"


class LogBroken(Unavailable):
    """A replicated log on a disk is not what it was: a flush failed, or a file was replaced. A
    holder gives up the write lock, and a follower needs a base; neither tries it again."""

    code = "log-broken"


class UnderReplicated(Unavailable):
    """Neither followers nor the metadata store answer, so no write can be acknowledged."""

    code = "under-replicated"


class Moved(Unavailable):
    """The segment is served elsewhere.

    :param node: the worker that serves it
    :param line: ``host:port`` of that worker's line protocol, or ``""``
    """

    code = "moved"

    def __init__(self, message: str, node: str, line: str = "") -> None:
        super().__init__(message)
        self.node = node
        self.line = line


class NoWriteLock(Unavailable):
    """This worker does not hold the segment's write lock: provision it again."""

    code = "no-lock"


class HolderLost(Unavailable):
    """The worker that holds the write lock is not alive."""

    code = "holder-lost"


class Conflict(TroughError):
    """A conditional change found another state than the caller had seen."""

    code = "conflict"
    status = 409


class LogGone(Conflict):
    """A replicated log does not reach back as far as a follower needs: it needs a base."""

    code = "log-gone"


class UnusableFile(TroughError):
    """What lies at a segment's path in canonical storage is no file that can be served."""

    code = "unusable-file"
    status = 409


class NameTaken(Conflict):
    """Another live worker has this name."""

    code = "name-taken"


class NotLeader(Conflict):
    """A plan or an order from a sync server that no longer leads."""

    code = "not-leader"


class Fenced(Conflict):
    """The lock's epoch is older than the one in force."""

    code = "fenced"


# -- framing: the conversation itself is in question ----------------------------


class ProtocolError(BadRequest):
    """A line that is not a message of the protocol; framing is intact."""

    code = "protocol"


class FramingLost(ProtocolError):
    """Where the next message begins is unknown: the connection has to end."""

    code = "framing"


def _leaves(cls: type[TroughError]) -> list[type[TroughError]]:
    found = [cls]
    for child in cls.__subclasses__():
        found += _leaves(child)
    return found


#: Every error by its wire code, for clients that turn a code back into an error.
BY_CODE: dict[str, type[TroughError]] = {cls.code: cls for cls in _leaves(TroughError)}


def from_code(code: str, message: str) -> TroughError:
    """The error that a peer reported.

    :param code: a wire code; one that this version does not know becomes a
        plain :class:`TroughError`
    :param message: the peer's sentence
    """
    cls = BY_CODE.get(code, TroughError)
    if issubclass(cls, Moved):
        node, _, line = message.partition(" ")
        return Moved(message, node, line)
    return cls(message)


def may_pass(error: TroughError | None) -> bool:
    """Whether a read that failed so may succeed with another copy, or the same one elsewhere.

    A deadline and a limit would only be met again, and a cancelled query is not wanted.
    """
    return isinstance(error, Unavailable | NoSuchSegment) and not isinstance(
        error, DeadlineExceeded | HolderLost | DiskFull
    )
