"""A log event as one line of JSON, for programs that collect logs.

One flat object: ``time``, ``level``, ``system`` and ``message`` always, then the event's own
fields under their names (``segment``, ``node``, ``reason`` ...), then ``traceback`` where
something failed unexpectedly. Every event gives a line: values that JSON lacks are written as
text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from twisted.logger import LogEvent, LogLevel, formatEvent
from twisted.python.reflect import safe_str

# What Twisted's former log has, and adds to events for its observers.
_FORMER = frozenset({"format", "isError", "message", "printed", "system", "text", "time"})


def json_line(event: LogEvent) -> str | None:
    """The line of an event, with its line end; None for an event without text."""
    message = formatEvent(event)
    failure = event.get("log_failure")
    if not message and failure is None:
        return None
    own = {
        key: value
        for key, value in event.items()
        if not key.startswith("log_") and key not in _FORMER
    }
    level = event.get("log_level", LogLevel.info).name
    system = str(event.get("log_namespace", "-"))
    told = {"traceback": failure.getTraceback()} if failure is not None else {}
    return said(event["log_time"], level, system, message, {**own, **told})


def said(
    time: float, level: str, system: str, message: str, fields: Mapping[str, Any] | None = None
) -> str:
    """A line with these fields.

    :param time: seconds since the epoch
    :param fields: further ones, of other names
    """
    line: dict[str, Any] = {
        "time": datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds"),
        "level": level,
        "system": system,
        "message": message,
    }
    for name, value in (fields or {}).items():
        line.setdefault(name, _plain(value))
    return json.dumps(line) + "\n"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    return safe_str(value)
