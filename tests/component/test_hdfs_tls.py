"""Canonical storage in a real HDFS over TLS, as ``swebhdfs:`` has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from certificates import CertificateAuthority
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs12
from hadoop import HdfsServers, may_run, started, write_xml
from processes import free_ports
from twisted.internet import reactor

from trough import errors
from trough.storage.hdfs.webhdfs import HdfsRetryPolicy
from trough.storage.open import open_storage

PASSWORD = "keystore"
QUICK = HdfsRetryPolicy(connect=5, answer=20, transfer=30, attempts=1)


class SecureHdfs(HdfsServers):
    """Also with HTTPS, by a certificate of `authority`."""

    def __init__(self, directory: Path, authority: CertificateAuthority) -> None:
        self._authority = authority
        self.tls_port, self._data_https = free_ports(2)
        super().__init__(directory)

    def _configure(self) -> None:
        super()._configure()
        files = self._authority.issue("127.0.0.1")
        certificate = x509.load_pem_x509_certificate(Path(str(files.certificate)).read_bytes())
        key = serialization.load_pem_private_key(Path(str(files.key)).read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(PASSWORD.encode())
        store = self.directory / "keys.p12"
        store.write_bytes(
            pkcs12.serialize_key_and_certificates(b"hdfs", key, certificate, None, encryption)
        )
        write_xml(
            self._configuration / "ssl-server.xml",
            {
                "ssl.server.keystore.location": store,
                "ssl.server.keystore.password": PASSWORD,
                "ssl.server.keystore.keypassword": PASSWORD,
                "ssl.server.keystore.type": "pkcs12",
            },
        )
        site = self._configuration / "hdfs-site.xml"
        more = {
            "dfs.http.policy": "HTTP_AND_HTTPS",
            "dfs.namenode.https-address": f"127.0.0.1:{self.tls_port}",
            "dfs.datanode.https.address": f"127.0.0.1:{self._data_https}",
        }
        added = "".join(
            f"<property><name>{name}</name><value>{value}</value></property>"
            for name, value in more.items()
        )
        text = site.read_text()
        site.write_text(text.replace("</configuration>", f"{added}</configuration>"))

    def url(self, path: str) -> str:
        return f"swebhdfs://127.0.0.1:{self.tls_port}{path}?user={self.user}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("hdfs-tls") / "ca")


@pytest.fixture(scope="module")
def secure(authority) -> Iterator[SecureHdfs]:
    may_run()
    servers = started(lambda directory: SecureHdfs(directory, authority))
    yield servers
    servers.stop()
    shutil.rmtree(servers.directory, ignore_errors=True)


@pytest_twisted.ensureDeferred
async def test_a_file_goes_there_and_back(secure, authority, tmp_path):
    """NameNode and DataNode are both asked over TLS, and verified with HDFS_TLS."""
    storage = open_storage(secure.url("/tls"), reactor, patience=QUICK, ca=authority.ca)
    await storage.open()
    source = tmp_path / "source"
    source.write_bytes(b"x" * 300_000)
    copy = await storage.publish(source, "300001")
    assert await storage.fetch(copy, tmp_path / "back") == copy
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    await storage.close()


@pytest_twisted.ensureDeferred
async def test_another_ca_is_refused(secure, tmp_path):
    """The error says that the certificate is not believed."""
    other = CertificateAuthority(tmp_path / "other").ca
    storage = open_storage(secure.url("/tls"), reactor, patience=QUICK, ca=other)
    with pytest.raises(errors.Unavailable, match="CA that is not known here"):
        await storage.open()
    await storage.close()


def test_a_file_that_is_no_ca(tmp_path):
    """Refused before anything is asked."""
    with pytest.raises(errors.BadSettings, match="HDFS_TLS"):
        open_storage("swebhdfs://h/tls", reactor, ca=str(tmp_path / "none"))
