"""The common tools of the commands of ``trough-admin``: the store, the person, and texts."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TextIO

from twisted.internet.interfaces import IReactorTime

from trough import errors
from trough.cli.progress import Progress
from trough.metadata import Metadata
from trough.tls import TlsFiles

#: Exit statuses.
DONE, FAILED, INTERRUPTED = 0, 1, 130

#: Segments or workers named in one line, at most; there may be many thousands.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Console:
    """The tools of a command: the store, the person, the clock, and the TLS files."""

    metadata: Metadata
    input: TextIO
    output: TextIO
    clock: IReactorTime
    tls: TlsFiles = field(default_factory=TlsFiles)

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.output, flush=True)

    def progress(self, total: int | None, verb: str, interrupt: str) -> Progress:
        """A progress line; only a terminal shows it.

        :param interrupt: what Ctrl-C does
        """
        terminal = self.output if self.output.isatty() else None
        return Progress(terminal, total, verb, self.clock.seconds, interrupt)

    def table(self, *rows: Iterable[object]) -> None:
        """Print rows in columns, the first row being the heading."""
        print_table(rows, self.output)

    def ask(self, question: str) -> str:
        """Ask the person; return the answer."""
        # The reactor's handler would only note Ctrl-C, and reading would go on. So another
        # handler is set before the person can read the question.
        former = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            print(question, end=" ", file=self.output, flush=True)
            return self.input.readline().strip()
        finally:
            signal.signal(signal.SIGINT, former)


def print_table(rows: Iterable[Iterable[object]], output: TextIO) -> None:
    """Print rows in columns, the first row being the heading."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    for row in texts:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip(), file=output, flush=True)


def insist(console: Console, question: str, answer: str) -> None:
    """Require the person to type `answer`.

    :raises trough.errors.Cancelled: the person typed something else
    :raises trough.errors.BadRequest: the input is no terminal
    """
    if not console.input.isatty():
        raise errors.BadRequest("nobody is there to be asked", "say --yes")
    if console.ask(f"{question} ({answer}):") != answer:
        raise errors.Cancelled("that is something else: nothing was changed")


def listed(names: Sequence[str], what: str) -> str:
    """``; what: names``, with at most :data:`NAMED` names; empty if there are none."""
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"; {what}: {', '.join(names[:NAMED])}{more}"


def size_of(number: int) -> str:
    """Bytes for a person."""
    size = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def moment(seconds: float) -> str:
    """A time for a person; `seconds` since the epoch."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
