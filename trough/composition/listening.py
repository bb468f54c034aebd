"""The ports of a process, with what each of them bounds."""

from __future__ import annotations

import os

from twisted.application import strports
from twisted.internet.endpoints import quoteStringArgument
from twisted.internet.interfaces import IProtocolFactory
from twisted.web.resource import Resource

from trough.composition.common import Common
from trough.metrics.totals import RequestTotals
from trough.protocols.address_limit import AddressLimit
from trough.protocols.http.browser_guard import BrowserGuard
from trough.protocols.http.site import Site
from trough.protocols.line.framing import FramingLimits as LineLimits
from trough.protocols.line.replies import Verb
from trough.protocols.line.server import (
    LineServerFactory,
    ServerLimits,
    most_line_connections,
)
from trough.settings import Settings
from trough.util.services import Listener, StopHook

#: Bytes of a body that carries an order or a schema.
MAX_MANAGER_BODY = 16 * 1024 * 1024


def listen_http(
    common: Common, key: str, root: Resource, max_body: int, totals: RequestTotals
) -> None:
    """Serve resources over HTTP.

    :param key: of the setting that has the port
    :param max_body: bytes of a request
    """
    guard = _guard(common.settings)
    site = Site(
        root,
        common.reactor,
        max_body,
        common.flush_batch,
        guard,
        connections=common.connections,
        unread=common.unread,
        totals=totals,
    )
    StopHook(lambda: site.drain(common.settings.shutdown_seconds)).setServiceParent(common.stack)
    _listen(common, key, site, _PLAIN_HTTP)


def _guard(settings: Settings) -> BrowserGuard:
    machine = os.uname().nodename
    names = [settings.hostname, settings.external_ip, machine, machine.partition(".")[0]]
    return BrowserGuard([*names, *(settings.http_hosts or ())], settings.http_origins or ())


def listen_line(
    common: Common, key: str, role: str, verbs: dict[str, Verb], totals: RequestTotals
) -> None:
    """Serve verbs of the line protocol.

    :param key: of the setting that has the port
    :param role: as the greeting names it
    """
    settings = common.settings
    factory = LineServerFactory(
        role,
        settings.hostname,
        verbs,
        common.reactor,
        gate=common.gate,
        flush_batch=common.flush_batch,
        limits=ServerLimits(
            LineLimits(settings.max_line, settings.max_literal),
            half_message=settings.message_seconds,
            connections=most_line_connections(),
        ),
        totals=totals,
        addresses=AddressLimit(settings.connections_per_address, common.reactor.seconds),
        unread=common.unread,
    )
    StopHook(lambda: factory.drain(settings.shutdown_seconds)).setServiceParent(common.stack)
    _listen(common, key, factory, _PLAIN_LINE)


#: The answer to a peer without TLS on a port with TLS.
_PLAIN_HTTP = (
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nX-Trough-Error: bad-request\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
    b"500 Server Error: this port speaks TLS (ask https://)\n"
)


_PLAIN_LINE = b"* BYE bad-request this port speaks TLS (connect with TLS)\n"


def _listen(common: Common, key: str, factory: IProtocolFactory, plain_answer: bytes) -> None:
    """:param plain_answer: to a peer without TLS, if this process uses TLS"""
    address, port = common.settings.bind_address, getattr(common.settings, key.lower())
    common.gate.serve(f"{common.settings.url_host}:{port}")
    kind = "tcp6" if ":" in address else "tcp"
    if common.server_tls is not None:
        factory = common.server_tls.listener(factory, plain_answer)
    listening = strports.service(
        f"{kind}:{port}:interface={quoteStringArgument(address)}:backlog=1024",
        factory,
        common.reactor,
    )
    Listener(listening, f"{address} port {port}", key).setServiceParent(common.stack)
