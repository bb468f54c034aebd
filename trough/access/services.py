"""The gate of a process from its settings, with the services that it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.application import service

from trough.access.audit import AuditLog
from trough.access.gate import RELOAD_SECONDS, Gate
from trough.settings import Settings
from trough.util.periodic import Periodic
from trough.util.threads import ThreadPoolService


def build_gate(settings: Settings, reactor: Any, stack: service.MultiService) -> Gate:
    """A gate; what it needs starts and stops with `stack`.

    :raises trough.errors.BadSettings: the token file cannot be used
    """
    gate = Gate(
        settings.auth_token,
        settings.peer_token,
        None if settings.tokens_file is None else Path(settings.tokens_file),
        certificates=settings.tls_peer_ca is not None,
        insists=not settings.insecure,
        seconds=reactor.seconds,
    )
    if settings.audit_log is not None:
        threads = ThreadPoolService("trough-audit", 1, reactor)
        audit = AuditLog(
            Path(settings.audit_log), settings.hostname, settings.audit_sql, threads.run, reactor
        )
        for child in (threads, audit):
            child.setServiceParent(stack)
        gate.audit = audit
    Periodic("token file", RELOAD_SECONDS, gate.look, reactor).setServiceParent(stack)
    return gate
