"""The progress of a long task: a bar on a terminal, plain lines elsewhere.

The bar is drawn a few times a second at most, and lines are rare. A message for people never
appears in the middle of a bar. The module counts only rows, skipped lines and bytes read.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from typing import TextIO

from trough.cli.progress import TELLING, duration
from trough.util.safe_text import safe
from trough.util.wording import counted

#: Seconds between two drawings of the bar, and between two lines if there is no bar.
REDRAW_SECONDS = 0.2
LINE_SECONDS = 10.0

_CLEAR_LINE = "\r\x1b[K"


class LoadProgress:
    """Shows the progress of loading any number of files at once. For any thread.

    :param total: bytes to read in all; None if unknown
    :param clock: monotonic seconds
    :ivar loaded: rows stored
    :ivar skipped: records skipped
    """

    def __init__(
        self, stream: TextIO, total: int | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._total = total
        self._clock = clock
        self._terminal = stream.isatty()
        self._begun = self._shown_at = clock()
        self._reading: list[Callable[[], int]] = []
        self._bytes_before = 0
        self._lock = threading.RLock()
        self.loaded = 0
        self.skipped = 0

    def begin(self, position: Callable[[], int]) -> None:
        """The reading of a file begins; `position` returns the bytes read."""
        with self._lock:
            self._reading.append(position)

    def end(self, position: Callable[[], int]) -> None:
        """The reading of a file has ended."""
        with self._lock:
            self._bytes_before += position()
            self._reading.remove(position)

    def add(self, loaded: int = 0, skipped: int = 0) -> None:
        """Count stored rows and skipped records. They are shown at the next drawing."""
        with self._lock:
            self.loaded += loaded
            self.skipped += skipped
            now = self._clock()
            if now - self._shown_at < (REDRAW_SECONDS if self._terminal else LINE_SECONDS):
                return
            self._shown_at = now
            if self._terminal:
                width = shutil.get_terminal_size().columns - 1
                self._write(_CLEAR_LINE + self._bar(now)[:width])
            else:
                self._write(self._line(now) + "\n")

    def show_step(self, text: str) -> None:
        """Show the current step: on a terminal until something else is written, elsewhere as a
        line now and then."""
        with self._lock:
            if self._terminal:
                width = shutil.get_terminal_size().columns - 1
                self._write(_CLEAR_LINE + safe(text)[:width])
            elif self._clock() - self._shown_at >= LINE_SECONDS:
                self._shown_at = self._clock()
                self._write(f"{safe(text)}\n")

    def say(self, text: str) -> None:
        """Print a line. Control characters for a terminal are escaped."""
        with self._lock:
            self._say(text)

    def _say(self, text: str) -> None:
        self._write((_CLEAR_LINE if self._terminal else "") + safe(text) + "\n")

    def finish(self) -> None:
        """Print the summary."""
        self.say(self._numbers(self._clock()))

    def _bar(self, now: float) -> str:
        if not self._total:
            return self._numbers(now)
        filled = round(20 * self._share())
        return f"[{'#' * filled}{'.' * (20 - filled)}] {self._line(now)}"

    def _line(self, now: float) -> str:
        """The progress, and about how long the rest takes."""
        if not self._total:
            return self._numbers(now)
        share = self._share()
        left = ""
        if TELLING <= share < 1:
            left = f", about {duration((now - self._begun) * (1 - share) / share)} left"
        return f"{share:4.0%} {self._numbers(now, left)}"

    def _share(self) -> float:
        read = self._bytes_before + sum(position() for position in self._reading)
        return min(1.0, read / self._total) if self._total else 0.0

    def _numbers(self, now: float, left: str = "") -> str:
        # The remaining time comes early, because a narrow terminal cuts the end off.
        seconds = now - self._begun
        rate = f", {self.loaded / seconds:,.0f} rows/s" if seconds >= 1 else ""
        loaded, skipped = counted(self.loaded, "row"), counted(self.skipped, "record")
        return f"{loaded} loaded{left}, {skipped} skipped in {seconds:.1f} s{rate}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
