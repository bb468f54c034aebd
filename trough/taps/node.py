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
    longdesc = (
        "A whole Trough on one machine: sync server, worker and the processes that run SQL, "
        "with an embedded registry and a directory as canonical storage. Nothing else has to be "
        "installed. Ctrl-C stops it; what it holds is there again at the next start.\n\n"
        + taps.EXPLANATION
    )

    def environment(self) -> dict[str, str]:
        environ = super().environment()
        return taps.at_home(environ, self["home"]) if self["home"] else environ


def makeService(options: Options) -> IService:
    """The whole Trough that `options` describe."""
    return taps.make(
        options, lambda settings: build_node(settings, reactor, bool(options["example"]))
    )
