"""Connections and HTTP over TLS for Twisted: CA and host name are always verified.

Nothing is sent before that, so that a token never reaches a host for which the CA has not signed
a certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from trough import errors
from trough.tls import TlsFiles
from trough.tls.reloading import Reloading

if TYPE_CHECKING:
    from OpenSSL import SSL

_log = Logger()


@implementer(IPolicyForHTTPS)
class ClientTls:
    """Whom this process believes when it connects to others, and what it shows them.

    :param peers: whether these are processes of the same cluster; a client is no process of it
    :param setting: names the setting of the CA, for errors
    """

    def __init__(
        self, files: TlsFiles, clock: Any, peers: bool = False, setting: str = "TLS_CA"
    ) -> None:
        self._files = files
        self._clock = clock
        self._peers = peers
        self.setting = "TLS_PEER_CA" if peers and files.peer_ca is not None else setting
        self._made: Reloading[SSL.Context] | None = None

    def context(self) -> SSL.Context:
        """As the files have it now.

        :raises trough.errors.BadSettings: a file cannot be used
        """
        if self._made is None:
            from trough.tls.contexts import client_context

            files, peers = self._files, self._peers
            mutual = (files.peer_ca, files.certificate, files.key)
            paths = mutual if peers and files.peer_ca is not None else (files.known_ca,)
            self._made = Reloading(
                [each for each in paths if each],
                lambda: client_context(files, peers, self.setting),
                self._clock.seconds,
                lambda text: _log.warn("TLS: {text}", text=text),
            )
        return self._made.current()

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """See the interface."""
        return _Creator(self, hostname.decode("ascii").strip("[]"))

    def endpoint(
        self, reactor: Any, host: str, port: int, seconds: float, encrypted: bool
    ) -> IStreamClientEndpoint:
        """An endpoint that connects to a server.

        :param encrypted: whether TLS is spoken there
        :raises trough.errors.Unavailable: it is not, and has to be
        :raises trough.errors.BadSettings: a file that TLS needs cannot be used
        """
        self.check(encrypted, f"{host}:{port}")
        plain = HostnameEndpoint(reactor, host, port, timeout=seconds)
        if not encrypted:
            return plain
        from twisted.internet.endpoints import wrapClientTLS

        return wrapClientTLS(_Creator(self, host), plain, reactor)

    def check_url(self, url: str) -> None:
        """Refuse a URL of a server that speaks no TLS, where TLS is configured.

        :raises trough.errors.Unavailable: it is one
        :raises trough.errors.BadSettings: a file that TLS needs cannot be used
        """
        self.check(url.startswith("https://"), url)

    def check(self, encrypted: bool, where: str) -> None:
        """As :meth:`check_url`, which tells what is raised."""
        if self._files.insists and not encrypted:
            raise errors.Unavailable(
                f"{where} speaks no TLS, which the settings of this process ask for",
                "set TLS_CERT and TLS_KEY there, or INSECURE here while TLS is introduced",
            )
        if encrypted:
            self.context()  # what is wrong with it is easier to report now


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    """Makes connections to one host."""

    def __init__(self, tls: ClientTls, host: str) -> None:
        self._tls = tls
        self._host = host

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        from OpenSSL import SSL

        from trough.tls.contexts import verify_host

        connection = SSL.Connection(self._tls.context(), None)
        connection.set_app_data(protocol)
        verify_host(connection, self._host, self._tls.setting)
        return connection
