"""Two versions of Trough side by side: what one costs against the other.

Both serve the same data, and are asked in turn: first, second, second, first, and so on.
A machine that others use is faster now and slower then; two passes right after each other see
almost the same. So each pair gives one ratio, and the table has the median of the ratios with
the least and the greatest. CPU per unit of work is the figure to judge by: it hardly depends on
who else uses the machine. A ratio of 0.9 says that the second version costs a ninth more.

    python bench/compare.py FIRST SECOND [--only WORD] [--rounds N] [--json FILE]

FIRST and SECOND are commits of this repository, or directories. A directory that has a ``.venv``
is run with that one's packages, all else with the packages of the Python that runs this.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from run import QUICK, Bench, Scale
from table import Work, machine

ROOT = Path(__file__).parents[1]

#: A pass takes less than a second, so that a pair is over before the machine has changed.
PASS = Scale(
    segments=2_000,
    http_reads=2_000,
    line_reads=20_000,
    sequential_reads=1_500,
    export_rows=100_000,
    http_writes=200,
    http_writes_shared=2_000,
    line_writes=5_000,
    batches=20,
)


@dataclass(frozen=True)
class Ratio:
    """First over second of each pair of passes; above 1 where the second is better."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, ratios: list[float]) -> Ratio:
        """The ratio of some pairs."""
        return cls(statistics.median(ratios), min(ratios), max(ratios))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f}-{self.greatest:.2f})"


@dataclass
class Passes:
    """What one version needed for a unit of work, pass by pass; seconds.

    :ivar peak: bytes of memory
    """

    wall: list[float] = field(default_factory=list)
    front: list[float] = field(default_factory=list)
    children: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def cpu(self) -> list[float]:
        """Of the front and its child processes together."""
        return [sum(each) for each in zip(self.front, self.children, strict=True)]

    def __str__(self) -> str:
        front, children = statistics.median(self.front), statistics.median(self.children)
        rate = 1 / statistics.median(self.wall)
        return f"{front * 1e6:6.1f} + {children * 1e6:5.1f} us {rate:>8,.0f}/s"


@dataclass(frozen=True)
class Comparison:
    """One row of the table."""

    work: str
    first: Passes
    second: Passes
    cpu: Ratio
    rate: Ratio

    def __str__(self) -> str:
        peak = f"{self.first.peak >> 20} -> {self.second.peak >> 20} MB"
        ratios = f"{self.cpu!s:<18} {self.rate!s:<18}"
        return f"{self.work:<50} {self.first}  {self.second}  {ratios} {peak}"


def compare(first: Bench, second: Bench, name: str, rounds: int) -> Comparison:
    """Measure one piece of work in turn.

    :param name: of the method of `Bench`
    """
    sides = [(bench, getattr(bench, name)(), Passes()) for bench in (first, second)]
    for bench, work, _ in sides:
        _one_pass(bench, work, Passes())  # the first one opens files and fills caches
        bench.server.reset_peak()
    for turn in range(rounds):
        for bench, work, passes in sides if turn % 2 == 0 else reversed(sides):
            _one_pass(bench, work, passes)
    for bench, _, passes in sides:
        passes.peak = bench.server.peak()
    (_, work, one), (_, _, other) = sides
    return Comparison(
        work.work, one, other, _ratio(one.cpu, other.cpu), _ratio(one.wall, other.wall)
    )


def _one_pass(bench: Bench, work: Work, passes: Passes) -> None:
    if work.before is not None:
        work.before()
    front, children = bench.server.cpu()
    passes.wall.append(work.trough() / work.count)
    front_after, children_after = bench.server.cpu()
    passes.front.append((front_after - front) / work.count)
    passes.children.append((children_after - children) / work.count)


def _ratio(first: list[float], second: list[float]) -> Ratio:
    return Ratio.of([one / other for one, other in zip(first, second, strict=True) if other] or [1])


@contextlib.contextmanager
def tree_of(version: str) -> Iterator[Path]:
    """The directory of a version, which is one already or a commit.

    :raises SystemExit: it is neither
    """
    if Path(version).is_dir():
        yield Path(version).resolve()
        return
    archive = subprocess.run(
        ["git", "archive", "--format=tar", version], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise SystemExit(f"{version} is no commit of {ROOT}, and no directory: give one of these")
    with tempfile.TemporaryDirectory(prefix="trough-tree-") as directory:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(directory, filter="data")
        yield Path(directory)


@contextlib.contextmanager
def serving(version: str, scale: Scale) -> Iterator[Bench]:
    """A version with its data, ready to be measured."""
    with tree_of(version) as tree, tempfile.TemporaryDirectory(prefix="trough-bench-") as home:
        bench = Bench(Path(home), scale, tree)
        try:
            bench.prepare()
            yield bench
        finally:
            bench.server.stop()


def main() -> None:
    """Compare, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", help="a commit, or a directory")
    parser.add_argument("second", help="likewise")
    parser.add_argument("--only", default="", help="measurements whose name has this in it")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of passes for each of them")
    parser.add_argument("--quick", action="store_true", help="only show that it works")
    parser.add_argument("--json", type=Path, help="a file for all figures")
    arguments = parser.parse_args()
    scale = QUICK if arguments.quick else PASS
    print(machine())
    found = []
    with serving(arguments.first, scale) as first, serving(arguments.second, scale) as second:
        print(
            f"{'work':<50} {'first: front + children':<28}  {'second':<28}"
            f"  {'CPU ratio':<18} {'rate ratio':<18} peak"
        )
        names = [measure.__name__ for measure in first.measurements()]
        for name in names:
            if arguments.only in name:
                found.append(compare(first, second, name, arguments.rounds))
                print(found[-1], flush=True)
    if arguments.json:
        rows = [asdict(each) for each in found]
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
