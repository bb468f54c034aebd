"""Which store a URL means, and which URLs mean none."""

import pytest

from trough import errors
from trough.metadata.url import RethinkAddress, SqliteAddress, parse


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///var/registry.db", "/var/registry.db"),
        ("sqlite:////var//registry.db", "//var/registry.db"),
        ("sqlite:///with%20blank/%3Fmark.db", "/with blank/?mark.db"),
        ("sqlite:///with blank/caf\u00e9.db", "/with blank/caf\u00e9.db"),
    ],
)
def test_a_file_is_named(url, path):
    """Three slashes and an absolute path, percent signs decoded."""
    address = parse(url)
    assert isinstance(address, SqliteAddress)
    assert str(address.path) == path.replace("//registry", "/registry")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("rethinkdb://h1/d", (("h1", 28015),)),
        (
            "rethinkdb://h1:1,h2,h3.example.org:65535/d",
            (("h1", 1), ("h2", 28015), ("h3.example.org", 65535)),
        ),
        ("rethinkdb://[::1]/d", (("::1", 28015),)),
        ("rethinkdb://127.0.0.1:2,[fe80::1]:3/d", (("127.0.0.1", 2), ("fe80::1", 3))),
        ("rethinkdb://h1, h2/d", (("h1", 28015), ("h2", 28015))),
    ],
)
def test_hosts_are_named(url, hosts):
    """Several hosts, ports where they are given, IPv6 addresses in brackets."""
    assert parse(url) == RethinkAddress(hosts, "d", "admin", "")


def test_user_and_password_of_the_url_come_first():
    """Those given apart are used where the URL names none."""
    with_both = parse("rethinkdb://me:p%40ss:w@h/d", "other", "secret")
    assert (with_both.user, with_both.password) == ("me", "p@ss:w")
    apart = parse("rethinkdb://h/d", "other", "secret")
    assert (apart.user, apart.password) == ("other", "secret")


def test_the_ca_of_the_url_comes_first():
    """With a CA, RethinkDB is spoken to over TLS."""
    assert parse("rethinkdb://h/d?tls_ca=/etc/my%20ca.pem", ca="/other").ca == "/etc/my ca.pem"
    assert parse("rethinkdb://h/d", ca="/other").ca == "/other"
    assert parse("rethinkdb://h/d").ca == ""


def test_a_password_is_not_shown():
    """Neither as text nor as representation."""
    address = parse("rethinkdb://me:hidden@h:1,[::1]/d")
    assert "hidden" not in repr(address)
    assert str(address) == "rethinkdb://h:1,[::1]:28015/d"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "not a metadata store's URL"),
        ("/var/registry.db", "not a metadata store's URL"),
        ("postgres://h/d", "'postgres'"),
        ("sqlite://registry.db", "not absolute"),
        ("sqlite:///", "cannot be a file's"),
        ("sqlite:///dir/", "cannot be a file's"),
        ("sqlite:///a%00b", "cannot be a file's"),
        ("sqlite:///a?mode=ro", "options"),
        ("rethinkdb://h", "name of a RethinkDB database"),
        ("rethinkdb://h/", "name of a RethinkDB database"),
        ("rethinkdb://h/a/b", "name of a RethinkDB database"),
        ("rethinkdb:///d", "not a host"),
        ("rethinkdb://h1,,h2/d", "not a host"),
        ("rethinkdb://h:0/d", "not a port"),
        ("rethinkdb://h:65536/d", "not a port"),
        ("rethinkdb://h:/d", "not a port"),
        ("rethinkdb://h:x/d", "not a port"),
        ("rethinkdb://::1/d", "needs brackets"),
        ("rethinkdb://[::1/d", "in brackets"),
        ("rethinkdb://[nonsense]/d", "in brackets"),
        ("rethinkdb://[::1]28015/d", "not a port"),
        ("rethinkdb://h/d?tls=1", "not an option"),
        ("rethinkdb://h/d?tls_ca=ca.pem", "not an option"),
        ("rethinkdb://h/d?tls_ca=/a&tls_ca=/b", "not an option"),
        ("rethinkdb://h/?tls_ca=/a", "name of a RethinkDB database"),
        ("rethinkdbs://h/d", "TLS"),
    ],
)
def test_a_url_that_means_nothing_is_refused(url, said):
    """The message says what is wrong."""
    with pytest.raises(errors.BadSettings, match=said):
        parse(url)


@pytest.mark.parametrize(
    "url", ["rethinkdb://me:hidden@/d", "rethinkdb://me:hidden@h:x/d", "rethinkdb://me:hidden@h"]
)
def test_a_refusal_does_not_repeat_the_password(url):
    """What is wrong is named without what is secret."""
    with pytest.raises(errors.BadSettings) as caught:
        parse(url)
    assert "hidden" not in str(caught.value)
