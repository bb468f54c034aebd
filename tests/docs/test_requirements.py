"""The pinned packages are those that setup.cfg asks for."""

from __future__ import annotations

import configparser
import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")


def listed(section: str, key: str) -> list[Requirement]:
    lines = (line.strip() for line in SETUP[section][key].splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pinned(name: str) -> dict[str, str]:
    """Versions by package, of one file in requirements/."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    found = re.findall(r"^([\w.\[\]-]+)==([^\s;\\]+)", text, re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}


@pytest.mark.parametrize("name", ["run", "test", "docs"])
def test_each_requirement_is_pinned_within_its_bounds(name):
    """A new requirement, or a higher bound, needs make lock."""
    wanted = listed("options", "install_requires")
    if name != "run":
        wanted += listed("options.extras_require", name)
    versions = pinned(name)
    missing = [
        str(each)
        for each in wanted
        if not each.specifier.contains(versions.get(canonicalize_name(each.name), "0.dev0"), True)
    ]
    assert missing == [], "run make lock"


def test_one_package_has_one_version():
    """The environments are put on top of each other."""
    run = pinned("run")
    for name in ("test", "docs"):
        other = pinned(name)
        assert {key: other[key] for key in run.keys() & other.keys()} == run


def test_the_fuzzer_can_be_installed():
    """Versions of atheris from 3.1 on have no package for Python 3.11, and none of source."""
    text = (ROOT / "requirements" / "fuzz.txt").read_text()
    found = re.findall(r"^(atheris==[^\\\n]+)", text, re.MULTILINE)
    versions = [
        each.specifier
        for each in map(Requirement, found)
        if each.marker is None or each.marker.evaluate({"python_full_version": "3.11.7"})
    ]
    assert [each.contains("3.0.0") for each in versions] == [True]
