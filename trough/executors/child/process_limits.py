"""What every child process does to itself before it runs anything for its parent."""

from __future__ import annotations

import ctypes
import resource
import signal


def ignore_signals() -> None:
    """Leave Ctrl-C and SIGTERM to the parent.

    Both may be meant for a whole process group, and were blocked until now. The parent ends
    what is under way first, and this process by closing the socket.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def die_with_the_parent() -> None:
    """Have the kernel kill this process when its parent dies, for a statement may be in
    the midst of something that looks at no socket."""
    set_parent_death_signal = 1
    try:
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL, 0, 0, 0)
    except (OSError, AttributeError):
        return


def limit_data(size: int) -> None:
    """Let this process have no more than `size` bytes of memory of its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (size, resource.RLIM_INFINITY))
