"""The SQL functions that Trough adds to SQLite's own.

Existing queries use them. The contract with existing clients fixes their results, and tests
check them against it. They are plain functions of values. A function that refuses its argument
raises an error of Trough. SQLite would replace that error by a sentence without information,
so :class:`Functions` keeps it for the caller of the query.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from trough import errors
from trough.sql import column_filters, column_ranges
from trough.sql.percentiles import PERCENTILES
from trough.util.quoting import quoted

#: Characters that the pattern of REGEXP may have.
MAX_PATTERN = 10_000

#: What a value of SQLite is to Python.
Value = None | int | float | str | bytes


#: What makes filters of columns.
_OF_FILTERS = (column_filters.FUNCTION, column_ranges.FUNCTION)


class Functions:
    """The functions of one process, for all of its connections.

    :ivar problem: the error that a function raised in the present query, or None
    :ivar matching: whether a regular expression is being compiled or matched at this
        moment, which SQLite cannot interrupt
    :ivar before_matching: called before that, so that somebody else can
    """

    def __init__(self) -> None:
        self.before_matching: Callable[[], None] = _nothing
        self.problem: errors.TroughError | None = None
        self.matching = False
        #: Each function by its name in SQL, with the number of its arguments.
        self.registry: Mapping[str, tuple[int, Callable[..., Value]]] = {
            "REGEXP": (2, self._keeping_problem(self._regexp)),
            "SEEDCRAWLEDSTATUS": (1, self._keeping_problem(seed_crawled_status)),
            "BUILDREDIRECTARRAY": (4, self._keeping_problem(build_redirect_array)),
        }
        #: Each aggregate and window function likewise.
        self.aggregates: Mapping[str, tuple[int, type]] = {
            name: (arguments, self._aggregate_keeping_problem(made))
            for name, (arguments, made) in PERCENTILES.items()
        }

    def __contains__(self, name: str) -> bool:
        known = (*self.registry, *self.aggregates, *(each.upper() for each in _OF_FILTERS))
        return name.upper() in known

    def add_to(self, connection: Any) -> None:
        """Let a connection of pysqlite3 call all of them."""
        for name, (arguments, function) in self.registry.items():
            connection.create_function(name, arguments, function, deterministic=True)
        for name, (arguments, aggregate) in self.aggregates.items():
            connection.create_window_function(name, arguments, aggregate)
        connection.create_aggregate(column_filters.FUNCTION, 2, column_filters.ColumnFilter)
        connection.create_function(
            column_ranges.FUNCTION, 3, column_ranges.made_range, deterministic=True
        )

    def _aggregate_keeping_problem(self, made: type) -> type:
        methods = ("step", "inverse", "value", "finalize")
        return type(
            made.__name__, (made,), {name: self._keeping(getattr(made, name)) for name in methods}
        )

    def _keeping(self, method: Callable[..., Value]) -> Callable[..., Value]:
        keeping = self._keeping_problem(method)
        return lambda *arguments: keeping(*arguments)  # a function, which is bound as a method

    def _keeping_problem(self, function: Callable[..., Value]) -> Callable[..., Value]:
        def call(*arguments: Value) -> Value:
            try:
                return function(*arguments)
            except errors.TroughError as error:
                self.problem = error
                raise
            except MemoryError:
                self.problem = out_of_memory()
                raise

        return call

    def _regexp(self, pattern: Value, subject: Value) -> int:
        """``subject REGEXP pattern``, which SQLite calls with the pattern first."""
        if pattern is None or subject is None:
            return 0
        text = as_text(pattern)
        if len(text) > MAX_PATTERN:
            raise errors.BadSql(
                f"a regular expression of {len(text)} characters: {quoted(text, 40)}",
                f"REGEXP takes at most {MAX_PATTERN}",
            )
        self.before_matching()
        # Compiling, too, may take minutes.
        self.matching = True
        try:
            return int(_compiled(text).search(as_text(subject)) is not None)
        finally:
            self.matching = False


def _nothing() -> None:
    pass


def out_of_memory() -> errors.LimitExceeded:
    """What a statement ends with that needs more memory than it may have."""
    return errors.LimitExceeded(
        "the statement needs more memory than it may have",
        "ask for less at once: fewer columns, fewer rows, shorter values",
    )


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise errors.BadSql(f"not a regular expression: {quoted(pattern)}: {error}") from error


def as_text(value: Value) -> str:
    """What SQLite's CAST of `value` to TEXT gives; broken UTF-8 is replaced."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)


def seed_crawled_status(code: Value) -> str:
    """What became of a seed, by the status code that the crawler noted for it."""
    number = _as_number(code)
    if number is None:
        return f"Not crawled ({_shown(code)})"
    if 300 <= number < 400:
        return "Redirected"
    if number >= 400:
        return f"Crawled (HTTP error {_shown(code)})"
    if 0 < number < 300:
        return "Crawled"
    if number in (0, -5003, -5004):
        return "Not crawled (queued)"
    if number == -9998:
        return "Not crawled (blocked by robots)"
    return f"Not crawled ({_shown(code)})"


def build_redirect_array(url: Value, status: Value, hop_path: Value, array: Value) -> str:
    """`array` with one more hop of a seed's redirects at the place its path gives.

    :param hop_path: its length is the place, counted from one
    :param array: a JSON array; empty or NULL: a new one
    :raises trough.errors.BadSql: `hop_path` is empty, or `array` is no JSON array
    """
    place = len(as_text(hop_path))
    if not place:
        raise errors.BadSql("BUILDREDIRECTARRAY: the hop path is empty", "leave out such rows")
    hops = _as_array(array)
    hops += [None] * (place - len(hops))
    hops[place - 1] = {
        "seed": as_text(url) if isinstance(url, bytes) else url,
        "status": seed_crawled_status(status),
    }
    return json.dumps(hops)


def _as_array(array: Value) -> list[Any]:
    text = as_text(array)
    if not text:
        return []
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise errors.BadSql(f"BUILDREDIRECTARRAY: not JSON: {quoted(text, 80)}") from error
    if not isinstance(found, list):
        raise errors.BadSql(f"BUILDREDIRECTARRAY: not a JSON array: {quoted(text, 80)}")
    return found


def _as_number(code: Value) -> int | float | None:
    if isinstance(code, (int, float)):
        return code
    try:
        return int(as_text(code))
    except ValueError:
        return None


def _shown(code: Value) -> str:
    return "None" if code is None else as_text(code)
