"""Which requests a web page sends, and which a program."""

import pytest

from trough import errors
from trough.protocols.http.browser_guard import BrowserGuard, may_be_browser, proves_origin

GUARD = BrowserGuard(["w1", "worker1.example.org", "2001:db8::1"])

FORM = "application/x-www-form-urlencoded"
CHROME = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64) Chrome/156", "accept-language": "en"}


def check(method, headers, segment_in_host=True):
    """Check one request, as a server does; a header is given as its value."""
    if not may_be_browser(name.title().encode() for name in headers):
        return
    GUARD.check(method, lambda name: [headers[name]] if name in headers else [], segment_in_host)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:6222", "content-type": FORM, "user-agent": "curl/8.5", "accept": "*/*"},
        {"host": "anything.at.all:6222", "content-type": "text/plain"},
        {"host": "300001.any.thing", "content-type": FORM, "user-agent": "curl/8.5"},
        {"host": "w", "content-type": "application/sql", "user-agent": "python-requests/2.31"},
        {"host": "w", "user-agent": "Java/11", "accept": "text/html, image/gif"},
        {},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_programs_are_let_in(method, headers):
    """curl with -d, Python and Java, under whatever name they know the server by."""
    check(method, headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "127.0.0.1:6222", "origin": "http://evil.example"},
        {"host": "127.0.0.1:6222", "origin": "null"},
        {"host": "127.0.0.1:6222", "origin": "http://127.0.0.1:8000"},
        {"host": "127.0.0.1:6222", "origin": "file://"},
        {"host": "127.0.0.1:6222", "origin": "chrome-extension://127.0.0.1:6222"},
        {"host": "127.0.0.1:6222", "sec-fetch-site": "cross-site"},
        {"host": "localhost:6222", "sec-fetch-site": "same-site"},
        {"host": "localhost:6222", "sec-fetch-site": "anything"},
        {"host": "127.0.0.1:6222", "content-type": "text/plain; charset=utf-8", **CHROME},
        {"host": "127.0.0.1:6222", "content-type": FORM.upper(), **CHROME},
        {"host": "127.0.0.1:6222", "content-type": "multipart/form-data; boundary=x", **CHROME},
        {"host": "127.0.0.1:6222", "content-type": "text/plain", "referer": "http://a/"},
        {"host": "127.0.0.1:6222", "referer": "https://evil.example/page?x=1#y"},
        {"host": "127.0.0.1:6222", "referer": "http://127.0.0.1:6222.evil.example/", **CHROME},
        {"host": "127.0.0.1:6222", "referer": "http://127.0.0.1:6222@evil.example/", **CHROME},
        {"host": "127.0.0.1:6222", "referer": "http://127.0.0.1:8000", "origin": ""},
        {"host": "127.0.0.1:6222", "referer": "no URL"},
        {"host": "127.0.0.1:6222", "access-control-request-method": "PUT", "origin": "http://a"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "post"])
def test_what_a_foreign_page_sends_is_refused(method, headers):
    """By any of the ways in which it shows."""
    with pytest.raises(errors.ForeignPage, match="web page"):
        check(method, headers)


@pytest.mark.parametrize(
    "host",
    [
        "rebind.example:6444",
        "rebind.example",
        "example-1.rebind.example:6444",
        "127.0.0.1.nip.io",
        "localhost.example",
        "w1.example",
        "worker1.example.org.evil.example",
        "a.b.worker1.example.org",
        "[::ffff:7f00:1].evil.example",
        "[::1]:6444.evil.example",
        "127.0.0.1:6444@evil.example",
        "localhost:evil.example",
        "",
    ],
)
@pytest.mark.parametrize(
    "browser",
    [
        CHROME,
        {"accept-language": "*", "user-agent": "curl/8.5"},
        {"user-agent": "Mozilla/5.0"},
        {"sec-fetch-site": "same-origin"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_a_rebound_name_is_refused(method, browser, host):
    """Even for what only reads, and though the page is of the same origin by its name."""
    with pytest.raises(errors.ForeignPage, match="no name of this server"):
        check(method, {"host": host, "origin": f"http://{host}", **browser})


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:6444", "127.0.0.1", "[::1]:6444", "[2001:DB8::1]", "10.1.2.3:1"),
        *("localhost", "LOCALHOST.:6444", "x.localhost", "w1", "Worker1.Example.org:6444"),
    ],
)
def test_a_person_can_look(host):
    """At a status, by typing the address in."""
    check("GET", {"host": host, "sec-fetch-site": "none", **CHROME}, False)


def test_a_segment_in_front_of_a_known_name():
    """Is one on the query ports, and nowhere else."""
    for name in ("w1", "worker1.example.org", "127.0.0.1"):
        headers = {"host": f"300001.{name}:6444", "content-type": "application/sql", **CHROME}
        check("POST", headers)
        with pytest.raises(errors.ForeignPage):
            check("POST", headers, False)


SHARING = BrowserGuard(["w1"], ["https://notebook.example.org"])
OTHER = {"host": "127.0.0.1", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}


def headers_of(headers):
    return lambda name: [headers[name]] if name in headers else []


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "w1"},
        {"host": "w1:6444", "origin": "http://w1:6444", **CHROME},
        {"host": "w1", "sec-fetch-site": "same-origin"},
        {"host": "w1", "sec-fetch-site": "none", "sec-fetch-mode": "navigate"},
        {**OTHER, "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {**OTHER, "origin": "https://notebook.example.org"},
    ],
)
def test_a_read_by_a_program_a_link_or_a_configured_page_is_served(headers):
    """Also by what is typed into the browser's own bar."""
    SHARING.check_read(headers_of(headers))


@pytest.mark.parametrize(
    "headers",
    [
        OTHER,
        {**OTHER, "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script"},
        {**OTHER, "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        {**OTHER, "origin": "https://evil.example"},
        {**OTHER, "origin": "http://notebook.example.org"},
        {**OTHER, "origin": "null"},
        {"host": "w1", "origin": "http://evil.example", **CHROME},
        {"host": "w1", "sec-fetch-site": "same-site"},
    ],
)
def test_a_read_for_a_page_of_another_origin_is_refused(headers):
    """Unless it is one of those that are configured, to the letter."""
    with pytest.raises(errors.ForeignPage, match="HTTP_ORIGINS"):
        SHARING.check_read(headers_of(headers))


def test_only_a_configured_page_may_ask_before_a_get():
    """And it may ask for nothing else but GET."""
    asks = {"host": "w1", "origin": "https://notebook.example.org"}
    get = {**asks, "access-control-request-method": "GET"}
    SHARING.check("OPTIONS", headers_of(get))
    for headers in (
        {**asks, "access-control-request-method": "POST"},
        {**get, "origin": "https://evil.example"},
    ):
        with pytest.raises(errors.ForeignPage):
            SHARING.check("OPTIONS", headers_of(headers))
    with pytest.raises(errors.ForeignPage):
        SHARING.check("POST", headers_of(asks))


OWN = {"host": "w1:6111", "origin": "http://w1:6111"}


@pytest.mark.parametrize(
    ("headers", "reads", "changes"),
    [
        ({"host": "w1:6111"}, True, False),
        (OWN, True, True),
        ({**OWN, "sec-fetch-site": "same-origin"}, True, True),
        ({"host": "w1:6111", "sec-fetch-site": "same-origin"}, True, True),
        ({"host": "w1:6111", "sec-fetch-site": "none"}, True, False),
        ({"host": "w1:6111", "sec-fetch-site": "same-site"}, False, False),
        ({"host": "w1:6111", "sec-fetch-site": "cross-site"}, False, False),
        ({**OWN, "sec-fetch-site": "same-site"}, False, False),
        ({"host": "w1:6111", "origin": "http://w1:6112"}, False, False),
        ({"host": "w1:6111", "origin": "null"}, False, False),
        ({"host": "w1:6111", "referer": "http://w1:6111/console/"}, True, False),
    ],
)
def test_a_session_counts_for_pages_of_this_server_alone(headers, reads, changes):
    """Another port of the host is another page, though the browser sends it the cookie."""

    def header(name):
        return [headers[name]] if name in headers else []

    for method in ("GET", "HEAD"):
        assert proves_origin(method, header) == reads
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert proves_origin(method, header) == changes
