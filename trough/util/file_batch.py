"""Many small local files that are flushed to disk together.

Each appears whole or not at all, as by :func:`trough.util.atomic_files.replacing`. One flush of a
directory serves all files in it. The kernel begins to write all of them before it waits for the
first, so that one commit of the file system's journal serves many. Blocking.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from trough.util.atomic_files import fsync_directory, in_our_words, temporary_name


class FileBatch:
    """A context manager; what is not installed at its end is removed.

    Each file takes a descriptor until then.
    """

    def __init__(self) -> None:
        #: Open file, the name that it has now, the name that it gets.
        self._files: list[tuple[BinaryIO, Path, Path]] = []

    def __enter__(self) -> FileBatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        files, self._files = self._files, []
        for file, temporary, _ in files:
            file.close()
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, target: Path) -> Iterator[BinaryIO]:
        """Write a file that becomes `target`; if the block raises, it is none of the batch.

        :raises trough.errors.DiskFull: no room for it
        :raises trough.errors.Unavailable: it cannot be written for another reason
        """
        temporary = target.with_name(temporary_name(target.name))
        with in_our_words(target):
            file = temporary.open("xb", buffering=0)
            try:
                yield file
            except BaseException:
                file.close()
                temporary.unlink(missing_ok=True)
                raise
            self._files.append((file, temporary, target))

    def install(self) -> None:
        """Have all files under their names, and on disk.

        :raises trough.errors.DiskFull: no room; some files may be there
        :raises trough.errors.Unavailable: a disk failed; some files may be there
        """
        for file, _, target in self._files:
            with in_our_words(target):
                # Begins to write what is not on disk yet, and does not wait.
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for file, _, target in self._files:
            with in_our_words(target):
                os.fsync(file.fileno())
        for _, temporary, target in self._files:
            with in_our_words(target):
                temporary.replace(target)
        for directory in {target.parent for _, _, target in self._files}:
            with in_our_words(directory):
                fsync_directory(directory)
