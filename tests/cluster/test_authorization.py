"""Each route and each verb with each right, against the table of ``docs/access.rst``."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from access_table import TABLE
from processes import QUICK, TroughProcess, http, ports_of_all
from waiting import GIVE_UP

from trough.access.rights import RIGHTS
from trough.access.token_file import AccessToken, write_tokens
from trough.access.tokens import id_of, key_of, new_token, stored_of

SEGMENT = b'{"segment": "s"}'
SELECT = "sql=SELECT%201"

#: What is sent to each route: a path and a body. What has no line here is sent as it is.
SENT: dict[str, tuple[str, bytes | None]] = {
    "POST /": ("", b"s"),
    "POST /provision": ("provision", SEGMENT),
    "POST /provision/undo": ("provision/undo", b'{"segment": "s", "provisioner": "nobody"}'),
    "POST /promote": ("promote", SEGMENT),
    "POST /revert": ("revert", b'{"segment": "s", "preview": true}'),
    "POST /aside/put-back": ("aside/put-back", b'{"name": "nothing"}'),
    "DELETE /segment/*": ("segment/nowhere", None),
    "PUT /schema/*": ("schema/x", b'{"id": "x", "sql": "CREATE TABLE t (a)"}'),
    "PUT /schema/*/sql": ("schema/x/sql", b"CREATE TABLE t (a)"),
    "POST /gather": ("gather", b'{"segments": ["s"], "sql": "SELECT 1", "seconds": 30}'),
    "GET /gather": (f"gather?segments=s&seconds=30&{SELECT}", None),
    "GET /": (f"?segment=s&{SELECT}", None),
}

ARGUMENTS = {
    "QUERY": "s SELECT 1",
    "WRITE": "s SELECT 1",
    "UNCHANGED": "0-1",
    "REPLICA-JOIN": "s version=1 disk=x epoch=1 end=0 digest=00",
    "REPLICA-APPEND": "s version=1 disk=x epoch=1 part",
    "REPLICA-BASE": "s version=1 disk=x epoch=1 part",
    "REPLICA-TAKE": "s version=1 disk=x epoch=1",
    "CANCEL": "x",
    "AUTH": "wrong",
    "PROVE": "chosen x y",
    "WHERE": "s",
    "GATHER": "s seconds=30 SELECT 1",
    "PROVISION": "s",
    "PROMOTE": "s",
    "REVERT": "s preview=yes",
    "DELETE": "nowhere",
    "SCHEMA": "default",
    "PUT-SCHEMA": "x CREATE TABLE t (a)",
}

REFUSALS = {"unauthorized", "forbidden"}


class Server:
    """All servers in one process, with one token for each right.

    :ivar tokens: by right; None: no token
    """

    def __init__(self, directory: Path) -> None:
        self.tokens: dict[str | None, str | None] = {right: new_token() for right in RIGHTS}
        entries = [
            AccessToken(f"only-{right}", id_of(token), stored_of(key_of(token)), RIGHTS[right])
            for right, token in self.tokens.items()
            if right is not None and token is not None
        ]
        write_tokens(directory / "tokens.json", entries)
        self.tokens[None] = None
        self.ports = ports_of_all()
        peer = self.tokens["peer"]
        assert peer is not None
        settings = {"TOKENS_FILE": str(directory / "tokens.json"), "PEER_TOKEN": peer}
        settings |= {**QUICK, **self.ports, "MINIMUM_ASSIGNMENTS": "1"}
        self.process = TroughProcess("trough", settings, ("--home", str(directory)))

    def code(self, right: str | None, port: str, route: str) -> str:
        """The code of the answer to an HTTP request with the token for a right."""
        method, _, path = route.partition(" /")
        path, body = SENT.get(route, (path.replace("*", "default"), None))
        if route == "POST /" and port in ("READ_PORT", "WRITE_PORT"):
            path, body = "?segment=s", b"SELECT 1"
        token = self.tokens[right]
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        status, answer = http(method, f"http://127.0.0.1:{self.ports[port]}/{path}", body, headers)
        assert status, answer
        return {401: "unauthorized", 403: "forbidden"}.get(status, "")

    def log_in(self, right: str, port: str) -> dict[str, str]:
        """A session at a port, as the header that a browser sends."""
        url = f"http://127.0.0.1:{self.ports[port]}/session"
        headers = {"Authorization": f"Bearer {self.tokens[right]}"}
        request = urllib.request.Request(url, None, headers, method="POST")
        with urllib.request.urlopen(request, timeout=GIVE_UP) as answer:
            cookie = answer.headers["set-cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        return {"Cookie": cookie.partition(";")[0]}

    def session_code(self, session: dict[str, str], port: str, route: str, own: bool) -> str:
        """As `code`, with a session.

        :param own: whether it shows that the console's page asks
        """
        base = f"http://127.0.0.1:{self.ports[port]}"
        method, _, path = route.partition(" /")
        path, body = SENT.get(route, (path.replace("*", "default"), None))
        headers = {**session, "Content-Type": "application/json"}
        if own:
            headers |= {"Origin": base, "Sec-Fetch-Site": "same-origin"}
        status, answer = http(method, f"{base}/{path}", body, headers)
        assert status, answer
        return str(json.loads(answer)["code"]) if status in (401, 403) else ""

    def codes(self, right: str | None, port: str, verbs: list[str]) -> dict[str, str]:
        """The same of verbs of the line protocol, over one connection."""
        found = {}
        with socket.create_connection(("127.0.0.1", int(self.ports[port])), GIVE_UP) as connection:
            lines = connection.makefile("rw", encoding="utf-8", newline="\n")
            lines.readline()
            if token := self.tokens[right]:
                assert _last(lines, f"AUTH {token}") == ["1", "OK"]
            for verb in verbs:
                answer = _last(lines, f"{verb} {ARGUMENTS.get(verb, '')}")
                found[verb] = answer[2] if answer[1] == "ERR" else ""
        return found


def _last(lines: Any, request: str) -> list[str]:
    lines.write(f"1 {request}\n")
    lines.flush()
    words = [""] * 2
    while words[1] not in ("OK", "END", "ERR"):
        words = lines.readline().split()
    return words


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server, with a segment that is written."""
    made = Server(tmp_path_factory.mktemp("authorization"))
    try:
        made.process.wait_ready()
        assert made.code("provision", "SYNC_SERVER_PORT", "POST /provision") == ""
        yield made
    finally:
        made.process.signal(signal.SIGKILL)
        made.process.wait()


