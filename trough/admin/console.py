"""What the commands of ``trough-admin`` work with: the store, the person, and words."""

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

#: Segments or workers that are named in one line; there may be many thousands.
NAMED = 10


@dataclass(frozen=True, slots=True)
class Console:
    """What a command works with: the store, the person, the time, and whom to believe."""

    metadata: Metadata
    input: TextIO
    output: TextIO
    clock: IReactorTime
    tls: TlsFiles = field(default_factory=TlsFiles)

    def say(self, text: str) -> None:
        """Print a line."""
        print(text, file=self.output, flush=True)

    def progress(self, total: int | None, verb: str, interrupt: str) -> Progress:
        """The line that says how far something is; drawn at a terminal only.

        :param interrupt: what Ctrl-C does
        """
        terminal = self.output if self.output.isatty() else None
        return Progress(terminal, total, verb, self.clock.seconds, interrupt)

    def table(self, *rows: Iterable[object]) -> None:
        """Print rows in columns, the first row being the heading."""
        print_table(rows, self.output)

    def ask(self, question: str) -> str:
        """What the person answers."""
        # The reactor's handler would only note Ctrl-C down, and reading would go on; so
        # another one is there before anybody can have read the question.
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
    """Have the person type `answer`.

    :raises trough.errors.Cancelled: something else was typed
    :raises trough.errors.BadRequest: nobody is there to type
    """
    if not console.input.isatty():
        raise errors.BadRequest("nobody is there to be asked", "say --yes")
    if console.ask(f"{question} ({answer}):") != answer:
        raise errors.Cancelled("that is something else: nothing was changed")


def listed(names: Sequence[str], what: str) -> str:
    """``; what: names``, not too many of them; nothing for none."""
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
