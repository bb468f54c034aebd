"""The lines of the benchmark's table, each measured beside its baseline."""

from __future__ import annotations

import os
import platform
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass

from trough_server import Server

from trough.sql.sqlite import sqlite3


def machine() -> str:
    """What else decides about the figures: processors, and the builds of Python and SQLite.

    The same Python built without optimisation is a fifth slower.
    """
    flags = sysconfig.get_config_var("CONFIG_ARGS") or ""
    optimised = [name for name in ("--enable-optimizations", "--with-lto") if name in flags]
    return (
        f"{os.cpu_count()} processors; {platform.python_implementation()} "
        f"{platform.python_version()}, {platform.python_compiler()}, "
        f"{' '.join(optimised) or 'not optimised'}; SQLite {sqlite3.sqlite_version}"
    )


@dataclass(frozen=True)
class Work:
    """A piece of work that can be measured.

    :ivar count: units
    :ivar bare: does it without a server; seconds
    :ivar trough: has it done by the server; seconds
    :ivar passes: of which the fastest counts, for both; memory is the peak of all
    :ivar before: is called before each pass
    """

    work: str
    unit: str
    count: int
    goal: str
    bare: Callable[[], float]
    trough: Callable[[], float]
    passes: int = 1
    before: Callable[[], None] | None = None


@dataclass(frozen=True)
class Line:
    """One line of the table; rates in units a second, the server's CPU in seconds a unit."""

    work: str
    unit: str
    bare: float
    trough: float
    goal: str
    peak: int
    cpu: float


class Table:
    """Measures and prints lines.

    :param server: whose memory and CPU are measured
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def measure(self, work: Work) -> Line:
        """Measure one piece of work, bare and served, right after each other."""
        if work.before is not None:
            work.before()
        self._server.reset_peak()
        found = [self._pass(work) for _ in range(work.passes)]
        bare_seconds = min(each[0] for each in found)
        seconds, cpu = min(each[1:] for each in found)
        count = work.count
        return Line(
            work.work,
            work.unit,
            count / bare_seconds,
            count / seconds,
            work.goal,
            self._server.peak(),
            cpu,
        )

    def _pass(self, work: Work) -> tuple[float, float, float]:
        bare_seconds = work.bare()
        before = sum(self._server.cpu())
        seconds = work.trough()
        return bare_seconds, seconds, (sum(self._server.cpu()) - before) / work.count

    def print_head(self) -> None:
        """Print what the columns are."""
        print(
            f"{'work':<52} {'bare':>12} {'Trough':>12} {'ratio':>6} {'goal':>12}"
            f" {'peak':>7} {'CPU':>9}"
        )

    def print_line(self, line: Line) -> None:
        """Print what was measured."""
        print(
            f"{line.work:<52} {line.bare:>12,.0f} {line.trough:>12,.0f} "
            f"{line.trough / line.bare:>6.2f} {line.goal:>12} {line.peak >> 20:>4} MB"
            f" {line.cpu * 1e6:>6.1f} us  {line.unit}",
            flush=True,
        )
