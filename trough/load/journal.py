"""Records in a file what is stored of each loaded file, so that another run continues there.

An entry is written before rows are sent, and another after they are stored. If the second one is
missing, a crash came in between. The number of rows of the table then shows whether the rows are
stored. If another client changed the table meanwhile, only a person can check.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from trough import errors


@dataclass(slots=True)
class JournalEntry:
    """What is known of a file.

    :ivar line: the last line that is stored or skipped
    :ivar done: the whole file is stored or skipped
    :ivar sent: first line, last line and number of rows that may be stored or not, or None
    :ivar base: rows of the table before the file was begun, or None
    :ivar rows: rows of the file that are stored
    :ivar version: shows whether the file has changed
    """

    line: int = 0
    done: bool = False
    sent: tuple[int, int, int] | None = None
    base: int | None = None
    rows: int = 0
    version: list[int] | None = None


class Journal:
    """Entries by file and segment, on disk. For any thread.

    :raises trough.errors.BadRequest: the file cannot be used
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[str, JournalEntry] = {}
        self._file: TextIO
        try:
            if Path(path).exists():
                with Path(path).open(encoding="utf-8") as file:
                    self._read(file)
            self._file = Path(path).open("a", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise errors.BadRequest(
                f"{path} cannot be used for --resume: {error.strerror}"
            ) from error

    def _read(self, file: TextIO) -> None:
        for number, text in enumerate(file, 1):
            if not text.endswith("\n"):
                break  # a crash came while it was written
            try:
                self._note(json.loads(text))
            except (ValueError, LookupError, TypeError, AttributeError) as error:
                raise errors.BadRequest(
                    f"{self._path}, line {number}: not a file that --resume has written"
                ) from error

    def _note(self, found: dict[str, Any]) -> None:
        entry = self._entries.setdefault(found["file"], JournalEntry())
        entry.version = found.get("version", entry.version)
        entry.done = bool(found.get("done", entry.done))
        entry.line = max(entry.line, int(found.get("line", 0)))
        entry.base = found.get("base", entry.base)
        entry.rows += int(found.get("rows", 0))
        sent = found.get("sent")
        entry.sent = (int(sent[0]), int(sent[1]), int(sent[2])) if sent else None

    def entry(self, file: str, version: list[int]) -> JournalEntry:
        """What is known of a file.

        :raises trough.errors.BadRequest: the file has changed since
        """
        with self._lock:
            entry = self._entries.get(file)
        if entry is None:
            entry = JournalEntry(version=version)
            self.write(file, version=version)
            return entry
        if entry.version != version and (entry.line or entry.done or entry.sent):
            raise errors.BadRequest(
                "it has changed since a part of it was loaded",
                f"load it on its own, without --resume {self._path}",
            )
        return entry

    def write(self, file: str, **found: Any) -> None:
        """Add to what is known of a file."""
        with self._lock:
            self._file.write(json.dumps({"file": file, **found}) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def version_of(path: str) -> list[int]:
    """The size and the time of a file, which show whether it has changed."""
    found = Path(path).stat()
    return [found.st_size, found.st_mtime_ns]
