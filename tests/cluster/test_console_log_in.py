"""The web console where a token is wanted: log-in, rights, and the end of a session."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import Chromium
from processes import QUICK, TroughProcess, http, ports_of_all

from trough.access.rights import ADMIN, PROVISION, READ
from trough.access.token_file import AccessToken, write_tokens
from trough.access.tokens import id_of, key_of, new_token, stored_of


class Guarded:
    """A whole Trough with two tokens.

    :ivar tokens: by name
    """

    def __init__(self, directory: Path) -> None:
        self._file = directory / "tokens.json"
        self._rights = {"reader": READ, "boss": READ | ADMIN | PROVISION}
        self.tokens = {name: new_token() for name in self._rights}
        self.allow("reader", "boss")
        ports = ports_of_all()
        settings = {"TOKENS_FILE": str(self._file), "PEER_TOKEN": new_token()}
        settings |= {**QUICK, **ports, "MINIMUM_ASSIGNMENTS": "1"}
        self.process = TroughProcess("trough", settings, ("--home", str(directory)))
        self.url = f"http://127.0.0.1:{ports['SYNC_SERVER_PORT']}/"

    def allow(self, *names: str) -> None:
        """Have these tokens in the file alone."""
        entries = [
            AccessToken(name, id_of(token), stored_of(key_of(token)), self._rights[name])
            for name, token in self.tokens.items()
            if name in names
        ]
        write_tokens(self._file, entries)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with one segment."""
    made = Guarded(tmp_path_factory.mktemp("log-in"))
    try:
        made.process.wait_ready()
        headers = {"Authorization": f"Bearer {made.tokens['boss']}"}
        body = b'{"segment": "crawl-0"}'
        assert http("POST", f"{made.url}provision", body, headers)[0] == 200
        yield made
    finally:
        made.process.signal(signal.SIGKILL)
        made.process.wait()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Chromium]:
    """A browser without a session."""
    with Chromium(tmp_path) as browser:
        yield browser


def log_in(page: Chromium, token: str) -> None:
    """Type a token and press Enter, as a person does."""
    page.wait_for("document.activeElement.id == 'token'")
    page.type(token)
    page.press("Enter")


def test_a_person_logs_in_and_out(server: Guarded, page: Chromium) -> None:
    """The link that was asked for is shown afterwards; no script can read the cookie."""
    page.show(f"{server.url}console/#/query?which=crawl-0&sql=SELECT+41%2B1+AS+x&run=yes")
    log_in(page, "wrong")
    page.wait_for_text("This is not a token of this server.")
    page.value("document.getElementById('token').value = ''")
    log_in(page, server.tokens["reader"])
    page.wait_for_text("1 row in")
    page.wait_for_text("reader")
    assert page.value("document.cookie") == ""
    assert page.value("Object.keys(localStorage).join()") == "trough-history"
    link = page.value("document.querySelector('a[download]').href")
    asked = f"fetch({link!r}, {{headers: {{'X-Trough-Console': '1'}}}}).then(got => got.status)"
    assert page.value(asked) == 200
    page.click("Log out")
    page.wait_for("document.activeElement.id == 'token'")
    assert page.value(asked) == 401
    assert page.value("localStorage.length") == 0
    page.show(f"{server.url}console/#/segments")
    page.wait_for_text("Log in")


def test_rights_are_those_of_the_token(server: Guarded, page: Chromium) -> None:
    """What the token may not do has no button, or is refused with the reason."""
    page.show(f"{server.url}console/#/segments/crawl-0")
    log_in(page, server.tokens["boss"])
    page.click("Provision for writing")
    page.wait_for_text("provision: done")
    promote = "[...document.querySelectorAll('button')].find(b => b.innerText == 'Promote')"
    assert page.value(f"{promote}.disabled")
    assert page.value(f"{promote}.title") == "This token lacks the right promote."
    page.click("Log out")
    page.wait_for("document.activeElement.id == 'token'")  # the server has ended the session
    page.show(f"{server.url}console/#/cluster")
    log_in(page, server.tokens["reader"])
    page.wait_for_text("lacks the right admin")


def test_a_session_ends_with_its_token(server: Guarded, page: Chromium) -> None:
    """The page then asks for another one, and says no more."""
    page.show(f"{server.url}console/#/cluster")
    log_in(page, server.tokens["boss"])
    page.wait_for_text("No problems.")
    try:
        server.allow("reader")
        # The page asks every few seconds; the server reads the file every second.
        page.wait_for_text("Log in")
        assert not page.value("document.body.innerText.includes('Write locks')")
    finally:
        server.allow("reader", "boss")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everybody_can_log_in(server: Guarded, page: Chromium, scheme: str) -> None:
    """axe-core finds nothing serious on a desk and on a phone."""
    page.show(f"{server.url}console/")
    page.wait_for("document.activeElement.id == 'token'")
    for width in (360, 1280):
        page.look_like(scheme, width)
        assert page.value("document.documentElement.scrollWidth") <= width
        assert page.serious_faults() == []
