"""What clients read of an error never names an object of Python."""

from __future__ import annotations

import pytest
import requests
from python_texts import python_texts
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionRefusedError as Refused
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import RequestTransmissionFailed, ResponseFailed, ResponseNeverReceived
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError, ReadTimeoutError

from trough.util.error_text import error_text


def late() -> BaseException:
    """What a Deferred fails with whose time is over."""
    clock, failed = Clock(), []
    waiting: Deferred[None] = Deferred().addTimeout(5, clock)
    waiting.addErrback(failed.append)
    clock.advance(5)
    return failed[0].value


POOL = HTTPConnectionPool("nn1", 9870)
REFUSED = NewConnectionError(HTTPConnection("nn1", 9870), "Connection refused")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("plain"), "plain"),
        (ValueError(), "ValueError"),
        (ResponseNeverReceived([Failure(Refused("no"))]), "no"),
        (ResponseFailed([Failure(RequestTransmissionFailed([Failure(OSError("cut"))]))]), "cut"),
        (REFUSED, "Connection refused"),
        (requests.ConnectionError(MaxRetryError(POOL, "/x", REFUSED)), "Connection refused"),
        (ReadTimeoutError(POOL, "/x", "Read timed out."), "Read timed out."),
        (OSError("Plain(host='nn1', port=9870): Connection refused"), "Connection refused"),
        (requests.ReadTimeout(ReadTimeoutError(POOL, "/", "Read timed out.")), "Read timed out."),
        (late(), "nothing came within 5 s"),
        (CancelledError(), "it was cancelled"),
        (ProtocolError("Connection aborted.", OSError("reset by peer")), "reset by peer"),
    ],
)
def test_an_errors_text(error: Exception, text: str) -> None:
    """That of the innermost error, without addresses."""
    found = error_text(error)
    assert text in found
    assert "object at" not in found and "Failure" not in found and "(host=" not in found
    assert python_texts(found) == []
