"""What a GATHER process and its parent send each other; framed by :mod:`trough.executors.ipc`.

One session at a time. Within it the parent asks one question at a time (``NEXT``, ``MORE``,
``EXPLAIN``, ``CLOSE``) and waits for its answer, and reports what segments send without waiting.
Messages are handled in their order. Both ends are one version of one program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trough import errors
from trough.gather.errors import SegmentsFailed
from trough.sql.json_rows import JsonRows

# -- from the parent ---------------------------------------------------------------------

#: sql, segments, parameters, partial, within, now, limits: a session begins
BEGIN = 1
#: segment, rows: as values, or as bytes with the JSON array of them
ROWS = 2
#: segment, count
DONE = 3
#: segment, code, message, hint
FAILED = 4
#: segment: its answer begins again from the first row
RESTARTED = 5
#: bytes: echoed as TAKEN once everything before is handled
MARK = 6
#: a question: what to ask the segments; REQUESTS
NEXT = 7
#: a question: some rows of the final step; RESULT
MORE = 8
#: a question: the plan, as text; PLAN
EXPLAIN = 9
#: a question: the session ends; CLOSED
CLOSE = 10
#: segments, rows as in ROWS: these have answered whole, together
MERGED = 11

# -- from the process --------------------------------------------------------------------

#: requests, names of the answer's columns, whether the same question would be answered alike
#: while no segment changes; a request is segments, sql, parameters, the fields of each of its
#: tests, and the rules of its merging
REQUESTS = 1
#: rows, missing: with the last of them a list of segment, code, message, hint; else None
RESULT = 2
#: text, or None while no plan is known
PLAN = 3
#: the process is free again
CLOSED = 4
#: code, message, hint, rest, too few, missing: the answer to any question where there is none
REFUSED = 5
#: rows of the answer that may be passed on before the end, and their number; the rows are values,
#: or bytes with JSON arrays and commas between them
PASSED = 6
#: bytes; see MARK
TAKEN = 7
#: queries under way are not needed any more
SATISFIED = 8
#: process id: the first message of a process that a fork server made
STARTED = 9

#: Segment, code, message and hint of each segment that failed.
Missing = list[tuple[str, str, str, str]]


def missing_of(failures: Mapping[str, errors.TroughError]) -> Missing:
    """Failures as they travel."""
    return [(name, each.code, each.message, each.hint) for name, each in failures.items()]


def failures_of(missing: Missing) -> dict[str, errors.TroughError]:
    """Failures as they were."""
    return {name: _error(code, message, hint) for name, code, message, hint in missing}


def error_of(code: str, message: str, hint: str, rest: bool | None) -> errors.TroughError:
    """The error of a REFUSED.

    :param rest: of :class:`trough.gather.errors.SegmentsFailed`; None for other errors
    """
    if rest is None:
        return _error(code, message, hint)
    return SegmentsFailed(message, rest)


def refusal(
    error: errors.TroughError, too_few: bool, failures: Mapping[str, errors.TroughError]
) -> tuple[Any, ...]:
    """REFUSED, for an error."""
    rest = error.rest if isinstance(error, SegmentsFailed) else None
    told = error.code, error.message, error.hint
    return (REFUSED, *told, rest, too_few, missing_of(failures))


def _error(code: str, message: str, hint: str) -> errors.TroughError:
    error = errors.from_code(code, message)
    error.hint = hint
    return error


def passed_rows(rows: list[Sequence[Any]] | bytes, count: int) -> Sequence[Sequence[Any]]:
    """The rows of a :data:`PASSED`."""
    return JsonRows(rows, count) if isinstance(rows, bytes) else rows
