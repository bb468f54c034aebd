"""Python processes that run a module of this very package.

They import it from where this process did, and nothing from the directory that they happen
to be started in: a file called ``json.py`` there would otherwise be theirs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trough
from trough import errors


def command(module: str, *arguments: object) -> list[str]:
    """The command line that runs `module`.

    :param module: its whole name
    """
    return [sys.executable, "-P", "-m", module, *map(str, arguments)]


@contextmanager
def left_alone() -> Iterator[None]:
    """Processes that are started meanwhile do not get a signal to the whole group.

    Ctrl-C would otherwise end a process that has not reached the point where it ignores it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def started() -> Iterator[None]:
    """Translate OSError from starting a child process into Unavailable.

    :raises trough.errors.Unavailable: with the system's reason
    """
    try:
        yield
    except OSError as error:
        raise errors.Unavailable(
            f"no process can be started: {error}", "look at the limits of this one"
        ) from error


#: Variables that a process of this package needs: where programs, libraries and modules are,
#: the language and time of the machine, and what measures the coverage of tests.
_PASSED_ON = frozenset({"PATH", "LD_LIBRARY_PATH", "TZ", "LANG", "LANGUAGE", "TMPDIR"})
_PASSED_ON_BY_PREFIX = ("LC_", "PYTHON", "COVERAGE_", "COV_")


def environment() -> dict[str, str]:
    """The environment for such a process. It finds this package where this process did.

    Nothing else is passed on. A process that runs a stranger's SQL gets no secrets, such as
    ``AUTH_TOKEN``.
    """
    found = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_BY_PREFIX)
    }
    paths = [str(Path(trough.__file__).parent.parent), found.get("PYTHONPATH", "")]
    found["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return found


def start_with_socket(
    module: str, *arguments: object
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a child process with a socket to it.

    :param module: its whole name; its first argument is the socket's descriptor
    :return: the process, and this end of the socket
    :raises trough.errors.Unavailable: the system starts no process
    """
    with started():
        ours, theirs = socket.socketpair()
        try:
            with theirs, left_alone():
                process = subprocess.Popen(
                    command(module, theirs.fileno(), *arguments),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    env=environment(),
                    pass_fds=(theirs.fileno(),),
                )
        except BaseException:
            ours.close()
            raise
    return process, ours


def reaped(process: subprocess.Popen[bytes]) -> int:
    """The status of a process that closed its socket, which it must not outlive."""
    # The kernel closes files a moment before a process counts as ended. The status of one that
    # is ending already stays what it is.
    process.kill()
    return process.wait()
