"""The requests under way on one connection: taking them up, and keeping track of them.

A tag means one request at a time. Each request is answered once, for any behaviour of its handler.
Work for a request ends with the request. This module does not depend on how requests arrive and
replies leave.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from trough import errors
from trough.access.audit import AuditLog
from trough.metrics.totals import VerbTotals
from trough.protocols.line.framing import LineRequest, Malformed
from trough.protocols.line.messages import format_error
from trough.protocols.line.replies import NotedReply, Reply, ReplyConnection, Verb
from trough.util.job import SilentJob

_log = Logger()


class Requests:
    """What one connection's peer has asked and not been answered yet.

    :param verbs: what can be asked
    :param totals: count requests, by verb, and ``other`` for those that there are not
    :param audit: where changes are noted, or None
    :ivar refusal: of all verbs but those that always work, or None
    :ivar held: bytes of the requests that are under way
    """

    __slots__ = ("_audit", "_connection", "_replies", "_totals", "_verbs", "held", "refusal")

    def __init__(
        self,
        connection: ReplyConnection,
        verbs: Mapping[str, Verb],
        totals: Mapping[str, VerbTotals],
        audit: AuditLog | None = None,
    ) -> None:
        self._totals = totals
        self.refusal: errors.TroughError | None = None
        self.held = 0
        self._connection = connection
        self._verbs = verbs
        self._audit = audit
        self._replies: dict[str, Reply] = {}

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, tag: str) -> Reply | None:
        """The request with this tag, if it is under way."""
        return self._replies.get(tag)

    def take(self, request: LineRequest | Malformed) -> None:
        """Take up a request, or answer why not."""
        tag = request.tag
        if tag in self._replies:
            # Not under its tag: that would end the request that goes on.
            error = errors.ProtocolError(f"tag {tag} is in use", "the earlier request goes on")
            self._connection.send(b"* ERR %b\n" % format_error(error))
            return
        if isinstance(request, Malformed):
            self._connection.send(b"%b ERR %b\n" % (tag.encode(), format_error(request.error)))
            return
        verb = self._verbs.get(request.verb)
        # Most requests have no literals, and are not noted.
        size = request.size() if request.literals else len(request.arguments)
        if self._audit is None or verb is None or not verb.act:
            reply = Reply(self._connection, tag, size)
        else:
            reply = NotedReply(self._connection, tag, size, self._audit, verb.act)
        self._replies[tag] = reply
        self.held += size
        try:
            if verb is None:
                raise _unknown(request, self._verbs)
            reply.verb = request.verb
            if not verb.always:
                if self.refusal is not None:
                    raise self.refusal
                grant = self._connection.grant
                if not grant.rights & verb.needs:
                    grant.check(verb.needs)  # which raises
            going = verb.handler(request, reply)
            if going is not None:
                _Task(going, request, reply)
        except errors.TroughError as error:
            reply.error(error)
        except Exception:
            _report(Failure(), request, reply)

    def ended(self, reply: Reply) -> None:
        """A request has been answered."""
        if self._replies.pop(reply.tag, None) is not None:
            self.held -= reply.size
            seconds = reply.seconds
            if seconds < 0:
                seconds = self._connection.seconds() - reply.began
            self._totals[reply.verb].add(reply.outcome, seconds)

    def pause(self) -> None:
        """Have everything that goes on wait."""
        for reply in list(self._replies.values()):
            reply.pause()

    def resume(self) -> None:
        """Have everything go on."""
        for reply in list(self._replies.values()):
            reply.resume()

    def cancel(self) -> None:
        """Ask everything that goes on to end, and to answer so."""
        for reply in list(self._replies.values()):
            reply.cancel()

    def abandon(self) -> None:
        """Answer nothing any more, and cancel everything that goes on."""
        replies, self._replies = self._replies, {}
        self.held = 0
        for reply in replies.values():
            self._totals[reply.verb].add("lost", self._connection.seconds() - reply.began)
            reply.abandon()


class _Task(SilentJob):
    """A handler that is a coroutine."""

    def __init__(self, handling: Awaitable[None], request: LineRequest, reply: Reply) -> None:
        self._request = request
        self._reply = reply
        self._handling: Deferred[Any] = ensureDeferred(handling)  # type: ignore[arg-type]
        if not self._handling.called:
            reply.follow(self)
        self._handling.addCallbacks(self._returned, self._failed)

    def cancel(self) -> None:
        self._handling.cancel()

    def _returned(self, _: None) -> None:
        if not self._reply.ended and all(job is self for job in self._reply.jobs):
            message = f"{self._request.verb} returned without an answer"
            _report(Failure(RuntimeError(message)), self._request, self._reply)

    def _failed(self, failure: Failure) -> None:
        if isinstance(failure.value, errors.TroughError):
            self._reply.error(failure.value)
        elif failure.check(CancelledError):
            self._reply.error(errors.Cancelled("cancelled"))
        else:
            _report(failure, self._request, self._reply)
        # The jobs that it started answer no client now.
        self._reply.cancel()


def _report(failure: Failure, request: LineRequest, reply: Reply) -> None:
    _log.failure("{verb}, tag {tag}, failed", failure, verb=request.verb, tag=request.tag)
    reply.error(errors.TroughError(f"{request.verb} failed", "the server's log has the reason"))


def _unknown(request: LineRequest, verbs: Mapping[str, Verb]) -> errors.ProtocolError:
    hint = "HELP lists them all"
    if request.tag.upper() in verbs:
        hint = f"a tag comes first, as in: 1 {request.tag.upper()} {request.verb[:20]}"
    return errors.ProtocolError(f"no verb {request.verb}", hint)
