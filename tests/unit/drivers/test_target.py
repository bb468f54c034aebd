"""URLs of connections."""

from __future__ import annotations

import pytest

from trough import errors
from trough.drivers.target import parse_target
from trough.protocols.line.messages import Matching


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("AUTH_TOKEN", raising=False)
    monkeypatch.delenv("TLS_CA", raising=False)


@pytest.mark.parametrize(
    ("url", "server", "segments", "many"),
    [
        ("trough://h/300001", "h:6110", ("300001",), False),
        ("trough://h:6440/crawl%202026", "h:6440", ("crawl 2026",), False),
        ("trough://[::1]:1/a,b", "[::1]:1", ("a", "b"), True),
        ("trough://h/~^300", "h:6110", Matching("^300"), True),
        ("trough://h/~a%3Fb", "h:6110", Matching("a?b"), True),
        ("trough://h/,~a", "h:6110", ("~a",), True),
        ("trough://h/a?tls=yes", "tls://h:6110", ("a",), False),
    ],
)
def test_a_url_names_a_server_and_segments(url, server, segments, many):
    """The path is an id, ids with commas, or a pattern behind a tilde."""
    target = parse_target(url)
    assert (target.server, target.segments, target.many) == (server, segments, many)


def test_a_registry_takes_the_place_of_the_server():
    """As an option, or as the URL itself."""
    target = parse_target("trough:///a?registry=sqlite:///r.db")
    assert (target.server, target.registry) == ("", "sqlite:///r.db")
    target = parse_target("rethinkdb://h/d", matching="x", partial=True, stale="refuse")
    assert (target.registry, target.segments) == ("rethinkdb://h/d", Matching("x"))
    assert target.options == ("partial=yes", "stale=refuse")


def test_options():
    """Each is found, in the URL or as an argument, which counts more."""
    target = parse_target(
        "trough://:s%20t@h/a?timeout=2.5&schema=s&tls_ca=/ca.pem&within=yes", schema="other"
    )
    assert (target.token, target.seconds, target.schema) == ("s t", 2.5, "other")
    assert (target.tls.ca, target.options) == ("/ca.pem", ("within=yes",))
    assert "s t" not in repr(target)


def test_the_environment_has_what_is_not_said(monkeypatch):
    """As for TroughClient."""
    monkeypatch.setenv("AUTH_TOKEN", "t")
    monkeypatch.setenv("TLS_CA", "/c.pem")
    target = parse_target("trough://h/a")
    assert (target.token, target.tls.ca) == ("t", "/c.pem")


@pytest.mark.parametrize(
    "url",
    [
        "http://h/a",
        "trough://h",
        "trough://h/",
        "trough:///a",
        "trough://h:x/a",
        "trough://h/a%2Fb",
        "trough://h/a?timeot=1",
        "trough://h/a?timeout=0",
        "trough://h/a?timeout=nan",
        "trough://h/a?tls=perhaps",
        "trough://h/a?stale=maybe",
        "trough://h/a?registry=sqlite:///r.db",
    ],
)
def test_what_cannot_be_meant_is_refused(url):
    """No typing error is ignored."""
    with pytest.raises(errors.BadRequest):
        parse_target(url)


def test_no_password_is_repeated():
    """Messages end in logs."""
    with pytest.raises(errors.BadRequest) as raised:
        parse_target("trough://user:secret@h:x/a")
    assert "secret" not in str(raised.value)
