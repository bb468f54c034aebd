"""What HACKING.rst names is there."""

from __future__ import annotations

import re

import pytest
from places import ROOT

TEXT = (ROOT / "HACKING.rst").read_text()
PATHS = sorted(set(re.findall(r"``((?:trough|tests|docs|etc)/[\w./]+)``", TEXT)))
WORDS = " ".join(TEXT.split())

#: A path and the names that stand after it: ``trough/x.py``, ``Name.method``
NAMED = re.findall(r"``(trough/[\w/]+\.py)``, ``([\w.]+)``", WORDS)
#: The same in the other order: ``name`` in ``trough/x.py``
NAMED += [
    (path, name)
    for name, path in re.findall(r"``([\w.]+)`` (?:in|of) ``(trough/[\w/]+\.py)``", WORDS)
]


@pytest.mark.parametrize("path", PATHS)
def test_each_path_is_there(path):
    """A reader who follows a path finds the file."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_name_is_in_its_file(path, name):
    """A reader who looks for a class or a function finds its definition."""
    source = (ROOT / path).read_text()
    for part in name.split("."):
        defined = rf"(class|def) {part}\b|\b(self\.)?{part}(: [^=]*)? ="
        assert re.search(defined, source, re.MULTILINE), f"{path} does not define {part}"


def test_all_folders_are_explained():
    """No folder of the package is missing from the list."""
    folders = {each.name for each in (ROOT / "trough").iterdir() if (each / "__init__.py").exists()}
    assert {name for name in folders - {"util", "example"} if f"{name}/" not in TEXT} == set()
