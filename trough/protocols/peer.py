"""Who is at the other end of a connection, as the executors and the log name it."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import INegotiated


def peer_of(transport: Any) -> str:
    """The address and port of a connection's other end: the client that shares are for.

    The port is part of it, since all users of one machine or proxy have one address.
    """
    peer = transport.getPeer()
    host = getattr(peer, "host", None)
    return f"{host}:{peer.port}" if host is not None else str(peer)


def encrypts(transport: Any) -> bool:
    """Whether a transport uses TLS.

    A TLS transport seems to have all that the transport below it has, which does not know TLS.
    """
    return bool(INegotiated.providedBy(transport))


def shows_certificate(transport: Any) -> bool:
    """Whether the other end of a connection has shown a certificate of the cluster.

    Only where TLS_PEER_CA is set is one asked for, and no other one gets this far.
    """
    certificate = getattr(transport, "getPeerCertificate", None)
    return certificate is not None and certificate() is not None
