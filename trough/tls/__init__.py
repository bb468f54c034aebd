"""TLS: whom this process believes, and what it shows others.

=============  =======================================================================
``reloading``  keeps what was read from files, and reads them again when they change
``contexts``   certificate, key and CA become contexts of OpenSSL
``client``     connections and HTTP for Twisted: CA and host name are verified
``blocking``   the same for callers that block, who do without Twisted
``authority``  makes a small CA and its certificates, for ``trough-admin certificate``
=============  =======================================================================

Listeners are in :mod:`trough.protocols.tls_listener`. No connection that fails a check carries
one byte of a request. TLS 1.2 is the oldest version that is spoken. What is not configured costs
nothing: OpenSSL is imported when TLS is used.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The files that TLS is made of, as the settings name them; all are PEM.

    :ivar certificate: of this process, with the intermediate ones after it; None: none
    :ivar key: its private key
    :ivar ca: certificates of those whose signature counts for the servers that this process
        connects to; None: `peer_ca`, or else those of the system
    :ivar peer_ca: likewise for the processes of the cluster, on both sides of a connection;
        None: `ca` on the one side, and no certificate is asked for on the other
    :ivar plain: whether servers without TLS may be asked, although this process has TLS
    """

    certificate: str | None = None
    key: str | None = None
    ca: str | None = None
    peer_ca: str | None = None
    plain: bool = False

    @property
    def serves(self) -> bool:
        """Whether listeners speak TLS."""
        return self.certificate is not None

    @property
    def insists(self) -> bool:
        """Whether a server without TLS is refused."""
        return not self.plain and any((self.certificate, self.ca, self.peer_ca))

    @property
    def known_ca(self) -> str | None:
        """The CA for a client; None: those of the system."""
        return self.ca or self.peer_ca

    @property
    def scheme(self) -> str:
        """Of this process's URLs."""
        return "https" if self.serves else "http"
