"""GATHER for blocking clients: a question a segment, some at once, answers merged here.

:func:`gather_blocking` needs nothing but a function that asks one segment and returns its
rows; the client brings it along. Questions go through threads, and the gathering itself,
which is not for several threads, stays on the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from trough import errors
from trough.gather.gathering import Gathering, Request

#: Asks one segment: its id, the SQL, and parameters by name or None; all of its rows, each
#: as values in order or as an object by column name. Raises :class:`trough.errors.TroughError`.
Asker = Callable[
    [str, str, Mapping[str, Any] | None], Sequence[Sequence[Any]] | Sequence[Mapping[str, Any]]
]

#: Questions under way at a time.
AT_ONCE = 16


def gather_blocking(gathering: Gathering, ask: Asker, at_once: int = AT_ONCE) -> Iterator[Any]:
    """Drive `gathering` to its end; the rows of the answer, as they become known.

    :raises trough.errors.TroughError: it cannot be answered, or segments failed
    """
    try:
        with ThreadPoolExecutor(at_once, "trough-gather") as pool:
            while requests := gathering.next_requests():
                for request in requests:
                    yield from _asked(gathering, request, ask, pool, at_once)
        yield from gathering.result()
    finally:
        gathering.close()


def _asked(
    gathering: Gathering, request: Request, ask: Asker, pool: ThreadPoolExecutor, at_once: int
) -> Iterator[Any]:
    waiting = iter(request.segments)
    running: dict[Future[Any], str] = {}
    try:
        while not gathering.satisfied:
            for segment in waiting:
                running[pool.submit(ask, segment, request.sql, request.parameters)] = segment
                if len(running) >= 2 * at_once:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                _tell(gathering, running.pop(future), future)
            yield from gathering.take()
    finally:
        for future in running:
            future.cancel()


def _tell(gathering: Gathering, segment: str, future: Future[Any]) -> None:
    try:
        rows = future.result()
    except errors.TroughError as error:
        gathering.failed(segment, error)
        return
    if rows and isinstance(rows[0], Mapping):
        # Objects have their columns under the names c0, c1 ... that are asked for.
        names = [f"c{place}" for place in range(len(rows[0]))]
        rows = [[row[name] for name in names] for row in rows]
    gathering.rows(segment, rows)
    gathering.done(segment, len(rows))
