"""Certificate, key and CA become contexts of OpenSSL.

Whatever cannot be used is refused with the setting, the file and the fault.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from OpenSSL import SSL, crypto
from service_identity import CertificateError, VerificationError, hazmat
from service_identity.cryptography import extract_patterns

from trough import errors
from trough.tls import TlsFiles
from trough.util.tls_problems import CertificateProblem, certificate_fault, wrong_name

# Those with forward secrecy and authenticated encryption; TLS 1.3 has no others.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:!aNULL:!SHA1"


def server_context(files: TlsFiles) -> SSL.Context:
    """For listeners.

    :raises trough.errors.BadSettings: a file cannot be used
    """
    context = _context()
    _show_certificate(context, files)
    # Sessions are continued only within one context, and then with the certificate they had.
    context.set_session_id(b"trough")
    if files.peer_ca is not None:
        _trust(context, "TLS_PEER_CA", files.peer_ca)
        context.set_verify(SSL.VERIFY_PEER, _accept)
    return context


def client_context(files: TlsFiles, peers: bool, setting: str = "TLS_CA") -> SSL.Context:
    """For connections to servers; the verification of a host comes with each connection.

    :param peers: whether these are processes of the same cluster
    :param setting: names the setting of the CA, for errors
    :raises trough.errors.BadSettings: a file cannot be used
    """
    context = _context()
    if peers and files.peer_ca is not None:
        _trust(context, "TLS_PEER_CA", files.peer_ca)
        _show_certificate(context, files)
    elif files.known_ca is not None:
        _trust(context, setting if files.ca else "TLS_PEER_CA", files.known_ca)
    else:
        context.set_default_verify_paths()
    return context


def _context() -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    # An idle connection keeps no buffers: 34 kB less.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_cipher_list(_CIPHERS)
    return context


def _show_certificate(context: SSL.Context, files: TlsFiles) -> None:
    certificate, key = files.certificate or "", files.key or ""
    try:
        context.use_certificate_chain_file(certificate)
    except SSL.Error as error:
        raise _unusable("TLS_CERT", certificate, "no certificate in PEM") from error
    try:
        private: Any = serialization.load_pem_private_key(Path(key).read_bytes(), None)
    except OSError as error:
        raise _unusable("TLS_KEY", key, "") from error
    except TypeError as error:
        reason = "it has a passphrase, which nobody could type in"
        raise _unusable("TLS_KEY", key, reason) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _unusable("TLS_KEY", key, "no private key in PEM") from error
    try:
        context.use_privatekey(private)
        context.check_privatekey()
    except SSL.Error as error:
        raise errors.BadSettings(
            f"TLS_KEY: {key} is not the key of the certificate {certificate}",
            "replace both, the certificate last",
        ) from error


def _trust(context: SSL.Context, setting: str, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except SSL.Error as error:
        raise _unusable(setting, path, "no certificate in PEM") from error


def _unusable(setting: str, path: str, reason: str) -> errors.BadSettings:
    """:param reason: that holds where the file can be read"""
    try:
        with Path(path).open("rb"):
            pass
    except OSError as failure:
        reason = failure.strerror or str(failure)
    return errors.BadSettings(f"{setting}: {path} cannot be used: {reason}", "see etc/trough.yml")


def _accept(
    connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, valid: int
) -> bool:
    """Of a client that shows a certificate, whether it is one of the cluster's."""
    if not valid:
        _refuse(connection, certificate_fault(number, "TLS_PEER_CA"))
    return bool(valid)


def _refuse(connection: SSL.Connection, fault: str) -> None:
    from twisted.python.failure import Failure

    protocol: Any = connection.get_app_data()
    protocol.failVerification(Failure(CertificateProblem(fault)))


def verify_host(connection: SSL.Connection, host: str, setting: str) -> None:
    """Have a connection to `host` verify the certificate that it is shown.

    :param setting: names the CAs that are known, for errors
    Its app data has to be the protocol of Twisted that speaks TLS.
    """

    def verify(
        connection: SSL.Connection, certificate: crypto.X509, number: int, depth: int, valid: int
    ) -> bool:
        fault = None if valid else certificate_fault(number, setting)
        try:
            if fault is None and depth == 0:
                fault = name_fault(certificate.to_cryptography(), host)
        except Exception as error:  # OpenSSL has no way to report one, and would go on
            fault = f"its certificate cannot be read: {error}"
        if fault is not None:
            _refuse(connection, fault)
        return fault is None

    if not _is_address(host):
        connection.set_tlsext_host_name(host.encode("idna"))
    connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)


def name_fault(certificate: Any, host: str) -> str | None:
    """Why a certificate (of *cryptography*) is not for `host`; None if it is."""
    identity: Any
    if _is_address(host):
        identity = hazmat.IPAddress_ID(host)
    else:
        identity = hazmat.DNS_ID(host.encode("idna").decode())
    try:
        patterns: list[Any] = list(extract_patterns(certificate))
    except CertificateError as error:
        return f"its certificate is malformed: {error}"
    try:
        hazmat.verify_service_identity(patterns, [identity], [])
    except (VerificationError, CertificateError):
        return wrong_name(host, [str(_shown(pattern.pattern)) for pattern in patterns])
    return None


def _shown(pattern: Any) -> object:
    return pattern.decode("ascii", "replace") if isinstance(pattern, bytes) else pattern


def check_own_name(files: TlsFiles, host: str) -> None:
    """Refuse a certificate that nobody would believe of a server published as `host`.

    :raises trough.errors.BadSettings: it is for others
    """
    path = files.certificate or ""
    certificate = SSL.Connection(server_context(files), None).get_certificate()
    fault = name_fault(certificate.to_cryptography(), host) if certificate else None
    if fault is not None:
        raise errors.BadSettings(
            f"TLS_CERT: {path}: {fault}",
            "others reach this process as EXTERNAL_IP says: set it to a name of the certificate",
        )


def others_read(path: str) -> bool:
    """Whether everybody on this machine may read a file."""
    try:
        return bool(Path(path).stat().st_mode & 0o007)
    except OSError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
