"""``twistd trough-sync``: one sync server."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet import reactor

from trough import taps
from trough.service import build_sync


class Options(taps.Options):
    """Options of a sync server."""

    synopsis = "[--settings FILE]"
    longdesc = (
        "A sync server: stands for election with the others, decides which worker keeps "
        "which segment while it leads, and takes clients' orders (provision, promote, delete, "
        "schemas) at any time. Run three or more of them; on one machine, with one registry, "
        "each needs its own HOSTNAME, SYNC_SERVER_PORT and SYNC_LINE_PORT.\n\n" + taps.EXPLANATION
    )


def makeService(options: Options) -> IService:
    """The sync server that `options` describe."""
    return taps.make(options, lambda settings: build_sync(settings, reactor))
