"""Writes results to a file, a pipe, or a terminal with a pager for long text.

On a terminal, text is held until it is known whether it fits. A reader who waits a while sees the
text so far. As soon as a screen is full, the pager shows everything from the top. The query
continues meanwhile. The module does not depend on what the text is.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from typing import Protocol, TextIO

from trough.util.safe_text import width

#: For the pager ``less``, if its user has not set LESS: do not wrap lines, and leave the text on
#: the screen. Lines of a text are wrapped.
_LESS_OPTIONS = "-SRX"
_LESS_OPTIONS_FOR_TEXT = "-RX"

#: Columns of a line if there is no terminal.
_COLUMNS = 90


class Sink(Protocol):
    """Takes the text of one result."""

    @property
    def owns_terminal(self) -> bool:
        """Whether a pager has the terminal. Then nothing else may be written there."""
        ...

    @property
    def on_terminal(self) -> bool:
        """Whether the written text may appear on the terminal."""
        ...

    def write(self, text: str) -> None:
        """Add to the result.

        :raises BrokenPipeError: the reader is gone
        """
        ...

    def show(self) -> None:
        """Show the reader the text so far."""
        ...

    def close(self) -> None:
        """The result is complete. Waits until the reader closes the pager."""
        ...


class StreamSink:
    """Text to a file or a pipe."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def owns_terminal(self) -> bool:
        """See :class:`Sink`."""
        return False

    @property
    def on_terminal(self) -> bool:
        """See :class:`Sink`."""
        return False

    def write(self, text: str) -> None:
        self._stream.write(text)

    def show(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self._stream.flush()


class TerminalSink:
    """Text to a terminal, through a pager if it does not fit.

    :param pager: a shell command, or ``""`` for none
    :param wraps: long lines continue on the next line, instead of not fitting
    """

    def __init__(self, stream: TextIO, pager: str, wraps: bool = False) -> None:
        self._stream = stream
        self._command = pager
        self._wraps = wraps
        self._columns, self._lines = shutil.get_terminal_size()
        self._kept: list[str] = []  # from the first line, for the pager to begin with
        self._kept_lines = 0
        self._shown = 0  # how many of the kept texts the terminal has already
        self._pager: subprocess.Popen[bytes] | None = None

    @property
    def owns_terminal(self) -> bool:
        """See :class:`Sink`."""
        return self._pager is not None

    @property
    def on_terminal(self) -> bool:
        """See :class:`Sink`."""
        return True

    def write(self, text: str) -> None:
        if self._pager is not None:
            self._to_pager(text)
        elif not self._command:
            self._stream.write(text)
        else:
            self._kept.append(text)
            if not self._fits(text):
                self._start_pager()

    def show(self) -> None:
        if self._pager is None:
            self._stream.write("".join(self._kept[self._shown :]))
            self._shown = len(self._kept)
            self._stream.flush()

    def close(self) -> None:
        if self._pager is None:
            self.show()
            return
        pager, self._pager = self._pager, None
        assert pager.stdin is not None
        with contextlib.suppress(OSError):
            pager.stdin.close()
        # The pager has the terminal, and an interrupt belongs to it.
        while pager.poll() is None:
            with contextlib.suppress(KeyboardInterrupt):
                pager.wait()

    def _fits(self, text: str) -> bool:
        lines = text.split("\n")
        self._kept_lines += len(lines) - 1
        if self._wraps:
            self._kept_lines += sum(max(0, width(line) - 1) // self._columns for line in lines)
        # One line for the summary, one for the prompt.
        if self._kept_lines > self._lines - 3:
            return False
        return self._wraps or all(width(line) <= self._columns for line in lines)

    def _start_pager(self) -> None:
        environment = dict(os.environ)
        environment.setdefault("LESS", _LESS_OPTIONS_FOR_TEXT if self._wraps else _LESS_OPTIONS)
        # Unbuffered: an interrupted write leaves nothing that is written later.
        self._pager = subprocess.Popen(
            self._command, shell=True, stdin=subprocess.PIPE, bufsize=0, env=environment
        )
        kept, self._kept = "".join(self._kept), []
        self._to_pager(kept)

    def _to_pager(self, text: str) -> None:
        assert self._pager is not None and self._pager.stdin is not None
        view = memoryview(text.encode("utf-8", "backslashreplace"))
        while view:
            view = view[self._pager.stdin.write(view) :]


class Output:
    """Makes a sink for each result.

    :param stream: the file, pipe or terminal
    :param pager: a shell command for text that does not fit a terminal, or ``""``
    :param binary: whether it is a file that takes a format of bytes
    """

    def __init__(self, stream: TextIO, pager: str = "", binary: bool = False) -> None:
        self.binary = binary
        self.stream = stream
        self.pager = pager
        self.terminal = stream.isatty()

    def open(self, wraps: bool = False) -> Sink:
        """A sink for one result.

        :param wraps: it is a text, whose lines may be wrapped
        """
        if self.terminal:
            return TerminalSink(self.stream, self.pager, wraps)
        return StreamSink(self.stream)

    @property
    def columns(self) -> int:
        """The longest that a line of a text should be."""
        return min(shutil.get_terminal_size().columns, _COLUMNS) if self.terminal else _COLUMNS

    def say(self, text: str) -> None:
        """Write a line for a person, if there is one."""
        if self.terminal:
            self.stream.write(f"{text}\n")
            self.stream.flush()


def find_pager(setting: str, environ: Mapping[str, str]) -> str:
    """The pager's command: the setting, else ``$PAGER``, else ``less``.

    ``""`` if that is ``off``, or not installed.
    """
    command = setting or environ.get("PAGER") or "less"
    if command in ("off", "cat"):
        return ""
    try:
        program = next(iter(shlex.split(command)), "")
    except ValueError:  # a quote that is not closed
        return ""
    return command if shutil.which(program) else ""
