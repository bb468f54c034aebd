"""What the console says of a problem is in the operator's guide."""

import json
import re

from places import ROOT

from trough.util.trouble_log import Section

GUIDE = ROOT / "trough/console/guide.js"


def entries():
    """By section: a sentence, and a command."""
    found = re.findall(r'^  ("[^"]+"): (\[.*\]),$', GUIDE.read_text(), re.MULTILINE)
    return {json.loads(title): json.loads(pair) for title, pair in found}


def sections():
    """The guide's text by title, without its marks."""
    text = (ROOT / "docs/operations.rst").read_text()
    text = text[text.index("What is aside\n") :]
    parts = re.split(r"^(\S.*)\n(?=    )", text, flags=re.MULTILINE)
    return {
        title: " ".join(re.sub(r"[`*]", "", body).split())
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_every_sentence_is_in_its_section():
    """Word by word."""
    guide = sections()
    wrong = [
        title
        for title, (sentence, _) in entries().items()
        if not any(found.startswith(title) and sentence in text for found, text in guide.items())
    ]
    assert wrong == []


def test_every_trouble_has_an_entry():
    """A status ends each with the title of a section."""
    assert sorted(each.value for each in Section if each.value not in entries()) == []
    used = set(
        re.findall(
            r'`, "([^"`]+)"\)|\.", "([^"`]+)"\)', (ROOT / "trough/console/cluster.js").read_text()
        )
    )
    named = {each for pair in used for each in pair if each}
    assert len(named) > 5
    assert sorted(named - set(entries())) == []


def test_the_commands_are_there():
    """Of the administration tool, at least."""
    commands = [command for _, command in entries().values() if command.startswith("trough-admin")]
    assert len(commands) > 3
    guide = (ROOT / "docs/operations.rst").read_text()
    assert [each for each in commands if f"``{each}``" not in guide] == []
