"""The type objects and constructors of PEP 249. In SQLite, values have types; columns do not."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from trough.protocols.line.values import Parameters

Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime
Binary = bytes


def DateFromTicks(ticks: float) -> datetime.date:
    """The local date of a moment in seconds since the epoch."""
    return Date(*time.localtime(ticks)[:3])


def TimeFromTicks(ticks: float) -> datetime.time:
    """The local time of a moment in seconds since the epoch."""
    return Time(*time.localtime(ticks)[3:6])


def TimestampFromTicks(ticks: float) -> datetime.datetime:
    """The local date and time of a moment in seconds since the epoch."""
    return Timestamp(*time.localtime(ticks)[:6])


#: ``description`` has None for each column's type, so none of these is equal to one.
STRING, BINARY, NUMBER, DATETIME, ROWID = map(
    frozenset, (["TEXT"], ["BLOB"], ["INTEGER", "REAL"], ["DATETIME"], ["ROWID"])
)


def sent(parameters: Sequence[Any] | Mapping[str, Any] | None) -> Parameters | None:
    """Parameters in the protocol's form; dates, times and decimals as text.

    None if there are none: SQL without ``bind=`` may be several statements.
    """
    if not parameters:
        return None
    if isinstance(parameters, Mapping):
        return {name: _sent(value) for name, value in parameters.items()}
    return [_sent(value) for value in _listed(parameters)]


def _listed(parameters: Iterable[Any]) -> Iterable[Any]:
    return [parameters] if isinstance(parameters, str | bytes) else parameters


def _sent(value: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
