"""The process of ``trough-shell``: starts fast, and ends fast.

A script may start a shell for each query, so what Python does before and after the query counts.
Collecting garbage while modules are imported finds nothing, and taking the interpreter apart at
the end gives back only memory: together a tenth of the time of a short query.
"""

from __future__ import annotations

import gc
import os
import sys
import threading

#: Objects made between two looks for garbage; Python's own 700 look dozens of times at the
#: start alone.
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
