"""``twistd trough``: a sync server and a worker in one process, on one machine."""

from __future__ import annotations

from twisted.application.service import IService
from twisted.internet import reactor

from trough import taps
from trough.service import build_node


class Options(taps.Options):
    """Options of a whole Trough."""

    synopsis = "[--home DIR] [--example] [--settings FILE]"
    optParameters = [
        ["home", None, None, "Keep registry, canonical copies and local copies below this."],
    ]
    optFlags = [
        ["example", None, "Put a small example into an empty Trough, and say how to ask it."],
    ]
    explanation = """\
A whole Trough on one machine: sync server, worker and the processes that run
SQL, with an embedded registry and a directory as canonical storage. Nothing
else has to be installed, and with --home nothing else has to be said:

  twistd --nodaemon --pidfile= trough --home ./var --example

It listens on BIND_ADDRESS (127.0.0.1): reads at READ_PORT (6444), writes at
WRITE_PORT (6222), orders at SYNC_SERVER_PORT (6111), and the line protocol at
LINE_PORT (6440) and SYNC_LINE_PORT (6110). It prints a line when it is ready.
Ctrl-C stops it; what it holds is there again at the next start.
"""

    def environment(self) -> dict[str, str]:
        environ = super().environment()
        return taps.at_home(environ, self["home"]) if self["home"] else environ


def makeService(options: Options) -> IService:
    """The whole Trough that `options` describe."""
    return taps.make(
        options, lambda settings: build_node(settings, reactor, bool(options["example"]))
    )
