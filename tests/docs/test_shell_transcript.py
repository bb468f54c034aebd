"""The sessions in README.rst and docs/shell.rst, typed again on a real Trough."""

from __future__ import annotations

import dataclasses
import re

import pytest
import pytest_twisted
from places import ROOT
from processes import QUICK, TroughProcess, ports_of_all
from shell_desk import Desk

from trough.shell.commands import all_commands
from trough.shell.main import parser
from trough.shell.output.formats import FORMATS
from trough.shell.settings import ShellSettings

DOCUMENTS = ("README.rst", "docs/shell.rst")

_PROMPT = re.compile(r"(trough(?::\S+\(r[ow]\)|:\[[\d,]+ segments\]\(r[ow]\))?> )(.*)")
_CONTINUED = re.compile(r" *\.\.\.> (.*)")
_SECONDS = re.compile(r"\(\d+(\.\d+)? m?s\)")
#: The progress of what takes longer than half a second, which is not on the screen any more.
_PROGRESS = re.compile(r"(?m)^.*\r\x1b\[K")


def transcripts(document):
    """The sessions in a document: each a list of prompt, what is typed, what is shown."""
    blocks = re.findall(r"(?m)^((?: {4}.*\n|\n)+)", (ROOT / document).read_text())
    for block in blocks:
        lines = [line[4:] for line in block.strip("\n").split("\n")]
        if _PROMPT.match(lines[0]):
            yield list(_exchanges(lines))


def _exchanges(lines):
    exchange = None
    for line in lines:
        if prompt := _PROMPT.match(line):
            if exchange:
                yield exchange
            exchange = [prompt[1], prompt[2], []]
        elif (more := _CONTINUED.match(line)) and not exchange[2]:
            exchange[1] += f"\n{more[1]}"
        else:
            exchange[2].append(line)
    yield exchange


def comparable(text):
    """What is shown, without the time it took, and with segments in no order."""
    lines = [line.rstrip() for line in _PROGRESS.sub("", text).rstrip("\n").split("\n")]
    return sorted(_SECONDS.sub("(1 ms)", "\n".join(lines)).split("\n\n"))


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A Trough as `make run` starts it the first time; its directory."""
    home = tmp_path_factory.mktemp("home")
    process = TroughProcess(
        "trough",
        {**QUICK, **ports_of_all(), "HOSTNAME": "w01"},
        ("--home", str(home), "--example"),
    )
    try:
        process.wait_for("Three crawl jobs")
        yield home
    finally:
        process.stop()


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest_twisted.ensureDeferred
async def test_the_sessions_are_true(document, example, monkeypatch, tmp_path):
    """Typing what a document types shows what it shows."""
    monkeypatch.setenv("TROUGH_SHELL_SETTINGS", str(tmp_path / "shell.yml"))
    monkeypatch.chdir(tmp_path)
    sessions = list(transcripts(document))
    assert sessions, f"no session in {document}"
    for session in sessions:
        desk = Desk(example, person="", format="TABLE", writable="(rw)" in session[-1][0])
        desk.shell.session.timing = True
        desk.shell.messages = desk.screen  # on a terminal both are one
        await desk.cluster.open()
        for prompt, typed, shown in session:
            assert desk.shell.session.prompt == prompt
            assert comparable(await desk.typed(typed)) == comparable("\n".join(shown)), typed
        await desk.cluster.close()


def test_the_document_is_complete():
    """Every command, format, option and settings key is in docs/shell.rst."""
    text = (ROOT / "docs/shell.rst").read_text()
    options = [o for a in parser()._actions for o in a.option_strings if a.dest != "help"]
    keys = [field.name for field in dataclasses.fields(ShellSettings)]
    names = [entry.name for entry in all_commands() if entry.name not in ("SHOW", "SHRED")]
    for word in (*options, *keys, *FORMATS):
        assert f"``{word}``" in text, word
    for name in names:
        assert re.search(rf"``{re.escape(name)}(``| )", text), name
