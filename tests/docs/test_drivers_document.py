"""The examples of docs/drivers.rst run, against a whole Trough."""

from __future__ import annotations

import re
import textwrap

import pytest
from places import ROOT
from processes import TroughProcess, ports_of_all, wait_until_known

DOCUMENT = (ROOT / "docs/drivers.rst").read_text()

EXAMPLES = [
    textwrap.dedent(block)
    for block in re.findall(
        r"^\.\. code-block:: python\n\n((?:    .*\n|\n)+)", DOCUMENT, re.MULTILINE
    )
]


@pytest.fixture
def settings(tmp_path):
    """The ports of a node with the example segments."""
    settings = ports_of_all()
    process = TroughProcess("trough", settings, ("--home", str(tmp_path / "var"), "--example"))
    try:
        process.wait_ready()
        wait_until_known(f"sqlite://{tmp_path}/var/registry.db")
        yield settings
    finally:
        process.kill()


def test_the_examples_run(settings):
    """One after the other, as a reader types them."""
    assert len(EXAMPLES) >= 4
    names: dict[str, object] = {}
    for example in EXAMPLES:
        text = example.replace("localhost:6110", f"127.0.0.1:{settings['SYNC_LINE_PORT']}")
        exec(compile(text, "docs/drivers.rst", "exec"), names)
    names["connection"].close()
