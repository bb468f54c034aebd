"""What is wrong with a certificate or a handshake, in one sentence with a way out.

OpenSSL reports numbers and words of its own; a person needs the host, the fault and what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

# OpenSSL's X509_V_ERR_*; pyOpenSSL gives the number alone.
_FAULTS = {
    9: "its certificate is not valid yet: is a clock wrong?",
    10: "its certificate has expired: install a new one there",
    18: "its certificate is signed by itself and not by a CA that is known here: see TLS_CA",
    19: "its certificate is signed by a CA that is not known here: see TLS_CA",
    20: "its certificate is signed by a CA that is not known here: see TLS_CA",
    21: "its certificate is signed by a CA that is not known here: see TLS_CA",
    23: "its certificate was revoked",
    24: "its certificate is signed by one that is no CA's: see TLS_CA",
    26: "its certificate is not for this use",
    79: "its certificate is signed by one that is no CA's: see TLS_CA",
}

# Parts of OpenSSL's reasons, in the order in which they are looked for.
_REASONS = {
    "wrong version number": "it does not speak TLS at this port",
    "record layer failure": "it does not speak TLS at this port",
    "packet length too long": "it does not speak TLS at this port",
    "unknown protocol": "it does not speak TLS at this port",
    "http request": "it does not speak TLS",
    "unexpected eof": "the connection was lost in the TLS handshake",
    "unknown ca": "the other side does not know the CA of this side's certificate",
    "bad certificate": "the other side refuses this side's certificate",
    "certificate required": "the other side wants a certificate: see TLS_CERT",
    "certificate expired": "the other side says that this side's certificate has expired",
    "protocol version": "both sides have no version of TLS in common",
    "unsupported protocol": "both sides have no version of TLS in common",
    "no shared cipher": "both sides have no cipher in common",
    "handshake failure": "both sides have no way of TLS in common",
}


class CertificateProblem(Exception):
    """A certificate was refused; the text is the reason, and begins with "its certificate"."""


def certificate_fault(number: int, setting: str = "TLS_CA") -> str:
    """What a verification's error number of OpenSSL means.

    :param setting: names the CAs that are known
    """
    fault = _FAULTS.get(number, f"its certificate is refused (OpenSSL's error {number})")
    return fault.replace("TLS_CA", setting)


def wrong_name(host: str, names: Iterable[str]) -> str:
    """A certificate is not for the host that was asked for."""
    shown = ", ".join(sorted(names)) or "nobody"
    return f"its certificate is for {shown[:200]} and not for {host}"


def tls_problem(error: BaseException | None) -> str | None:
    """What an error of TLS means; None for another error."""
    if isinstance(error, CertificateProblem):
        return str(error)
    ssl = sys.modules.get("ssl")  # takes time to be imported, and who has none has no such error
    if ssl is not None and isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in (62, 64):  # host name, address
            return f"its certificate is not for this host: {error.verify_message.rstrip('.')}"
        return certificate_fault(error.verify_code)
    text = _openssl_text(error)
    if text is None:
        return None
    for part, meaning in _REASONS.items():
        if part in text:
            return meaning
    return f"TLS failed: {text or 'no reason was given'}"


def _openssl_text(error: BaseException | None) -> str | None:
    """The reasons that OpenSSL gives, in small letters; None for another error."""
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(error, ssl.SSLError):
        return (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
    if error is not None and type(error).__module__.startswith("OpenSSL."):
        stack = error.args[0] if error.args and isinstance(error.args[0], list) else []
        return "; ".join(str(entry[-1]) for entry in stack if entry).replace("_", " ").lower()
    return None
