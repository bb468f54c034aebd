"""The segments whose id matches a pattern, whatever the pattern does to its matcher.

The caller's side of :mod:`trough.metadata.sqlite.regex_child`; blocking. The process is
ended with the iteration.
"""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from trough import errors
from trough.metadata import conditions
from trough.metadata.sqlite import regex_child
from trough.model import Copy
from trough.util import child_process

#: Seconds of processor time for one pattern. A harmless one needs 5 s for 1.5 million ids.
LIMIT_SECONDS = 30


class Matching:
    """One pattern's pages.

    :param size: copies that are looked at for a page
    :raises trough.errors.BadRequest: the pattern is no regular expression
    :raises trough.errors.Unavailable: no process can be started
    """

    def __init__(self, path: Path, pattern: str, size: int, seconds: int = LIMIT_SECONDS) -> None:
        conditions.matcher(pattern)
        self._pattern = pattern
        self._seconds = seconds
        with child_process.started():
            self._process = subprocess.Popen(
                child_process.command(regex_child.__name__, path, seconds, size),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=child_process.environment(),
            )
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(pattern).encode("ascii"))
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it has ended already; next_page() says why

    def next_page(self) -> list[Copy] | None:
        """The next page, which is not empty; None at the end.

        :raises trough.errors.DeadlineExceeded: the pattern took too long
        :raises trough.errors.Unavailable: the process failed otherwise
        """
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if line.endswith(b"\n"):
            return [Copy(*row) for row in json.loads(line)]
        reason = self._process.stderr.read().decode("utf-8", "replace").strip()
        status = self._process.wait()
        if status == 0:
            return None
        if status in (-signal.SIGXCPU, -signal.SIGKILL):
            raise errors.DeadlineExceeded(
                f"matching {self._pattern[:200]!r} took more than {self._seconds} s", "simplify it"
            )
        raise errors.Unavailable(f"matching failed ({status}): {reason.splitlines()[-1:]}")

    def kill(self) -> None:
        """End the process; on any thread, during :meth:`next_page` too."""
        self._process.kill()

    def close(self) -> None:
        """End the process and let go of everything. Idempotent."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
