"""The recipes of docs/howto.rst and docs/urls.rst work, asked as the programs there ask."""

from __future__ import annotations

import csv
import io
import json
import re
import textwrap
from urllib.parse import quote

import pytest
from places import ROOT
from processes import TroughProcess, http, ports_of_all, wait_until_known

DOCUMENT = (ROOT / "docs/howto.rst").read_text()
URLS = re.findall(r"^ +(http://127.0.0.1:\S+)$", DOCUMENT, re.MULTILINE)
EXAMPLES = [
    textwrap.dedent(block)
    for block in re.findall(
        r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", DOCUMENT, re.MULTILINE
    )
]

#: What programs send of their own accord.
GRAFANA = {"User-Agent": "Grafana/11.5.0", "Accept": "application/json;q=0.9,text/plain"}
SPREADSHEET = {"User-Agent": "Mozilla/5.0 (compatible; GoogleDocs; apps-spreadsheets)"}


@pytest.fixture(scope="module")
def ports(tmp_path_factory):
    """The ports of a node with the example segments."""
    home = tmp_path_factory.mktemp("recipes")
    ports = ports_of_all()
    process = TroughProcess("trough", ports, ("--home", str(home / "var"), "--example"))
    try:
        process.wait_ready()
        wait_until_known(f"sqlite://{home}/var/registry.db")
        yield ports
    finally:
        process.kill()


def here(text, ports):
    """A text for the ports of this node."""
    names = {"6111": "SYNC_SERVER_PORT", "6444": "READ_PORT", "6110": "SYNC_LINE_PORT"}
    for port, name in names.items():
        text = re.sub(rf"(127\.0\.0\.1|localhost):{port}\b", f"127.0.0.1:{ports[name]}", text)
    return text


@pytest.mark.parametrize("headers", [GRAFANA, SPREADSHEET, {}], ids=["grafana", "sheets", "plain"])
def test_each_url_gives_rows(ports, headers):
    """In the format that it names, whatever the program would accept."""
    assert len(URLS) >= 4
    for url in URLS:
        status, body = http("GET", quote(here(url, ports), safe=":/?&=%+,.()*^"), headers=headers)
        assert status == 200, (url, body)
        text = body.decode()
        if "format=csv" in url:
            rows = list(csv.reader(io.StringIO(text)))
            assert len(rows) > 1 and len({len(row) for row in rows}) == 1
        elif "format=jsonl" in url:
            assert all(set(json.loads(line)) == {"status_code", "n"} for line in text.splitlines())
        else:
            assert all(set(row) == {"status_code", "n"} for row in json.loads(text))


def test_the_examples_run(ports):
    """One after the other, as a reader types them."""
    assert len(EXAMPLES) >= 2
    names: dict[str, object] = {}
    for example in EXAMPLES:
        exec(compile(here(example, ports), "docs/howto.rst", "exec"), names)
