"""The trace of the request that is being served, for requests to others that it leads to.

A coroutine has the context in which it began. So what is set for a request is seen by all that is
awaited for it, and by nothing else.
"""

from __future__ import annotations

import re
from contextvars import ContextVar

#: The header ``traceparent`` of the request, or empty.
CURRENT_TRACE: ContextVar[bytes] = ContextVar("trough-trace", default=b"")

_TRACE = re.compile(
    r"[0-9a-f]{2}-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)


def sampled(trace: str) -> dict[str, str] | None:
    """The ``trace`` and the ``span`` of a ``traceparent`` that its client samples; else None.

    https://www.w3.org/TR/trace-context/
    """
    match = _TRACE.fullmatch(trace)
    if match is None or not int(match["flags"], 16) & 1:
        return None
    return {"trace": match["trace"], "span": match["span"]}


def current_trace() -> str:
    """The ``traceparent`` of the request that is being served, if it is well formed; or empty."""
    trace = CURRENT_TRACE.get().decode("ascii", "replace")
    return trace if _TRACE.fullmatch(trace) else ""
