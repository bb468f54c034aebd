"""``twistd trough-sync``: one sync server."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet import reactor

from trough import taps
from trough.service import build_sync


class Options(taps.Options):
    """Options of a sync server."""

    synopsis = "[--settings FILE]"
    explanation = f"""\
A sync server: stands for election with the others, decides which worker keeps
which segment while it leads, and takes clients' orders (provision, promote,
delete, schemas) at any time. Run three or more of them. What it is told, and
what holds where nothing is said:

{taps.SHARED}\
  SYNC_SERVER_PORT, SYNC_LINE_PORT   HTTP (6111) and the line protocol (6110)

On one machine each needs a HOSTNAME and ports of its own. It prints a line when
it is ready, and stops at SIGTERM or Ctrl-C once its requests have ended.
"""


def makeService(options: Options) -> IService:
    """The sync server that `options` describe."""
    return taps.make(options, lambda settings: build_sync(settings, reactor))
