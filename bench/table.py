"""The lines of the benchmark's table, each measured beside its baseline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trough_server import Server


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

    :param server: whose memory and CPU are told
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    def line(
        self,
        work: str,
        unit: str,
        count: int,
        goal: str,
        bare: Callable[[], float],
        trough: Callable[[], float],
        passes: int = 1,
    ) -> Line:
        """Measure one piece of work, bare and served, right after each other.

        :param bare: does it without a server; seconds
        :param trough: has it done by the server; seconds
        :param passes: of which the fastest counts, for both; memory is the peak of all
        """
        self._server.reset_peak()
        found = [self._pass(count, bare, trough) for _ in range(passes)]
        bare_seconds = min(each[0] for each in found)
        seconds, cpu = min(each[1:] for each in found)
        peak = self._server.peak()
        return Line(work, unit, count / bare_seconds, count / seconds, goal, peak, cpu)

    def _pass(
        self, count: int, bare: Callable[[], float], trough: Callable[[], float]
    ) -> tuple[float, float, float]:
        bare_seconds = bare()
        before = self._server.cpu()
        seconds = trough()
        return bare_seconds, seconds, (self._server.cpu() - before) / count

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
