"""Regular expressions that are searched for in segment ids.

A regular expression can keep Python's matcher busy for longer than the universe lasts, its
compiler for minutes, and neither lets another thread run. So both run in task processes
(:mod:`trough.executors.pool.task_pool`), for one portion of the ids at a time: a pattern that
takes its time shares the processes with others, and one that does not end is killed.

Clients that look into the store themselves match in their own process
(:mod:`trough.metadata.blocking`): there a pattern can only stop its author.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from trough import errors
from trough.metadata import conditions
from trough.util.quoting import quoted

if TYPE_CHECKING:
    from trough.executors.pool.task_pool import TaskPool

P = ParamSpec("P")
T = TypeVar("T")

#: Seconds of processor time for one pattern and one portion of the ids. A harmless pattern
#: needs 0.02.
PORTION_SECONDS = 1.0

#: Ids of a portion.
PORTION = 10_000


async def matching(tasks: TaskPool, pattern: str, ids: Sequence[str]) -> list[str]:
    """Those of `ids` in which `pattern` is found, in their order.

    :raises trough.errors.BadRequest: it is no regular expression, or too long
    :raises trough.errors.DeadlineExceeded: it takes too long
    """
    found: list[str] = []
    # Without ids, too, a pattern that is none is refused.
    for start in range(0, max(len(ids), 1), PORTION):
        portion = list(ids[start : start + PORTION])
        found += await apply(tasks, matching_portion, pattern, portion)
    return found


async def check(tasks: TaskPool, pattern: str) -> None:
    """Make sure that `pattern` is a regular expression.

    :raises trough.errors.BadRequest: it is none, or too long
    :raises trough.errors.DeadlineExceeded: it takes too long to find out
    """
    await apply(tasks, matching_portion, pattern, [])


async def apply(
    tasks: TaskPool,
    function: Callable[Concatenate[str, P], T],
    pattern: str,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Call a function of a pattern and a portion of ids in a task process."""
    conditions.refuse_long_pattern(pattern)
    try:
        return await tasks.run(PORTION_SECONDS, function, pattern, *args, **kwargs)
    except errors.DeadlineExceeded as late:
        raise errors.DeadlineExceeded(
            f"matching {quoted(pattern)} took more than {PORTION_SECONDS:g} s of processor time",
            "simplify the pattern",
        ) from late


def matching_portion(pattern: str, ids: list[str]) -> list[str]:
    """What :func:`matching` does, in a task process."""
    matches: Callable[[str], Any] = conditions.matcher(pattern)
    return [each for each in ids if matches(each)]
