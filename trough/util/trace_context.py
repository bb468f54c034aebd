"""The trace of the request that is being served, for requests to others that it leads to.

A coroutine has the context in which it began. So what is set for a request is seen by all that is
awaited for it, and by nothing else.
"""

from __future__ import annotations

from contextvars import ContextVar

#: The header ``traceparent`` of the request, or empty.
CURRENT_TRACE: ContextVar[bytes] = ContextVar("trough-trace", default=b"")
