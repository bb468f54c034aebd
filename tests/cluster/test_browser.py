"""A real browser that shows a stranger's page, and a Trough on the same machine."""

import contextlib
import http.server
import json
import shutil
import subprocess
import threading
import urllib.request

import pytest
from chromium import BROWSERS
from processes import TroughProcess, ports_of_all, read
from processes import http as ask
from waiting import GIVE_UP

#: Tries all that a page can send without being asked first, and tells the test the outcome.
PAGE = """<!doctype html><meta name=referrer content=no-referrer><body><script>
const urls = %s;
async function outcome(asked) {
  try { const got = await asked; return got.type + " " + got.status + " " + await got.text() }
  catch (error) { return "failed" }
}
function form(url, type) {
  return new Promise(done => {
    const frame = document.createElement("iframe"), form = document.createElement("form")
    frame.name = "f" + Math.random()
    document.body.append(frame, form)
    form.method = "POST"; form.enctype = type; form.action = url; form.target = frame.name
    const field = document.createElement("input")
    field.name = "CREATE TABLE byform(x); --"
    form.append(field)
    frame.onload = () => done("sent")
    form.submit()
    setTimeout(() => done("silent"), 5000)
  })
}
async function all() {
  const found = {}
  for (const [name, [method, url, body]] of Object.entries(urls)) {
    const plain = {method, body, headers: {"Content-Type": "text/plain"}}
    found[name] = [
      await outcome(fetch(url, {method, body})),
      await outcome(fetch(url, plain)),
      method === "POST" ? await outcome(fetch(url, {...plain, mode: "no-cors"})) : "",
      method === "POST" ? await form(url, "text/plain") : "",
      method === "POST" ? await form(url, "application/x-www-form-urlencoded") : "",
    ]
  }
  await fetch("/outcome", {method: "POST", body: JSON.stringify(found)})
}
all()
</script>"""


class Stranger:
    """A web server of somebody else: serves the page, hears its outcome, and passes on all
    else to a port of this machine, as a name does that was made to lead there."""

    def __init__(self, urls, rebound_to):
        stranger = self
        self.outcome = None
        self.told = threading.Event()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if self.path == "/page":
                    self._answer(200, "text/html", (PAGE % json.dumps(urls)).encode())
                else:
                    self._pass_on()

            def do_POST(self):
                if self.path == "/outcome":
                    stranger.outcome = json.loads(self._body())
                    stranger.told.set()
                    self._answer(200, "text/plain", b"")
                else:
                    self._pass_on()

            def _body(self):
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))

            def _pass_on(self):
                headers = dict(self.headers.items())
                answer = ask(self.command, rebound_to + self.path, self._body() or None, headers)
                self._answer(answer[0], "application/json", answer[1])

            def _answer(self, status, kind, body):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Nobody wants to read it."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@contextlib.contextmanager
def shown(profile, url):
    """A browser that shows a page; every name leads to this machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser here: install one of {', '.join(BROWSERS)}")
    browser = subprocess.Popen(
        [
            *(found, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-dev-shm-usage", "--disable-background-networking", "--no-proxy-server"),
            f"--user-data-dir={profile}",
            "--host-resolver-rules=MAP * 127.0.0.1",
            url,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        browser.terminate()
        browser.wait(GIVE_UP)


@pytest.fixture(scope="module")
def trough(tmp_path_factory):
    """A whole Trough with one segment that can be written."""
    process = TroughProcess(
        "trough",
        {**ports_of_all(), "EXECUTORS": "1"},
        ("--home", str(tmp_path_factory.mktemp("home"))),
    ).wait_ready()
    assert (
        ask("POST", base(process, "SYNC_SERVER_PORT") + "/provision", b'{"segment": "s"}')[0] == 200
    )
    yield process
    process.stop()


def base(process, key):
    return f"http://127.0.0.1:{process.settings[key]}"


def tables(process):
    url = f"{base(process, 'READ_PORT')}/?segment=s"
    return [row["name"] for row in read(url, "SELECT name FROM sqlite_schema")]


def test_a_page_of_another_origin_changes_nothing(trough, tmp_path):
    """Neither by a form nor by a script, on any port."""
    write, sync = base(trough, "WRITE_PORT"), base(trough, "SYNC_SERVER_PORT")
    line = base(trough, "LINE_PORT")
    urls = {
        "write": ["POST", f"{write}/?segment=s", "CREATE TABLE byscript(x)"],
        "provision": ["POST", f"{sync}/provision", '{"segment": "bypage"}'],
        "old provision": ["POST", f"{sync}/", "bypage"],
        "schema": ["PUT", f"{sync}/schema/bypage/sql", "CREATE TABLE bypage(x)"],
        "line": ["POST", f"{line}/", "1 PROVISION bypage\n"],
    }
    stranger = Stranger(urls, base(trough, "READ_PORT"))
    with shown(tmp_path / "profile", f"http://localhost:{stranger.port}/page"):
        assert stranger.told.wait(GIVE_UP)
    # Nothing that the page could read.
    assert {each[0] for each in stranger.outcome.values()} == {"failed"}
    assert tables(trough) == []
    with urllib.request.urlopen(f"{sync}/schema", timeout=GIVE_UP) as answer:
        assert json.load(answer) == ["default"]
    assert ask("POST", f"{base(trough, 'READ_PORT')}/?segment=bypage", b"SELECT 1")[0] == 404


def test_a_rebound_name_reads_nothing(trough, tmp_path):
    """A page whose own name has come to lead here is of the same origin to the browser."""
    reads = {
        "read": ["POST", "/?segment=s", "SELECT 'secret'"],
        "write": ["POST", "/?segment=s", "CREATE TABLE rebound(x)"],
        "status": ["GET", "/status", None],
    }
    for key, wanted in (("READ_PORT", 403), ("WRITE_PORT", 403), ("SYNC_SERVER_PORT", 403)):
        stranger = Stranger(reads, base(trough, key))
        page = f"http://s.rebind.example:{stranger.port}/page"
        with shown(tmp_path / key, page):
            assert stranger.told.wait(GIVE_UP)
        for outcomes in stranger.outcome.values():
            assert f"basic {wanted} " in outcomes[0]
            assert "secret" not in outcomes[0]
    assert tables(trough) == []
