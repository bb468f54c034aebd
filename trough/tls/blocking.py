"""TLS for callers that block: a context of Python's own `ssl`, which verifies CA and host name."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from trough import errors
from trough.tls.reloading import Reloading


def client_context(ca: str | None, setting: str = "TLS_CA") -> ssl.SSLContext:
    """For connections to servers.

    :param ca: file with the certificates of CAs; None: those of the system
    :param setting: names the setting of `ca`, for errors
    :raises trough.errors.BadSettings: the file cannot be used
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (OSError, ssl.SSLError) as error:
        reason = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise errors.BadSettings(f"{setting}: {ca} cannot be used: {reason}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def reloaded_context(
    ca: str | None, seconds: Callable[[], float], report: Callable[[str], None]
) -> Reloading[ssl.SSLContext]:
    """As :func:`client_context`, made again when the file changes."""
    return Reloading([ca] if ca else [], lambda: client_context(ca), seconds, report)
