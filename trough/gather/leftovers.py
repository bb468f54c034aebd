"""Temporary files of GATHERs whose process was killed.

A GATHER's temporary file has no name once it is open. Earlier versions kept it in a directory
with a name, of up to a gigabyte, and a process can still be killed just before it opens its file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: What names of temporary files, and of the directories of earlier versions, begin with.
PREFIX = "trough-gather-"

#: Seconds after which what no process has open is a left-over: its file is opened at once.
_AGE = 1.0


def sweep(directory: Path | None = None) -> None:
    """Remove this user's temporary files that no process has open. Blocking.

    :param directory: that they are in; None: the one for temporary files
    """
    found = list(_ours(directory or Path(tempfile.gettempdir())))
    in_use = _open_files() if found else set()
    for each in found:
        if each in in_use:
            continue
        with contextlib.suppress(OSError):
            if each.is_dir():
                shutil.rmtree(each)
            else:
                each.unlink()


def _ours(directory: Path) -> Iterator[Path]:
    for each in directory.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            status = each.lstat()
            old = time.time() - status.st_mtime > _AGE
            if old and status.st_uid == os.getuid() and not each.is_symlink():
                yield each


def _open_files() -> set[Path]:
    """What processes of this user have open, and the directories that it is in."""
    found: set[Path] = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with contextlib.suppress(OSError):
                    path = descriptor.readlink()
                    found |= {path, path.parent}
    return found
