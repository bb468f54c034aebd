"""The errors when segments fail, and so there is no answer.

The caller may ask for the rest with an option. Each interface has another name for that option,
and sets the hint with its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from trough import errors
from trough.util.wording import counted

#: Segments named for each reason, and reasons named; there may be thousands.
_NAMED = 5
_REASONS = 5


class SegmentsFailed(errors.Unavailable):
    """Segments failed that the answer may not do without.

    :ivar rest: whether there would be an answer from the others
    """

    def __init__(self, message: str, rest: bool) -> None:
        super().__init__(message)
        self.rest = rest
        self.offer("partial=True")

    def offer(self, option: str) -> None:
        """Name the option by which this caller asks for an answer from the rest."""
        self.hint = f"{option} answers from the rest" if self.rest else ""


def failure(
    missing: Mapping[str, errors.TroughError], asked: int, rest: bool
) -> errors.TroughError:
    """The error for segments that failed, reason by reason: a mistake of the caller's
    where all failed for one.

    :param rest: whether an answer without them may be asked for
    """
    reasons: dict[str, list[str]] = {}
    for segment, error in missing.items():
        reasons.setdefault(f"{error.code}: {error}", []).append(segment)
    told = [f"{_some(segments)}: {reason}" for reason, segments in reasons.items()]
    more = f"; and {len(told) - _REASONS:,} more reasons" if len(told) > _REASONS else ""
    failed = f"{len(missing):,} of {counted(asked, 'segment')} failed"
    message = f"{failed}: {'; '.join(told[:_REASONS])}{more}"
    kinds = {type(error) for error in missing.values()}
    if len(kinds) == 1 and issubclass(kind := kinds.pop(), errors.BadRequest):
        return kind(message)
    return SegmentsFailed(message, rest and len(missing) < asked)


def stale_refused(stale: Mapping[str, str], asked: int) -> errors.Unavailable:
    """The error for segments whose answers need not be their present state.

    :param stale: their marks
    """
    marks: dict[str, list[str]] = {}
    for segment, mark in stale.items():
        marks.setdefault(mark, []).append(segment)
    told = "; ".join(f"{mark}: {_some(segments)}" for mark, segments in sorted(marks.items()))
    return errors.Unavailable(
        f"{len(stale):,} of {counted(asked, 'segment')} did not answer their present state: {told}",
        "without stale=refuse they are in the answer, and named",
    )


def _some(segments: Iterable[str]) -> str:
    names = list(segments)
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
