"""Looks for a query that GATHER answers otherwise than SQLite: ``make search``.

Two oracles. SQLite over one database with all rows, wherever that gives the same answer for
rows inserted in different orders. And GATHER itself over the same rows, spread over other
segments: the answer must not depend on how rows are spread.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from typing import Any

from gather_queries import Queries
from gather_support import Cluster, exact_rows
from gather_worlds import World, world

from trough import errors
from trough.sql.sqlite import sqlite3

#: Queries in each world.
QUERIES = 40
#: Instructions of SQLite's machine that a query of the union may take, in portions of 1,000.
_MOST_STEPS = 3_000


class Found(AssertionError):
    """A query that GATHER answers otherwise than an oracle."""


def search(seed: int, worlds: int, counts: Counter[str] | None = None) -> None:
    """Try queries in a number of worlds.

    :raises Found: the first query that is answered otherwise
    """
    counts = Counter() if counts is None else counts
    for number in range(worlds):
        rng = random.Random(f"{seed}:{number}")
        made = world(rng)
        queries = Queries(rng, made.tables, made.index)
        for _ in range(QUERIES):
            within = rng.random() < 0.12
            sql = queries.within() if within else queries.query()
            parameters = dict(queries.parameters)
            try:
                if within:
                    counts[check_within(made, sql, parameters)] += 1
                else:
                    counts[check(made, sql, parameters, rng)] += 1
            except Found as error:
                raise Found(f"seed {seed}, world {number}: {error}") from error
        counts["filters that lack it"] += made.cluster.lacking


def check(made: World, sql: str, parameters: dict[str, Any], rng: random.Random) -> str:
    """Compare one query with both oracles; what came of it, in a word.

    :raises Found: an answer differs
    """
    ordered = " ORDER BY " in sql.rpartition(")")[2]
    expected = _expected(made, sql, parameters, ordered)
    if expected == "invalid":
        return "invalid"
    try:
        got = _answer(made.cluster, sql, parameters, ordered)
    except errors.TroughError as error:
        if _is_conflict(made, error):
            return "conflict"
        if "have no rowid of their own" in error.message:
            return "rowid"
        if made.index and "is a full-text index of each segment" in error.message:
            return "index"
        return _refused(error, expected, sql, parameters)
    if isinstance(expected, str):
        return expected
    told = ""
    if got == expected and rng.random() < 0.25:
        got, told = _answer(made.respread(rng), sql, parameters, ordered), "rows spread otherwise"
    if got == expected:
        return "compared"
    if any(_rows(made.shuffled(rng), sql, parameters, ordered) != expected for _ in range(60)):
        return "arbitrary"
    raise Found(f"{sql!r} {parameters} {told}\n{_shown(made)}\nexpected {expected}\ngot {got}")


def check_within(made: World, sql: str, parameters: dict[str, Any]) -> str:
    """Compare a query within segments with SQLite over each segment alone.

    :raises Found: the answer differs
    """
    expected: Any = []
    for segment in made.cluster.segments:
        union = made.alone(segment)
        steps = iter(range(_MOST_STEPS))
        union.set_progress_handler(lambda steps=steps: next(steps, None) is None, 1000)
        try:
            expected += union.execute(sql, parameters).fetchall()
        except sqlite3.Error:
            return "invalid or failing"
    try:
        got = made.cluster.gather(sql, parameters, within=True, now=time.time())
    except errors.TroughError as error:
        # What is refused within segments has a reason of its own; it is counted.
        if "cannot be divided within" in error.message or _is_conflict(made, error):
            return "refused within"
        raise Found(f"refused within segments: {error}\n{sql!r} {parameters}") from error
    if exact_rows(got, False) == exact_rows(expected, False):
        return "compared within"
    raise Found(
        f"within segments: {sql!r} {parameters}\n{_shown(made)}\nexpected {expected}\ngot {got}"
    )


def _is_conflict(made: World, error: errors.TroughError) -> bool:
    return made.conflicts and "the query compares it or orders by it" in error.message


def _expected(made: World, sql: str, parameters: dict[str, Any], ordered: bool) -> Any:
    """SQLite's answer; a word where there is none, or none that all orders of rows share."""
    answers = []
    for union in made.unions:
        steps = iter(range(_MOST_STEPS))
        union.set_progress_handler(lambda steps=steps: next(steps, None) is None, 1000)
        try:
            answers.append(_rows(union, sql, parameters, ordered))
        except sqlite3.Error as error:
            # At compile time, or for some row.
            if "interrupted" in str(error):
                return "slow"
            return "invalid" if not answers and _is_invalid(union, sql, parameters) else "failing"
        finally:
            union.set_progress_handler(None, 0)
    return answers[0] if all(each == answers[0] for each in answers) else "arbitrary"


def _rows(union: Any, sql: str, parameters: dict[str, Any], ordered: bool) -> list:
    return exact_rows(union.execute(sql, parameters).fetchall(), ordered)


def _is_invalid(union: Any, sql: str, parameters: dict[str, Any]) -> bool:
    try:
        union.execute(f"EXPLAIN {sql}", parameters)
    except sqlite3.Error:
        return True
    return False


def _answer(cluster: Cluster, sql: str, parameters: dict[str, Any], ordered: bool) -> Any:
    return exact_rows(cluster.gather(sql, parameters, now=time.time()), ordered)


def _refused(error: errors.TroughError, expected: Any, sql: str, parameters: Any) -> str:
    if isinstance(expected, str):
        return expected
    raise Found(f"refused: {error}\n{sql!r} {parameters}") from error


def _shown(made: World) -> str:
    return "\n".join([made.script, *(f"{script!r} {rows}" for script, rows in made.parts)])


def main() -> int:
    """Search with new seeds for a time in seconds; print what is found."""
    until = time.monotonic() + float(sys.argv[1] if len(sys.argv) > 1 else 3600)
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    counts: Counter[str] = Counter()
    found = 0
    while time.monotonic() < until:
        try:
            search(seed, 1, counts)
        except Found as error:
            found += 1
            print(f"{error}\n", flush=True)
        seed += 1
    print(f"{found} found; {dict(counts)}; next seed {seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