def is_allowed(rights: list[str], right: str | None) -> bool:
    """Whether the table lets a token in."""
    return rights == ["none"] or (right is not None and (rights == ["any"] or right in rights))


@pytest.mark.parametrize("right", [*RIGHTS, None])
def test_each_right_opens_what_the_table_says(server, right):
    """A token with this right alone: everything else is refused, as what it is."""
    refused = "unauthorized" if right is None else "forbidden"
    for (port, what), rights in TABLE.items():
        if " " in what:
            said = server.code(right, port, what)
            assert said == ("" if is_allowed(rights, right) else refused), (port, what)
    for port in ("LINE_PORT", "SYNC_LINE_PORT"):
        verbs = [what for each, what in TABLE if each == port]
        # Wrong tokens end the connection, and are no sign of rights.
        checked = [verb for verb in verbs if verb not in ("AUTH", "PROVE")]
        for verb, said in server.codes(right, port, checked).items():
            allowed = is_allowed(TABLE[port, verb], right)
            assert (said not in REFUSALS) == allowed, (port, verb, said)
            assert allowed or said == refused, (port, verb, said)


@pytest.mark.parametrize("port", ["SYNC_SERVER_PORT", "SYNC_LOCAL_PORT"])
@pytest.mark.parametrize("right", RIGHTS)
def test_a_session_opens_what_its_token_does(server, right, port):
    """And without the proof that the console's page asks, nothing that may change something."""
    session = server.log_in(right, port)
    for (each, route), rights in TABLE.items():
        # This one ends the session, and this one wants the token itself.
        if each != port or route in ("DELETE /session", "POST /session"):
            continue
        expected = "" if is_allowed(rights, right) else "forbidden"
        assert server.session_code(session, port, route, own=True) == expected, route
        if not route.startswith("GET "):
            expected = "foreign-page"
        assert server.session_code(session, port, route, own=False) == expected, route
    assert server.session_code(session, port, "POST /session", own=True) == "unauthorized"
    assert server.session_code(session, port, "DELETE /session", own=False) == "foreign-page"
    assert server.session_code(session, port, "GET /schema", own=True) == ""
    assert server.session_code(session, port, "DELETE /session", own=True) == ""
    assert server.session_code(session, port, "GET /schema", own=True) == "unauthorized"


def test_whoever_comes_may_authenticate(server):
    """Two verbs work without a token, and a wrong one gives nothing."""
    for port in ("LINE_PORT", "SYNC_LINE_PORT"):
        assert set(server.codes(None, port, ["AUTH", "PROVE"]).values()) == {"unauthorized"}


def test_nothing_else_is_open(server):
    """Another method or path tells a stranger nothing, and gives a token no more."""
    for port in ("READ_PORT", "WRITE_PORT", "SYNC_SERVER_PORT", "SYNC_LOCAL_PORT"):
        for route in ("PATCH /", "DELETE /", "GET /nowhere", "GET /peer/ticket", "POST /status"):
            assert server.code(None, port, route) == "unauthorized", (port, route)
        url = f"http://127.0.0.1:{server.ports[port]}/peer/challenge"
        status, answer = http("GET", url)
        assert (status, list(json.loads(answer))) == (200, ["nonce"])
