"""The process of ``trough-shell``: starts fast, and ends fast.

A script may start a shell for each query, so Python's start and end count. Collecting garbage
during imports finds nothing. Finalising the interpreter at the end frees only memory. Together
they take a tenth of the time of a short query.
"""

from __future__ import annotations

import gc
import os
import sys
import threading

#: Objects created between two garbage collections. With Python's default of 700 there are dozens
#: of collections at the start alone.
_GARBAGE_THRESHOLD = 50_000


def run() -> None:
    """Run the shell and end the process with its exit status."""
    gc.set_threshold(_GARBAGE_THRESHOLD)
    from trough.shell.main import NO_READER, main

    status = main()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except BrokenPipeError:
        status = NO_READER
    if any(
        not each.daemon for each in threading.enumerate() if each is not threading.main_thread()
    ):
        sys.exit(status)  # which waits for these threads
    os._exit(status)
