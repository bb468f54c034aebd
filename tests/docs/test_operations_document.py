"""The operator's guide names what there is: commands, settings, and what status says.

Whoever reads it at night copies from it.
"""

from __future__ import annotations

import re
import shlex

import pytest
from places import ROOT
from processes import Machine

from trough import admin
from trough.settings import KEYS
from trough.settings.keys import REPLACED

GUIDE = (ROOT / "docs" / "operations.rst").read_text()

#: Words in capitals that are no settings: a line of the protocol.
OTHERS = {"STATE"}

#: Commands that are about one worker or segment.
OF_SOMETHING = {"drain", "undrain", "free-lock", "free-locks", "forget", "resume"}


def commands() -> list[str]:
    """Each ``trough-admin`` of the guide with its arguments, inside text and in examples."""
    inside = re.findall(r"``trough-admin ([^`]+)``", GUIDE)
    examples = re.findall(r"^ +(?:\$ )?trough-admin (.+)$", GUIDE, re.MULTILINE)
    return sorted({" ".join(each.split()) for each in [*inside, *examples]})


@pytest.mark.parametrize("command", commands())
def test_each_command_is_understood(command):
    """With the options that the guide gives it; where it merely names one, without a name."""
    words = shlex.split(command)
    if len(words) == 1 and words[0] in OF_SOMETHING:
        words.append("NAME")
    options = admin.command_line().parse_args(words)
    assert callable(options.command)


def test_the_guide_has_all_commands():
    """None is left out."""
    named = {command.split()[0] for command in commands()}
    [choices] = [a.choices for a in admin.command_line()._actions if isinstance(a.choices, dict)]
    assert named == set(choices)


def test_each_setting_is_one():
    """Of this system, or of the original one and told to be replaced."""
    named = set(re.findall(r"``([A-Z][A-Z_]{3,})\b", GUIDE))
    assert len(named) > 30
    assert named - set(KEYS) - set(REPLACED) == OTHERS


def test_what_status_says_is_what_the_guide_watches(tmp_path):
    """Every key that is worth an alarm is in the status of the process that it is said of."""
    [text] = re.findall(r"Worth a curve and an alarm, from ``/status``:(.*?)\n\n", GUIDE, re.DOTALL)
    of_all, rest = text.split("of workers,")
    of_workers, of_leader = rest.split("of the\n  leader,")
    with Machine(tmp_path, MINIMUM_ASSIGNMENTS="1") as machine:
        machine.sync("s1").wait_ready()
        machine.worker("w1").wait_ready()
        sync, worker = machine.status("s1"), machine.status("w1")
    for told, said in ((of_all, sync), (of_all, worker), (of_workers, worker)):
        assert missing(told, said) == []
    leadership = {**sync["leadership"], "leadership": sync["leadership"]}
    assert missing(of_leader, leadership) == []


def missing(text: str, status: dict) -> list[str]:
    """Which of the keys in a text, dotted where they are inside others, a status lacks."""
    keys = re.findall(r"``([a-z_.]+)``", text)
    assert keys
    return [key for key in keys if not has(status, key.split("."))]


def has(status: dict, path: list[str]) -> bool:
    """Whether there is such a key; one whose value is nothing yet counts."""
    return path[0] in status and (len(path) == 1 or has(status[path[0]], path[1:]))
