"""Lower priority on the processor's cores for processes that have long work.

There may be several such processes for each core. With equal shares the reactor's process, which
answers everybody, waits behind all of them. A lowered process gets a tenth of the share of another
one, and all that is left over. Priority is lowered only where it can be raised again: for that
RLIMIT_NICE has to be 20 (``LimitNICE=+0`` in a systemd unit), or the user root.
"""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path

#: The nice value of a process that has long work.
LOWERED = 10

#: Raising priority again is allowed by this limit, or by this bit of a process's capabilities.
_NICE_OF_ZERO = 20
_CAP_SYS_NICE = 1 << 23


def can_raise() -> bool:
    """Whether the priority of processes that are started from now on can be raised again.

    Takes as much as this process may have of the limit that allows it.
    """
    if os.getpriority(os.PRIO_PROCESS, 0) != 0:
        return False  # somebody chose another priority, for all of them
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NICE)
        most = _NICE_OF_ZERO if hard == resource.RLIM_INFINITY else min(hard, _NICE_OF_ZERO)
        resource.setrlimit(resource.RLIMIT_NICE, (most, hard))
        if most >= _NICE_OF_ZERO:
            return True
    return bool(_capabilities() & _CAP_SYS_NICE)


def set_lowered(pid: int, lowered: bool) -> None:
    """Lower the priority of a process, or raise it again; without effect if it is gone."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, LOWERED if lowered else 0)


def seconds_on_cores(pid: int) -> float:
    """Seconds that all threads of a process have run so far; 0 if it is gone."""
    try:
        # The clock that clock_getcpuclockid() gives, which Python has for threads alone.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


def _capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0
    found = [line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")]
    return int(found[0], 16) if found else 0
