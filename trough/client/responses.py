"""What HTTP answers mean to the blocking client: exceptions, rows, and whether to go on.

The exceptions are those of the original system's client, which callers catch by name.
Everything here is a function of an answer that arrived; nothing asks or waits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from trough import errors
from trough.client.http import Response
from trough.protocols.http import headers

#: The header with the code of an HTTP answer's error (trough/errors.py).
#: Workers of the original system do not send it.
CODE_HEADER = headers.CODE_HEADER.decode()

#: The header that marks rows which need not be the segment's present state.
STATE_HEADER = headers.STATE_HEADER.decode()

# The original system's workers answer so if they do not hold the lock.
_NO_LOCK_SENTENCE = "There is no write lock set"
_NOT_THE_HOLDER = frozenset({"no-lock", "moved", "fenced"})
_WORTH_ASKING_ELSEWHERE = frozenset({"no-segment", "moved", "unavailable", "corrupt", "cancelled"})

_MAY_RETURN = frozenset({"no-segment", "moved", "unavailable", "cancelled"})

# A message stays readable though a write may have megabytes; `payload` has it whole.
_SHOWN = 500


class TroughException(errors.TroughError):
    """A call failed.

    :ivar payload: the bytes that were sent, or None
    :ivar returned_message: what the server answered, or None
    """

    def __init__(
        self,
        message: object,
        payload: bytes | None = None,
        returned_message: str | None = None,
    ) -> None:
        super().__init__(str(message))
        self.payload = payload
        self.returned_message = returned_message


class TroughSegmentNotFound(TroughException):
    """No worker serves the segment: it was not provisioned yet, or was deleted."""

    code = errors.NoSuchSegment.code
    status = errors.NoSuchSegment.status


class TroughOutcomeUnknown(TroughException):
    """A write was sent and not answered: it may be on disk or not."""

    code = errors.OutcomeUnknown.code
    status = errors.OutcomeUnknown.status


class Rows(list[dict[str, Any]]):
    """The rows of one segment.

    :ivar state: empty, or ``last-promoted`` or ``unconfirmed``: these rows need not be the
        segment's present state
    """

    state = ""


class GatheredRows(list[dict[str, Any]]):
    """The rows of an answer over many segments.

    :ivar missing: segments that are not in it, each with ``error`` and ``code``
    :ivar stale: segments in it whose state need not be the present one, with their marks
    """

    def __init__(
        self,
        rows: Iterable[dict[str, Any]] = (),
        missing: Mapping[str, dict[str, str]] | None = None,
        stale: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(rows)
        self.missing = dict(missing or {})
        self.stale = dict(stale or {})


def rows_of(body: bytes) -> Rows:
    """The rows of an answer, BLOBs as bytes.

    :raises ValueError: it is not JSON, or not whole
    """
    rows = Rows(json.loads(body))
    # A value that is an object is a BLOB; texts that hold JSON arrive as strings.
    if b'{"blob"' in body:
        for row in rows:
            for name, value in row.items():
                if isinstance(value, dict):
                    row[name] = base64.b64decode(value["blob"])
    return rows


def gathered(body: bytes) -> tuple[GatheredRows, dict[str, Any]]:
    """The rows of a GATHER's answer, and what is missing from it, by segment.

    :raises ValueError: it is not JSON, or not whole
    """
    answer = json.loads(body, object_hook=_blob_or_object)
    names = answer["columns"]
    rows = [dict(zip(names, row, strict=True)) for row in answer["rows"]]
    return GatheredRows(rows, answer["missing"], answer.get("stale")), answer["missing"]


def _blob_or_object(value: dict[str, Any]) -> Any:
    # Of a segment of that name an object is told, and no text.
    is_blob = value.keys() == {"blob"} and isinstance(value["blob"], str)
    return base64.b64decode(value["blob"]) if is_blob else value


def unexpected(response: Response, what: str, payload: bytes | None = None) -> TroughException:
    """The exception for an answer that is not the one hoped for.

    :param what: was asked, as method and URL
    :param payload: what was sent with it
    """
    sent = ""
    if payload is not None:
        cut = f"... ({len(payload)} bytes)" if len(payload) > _SHOWN else ""
        sent = f" with payload {payload[:_SHOWN]!r}{cut}"
    code = response.headers.get(CODE_HEADER, errors.TroughError.code)
    kind = TroughOutcomeUnknown if code == TroughOutcomeUnknown.code else TroughException
    error = kind(
        f"unexpected response {response.status} {response.reason!r}: {response.text!r} "
        f"from {what}{sent}",
        payload,
        response.text,
    )
    error.code, error.status = code, response.status
    return error


def lock_is_elsewhere(response: Response) -> bool:
    """Whether a write was refused because another worker, or none, holds the lock."""
    code = response.headers.get(CODE_HEADER)
    return code in _NOT_THE_HOLDER if code else _NO_LOCK_SENTENCE in response.text


def worth_asking_elsewhere(response: Response, remembered: bool) -> bool:
    """Whether a read that was answered so may succeed with another copy.

    :param remembered: whether the address was an old one
    """
    code = response.headers.get(CODE_HEADER)
    if code:
        return code in _WORTH_ASKING_ELSEWHERE
    # An original worker answers 500 to everything, a segment that it no longer has
    # included; that is likely only where the address was an old one.
    return remembered and (response.status >= 500 or response.status == 404)


def may_return(response: Response) -> bool:
    """Whether a read was refused because the segment's worker stops, starts or is away."""
    return response.headers.get(CODE_HEADER) in _MAY_RETURN
