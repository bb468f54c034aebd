"""What was read from files, and is read again when one of them changes.

A certificate is renewed every few weeks, and no server should restart for it. The files are
looked at when something new is needed (a connection), at most once a second. Files that cannot
be used change nothing: what was read before stays, and the fault is reported once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from trough import errors

T = TypeVar("T")

#: Seconds between two looks.
LOOKS = 1.0

_State = tuple[tuple[int, int, int], ...]


class Reloading(Generic[T]):
    """A value made of files.

    :param paths: of the files
    :param load: makes the value, or raises :class:`trough.errors.BadSettings`
    :param seconds: a clock that only counts
    :param report: called with a sentence: the files were read again, or cannot be used
    :raises trough.errors.BadSettings: the files cannot be used now
    """

    def __init__(
        self,
        paths: Sequence[str],
        load: Callable[[], T],
        seconds: Callable[[], float],
        report: Callable[[str], None],
    ) -> None:
        self._paths = paths
        self._load = load
        self._seconds = seconds
        self._report = report
        self._state = self._look()
        self._looked = seconds()
        self._value = load()

    def current(self) -> T:
        """The value as the files have it now, or as they had it when they could be used."""
        now = self._seconds()
        if now - self._looked >= LOOKS:
            self._looked = now
            state = self._look()
            if state != self._state:
                self._state = state
                self._read_again()
        return self._value

    def _read_again(self) -> None:
        files = ", ".join(self._paths)
        try:
            self._value = self._load()
        except errors.BadSettings as error:
            self._report(f"what was read before stays in use, for {error}")
        else:
            self._report(f"read again: {files}")

    def _look(self) -> _State:
        return tuple(_state(path) for path in self._paths)


def _state(path: str) -> tuple[int, int, int]:
    """Changes whenever the file does; a file that is not there has a state, too."""
    try:
        status = Path(path).stat()
    except OSError:
        return (0, 0, 0)
    return (status.st_mtime_ns, status.st_size, status.st_ino)
