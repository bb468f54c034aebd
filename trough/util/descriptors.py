"""How many files and connections a process may have open at once."""

from __future__ import annotations

import contextlib
import resource

#: As many as a server ever needs. Where the limit is far higher, nothing gains from it.
MOST = 65_536


def raise_limit() -> None:
    """Raise the soft limit on descriptors to the hard one, up to :data:`MOST`.

    Shells and service managers set the soft one to 1024 for the sake of programs that call
    ``select()`` (https://0pointer.net/blog/file-descriptor-limits.html). Trough uses epoll.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # a container may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
