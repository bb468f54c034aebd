"""``twistd trough-worker``: one worker."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet import reactor

from trough import taps
from trough.service import build_worker


class Options(taps.Options):
    """Options of a worker."""

    synopsis = "[--settings FILE]"
    explanation = f"""\
A worker: keeps local copies of the segments that it is assigned, answers SQL on
them, and promotes what was written. What it is told, and what holds where
nothing is said:

{taps.SHARED}\
  LOCAL_DATA     its own directory, with the only copy of what was not promoted
                 yet (/var/lib/trough)
  READ_PORT, WRITE_PORT, SYNC_LOCAL_PORT   HTTP (6444, 6222, 6112)
  LINE_PORT      the line protocol (6440)

On one machine each needs a HOSTNAME, LOCAL_DATA and ports of its own. It prints
a line when it is ready, and stops at SIGTERM or Ctrl-C once its requests have
ended.
"""


def makeService(options: Options) -> IService:
    """The worker that `options` describe."""
    return taps.make(options, lambda settings: build_worker(settings, reactor))
