"""A small CA for one cluster, and the certificates of its processes.

Enough for a cluster that has no CA of its own: one key, kept offline, signs a certificate for each
machine. Keys are of the curve P-256, which every TLS 1.2 knows. Files of keys have mode 0600, and
none is ever written over.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trough import errors
from trough.util.quoting import quoted

#: Days that a CA and a certificate are good for.
CA_DAYS, NODE_DAYS = 3650, 825

#: Clocks of a cluster may differ: certificates begin that much earlier.
_EARLIER = datetime.timedelta(hours=1)

# With a star in front for all hosts of a domain. No dot in front, no slash: it names files.
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")

CA_CERTIFICATE, CA_KEY = "ca.pem", "ca.key"


def make_ca(directory: Path, now: datetime.datetime, days: int = CA_DAYS) -> None:
    """Make ``ca.pem`` and ``ca.key`` in `directory`.

    :param now: when it begins, but for an hour
    :raises trough.errors.BadRequest: there is one already
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Trough cluster CA")])
    certificate = (
        _builder(name, key, now, days)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .sign(key, hashes.SHA256())
    )
    _write(directory / CA_KEY, _key_text(key), 0o600)
    _write(directory / CA_CERTIFICATE, _certificate_text(certificate), 0o644)


def make_certificate(
    directory: Path,
    names: list[str],
    now: datetime.datetime,
    days: int = NODE_DAYS,
    renew: bool = False,
) -> tuple[Path, Path]:
    """Make the certificate and the key of a process or machine.

    :param directory: of the CA
    :param names: host names and addresses under which it is reached; the first one names the
        files
    :param now: when it begins, but for an hour
    :param renew: whether a certificate with these names may be replaced, as a whole
    :return: the files of the certificate and of the key
    :raises trough.errors.BadRequest: there is no CA, there is one with this name, or a name is none
    """
    ca, ca_key = _read_ca(directory)
    alternatives = [_alternative(name) for name in names]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    issuer_key = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        _builder(subject, key, now, days)
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), False
        )
        .sign(ca_key, hashes.SHA256())
    )
    stem = names[0].replace(":", "-").replace("*", "any")
    files = directory / f"{stem}.pem", directory / f"{stem}.key"
    # The key first: a process that sees the change of the certificate finds both.
    _write(files[1], _key_text(key), 0o600, renew)
    _write(files[0], _certificate_text(certificate), 0o644, renew)
    return files


def _builder(
    name: x509.Name, key: Any, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    try:
        host = name.encode("idna").decode()
    except UnicodeError:
        host = ""
    if not _HOST.fullmatch(host):
        raise errors.BadRequest(f"not a host name or an address: {quoted(name)}")
    return x509.DNSName(host)


def _read_ca(directory: Path) -> tuple[x509.Certificate, Any]:
    try:
        certificate = x509.load_pem_x509_certificate((directory / CA_CERTIFICATE).read_bytes())
        key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), None)
    except OSError as error:
        raise errors.BadRequest(
            f"{error.filename} cannot be read: {error.strerror}",
            "`trough-admin certificate ca` makes a CA",
        ) from error
    except (ValueError, TypeError) as error:
        raise errors.BadRequest(f"{directory} holds no CA that can be used: {error}") from error
    return certificate, key


def _key_text(key: Any) -> bytes:
    return bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def _certificate_text(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write(path: Path, text: bytes, mode: int, replace: bool = False) -> None:
    """Make a file with `mode` that is there whole or not at all."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            unfinished.replace(path)
        else:
            path.hardlink_to(unfinished)
    except FileExistsError as error:
        raise errors.BadRequest(
            f"{path} is there already", "choose another --directory, or --renew a certificate"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
