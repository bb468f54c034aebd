"""``twistd trough-worker``: one worker."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet import reactor

from trough import taps
from trough.service import build_worker


class Options(taps.Options):
    """Options of a worker."""

    synopsis = "[--settings FILE]"
    longdesc = (
        "A worker: keeps local copies of the segments that it is assigned, answers SQL on them "
        "over HTTP (READ_PORT, WRITE_PORT) and the line protocol (LINE_PORT), and promotes what "
        "was written. On one machine each worker needs its own HOSTNAME, LOCAL_DATA and "
        "ports.\n\n" + taps.EXPLANATION
    )


def makeService(options: Options) -> IService:
    """The worker that `options` describe."""
    return taps.make(options, lambda settings: build_worker(settings, reactor))
