"""Request lines as existing clients send them: ids stand in URLs as they are."""

import pytest
from twisted.internet.testing import Clock, StringTransport

from trough.protocols.http.request import write_response
from trough.protocols.http.request_line import escaped
from trough.protocols.http.resource import Resource
from trough.protocols.http.site import Site


class Telling(Resource):
    """Answers with the target and the parameter ``segment`` that it was asked for."""

    def handler(self, request):
        return self.tell

    def tell(self, request):
        segment = b"|".join(request.args.get(b"segment", []))
        write_response(request, 200, b"text/plain", b"<%s %s>" % (request.path, segment))


def answers(data, portion=10**6):
    """What is sent back for these bytes, however they arrive."""
    transport = StringTransport()
    channel = Site(Telling(), Clock(), 1000).buildProtocol(None)
    channel.makeConnection(transport)
    for start in range(0, len(data), portion):
        channel.dataReceived(data[start : start + portion])
    return transport.value()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/?segment=crawl 2026", "/ crawl 2026"),
        ("/?segment=crawl%202026", "/ crawl 2026"),
        ("/?segment=a  b c", "/ a  b c"),
        ("/?segment=a HTTP/1.0 b", "/ a HTTP/1.0 b"),
        ("/?segment=Zürich", "/ Zürich"),
        ("/?segment=東京 2026", "/ 東京 2026"),
        ("/segment/crawl 2026", "/segment/crawl%202026 "),
        ("/?segment=300001", "/ 300001"),
    ],
)
@pytest.mark.parametrize("portion", [1, 10**6])
def test_an_id_in_a_url_may_be_as_it_is(target, told, portion):
    """Also in several requests of one connection, and byte by byte."""
    request = f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi".encode()
    answer = answers(request * 2, portion)
    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert answer.count(f"<{told}>".encode()) == 2


@pytest.mark.parametrize(
    "line",
    [
        b"POST",
        b"POST /",
        b"POST / HTTP/2.0",
        b"POST /a b",
        b"POST /a b HTTP/1.1 ",
        b" POST / HTTP/1.1",
        b"POST /a\tb HTTP/1.1",
        b"POST /a\x00b c HTTP/1.1",
        b"POST  HTTP/1.1",
        b"P\xc3\x96ST / HTTP/1.1",
        b"\xff\xfe",
    ],
)
def test_what_is_no_request_line_is_refused(line):
    """With 400, as before, and nothing is served."""
    answer = answers(line + b"\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert b"200 OK" not in answer


def test_headers_and_bodies_stay_as_they_are():
    """Only the first line of a request is a request line."""
    body = b"POST /?segment=a b HTTP/1.1"
    request = b"POST / HTTP/1.1\r\nX: a b \xc3\xbc\r\nContent-Length: %d\r\n\r\n%s"
    answer = answers(request % (len(body), body) + b"\r\nGET /x y HTTP/1.1\r\n\r\n")
    assert answer.count(b"200 OK") == 2 and b"</x%20y >" in answer


def test_a_line_that_needs_no_change_is_returned_at_once():
    """The very same object: most are so."""
    line = b"POST /?segment=300001 HTTP/1.1"
    assert escaped(line) is line
