"""Which servers may be reached by others."""

from __future__ import annotations

import pytest

from trough import errors
from trough.settings import settings_from
from trough.settings.checks import check_exposed

TLS = {"TLS_CERT": "/c", "TLS_KEY": "/k"}
TOKEN = {"AUTH_TOKEN": "sesame-sesame"}
PEER = f"trough_{'0' * 16}_{'x' * 43}"


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.7", "::1"])
def test_on_the_loopback_nothing_is_needed(address):
    """One machine works with no settings at all."""
    check_exposed(settings_from({"BIND_ADDRESS": address}, "w"))


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "2001:db8::7"])
def test_off_the_loopback_both_are_needed(address):
    """Without TLS or a token it is refused; INSECURE allows it."""
    bound = {"BIND_ADDRESS": address}
    for given, said in [
        ({}, "without TLS_CERT and TLS_KEY and without AUTH_TOKEN or TOKENS_FILE"),
        (TLS, "reach, without AUTH_TOKEN or TOKENS_FILE "),
        (TOKEN, "without TLS_CERT and TLS_KEY "),
    ]:
        with pytest.raises(errors.BadSettings) as caught:
            check_exposed(settings_from({**bound, **given}, "w"))
        assert said in str(caught.value) and "INSECURE" in str(caught.value)
        check_exposed(settings_from({**bound, **given, "INSECURE": True}, "w"))
    for token in (TOKEN, {"TOKENS_FILE": "/t", "PEER_TOKEN": PEER}):
        check_exposed(settings_from({**bound, **TLS, **token}, "w"))


def test_what_is_published_tells_tls():
    """URLs and addresses of the line protocol."""
    plain = settings_from({"EXTERNAL_IP": "::1", "BIND_ADDRESS": "::1"}, "w")
    assert (plain.url(1), plain.line_address(2)) == ("http://[::1]:1/", "[::1]:2")
    secure = settings_from(TLS, "w")
    assert (secure.url(1), secure.line_address(2)) == ("https://127.0.0.1:1/", "tls://127.0.0.1:2")
