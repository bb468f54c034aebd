"""HDFS is reached directly, whatever the environment of a crawler names."""

import pytest

from trough.storage.hdfs.abortable_http import AbortableSession


def proxies_of(session):
    """The proxies that a request of a session uses."""
    return session.merge_environment_settings("http://nn:9870/", {}, None, None, None)["proxies"]


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_proxies_of_the_environment_are_not_used(monkeypatch, name):
    """They are the ones that a crawler crawls through."""
    monkeypatch.setenv(name, "http://crawlers:3128")
    assert not proxies_of(AbortableSession())


def test_the_proxy_of_the_settings_is_used():
    """HDFS_PROXY names it."""
    assert proxies_of(AbortableSession("http://p:3128"))["http"] == "http://p:3128"


def test_certificates_of_the_environment_are_used(monkeypatch):
    """They are trusted for TLS, as before."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/own.pem")
    assert AbortableSession().verify == "/etc/ssl/own.pem"
