"""A CA of a test's own, and certificates of it."""

from __future__ import annotations

import datetime
from pathlib import Path

from trough.tls import TlsFiles
from trough.tls.authority import CA_CERTIFICATE, make_ca, make_certificate


class CertificateAuthority:
    """A CA in `directory`.

    :ivar ca: the file of its certificate
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = str(directory / CA_CERTIFICATE)
        make_ca(directory, datetime.datetime.now(datetime.UTC))

    def issue(self, *names: str, began: float = 0, days: int = 30, renew: bool = False) -> TlsFiles:
        """Make a certificate; a server's settings with it.

        :param names: 127.0.0.1 where none is given
        :param began: days ago
        """
        now = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=began)
        files = make_certificate(self.directory, [*names] or ["127.0.0.1"], now, days, renew)
        return TlsFiles(*map(str, files), ca=self.ca)

    def settings(self, *names: str, mutual: bool = True) -> dict[str, str]:
        """Make a certificate; the settings of a process with it, by key."""
        files = self.issue(*names)
        assert files.certificate and files.key
        settings = {"TLS_CERT": files.certificate, "TLS_KEY": files.key, "TLS_CA": self.ca}
        return settings | ({"TLS_PEER_CA": self.ca} if mutual else {})
