"""The line with the progress of a query over many segments.

It is drawn on the terminal under everything else, a few times a second. It is removed before
anything else is written there. The module takes numbers only, and does not depend on what runs.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import TextIO

from trough.util.wording import counted

#: Nothing is drawn before this many seconds, and not more often than each so many.
QUIET_SECONDS = 0.5
REDRAW_SECONDS = 0.1

#: The share that must be done before the remaining time is shown. The first segments take
#: longest, and an estimate from them would be far too long.
TELLING = 0.01

_CLEAR_LINE = "\r\x1b[K"


class Progress:
    """The progress of one query.

    :param stream: a terminal, or None to draw nothing
    :param total: segments to do; None if unknown
    :param clock: monotonic seconds
    :param interrupt: what Ctrl-C does
    :ivar total: as given; may change
    :ivar done: segments that are finished, including failed ones
    :ivar failed: segments that failed
    :ivar rows: rows that came
    :ivar expected_rows: rows that will have come at the end, if that is known
    :ivar step: the current step besides, or ``""``
    """

    def __init__(
        self,
        stream: TextIO | None,
        total: int | None,
        verb: str = "answered",
        clock: Callable[[], float] = time.monotonic,
        interrupt: str = "Ctrl-C cancels",
    ) -> None:
        self._interrupt = interrupt
        self._stream = stream
        self.total = total
        self._verb = verb
        self._clock = clock
        self._begun = clock()
        self._drawn_at = self._begun + QUIET_SECONDS - REDRAW_SECONDS
        self._visible = False
        self.done = 0
        self.failed = 0
        self.rows = 0
        self.expected_rows: int | None = None
        self.step = ""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._begun

    def draw(self) -> None:
        """Draw the line, if it is time."""
        now = self._clock()
        if self._stream is None or now - self._drawn_at < REDRAW_SECONDS:
            return
        self._drawn_at = now
        columns = shutil.get_terminal_size().columns
        lines = [self.line(), *self._short_lines()]
        line = next((line for line in lines if len(line) < columns), lines[-1])
        self._stream.write(_CLEAR_LINE + line[: columns - 1])
        self._stream.flush()
        self._visible = True

    def clear(self) -> None:
        """Remove the line, so that something else can be written."""
        if self._visible and self._stream is not None:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()
            self._visible = False

    def break_off(self) -> None:
        """After Ctrl-C: move to where something else can be written. The terminal has shown
        ``^C``, perhaps in the middle of a line."""
        if self._visible:
            self.clear()
        elif self._stream is not None:
            self._stream.write("\n")
            self._stream.flush()

    def line(self) -> str:
        """The line, if there is room for it."""
        total = self.total
        of = "" if total is None else f"{self.done:,} of "
        parts = [f"{of}{counted(self.done if total is None else total, 'segment')} {self._verb}"]
        if self.rows:
            parts.append(self._counted_rows())
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        if self.step:
            parts.append(self.step)
        parts += self._times()
        return f"{', '.join(parts)}; {self._interrupt}"

    def _counted_rows(self) -> str:
        # The count ran beside the query: rows that came later are not in it.
        if self.expected_rows is None or self.rows > self.expected_rows:
            return counted(self.rows, "row")
        return f"{self.rows:,} of {counted(self.expected_rows, 'row')}"

    def _times(self) -> list[str]:
        """The time so far, and how long the rest takes if that can be estimated."""
        times = [duration(self.seconds)]
        for done, total in ((self.done, self.total), (self.rows, self.expected_rows)):
            if total and done and TELLING * total <= done < total:
                left = self.seconds / done * (total - done)
                return [*times, f"about {duration(left)} left"]
        return times

    def _short_lines(self) -> list[str]:
        """Shorter lines, the longest first."""
        if self.expected_rows is not None and self.rows <= self.expected_rows:
            count = f"{self.rows:,}/{self.expected_rows:,} rows"
        else:
            count = f"{self.done:,}" + ("" if self.total is None else f"/{self.total:,}")
        failed = f", {self.failed:,} failed" if self.failed else ""
        step = f", {self.step}" if self.step else ""
        times = self._times()
        return [
            f"{count}{failed}{step}, {', '.join(shown)}; {self._interrupt}"
            for shown in (times, times[:1])
        ]


def duration(seconds: float) -> str:
    """A time span for a person."""
    if seconds < 1:
        return f"{round(seconds * 1000)} ms"
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
