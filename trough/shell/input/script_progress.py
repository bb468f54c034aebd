"""The progress of a file of statements: an INFILE, or the shell's standard input."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from typing import TextIO

from trough.cli.progress import TELLING, Progress, duration
from trough.util.wording import counted


class ScriptProgress(Progress):
    """The line about one file.

    :param stream: a terminal, or None to draw nothing
    :param name: of the file
    :param size: its bytes, see :func:`size_of`
    :param position: bytes of it that were read
    :ivar done: statements that ran
    """

    def __init__(
        self,
        stream: TextIO | None,
        name: str,
        size: int,
        position: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(stream, None, "run", clock, "Ctrl-C stops")
        self._name = name
        self._position = position
        self._size = size

    def line(self) -> str:
        """The line, if there is room for it."""
        ran = f"{counted(self.done, 'statement')} run"
        return f"{', '.join([*self._share(), ran, *self._times()])}; {self._interrupt}"

    def _short_lines(self) -> list[str]:
        return [f"{', '.join([*self._share(), *self._times()])}; {self._interrupt}"]

    def _share(self) -> list[str]:
        return [f"{self._read():.0%} of {self._name}"] if self._size else []

    def _times(self) -> list[str]:
        times, read = [duration(self.seconds)], self._read()
        if TELLING <= read < 1:
            times.append(f"about {duration(self.seconds * (1 - read) / read)} left")
        return times

    def _read(self) -> float:
        return min(1.0, self._position() / self._size) if self._size else 0.0


def size_of(file: int) -> int:
    """The bytes of an open file; 0 for a pipe, whose length is unknown."""
    status = os.fstat(file)
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def no_progress() -> ScriptProgress:
    """The progress while there is no file."""
    return ScriptProgress(None, "", 0, lambda: 0)
