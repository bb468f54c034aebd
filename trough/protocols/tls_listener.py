"""Listeners for TLS.

A peer that has not finished its handshake is a stranger, with the limits of one. It counts among
the connections from its first packet on, and has bounded time and bytes. A peer without TLS gets
an answer in the port's protocol, without TLS: otherwise it would see a lost connection and no
reason.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IProtocolFactory
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from trough.protocols.peer import peer_of
from trough.tls import TlsFiles
from trough.tls.contexts import others_read, server_context
from trough.tls.reloading import Reloading
from trough.util.tls_problems import tls_problem

_log = Logger()

#: Seconds and bytes that a handshake may take. OpenSSL allows 100 kB of certificates.
HANDSHAKE_SECONDS = 30.0
HANDSHAKE_BYTES = 256 << 10

#: Seconds for a peer without TLS to read why it is refused.
LINGER = 2.0

#: Seconds between two entries in the log about handshakes that failed.
LOG_EVERY = 60.0

# What the first byte of TLS is: a record of a handshake.
_HANDSHAKE = b"\x16"


@implementer(IOpenSSLServerConnectionCreator)
class ServerTls:
    """The certificate of this process, for all of its listeners.

    :param clock: the reactor, as a rule
    :raises trough.errors.BadSettings: a file cannot be used
    """

    def __init__(self, files: TlsFiles, clock: Any) -> None:
        self.clock = clock
        paths = [each for each in (files.certificate, files.key, files.peer_ca) if each]
        self._context = Reloading(
            paths, lambda: server_context(files), clock.seconds, lambda text: _report(text)
        )
        self._log_after = float("-inf")
        self._failed = 0
        if files.key is not None and others_read(files.key):
            _log.warn("TLS_KEY: everybody can read {path}; run chmod 600", path=files.key)

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        """See the interface."""
        connection = SSL.Connection(self._context.current(), None)
        connection.set_app_data(protocol)
        return connection

    def listener(self, factory: IProtocolFactory, plain_answer: bytes) -> IProtocolFactory:
        """A factory that runs the protocols of `factory` over TLS.

        :param plain_answer: is sent to a peer that does not use TLS
        """
        return _Factory(self, factory, plain_answer)

    def failed(self, peer: str, reason: str) -> None:
        """Log a handshake that failed, seldom: any host that reaches the port can cause many."""
        self._failed += 1
        now = self.clock.seconds()
        if now >= self._log_after:
            self._log_after = now + LOG_EVERY
            _log.warn(
                "the TLS handshake with {peer} failed: {reason} ({failed} failed so far)",
                peer=peer,
                reason=reason,
                failed=self._failed,
            )


def _report(text: str) -> None:
    _log.warn("TLS: {text}", text=text)


class _Connection(BufferingTLSTransport):
    """One connection; `_limit` is there until the handshake is over."""

    factory: _Factory
    transport: Any
    _limit: Any = None
    _taken = 0
    _peer = ""

    def makeConnection(self, transport: Any) -> None:
        self._limit = self.factory.tls.clock.callLater(HANDSHAKE_SECONDS, self._too_slow)
        self._peer = peer_of(transport)
        transport.setTcpNoDelay(True)  # what is written is written in whole bunches
        super().makeConnection(transport)

    def dataReceived(self, data: bytes) -> None:
        if self._limit is None:
            super().dataReceived(data)
        else:
            self._shake_hands(data)

    def _shake_hands(self, data: bytes) -> None:
        if self._lostTLSConnection:
            return
        if not self._taken and not data.startswith(_HANDSHAKE):
            self._refuse_plain()
            return
        self._taken += len(data)
        super().dataReceived(data)
        if self._handshakeDone:
            self._stop_clock()
        elif self._taken > HANDSHAKE_BYTES:
            self.abortConnection()

    def _refuse_plain(self) -> None:
        self.factory.tls.failed(self._peer, "the peer does not speak TLS")
        self._lostTLSConnection = True
        self.transport.write(self.factory.plain_answer)
        # Closing outright would reset the connection where more of a request is on its way.
        self.transport.loseWriteConnection()
        self._limit.reset(LINGER)

    def _too_slow(self) -> None:
        self._limit = None
        if not self._taken and not self._lostTLSConnection:
            # It may be one that waits for a greeting, as clients of the line protocol do.
            self._lostTLSConnection = True
            self.transport.write(self.factory.plain_answer)
            self.transport.loseConnection()
        else:
            self.abortConnection()

    def _stop_clock(self) -> None:
        limit, self._limit = self._limit, None
        if limit is not None and limit.active():
            limit.cancel()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._limit is not None:
            self._stop_clock()
            cause = self._reason or reason
            problem = tls_problem(cause.value)
            if problem is not None:
                self.factory.tls.failed(self._peer, problem)
        super().connectionLost(reason)


class _Factory(TLSMemoryBIOFactory):
    protocol = _Connection

    def __init__(self, tls: ServerTls, factory: IProtocolFactory, plain_answer: bytes) -> None:
        super().__init__(tls, False, factory, tls.clock)
        self.tls = tls
        self.plain_answer = plain_answer
